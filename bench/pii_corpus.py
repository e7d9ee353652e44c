"""The rows of `pii.py`: sentences with values that must go and values that only look like them, from a seeded generator.

Values are random, with valid check digits where the real ones have them, and belong to nobody.
"""

import base64
import hashlib
import json
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Make = Callable[[random.Random], str]


@dataclass(frozen=True)
class Gold:
    """A value in a text that must go."""

    kind: str
    start: int
    end: int


def corpus(count: int, seed: int) -> tuple[list[tuple[str, list[Gold]]], int]:
    """`count` rows with the places of their values, and how many look-alikes they hold."""
    rng = random.Random(seed)
    kinds = sorted(POSITIVE)
    rows, negatives = [], 0
    for number in range(count):
        parts: list[tuple[str, str, str]] = []
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            kind = kinds[(number + rng.randrange(len(kinds))) % len(kinds)]
            makes, templates = POSITIVE[kind]
            parts.append((kind, rng.choice(templates), rng.choice(makes)(rng)))
        looks = max(1, len(parts)) + (rng.random() < 0.3)
        negatives += looks
        for _ in range(looks):
            template, make = rng.choice(NEGATIVE)
            parts.append(("", template, make(rng)))
        parts += [("", rng.choice(FILLER), "") for _ in range(rng.randrange(3))]
        rng.shuffle(parts)
        rows.append(_joined(rng, parts))
    return rows, negatives


def _joined(rng: random.Random, parts: Sequence[tuple[str, str, str]]) -> tuple[str, list[Gold]]:
    text, golds = "", []
    for kind, template, value in parts:
        if text:
            text += rng.choice((" ", " ", "\n", "\n\n"))
        before, slot, after = template.partition("{}")
        text += before
        if slot:
            start = len(text)
            text += value
            if kind:
                golds.append(Gold(kind, start, len(text)))
        text += after
    return text, golds


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices(string.digits, k=count))


def _of(alphabet: str, low: int, high: int) -> Make:
    return lambda rng: "".join(rng.choices(alphabet, k=rng.randint(low, high)))


def _slack(rng: random.Random) -> str:
    end = _of(string.ascii_letters + string.digits, 24, 24)(rng)
    if rng.random() < 0.5:
        return f"xoxb-{_digits(rng, 12)}-{_digits(rng, 13)}-{end}"
    return f"https://hooks.slack.com/services/T{_fill('@@@#####')(rng)}/B{_fill('@@######')(rng)}/{end}"


def _fill(*patterns: str) -> Make:
    """# a digit, @ a capital, ~ a digit from 2 to 9; anything else stands for itself."""
    table: dict[str, str] = {"#": string.digits, "@": string.ascii_uppercase, "~": "23456789"}

    def make(rng: random.Random) -> str:
        return "".join(rng.choice(table[character]) if character in table else character for character in rng.choice(patterns))

    return make


def _luhn(digits: str) -> str:
    """The digits with a check digit."""
    doubled = [sum(divmod(int(digit) * 2, 10)) for digit in digits[::-2]]
    return digits + str(-(sum(doubled) + sum(map(int, digits[-2::-2]))) % 10)


def _card(rng: random.Random) -> str:
    prefix, length = rng.choice(
        (
            ("4", 16),
            ("51", 16),
            ("55", 16),
            ("2223", 16),
            ("34", 15),
            ("37", 15),
            ("6011", 16),
            ("65", 16),
            ("3530", 16),
            ("36", 14),
        )
    )
    number = _luhn(prefix + _digits(rng, length - len(prefix) - 1))
    sizes = {16: (4, 4, 4, 4), 15: (4, 6, 5), 14: (4, 6, 4)}[length]
    mark = rng.choice(("", " ", "-"))
    return _grouped(number, sizes, mark)


def _grouped(text: str, sizes: Sequence[int], mark: str) -> str:
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    return mark.join([*parts, text[at:]] if text[at:] else parts)


def _wrong_card(rng: random.Random) -> str:
    number = _luhn("4" + _digits(rng, 14))
    wrong = number[:-1] + str((int(number[-1]) + rng.randint(1, 9)) % 10)
    return _grouped(wrong, (4, 4, 4, 4), rng.choice(("", " ", "-")))


def _iban(rng: random.Random) -> str:
    country, pattern = rng.choice(
        (
            ("DE", "#" * 18),
            ("GB", "@@@@" + "#" * 14),
            ("FR", "#" * 23),
            ("ES", "#" * 20),
            ("NL", "@@@@" + "#" * 10),
            ("IT", "@" + "#" * 22),
            ("CH", "#" * 17),
            ("AT", "#" * 16),
            ("PL", "#" * 24),
            ("BE", "#" * 12),
        )
    )
    account = _fill(pattern)(rng)
    moved = "".join(str(int(character, 36)) for character in account + country + "00")
    whole = f"{country}{98 - int(moved) % 97:02d}{account}"
    return whole if rng.random() < 0.5 else _grouped(whole, (4,) * (len(whole) // 4), " ")


def _email(rng: random.Random) -> str:
    first, last = rng.choice(FIRST), rng.choice(LAST)
    local = rng.choice(
        (
            f"{first}.{last}",
            f"{first[0]}{last}",
            f"{first}{rng.randint(1, 99)}",
            f"{first}_{last}",
            f"{first}+news",
            last,
            f"{first}-{last}.{rng.randint(1960, 2005)}",
        )
    )
    domain = rng.choice(
        (
            "gmail.com",
            "outlook.com",
            "web.de",
            "yahoo.co.uk",
            "example.org",
            "mail.acme-corp.com",
            "uni-bonn.de",
            "proton.me",
            "icloud.com",
            "orange.fr",
            "firma.at",
            "nhs.net",
        )
    )
    whole = f"{local}@{domain}"
    return whole.upper() if rng.random() < 0.05 else whole.title() if rng.random() < 0.05 else whole


def _phone(rng: random.Random) -> str:
    area = rng.choice(("212", "415", "312", "617", "202", "713", "206", "305", "404", "503"))
    return _fill(
        f"({area}) ~##-####",
        f"{area}-~##-####",
        f"{area}.~##.####",
        f"+1 {area} ~## ####",
        f"+1-{area}-~##-####",
        f"1-{area}-~##-####",
        f"+1{area}~######",
        f"({area})~##-####",
        "+44 79## ######",
        "+44 20 7### ####",
        "07911 ######",
        "020 7946 ####",
        "+4420794#####",
        "0161 496 ####",
        "(0117) 496 ####",
        "+49 30 90182###",
        "+49 (0)30 901820##",
        "0171 2345###",
        "+49 151 2345####",
        "030/901820##",
        "+33 6 12 34 ## ##",
        "06 12 34 ## ##",
        "01.42.68.##.##",
        "+91 98765 #####",
        "+61 412 345 ###",
        "0412 345 ###",
        "+34 612 345 ###",
        "+39 06 698 #####",
        "+41 44 668 18 ##",
        "+31 20 794 ####",
        "+353 1 679 ####",
        "+81 3-3224-####",
        "0044 20 7946 ####",
    )(rng)


def _plain_phone(rng: random.Random) -> str:
    return _fill("415~######", "212~######", "07911######", "02079460###", "0171234####", "98765#####")(rng)


def _ssn(mark: str) -> Make:
    return lambda rng: (
        f"{rng.choice((*range(1, 666), *range(667, 900))):03d}{mark}{rng.randint(1, 99):02d}{mark}{rng.randint(1, 9999):04d}"
    )


def _ip4(rng: random.Random) -> str:
    first = rng.choice((10, 172, 192, 8, 34, 52, 81, 91, 103, 142, 185, 203))
    rest = [rng.randint(0, 255), rng.randint(0, 255), rng.randint(1, 254)]
    return ".".join(map(str, [first, *(rest if first not in (172, 192) else [16 if first == 172 else 168, *rest[1:]])]))


def _ip6(rng: random.Random) -> str:
    groups = [f"{rng.randrange(65536):x}" for _ in range(6)]
    return rng.choice(
        (
            f"2001:db8:{':'.join(groups)}",
            f"2a02:{groups[0]}::{groups[1]}",
            f"fe80::{':'.join(groups[:4])}",
            f"2001:db8:{groups[0]}::{groups[1]}:{groups[2]}",
            f"fd12:{groups[0]}:{groups[1]}::1",
        )
    )


def _mac(rng: random.Random) -> str:
    raw = f"{rng.randrange(2**48):012x}"
    found = rng.choice((_grouped(raw, (2,) * 6, ":"), _grouped(raw, (2,) * 6, "-"), _grouped(raw, (4,) * 3, ".")))
    return found.upper() if rng.random() < 0.5 else found


_B58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_B32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def _bitcoin(rng: random.Random) -> str:
    raw = bytes([rng.choice((0, 5))]) + rng.randbytes(20)
    raw += hashlib.sha256(hashlib.sha256(raw).digest()).digest()[:4]
    number, found = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        found = _B58[digit] + found
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + found


def _bech32(rng: random.Random) -> str:
    """A segregated-witness address (BIP 173)."""
    values = [0, *(rng.randrange(32) for _ in range(32))]
    check = 1
    for value in [3, 3, 0, 2, 3, *values, 0, 0, 0, 0, 0, 0]:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, part in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= part if top >> bit & 1 else 0
    check ^= 1
    return "bc1" + "".join(_B32[value] for value in [*values, *(check >> 5 * (5 - place) & 31 for place in range(6))])


def _nhs(rng: random.Random) -> str:
    while True:
        digits = "4" + _digits(rng, 8)
        check = 11 - sum(int(digit) * (10 - place) for place, digit in enumerate(digits)) % 11
        if check != 10:
            return _grouped(digits + str(check % 11), (3, 3, 4), rng.choice((" ", " ", "", "-")))


def _routing(rng: random.Random) -> str:
    digits = rng.choice(("02", "03", "06", "11", "12")) + _digits(rng, 6)
    total = sum(int(digit) * weight for digit, weight in zip(digits, (3, 7, 1) * 3, strict=False))
    return digits + str(-total % 10)


def _birth(rng: random.Random) -> str:
    year, month, day = rng.randint(1940, 2008), rng.randint(1, 12), rng.randint(1, 28)
    name = (
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    )[month - 1]
    return rng.choice(
        (
            f"{day:02d}/{month:02d}/{year}",
            f"{month}/{day}/{year % 100:02d}",
            f"{year}-{month:02d}-{day:02d}",
            f"{day} {name} {year}",
            f"{name} {day}, {year}",
            f"{day}.{month}.{year}",
            f"{day} {name[:3]} {year}",
        )
    )


def _b64(rng: random.Random, count: int) -> str:
    return base64.b64encode(rng.randbytes(count)).decode()


def _jwt(rng: random.Random) -> str:
    parts = (
        {"alg": "HS256", "typ": "JWT"},
        {"sub": _digits(rng, 8), "name": rng.choice(FIRST), "iat": rng.randint(1_600_000_000, 1_800_000_000)},
    )
    head = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{head}.{base64.urlsafe_b64encode(rng.randbytes(32)).decode().rstrip('=')}"


def _key_block(rng: random.Random) -> str:
    kind = rng.choice(("RSA ", "", "EC ", "OPENSSH "))
    body = "\n".join(_b64(rng, 48) for _ in range(rng.randint(3, 12)))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----"


def _password(rng: random.Random) -> str:
    word = rng.choice(("Sommer", "tiger", "Liverpool", "monkey", "Berlin", "qwerty", "dragon", "Shadow"))
    return rng.choice(
        (
            f"{word}{rng.randint(10, 2030)}!",
            f"{word}#{rng.randint(1, 999)}",
            "".join(rng.choices(string.ascii_letters + string.digits + "!%+-_#*", k=rng.randint(10, 18)))
            + rng.choice("0123456789"),
            f"{word[:3]}$9x{rng.randint(10, 99)}Z",
        )
    )


def prose(rng: random.Random, numbers: bool) -> str:
    """About 1 KB of sentences without a value; with `numbers`, years and amounts among them."""
    words: list[str] = []
    while sum(map(len, words)) + len(words) < 1000:
        sentence = rng.choice(FILLER)
        if numbers and rng.random() < 0.4:
            sentence = rng.choice(
                (
                    f"That was in {rng.randint(1900, 2026)}.",
                    f"It cost ${rng.randint(5, 900)}.{rng.randint(10, 99)} in all.",
                    f"About {rng.randint(2, 99)} of them came at {rng.randint(1, 12)}:30.",
                )
            )
        words.append(sentence)
    return " ".join(words)


FIRST = (
    "maria",
    "john",
    "aisha",
    "wei",
    "lukas",
    "sofia",
    "peter",
    "olga",
    "ravi",
    "emma",
    "noah",
    "fatima",
    "jose",
    "ingrid",
    "tom",
)
LAST = (
    "smith",
    "mueller",
    "garcia",
    "chen",
    "patel",
    "kowalski",
    "rossi",
    "dupont",
    "okafor",
    "jensen",
    "brown",
    "novak",
    "tanaka",
)
FILLER = (
    "Thanks a lot for getting back to me so quickly.",
    "The weather has been terrible all week and the garden is under water.",
    "I have tried that already and it did not help.",
    "Could you please look into this when you have a moment?",
    "We are very happy with the service so far.",
    "The meeting went on for longer than anyone had planned.",
    "My sister recommended your shop, and I must say she was right.",
    "Nothing in the manual explains what the red light means.",
    "He opened the window and listened to the traffic below.",
    "Please note that the office is closed on public holidays.",
    "In the end we decided to take the train instead of the car.",
    "It works on my machine, but the customer still sees the old page.",
    "The report describes how small firms adapt to new rules.",
    "I would rather wait for the next release than patch it by hand.",
    "Let me know what you think about the second draft.",
)

POSITIVE: dict[str, tuple[Sequence[Make], Sequence[str]]] = {
    "EMAIL_ADDRESS": (
        (_email,),
        (
            "You can write to {} at any time.",
            "My address is {}, please use that one.",
            "From: {}",
            "cc {} and the rest of the team",
            "I never got the mail you sent to <{}>.",
            "contact={};",
            "Email: {}.",
            "user {} failed to log in",
            '{"email": "{}"}',
        ),
    ),
    "PHONE_NUMBER": (
        (_phone,),
        (
            "Call me on {} after five.",
            "My number is {}.",
            "Tel: {}",
            "You can reach the office at {} on weekdays.",
            "Phone {} or come by.",
            "She left a voicemail from {} yesterday.",
            "Ring us: {}!",
            "Mobile {}, ask for Tom",
            "Kind regards,\nMaria\n{}",
        ),
    ),
    "PHONE_NUMBER, bare": (
        (_plain_phone,),
        ("Please call {} as soon as you can.", "my phone number is {}", "Text YES to {} to go on.", "WhatsApp: {}", "mobile {}"),
    ),
    "CREDIT_CARD": (
        (_card,),
        (
            "My card number is {} and it was declined.",
            "Please charge {} instead.",
            "visa {} exp 09/27",
            "I paid with {} last Tuesday.",
            "Card: {}, CVV on the back",
            "The number on the front says {}.",
            "payment_method={}",
        ),
    ),
    "IBAN_CODE": (
        (_iban,),
        (
            "Please transfer the refund to {}.",
            "IBAN: {}",
            "Our account is {} at the savings bank.",
            "The money should go to {}, not to the old one.",
            "iban={}",
        ),
    ),
    "US_SSN": (
        (_ssn("-"),),
        (
            "My SSN is {}.",
            "social security number: {}",
            "They asked for my social ({}) on the phone.",
            "SSN {} belongs to the applicant.",
            "ssn={}",
            "The form shows {} in box a.",
        ),
    ),
    "US_SSN, no dashes": ((_ssn(""), _ssn(" ")), ("My SSN is {}.", "Social Security Number {}", "ssn: {}")),
    "IP_ADDRESS": (
        (_ip4, _ip4, _ip6),
        (
            "The request came from {} last night.",
            "ping {} gives no answer",
            "Failed password for root from {} port 22",
            "server address: {}",
            "I blocked {} in the firewall.",
            "host={}",
            "The printer has {} now.",
            "[{}] GET /index.html",
        ),
    ),
    "MAC_ADDRESS": (
        (_mac,),
        (
            "The MAC address of the laptop is {}.",
            "ether {} txqueuelen 1000",
            "Please allow {} on the guest network.",
            "Device {} went offline.",
            "hwaddr={}",
        ),
    ),
    "CRYPTO": (
        (_bitcoin, _bech32, lambda rng: f"0x{rng.randbytes(20).hex()}"),
        (
            "Send the coins to {} within an hour.",
            "wallet: {}",
            "BTC address {}",
            "He paid from {} twice.",
            "My donation address is {}.",
        ),
    ),
    "US_PASSPORT": (
        (_fill("#########", "@########"),),
        (
            "My passport number is {}.",
            "Passport: {}",
            "US passport {} expires next year.",
            "passport no. {}",
            "The passport with the number {} was stolen.",
        ),
    ),
    "US_DRIVER_LICENSE": (
        (_fill("@#######", "@###-####-####", "@############", "########", "@@######"),),
        (
            "My driver's license number is {}.",
            "Driver license: {}",
            "driver's licence no. {}",
            "Driving licence {} was issued in May.",
            "DL {}",
        ),
    ),
    "US_BANK_NUMBER": (
        (_fill("##########", "############", "########", "#### #### ####"),),
        (
            "My bank account number is {}.",
            "Account number: {}",
            "checking account {}",
            "acct no. {}",
            "Please debit account {} each month.",
        ),
    ),
    "ABA_ROUTING_NUMBER": ((_routing,), ("The routing number is {}.", "Routing: {}", "ABA {}", "routing no. {} for wires")),
    "UK_NHS": ((_nhs,), ("NHS number: {}", "My NHS number is {}.", "The patient ({}) was seen on Monday.", "NHS no {}")),
    "UK_NINO": (
        (_fill("AB ## ## ## C", "JG######A", "CE ## ## ## D", "SR######B"),),
        ("My National Insurance number is {}.", "NI number: {}", "NINO {}", "Please add {} to the payroll."),
    ),
    "DATE_OF_BIRTH": (
        (_birth,),
        ("I was born on {} in Leeds.", "DOB: {}", "Date of birth: {}", "date of birth {}", "Her birthday is {}.", "d.o.b. {}"),
    ),
    "URL_CREDENTIALS": (
        (lambda rng: f"{rng.choice(LAST)}:{_of(string.ascii_letters + string.digits + '!$%_-', 8, 16)(rng)}",),
        (
            "DATABASE_URL=postgres://{}@db.internal:5432/app",
            "git clone https://{}@git.example.org/team/app.git",
            "amqp://{}@queue/vhost",
            "Use ftp://{}@files.example.com to upload it.",
            "mongodb+srv://{}@cluster0.abcde.mongodb.net/test",
        ),
    ),
    "URL_TOKEN": (
        (_of(string.ascii_letters + string.digits, 20, 40), lambda rng: rng.randbytes(16).hex()),
        (
            "https://api.example.com/v1/items?access_token={}",
            "Reset it here: https://app.example.com/reset?token={}&lang=en",
            "GET /feed?api_key={} HTTP/1.1",
            "https://maps.example.com/tile?x=1&key={}",
            "https://store.blob.example.net/a?sv=2020&sig={}",
        ),
    ),
    "AWS_KEY": (
        (_fill("AKIA@@@@@@@@@@@@@@@@", "ASIA@@@@@@@@@@@@@@@@"),),
        ("aws_access_key_id = {}", "The key {} is still active.", "AWS_ACCESS_KEY_ID={}", "export AWS_ACCESS_KEY_ID={}"),
    ),
    "AWS_KEY, secret": (
        (lambda rng: _b64(rng, 30),),
        ("aws_secret_access_key = {}", "AWS_SECRET_ACCESS_KEY={}", 'aws_secret_key: "{}"'),
    ),
    "GITHUB_TOKEN": (
        (
            lambda rng: "ghp_" + _of(string.ascii_letters + string.digits, 36, 36)(rng),
            lambda rng: "gho_" + _of(string.ascii_letters + string.digits, 36, 36)(rng),
            lambda rng: (
                "github_pat_"
                + _of(string.ascii_letters + string.digits, 22, 22)(rng)
                + "_"
                + _of(string.ascii_letters + string.digits, 59, 59)(rng)
            ),
        ),
        ("I pushed {} by mistake.", "GITHUB_TOKEN={}", "Authorization: token {}", "git remote set-url origin with {}"),
    ),
    "SLACK_TOKEN": (
        (_slack,),
        ("SLACK={}", "The bot uses {} to post.", "slack: {}"),
    ),
    "STRIPE_KEY": (
        (lambda rng: rng.choice(("sk_live_", "sk_test_", "rk_live_")) + _of(string.ascii_letters + string.digits, 24, 99)(rng),),
        ("stripe.api_key = '{}'", "STRIPE_SECRET={}", "We used {} in the example."),
    ),
    "JWT": ((_jwt,), ("Authorization: Bearer {}", "The token was {}.", "jwt={}", "curl -H 'X-Auth: {}' https://api.example.com")),
    "PRIVATE_KEY": ((_key_block,), ("This is in the repository:\n{}\n", "cat id_rsa\n{}")),
    "API_KEY": (
        (
            lambda rng: rng.randbytes(16).hex(),
            _of(string.ascii_letters + string.digits, 32, 40),
            lambda rng: "AIza" + _of(string.ascii_letters + string.digits + "-_", 34, 34)(rng) + "4",
            lambda rng: "sk-proj-" + _of(string.ascii_letters + string.digits, 40, 48)(rng),
            lambda rng: "hf_" + _of(string.ascii_letters, 34, 34)(rng),
        ),
        (
            "API_KEY={}",
            'api_key = "{}"',
            "my api key is {}",
            '"apiKey": "{}",',
            "X-Api-Key: {}",
            "client_secret: {}",
            "SECRET_KEY = '{}'",
        ),
    ),
    "PASSWORD": (
        (_password,),
        (
            "password = '{}'",
            "My password is {} and it stopped working.",
            "DB_PASSWORD={}",
            'PASSWORD: "{}"',
            "pwd: {}",
            "login: root, password: {}",
            'passwd="{}"',
            "Server=db;User Id=sa;Password={};",
        ),
    ),
}

NEGATIVE: Sequence[tuple[str, Make]] = (
    ("Your order {} has shipped.", _fill("##########", "###-#######-#######", "#########", "A#########")),
    ("Order number {} is late.", _fill("4###############", "############", "##########")),
    ("Invoice no. {} is still open.", _fill("########", "####-#####", "INV-######")),
    (
        "Tracking number {} says out for delivery.",
        _fill("1Z999AA1##########", "############", "94001118992238########", "RR#########DE"),
    ),
    ("The ISBN is {}.", _fill("978-0-306-4####-#", "9783161484###", "0-306-4####-#", "97803064####")),
    ("We run version {} in production.", _fill("1.##.#", "10.0.190##.1", "2.3.4.#", "v0.12.#", "4.18.0-##.el8")),
    ("It broke after the update to build {}.", _fill("19045.####", "20240#1#.#", "#######")),
    ("The talk is on {}.", _fill("2024-05-1#", "1#/0#/2025", "1# March 2026", "2025.06.1#")),
    ("It crashed at {}.", _fill("1#:2#:3#", "2024-05-1#T1#:00:00Z", "2025-01-1# 0#:15:42.###", "171########", "171##########")),
    ("That costs {} in all.", _fill("$1,2##.99", "€#.###,00", "£###.50", "1 2## 000 USD", "12.345.6##,00 EUR")),
    ("The town has {} inhabitants.", _fill("1,2##,###", "###,###", "4 8## ###", "#######")),
    ("See commit {} for the change.", lambda rng: rng.choice((rng.randbytes(20).hex(), rng.randbytes(4).hex()[:7]))),
    ("The md5 of the file is {}.", lambda rng: rng.randbytes(16).hex()),
    ("sha256: {}", lambda rng: rng.randbytes(32).hex()),
    ("The run has the id {}.", lambda rng: _grouped(rng.randbytes(16).hex(), (8, 4, 4, 4, 12), "-")),
    ("The test number {} must be refused by the checkout.", _wrong_card),
    ("My reference is {}.", _wrong_card),
    ("Part no. {} fits as well.", _fill("@@-####-##", "###-##-####A", "######-###", "@########")),
    ("The serial number is {}.", _fill("C02@@###@@@@", "SN##########", "@@@@########")),
    ("IMEI {} is on the box.", lambda rng: _luhn("35" + _digits(rng, 12))),
    ("The barcode reads {}.", _fill("40063813####1", "50000######2")),
    ("Coordinates: {}", _fill("52.5####, 13.4####", "-33.8###, 151.2###", "40°42'##\"N")),
    ("The final score was {}.", _fill("3-#", "21:1#", "6-4 3-6 7-#")),
    ("Meet me in room {}.", _fill("4##", "B-2##", "1.2##")),
    ("Flight {} is delayed.", _fill("LH ####", "BA2###", "UA 1##")),
    ("Thanks {}, that was it!", lambda rng: f"@{rng.choice(FIRST)}{rng.choice(LAST)}"),
    ("The decorator {} caches the result.", lambda rng: rng.choice(("@property", "@lru_cache", "@app.route", "@pytest.fixture"))),
    ("npm install {}", lambda rng: rng.choice(("lodash@4.17.21", "@angular/core@17.0.3", "react@18.2.0", "left-pad@1.3.0"))),
    (
        "git clone {}",
        lambda rng: rng.choice(("git@github.com:acme/app.git", "https://github.com/acme/app.git", "git@gitlab.com:team/site.git")),
    ),
    (
        "Call {} to sort in place.",
        lambda rng: rng.choice(("std::sort(v.begin(), v.end())", "Arrays::sort", "List.sort()", "std::ranges::sort(a)")),
    ),
    ("Set the colour to {}.", lambda rng: f"#{rng.randbytes(3).hex()}"),
    ("The ratio is {}.", _fill("16:9", "1:2.5", "0.12345678##", "3.14159265##")),
    ("Chapter {} explains it.", _fill("4.2.1.#", "12.#", "3.1.4.1.5")),
    ("The OID is {}.", _fill("1.3.6.1.4.1.311.21.##", "2.5.4.##")),
    (
        "{}",
        lambda rng: rng.choice(
            (
                "Password reset: click the link in the mail.",
                "The password is required and must have at least 8 characters.",
                "Forgot your password? Ask the help desk.",
                "Secret ingredient: cinnamon.",
                "A token is a piece of a word.",
                "The key is to practise every day.",
                "password = getpass.getpass()",
                'api_key = os.environ["API_KEY"]',
                "token = request.headers.get('Authorization')",
                "const secret = config.get('secret');",
                'password: "<your password>"',
                "PIN codes have four digits.",
                "Born in the USA is a song.",
                "His passport was stolen in Rome.",
                "The bank account was closed.",
                "max_tokens: 4096",
                "tokens: 128000",
                "secret_name: database",
                "key: value",
            )
        ),
    ),
    ("She has worked here {}.", _fill("since 2014", "from 1990-2005", "2010 - 2015")),
    ("Section {} of the act applies.", _fill("18 U.S.C. 1030", "§ 263 Abs. 1", "4(2)(b)")),
    ("Ticket {} is closed.", _fill("#######", "JIRA-####", "2024-######")),
    ("The sensor read {} at noon.", _fill("21.#", "1013.2#", "0.000123##", "-1.2345e-##")),
    ("SELECT * FROM t WHERE id = {};", _fill("######", "########")),
    ("We sold {} units.", _fill("12,###", "####", "1.2##.###")),
    ("x = {}", _fill("0x##ff##", "1234567890 * 2", "2**##", "[1, 2, 3, 4, 5, 6, 7, 8]")),
    ("Model {} needs a new battery.", _fill("WH-1000XM#", "SM-G99#B", "A2##8", "TL-WR841N")),
    ("localhost answers on {}.", lambda rng: rng.choice(("127.0.0.1:8080", "0.0.0.0:5000", "::1", "127.0.0.1"))),
    ("The netmask is {}.", lambda rng: rng.choice(("255.255.255.0", "255.255.0.0", "/24"))),
    ("com.example.{} failed to start", lambda rng: rng.choice(("app.Main", "service.Worker12", "db.Pool$1"))),
)
