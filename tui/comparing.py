"""Two models answering one question side by side, where no experiment says which two: the user's own comparison.

It behaves as `router.pairing.Pair`, so that one screen shows both. Not covered: drawing it (`tui.screens.pair`).
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from data.errors import InputError, NotFound

if TYPE_CHECKING:
    from router.modes.base import Event, Started
    from router.session import Session

Side = Literal["left", "right", "tie"]


class Told(Protocol):
    """What may be said after a pick: which model wrote which answer."""

    @property
    def left(self) -> str:
        """The model of the left answer."""

    @property
    def right(self) -> str:
        """The model of the right answer."""


class Pairing(Protocol):
    """Two answers on their way; `left` is read to its end before `right`. Nothing tells which model writes which."""

    left: Iterator[str]
    right: Iterator[str]

    @property
    def conversation(self) -> str:
        """Where question and answers stand; "" until the first has begun."""

    @property
    def complete(self) -> bool:
        """Whether both answers are there."""

    def pick(self, side: Side) -> Told:
        """Keep which is better; raises InputError before both are there, and for a second pick."""


@dataclass(frozen=True, slots=True)
class Picked:
    """The models of a pick."""

    left: str
    right: str


class Comparison:
    """Two models of the user's choice, in blind order, as sibling answers to one question."""

    def __init__(
        self,
        session: "Session",
        question: str,
        models: tuple[str, str],
        conversation: str | None,
        flip: Callable[[], bool] = lambda: bool(secrets.randbelow(2)),
    ) -> None:
        self._session = session
        self._models = models[::-1] if flip() else models
        self._started: dict[str, Started] = {}
        self._done: set[str] = set()
        self._picked = False
        left, right = self._models
        self.left = self._stream("left", partial(session.ask, question, conversation=conversation, model=left, mode="standard"))
        self.right = self._stream("right", lambda: session.again(self._started["left"].question, model=right, mode="standard"))

    @property
    def conversation(self) -> str:
        """Where question and answers stand; "" until the first answer has begun."""
        return self._started["left"].conversation if "left" in self._started else ""

    @property
    def complete(self) -> bool:
        """Whether both answers are there."""
        return len(self._done) == 2

    def pick(self, side: Side) -> Picked:
        """Keep which answer is better; the conversation goes on with it, after a tie with the left one."""
        if not self.complete or self._picked:
            raise InputError("both answers have to be there, and one is picked once", "compare another question")
        left, right = self._started["left"], self._started["right"]
        chosen, rejected = (right, left) if side == "right" else (left, right)
        store = self._session.store
        store.feedback.prefer(chosen.inference, rejected.inference, tie=side == "tie", blind=True, chosen_left=chosen is left)
        self._picked = True
        store.log.set_leaf(chosen.conversation, chosen.answer)
        return Picked(*self._models)

    def _stream(self, side: str, begin: "Callable[[], Iterator[Event]]") -> Iterator[str]:
        from router.modes.base import Done, Started, Text

        with closing(begin()) as events:  # type: ignore[type-var]
            for event in events:
                if isinstance(event, Started):
                    self._started[side] = event
                elif isinstance(event, Text):
                    yield event.text
                elif isinstance(event, Done):
                    self._done.add(side)


def of_experiment(session: "Session", question: str, domain: str, conversation: str | None) -> "Pairing | None":
    """The pair of the paired experiment that runs, None where none does; several are told apart by the domain.

    Reads the store and may route the question: call it in a thread. Raises NotFound where several run and none fits.
    """
    from router.pairing import pair

    running = [one for one in session.store.experiments.running() if one.kind == "paired"]
    if not running:
        return None
    if len(running) > 1 and not domain:
        domain = session.route(question).domain
        if domain not in [one.domain for one in running]:
            raise NotFound("several paired experiments run, and none is of this question's domain", "choose a domain: f2")
    return pair(session, question, domain if len(running) > 1 else running[0].domain, conversation=conversation)
