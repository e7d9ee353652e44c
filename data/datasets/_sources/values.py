"""Single values of a record in the types of a row: texts, labels, thumbs, outputs, and whole rows in this program's own JSON.

Everything here raises InputError with the reason for which the record is refused.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import PurePath, PureWindowsPath
from typing import Any, get_args

from data.chat import Role
from data.datasets.rows import ReasoningSource, Row, Shape, Split
from data.errors import InputError
from data.sanitise import one_line

Fields = dict[str, Any]
"""A record by its keys, case-folded."""
_UP = ("up", "true", "+1", "1", "1.0", "yes", "good", "👍")
_DOWN = ("down", "false", "-1", "0", "-1.0", "0.0", "no", "bad", "👎")
_TEXTS_OF_A_ROW = ("text", "label", "completion", "rejected", "comment", "reasoning", "reasoning_by", "group")


def first(fields: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The value of the first of these names that has one, or None."""
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def text(value: Any, name: str) -> str:
    """A text; null is none."""
    if isinstance(value, str):
        return value
    raise InputError(f"its {name} is {_kind(value)}, no text")


def label_text(value: Any) -> str:
    """A label as text, "" for none: a string, a number, or a list of exactly one."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, list | tuple) and len(value) == 1:
        return label_text(value[0])
    said = f"a list of {len(value)}" if isinstance(value, list | tuple) else _kind(value)
    raise InputError(f"its label is {said}, not one label")


def labels(value: Any) -> tuple[str, ...]:
    """Any number of labels: a list, a JSON list as text, or text with commas, semicolons or bars between."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = _split(value)
    if not isinstance(value, list | tuple):
        raise InputError(f"its labels are {_kind(value)}, no list")
    return tuple(found for one in value if (found := label_text(one)))


def thumb(value: Any) -> bool:
    """Whether a judgement says good or bad."""
    said = str(value).strip().casefold()
    if said in _UP:
        return True
    if said in _DOWN:
        return False
    raise InputError(f"its judgement {one_line(str(value), 40)!r} is neither up nor down")


def mapping(value: Any) -> dict[str, Any]:
    """A domain's output: an object, or an object as JSON text; {} for none."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InputError("its output is a text that is no JSON object") from error
    if not isinstance(value, Mapping):
        raise InputError(f"its output is {_kind(value)}, no object")
    return dict(value)


def seconds(value: Any) -> float:
    """Seconds since 1970, 0.0 where unknown."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    return float(value) if usable else 0.0


def own_row(found: Mapping[str, Any], licence: str) -> Row:
    """A row in this program's own JSON, with its own origin; licence: where it has none."""
    try:
        row = Row.from_dict(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"is no row: {one_line(str(error), 100)}") from error
    fault = next((said for said in _faults(row) if said), "")
    if fault:
        raise InputError(f"is no row: {fault}")
    name = row.origin.source
    name = PurePath(name).name if PurePath(name).is_absolute() or PureWindowsPath(name).is_absolute() else name
    return replace(row, origin=replace(row.origin, source=name, licence=row.origin.licence or licence), at=float(row.at))


def _faults(row: Row) -> Iterable[str]:
    yield "" if row.shape in get_args(Shape) else f"the shape {one_line(str(row.shape), 40)!r} is unknown"
    for name in _TEXTS_OF_A_ROW:
        yield "" if isinstance(getattr(row, name), str) else f"{name} is no text"
    for message in row.before:
        yield "" if message.role in get_args(Role) else f"the role {one_line(str(message.role), 40)!r} is unknown"
        yield "" if isinstance(message.content, str) and isinstance(message.thinking, str) else "a message is no text"
    yield "" if isinstance(row.output, Mapping) else "output is no object"
    yield "" if row.thumb is None or isinstance(row.thumb, bool) else "thumb is neither true nor false"
    yield "" if all(isinstance(one, str) for one in (*row.correct_labels, *row.incorrect_labels)) else "a label is no text"
    yield "" if row.split in ("", *get_args(Split)) else f"the split {one_line(str(row.split), 40)!r} is unknown"
    yield "" if row.reasoning_source in get_args(ReasoningSource) else "reasoning_source is unknown"
    number = isinstance(row.at, int | float) and math.isfinite(row.at)
    yield "" if number and isinstance(row.origin.number, int) else "at or the origin's number is no number"
    yield "" if row.origin.source else "its origin names no source"
    yield "" if isinstance(row.origin.source, str) and isinstance(row.origin.licence, str) else "the origin is no text"


def _split(value: str) -> list[Any]:
    if value.lstrip().startswith("["):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InputError("its labels are a text that is no JSON list") from error
        return found if isinstance(found, list) else [found]
    separator = next((sign for sign in "|;," if sign in value), ",")
    return value.split(separator)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object", bytes: "bytes"}
    return names.get(type(value), type(value).__name__)
