"""Numbers between bounds as grammar, digit by digit, so that a schema's minimum and maximum hold while the number is written.

Integers are exact. Of numbers with a fraction, those between the outermost whole numbers within the bounds are covered, which
leaves out only the part beyond them (0.5 to 3.7 becomes 1 to 3). Not covered: multipleOf.
"""

import math
from collections.abc import Mapping
from typing import Any

DIGITS = 16
"""Digits of an integer at most, as in the unbounded rule."""
_MOST = 10**DIGITS - 1
_FRACTION = '("." [0-9]{1,15})?'
_ZERO = '("." "0"{1,3})?'


def integers(schema: Mapping[str, Any]) -> str | None:
    """The grammar of the integers that the schema's bounds allow, None where it has none; raises ValueError for no integer."""
    least, most = _bounds(schema, 1)
    if least is None and most is None:
        return None
    low = -_MOST if least is None else max(-_MOST, math.ceil(least))
    high = _MOST if most is None else min(_MOST, math.floor(most))
    if low > high:
        raise ValueError(f"there is no integer between {least} and {most}")
    choices = [f'"-" ({_whole(max(1, -high), -low)})'] if low < 0 else []
    choices += [_whole(max(0, low), high)] if high >= 0 else []
    return " | ".join(choices)


def numbers(schema: Mapping[str, Any]) -> str | None:
    """The grammar of numbers within the schema's bounds, None where it has none, or where they are too close together."""
    least, most = _bounds(schema, 0)
    if least is None and most is None:
        return None
    low = -_MOST if least is None else max(-_MOST, math.ceil(least))
    high = _MOST if most is None else min(_MOST, math.floor(most))
    if low > high or "exclusiveMinimum" in schema or "exclusiveMaximum" in schema:
        return _open(schema, low, high)
    choices = [f'"-" ({_parts(max(0, -high), -low)})'] if low < 0 else []
    choices += [_parts(max(0, low), high)] if high >= 0 else []
    return " | ".join(choices)


def _open(schema: Mapping[str, Any], low: int, high: int) -> str | None:
    """Above a whole number that does not itself belong; other open bounds are left to whoever reads the answer."""
    if "exclusiveMaximum" in schema or low < 0 or low >= high or schema.get("exclusiveMinimum") != low:
        return None
    above = f'"{low}." [0-9]{{0,14}} [1-9]'
    return f"{above} | {_parts(low + 1, high)}"


def _parts(low: int, high: int) -> str:
    """Numbers from `low` to `high`, none below 0: all but the last whole number with any fraction."""
    if high == _MOST:
        return f"({_whole(low, high)}) {_FRACTION}"
    last = f'"{high}" {_ZERO}'
    return f"({_whole(low, high - 1)}) {_FRACTION} | {last}" if low < high else last


def _whole(low: int, high: int) -> str:
    """Integers from `low` to `high`, none below 0."""
    shortest, longest = len(str(low)), len(str(high))
    if shortest == longest:
        return _digits(str(low), str(high))
    choices = [_digits(str(low), "9" * shortest), _digits(f"1{'0' * (longest - 1)}", str(high))]
    if longest - shortest > 1:  # all lengths between
        choices.insert(1, f"[1-9] [0-9]{{{shortest},{longest - 2}}}")
    return " | ".join(choices)


def _digits(low: str, high: str) -> str:
    """The texts of digits between two of the same length."""
    if not low:
        return ""
    rest = len(low) - 1
    if set(low[1:]) <= {"0"} and set(high[1:]) <= {"9"}:
        return f"{_range(low[0], high[0])}{f' [0-9]{{{rest}}}' if rest else ''}"
    if low[0] == high[0]:
        return f'"{low[0]}" ({_digits(low[1:], high[1:])})'
    choices = [f'"{low[0]}" ({_digits(low[1:], "9" * rest)})']
    if int(high[0]) - int(low[0]) > 1:
        choices.append(f"{_range(chr(ord(low[0]) + 1), chr(ord(high[0]) - 1))} [0-9]{{{rest}}}")
    choices.append(f'"{high[0]}" ({_digits("0" * rest, high[1:])})')
    return " | ".join(choices)


def _range(low: str, high: str) -> str:
    return f'"{low}"' if low == high else f"[{low}-{high}]"


def _bounds(schema: Mapping[str, Any], step: int) -> tuple[float | None, float | None]:
    """The least and the greatest number; open bounds are moved by `step`."""
    least = [schema[key] + (step if key == "exclusiveMinimum" and schema[key] == math.floor(schema[key]) else 0)
             for key in ("minimum", "exclusiveMinimum") if key in schema]  # fmt: skip
    most = [schema[key] - (step if key == "exclusiveMaximum" and schema[key] == math.floor(schema[key]) else 0)
            for key in ("maximum", "exclusiveMaximum") if key in schema]  # fmt: skip
    return max(least, default=None), min(most, default=None)
