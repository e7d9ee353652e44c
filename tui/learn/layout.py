"""An answer of a chat read as what it means in a domain, and written as the domain's prompt asks for it.

"fraud", "FRAUD.", {"label": "FRAUD"} and a fenced block of that JSON mean the same. Not covered: what is done with it (`source`).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from data.cases import at_path
from data.datasets.formats import Formatter
from data.datasets.rows import Origin, Row
from data.domains import Domain

_AROUND = re.compile(r"^[\s\"'`*_.:!(\[]+|[\s\"'`*_.:!)\]]+$")


@dataclass(frozen=True, slots=True)
class Meaning:
    """label: of the domain, "" for none; output: the JSON object that was written, {} where a label alone was."""

    label: str = ""
    output: Mapping[str, Any] | None = None

    def __bool__(self) -> bool:
        return bool(self.label or self.output)


@dataclass(frozen=True)
class Layout:
    """The layout of a domain's answers. closed: whether they are labels or JSON, and not free text."""

    domain: Domain | None

    @property
    def closed(self) -> bool:
        """Whether an answer is a label or JSON of the domain."""
        return self.domain is not None and bool(self.domain.schema or self.domain.labels)

    def meaning(self, text: str) -> Meaning:
        """What an answer means; an empty Meaning where it is no answer of the domain."""
        domain = self.domain
        if domain is None or not text.strip():
            return Meaning()
        found = _object(text)
        label = _within(found, domain.described.label_field or "label")
        if found and domain.schema and (label in domain.labels or not domain.labels):
            return Meaning(label, {name: found[name] for name in domain.asked.get("properties", {}) if name in found})
        known = {one.casefold(): one for one in domain.labels}
        return Meaning(known.get((label or _AROUND.sub("", text)).casefold(), ""))

    def row(self, row: Row, meaning: Meaning) -> tuple[Row | None, str]:
        """The row with that meaning as its answer, written out; None and the reason where the domain's prompt cannot be answered
        with it."""
        made = replace(row, label=meaning.label, output=dict(meaning.output or {}), completion="", rejected="")
        found = self.expressed(made)
        return (replace(made, completion=found[0]), "") if found[0] else (None, found[1])

    def text(self, meaning: Meaning) -> str:
        """That meaning as the domain writes it; "" where it lacks something."""
        found = self.row(Row("label", "-", Origin("")), meaning)[0] if meaning else None
        return found.completion if found else ""

    def expressed(self, row: Row) -> tuple[str, str]:
        """The answer of a row as it would be learnt, or "" and the reason."""
        found = self._formatter.express(row)
        return (str(found.lines[0]["completion"][0]["content"]), "") if found.lines else ("", found.reason)

    @cached_property
    def _formatter(self) -> Formatter:
        return Formatter(self.domain, "chat")


def _object(text: str) -> dict[str, Any]:
    """The JSON object that a text is, with or without a code fence around it; {} for any other."""
    inner = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    if not inner.startswith("{"):
        return {}
    try:
        found = json.loads(inner)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _within(output: Mapping[str, Any], path: str) -> str:
    try:
        found = at_path(output, path)
    except KeyError:
        return ""
    return found if isinstance(found, str) else ""
