"""Personal data by Presidio's pattern recognisers, without a language model and without the network.

A cheap pattern finds a candidate; Presidio's recogniser, with its check digits, has the last word on that span alone, so that its
own pattern never meets a long text; then the words around decide (`around`). E-mail addresses are checked with the list of public
suffixes inside tldextract, never with a fresh one. Found here and not by Presidio: cards (it knows neither the 2 series nor which
lengths a network issues), Ethereum addresses, sort codes, passports, licences and accounts by the word before them, dates of birth
in words, and addresses written with "(at)". Not covered: names and places (see `deny` of the Redactor), street addresses,
birthdays without a year, and numbers without a word that says what they are.
"""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from data.datasets._redact import around
from data.datasets._redact.around import Found, after, is_a_things, near

REGIONS: Final = ("US", "GB", "DE", "FR", "IN", "AU", "ES", "IT")
"""Whose national phone numbers are known, without the region that the user gave."""
_MAIL: Final = re.compile(r"[^\s@<>()\[\],;:\"]{1,80}@[^\s@]{4,255}")
_SPELLED_MAIL: Final = re.compile(
    r"\b[\w.+-]{1,64} ?[\[({] ?at ?[\])}] ?[\w-]{1,63}(?: ?(?:\.|[\[({] ?dot ?[\])}]) ?[\w-]{2,63}){1,4}"
    r"|\b[\w.+-]{2,64} at [\w-]{2,63}(?: dot [a-z]{2,24}){1,3}\b",
    re.IGNORECASE,
)
_PHONE: Final = re.compile(r"(?<![\w.,/:=#-])[+(\d][\d ().\-/\u00a0\u2010-\u2015]{6,23}\d(?![\w/])")
_PHONE_SHAPE: Final = re.compile(
    r"\+|00[1-9]|\(0?\d{2,5}\)|(?:1[-. ])?\d{3}([-. ])\d{3}\1\d{4}$|(?:1[-. ])?\(\d{3}\)|0\d{1,5}[ \-/.()\u00a0]"
    r"|[6-9]\d{4} \d{5}$"
)
_CARD: Final = re.compile(r"(?<![\d.,-])[2-6]\d{3}[ .\u00a0-]?\d{4,6}[ .\u00a0-]?\d{4,5}(?:[ .\u00a0-]?\d{1,4}){0,2}(?![\d-])")
_IBAN: Final = re.compile(r"(?<![A-Z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{1,4}){3,8}", re.IGNORECASE)
_SSN: Final = re.compile(r"(?<![\w.-])\d{3}([-. ]?)\d{2}\1\d{4}(?![\d-])")
_IP: Final = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2})?(?!\.?\d|-[a-z])")
_IP6: Final = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{2,39}(?:\.\d{1,3}){0,3}(?:/\d{1,3})?")
_MAC: Final = re.compile(
    r"(?<![0-9A-Fa-f:-])[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}(?![0-9A-Fa-f:-])|\b[0-9A-Fa-f]{4}(?:\.[0-9A-Fa-f]{4}){2}\b"
)
_COIN: Final = re.compile(r"\b(?:bc1|[13])[a-zA-HJ-NP-Z0-9]{25,59}\b")
_ETHER: Final = re.compile(r"\b0x[0-9a-fA-F]{40}\b")
_NHS: Final = re.compile(r"(?<![\d-])\d{3}[- ]?\d{3}[- ]?\d{4}(?![\d-])")
_NINO: Final = re.compile(r"\b[A-Za-z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-Da-d]\b")
_LICENCE: Final = re.compile(r"\b[A-Z9]{5}\d{6}[A-Z9]{2}\d[A-Z]{2}\b")
_DIGITS: Final = re.compile(r"(?<![\w.,/-])\d(?:[ -]?\d){7,16}(?![\w/]|[.,-]\d)")
_DOCUMENT: Final = re.compile(r"(?<![\w-])(?=[A-Za-z0-9-]*\d{3})[A-Za-z]{0,3}\d[A-Za-z0-9]*(?:-[A-Za-z0-9]{2,6}){0,4}(?![\w-])")
_ACCOUNT: Final = re.compile(r"(?<![\w.,/-])\d(?: ?\d){7,16}(?![\w/]|[.,-]\d)")
_SORT_CODE: Final = re.compile(r"(?<![\d-])\d{2}([- ]?)\d{2}\1\d{2}(?![\d-])")
_MONTH: Final = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
    "|januar|februar|märz|mai|juni|juli|oktober|dezember|janvier|février|mars|avril|juin|juillet|août|septembre|octobre|novembre|décembre"
)
_DATE: Final = re.compile(
    r"(?<![\d.])(?:\d{1,2}([./-])\d{1,2}\1(?:19|20)?\d{2}|(?:19|20)\d{2}([./-])\d{1,2}\2\d{1,2}"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.)?(?: of)?[ -](?:{_MONTH})\.?,?[ -](?:19|20)?\d{{2}}"
    rf"|(?:{_MONTH})\.? \d{{1,2}}(?:st|nd|rd|th)?,? (?:19|20)\d{{2}})\b",
    re.IGNORECASE,
)
_VERSION: Final = re.compile(
    r"(?:\bversions?|\bver\.?|\bv|\brelease|\bbuild|\bfirmware|\bupgraded?|\bdriver|\bsection|\bchapter|\boid)"
    r"(?: is| was| to| number){0,2}[ :=]{0,2}$"
)
_DECIMAL: Final = re.compile(r"\d+\.\d+$")
_PRIVATE_SUFFIXES: Final = frozenset(
    {"local", "internal", "lan", "corp", "home", "intranet", "localdomain", "test", "example", "invalid"}
)
_NOBODYS: Final = re.compile(r"(?:127\.|0\.0\.0\.0|255\.|224\.0\.0\.)[\d./]*$|::1?(?:/\d+)?$")


_NO_DIGITS: Final = bytes(code for code in range(256) if not 0x30 <= code <= 0x39)
_SIGNS: Final = {
    "routing": ("routing", "aba", "rtn", "transit", "wire", "ach"),
    "bank": ("account", "acct", "a/c", "bank", "checking", "saving", "cheq", "deposit", "benef", "wire", "debit", "konto"),
    "birth": (
        "born",
        "birth",
        "dob",
        "d.o",
        "do.b",
        "bday",
        "b.day",
        "b day",
        "geb",
        "née",
        "né le",
        "naissance",
        "nacid",
        "nacim",
    ),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """How one kind is found: a cheap pattern, the recogniser that has the last word (None: the pattern has it), and what the text
    around must say. The pattern is tried where a text has that many `digits` and one of the `signs` (lower case; none: always).
    """

    kind: str
    rank: int
    pattern: re.Pattern[str]
    recogniser: Any
    accept: Callable[[str, int, int, float], bool]
    digits: int
    signs: tuple[str, ...] = ()


class People:
    """Finds personal data in texts. Loading Presidio takes about a second."""

    def __init__(self, region: str = "") -> None:
        self._candidates = _candidates()
        self._phones = _phones(region)
        self._ibans = _iban_recogniser()

    def find(self, text: str) -> Iterator[Found]:
        """Every span of personal data, in no order; they may overlap."""
        digits, lowered = count_digits(text), text.lower()
        for candidate in self._candidates:
            if digits >= candidate.digits and (not candidate.signs or any(sign in lowered for sign in candidate.signs)):
                for match in candidate.pattern.finditer(text):
                    yield from _confirmed(candidate, text, match.start(), match.end())
        if digits >= 7:
            for match in _PHONE.finditer(text):
                yield from self._phone(text, match.start(), match.end())
        if digits >= 8:
            for match in _IBAN.finditer(text):
                yield from self._iban(text, match.start(), match.end())

    def _iban(self, text: str, start: int, end: int) -> Iterator[Found]:
        """Cut back group by group until the check digits hold: capitals that follow look like one more group."""
        while end - start >= 15:  # Norway's, the shortest
            for result in self._ibans.analyze(text[start:end].upper(), ["IBAN_CODE"]):
                yield Found("IBAN_CODE", start + result.start, start + result.end, 1)
                return
            end = max(text.rfind(" ", start, end), text.rfind("-", start, end))

    def _phone(self, text: str, start: int, end: int) -> Iterator[Found]:
        shape = _PHONE_SHAPE.match(text[start:end])
        abroad = text[start] == "+"
        if not abroad and (
            _is_number_or_date(text, start, end) or is_a_things(text, start) or not (shape or near(text, start, end, around.PHONE))
        ):
            return
        for _, recogniser in self._phones[:1] if abroad else self._phones:
            for result in recogniser.analyze(text[start:end], ["PHONE_NUMBER"]):
                yield Found("PHONE_NUMBER", start + result.start, start + result.end, 3)
                return


def count_digits(text: str) -> int:
    """How many ASCII digits the text has; 1 µs for 1 KB."""
    return len(text.encode("utf-8", "surrogatepass").translate(None, _NO_DIGITS))


def _confirmed(candidate: Candidate, text: str, start: int, end: int) -> Iterator[Found]:
    if candidate.recogniser is None:
        if candidate.accept(text, start, end, 1.0):
            yield Found(candidate.kind, start, end, candidate.rank)
        return
    for result in candidate.recogniser.analyze(text[start:end], [candidate.kind]):
        if candidate.accept(text, start + result.start, start + result.end, result.score):
            yield Found(candidate.kind, start + result.start, start + result.end, candidate.rank)


def _candidates() -> tuple[Candidate, ...]:
    known = _recognisers()

    return (
        Candidate("EMAIL_ADDRESS", 1, _MAIL, _email_recogniser(), _is_mail, 0, ("@",)),
        Candidate("EMAIL_ADDRESS", 1, _SPELLED_MAIL, None, _always, 0, ("at)", "at]", "at}", "at )", "at ]", " dot ")),
        Candidate("CREDIT_CARD", 1, _CARD, None, _is_card, 14),
        Candidate("US_SSN", 2, _SSN, known.UsSsnRecognizer(), _is_ssn, 9),
        Candidate("US_SSN", 2, _SSN, None, _with(around.SSN), 9, ("ss", "social", "tax", "tin")),
        Candidate("IP_ADDRESS", 2, _IP, known.IpRecognizer(), _is_ip, 4),
        Candidate("IP_ADDRESS", 2, _IP6, known.IpRecognizer(), _is_ip, 1, (":",)),
        Candidate("MAC_ADDRESS", 1, _MAC, known.MacAddressRecognizer(), _always, 0, (":", "-", ".")),
        Candidate("CRYPTO", 1, _COIN, known.CryptoRecognizer(), _always, 1),
        Candidate("CRYPTO", 1, _ETHER, None, _always, 1, ("0x",)),
        Candidate("UK_NHS", 2, _NHS, known.NhsRecognizer(), _with(around.NHS), 10, ("nhs", "patient", "health", "gp")),
        Candidate("UK_NINO", 2, _NINO, known.UkNinoRecognizer(), _is_nino, 6),
        Candidate("UK_NINO", 2, _NINO, None, _with(around.NINO), 6, ("insurance", "ni", "hmrc")),
        Candidate("UK_DRIVING_LICENCE", 2, _LICENCE, known.UkDrivingLicenceRecognizer(), _always, 6),
        Candidate("ABA_ROUTING_NUMBER", 2, _DIGITS, known.AbaRoutingRecognizer(), _with(around.ROUTING), 9, _SIGNS["routing"]),
        Candidate("SORT_CODE", 2, _SORT_CODE, None, _with(around.SORT_CODE), 6, ("sort", "s/c")),
        Candidate("US_PASSPORT", 2, _DOCUMENT, None, _is_passport, 6, ("passport", "reisepass", "pasaporte")),
        Candidate("US_DRIVER_LICENSE", 2, _DOCUMENT, None, _is_licence, 4, ("driv", "licen", "motorist", "dl", "dmv")),
        Candidate("US_BANK_NUMBER", 4, _ACCOUNT, None, _with(around.BANK), 8, _SIGNS["bank"]),
        Candidate(
            "DATE_OF_BIRTH", 2, _DATE, None, lambda text, start, end, _: after(text, start, around.BIRTH), 3, _SIGNS["birth"]
        ),
    )


def _recognisers() -> Any:
    """Presidio's module of recognisers. Where training is installed it imports PyTorch (3 s) for some that are not used."""
    absent: dict[str, Any] = {name: None for name in ("torch", "transformers") if name not in sys.modules}
    sys.modules.update(absent)  # an import of them fails now, which Presidio and spaCy expect
    try:
        from presidio_analyzer import predefined_recognizers as known
    finally:
        for name in absent:
            del sys.modules[name]
    return known


def _iban_recogniser() -> Any:
    return _recognisers().IbanRecognizer()


def _email_recogniser() -> Any:
    from tldextract import TLDExtract

    suffixes = TLDExtract(suffix_list_urls=(), cache_dir=None)  # the list inside the package: nothing is fetched or written

    class OfflineEmailRecognizer(_recognisers().EmailRecognizer):  # type: ignore[misc]
        """Presidio's, which would fetch the list of public suffixes."""

        def validate_result(self, pattern_text: str) -> bool:
            domain = pattern_text.rpartition("@")[2]
            return suffixes(domain).fqdn != "" or domain.rpartition(".")[2].lower() in _PRIVATE_SUFFIXES

    return OfflineEmailRecognizer()


def _phones(region: str) -> list[tuple[str, Any]]:
    from phonenumbers import SUPPORTED_REGIONS

    from data.errors import InputError

    if region and region.upper() not in SUPPORTED_REGIONS:
        raise InputError(f"{region!r} is no region with phone numbers", 'give two letters, such as "DE"')
    regions = dict.fromkeys([*([region.upper()] if region else []), *REGIONS])
    return [(name, _recognisers().PhoneRecognizer(supported_regions=(name,), leniency=1)) for name in regions]


def _is_number_or_date(text: str, start: int, end: int) -> bool:
    """Whether it is a decimal fraction, or a date begins there that is not the beginning of a longer number."""
    match = _DATE.match(text, start)
    return _DECIMAL.match(text[start:end]) is not None or (
        match is not None and re.match(r"[./-]\d", text[match.end() : match.end() + 2]) is None
    )


def _is_mail(text: str, start: int, end: int, score: float) -> bool:
    """Not git@github.com:team/app, which is the address of a repository."""
    return not (text[start:end].lower().startswith(("git@", "hg@", "svn@")) and text[end : end + 1] in (":", "/"))


def _always(text: str, start: int, end: int, score: float) -> bool:
    return True


def _with(words: re.Pattern[str]) -> Callable[[str, int, int, float], bool]:
    return lambda text, start, end, _: near(text, start, end, words) and not is_a_things(text, start)


def _is_card(text: str, start: int, end: int, score: float) -> bool:
    digits = [int(character) for character in text[start:end] if character.isdigit()]
    if not _has_issuer("".join(map(str, digits))) or len(set(digits)) == 1:
        return False
    doubled = [sum(divmod(digit * 2, 10)) for digit in digits[-2::-2]]
    if (sum(digits[-1::-2]) + sum(doubled)) % 10:  # Luhn, ISO/IEC 7812-1 annex B
        return False
    return near(text, start, end, around.CARD) or not is_a_things(text, start)


def _has_issuer(digits: str) -> bool:
    """Whether a card network issues numbers of that beginning and length (ISO/IEC 7812 ranges as the networks publish them)."""
    count, two, four = len(digits), int(digits[:2]), int(digits[:4])
    return (
        (digits[0] == "4" and count in (16, 19))
        or (count == 16 and (51 <= two <= 55 or 2221 <= four <= 2720))
        or (count == 15 and two in (34, 37))
        or (count in (14, 16, 19) and two in (30, 36, 38, 39))
        or (16 <= count <= 19 and (two in (35, 62, 64, 65, 60, 67, 50) or 56 <= two <= 59 or two == 63))
    )


def _is_ssn(text: str, start: int, end: int, score: float) -> bool:
    return (score >= 0.5 or near(text, start, end, around.SSN)) and not is_a_things(text, start)


def _is_ip(text: str, start: int, end: int, score: float) -> bool:
    found = text[start:end]
    if _NOBODYS.match(found) or _VERSION.search(text[max(0, start - 24) : start].lower()):
        return False
    return (
        "." in found
        or (sum(character.isdigit() for character in found) >= 2 and len(found) >= 6)
        or found.lower().startswith("fe80")
    )


def _is_nino(text: str, start: int, end: int, score: float) -> bool:
    return (text[start:end].upper() == text[start:end] or near(text, start, end, around.NINO)) and not is_a_things(text, start)


def _is_passport(text: str, start: int, end: int, score: float) -> bool:
    found = text[start:end]
    return (
        6 <= len(found) <= 9
        and found.isalnum()
        and sum(map(str.isdigit, found)) >= (5 if len(found) == 9 and found.upper() == found else 6)
        and after(text, start, around.PASSPORT)
        and not is_a_things(text, start)
    )


def _is_licence(text: str, start: int, end: int, score: float) -> bool:
    found = text[start:end]
    return (
        6 <= len(found) <= 20
        and sum(map(str.isdigit, found)) >= 4
        and after(text, start, around.LICENCE)
        and not is_a_things(text, start)
    )
