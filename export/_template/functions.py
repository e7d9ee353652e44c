"""The functions of a Go template: comparisons, len, index, slice, print, printf, json, and the dates that Ollama adds.

They follow text/template/funcs.go of Go 1.26 and template.go of Ollama 0.32. Texts are counted and cut in bytes, as Go does.
Not covered: html, js, urlquery, call, toTypeScriptType, widths in printf; `and` and `or` are in `go`, which does not compute
what they do not need.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from data.errors import ModelInvalid

Value = Any
"""str, int, float, bool, None (nil), a list (slice), a dict (map), or a Record (struct)."""
NO_LIST: tuple[Value, ...] = ()
"""A slice that is nil: no items, and null in JSON."""


class Record(dict[str, Value]):
    """A struct: its fields are fixed, and asking for another is an error."""


def failure(why: str) -> ModelInvalid:
    """The error for what Go would refuse while it renders."""
    return ModelInvalid(f"the Go template does not work: {why}", "correct the template")


def truth(value: Value) -> bool:
    """Whether Go takes the value for true: not false, 0, nil or empty; a struct always is."""
    return True if isinstance(value, Record) else bool(value)


def printed(value: Value) -> str:
    """The value as an action prints it; raises ModelInvalid for lists and structs, which no chat template prints."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and 1e-4 <= abs(value) < 1e16:
        return str(value).removesuffix(".0")
    raise failure(f"a {_kind(value)} is printed")


def in_bytes(text: str) -> bytes:
    """The text as Go holds it; halves of a character that was cut are kept as such. Raises ModelInvalid for lone surrogates."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise failure("a text holds half a character") from error


def functions(today: date) -> dict[str, Callable[..., Value]]:
    """The functions by name; today: what currentDate says."""
    dates = {"currentDate": lambda *_form: today.isoformat(), "yesterdayDate": lambda *_form: (today - timedelta(1)).isoformat()}
    return dict(_FUNCTIONS) | dates


def _kind(value: Value) -> str:
    for kind, name in ((bool, "bool"), (int, "int"), (float, "float"), (str, "string"), (Record, "struct"), (dict, "map")):
        if isinstance(value, kind):
            return name
    return "nil" if value is None else "list"


def _same(left: Value, right: Value) -> bool:
    if left is None or right is None:
        return left is right
    if _kind(left) != _kind(right) or _kind(left) in ("struct", "map", "list"):
        raise failure(f"a {_kind(left)} is compared with a {_kind(right)}")
    return bool(left == right)


def _eq(left: Value, *others: Value) -> bool:
    if not others:
        raise failure("eq has one argument")
    return any(_same(left, other) for other in others)


def _lt(left: Value, right: Value) -> bool:
    if _kind(left) != _kind(right) or _kind(left) not in ("int", "float", "string"):
        raise failure(f"a {_kind(left)} is compared with a {_kind(right)}")
    return in_bytes(left) < in_bytes(right) if isinstance(left, str) else bool(left < right)


def _le(left: Value, right: Value) -> bool:
    return _lt(left, right) or _same(left, right)


def _len(value: Value) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(in_bytes(value))
    if isinstance(value, list | tuple | dict) and not isinstance(value, Record):
        return len(value)
    raise failure(f"len of a {_kind(value)}")


def _index(value: Value, *keys: Value) -> Value:
    if value is None:
        raise failure("index of nil")
    for key in keys:
        if isinstance(value, Mapping) and not isinstance(value, Record) and isinstance(key, str):
            value = value.get(key)
        elif isinstance(value, str | list | tuple) and _position(key, _len(value) - 1):
            value = in_bytes(value)[key] if isinstance(value, str) else value[key]
        else:
            raise failure(f"index {key!r} of a {_kind(value)}")
    return value


def _slice(value: Value, *positions: Value) -> Value:
    size = _len(value) if isinstance(value, str | list | tuple) else -1
    if len(positions) > 2 or not all(_position(position, size) for position in positions):
        raise failure(f"slice {positions} of a {_kind(value)}")
    start, end = (*positions, 0)[0], (positions[1] if len(positions) > 1 else size)
    if start > end:
        raise failure(f"slice from {start} to {end}")
    if not isinstance(value, str) or value.isascii():
        return value[start:end]
    return in_bytes(value)[start:end].decode("utf-8", "surrogateescape")


def _position(number: Value, most: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= most


def _print(*values: Value) -> str:
    """fmt.Sprint: a blank between two values of which neither is a text."""
    found = ""
    for number, value in enumerate(values):
        between = number and not isinstance(value, str) and not isinstance(values[number - 1], str)
        found += (" " if between else "") + printed(value).replace("<no value>", "<nil>")
    return found


def _printf(form: Value, *values: Value) -> str:
    if not isinstance(form, str):
        raise failure("printf without a format")
    left = list(values)

    def filled(verb: re.Match[str]) -> str:
        if verb.group() == "%%":
            return "%"
        if not left or verb.group(1) not in ("s", "d", "v", "t", "q"):
            raise failure(f"printf {verb.group()!r}")
        return _filled(verb.group(1), left.pop(0))

    found = re.sub(r"%(.?)", filled, form, flags=re.DOTALL)
    if left:
        raise failure("printf has more arguments than its format asks for")
    return found


def _filled(verb: str, value: Value) -> str:
    wanted = {"s": "string", "d": "int", "t": "bool", "q": "string"}.get(verb)
    if wanted and _kind(value) != wanted:
        raise failure(f"printf %{verb} of a {_kind(value)}")
    if verb == "q":
        if not value.isprintable():
            raise failure("printf %q of a text that is not printable")
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    return printed(value).replace("<no value>", "<nil>") if verb == "v" else printed(value)


def _json(value: Value) -> str:
    text = json.dumps(_sorted(value), ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found.group()):04x}", text)


def _sorted(value: Value) -> Value:
    """Maps by their keys, structs as they are declared, as Go's json.Marshal writes them."""
    if isinstance(value, Mapping):
        keys: Sequence[str] = list(value) if isinstance(value, Record) else sorted(value)
        return {key: _sorted(value[key]) for key in keys}
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in value] if value != NO_LIST else None
    return value


_FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "eq": _eq,
    "ne": lambda left, right: not _same(left, right),
    "lt": _lt,
    "le": _le,
    "gt": lambda left, right: not _le(left, right),
    "ge": lambda left, right: not _lt(left, right),
    "not": lambda value: not truth(value),
    "len": _len,
    "index": _index,
    "slice": _slice,
    "print": _print,
    "println": lambda *values: " ".join(_print(value) for value in values) + "\n",
    "printf": _printf,
    "json": _json,
}
