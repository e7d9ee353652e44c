"""CSV and TSV, read record by record in binary: any size of file in the memory of one record.

Quoting follows RFC 4180, strictly: a quote that is never closed, or closed in the middle of a field, refuses the record in which
it stands, and reading goes on at the next line. A TSV has quotes only where its first lines show doubled ones (the IANA format
has none). Without a header the longest column is the text and the one with the fewest values the label, where values repeat.
Not covered: other separators than comma, semicolon and tab; lines that end in CR alone.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal

from data.datasets._sources.base import BOM, LARGEST_RECORD_BYTES, Broken, Record, excerpt, skip_line, too_large
from data.datasets._sources.shapes import Shaper
from data.errors import InputError
from data.sanitise import one_line

SAMPLE_BYTES = 256 << 10
"""Of the file's beginning, from which separator, quoting and header are told."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_WELL_QUOTED = re.compile(r'"(?:[^"]|"")*+"')


@dataclass(frozen=True, slots=True)
class _Layout:
    separator: str
    quoted: bool
    columns: tuple[str, ...]
    header: bool
    start: int


@dataclass(frozen=True, slots=True)
class DelimitedReader:
    """Records of a CSV or TSV file, as dicts by column. labelled: a file without a label column is an error."""

    kind: Literal["csv", "tsv"]
    shaper: Shaper
    labelled: bool = False

    def records(self, file: BinaryIO, name: str) -> Iterator[Record | Broken]:
        """Every record in order, numbered from 1 without the header. Raises InputError where the columns are wrong."""
        layout = self._layout(file, name)
        file.seek(layout.start)
        found = _records(file, layout)
        if layout.header:
            next(found)
        shift = int(layout.header)
        for record in found:
            number = record.number - shift
            if isinstance(record, Broken):
                yield Broken(number, record.reason, record.excerpt)
            elif len(record.value) != len(layout.columns):
                reason = f"has {len(record.value)} fields where the {'header' if layout.header else 'first row'} has"
                yield Broken(number, f"{reason} {len(layout.columns)}", excerpt(layout.separator.join(record.value)))
            else:
                yield Record(number, dict(zip(layout.columns, record.value, strict=True)))

    def _layout(self, file: BinaryIO, name: str) -> _Layout:
        sample = file.read(SAMPLE_BYTES)
        if sample.startswith(_UTF16):
            raise InputError(f"{name} is UTF-16, not UTF-8", "save it as UTF-8")
        start = len(BOM) if sample.startswith(BOM) else 0
        text = sample[start:].decode("utf-8", "replace")
        if not text.strip():
            raise InputError(f"{name} is empty", "give a file with a header and rows")
        if "\n" not in text and text.count("\r") > 1:
            raise InputError(f"the lines of {name} end in CR alone", "save it with LF or CR LF line ends")
        lines = list(io.StringIO(text, newline="\n"))
        lines = lines[:-1] if len(sample) == SAMPLE_BYTES and len(lines) > 1 else lines
        separator = "\t" if self.kind == "tsv" else _separator(lines[0])
        quoted = self.kind == "csv" or _has_quotes(lines)
        rows = [row for row in _parsed(lines, separator, quoted) if row]
        if not rows:
            raise InputError(f"the first row of {name} cannot be read", "check its quotes and its separator")
        columns, header = self._columns(name, rows)
        return _Layout(separator, quoted, columns, header, start)

    def _columns(self, name: str, rows: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], bool]:
        """The columns' names, and whether the first row is what names them."""
        first = tuple(cell.strip() or f"column {place}" for place, cell in enumerate(rows[0], start=1))
        if self.shaper.text_column.isdigit() and self.shaper.text_column not in first:
            return self._by_number(name, len(first)), False
        if not self.shaper.recognises(first) and not self.shaper.names_columns and (guessed := _guess(rows)):
            return guessed, False
        if twice := next((cell for cell in first if first.count(cell) > 1), ""):
            raise InputError(f"{name} has the column {one_line(twice, 40)!r} twice", "name its columns apart")
        self.shaper.require(name, first, self.labelled)
        return first, True

    def _by_number(self, name: str, count: int) -> tuple[str, ...]:
        """Names for the columns of a file without a header, by --text-column and --label-column as numbers from 1."""
        columns = [str(place) for place in range(1, count + 1)]
        self.shaper.require(name, columns, self.labelled)
        return tuple(columns)


class _Lines:
    """Gives csv.reader a line at a time, knows where the record began, and goes back there after a fault.

    Going back is bounded: at most as many bytes are read again as were read before, and four records more, so that no file can
    make reading quadratic.
    """

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file = file
        self._at = start
        self._again = 0
        self.begin()

    def begin(self) -> None:
        """The next line begins a record."""
        self._first_end = -1
        self._count = 0
        self._taken = 0
        self._whole = True
        self.begins = b""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        room = LARGEST_RECORD_BYTES - self._taken
        line = self._file.readline(room + 1)
        if not line:
            raise StopIteration
        offset = self._at
        self._at += len(line)
        self._taken += len(line)
        self._count += 1
        self._whole = len(line) <= room or line.endswith(b"\n")
        if self._first_end < 0:
            self.begins = line[:320]
            if not self._whole:
                self._finish_line()
            self._first_end = self._at
        if self._taken > LARGEST_RECORD_BYTES:
            raise InputError(too_large(self._taken))
        if b"\0" in line:
            raise InputError(f"holds a NUL byte at byte {offset + line.index(0)}")
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"is not UTF-8 at byte {offset + error.start}") from error

    def recover(self) -> str:
        """Go on at the line after the first of the faulty record; returns what else is left out, in words."""
        self._again += self._at - self._first_end
        if self._at == self._first_end or self._again <= self._first_end + 4 * LARGEST_RECORD_BYTES:
            self._file.seek(self._first_end)
            self._at = self._first_end
            return ""
        if not self._whole:
            self._finish_line()
        return f"; the {self._count - 1} lines after it are left out too"

    def _finish_line(self) -> None:
        rest = skip_line(self._file)
        self._at += rest
        self._taken += rest
        self._whole = True


def _records(file: BinaryIO, layout: _Layout) -> Iterator[Record | Broken]:
    """The fields of every record that is not blank, numbered from 1; the header is one of them."""
    lines = _Lines(file, layout.start)
    number = 0
    reader = _reader(lines, layout.separator, layout.quoted)
    while True:
        lines.begin()
        reason = ""
        fields: list[str] = []
        try:
            fields = next(reader)
        except StopIteration:
            return
        except InputError as error:
            reason = error.what
        except csv.Error as error:
            reason = _csv_fault(str(error))
        if reason:
            number += 1
            begins = excerpt(lines.begins)
            yield Broken(number, reason + lines.recover(), begins)
            reader = _reader(lines, layout.separator, layout.quoted)
        elif fields:
            number += 1
            yield Record(number, fields)


def _reader(lines: Iterable[str], separator: str, quoted: bool) -> Iterator[list[str]]:
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_RECORD_BYTES + 1))
    return csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True)


def _csv_fault(said: str) -> str:
    if "unexpected end of data" in said:
        return "opens a quote that is never closed"
    if "expected after" in said:
        return "has text after a closing quote"
    if "new-line" in said:
        return "has a lone carriage return in an unquoted field"
    return f"is not valid CSV: {one_line(said, 120)}"


def _separator(line: str) -> str:
    bare = re.sub(r'"[^"]*"', "", line)
    return max((",", ";", "\t"), key=bare.count)  # the first of equals


def _has_quotes(lines: Sequence[str]) -> bool:
    """Whether quotes of a TSV are quoting: some field doubles them, and every field that opens one closes it."""
    opened = [cell for line in lines for cell in line.rstrip("\r\n").split("\t") if cell.startswith('"')]
    return any('""' in cell[1:-1] for cell in opened) and all(_WELL_QUOTED.fullmatch(cell) for cell in opened)


def _parsed(lines: Sequence[str], separator: str, quoted: bool) -> Iterator[list[str]]:
    """The sample's records; the first fault ends them, or an empty header is left to say what is wrong."""
    try:
        yield from _reader(lines, separator, quoted)
    except csv.Error:
        return


def _guess(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Names for the columns of a file without a header; () where the first row may be one.

    The first row is data where its label comes again in the rows after it.
    """
    width = len(rows[0])
    alike = [row for row in rows if len(row) == width]
    if width < 2 or len(alike) < 2:
        return ()
    lengths = [sum(len(row[place]) for row in alike) for place in range(width)]
    text = lengths.index(max(lengths))
    values = {place: {row[place] for row in alike} for place in range(width) if place != text}
    label = min(values, key=lambda place: len(values[place]))
    if all(row[label] != rows[0][label] for row in alike[1:]) or not rows[0][label].strip():
        return ()
    names = {text: "text", label: "label"}
    return tuple(names.get(place, f"column {place + 1}") for place in range(width))
