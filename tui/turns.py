"""One answer on its way: a session's generator run in a thread, read by the screen at its own pace.

The thread never touches a widget. It puts events into a queue; the screen takes what has come since it last looked, with
neighbouring pieces of text joined, so that a fast model costs the screen no more than a slow one. Where a tool needs the
user's word the thread puts the question into the same queue and waits. The thread that runs the generator also closes it.
It is no executor's thread: those are waited for at exit, and leaving the chat must not wait for a server that has stopped
answering. Not covered: drawing, and the order of several questions.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

from data import paths
from data.chat import Usage
from data.errors import Cancelled, PointsmanError
from router.cancelling import Cancellation, heeding

if TYPE_CHECKING:
    from router.modes.base import Event, Started
    from router.tools import Answer, Wish

POLL_S = 0.05
"""Seconds between two looks of the screen into the queue."""

Ending = Literal["complete", "cancelled", "interrupted", "error"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Text and thinking that came since the last look, joined, and of how many pieces each."""

    text: str = ""
    thinking: str = ""
    texts: int = 0
    thoughts: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """The engine's phase before it speaks: loading or reading, progress from 0 to 1."""

    phase: str
    progress: float


@dataclass(frozen=True, slots=True)
class Noted:
    """A step, a call, a result or a citation, as one of the objects of `router.trace`."""

    entry: Mapping[str, Any]


class Asked:
    """A tool's wish that waits for the user's word. The first answer holds."""

    def __init__(self, wish: "Wish") -> None:
        self.wish = wish
        self._answers: SimpleQueue[Answer] = SimpleQueue()

    def answer(self, answer: "Answer") -> None:
        """Let the thread go on."""
        self._answers.put(answer)

    def wait(self) -> "Answer":
        """Block until there is an answer."""
        return self._answers.get()


@dataclass(frozen=True, slots=True)
class Ended:
    """The last news. `logged` is whether the question had reached the log."""

    status: Ending
    usage: Usage | None = None
    error: PointsmanError | None = None
    logged: bool = True


News: TypeAlias = Union["Started", Piece, Reading, Noted, Asked, Ended]


class Turn:
    """One running answer. All methods belong to the screen, except `approve`."""

    def __init__(self, ask: "Callable[[], Iterator[Event]]") -> None:
        self._ask = ask
        self._queue: SimpleQueue[News] = SimpleQueue()
        self._cancellation = Cancellation()
        self._unattended = threading.Event()  # nobody will answer a tool's wish any more
        self._asked: Asked | None = None
        self._thread = threading.Thread(target=self._run, name="turn", daemon=True)

    def start(self) -> None:
        """Run the generator to its end, to the cancellation or to a fault, and close it, all in a thread of its own."""
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Block until the thread has ended, at most `timeout_s` seconds; whether it has. A tool's wish is refused."""
        self._refuse()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def cancelled(self) -> bool:
        """Whether the user asked for the end of this answer."""
        return self._cancellation.cancelled

    def cancel(self) -> None:
        """Ask the thread to stop, within a computation too; what has arrived is kept, and a tool's wish is refused."""
        self._cancellation.cancel()
        self._refuse()

    def approve(self, wish: "Wish") -> "Answer":
        """Called by the answer's thread: the user's word about a tool's wish, or "no" once this answer is not wanted."""
        self._asked = asked = Asked(wish)
        if not self._unattended.is_set():
            self._queue.put(asked)
            answer = asked.wait()
            if not self._unattended.is_set():
                return answer
        return "no"

    def news(self) -> list[News]:
        """What came since the last call, in order; neighbouring pieces are one."""
        items = []
        while not self._queue.empty():
            items.append(self._queue.get())
        return _joined(items)

    def _refuse(self) -> None:
        self._unattended.set()
        if self._asked is not None:
            self._asked.answer("no")

    def _run(self) -> None:
        ended = Ended(
            "error", error=PointsmanError("an unforeseen fault ended the answer", f"the details are in {paths.log_dir()}")
        )
        try:
            with heeding(self._cancellation):
                ended = _relay(self._ask, self._queue.put, lambda: self.cancelled)
        finally:
            self._queue.put(ended)


def _joined(items: list[News]) -> list[News]:
    joined: list[News] = []
    for kind, group in groupby(items, key=type):
        if kind is Piece:
            pieces = [item for item in group if isinstance(item, Piece)]
            texts = [piece.text for piece in pieces if piece.text]
            thoughts = [piece.thinking for piece in pieces if piece.thinking]
            joined.append(Piece("".join(texts), "".join(thoughts), len(texts), len(thoughts)))
        else:
            joined.extend(group)
    return joined


def _relay(ask: "Callable[[], Iterator[Event]]", put: Callable[[News], None], cancelled: Callable[[], bool]) -> Ended:
    from router.modes.base import Done, Started, Text, Thought  # here: numpy comes with it, and the first frame waits for no one

    logged = False
    text = False
    usage: Usage | None = None
    try:
        with closing(ask()) as events:  # type: ignore[type-var]
            for event in events:
                if isinstance(event, Text):
                    text = True
                    put(Piece(text=event.text))
                elif isinstance(event, Thought):
                    put(Piece(thinking=event.text))
                elif isinstance(event, Done):
                    usage = event.usage
                else:
                    logged = logged or isinstance(event, Started)
                    put(_news(event))
                if usage is None and cancelled():
                    return Ended("cancelled", logged=logged)
    except Cancelled:
        return Ended("cancelled", logged=logged)
    except PointsmanError as error:
        return Ended("interrupted" if text else "error", error=error, logged=logged)
    return Ended("complete", usage, logged=logged)


def _news(event: "Event") -> News:
    """What the screen is told of an event that is neither text nor thinking nor the end."""
    from router import trace
    from router.modes.base import Phase, Started

    if isinstance(event, Phase):
        return Reading(event.name, event.progress)
    if isinstance(event, Started):
        return event
    entry = trace.entry(event)
    if entry is None:
        raise TypeError(f"no news are made of {type(event).__name__}")
    return Noted(entry)
