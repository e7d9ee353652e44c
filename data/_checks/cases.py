"""adversarial.jsonl: every line a case, ids unique, and each expectation about something that the output has."""

from collections.abc import Iterator, Mapping
from typing import Any

from data._checks.examples import check_faults, rows
from data._checks.pack import Pack, meant
from data._checks.schema import at_path, values
from data.cases import Case
from data.domains import FILL_KEY, Description
from data.sanitise import one_line

NAME = "adversarial.jsonl"
_KINDS = ("not", "in", "below", "above", "contains", "empty", "above_case", "below_case")


def cases(pack: Pack, description: Description, whole: Mapping[str, Any] | None, indicators: tuple[str, ...]) -> list[Case]:
    """The cases that can be read. whole: the schema where it is sound; indicators: the names of the knowledge base."""
    found = list(rows(pack, NAME, Case))
    first: dict[str, int] = {}
    for line, case in found:
        if case.id in first:
            pack.fault(NAME, line, f"the id {one_line(case.id, 60)!r} is there twice, first on line {first[case.id]}")
        first.setdefault(case.id, line)
    expecting = _Expecting(description, whole, indicators, tuple(first))
    for line, case in found:
        for text in expecting.faults(case):
            pack.fault(NAME, line, text)
    return [case for _, case in found]


class _Expecting:
    """What cases may expect of one pack."""

    def __init__(
        self, description: Description, whole: Mapping[str, Any] | None, indicators: tuple[str, ...], ids: tuple[str, ...]
    ) -> None:
        self.labels = [label.name for label in description.labels]
        self.field = description.label_field
        self.whole = whole
        self.indicators = indicators
        self.ids = ids

    def faults(self, case: Case) -> Iterator[str]:
        if not case.id.strip():
            yield "the id is empty"
        if not case.expect and not case.check:
            yield "expects nothing"
        yield from check_faults(case.check)
        for path, wanted in case.expect.items():
            allowed, part = self.known(path)
            if part is None:
                names = ["label", "confidence", *(self.whole or {}).get("properties", {})]
                yield f"expects {one_line(path, 60)!r}, which no output has{meant(path, names)}"
            elif isinstance(wanted, dict):
                yield from self.conditions(case, path, wanted, allowed, part)
            elif not _fits(wanted, allowed):
                yield _never(path, wanted, allowed)

    def known(self, path: str) -> tuple[list[Any] | None, Mapping[str, Any] | None]:
        """The values that may stand at a path (None: any) and its schema; without a schema every path is taken."""
        if path in ("label", self.field) and self.labels:
            return list(self.labels), {}
        if self.whole is None:
            return None, {}
        part = at_path(self.whole, path)
        if part is None and path in ("label", "confidence"):
            return None, {}
        return (values(part) if part else None), part

    def conditions(
        self, case: Case, path: str, wanted: Mapping[str, Any], allowed: list[Any] | None, part: Mapping[str, Any]
    ) -> Iterator[str]:
        if not wanted:
            yield f"{one_line(path, 60)}: an expectation without a condition"
        for kind, value in wanted.items():
            if kind not in _KINDS:
                yield f"{one_line(path, 60)}: {one_line(kind, 40)!r} is no expectation{meant(kind, _KINDS)}"
            elif kind.endswith("_case"):
                if value not in self.ids or value == case.id:
                    yield f"{one_line(path, 60)}: {kind} names {one_line(str(value), 60)!r}, which is no other case"
            elif text := self.unfit(path, kind, value, allowed):
                yield text
            elif kind == "contains" and part.get(FILL_KEY) == "indicators":
                if value not in self.indicators and str(value).casefold() not in case.text.casefold():
                    near = meant(str(value), self.indicators)
                    yield f"{one_line(path, 60)}: {one_line(str(value), 60)!r} is no indicator, and not in the text{near}"

    def unfit(self, path: str, kind: str, value: Any, allowed: list[Any] | None) -> str:
        shown = one_line(path, 60)
        if kind in ("below", "above") and (isinstance(value, bool) or not isinstance(value, int | float)):
            return f"{shown}: {kind} needs a number"
        if kind == "empty" and not isinstance(value, bool):
            return f"{shown}: empty is true or false"
        if kind == "in" and (not isinstance(value, list) or not value):
            return f"{shown}: in needs a list"
        for one in value if kind == "in" else [value] if kind == "not" else []:
            if not _fits(one, allowed):
                return _never(path, one, allowed)
        return ""


def _fits(value: Any, allowed: list[Any] | None) -> bool:
    return allowed is None or value is None or value in allowed


def _never(path: str, value: Any, allowed: list[Any] | None) -> str:
    near = meant(str(value), [str(one) for one in allowed or ()])
    return f"{one_line(path, 60)} is never {one_line(str(value), 60)!r}{near}"
