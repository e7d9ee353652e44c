"""A circuit breaker per engine: one that keeps failing is left alone for a while, then tried by a single request.

Three failures within a minute open it for thirty seconds; then one request may pass, whose success closes it and whose
failure opens it again. Not covered: what counts as a failure, which the session decides.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

FAILURES = 3
WINDOW_S = 60.0
OPEN_S = 30.0


class Breaker:
    """The breakers of all engines of a process, by name. Any thread may call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[str, deque[float]] = {}
        self._opened: dict[str, float] = {}
        self._probing: set[str] = set()

    def obstacle(self, engine: str) -> str:
        """Why the engine is left alone now, "" where it may be asked."""
        with self._lock:
            opened = self._opened.get(engine)
            if opened is None:
                return ""
            left = OPEN_S - (self._clock() - opened)
            if left > 0:
                return f"{engine} failed {FAILURES} times within a minute and is left alone for {left:.0f} s"
            return f"{engine} is being tried again" if engine in self._probing else ""

    def begins(self, engine: str) -> None:
        """A request goes to the engine; after an opening it is the one that tries."""
        with self._lock:
            if engine in self._opened:
                self._probing.add(engine)

    def failed(self, engine: str) -> None:
        """The engine could not be reached or broke off."""
        now = self._clock()
        with self._lock:
            recent = self._failures.setdefault(engine, deque(maxlen=FAILURES))
            recent.append(now)
            if engine in self._probing or (len(recent) == FAILURES and now - recent[0] <= WINDOW_S):
                self._opened[engine] = now
            self._probing.discard(engine)

    def worked(self, engine: str) -> None:
        """The engine answered: all is forgiven."""
        with self._lock:
            self._failures.pop(engine, None)
            self._opened.pop(engine, None)
            self._probing.discard(engine)

    def ended(self, engine: str) -> None:
        """The request ended without telling anything about the engine, cancelled for example."""
        with self._lock:
            self._probing.discard(engine)
