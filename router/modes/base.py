"""What a way of reasoning is, and the events that every face sees.

A mode is one file here with `run(engine, request, means) -> Iterator[Event]`: it asks the engine as often as it likes and
yields what happens, ending with Done. `Session.ask` puts Started in front, logs what passes, and adds the ids to Done.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from data.chat import Usage
from data.config import ModesSettings
from router.engines.base import Engine, Request

if TYPE_CHECKING:
    from router.tools import Toolbox


@dataclass(frozen=True, slots=True)
class Started:
    """The question is safely in the log and the answer begins. Ids are those of the store; problems: what of the question,
    a file for example, could not be taken in, one sentence each; notices: what happened by itself since the last question, a canary
    that was rolled back for example."""

    conversation: str
    question: str
    answer: str
    inference: str
    model: str
    mode: str
    domain: str
    reasons: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


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
    """A named step of a longer plan begins or ends; `text` is what came of it, or why it failed."""

    number: int
    title: str
    state: Literal["started", "done", "failed"]
    text: str = ""


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
    untrusted: bool = False


@dataclass(frozen=True, slots=True)
class Cited:
    """A passage of a document that was put before the model; `number` is what the answer cites it by: [1]."""

    number: int
    source: str
    first_line: int
    last_line: int
    page: int = 0


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The end of an answer that finished by itself, with its measures. `inference` is "" until Session.ask fills it."""

    usage: Usage
    inference: str = ""


Event = Started | Phase | Thought | Step | ToolCalled | ToolResult | Cited | Text | Done


@dataclass(frozen=True, slots=True)
class Planned:
    """A step of a plan that was made before; `text` is what came of it, "" where it is still to be done."""

    title: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Means:
    """What a mode may use beside its engine and its request.

    tools: those the agent may call, None where it may call none; other: another model by reference, as its engine and its
    name there (raises ModelMissing); labels: the classes that the ensemble's classifier chooses from, () for its own words; plan:
    the steps of a multi-step answer that is given again in part, () to make a plan.
    """

    settings: ModesSettings = field(default_factory=ModesSettings)
    tools: "Toolbox | None" = None
    other: Callable[[str], tuple[Engine, str]] | None = None
    labels: tuple[str, ...] = ()
    plan: tuple[Planned, ...] = ()


Run = Callable[[Engine, Request, Means], Iterator[Event]]


def total(usages: Iterable[Usage]) -> Usage:
    """The measures of an answer that took several requests: counts and seconds added up, the first one's time to the first
    token, the last one's finish and context."""
    found = list(usages)
    if not found:
        return Usage()
    return replace(
        found[-1],
        prompt_tokens=sum(usage.prompt_tokens for usage in found),
        cached_tokens=sum(usage.cached_tokens for usage in found),
        completion_tokens=sum(usage.completion_tokens for usage in found),
        ttft_s=found[0].ttft_s,
        total_s=sum(usage.total_s for usage in found),
        load_s=sum(usage.load_s for usage in found),
        dropped_turns=max(usage.dropped_turns for usage in found),
    )
