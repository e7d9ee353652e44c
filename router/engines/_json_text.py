"""Where things stand in a JSON text that a server wrote: the object within prose, and each plain value with its path.

Not covered: judging the values; that is the contract's.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

TRIES = 64
"""Opening braces that are tried."""
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[-+.\w]+|[{}\[\],:]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Found:
    """A JSON object in a text: text[start:end], read into `value`."""

    start: int
    end: int
    value: dict[str, Any]


def find(text: str, names: Collection[str]) -> Found | None:
    """The first object in `text` that has all the properties `names`, with whatever stands around it; None where there is none."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    for _ in range(TRIES):
        if at < 0:
            return None
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            value, end = None, at
        if isinstance(value, dict) and all(name in value for name in names):
            return Found(at, end, value)
        at = text.find("{", at + 1)
    return None


def values(text: str, found: Found) -> Iterator[tuple[str, int, int]]:
    """(path, start, end) of every string, number, true, false and null, in the order of the text.

    Paths are as contracts write them: names with dots between, and `[]` for whatever item of an array.
    """
    open_: list[tuple[str, bool]] = []  # of each array and object around: the path of its items, whether they have names
    path, name_next = "", False
    for match in _PIECE.finditer(text, found.start, found.end):
        piece = match[0]
        if piece in ("{", "["):
            open_.append((path if piece == "{" else f"{path}[]", piece == "{"))
        if piece in ("{", "[", ","):
            path, name_next = open_[-1]
        elif piece in ("}", "]"):
            open_.pop()
        elif name_next:
            path, name_next = f"{path}.{json.loads(piece)}".lstrip("."), False
        elif piece != ":":
            yield path, match.start(), match.end()
