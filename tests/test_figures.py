"""Figures against numbers worked out by hand and by other formulas."""

import numpy as np
import pytest

from trainer.figures import by_class, confusion, figures, macro_f1, macro_f1_interval, plain, wilson

RIGHT = np.array([0, 0, 0, 1, 1, 2])
SAID = np.array([0, 0, 1, 1, -1, 0])
CLASSES = ("a", "b", "c")


def test_precision_recall_and_f1_by_class() -> None:
    found = {one.label: one for one in by_class(CLASSES, confusion(RIGHT, SAID, 3))}
    assert (found["a"].precision, found["a"].recall, found["a"].support) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 3)
    assert (found["b"].precision, found["b"].recall, found["b"].f1) == (0.5, 0.5, 0.5)
    assert (found["c"].precision, found["c"].recall, found["c"].f1, found["c"].support) == (0, 0, 0, 1)


def test_no_answer_counts_as_wrong_and_has_a_column_of_its_own() -> None:
    found = figures(CLASSES, RIGHT, SAID)
    assert found.confusion == ((2, 1, 0, 0), (0, 1, 0, 1), (1, 0, 0, 0))
    assert found.accuracy == 0.5
    assert found.macro_f1 == pytest.approx((2 / 3 + 0.5 + 0) / 3) == macro_f1(RIGHT, SAID)
    assert (found.ece, found.brier, found.nll) == (None, None, None)


def test_macro_f1_averages_over_classes_that_occur_right_or_said() -> None:
    assert figures(("a", "b", "unused"), np.array([0, 1]), np.array([0, 1])).macro_f1 == 1.0
    assert figures(("a", "b", "said"), np.array([0, 1]), np.array([0, 2])).macro_f1 == pytest.approx(1 / 3)


def test_brier_and_log_loss_of_given_probabilities_alone() -> None:
    shares = np.array([[0.8, 0.2], [np.nan, np.nan], [0.3, 0.7]], np.float32)
    found = figures(("a", "b"), np.array([0, 1, 0]), np.array([0, -1, 1]), shares)
    assert found.brier == pytest.approx(((0.04 + 0.04) + (0.49 + 0.49)) / 2)
    assert found.nll == pytest.approx(-(np.log(0.8) + np.log(0.3)) / 2, abs=1e-6)
    assert found.ece == pytest.approx((0.2 + 0.7) / 2, abs=1e-6)


def test_wilson_interval_as_published() -> None:
    assert (wilson(81, 263).low, wilson(81, 263).high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
    assert wilson(10, 10).high == pytest.approx(1.0) and 0.7 < wilson(10, 10).low < 0.75
    assert wilson(0, 10).low == 0.0


def test_the_bootstrap_interval_is_seeded_holds_the_figure_and_narrows_with_rows() -> None:
    table = confusion(RIGHT, SAID, 3)
    one, again = macro_f1_interval(table), macro_f1_interval(table)
    assert one == again
    few, many = macro_f1_interval(table * 5), macro_f1_interval(table * 500)
    assert few.high - few.low > 3 * (many.high - many.low)
    assert many.low < macro_f1(RIGHT, SAID) < many.high


def test_no_rows_have_figures_too() -> None:
    none = np.zeros(0, np.int64)
    found = figures(CLASSES, none, none)
    assert (found.n, found.accuracy, found.macro_f1) == (0, 0.0, 0.0)
    assert plain(found.accuracy_ci) == {"low": 0.0, "high": 1.0}
