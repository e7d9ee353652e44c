"""What happens within an answer, as plain JSON for the log and back as events for the chat.

    {"step": {"number", "title", "state", "text"}}         {"call": {"name", "arguments"}}
    {"result": {"name", "text", "failed", "untrusted"}}    {"cited": {"number", "source", "first_line", "last_line"}}

Text and thoughts are not part of it: the log keeps those by themselves.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from router.modes.base import Cited, Event, Step, ToolCalled, ToolResult

ENTRIES = 1_000
"""Entries kept of one answer at most."""
_KINDS: dict[str, type[Step] | type[ToolCalled] | type[ToolResult] | type[Cited]] = {
    "step": Step,
    "call": ToolCalled,
    "result": ToolResult,
    "cited": Cited,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def entry(event: Event) -> dict[str, Any] | None:
    """The event's line in the trace, None for one that is not part of it."""
    name = _NAMES.get(type(event))  # type: ignore[arg-type]
    if name is None:
        return None
    if isinstance(event, ToolCalled):
        return {name: {"name": event.name, "arguments": dict(event.arguments)}}
    return {name: asdict(event)}


def events(entries: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    """The events of a stored trace; lines that a newer Pointsman wrote in another form are left out."""
    for line in entries:
        for name, fields in line.items():
            kind = _KINDS.get(name)
            if kind is None or not isinstance(fields, Mapping):
                continue
            known = {key: value for key, value in fields.items() if key in kind.__dataclass_fields__}
            try:
                yield kind(**known)
            except TypeError:  # a field is missing
                continue
