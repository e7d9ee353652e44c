"""Lines cut into chunks of about a size along their structure, with a little overlap where no structure parts them.

Markdown is cut before headings, code before definitions, everything else between paragraphs; a page ends a chunk always. No
line is split unless it is longer than a chunk. Every line of a document is in one chunk at least, and no chunk is longer
than the size, so that the encoder's window (256 tokens) holds the default one. Not covered: what is kept of them (the store).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data.store.chunks import Piece
from router.documents.reading import Kind

CUT = "1"
"""The version of this cutting: documents cut by another one are cut anew when they are added again."""
_PAGE, _SECTION, _PARAGRAPH, _NONE = 3, 2, 1, 0  # how strongly a line begins something new
_LEAST = {_SECTION: 3, _PARAGRAPH: 2}  # a chunk ends there once it is a 3rd, or half, of the size
_OVERLAP = 8  # at most an 8th of the size is repeated
_HEADING_CHARS = 120
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_DEFINITION = re.compile(
    r"(?:export |default |public |private |protected |internal |static |final |abstract |async |pub(?:\([^)]*\))? |unsafe )*"
    r"(?:def|class|fn|func|function|impl|struct|enum|trait|interface|type|module|namespace|object|sub|package|CREATE|create)\b"
)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A line, or a part of one that is longer than a chunk (`goes_on`: it is not the first part)."""

    line: int
    text: str
    goes_on: bool = False


def cut(lines: Sequence[str], kind: Kind, size: int, pages: Sequence[int] = ()) -> list[Piece]:
    """The chunks of a document in order, each of at most `size` characters (200 or more). pages: the page of each line."""
    units = [unit for number, line in enumerate(lines) for unit in _units(number, line, size)]
    strengths, headings = _structure(lines, kind, pages)
    found = []
    start = 0
    while start < len(units):
        end = _end(units, strengths, start, size)
        first, last = units[start].line, units[end - 1].line
        text = "".join(("" if unit.goes_on or unit is units[start] else "\n") + unit.text for unit in units[start:end])
        found.append(Piece(first + 1, last + 1, text, pages[first] if pages else 0, headings[first]))
        start = _next_start(units, strengths, start, end, size)
    return found


def _units(number: int, line: str, size: int) -> Iterator[_Unit]:
    at = 0
    while True:
        stop = at + size
        if stop < len(line):
            blank = line.rfind(" ", at + size // 2, stop)
            stop = blank + 1 if blank > 0 else stop
        yield _Unit(number, line[at:stop], goes_on=at > 0)
        at = stop
        if at >= len(line):
            return


def _end(units: Sequence[_Unit], strengths: Sequence[int], start: int, size: int) -> int:
    """Where the chunk that begins at unit `start` ends, exclusive: at the strongest place that is far enough in."""
    length, end = len(units[start].text), start + 1
    best = {_PARAGRAPH: 0, _SECTION: 0}
    while end < len(units):
        strength = _NONE if units[end].goes_on else strengths[units[end].line]
        if strength == _PAGE or (strength == _SECTION and length * _LEAST[_SECTION] >= size):
            return end
        if strength in best and length * _LEAST[strength] >= size:
            best[strength] = end
        length += len(units[end].text) + (not units[end].goes_on)
        if length > size:
            return best[_SECTION] or best[_PARAGRAPH] or end
        end += 1
    return end


def _next_start(units: Sequence[_Unit], strengths: Sequence[int], start: int, end: int, size: int) -> int:
    """Where the next chunk begins: at `end`, or a few whole lines before it where nothing new begins there."""
    if end == len(units) or units[end].goes_on or strengths[units[end].line] >= _SECTION:
        return end
    room, begin = size // _OVERLAP, end
    while begin - 1 > start and not units[begin - 1].goes_on and len(units[begin - 1].text) < room:
        begin -= 1
        room -= len(units[begin].text) + 1
        if strengths[units[begin].line] >= _SECTION:
            break
    return begin if any(unit.text.strip() for unit in units[begin:end]) else end


def _structure(lines: Sequence[str], kind: Kind, pages: Sequence[int]) -> tuple[list[int], list[str]]:
    """For each line how strongly it begins something new, and what stands above it."""
    if kind == "markdown":
        strengths, headings = _markdown(lines)
    elif kind == "code":
        strengths, headings = _code(lines)
    else:
        strengths = _paragraphs(lines)
        headings = [_short(lines[0])] * len(lines) if kind == "table" else [""] * len(lines)
    for number in range(1, len(pages)):
        if pages[number] != pages[number - 1]:
            strengths[number] = _PAGE
    return strengths, headings


def _paragraphs(lines: Sequence[str]) -> list[int]:
    blank = [not line.strip() for line in lines]
    return [_PARAGRAPH if number and blank[number - 1] and not blank[number] else _NONE for number in range(len(lines))]


def _markdown(lines: Sequence[str]) -> tuple[list[int], list[str]]:
    strengths, headings = _paragraphs(lines), []
    path: list[tuple[int, str]] = []
    fence = ""
    for number, line in enumerate(lines):
        marks = _FENCE.match(line)
        if fence:
            strengths[number] = _NONE
            if marks and marks[1].startswith(fence) and not line.strip(" `~"):
                fence = ""
        elif marks:
            fence = marks[1]
        else:
            level, title = _heading(lines, number)
            if level:
                strengths[number] = _SECTION
                path = [*[one for one in path if one[0] < level], (level, title)]
        headings.append(" › ".join(title for _, title in path if title))
    return strengths, headings


def _heading(lines: Sequence[str], number: int) -> tuple[int, str]:
    """The level and title of the heading that begins on a line; level 0 for none."""
    atx = _ATX.match(lines[number][:1000])
    if atx:
        return len(atx[1]), _short(atx[2] or "")
    if number + 1 < len(lines) and lines[number].strip() and not (number and lines[number - 1].strip()):
        under = _SETEXT.match(lines[number + 1][:1000])
        if under:
            return (1 if under[1][0] == "=" else 2), _short(lines[number])
    return 0, ""


def _code(lines: Sequence[str]) -> tuple[list[int], list[str]]:
    strengths, headings = _paragraphs(lines), []
    heading = ""
    for number, line in enumerate(lines):
        if strengths[number] and not line[:1].isspace():
            strengths[number] = _SECTION  # whatever begins at the margin after a blank line, its comments and decorators included
        if _DEFINITION.match(line[:1000]):
            heading = _short(line)
        headings.append(heading)
    return strengths, headings


def _short(line: str) -> str:
    plain = " ".join(line[: _HEADING_CHARS * 4].split())
    return plain if len(plain) <= _HEADING_CHARS else plain[: _HEADING_CHARS - 1] + "…"
