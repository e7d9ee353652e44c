"""What an export tells while it runs. Not covered: how a terminal draws it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from data.sanitise import one_line


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is being done. done of `of`: parts of it, 0 of 0 where there are none; eta_s: seconds left, None: unknown."""

    doing: str
    done: int = 0
    of: int = 0
    eta_s: float | None = None

    def __str__(self) -> str:
        """In one line, harmless for a terminal."""
        counted = f": {self.done:,} of {self.of:,}" if self.of else ""
        left = "" if self.eta_s is None else f", {max(1, round(self.eta_s))} s left"
        return f"{one_line(self.doing, 200)}{counted}{left}"


Tell = Callable[[Step], object]


def silent(step: Step) -> None:
    """Nobody listens."""


class Counting:
    """Parts of one piece of work, told with the time that is left."""

    def __init__(self, doing: str, of: int, tell: Tell) -> None:
        self._doing, self._of, self._tell = doing, of, tell
        self._started = time.perf_counter()

    def at(self, done: int) -> None:
        """Tell that so many are done."""
        passed = time.perf_counter() - self._started
        self._tell(Step(self._doing, done, self._of, passed * (self._of - done) / done if done else None))
