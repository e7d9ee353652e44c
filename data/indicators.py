"""The indicator knowledge base of a domain pack: signs in a text that speak for a label, each found with its exact quote.

    [[indicator]]
    name = "gift_card_payment"; label = "tech_support_scam"
    description = "wants to be paid in gift cards"
    keywords = ["gift card", "itunes card"]       # whole words, whatever their case
    patterns = ['(?:scratch|read) .{0,30}(?:card|code)s?']       # Python's syntax, whatever the case
    weight = 2.0                                  # how strongly it speaks for its label, 0.1 to 10
    against = ["legitimate"]                      # labels that it speaks against
    test = ["Pay with a gift card."]              # texts in which it must be found
    not_test = ["A gift for you"]                 # and must not

What hides words from a search is seen through: invisible characters, accents, letters of other alphabets that look Latin; the
quote is the text as it stands. Not covered: what the finds add up to (rules, classifiers, reasoning chains use them).
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data import paths
from data.domains import Domain
from data.errors import InputError
from data.patterns import LONGEST_PATTERN, PATTERN_CHARS, checked, plain
from data.patterns import seen as seen_text
from data.places import Lines, toml_lines
from data.sanitise import one_line

FILE = "indicators.toml"
SEEN_CHARS = 16_000
"""Characters of a text in which keywords are looked for."""
MOST_FINDS = 5
"""Finds of one indicator in one text at most; the first ones."""
LARGEST = 1 << 20
"""Bytes of an indicators.toml at most."""

_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
_Phrase = Annotated[str, Field(min_length=1, max_length=100)]
_Pattern = Annotated[str, Field(min_length=1, max_length=LONGEST_PATTERN)]
_Sample = Annotated[str, Field(max_length=PATTERN_CHARS)]


class Indicator(BaseModel):
    """One sign. weight: how strongly it speaks for `label`; against: labels that it speaks against; test, not_test: its samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: _Name
    label: str
    description: Annotated[str, Field(min_length=1, max_length=200)]
    keywords: tuple[_Phrase, ...] = ()
    patterns: tuple[_Pattern, ...] = ()
    weight: Annotated[float, Field(ge=0.1, le=10)] = 1.0
    against: tuple[str, ...] = ()
    test: tuple[_Sample, ...] = ()
    not_test: tuple[_Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """One find: text[start:end] == quote."""

    indicator: str
    label: str
    quote: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a knowledge base, and on which line of its file."""

    line: int
    text: str


@dataclass(frozen=True)
class Indicators:
    """The knowledge base of one pack, ready to search; empty where the pack has none."""

    indicators: tuple[Indicator, ...] = ()

    @classmethod
    def of(cls, domain: Domain) -> "Indicators":
        """The knowledge base of a pack. Raises InputError with file and line where it is wrong."""
        file = domain.folder / FILE
        return (
            cls.parse(paths.read_text(file, LARGEST, "keep the signs that matter"), str(file), domain.labels)
            if file.is_file()
            else cls()
        )

    @classmethod
    def parse(cls, text: str, source: str = FILE, labels: Sequence[str] = ()) -> "Indicators":
        """The knowledge base that a TOML text says. labels: those of the pack; any where there are none. Raises InputError."""
        found, faults = read(text, labels)
        if faults:
            raise InputError(f"{source}:{faults[0].line}: {faults[0].text}", "correct the entry")
        return found

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names in the file's order."""
        return tuple(one.name for one in self.indicators)

    @cached_property
    def by_name(self) -> Mapping[str, Indicator]:
        """The indicators by their names."""
        return {one.name: one for one in self.indicators}

    def __len__(self) -> int:
        return len(self.indicators)

    def find(self, text: str) -> tuple[Evidence, ...]:
        """Every sign that the text holds, in the order of the text; finds of one indicator that overlap are one."""
        if not self.indicators or not text:
            return ()
        seen, origin = seen_text(text[:SEEN_CHARS])
        folded = seen.lower() if len(seen.lower()) == len(seen) else seen
        found = []
        for one, search in zip(self.indicators, self._searches, strict=True):
            for start, end in _merged(search.spans(seen, folded))[:MOST_FINDS]:
                begin, stop = origin[start], origin[end - 1] + 1
                found.append(Evidence(one.name, one.label, text[begin:stop], begin, stop))
        return tuple(sorted(found, key=lambda one: (one.start, one.end)))

    @cached_property
    def _searches(self) -> tuple["_Search", ...]:
        return tuple(_Search.of(one) for one in self.indicators)


def read(text: str, labels: Sequence[str] = ()) -> tuple[Indicators, list[Fault]]:
    """The indicators of a file that are right, and every fault with its line."""
    if len(text) > LARGEST:
        return Indicators(), [Fault(1, f"the file has {len(text):,} characters, {LARGEST:,} at most")]
    try:
        tables = tomllib.loads(text)
    except ValueError as error:
        return Indicators(), [Fault(error_line(error), f"not TOML: {error}")]
    except RecursionError:
        return Indicators(), [Fault(1, "not TOML: nested too deeply")]
    lines = toml_lines(text)
    faults = [
        Fault(lines.at(key), f"unknown key {one_line(key, 40)}; the file holds [[indicator]] tables")
        for key in tables
        if key != "indicator"
    ]
    rows = tables.get("indicator", [])
    if not isinstance(rows, list):
        return Indicators(), [*faults, Fault(lines.at("indicator"), "indicator is no list of tables; write [[indicator]]")]
    found: dict[str, Indicator] = {}
    for number, row in enumerate(rows):
        wrong = _faults(row, number, lines, labels)
        if not wrong and row["name"] in found:
            wrong = [Fault(lines.at("indicator", number, "name"), f"there are two indicators {row['name']!r}")]
        if not wrong:
            found[row["name"]] = Indicator.model_validate(row)
        faults += wrong
    return Indicators(tuple(found.values())), faults


def sample_faults(indicators: Indicators, lines: Lines) -> list[Fault]:
    """The samples of `test` without a find, and those of `not_test` with one; lines: of the file they were read from."""
    faults = []
    for number, one in enumerate(indicators.indicators):
        alone = Indicators((one,))
        for kind, wanted in (("test", True), ("not_test", False)):
            for at, sample in enumerate(getattr(one, kind)):
                found = alone.find(sample)
                if bool(found) != wanted:
                    said = f"is found in {one_line(found[0].quote, 40)!r}" if found else "is not found in it"
                    where = lines.at("indicator", number, kind, at)
                    faults.append(Fault(where, f"{kind} of {one.name}: {one_line(sample, 60)!r}: the indicator {said}"))
    return faults


def error_line(error: ValueError) -> int:
    """The line that tomllib tells; 1 where it tells none."""
    found = re.search(r"at line (\d+)", str(error))
    return int(found.group(1)) if found else 1


@dataclass(frozen=True, slots=True)
class _Search:
    """One indicator's compiled forms: for each keyword its longest word, looked for first, and its pattern."""

    keywords: tuple[tuple[str, re.Pattern[str]], ...]
    patterns: tuple[re.Pattern[str], ...]

    @classmethod
    def of(cls, one: Indicator) -> "_Search":
        keywords = tuple((max(plain(phrase).split(), key=len), _keyword(phrase)) for phrase in one.keywords)
        return cls(keywords, tuple(checked(pattern) for pattern in one.patterns))

    def spans(self, seen: str, folded: str) -> list[tuple[int, int]]:
        found = [match.span() for longest, keyword in self.keywords if longest in folded for match in keyword.finditer(folded)]
        for pattern in self.patterns:
            found += [match.span() for match in pattern.finditer(seen, 0, PATTERN_CHARS) if match.end() > match.start()]
        return found


def _faults(row: Any, number: int, lines: Lines, labels: Sequence[str]) -> list[Fault]:
    if not isinstance(row, dict):
        return [Fault(lines.at("indicator", number), "is no table; write [[indicator]]")]
    try:
        one = Indicator.model_validate(row)
    except ValidationError as error:
        name = one_line(str(row.get("name", "")), 60) or f"number {number + 1}"
        return [
            Fault(
                lines.at("indicator", number, *fault["loc"]),
                f"indicator {name}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}",
            )
            for fault in error.errors()
        ]
    return [
        Fault(lines.at("indicator", number, *path), f"indicator {one.name}: {text}") for text, *path in _own_faults(one, labels)
    ]


def _own_faults(one: Indicator, labels: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """What is wrong within one indicator, each with the path of where."""
    if not one.keywords and not one.patterns:
        yield ("has neither keywords nor patterns",)
    for label in (one.label, *one.against):
        if labels and label not in labels:
            yield f"{one_line(label, 40)!r} is no label of the pack", "label" if label == one.label else "against"
    for at, phrase in enumerate(one.keywords):
        if not re.search(r"\w", plain(phrase)):
            yield "a keyword without letters or digits", "keywords", at
    for at, pattern in enumerate(one.patterns):
        try:
            checked(pattern)
        except ValueError as error:
            yield str(error), "patterns", at


def _keyword(phrase: str) -> re.Pattern[str]:
    words = r"\s{1,4}".join(map(re.escape, plain(phrase).split()))
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
