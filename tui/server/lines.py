"""Whose turn it is at an engine: so many answers at once, the others in the order they came.

`LinedEngines` puts a line before every engine, so that a session's thread waits inside `engine.stream`, whichever engine its
mode asks, a fallback's or a classifier's too. A place is held for one request and may be entered again by the thread that
has it. Sentence vectors of the embedded encoder pass by the line: llama.cpp's engine keeps a lock for each model. Not covered:
how many may wait (desk.py).
"""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from data.chat import Chunk
from data.config import Settings
from data.errors import Cancelled
from router.cancelling import Cancellation, heeding
from router.encoder import ENCODER
from router.engines import Engines
from router.engines.base import Engine, Request
from router.engines.structure import Completion, Structure

IN_PROCESS = ("llamacpp", "torch")
"""Engines that compute in this process: one answer at a time."""
_here = threading.local()


class Ticket:
    """One answer's claim. served: it has had a place; cancelled: nobody waits for it any more. Any thread may call `cancel`.

    freed_at: time.perf_counter() when it last gave up a place, or its hope of one; 0.0 before.
    """

    def __init__(self) -> None:
        self.cancellation = Cancellation()
        self.served = False
        self.freed_at = 0.0
        self.awake = threading.Event()
        self.depths: dict[int, int] = {}

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer."""
        return self.cancellation.cancelled

    def cancel(self) -> None:
        """Nobody waits for the answer: its thread gives up its place, or its hope of one, at the next chance."""
        self.cancellation.cancel()
        self.awake.set()

    def require_wanted(self) -> None:
        """Raise Cancelled where the answer was cancelled, for code that no generator's close reaches."""
        if self.cancelled:
            raise Cancelled("the client has gone away", "ask again")


@contextmanager
def holding(ticket: Ticket) -> Iterator[None]:
    """This thread works for that ticket."""
    _here.ticket = ticket
    try:
        with heeding(ticket.cancellation):
            yield
    finally:
        del _here.ticket


class Line:
    """The places of one engine."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: deque[Ticket] = deque()
        self._lock = threading.Lock()

    def enter(self, ticket: Ticket) -> Iterator[Chunk]:
        """Wait for a place; yields once, and then raises Cancelled, where the answer is cancelled before."""
        with self._lock:
            depth = ticket.depths.get(id(self), 0)
            if depth or (self._free and not self._waiting):
                self._free -= not depth
                ticket.depths[id(self)] = depth + 1
                ticket.served = True
                return
            ticket.awake.clear()
            self._waiting.append(ticket)
        try:
            while id(self) not in ticket.depths:
                if ticket.cancelled:
                    yield Chunk(phase="loading")
                    ticket.require_wanted()
                ticket.awake.wait()
        except BaseException:
            self._give_up(ticket)
            raise

    def leave(self, ticket: Ticket) -> None:
        """Give the place back; the first that waits gets it."""
        with self._lock:
            ticket.depths[id(self)] -= 1
            if ticket.depths[id(self)]:
                return
            del ticket.depths[id(self)]
            ticket.freed_at = time.perf_counter()
            self._free += 1
            self._serve()

    def _serve(self) -> None:
        """Give free places to those who wait; call it with the lock held."""
        while self._free and self._waiting:
            ticket = self._waiting.popleft()
            self._free -= 1
            ticket.depths[id(self)] = 1
            ticket.served = True
            ticket.awake.set()

    def _give_up(self, ticket: Ticket) -> None:
        with self._lock:
            ticket.freed_at = time.perf_counter()
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            elif ticket.depths.pop(id(self), 0):
                self._free += 1
                self._serve()


class Lined:
    """An engine behind its line; all that is not asked here is asked of the engine itself."""

    def __init__(self, engine: Engine, line: Line) -> None:
        self._engine = engine
        self._line = line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def stream(self, request: Request) -> Iterator[Chunk]:
        """As the engine, when it is this answer's turn; ends soon after the answer is cancelled."""
        ticket = _ticket()
        yield from self._line.enter(ticket)
        try:
            with closing(self._engine.stream(request)) as chunks:  # type: ignore[type-var]
                for chunk in chunks:
                    late = ticket.cancelled  # then whoever drives the answer closes it now; a mode that keeps the piece does not
                    yield chunk
                    if late:
                        ticket.require_wanted()
        finally:
            self._line.leave(ticket)

    def complete(self, requests: Iterable[Request], structure: Structure) -> Iterator[Completion]:
        """As the engine, when it is this answer's turn."""
        with self._place() as ticket, closing(self._engine.complete(requests, structure)) as found:  # type: ignore[type-var]
            for completion in found:
                yield completion
                ticket.require_wanted()

    def score(self, request: Request, continuations: Sequence[str]) -> list[tuple[float, ...]]:
        """As the engine, when it is this answer's turn."""
        with self._place():
            return self._engine.score(request, continuations)

    def embed(self, texts: Sequence[str], model: str = "") -> NDArray[np.float32]:
        """As the engine; vectors of the embedded encoder do not wait."""
        if self._engine.name in IN_PROCESS and model in ("", ENCODER):
            return self._engine.embed(texts, model)
        with self._place():
            return self._engine.embed(texts, model)

    @contextmanager
    def _place(self) -> Iterator[Ticket]:
        ticket = _ticket()
        for _ in self._line.enter(ticket):
            ticket.require_wanted()
        try:
            yield ticket
        finally:
            self._line.leave(ticket)


class LinedEngines(Engines):
    """The engines of a server, each behind a line of its own. Any thread may call."""

    def __init__(self, settings: Settings, made: Mapping[str, Engine] | None = None, places: int = 0) -> None:
        super().__init__(settings, made)
        self._places = places or settings.server.parallel
        self._building = threading.Lock()
        self._made = {name: self._lined(engine) for name, engine in self._made.items()}

    def get(self, name: str) -> Engine:
        """The engine of that name; raises ModelMissing where there is none."""
        with self._building:
            found = super().get(name)
            if not isinstance(found, Lined):
                found = self._made[name] = self._lined(found)
            return found

    def _lined(self, engine: Engine) -> Engine:
        return cast("Engine", Lined(engine, Line(1 if engine.name in IN_PROCESS else self._places)))


def _ticket() -> Ticket:
    """This thread's ticket, or one for this once."""
    return getattr(_here, "ticket", None) or Ticket()
