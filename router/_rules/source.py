"""Where the keys of a rules file stand: line and column of each header and value of `[[rule]]` and `[[rule.test]]`.

`tomllib` reads the values and tells no places; this finds them in a text that it has accepted. A place also maps an offset
within a string's value back to the file. Not covered: rules written as inline tables (`rule = [{...}]`), whose faults are
told at the line of the array.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_HEADER = re.compile(r"\[\[\s*(rule)\s*(?:\.\s*(test)\s*)?\]\]")
_OTHER_HEADER = re.compile(r"\[[^\n]*")
_KEY = re.compile(r"""(?P<bare>[\w.-]+)[ \t]*=[ \t]*|["'](?P<quoted>[^"'\n]*)["'][ \t]*=[ \t]*""")
_BLANK = re.compile(r"(?:\s+|#[^\n]*)+")
_STRING = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[ \t]*\n\s*|.)", re.DOTALL)

Key = tuple[int, int, str]
"""Number of the rule, of its test (-1: the rule itself), and the key ("" the header)."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the file: line and column from 1, the line's text, and where the value begins, from 0."""

    line: int
    column: int
    excerpt: str = ""
    start: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """A rules file with the places of its keys."""

    text: str
    places: Mapping[Key, Place]

    def place(self, rule: int, test: int = -1, key: str = "") -> Place:
        """Where a key's value begins, else its table, else the file."""
        for wanted in ((rule, test, key), (rule, test, ""), (rule, -1, "")):
            if wanted in self.places:
                return self.places[wanted]
        return Place(1, 1)

    def within(self, place: Place, offset: int) -> Place:
        """Where the character `offset` of the string value at `place` stands."""
        match = _STRING.match(self.text, place.start) if place.excerpt else None
        return place if match is None else at(self.text, _offset_in_source(match.group(), offset) + place.start)


def read(text: str) -> Source:
    """The places of a text that is valid TOML. O(n)."""
    places: dict[Key, Place] = {}
    rule, test, position, ours = -1, -1, 0, False
    while position < len(text):
        if blank := _BLANK.match(text, position):
            position = blank.end()
        elif header := _HEADER.match(text, position):
            rule, test = (rule, test + 1) if header.group(2) else (rule + 1, -1)
            places[(rule, test, "")] = at(text, position)
            position, ours = header.end(), True
        elif key := _KEY.match(text, position):
            if ours:
                places[(rule, test, key.group("bare") or key.group("quoted"))] = at(text, key.end())
            position = _after_value(text, key.end())
        else:
            other = _OTHER_HEADER.match(text, position)
            position, ours = (other.end(), False) if other else (position + 1, ours)
    return Source(text, places)


def at(text: str, position: int) -> Place:
    """The place of a character."""
    begin = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return Place(text.count("\n", 0, position) + 1, position - begin + 1, text[begin : end if end >= 0 else None], position)


def _after_value(text: str, position: int) -> int:
    depth = 0
    while position < len(text):
        char = text[position]
        if char in "\"'":
            match = _STRING.match(text, position)
            position = match.end() if match else position + 1
        elif char == "#":
            position = _line_end(text, position)
        elif char == "\n" and not depth:
            return position
        else:
            depth += (char in "[{") - (char in "]}")
            position += 1
    return position


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return end if end >= 0 else len(text)


def _offset_in_source(literal: str, offset: int) -> int:
    quotes = 3 if literal[:3] in ('"""', "'''") else 1
    position = quotes + (quotes == 3 and literal[3:4] == "\n")
    escapes = literal[0] == '"'
    while offset > 0 and position < len(literal):
        escape = _ESCAPE.match(literal, position) if escapes else None
        offset -= 0 if escape and "\n" in escape.group() else 1
        position = escape.end() if escape else position + 1
    return min(position, len(literal) - 1)
