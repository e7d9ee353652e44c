"""Two answers to one question side by side, in blind order, and which of them the user found better.

    found = pair(session, "Why?", "triage")
    for text in found.left: ...            then found.right; neither says which model writes
    found.pick("left").status              keeps it as blind evidence, and says what is proven now

The models are the arms of the paired experiment that runs in the domain, or any two: `two`. Both answers are in the log, to one
question. Not covered: what the picks prove (`data.statistics.paired`), showing them (tui).
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

from data.errors import InputError, NotFound
from data.sanitise import one_line
from data.store.versions import Experiment, Status
from router.modes.base import Done, Event, Started, Text
from router.session import Session

Side = Literal["left", "right", "tie"]
_MODE = "standard"  # both answer in the same way, and in the one that every model has


@dataclass(frozen=True, slots=True)
class Picked:
    """A pick that was kept. left, right: the models, who may be told now; status: the experiment's evidence, if one runs."""

    side: Side
    left: str
    right: str
    status: Status | None


class Pair:
    """One question with two answers on their way. Read `left` to its end, then `right`; each raises as `Session.ask` does.

    Closing a stream cancels its answer; then there is nothing to pick. sides: the models on the left and on the right, not to be
    shown before the pick.
    """

    def __init__(
        self,
        session: Session,
        question: str,
        models: tuple[str, str],
        experiment: Experiment | None,
        conversation: str | None,
        overrides: Mapping[str, Any] | None,
    ) -> None:
        self.experiment = experiment
        self._session = session
        self.sides = models
        self._started: dict[str, Started] = {}
        self._done: set[str] = set()
        self._picked = False
        self._how: dict[str, Any] = {"mode": _MODE, "overrides": overrides} | ({"domain": experiment.domain} if experiment else {})
        self.left = self._stream("left", lambda: session.ask(question, conversation=conversation, model=models[0], **self._how))
        self.right = self._stream("right", lambda: session.again(self._question(), model=models[1], **self._how))

    @property
    def conversation(self) -> str:
        """Where question and answers stand; "" until the first answer has begun."""
        return self._started["left"].conversation if "left" in self._started else ""

    @property
    def complete(self) -> bool:
        """Whether both answers are there, so that one can be picked."""
        return len(self._done) == 2

    def pick(self, side: Side) -> Picked:
        """Keep which answer is better; the conversation goes on with it, after a tie with the left one.

        Raises InputError before both answers are complete, and for a second pick: the models may be known by then.
        """
        if not self.complete:
            raise InputError("both answers have to be complete before one is better", "read them to their ends")
        if self._picked:
            raise InputError("it was said already which answer is better", "compare another question")
        left, right = self._started["left"], self._started["right"]
        chosen, rejected = (right, left) if side == "right" else (left, right)
        store = self._session.store
        store.feedback.prefer(chosen.inference, rejected.inference, tie=side == "tie", blind=True, chosen_left=chosen is left)
        self._picked = True
        store.log.set_leaf(chosen.conversation, chosen.answer)
        return Picked(side, *self.sides, store.experiments.status(self.experiment.id) if self.experiment else None)

    def _question(self) -> str:
        if "left" not in self._done:
            raise InputError("the left answer comes first", "read it to its end")
        return self._started["left"].question

    def _stream(self, side: str, begin: Callable[[], Iterator[Event]]) -> Iterator[str]:
        """The answer's text alone: what else happens might tell the models apart."""
        with closing(begin()) as events:  # type: ignore[type-var]
            for event in events:
                if isinstance(event, Started):
                    self._started[side] = event
                elif isinstance(event, Text):
                    yield event.text
                elif isinstance(event, Done):
                    self._done.add(side)


def pair(
    session: Session,
    question: str,
    domain: str = "",
    *,
    conversation: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    flip: Callable[[], bool] | None = None,
) -> Pair:
    """Both arms of a domain's paired experiment about to answer `question`; domain "": of the only one that runs.

    conversation: the one that the question goes on with; overrides: as in `Session.ask`; flip: whether the second arm stands on the
    left. Nothing is asked before a stream is read. Raises NotFound where no paired experiment runs there, InputError where the
    question is empty.
    """
    if not question.strip():
        raise InputError("the question is empty", "type something")
    running = [one for one in session.store.experiments.running() if one.kind == "paired" and domain in ("", one.domain)]
    if not running:
        where, start = (f" in {one_line(domain, 80)}", one_line(domain, 80)) if domain else ("", "D")
        fix = f"begin one: pointsman experiment start champion MODEL --domain {start} --paired"
        raise NotFound(f"no paired experiment runs{where}", fix)
    if len(running) > 1:
        raise NotFound(f"{len(running)} paired experiments run", f"name one's domain: {', '.join(one.domain for one in running)}")
    first, second = (model for model, _ in running[0].arms[:2])
    return Pair(session, question, _drawn((first, second), flip), running[0], conversation, overrides)


def two(
    session: Session,
    question: str,
    models: tuple[str, str],
    *,
    conversation: str | None = None,
    flip: Callable[[], bool] | None = None,
) -> Pair:
    """Two models of the user's choice about to answer `question`; the rest as in `pair`."""
    return Pair(session, question, _drawn(models, flip), None, conversation, None)


def _drawn(models: tuple[str, str], flip: Callable[[], bool] | None) -> tuple[str, str]:
    return models[::-1] if (flip or _coin)() else models


def _coin() -> bool:
    return bool(secrets.randbelow(2))
