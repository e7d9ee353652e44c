"""E-values: never negative, of expectation 1 at most where nothing is the case, the published formula, and what data they need."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import statistics
from data.errors import InputError

counts = st.integers(0, 400)


def integrated(x: float, a: float, b: float) -> float:
    """P(Beta(a, b) > x) by the midpoint rule."""
    at = (np.arange(200_000) + 0.5) / 200_000
    density = np.exp((a - 1) * np.log(at) + (b - 1) * np.log1p(-at) - statistics.log_beta(a, b))
    return float(density[at > x].mean() * (at > x).mean())


def stops(rate: float, e_value, turns: int, threshold: float = 20.0) -> list[float]:
    """The exact probability that the e-value of (cases, turns) has reached the threshold by each turn."""
    alive, stopped, found = {0: 1.0}, 0.0, []
    for turn in range(1, turns + 1):
        moved: dict[int, float] = {}
        for cases, weight in alive.items():
            moved[cases] = moved.get(cases, 0.0) + weight * (1 - rate)
            moved[cases + 1] = moved.get(cases + 1, 0.0) + weight * rate
        reached = {cases for cases in moved if e_value(cases, turn) >= threshold}
        stopped += sum(moved[cases] for cases in reached)
        alive = {cases: weight for cases, weight in moved.items() if cases not in reached}
        found.append(stopped)
    return found


def median(reached: list[float]) -> int:
    return next(turn for turn, share in enumerate(reached, 1) if share >= 0.5)


def of_pairs(wins: int, pairs: int) -> float:
    return statistics.paired(wins, pairs - wins)


@given(wins=counts, losses=counts)
@settings(deadline=None, max_examples=60)
def test_the_paired_e_value_is_the_published_formula(wins: int, losses: int) -> None:
    n = wins + losses
    above = sum(math.comb(n + 3, heads) for heads in range(wins + 2)) / 2 ** (n + 3)  # P(Beta(w+2, l+2) > 1/2), a binomial tail
    exact = math.log(2) + n * math.log(2) + statistics.log_beta(wins + 2, losses + 2) + math.log(6) + math.log(above)
    assert math.log(statistics.paired(wins, losses)) == pytest.approx(exact, abs=1e-9)


@given(x=st.floats(0.01, 0.99), a=st.floats(1, 60), b=st.floats(1, 60))
@settings(deadline=None, max_examples=40)
def test_the_tail_of_the_beta_distribution_agrees_with_integration(x: float, a: float, b: float) -> None:
    assert math.exp(statistics.log_above(x, a, b)) == pytest.approx(integrated(x, a, b), abs=2e-4)


def test_a_tail_too_small_for_a_double_keeps_its_logarithm() -> None:
    assert statistics.log_above(0.5, 2, 4002) == pytest.approx(-4003 * math.log(2) + math.log(4004), rel=1e-9)
    assert statistics.log_above(0.5, 4002, 2) == pytest.approx(0.0, abs=1e-12)


@given(bad=counts, good=counts, cases=counts, others=counts, baseline=st.floats(0.001, 0.999))
@settings(deadline=None, max_examples=60)
def test_no_e_value_is_negative_or_endless(bad: int, good: int, cases: int, others: int, baseline: float) -> None:
    values = (
        statistics.paired(bad, good),
        statistics.guard(bad, bad + good, baseline),
        statistics.two_arms(bad, bad + good, cases, cases + others),
        statistics.normal_mixture([float(bad), float(good)], [float(cases), float(others), 1.0]),
    )
    assert all(0 <= value < math.inf for value in values)


def test_nothing_seen_is_no_evidence() -> None:
    assert statistics.paired(0, 0) == pytest.approx(1)
    assert statistics.guard(0, 0, 0.1) == pytest.approx(1)
    assert statistics.two_arms(0, 0, 0, 0) == pytest.approx(1)
    assert statistics.normal_mixture([], [1.0, 2.0]) == 1.0
    assert statistics.normal_mixture([3.0, 3.0], [3.0, 3.0]) == 1.0


@pytest.mark.parametrize("pairs", [1, 4, 12])
@pytest.mark.parametrize("rate", [0.2, 0.4, 0.5])
def test_pairs_expect_at_most_one_where_the_challenger_is_no_better(pairs: int, rate: float) -> None:
    expected = sum(binomial(pairs, wins, rate) * of_pairs(wins, pairs) for wins in range(pairs + 1))
    assert expected <= 1 + 1e-9
    assert rate < 0.5 or expected == pytest.approx(1)


@pytest.mark.parametrize("turns", [1, 5, 20])
@pytest.mark.parametrize(("rate", "baseline"), [(0.1, 0.1), (0.05, 0.1), (0.3, 0.3), (0.01, 0.5)])
def test_the_guard_expects_at_most_one_at_or_below_the_baseline(turns: int, rate: float, baseline: float) -> None:
    expected = sum(binomial(turns, bad, rate) * statistics.guard(bad, turns, baseline) for bad in range(turns + 1))
    assert expected <= 1 + 1e-9
    assert rate < baseline or expected == pytest.approx(1)


@pytest.mark.parametrize("sizes", [(1, 1), (3, 9), (8, 2), (6, 6)])
@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.1, 0.1), (0.9, 0.9), (0.7, 0.4)])
def test_two_arms_expect_at_most_one_where_the_second_is_no_better(sizes: tuple[int, int], rates: tuple[float, float]) -> None:
    expected = sum(
        binomial(sizes[0], a, rates[0]) * binomial(sizes[1], b, rates[1]) * statistics.two_arms(a, sizes[0], b, sizes[1])
        for a, b in itertools.product(range(sizes[0] + 1), range(sizes[1] + 1))
    )
    assert expected <= 1 + 1e-9


@pytest.mark.parametrize("heavy", [False, True])
def test_two_means_that_are_one_rarely_look_different(heavy: bool) -> None:
    chance = np.random.default_rng(5)
    false = 0
    for _ in range(300):
        draw = chance.standard_t(4, 90) if heavy else chance.normal(0, 1, 90)
        before, now = draw[:30].tolist(), draw[30:].tolist()
        false += any(statistics.normal_mixture(now[:seen], before) >= 20 for seen in range(2, 61, 2))
    assert false / 300 <= 0.05


def test_a_mean_that_moved_is_seen() -> None:
    chance = np.random.default_rng(6)
    before = chance.normal(0, 0.4, 200).tolist()
    assert statistics.normal_mixture((chance.normal(0.5, 0.4, 40)).tolist(), before) > 1000


def test_peeking_after_every_pair_promotes_falsely_in_one_of_twenty_at_most() -> None:
    assert stops(0.5, of_pairs, 400)[-1] <= 0.05  # exact, and so stronger than 2,000 simulations
    table = {(wins, pairs): of_pairs(wins, pairs) for pairs in range(1, 201) for wins in range(pairs + 1)}
    wins = np.cumsum(np.random.default_rng(7).random((2000, 200)) < 0.5, axis=1)
    false = sum(any(table[int(won), pairs] >= 20 for pairs, won in enumerate(row, 1)) for row in wins)
    assert false / 2000 <= 0.05


@pytest.mark.parametrize(("rate", "needed", "by_100"), [(0.65, 62, 0.7), (0.7, 34, 0.94), (0.75, 23, 0.997), (0.8, 17, 1.0)])
def test_a_better_model_needs_the_pairs_of_the_research_table(rate: float, needed: int, by_100: float) -> None:
    reached = stops(rate, of_pairs, 150)
    assert abs(median(reached) - needed) <= 3
    assert reached[99] == pytest.approx(by_100, abs=0.03)


def test_a_slightly_better_model_needs_many_more_pairs() -> None:
    assert 120 <= median(stops(0.6, of_pairs, 200)) <= 160


def test_not_worse_expects_at_most_one_where_the_challenger_is_worse_by_the_margin() -> None:
    for win, loss in ((0.0, 0.1), (0.1, 0.2), (0.45, 0.55)):
        shares = (win, loss, 1 - win - loss)
        expected = math.fsum(
            math.comb(12, wins) * math.comb(12 - wins, losses) * win**wins * loss**losses * shares[2] ** (12 - wins - losses)
            * statistics.not_worse(wins, losses, 12 - wins - losses)
            for wins in range(13)
            for losses in range(13 - wins)
        )  # fmt: skip
        assert expected <= 1 + 1e-9


def test_forty_pairs_alike_prove_that_a_challenger_is_not_worse() -> None:
    assert statistics.not_worse(0, 0, 38) < statistics.SIGNIFICANT <= statistics.not_worse(0, 0, 39)
    assert statistics.more_not_worse(0, 0, 0) == 39 and statistics.more_not_worse(0, 0, 30) == 9
    assert statistics.more_not_worse(10, 0, 0) == 0 and statistics.more_not_worse(0, 3, 10) is None
    assert statistics.not_worse(0, 5, 5) < 0.1 and statistics.not_worse(5000, 0, 5000) < math.inf


def test_a_bad_canary_is_stopped_within_twenty_answers_and_a_usual_one_goes_on() -> None:
    def e_value(bad: int, turns: int) -> float:
        return statistics.guard(bad, turns, 0.1)

    assert median(stops(0.4, e_value, 60)) <= 20
    assert median(stops(0.3, e_value, 60)) <= 22
    assert median(stops(0.8, e_value, 20)) <= 4
    assert stops(0.1, e_value, 200)[-1] <= 0.05


def test_two_arms_see_a_difference_and_its_direction() -> None:
    assert statistics.two_arms(60, 100, 90, 100) > 1000
    assert statistics.two_arms(90, 100, 60, 100) < 0.1
    assert statistics.two_arms(90, 100, 0, 0) <= 1


def test_more_pairs_are_told_while_a_decision_is_in_sight() -> None:
    assert statistics.more_pairs(0, 0) is None
    assert statistics.more_pairs(5, 5) is None
    assert statistics.more_pairs(20, 2) == 0
    near, far = statistics.more_pairs(12, 3), statistics.more_pairs(7, 4)
    assert near is not None and far is not None and 0 < near < far
    decided = statistics.more_pairs(14, 6)
    assert decided is not None
    rate = 16 / 24
    won, lost = 14 + round(rate * decided), 6 + round((1 - rate) * decided)
    assert statistics.paired(won, lost) == pytest.approx(20, rel=0.5)
    later = statistics.more_pairs(14, 6, threshold=80)
    assert later is not None and later > decided


def test_every_further_candidate_of_a_quarter_has_to_prove_more() -> None:
    assert [statistics.threshold(number) for number in (1, 2, 3, 4, 9)] == [20, 40, 40, 80, 80]


def test_of_many_questions_only_what_holds_together_is_found() -> None:
    assert statistics.discoveries([]) == []
    assert statistics.discoveries([19.0]) == []
    assert statistics.discoveries([20.0]) == [0]
    assert statistics.discoveries([30.0, 1.0, 1.0]) == []
    assert statistics.discoveries([1.0, 30.0, 31.0]) == [2, 1]


def test_drift_is_none_of_the_same_mix_and_seen_of_another() -> None:
    mix = {"triage": 500, "code": 300, "": 200}
    assert statistics.psi(mix, mix) == 0
    assert statistics.psi({"triage": 50, "code": 30, "": 20}, mix) < 0.01
    assert statistics.psi({"triage": 10, "code": 90, "docs": 20}, mix) > statistics.DRIFTED
    assert statistics.psi_by_chance({"a": 5, "b": 5, "c": 5}, {"a": 5, "b": 5, "c": 5}) > statistics.DRIFTED
    assert statistics.psi_by_chance({"a": 5}, {"a": 9}) == 0


def test_the_index_stays_below_its_chance_level_as_often_as_it_should() -> None:
    chance = np.random.default_rng(8)
    shares = [0.4, 0.3, 0.2, 0.1]
    above = 0
    for _ in range(1000):
        now, before = (dict(enumerate(chance.multinomial(size, shares).tolist())) for size in (100, 400))
        named = [{str(kind): count for kind, count in mix.items()} for mix in (now, before)]
        above += statistics.psi(*named) > statistics.psi_by_chance(*named)
    assert above / 1000 <= 0.08


@pytest.mark.parametrize(
    "impossible",
    [
        lambda: statistics.paired(-1, 2),
        lambda: statistics.guard(3, 2, 0.1),
        lambda: statistics.guard(1, 2, 0.0),
        lambda: statistics.guard(1, 2, 1.0),
        lambda: statistics.two_arms(2, 1, 0, 0),
        lambda: statistics.threshold(0),
        lambda: statistics.psi({}, {"a": 1}),
        lambda: statistics.psi_by_chance({"a": 1}, {}),
    ],
)
def test_impossible_counts_are_refused(impossible) -> None:
    with pytest.raises(InputError):
        impossible()


def binomial(n: int, k: int, rate: float) -> float:
    return math.comb(n, k) * rate**k * (1 - rate) ** (n - k)
