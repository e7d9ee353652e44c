"""The figures that compare a requantised model with its original, on distributions small enough to work out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from export.fidelity import CLEAR, KL_LIMIT, RISE_LIMIT, Figures, cosines, figures, log_softmax, positions, refusals

SAME = Figures(perplexity=8.0, rise=0.0, rise_error=0.0, kl_mean=0.0, kl_max=0.0, agreement=1.0, clear_changes=0)


def logs(*rows: list[float]) -> np.ndarray:
    return np.log(np.array(rows, dtype=np.float32))


def test_log_softmax_is_exact_for_large_logits_too() -> None:
    found = log_softmax(np.array([[1000, 1000 + math.log(3)], [-5, -5]], dtype=np.float32))
    assert np.exp(found).sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert np.exp(found[0]) == pytest.approx([0.25, 0.75], abs=1e-4)


def test_a_model_beside_itself_differs_in_nothing() -> None:
    rows = logs([0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.2, 0.7, 0.1])
    found = figures([positions(rows, rows, [0, 2, 1])])
    assert (found.kl_mean, found.kl_max, found.rise, found.rise_error, found.agreement, found.clear_changes) == (0, 0, 0, 0, 1, 0)
    assert found.perplexity == pytest.approx((0.25 * 0.1) ** -0.5)  # the last row predicts what is not there


def test_divergence_rise_and_changed_choices_are_worked_out_per_position() -> None:
    original = logs([0.8, 0.1, 0.1], [0.5, 0.4, 0.1])
    form = logs([0.2, 0.7, 0.1], [0.4, 0.5, 0.1])
    found = positions(original, form, [2, 0])
    assert found.kl == pytest.approx(
        [0.8 * math.log(4) + 0.1 * math.log(1 / 7), 0.5 * math.log(1.25) + 0.4 * math.log(0.8)], abs=1e-6
    )
    assert found.surprise == pytest.approx([-math.log(0.2)])
    assert found.rise == pytest.approx([math.log(4)])
    assert found.lead == pytest.approx([math.log(8), math.log(1.25)])
    total = figures([found])
    assert total.agreement == 0
    assert total.clear_changes == 1 == sum(lead > CLEAR for lead in found.lead)


def test_every_position_of_every_text_counts_the_same() -> None:
    one = positions(logs([0.5, 0.5]), logs([0.5, 0.5]), [0])
    three = positions(logs(*[[0.5, 0.5]] * 3), logs(*[[0.9, 0.1]] * 3), [0, 0, 1])
    found = figures([one, three])
    assert found.kl_mean == pytest.approx(3 / 4 * found.kl_max)
    assert found.rise == pytest.approx((math.log(0.5 / 0.9) + math.log(0.5 / 0.1)) / 2)
    assert found.rise_error == pytest.approx(math.log(9) / 2 / 2**0.5)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kl_mean": KL_LIMIT * 1.01}, "nats from the original's"),
        ({"kl_mean": math.nan}, "nats from the original's"),
        ({"rise": RISE_LIMIT * 1.01}, "0.5 % above"),
        ({"rise": 0.03, "rise_error": 0.01}, "3.0 % above"),
        ({"rise": math.nan}, "above the original's"),
        ({"clear_changes": 1}, "1 clear first choices change"),
    ],
)
def test_each_part_of_the_rule_refuses_alone(change: dict[str, float], complaint: str) -> None:
    [reason] = refusals(replace(SAME, **change))
    assert complaint in reason


def test_a_rise_that_chance_explains_and_a_fall_are_admissible() -> None:
    assert refusals(replace(SAME, kl_mean=KL_LIMIT, agreement=0.9)) == []
    assert refusals(replace(SAME, rise=0.014, rise_error=0.005)) == []
    assert refusals(replace(SAME, rise=-0.2)) == []


def test_cosines_compare_row_with_row() -> None:
    found = cosines(np.array([[1, 0], [1, 1]]), np.array([[2, 0], [1, -1]]))
    assert found == pytest.approx([1, 0])
