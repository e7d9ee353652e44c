"""What the beginning of a JSON text says: complete values as they are, an unfinished text as far as it goes.

Not covered: mending JSON that is wrong before its end.
"""

import json
import re
from typing import Any

_SCALAR = re.compile(r"[^\s,\]}]+")
_SPACE = re.compile(r"[\s,:]*")
DEPTH = 100
NOTHING: Any = object()
"""Where a value would stand, nothing usable does."""


def partial(text: str) -> Any:
    """The value that the text begins, None where it begins none."""
    value, _ = _value(text, _skip(text, 0), 0)
    return None if value is NOTHING else value


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _value(text: str, at: int, depth: int) -> tuple[Any, int]:
    if at >= len(text) or depth > DEPTH:
        return NOTHING, len(text)
    if text[at] == '"':
        return _string(text, at)
    if text[at] == "{":
        return _object(text, at + 1, depth)
    if text[at] == "[":
        return _array(text, at + 1, depth)
    found = _SCALAR.match(text, at)
    if found is None or found.end() == len(text):  # a number that ends with the text may have gone on
        return NOTHING, len(text)
    try:
        return json.loads(found[0]), found.end()
    except ValueError:
        return NOTHING, len(text)


def _string(text: str, at: int) -> tuple[Any, int]:
    end = at + 1
    while end < len(text) and text[end] != '"':
        end += 2 if text[end] == "\\" else 1
    whole = end < len(text)
    body = text[at + 1 : end]
    for cut in range(1 if whole else 6):  # an escape that was cut through is left out
        try:
            return json.loads(f'"{body[: len(body) - cut]}"', strict=False), end + 1
        except ValueError:
            continue
    return NOTHING, len(text)


def _object(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    at = _skip(text, at)
    while at < len(text) and text[at] != "}":
        if text[at] != '"':
            return found, len(text)
        name, at = _string(text, at)
        value, at = _value(text, _skip(text, at), depth + 1)
        if value is NOTHING or not isinstance(name, str):
            return found, len(text)
        found[name] = value
        at = _skip(text, at)
    return found, at + 1


def _array(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    at = _skip(text, at)
    while at < len(text) and text[at] != "]":
        value, at = _value(text, at, depth + 1)
        if value is NOTHING:
            return found, len(text)
        found.append(value)
        at = _skip(text, at)
    return found, at + 1
