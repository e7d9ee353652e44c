"""Two models on the same rows: who was right where the other was wrong, and what that says about rows not yet seen.

The difference of two shares of the same rows has the score interval of Tango (1998), which keeps its level where few rows differ
or none; the p value is McNemar's, exact (the sign test on the rows about which only one is right). Not covered: the gates
(`proof`), shares of one model alone (`figures`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.figures import Interval, Z

HALVINGS = 60
"""Of the bisection that finds an end of the interval: more than a double has digits."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows by who was right about them. gained: only the first model; lost: only the second."""

    both: int
    gained: int
    lost: int
    neither: int

    @property
    def n(self) -> int:
        """The rows."""
        return self.both + self.gained + self.lost + self.neither

    @property
    def difference(self) -> float:
        """The first model's share of right rows minus the second's."""
        return (self.gained - self.lost) / self.n if self.n else 0.0

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the difference; -1 to 1 where there are no rows."""
        return tango(self.gained, self.lost, self.n)

    @property
    def p(self) -> float:
        """McNemar's exact two-sided p value of "no difference"."""
        return sign_test(self.gained, self.lost)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        found = self.interval
        counts = {"n": self.n, "both": self.both, "gained": self.gained, "lost": self.lost, "neither": self.neither}
        return counts | {"difference": self.difference, "ci": {"low": found.low, "high": found.high}, "p": self.p}


def pairs(first: Sequence[bool], second: Sequence[bool]) -> Pairs:
    """The counts of two models' right answers, row by row. Raises ValueError where there are not as many of both."""
    counts = {(one, other): 0 for one in (True, False) for other in (True, False)}
    for one, other in zip(first, second, strict=True):
        counts[bool(one), bool(other)] += 1
    return Pairs(counts[True, True], counts[True, False], counts[False, True], counts[False, False])


def tango(gained: int, lost: int, n: int) -> Interval:
    """The 95 % score interval of (gained - lost) / n of paired shares.

    T. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
    Statistics in Medicine 17 (1998) 891-908: the differences that the score test does not refuse. With no row that differs it is
    -z²/(n + z²) to z²/(n + z²). It excludes 0 just where McNemar's statistic (gained - lost)²/(gained + lost) exceeds z².
    """
    if not n:
        return Interval(-1.0, 1.0)
    middle = (gained - lost) / n
    return Interval(_end(gained, lost, n, middle, -1.0), _end(gained, lost, n, middle, 1.0))


def sign_test(gained: int, lost: int) -> float:
    """The exact two-sided p value that of the rows that differ as many are gained as lost."""
    differ, fewer = gained + lost, min(gained, lost)
    whole = math.lgamma(differ + 1) - differ * math.log(2)
    tail = sum(math.exp(whole - math.lgamma(count + 1) - math.lgamma(differ - count + 1)) for count in range(fewer + 1))
    return min(1.0, 2 * tail)


def rows_to_show(worse_by: float) -> int:
    """Rows needed to show that two models which never differ are not more than `worse_by` apart; 0 where none are enough."""
    return math.ceil(Z * Z * (1 / worse_by - 1)) if worse_by > 0 else 0


def _end(gained: int, lost: int, n: int, inside: float, outside: float) -> float:
    """The end of the interval between the observed difference and -1 or 1, by bisection: the score grows with the distance."""
    if abs(_score(gained, lost, n, outside)) <= Z:
        return outside
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        if abs(_score(gained, lost, n, middle)) <= Z:
            inside = middle
        else:
            outside = middle
    return inside


def _score(gained: int, lost: int, n: int, difference: float) -> float:
    """Tango's statistic for a true difference: (b - c - nδ) / sqrt(n(2q + δ(1 - δ))), q the likeliest share of lost rows."""
    over = gained - lost - n * difference
    first = 2 * n
    second = -gained - lost + (2 * n - gained + lost) * difference
    third = -lost * difference * (1 - difference)
    lost_share = (math.sqrt(max(second * second - 4 * first * third, 0.0)) - second) / (2 * first)
    variance = n * (2 * lost_share + difference * (1 - difference))
    if variance <= 1e-15:
        return 0.0 if abs(over) < 1e-12 else math.copysign(math.inf, over)
    return over / math.sqrt(variance)
