"""Sections of Markdown and reStructuredText with their headings.

A section reaches to the next heading of any level; its question names the headings above it. Fenced and indented code is text, not
headings. Sections with hardly any text are no records. Not covered: front matter, which is left out, and includes.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from data.datasets._sources.base import Broken
from data.datasets._sources.lessons import SHORTEST_SECTION, Lesson, write_section

_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*")
_UNDERLINE = re.compile(r"([=\-`:.'\"~^_*+#<>])\1{2,}\s*")
_LONGEST_HEADING = 200


@dataclass(frozen=True, slots=True)
class _Heading:
    """begin and end: the lines that it takes; level from 1."""

    begin: int
    end: int
    level: int
    title: str


def markdown(text: str) -> Iterator[Lesson | Broken]:
    """The sections of a Markdown file, in order."""
    lines = text.split("\n")
    yield from _lessons(lines, list(_markdown(lines)))


def restructured(text: str) -> Iterator[Lesson | Broken]:
    """The sections of a reStructuredText file, in order."""
    lines = text.split("\n")
    yield from _lessons(lines, list(_restructured(lines)))


READERS: dict[str, Callable[[str], Iterator[Lesson | Broken]]] = {".md": markdown, ".markdown": markdown, ".rst": restructured}


def _lessons(lines: Sequence[str], headings: Sequence[_Heading]) -> Iterator[Lesson]:
    above: list[_Heading] = []
    for heading, following in zip(headings, [*headings[1:], None], strict=False):
        while above and above[-1].level >= heading.level:
            above.pop()
        body = "\n".join(lines[heading.end : following.begin if following else len(lines)]).strip()
        if len(body) >= SHORTEST_SECTION:
            yield write_section(heading.title, tuple(one.title for one in above), body)
        above.append(heading)


def _markdown(lines: Sequence[str]) -> Iterator[_Heading]:
    fence = ""
    begin = _front_matter(lines)
    for place in range(begin, len(lines)):
        line = lines[place]
        if len(line) > _LONGEST_HEADING:
            continue
        if marks := _FENCE.match(line):
            fence = _toggled(fence, marks[1], line)
        elif fence:
            continue
        elif (found := _ATX.fullmatch(line)) and found[2]:
            yield _Heading(place, place + 1, len(found[1]), found[2])
        elif (under := _SETEXT.fullmatch(line)) and _is_setext(lines, place, begin):
            yield _Heading(place - 1, place + 1, 1 if under[1][0] == "=" else 2, lines[place - 1].strip())


def _toggled(fence: str, marks: str, line: str) -> str:
    """The open fence after a line of fence marks: a closing one is as long as the opening one and bare."""
    if not fence:
        return marks
    closes = marks[0] == fence[0] and len(marks) >= len(fence) and not line.strip().strip(marks[0])
    return "" if closes else fence


def _is_setext(lines: Sequence[str], place: int, begin: int) -> bool:
    """Whether the line above is a paragraph of its own: a single line of words."""
    if place <= begin:
        return False
    above = lines[place - 1]
    alone = place - 1 == begin or not lines[place - 2].strip()
    plain = bool(above.strip()) and not above.lstrip().startswith(("#", ">", "-", "*", "|", "`")) and not above.startswith("    ")
    return alone and plain and len(above) <= _LONGEST_HEADING


def _front_matter(lines: Sequence[str]) -> int:
    """The line after a YAML head, 0 where there is none."""
    if not lines or lines[0].strip() != "---":
        return 0
    return next((place + 1 for place in range(1, min(len(lines), 200)) if lines[place].strip() == "---"), 0)


def _restructured(lines: Sequence[str]) -> Iterator[_Heading]:
    """Titles by their underlines, with or without overlines; levels in the order in which the marks first come."""
    levels: dict[tuple[str, bool], int] = {}
    for place in range(1, len(lines)):
        line, above = lines[place], lines[place - 1]
        if not _UNDERLINE.fullmatch(line[: _LONGEST_HEADING + 1]) or not above.strip() or above[:1].isspace():
            continue
        over = place >= 2 and lines[place - 2].strip() == line.strip()
        begin = place - 2 if over else place - 1
        lone = begin == 0 or not lines[begin - 1].strip()
        if not lone or len(line.rstrip()) < len(above.rstrip()) or _UNDERLINE.fullmatch(above):
            continue
        level = levels.setdefault((line[0], over), len(levels) + 1)
        yield _Heading(begin, place + 1, level, above.strip())
