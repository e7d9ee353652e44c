"""JSON: one value a line (.jsonl, .ndjson), or a file that holds a list, one object a line, or one object (.json).

Read in the memory of one record: a line or list element beyond the limit is refused without being held, and so is what a parser
could stumble over: deep nesting, numbers beyond a float, NaN, keys given twice, half surrogate pairs. An object of lists is read
as splits by name, as CLINC150 writes them. Not covered: other encodings than UTF-8.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from data.datasets._sources.base import BOM, LARGEST_RECORD_BYTES, SPLITS, Broken, Record, excerpt, skip_line, too_large
from data.datasets._sources.shapes import Shaper
from data.errors import InputError
from data.sanitise import one_line

DEEPEST = 100
"""Levels of nesting."""
MOST_PARTS = 500_000
"""Lists and objects of one record: an empty one takes two bytes in the file and over sixty in memory."""
_CHUNK = 64 << 10
_MARKS = re.compile(rb'["\[\]{},]')
_IN_STRING = re.compile(rb'["\\]')
_BRACKETS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class JsonReader:
    """Values of a JSON file. by_line: one a line, whatever the first looks like."""

    by_line: bool
    shaper: Shaper

    def records(self, file: BinaryIO, name: str) -> Iterator[Record | Broken]:
        """Every value in order, numbered by line, or by place in the list."""
        begin = file.read(_CHUNK)
        if begin.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InputError(f"{name} is UTF-16, not UTF-8", "save it as UTF-8")
        start = len(BOM) if begin.startswith(BOM) else 0
        first = begin[start:].lstrip()[:1]
        file.seek(start)
        if not self.by_line and first == b"[":
            yield from _list(file, start)
        elif not self.by_line and first == b"{" and (whole := self._whole(file, start)) is not None:
            yield from whole
        else:
            file.seek(start)
            yield from _by_line(file, start)

    def _whole(self, file: BinaryIO, start: int) -> list[Record] | None:
        """The records of a file that is one object; None where it is not one, but perhaps one a line."""
        content = file.read(LARGEST_RECORD_BYTES + 1)
        if len(content) > LARGEST_RECORD_BYTES:
            return None
        try:
            value = parse(content, start)
        except InputError:
            return None
        parts = value.values() if isinstance(value, dict) else ()
        if not parts or self.shaper.recognises(value) or not all(isinstance(part, list) for part in parts):
            return [Record(1, value)]
        if not all(isinstance(one, list | dict) for part in parts for one in part[:1]):
            return [Record(1, value)]
        named = [(SPLITS.get(str(name).casefold(), ""), one) for name, part in value.items() for one in part]
        return [Record(number, one, split) for number, (split, one) in enumerate(named, start=1)]  # type: ignore[arg-type]


def parse(line: bytes, offset: int = 0) -> Any:
    """The value of one JSON text. Raises InputError with the reason; offset: of its first byte, for the message."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 at byte {offset + error.start}") from error
    brackets = line.count(b"[") + line.count(b"{")
    if brackets > MOST_PARTS:
        raise InputError(f"has {brackets:,} lists and objects (at most {MOST_PARTS:,})")
    if brackets > DEEPEST and _depth(line) > DEEPEST:
        raise InputError(f"is nested deeper than {DEEPEST} levels")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InputError(f"is not valid JSON: {error.msg} at character {error.pos + 1}") from error
    except RecursionError as error:
        raise InputError("is nested too deep") from error
    except ValueError as error:
        raise InputError(f"is not valid JSON: {one_line(str(error), 100)}") from error


def _by_line(file: BinaryIO, start: int) -> Iterator[Record | Broken]:
    number, offset = 0, start
    while line := file.readline(LARGEST_RECORD_BYTES + 1):
        number += 1
        size = len(line)
        if size > LARGEST_RECORD_BYTES and not line.endswith(b"\n"):
            size += skip_line(file)
        if size > LARGEST_RECORD_BYTES:
            yield Broken(number, too_large(size), excerpt(line))
        elif line.strip():
            yield _record(number, line, offset)
        offset += size


def _list(file: BinaryIO, start: int) -> Iterator[Record | Broken]:
    number = 0
    for number, element in enumerate(_Elements().of(file, start), start=1):
        if element.size > LARGEST_RECORD_BYTES:
            yield Broken(number, too_large(element.size), excerpt(bytes(element.held)))
        elif element.fault:
            yield Broken(number, element.fault, excerpt(bytes(element.held)))
        else:
            yield _record(number, bytes(element.held), element.offset)


def _record(number: int, line: bytes, offset: int) -> Record | Broken:
    try:
        return Record(number, parse(line, offset))
    except InputError as error:
        return Broken(number, error.what, excerpt(line))


@dataclass(slots=True)
class _Element:
    """Bytes between two commas of the outer list; held is cut where it is too large. fault: why it is no element."""

    offset: int
    held: bytearray = field(default_factory=bytearray)
    size: int = 0
    fault: str = ""

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self.size <= LARGEST_RECORD_BYTES:
            self.held += part
        else:
            del self.held[1024:]

    @property
    def blank(self) -> bool:
        return not self.fault and self.size <= LARGEST_RECORD_BYTES and not self.held.strip()


class _Elements:
    """Cuts a list that may be larger than memory at its own commas, in one pass."""

    def __init__(self) -> None:
        self._depth = 0
        self._string = False
        self._escaped = False

    def of(self, file: BinaryIO, offset: int) -> Iterator[_Element]:
        """The elements; what follows the list's end, or an end that never comes, is one with a fault."""
        element = _Element(offset)
        seen = 0
        while chunk := file.read(_CHUNK):
            begin = 0
            for place, sign in self._marks(chunk):
                if self._depth == 1 and sign == b"[" and not seen:
                    element, begin = _Element(offset + place + 1), place + 1
                    seen = 1
                    continue
                element.add(chunk[begin:place])
                begin = place + 1
                if sign == b"," or not element.blank:
                    yield element
                element = _Element(offset + begin)
                if self._depth == 0:
                    yield from self._rest(file, sign, chunk[begin:], offset + begin)
                    return
            element.add(chunk[begin:])
            offset += len(chunk)
        element.fault = "the list ends in the middle"
        yield element

    def _rest(self, file: BinaryIO, sign: bytes, begin: bytes, offset: int) -> Iterator[_Element]:
        if sign != b"]":
            yield _Element(offset, fault="the list is closed by a brace")
        rest = begin + file.read(_CHUNK)
        if rest.strip():
            element = _Element(offset, fault="stands after the end of the list")
            element.add(rest)
            yield element

    def _marks(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Place and sign of the outer list's own brackets and commas."""
        place = 0
        while place < len(chunk):
            if self._escaped:
                self._escaped = False
                place += 1
                continue
            found = (_IN_STRING if self._string else _MARKS).search(chunk, place)
            if found is None:
                return
            place = found.end()
            if self._counts(found.group()):
                yield found.start(), found.group()

    def _counts(self, sign: bytes) -> bool:
        """Follow one sign; whether it opens, divides or closes the outer list."""
        if self._string:
            self._string, self._escaped = sign != b'"', sign == b"\\"
            return False
        if sign == b'"':
            self._string = True
            return False
        if sign in (b"[", b"{"):
            self._depth += 1
            return self._depth == 1
        if sign != b",":
            self._depth -= 1
            return self._depth == 0
        return self._depth == 1


def _depth(line: bytes) -> int:
    """How deep the brackets outside strings go; counting ends beyond DEEPEST."""
    depth = deepest = 0
    for found in _BRACKETS.finditer(line):
        sign = found.group()[:1]
        if sign in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
            if deepest > DEEPEST:
                break
        elif sign != b'"':
            depth -= 1
    return deepest


def _float(said: str) -> float:
    number = float(said)
    if not math.isfinite(number):
        raise ValueError(f"the number {said[:40]} is out of range")
    return number


def _integer(said: str) -> int:
    if len(said) > 400:
        raise ValueError(f"a number of {len(said)} digits")
    return int(said)


def _constant(said: str) -> Any:
    raise ValueError(f"{said} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = counts.most_common(1)[0][0]
        raise ValueError(f"the key {one_line(twice, 40)!r} is given twice")
    return found


_DECODER = json.JSONDecoder(parse_float=_float, parse_int=_integer, parse_constant=_constant, object_pairs_hook=_object)
