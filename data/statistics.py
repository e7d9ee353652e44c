"""E-values for one person's volume: evidence that may be looked at after every answer, and stopped at whenever one likes.

An e-value is a number of expectation 1 at most where nothing is the case; by Ville's inequality it ever reaches 20 with a
probability of 1/20 at most, however often one looks (Ramdas, Grünwald, Vovk and Shafer 2023, "Game-theoretic statistics and safe
anytime-valid inference"). All but `normal_mixture` are exact for any number of answers; that one assumes normal values. Not
covered: where the counts come from (data/store/evidence.py, data/store/measures.py) and what follows from them.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache

from data.errors import InputError

SIGNIFICANT = 20.0
"""The e-value from which one believes: false in one of twenty cases at most."""
PAIRS_IN_SIGHT = 1000
MARGIN = 0.1
"""How much worse still counts as not worse: about the least that tens of pairs can prove."""
DRIFTED = 0.2
"""The population stability index from which a mix is taken to have changed (Siddiqi 2006, "Credit Risk Scorecards")."""
_PAIRED = 2.0
"""Both parameters of the Beta prior of the win rate: rates far from one half are held less likely."""
_GUARD = (1.0, 3.0)
"""Beta prior of a bad rate above the baseline: a little worse is likelier than hopeless."""
_STAKES = (0.25, 0.5, 0.75, 0.95)
"""Shares of the largest stake that are betted on, in equal parts."""
_RISES = (0.05, 0.1, 0.2, 0.4)
"""Differences between two arms that are betted on, in equal shares."""
_LEVELS = 500
"""Rates of the first arm that are betted on, in equal steps of their arc sine: a grid as fine as 100,000 answers can tell apart."""
_LARGEST = 700.0  # the logarithm of the largest e-value that is told: exp(709.8) is the end of a double


def paired(wins: int, losses: int) -> float:
    """The e-value that a challenger wins more than half of its blind pairs; ties are not counted.

    2 · 2ⁿ · B(w+2, l+2) / B(2, 2) · P(Beta(w+2, l+2) > 1/2): the likelihood ratio to a rate of one half, averaged over Beta(2, 2)
    above one half. The mirrored statistic, that it is worse, is `paired(losses, wins)`. Raises InputError for impossible counts.
    """
    _require(0 <= wins and 0 <= losses, f"{wins} wins and {losses} losses")
    return _paired(wins, losses)


def more_pairs(wins: int, losses: int, threshold: float = SIGNIFICANT) -> int | None:
    """About how many more pairs decide, if things go on as they do; 0 where they have decided, None where that is not in sight.

    How things go is the mean of Beta(wins + 2, losses + 2), which the first few pairs do not carry away.
    """
    if paired(wins, losses) >= threshold:
        return 0
    rate = (wins + _PAIRED) / (wins + losses + 2 * _PAIRED)
    if not wins + losses or rate <= 0.5:
        return None
    more = 1
    while wins + losses + more <= PAIRS_IN_SIGHT:
        if _paired(wins + rate * more, losses + (1 - rate) * more) >= threshold:
            return more
        more += max(1, more // 20)
    return None


def not_worse(wins: int, losses: int, ties: int, margin: float = MARGIN) -> float:
    """The e-value that a challenger's share of wins is not below its share of losses by `margin` or more; ties count here.

    Wins count 1, losses -1 and ties 0; on a mean above -margin one bets a share of what one has, over and over, in several sizes
    (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting"). 39 ties prove it at a margin of a
    tenth. Raises InputError for impossible counts.
    """
    _require(min(wins, losses, ties) >= 0 and 0.0 < margin < 1.0, f"{wins} wins, {losses} losses and {ties} ties")
    return _not_worse(wins, losses, ties, margin)


def more_not_worse(wins: int, losses: int, ties: int, margin: float = MARGIN, threshold: float = SIGNIFICANT) -> int | None:
    """About how many more pairs prove it, if they come out as those so far (ties where there are none); 0 where it is proven, None
    where that is not in sight. Raises InputError as `not_worse`."""
    if not_worse(wins, losses, ties, margin) >= threshold:
        return 0
    count = wins + losses + ties
    shares = (wins / count, losses / count, ties / count) if count else (0.0, 0.0, 1.0)
    for more in range(1, PAIRS_IN_SIGHT + 1):
        won, lost, tied = (more * share for share in shares)
        if _not_worse(wins + won, losses + lost, ties + tied, margin) >= threshold:
            return more
    return None


def guard(bad: int, turns: int, baseline: float) -> float:
    """The e-value that answers are bad more often than `baseline`, a known share between 0 and 1, both excluded.

    The likelihood ratio to the baseline, averaged over a Beta prior above it. Raises InputError for impossible counts.
    """
    _require(0 <= bad <= turns and 0.0 < baseline < 1.0, f"{bad} bad of {turns} answers, where {baseline:.3g} are usual")
    a, b = _GUARD
    mixture = log_beta(a + bad, b + turns - bad) + log_above(baseline, a + bad, b + turns - bad)
    prior = log_beta(a, b) + log_above(baseline, a, b)
    return _value(mixture - prior - bad * math.log(baseline) - (turns - bad) * math.log1p(-baseline))


def two_arms(successes_a: int, n_a: int, successes_b: int, n_b: int) -> float:
    """The e-value that the second arm succeeds more often than the first, both rates unknown; the arms need not be of one size.

    A mixture over pairs of rates whose second is higher, over the largest likelihood of two rates whose second is not (universal
    inference: Wasserman, Ramdas and Balakrishnan 2020, section 8). It holds however answers are dealt to the arms. Raises
    InputError for impossible counts.
    """
    _require(
        0 <= successes_a <= n_a and 0 <= successes_b <= n_b, f"{successes_a} of {n_a} successes against {successes_b} of {n_b}"
    )
    bad_a, bad_b = n_a - successes_a, n_b - successes_b
    logs = [successes_a * a + bad_a * not_a + successes_b * b + bad_b * not_b for a, not_a, b, not_b in _bets()]
    return _value(_log_mean(logs) - _null(successes_a, n_a, successes_b, n_b))


def normal_mixture(now: Sequence[float], before: Sequence[float], effect: float = 0.5) -> float:
    """The e-value that the mean of `now` differs from that of `before`; both means and the common variance are unknown.

    A sequential probability ratio with a normal mixture over the difference in standard deviations, of spread `effect`: the
    two-sample Bayes factor of Gönen, Johnson, Lu and Westfall 2005, which may be stopped at any time where values are normal
    (Hendriksen, de Heide and Grünwald 2021). Give logarithms of durations and lengths. 1.0 where there are too few values.
    """
    n, m = len(now), len(before)
    if not n or not m or n + m < 4:
        return 1.0
    mean, usual = math.fsum(now) / n, math.fsum(before) / m
    within = math.fsum((x - mean) ** 2 for x in now) + math.fsum((x - usual) ** 2 for x in before)
    freedom, size = n + m - 2, n * m / (n + m)
    between = size * (mean - usual) ** 2
    if within + between <= 0:
        return 1.0
    spread = 1 + size * effect**2
    log = (freedom + 1) / 2 * (math.log(within + between) - math.log(within + between / spread)) - math.log(spread) / 2
    return _value(log)


def threshold(candidate: int) -> float:
    """The e-value that the n-th candidate of a quarter (from 1) has to reach: trying again and again is many tests."""
    _require(candidate >= 1, f"candidate number {candidate}")
    return SIGNIFICANT if candidate == 1 else 2 * SIGNIFICANT if candidate <= 3 else 4 * SIGNIFICANT


def discoveries(e_values: Sequence[float], level: float = 1 / SIGNIFICANT) -> list[int]:
    """Which of many e-values count together, by place, the largest first (e-BH: Wang and Ramdas 2022).

    Of what is found a share of `level` at most is expected to be false, whatever depends on what; where nothing is the case
    at all, anything is found with that probability at most.
    """
    order = sorted(range(len(e_values)), key=lambda place: -e_values[place])
    for count in range(len(order), 0, -1):
        if e_values[order[count - 1]] * count * level >= len(order):
            return order[:count]
    return []


def psi(now: Mapping[str, int], before: Mapping[str, int]) -> float:
    """The population stability index of two mixes of counts: 0 for the same shares; above DRIFTED it is another mix.

    Half an answer is added to every kind, so that one that is new or gone has a finite weight. Raises InputError where either
    is empty.
    """
    kinds = sorted({*now, *before})
    shares = [_shares(mix, kinds) for mix in (now, before)]
    return math.fsum((a - b) * math.log(a / b) for a, b in zip(*shares, strict=True))


def psi_by_chance(now: Mapping[str, int], before: Mapping[str, int]) -> float:
    """The index that mixes of these sizes stay below with 95 % probability where nothing has changed.

    index · nm/(n+m) is about chi-squared with one degree of freedom less than there are kinds (Yurdakul 2018, "Statistical
    Properties of Population Stability Index"), here by the approximation of Wilson and Hilferty 1931.
    """
    freedom = len({*now, *before}) - 1
    n, m = sum(now.values()), sum(before.values())
    _require(n > 0 and m > 0, "a mix of nothing")
    if not freedom:
        return 0.0
    part = 2 / (9 * freedom)
    return freedom * (1 - part + 1.6449 * math.sqrt(part)) ** 3 * (1 / n + 1 / m)


def log_beta(a: float, b: float) -> float:
    """The logarithm of the beta function."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def log_above(x: float, a: float, b: float) -> float:
    """The logarithm of P(Beta(a, b) > x), for x between 0 and 1, both excluded."""
    if 1 - x < (b + 1) / (a + b + 2):
        return _log_fraction(1 - x, b, a)
    below = math.exp(min(_log_fraction(x, a, b), 0.0))
    return math.log1p(-below) if below < 1 else -math.inf


def _log_fraction(x: float, a: float, b: float) -> float:
    """log P(Beta(a, b) < x) by Lentz's continued fraction (DLMF 8.17.22), which converges fast for x below (a+1)/(a+b+2)."""
    tiny = 1e-300
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1), tiny)
    found = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for factor in (even, odd):
            d, c = 1 / _away(1 + factor * d, tiny), _away(1 + factor / c, tiny)
            found *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return a * math.log(x) + b * math.log1p(-x) - math.log(a) - log_beta(a, b) + math.log(found)


def _away(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny


def _paired(wins: float, losses: float) -> float:
    a, b = wins + _PAIRED, losses + _PAIRED
    return _value((wins + losses + 1) * math.log(2) + log_beta(a, b) - log_beta(_PAIRED, _PAIRED) + log_above(0.5, a, b))


def _not_worse(wins: float, losses: float, ties: float, margin: float) -> float:
    stakes = [share / (1 - margin) for share in _STAKES]
    return _value(
        _log_mean(
            [
                wins * math.log1p(stake * (1 + margin))
                + losses * math.log1p(-stake * (1 - margin))
                + ties * math.log1p(stake * margin)
                for stake in stakes
            ]
        )
    )


@cache
def _bets() -> tuple[tuple[float, float, float, float], ...]:
    """Logarithms of both arms' rates and of what is left of them to 1, of every pair of rates that is betted on."""
    lows = [math.sin(math.pi / 2 * (level + 0.5) / _LEVELS) ** 2 for level in range(_LEVELS)]
    pairs = [(low * (1 - rise), low * (1 - rise) + rise) for rise in _RISES for low in lows]
    return tuple((math.log(a), math.log1p(-a), math.log(b), math.log1p(-b)) for a, b in pairs)


def _null(successes_a: int, n_a: int, successes_b: int, n_b: int) -> float:
    """The largest log-likelihood of two rates whose second is not the higher one."""
    if successes_b * n_a <= successes_a * n_b:
        return _best(successes_a, n_a) + _best(successes_b, n_b)
    return _best(successes_a + successes_b, n_a + n_b)


def _best(successes: int, n: int) -> float:
    return _likelihood(successes, n, successes / n) if n else 0.0


def _likelihood(successes: int, n: int, rate: float) -> float:
    yes = successes * math.log(rate) if successes else 0.0
    return yes + ((n - successes) * math.log1p(-rate) if n > successes else 0.0)


def _log_mean(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(math.fsum(math.exp(one - top) for one in logs) / len(logs))


def _shares(mix: Mapping[str, int], kinds: Sequence[str]) -> list[float]:
    whole = sum(mix.values())
    _require(whole > 0 and min(mix.values()) >= 0, "a mix of nothing")
    return [(mix.get(kind, 0) + 0.5) / (whole + 0.5 * len(kinds)) for kind in kinds]


def _value(log: float) -> float:
    return math.exp(min(log, _LARGEST))


def _require(possible: bool, what: str) -> None:
    if not possible:
        raise InputError(f"{what}: no evidence can be drawn from that", "counts are not negative, and parts no larger than wholes")
