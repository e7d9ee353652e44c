"""How long the rest of a stage takes, from the steps and evaluations that were made last."""

import statistics
from collections import deque
from collections.abc import Sequence

RECENT = 50
"""Steps whose durations tell how long the next ones take."""


class Pace:
    """Durations in seconds, of steps and of evaluations."""

    def __init__(self) -> None:
        self.steps_s: deque[float] = deque(maxlen=RECENT)
        self.evaluations_s: deque[float] = deque(maxlen=RECENT)

    def left_s(self, step: int, of: int, points: Sequence[int]) -> float | None:
        """From that step of so many on, with the evaluations at those points; None before the first step."""
        if not self.steps_s:
            return None
        left = (of - step) * statistics.fmean(self.steps_s)
        if self.evaluations_s:
            left += sum(point > step for point in points) * statistics.fmean(self.evaluations_s)
        return left
