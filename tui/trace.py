"""What happened before an answer stood there: steps, calls of tools with their results, and the passages it cites.

Answers on their way and answers from the log are told by the same plain JSON objects, those of `router.trace`, in the order
of the events. All strings are untrusted. Not covered: drawing (`tui.widgets.trace`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from data.sanitise import one_line


@dataclass(slots=True)
class Step:
    """A step of a plan. state: started, done or failed; tries: how often it was begun."""

    number: int
    title: str
    state: str = "started"
    text: str = ""
    tries: int = 1


@dataclass(slots=True)
class Call:
    """A call of a tool. result: None until it is there; untrusted: it may hold text of strangers."""

    name: str
    arguments: Mapping[str, Any]
    result: str | None = None
    failed: bool = False
    untrusted: bool = False


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that the answer names by [number]; lines from 1, both included; page: of a PDF, from 1, 0 where there is none."""

    number: int
    source: str
    first_line: int
    last_line: int
    page: int = 0

    def __str__(self) -> str:
        lines = f"{self.first_line}-{self.last_line}" if self.last_line > self.first_line else f"{self.first_line}"
        page = f" (page {self.page})" if self.page else ""
        return f"[{self.number}] {one_line(self.source, 200)}:{lines}{page}"


@dataclass(slots=True)
class Trace:
    """Everything of one answer, in order."""

    items: list[Step | Call] = field(default_factory=list)
    cited: list[Citation] = field(default_factory=list)

    @classmethod
    def of(cls, entries: Iterable[Mapping[str, Any]]) -> "Trace":
        """The trace as the log has it; what a row lacks, or holds in another form, is left out."""
        trace = cls()
        for entry in entries:
            trace.take(entry)
        return trace

    def take(self, entry: Mapping[str, Any]) -> None:
        """Add one of the objects of `router.trace`."""
        for kind, value in entry.items():
            if isinstance(value, Mapping) and kind in _TAKERS:
                _TAKERS[kind](self, value)

    @property
    def calls(self) -> list[Call]:
        """The calls alone."""
        return [item for item in self.items if isinstance(item, Call)]

    @property
    def steps(self) -> list[Step]:
        """The steps alone."""
        return [item for item in self.items if isinstance(item, Step)]

    def to_dict(self) -> dict[str, Any]:
        """Steps, calls and citations as the JSON that `ask --json` documents."""
        return {
            "steps": [{key: getattr(step, key) for key in ("number", "title", "state", "text")} for step in self.steps],
            "tool_calls": [
                {
                    "name": call.name,
                    "arguments": dict(call.arguments),
                    "result": call.result,
                    "failed": call.failed,
                    "untrusted": call.untrusted,
                }
                for call in self.calls
            ],
            "citations": [{part.name: getattr(one, part.name) for part in fields(one)} for one in self.cited],
        }


def _take_step(trace: Trace, said: Mapping[str, Any]) -> None:
    number, state = _number(said, "number"), str(said.get("state", "started"))
    known = next((step for step in trace.steps if step.number == number), None)
    if known is None:
        trace.items.append(Step(number, str(said.get("title", "")), state, str(said.get("text", ""))))
        return
    known.tries += state == "started"
    known.title = str(said.get("title", "")) or known.title
    known.state, known.text = state, str(said.get("text", ""))


def _take_call(trace: Trace, said: Mapping[str, Any]) -> None:
    arguments = said.get("arguments")
    trace.items.append(Call(str(said.get("name", "")), arguments if isinstance(arguments, Mapping) else {}))


def _take_result(trace: Trace, said: Mapping[str, Any]) -> None:
    name = str(said.get("name", ""))
    call = next((call for call in trace.calls if call.result is None and call.name == name), None)
    if call is None:
        call = Call(name, {})
        trace.items.append(call)
    call.result = str(said.get("text", ""))
    call.failed, call.untrusted = bool(said.get("failed")), bool(said.get("untrusted"))


def _take_cited(trace: Trace, said: Mapping[str, Any]) -> None:
    number, first_line, last_line, page = (_number(said, key) for key in ("number", "first_line", "last_line", "page"))
    citation = Citation(number, str(said.get("source", "")), first_line, last_line, page)
    if citation not in trace.cited:
        trace.cited.append(citation)


def _number(said: Mapping[str, Any], key: str) -> int:
    value = said.get(key)
    return value if isinstance(value, int) else 0


_TAKERS: Final = {"step": _take_step, "call": _take_call, "result": _take_result, "cited": _take_cited}
