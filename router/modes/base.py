"""What a way of reasoning is, and the events that every face sees.

A mode is one file here with `run(engine, request) -> Iterator[Event]`: it asks the engine as often as it likes and yields
what happens, ending with Done. `Session.ask` puts Started in front, logs what passes, and adds the ids to Done.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from data.chat import Usage
from router.engines.base import Engine, Request


@dataclass(frozen=True, slots=True)
class Started:
    """The question is safely in the log and the answer begins. Ids are those of the store."""

    conversation: str
    question: str
    answer: str
    inference: str
    model: str
    mode: str
    domain: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Phase:
    """What the engine does before it speaks: "loading" the model or "reading" the prompt, progress from 0 to 1."""

    name: Literal["loading", "reading"]
    progress: float = 0.0


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of reasoning, never part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """A named step of a longer plan begins or ends."""

    number: int
    title: str
    state: Literal["started", "done", "failed"]


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The model calls a tool."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool said; untrusted text."""

    name: str
    text: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The end of an answer that finished by itself, with its measures. `inference` is "" until Session.ask fills it."""

    usage: Usage
    inference: str = ""


Event = Started | Phase | Thought | Step | ToolCalled | ToolResult | Text | Done
Run = Callable[[Engine, Request], Iterator[Event]]
