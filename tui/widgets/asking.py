"""A question on its way: waiting in line, running, and what is told of its end. No widget's own behaviour, no I/O."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from data.chat import Usage
from data.sanitise import one_line
from tui.messages import Activity, Regenerate
from tui.modes import Pins
from tui.turns import Ended, Turn
from tui.widgets.answer import AnswerView
from tui.widgets.question import QuestionView

if TYPE_CHECKING:
    from router.modes.base import Event
    from router.session import Session


@dataclass
class Running:
    """The answer under way. question: None for an answer given again; shown: False once its conversation was left."""

    turn: Turn
    answer: AnswerView
    question: QuestionView | None
    text: str
    phase: str = "routing"
    shown: bool = True

    def activity(self, queued: int) -> Activity:
        """What happens now, as far as the pieces that came so far tell; `queued` questions wait."""
        phase = "stopping" if self.turn.cancelled else self.phase
        return Activity(phase, self.answer.tokens_per_s, self.answer.ttft_s, None, queued)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A question to ask.

    replaces: the question turn that it puts in other words, or ""; follows: the answer that it follows, "" for the last; pins:
    what was chosen when it was sent, of which mode and domain hold for it; view: its place in the line.
    """

    text: str
    replaces: str
    follows: str = ""
    pins: Pins = field(default_factory=Pins)
    view: QuestionView | None = None


def again(session: "Session", question: str, pins: Pins, wanted: Regenerate) -> "Callable[[], Iterator[Event]]":
    """What answers the question turn once more as it is wanted."""
    from router.terms import Terms

    terms = Terms(plan=wanted.plan, said=wanted.said)
    how: dict[str, Any] = {"model": pins.model or None, "mode": pins.mode or None, "domain": pins.domain or None}
    return partial(session.again, question, **how, fallback=True, terms=terms)


def doing(entry: Mapping[str, Any]) -> str:
    """What goes on after one of the objects of `router.trace`, for the status line."""
    step, call = entry.get("step"), entry.get("call")
    if isinstance(step, Mapping) and step.get("state") == "started":
        return f"step {step.get('number')}"
    if isinstance(call, Mapping):
        return f"calling {one_line(str(call.get('name', '')), 40)}"
    return "waiting for the model"


def explained(ended: Ended) -> str:
    """Why an answer failed, and what to do now; "" where it did not."""
    if ended.error is None:
        return ""
    return f"{ended.error} · {'alt+up, then r, tries again' if ended.logged else 'the question is back in the prompt'}"


def measured(answer: AnswerView, usage: Usage | None) -> Activity:
    """What is known of a finished answer; the engine's own figures where it gave any."""
    if usage is None:
        return Activity(tokens_per_s=answer.tokens_per_s, ttft_s=answer.ttft_s)
    used = (usage.prompt_tokens + usage.completion_tokens) / usage.context_tokens if usage.context_tokens else None
    return Activity(tokens_per_s=usage.tokens_per_s, ttft_s=usage.ttft_s, context=used)
