"""Temperature, thresholds at a stated risk, and the measures, on distributions whose answers are known."""

import math

import numpy as np
import pytest

from router.calibration import (
    accept_threshold,
    auroc,
    detection,
    detection_threshold,
    expected_calibration_error,
    risk_coverage,
    temperature,
)
from router.linear import softmax


def test_the_temperature_that_was_put_in_is_found() -> None:
    source = np.random.default_rng(0)
    logits = source.normal(size=(4_000, 5)).astype(np.float32) * 3
    labels = np.array([source.choice(5, p=row / row.sum()) for row in softmax(logits).astype(np.float64)])
    assert temperature(logits * 2.5, labels) == pytest.approx(2.5, rel=0.1)
    assert temperature(logits[:0], labels[:0]) == 1.0


def test_coarse_probabilities_are_calibrated_as_sums_of_fine_ones() -> None:
    logits = np.array([[2.0, 2.0, 0.0]] * 50, np.float32)
    groups = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    hot = temperature(logits, np.array([0] * 49 + [1]), groups)
    assert hot < temperature(logits, np.array([0] * 40 + [1] * 10), groups)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    confidence = np.array([0.9] * 10 + [0.5] * 10, np.float32)
    right = np.array([True] * 9 + [False] + [True] * 5 + [False] * 5)
    assert expected_calibration_error(confidence, right) == pytest.approx(0, abs=1e-6)
    assert expected_calibration_error(confidence, np.ones(20, bool)) == pytest.approx(0.3, abs=1e-6)
    assert expected_calibration_error(confidence[:0], right[:0]) == 0


def test_auroc_counts_pairs_and_half_of_ties() -> None:
    inside, outside = np.array([1, 2, 3], np.float32), np.array([2, 4], np.float32)
    assert auroc(inside, outside) == pytest.approx((1.5 + 3) / 6)
    assert math.isnan(auroc(inside, outside[:0]))


def test_detection_counts_hits_and_false_alarms() -> None:
    seen = detection(np.array([0, 1, 5], np.float32), np.array([5, 6, 0], np.float32), 5)
    assert (seen.precision, seen.recall, seen.f1) == (pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert detection(np.array([0.0]), np.array([0.0]), 1).f1 == 0


def test_the_threshold_lies_where_two_bells_cross_by_their_share() -> None:
    source = np.random.default_rng(1)
    inside, outside = source.normal(0, 1, 3_000).astype(np.float32), source.normal(4, 1, 400).astype(np.float32)
    even, rare = (detection_threshold(inside, outside, share) for share in (0.5, 0.02))
    assert 1.2 < even < 3.2
    assert rare > even
    assert detection_threshold(inside, outside[:0]) == math.inf


def test_the_accept_threshold_keeps_its_promise_on_new_data() -> None:
    broken = 0
    for seed in range(40):
        source = np.random.default_rng(seed)
        confidence = source.uniform(0.3, 1, 4_000).astype(np.float32)
        right = source.random(4_000) < confidence
        limit = accept_threshold(confidence[:2_000], right[:2_000], 0.1)
        true_risk = 1 - (1 + limit) / 2  # of a uniform confidence from the limit to 1
        broken += true_risk > 0.1
    assert broken <= 9  # one in ten is promised: 40 * 0.1 and two standard deviations


def test_too_few_rows_show_no_risk_at_all() -> None:
    assert accept_threshold(np.ones(20, np.float32), np.ones(20, bool), 0.05) == math.inf
    assert accept_threshold(np.ones(60, np.float32), np.ones(60, bool), 0.05) == 1.0


def test_risk_grows_with_coverage_where_confidence_is_honest() -> None:
    source = np.random.default_rng(2)
    confidence = source.uniform(0.5, 1, 5_000).astype(np.float32)
    curve = risk_coverage(confidence, source.random(5_000) < confidence, 5)
    assert [coverage for coverage, _ in curve] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [risk for _, risk in curve] == sorted(risk for _, risk in curve)
    assert risk_coverage(confidence[:0], np.zeros(0, bool)) == []
