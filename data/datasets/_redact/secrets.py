"""Secrets by the plugins of detect-secrets, verification off, and by patterns for what they miss.

Own patterns: a private key as a whole block (detect-secrets marks its first line), GitHub fine-grained, Google, Hugging Face,
Anthropic, OpenAI project and Stripe test keys, Slack app tokens, AWS secret keys and passwords without quotes, bearer tokens,
credentials and tokens in URLs. Left out of detect-secrets: its public IP plugin (Presidio finds all), and, unless a word for a
secret is on the line, the two entropy plugins, which take every checksum for a key. Not covered: secrets that look like words.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from data.datasets._redact.around import PLACEHOLDER, Found

_LINE: Final = 2_000  # characters of a line that the plugins see at a time; some of their patterns are quadratic
_KINDS: Final = {
    "AWS Access Key": "AWS_KEY", "GitHub Token": "GITHUB_TOKEN", "GitLab Token": "GITLAB_TOKEN", "JSON Web Token": "JWT",
    "Slack Token": "SLACK_TOKEN", "Stripe Access Key": "STRIPE_KEY", "Basic Auth Credentials": "URL_CREDENTIALS",
    "Private Key": "PRIVATE_KEY", "Secret Keyword": "PASSWORD", "Base64 High Entropy String": "API_KEY",
    "Hex High Entropy String": "API_KEY", "OpenAI Token": "API_KEY", "NPM tokens": "API_KEY", "PyPI Token": "API_KEY",
    "SendGrid API Key": "API_KEY", "Twilio API Key": "API_KEY", "Mailchimp Access Key": "API_KEY",
}  # fmt: skip
_ENTROPY: Final = ("Base64HighEntropyString", "HexHighEntropyString")
_ASSIGNED: Final = re.compile(
    r"[\"'=`]|A(?:KIA|SIA|BIA|CCA|3T)|gh[pousr]_|xox|hooks|[sr]k_live|eyJ|PRIVATE KEY|PuTTY|sk-|npm_|pypi-|SG\.|sq0|[A-Za-z0-9_-]{24}|://"
)
"""What a line has that one of the plugins takes for a secret; a word alone is not enough."""
_QUOTED: Final = (*_ENTROPY, "KeywordDetector")
_QUOTE: Final = re.compile("[\"'`]")  # none of their patterns matches without one
_WORD: Final = re.compile(r"key|token|secret|passw|pwd|auth|credential|bearer|signature", re.IGNORECASE)
_PREFIXES: Final = (
    "AKIA", "ASIA", "ABIA", "ACCA", "A3T", "AROA", "AIDA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-",
    "xox", "xapp-", "hooks.slack", "k_live_", "k_test_", "whsec_", "eyJ", "PRIVATE KEY", "PuTTY-User", "sk-", "npm_", "pypi-Ag",
    "SG.", "sq0", "AIza", "ya29.", "hf_", "dckr_", "-us", "://", "AKC", "AP",
)  # fmt: skip
_WORDS: Final = (
    "key", "token", "secret", "pass", "pwd", "auth", "credential", "bearer", "signature", "session", "contrase", "cloudant",
    "softlayer", "pin", "pw", "mysql", "mariadb", "?", "&",
)  # fmt: skip
_LONG: Final = re.compile(r"[\w-]{24}")
_BEGIN: Final = r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
_END: Final = r"-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
_ASSIGN: Final = (
    r"(?: for [\w ]{1,30}(?=: |\s(?:is|was)\b))?[\"'\]]{0,2}\s{0,4}(?::=|=>|={1,3}|->|:|>|\bis now|\bis|\bwas|\bto)\s{0,4}[\"'`]?"
)
_OWN: Final = tuple(
    (kind, tuple(signs.split(" ")), re.compile(pattern))
    for kind, signs, pattern in (
        ("PRIVATE_KEY", "private", rf"{_BEGIN}[A-Za-z0-9+/=\s:,\\.-]{{0,20000}}?{_END}"),
        ("PRIVATE_KEY", "private", rf"{_BEGIN}(?:\s{{0,3}}[A-Za-z0-9+/]{{20,76}})*(?:\s?[A-Za-z0-9+/]{{0,75}}={{1,2}})?"),
        ("JWT", "eyj", r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}(?:\.[\w-]{0,1024})?"),
        ("URL_CREDENTIALS", "://", r"(?<=://)[^\s/@:<>\"']{0,200}:[^\s/@<>\"']{1,200}(?=@)"),
        ("GITHUB_TOKEN", "gh github_pat_", r"\b(?:github_pat_\w{22,255}|gh[pousr]_\w{30,255})"),
        (
            "SLACK_TOKEN",
            "xox xapp- hooks.slack",
            r"\bx(?:ox[abposre]|app)-[\w-]{10,250}|https://hooks\.slack\.com/(?:services|workflows)/[\w/]{10,200}",
        ),
        ("STRIPE_KEY", "k_live_ k_test_ whsec_", r"\b(?:[sr]k_(?:live|test)|whsec)_[0-9A-Za-z]{16,250}"),
        ("AWS_KEY", "a3 ak as ab ac ar ai", r"\b(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[0-9A-Z]{16}\b"),
        ("AWS_KEY", "aws", r"(?i)aws.{0,20}?(?:secret|key).{0,24}?[\s:=\"']([0-9a-z/+]{40})(?![0-9a-z/+=])"),
        (
            "API_KEY",
            "aiza ya29. hf_ npm_ glpat-",
            r"\bAIza[\w-]{35}|\bya29\.[\w-]{20,250}|\bhf_[A-Za-z0-9]{30,60}\b|\bnpm_[A-Za-z0-9]{36}|\bglpat-[\w-]{20,60}",
        ),
        (
            "API_KEY",
            "sk- dckr_pat_ pypi-ag",
            r"\bsk-(?:ant-|proj-|or-|svcacct-)?[\w-]{20,250}|\bdckr_pat_[\w-]{20,60}|\bpypi-Ag[\w-]{50,250}",
        ),
        ("API_KEY", "sg.", r"\bSG\.[\w-]{16,32}\.[\w-]{16,64}"),
        ("API_KEY", "bearer", r"(?i)\bbearer\s+([\w.~+/=-]{16,2000})"),
        (
            "URL_TOKEN",
            "? &",
            r"(?i)[?&](?:(?:access|auth|id|refresh)?_?token|api_?key|key|secret|client_secret|sig|signature|x-amz-signature"
            r"|x-amz-credential|x-amz-security-token|password|passwd|pwd|session(?:id|_id)?|auth|code|sas)=([^\s&#<>\"')]{6,2000})",
        ),
        (
            "API_KEY",
            "key secret token session",
            r"(?i)(?:(?:api|auth|access|account|signing|encryption|private)[ _-]?key|secret|token|session[_-]?id)\w{0,20}"
            rf"{_ASSIGN}([\w/+=.~-]{{12,500}})",
        ),
        ("API_KEY", "key token", r"(?i)(?:api[ _-]?key|access[ _-]?token|secret[ _-]?key|token)\s+([\w-]{20,500})"),
        ("PASSWORD", "pin passcode", r"(?i)\b(?:pin|passcode)(?: (?:number|code))?(?: is| was|[:=])? {1,3}(\d{4,8})(?![\w.,]*\d)"),
        ("PASSWORD", "authorization", r"(?i)\bauthorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?basic\s+([\w+/=-]{8,500})"),
        ("PASSWORD", "curl", r"(?i)\bcurl\s[^\n]{0,200}?\s?-u\s{0,4}[\"']?([^\s\"':]{1,64}:[^\s\"']{3,128})"),
        (
            "PASSWORD",
            "mysql mariadb sshpass",
            r"(?i)\b(?:mysql\w{0,8}|mariadb)\s[^\n]{0,200}?\s?-p([^\s\"'-][^\s\"']{3,128})|\bsshpass\s+-p\s{0,4}[\"']?([^\s\"']{4,128})",
        ),
        (
            "PASSWORD",
            "passw",
            r"(?i)(?:--password|\bpassword|\bpasswd)(?:\s+(?=[\"'])|(?<=--password)\s+)[\"']?([^\s\"'`<>]{4,128})",
        ),
        (
            "PASSWORD",
            "pass pw pin contraseña",
            r"(?i)(?:password|passwd|passwort|passcode|passphrase|contraseña|mot de passe"
            r"|(?<![a-z])(?:pwd?|pass|pin)(?![a-z]))\w{0,12}"
            rf"{_ASSIGN}([^\s\"'`<>]{{4,128}})",
        ),
    )
)
"""Kind, what a text has in lower case where the pattern can match, and the pattern; its group, if any, is the secret."""
_NOT_SECRET: Final = re.compile(
    r"(?i)^(?:none|null|nil|true|false|undefined|required|optional|string|str|password|passwd|secret|token|changeme|example|your[-_\w]*"
    r"|my[-_]\w+|x+|\*+|\.+|-+|input|text|hidden|env|process\.env.*|os\.environ.*|[${&].*|%[(s{].*|.*\(.*|.*\[.*|https?:.*)$"
)


class Secrets:
    """Finds secrets in texts."""

    def __init__(self) -> None:
        self._plugins = _plugins()

    def find(self, text: str) -> Iterator[Found]:
        """Every span that is a secret, in no order; they may overlap."""
        if not _may_hold(text):
            return
        hidden = {place for match in PLACEHOLDER.finditer(text) for place in range(match.start(), match.end())}
        lowered = text.lower()
        for kind, signs, pattern in _OWN:
            if any(sign in lowered for sign in signs):
                for match in pattern.finditer(text):
                    if pattern.groups == 0 or match.start() not in hidden:  # else the word for a secret is a placeholder's
                        yield from _assigned(text, match, kind)
        for start, line in _pieces(text):
            if _ASSIGNED.search(line) and _may_hold(line):
                yield from self._by_plugins(line, start)

    def _by_plugins(self, line: str, offset: int) -> Iterator[Found]:
        for plugin in self._plugins:
            name = type(plugin).__name__
            entropy = name in _ENTROPY
            if (entropy and _WORD.search(line) is None) or (name in _QUOTED and _QUOTE.search(line) is None):
                continue
            for value in set(plugin.analyze_string(line)):
                if not value or (entropy and plugin.calculate_shannon_entropy(value) <= plugin.entropy_limit):
                    continue
                kind = _KINDS.get(plugin.secret_type, "API_KEY")
                if kind == "PASSWORD" and not _is_secret(value, quoted=True, kind=kind):
                    continue
                yield from (Found(kind, offset + start, offset + end, 1) for start, end in _occurrences(line, value))


def _may_hold(text: str) -> bool:
    lowered = text.lower()
    return any(sign in text for sign in _PREFIXES) or any(word in lowered for word in _WORDS) or _LONG.search(text) is not None


def _assigned(text: str, match: re.Match[str], kind: str) -> Iterator[Found]:
    start, end = match.span(match.lastindex or 0)
    quoted = _is_quoted(text, start, end)
    if not quoted:
        end = start + len(text[start:end].rstrip(".,;:)"))
    if match.lastindex is None or _is_secret(text[start:end], quoted, kind):
        yield Found(kind, start, end, 0)


def _plugins() -> Sequence[Any]:
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    classes = sorted(get_mapping_from_secret_type_to_class().values(), key=lambda found: str(found.__name__))
    limits = {"Base64HighEntropyString": 4.5, "HexHighEntropyString": 3.0}  # the defaults of detect-secrets
    return [
        found(limit=limits[found.__name__]) if found.__name__ in limits else found()
        for found in classes
        if found.__name__ != "IPPublicDetector"
    ]


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text with their offsets, long ones in pieces that overlap by 200 characters."""
    offset = 0
    for line in text.split("\n"):
        for start in range(0, max(1, len(line) - 200), _LINE - 200):
            yield offset + start, line[start : start + _LINE]
        offset += len(line) + 1


def _occurrences(line: str, value: str) -> Iterator[tuple[int, int]]:
    """Where the value stands, each to the end of its word: some plugins find only the first characters of a longer key."""
    start = line.find(value)
    while start >= 0:
        end = start + len(value)
        while end < len(line) and (line[end].isalnum() or line[end] in "_-") and value[-1].isalnum():
            end += 1
        yield start, end
        start = line.find(value, end)


def _is_quoted(text: str, start: int, end: int) -> bool:
    return start > 0 and text[start - 1] in "\"'`" and text[end : end + 1] == text[start - 1]


def _is_secret(value: str, quoted: bool, kind: str) -> bool:
    """Whether an assigned value looks like a secret and not like a word, a variable or a call."""
    if len(value) < 4 or _NOT_SECRET.match(value) or PLACEHOLDER.search(value) or any(character.isspace() for character in value):
        return False
    if kind in ("URL_TOKEN", "AWS_KEY"):
        return any(map(str.isdigit, value)) or len(value) >= 16
    digit, letter = any(map(str.isdigit, value)), any(map(str.isalpha, value))
    if kind == "API_KEY":
        return len(value) >= 12 and digit and letter and _entropy(value) >= 2.8
    sign = any(character in "!@#$%^&*+~?=" for character in value)
    if quoted:
        return digit or sign or value.lower() != value or len(value) >= 8
    return value.isdigit() or (digit and letter and len(value) >= 6) or (sign and letter and len(value) >= 8)


def _entropy(value: str) -> float:
    """Shannon entropy in bits per character."""
    return -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())
