"""What stands before a call: bounds on its arguments, and a form of it in which the user who is asked sees everything.

Not covered: letters that merely look like others.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from data.errors import ToolError

ARGUMENT_CHARS = 200_000
ARGUMENT_COUNT = 10_000
ARGUMENT_DEPTH = 32
NUMBER_BITS = 4_096
"""Bounds of what a call may carry; beyond them it is refused before anything looks at it."""
REVIEWED_CHARS = 20_000
"""Characters of a call with side effects at most: the user is shown all of it."""

_GAP = re.compile(r"(?<=[^\s│])[ \t]{17,}|(?<=\n│ )[ \t]{65,}")
_EMPTY_LINES = re.compile(r"(?:\n│?[ \t]*(?=\n)){4,}")
_HALF = re.compile("[\ud800-\udfff]")
_BLANK = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
"""Characters of visible categories that show as nothing (Unicode DerivedCoreProperties, Default_Ignorable_Code_Point)."""


def visible(text: str) -> str:
    """Every character of the text to be seen: control and format characters escaped, long gaps counted."""
    shown = "".join(char if _is_seen(char) else f"⟦U+{ord(char):04X}⟧" for char in text)
    shown = _GAP.sub(lambda found: f"⟦{len(found[0])} spaces⟧", shown)
    return _EMPTY_LINES.sub(lambda found: f"\n⟦{found[0].count(chr(10))} empty lines⟧", shown)


def _is_seen(char: str) -> bool:
    """Letters, marks, numbers, signs and the plain white space; other white space, format, private and unassigned are not."""
    if char in " \t\n" or (char.isascii() and char.isprintable()):
        return True
    return unicodedata.category(char)[0] not in "CZ" and char not in _BLANK


def require_bounded(arguments: object) -> None:
    """Raise ToolError for arguments that no tool takes: no object, too large, too deep, names or texts that are none."""
    if not isinstance(arguments, Mapping):
        raise ToolError("the arguments are not an object", "give them by name")
    left: list[tuple[object, int]] = [(arguments, 0)]
    count = chars = 0
    while left:
        value, depth = left.pop()
        count += 1
        if isinstance(value, str):
            chars += len(value)
        elif isinstance(value, Mapping):
            left += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list | tuple):
            left += [(item, depth + 1) for item in value]
        if depth > ARGUMENT_DEPTH or count > ARGUMENT_COUNT or chars > ARGUMENT_CHARS:
            limits = f"{ARGUMENT_CHARS:,} characters, {ARGUMENT_COUNT:,} values, {ARGUMENT_DEPTH} levels"
            raise ToolError("the arguments are too large", f"at most {limits}")
        _require_usable(value)


def _require_usable(value: object) -> None:
    if isinstance(value, Mapping) and not all(isinstance(key, str) for key in value):
        raise ToolError("an argument's name is not text", "give arguments by name")
    if isinstance(value, int) and value.bit_length() > NUMBER_BITS:
        raise ToolError("a number among the arguments has too many digits")
    if isinstance(value, str) and _HALF.search(value):
        raise ToolError("a text among the arguments holds half a character (a lone surrogate)")


def require_reviewable(arguments: Mapping[str, Any]) -> None:
    """Raise ToolError where a user could not read what would run."""
    text = json.dumps(arguments, ensure_ascii=False, default=str)
    if len(text) > REVIEWED_CHARS:
        raise ToolError(f"{len(text):,} characters are too many for the user to review", f"at most {REVIEWED_CHARS:,}")
