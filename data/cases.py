"""Adversarial cases of a pack: texts that are meant to mislead, and what the output must say in spite of that.

Not covered: reading them (`domains`), what an answer in free text must be like (`checks`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from data.checks import Check

_MISSING = object()


class Case(BaseModel):
    """One line of adversarial.jsonl. expect: a dotted path into the final output (`label` and `confidence` always exist) and
    what must be there: a value, or one of {"not": v} {"in": [..]} {"below": x} {"above": x} {"contains": "text or item"}
    {"empty": bool} {"above_case": "other id"} {"below_case": "other id"}, the last two against another case's number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    text: str
    expect: dict[str, Any] = {}
    check: Check = Check()
    """What an answer in free text must be like; `failures` does not look at it (router/code_checks.py does)."""
    why: str = ""

    def failures(self, output: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]] | None = None) -> list[str]:
        """What is not as expected, in words; others: the outputs of the other cases by id."""
        return [fault for path, wanted in self.expect.items() if (fault := _mismatch(path, wanted, output, others or {}))]


def at_path(output: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; raises KeyError where there is none."""
    found: Any = output
    for part in path.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise KeyError(path)
        found = found[part]
    return found


def _mismatch(path: str, wanted: Any, output: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> str:
    try:
        found = at_path(output, path)
    except KeyError:
        found = None if wanted is None or isinstance(wanted, dict) else _MISSING
    if found is _MISSING:
        return f"{path} is missing"
    if not isinstance(wanted, dict):
        return "" if found == wanted else f"{path} is {json.dumps(found, default=str)}, not {json.dumps(wanted)}"
    faults = [_unmet(path, kind, value, found, others) for kind, value in wanted.items()]
    return "; ".join(fault for fault in faults if fault)


def _unmet(path: str, kind: str, value: Any, found: Any, others: Mapping[str, Mapping[str, Any]]) -> str:
    if kind in ("above_case", "below_case"):
        other = others.get(str(value))
        if other is None:
            return f"{path}: there is no case {value!r} to compare with"
        return _unmet(path, kind.removesuffix("_case"), _number_at(other, path), found, others)
    number = isinstance(found, int | float) and not isinstance(found, bool)
    tests: dict[str, Callable[[], bool]] = {
        "not": lambda: found != value,
        "in": lambda: isinstance(value, list) and found in value,
        "below": lambda: number and value is not None and found < value,
        "above": lambda: number and value is not None and found > value,
        "contains": lambda: _contains(found, value),
        "empty": lambda: (not found) == value,
    }
    met = tests.get(kind)
    if met is None:
        return f"{path}: {kind!r} is no expectation"
    return "" if met() else f"{path} is {json.dumps(found, default=str)[:200]}, expected {kind} {json.dumps(value)}"


def _number_at(output: Mapping[str, Any], path: str) -> float | None:
    try:
        found = at_path(output, path)
    except KeyError:
        return None
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _contains(found: Any, value: Any) -> bool:
    """Text within text whatever the case; an item of a list, or a value of one of its objects."""
    if isinstance(found, str):
        return str(value).casefold() in found.casefold()
    if isinstance(found, Sequence):
        return any(item == value or (isinstance(item, Mapping) and value in item.values()) for item in found)
    return False
