"""Personal data and secrets in rows replaced by placeholders such as `<EMAIL_ADDRESS>`; the report counts, and never quotes.

Found are structured kinds: what has a pattern, a checksum or a word beside it (see `_redact`), and the names and places that the
user wishes to keep out. Nothing is sent, fetched or loaded but code. A text of 1 KB without a candidate costs about 25 µs.
The same value gets the same placeholder in every text of a row, also where nothing around it says what it is. Redacting what was
redacted changes nothing. Not covered: names and places that nobody listed, and what only its meaning makes private.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from data.chat import Message, ToolCall
from data.datasets._redact.around import PLACEHOLDER, Found
from data.datasets._redact.people import People, count_digits
from data.datasets._redact.secrets import Secrets
from data.datasets.rows import Row

DENIED: Final = "PRIVATE_TERM"
"""The kind of the user's own names and places."""
_ROUNDS: Final = 4  # what a placeholder brings nearer to a word is found in the next round
_SHORT: Final = 6  # characters: shorter values are replaced only where they were found
_NUMBER: Final = re.compile(r"[0-9](?:[^\w\n]{0,3}[0-9]){5}|[0-9]\.[0-9]+\.[0-9]+\.[0-9]")
_LONG: Final = 20  # characters of a word that may be a key
_HEXADECIMAL: Final = re.compile(r"[.:-][0-9A-Fa-f]{1,4}([.:-])[0-9A-Fa-f]{1,4}\1[0-9A-Fa-f]|\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}")
_SIGNS: Final = (
    "@",
    "://",
    "::",
    "pass",
    "secret",
    "token",
    "pw",
    "key",
    "auth",
    "session",
    "curl ",
    "mysql",
    " dot ",
    "at)",
    "at]",
)
_SIGNS_OF_NUMBERS: Final = ("born", "birth", "dob", "d.o.b", "geb", "licen", "dl", "pin", "driv")


@dataclass(frozen=True, slots=True)
class Finding:
    """One replaced value: its kind, and where it stood in the text it was found in (characters)."""

    kind: str
    start: int
    end: int


class Redactor:
    """Replaces personal data and secrets. deny: names and places to replace, whatever their case.

    region: two letters, the country whose national phone numbers are meant first; raises InputError where there is none such.
    Making one takes about 1.5 s.
    """

    def __init__(self, deny: Sequence[str] = (), region: str = "") -> None:
        self._people = People(region)
        self._secrets = Secrets()
        terms = sorted({term.strip() for term in deny if term.strip()}, key=lambda term: (-len(term), term))
        self._deny = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, terms))})(?!\w)", re.IGNORECASE) if terms else None

    def text(self, text: str) -> tuple[str, tuple[Finding, ...]]:
        """The text with placeholders, and what was replaced, in the order of the text."""
        found = self._found(text, {})
        return _replaced(text, found), found

    def row(self, row: Row) -> tuple[Row, tuple[Finding, ...]]:
        """The row with placeholders in all its texts, and what was replaced, text by text."""
        if not any(self._may_hold(text) for text in row.texts()):
            return row, ()
        values: dict[str, str] = {}
        found: dict[str, tuple[Finding, ...]] = {}
        for text in row.texts():
            found[text] = self._found(text, values)
            for finding in found[text]:
                values.setdefault(text[finding.start : finding.end], finding.kind)
        if not values:
            return row, ()
        work = _RowWork(self, values, found)
        return work.row(row), tuple(work.findings)

    def _may_hold(self, text: str) -> bool:
        """Whether the text can hold anything at all; the cheap question that most texts end with."""
        lowered = text.lower()
        if any(sign in lowered for sign in _SIGNS) or "AKIA" in text or "ASIA" in text or _HEXADECIMAL.search(text):
            return True
        digits = count_digits(text)
        if (digits > 3 or "_" in text) and max(map(len, text.split()), default=0) >= _LONG:
            return True
        if digits > 2 and ((digits > 3 and _NUMBER.search(text)) or any(sign in lowered for sign in _SIGNS_OF_NUMBERS)):
            return True
        return self._deny is not None and self._deny.search(text) is not None

    def _found(self, text: str, values: Mapping[str, str]) -> tuple[Finding, ...]:
        """All findings in the coordinates of `text`, without overlap, sorted; `values` are known from other texts of the row."""
        taken = _without_overlap(self._known(text, values), PLACEHOLDER, text)
        for _ in range(_ROUNDS):
            shown = _replaced(text, taken)
            if not self._may_hold(shown):
                break
            more = _without_overlap(self._spans(shown), PLACEHOLDER, shown)
            if not more:
                break
            taken = tuple(sorted((*taken, *_back(more, taken)), key=lambda finding: finding.start))
            here = {text[finding.start : finding.end]: finding.kind for finding in taken}
            extra = _without_overlap(self._known(text, here), PLACEHOLDER, text, taken)
            taken = tuple(sorted((*taken, *extra), key=lambda finding: finding.start))
        return taken

    def _spans(self, text: str) -> Iterable[Found]:
        if self._deny:
            yield from (Found(DENIED, *match.span(), 5) for match in self._deny.finditer(text))
        yield from self._secrets.find(text)
        yield from self._people.find(text)

    def _known(self, text: str, values: Mapping[str, str]) -> Iterable[Found]:
        for value, kind in values.items():
            if len(value) < _SHORT:
                continue
            start = text.find(value)
            while start >= 0:
                end = start + len(value)
                if not (text[start - 1 : start].isalnum() and value[0].isalnum()) and not (
                    text[end : end + 1].isalnum() and value[-1].isalnum()
                ):
                    yield Found(kind, start, end, 0)
                start = text.find(value, end)


class _RowWork:
    """The replacing in one row whose values are known; found: what each text showed by itself and by the texts before it."""

    def __init__(self, redactor: Redactor, values: Mapping[str, str], found: Mapping[str, tuple[Finding, ...]]) -> None:
        self._redactor = redactor
        self._values = values
        self._found = found
        self.findings: list[Finding] = []

    def row(self, row: Row) -> Row:
        return replace(
            row,
            before=tuple(self.message(message) for message in row.before),
            text=self.text(row.text),
            output=self.value(row.output) if row.output else row.output,
            completion=self.text(row.completion),
            rejected=self.text(row.rejected),
            reasoning=self.text(row.reasoning),
            comment=self.text(row.comment),
        )

    def message(self, message: Message) -> Message:
        calls = tuple(ToolCall(call.name, self.value(call.arguments), call.id) for call in message.tool_calls)
        return replace(message, content=self.text(message.content), thinking=self.text(message.thinking), tool_calls=calls)

    def text(self, text: str) -> str:
        found = self._found.get(text, ())
        if any(len(value) >= _SHORT and value in _replaced(text, found) for value in self._values):
            found = self._redactor._found(text, self._values)
        self.findings.extend(found)
        return _replaced(text, found)

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.value(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(part) for part in value]
        return value


def _replaced(text: str, found: Sequence[Finding]) -> str:
    if not found:
        return text
    parts, at = [], 0
    for finding in found:
        parts += [text[at : finding.start], f"<{finding.kind}>"]
        at = finding.end
    return "".join([*parts, text[at:]])


def _without_overlap(
    spans: Iterable[Found], keep: re.Pattern[str], text: str, taken: Sequence[Finding] = ()
) -> tuple[Finding, ...]:
    """The spans that win: lower rank first, then the longer, then the earlier; none touches what is kept or taken."""
    barred = sorted([match.span() for match in keep.finditer(text)] + [(finding.start, finding.end) for finding in taken])
    starts = [start for start, _ in barred]
    ends = [end for _, end in barred]
    won: list[Finding] = []
    for span in sorted(spans, key=lambda span: (span.rank, span.start - span.end, span.start)):
        place = bisect_right(starts, span.start)
        if (place and ends[place - 1] > span.start) or (place < len(starts) and starts[place] < span.end) or span.start >= span.end:
            continue
        starts.insert(place, span.start)
        ends.insert(place, span.end)
        won.append(Finding(span.kind, span.start, span.end))
    return tuple(sorted(won, key=lambda finding: finding.start))


def _back(found: Sequence[Finding], taken: Sequence[Finding]) -> list[Finding]:
    """Findings in the redacted text, in the coordinates of the text before; none of them touches a placeholder."""
    begins, shifts, shift = [-1], [0], 0
    for finding in taken:
        length = len(finding.kind) + 2
        begins.append(finding.start - shift)
        shift += finding.end - finding.start - length
        shifts.append(shift)
    moved = []
    for finding in found:
        by = shifts[bisect_right(begins, finding.start) - 1]
        moved.append(Finding(finding.kind, finding.start + by, finding.end + by))
    return moved
