"""How far a head's numbers can be trusted: temperature, thresholds at a stated risk, and the measures that say so.

Temperature scaling after Guo et al. 2017 (arXiv 1706.04599); the accept threshold is the lowest one whose error among what is
accepted is, with 90 % confidence, at most the stated risk (fixed-sequence testing after Angelopoulos et al., Learn then Test,
arXiv 2110.01052, with exact binomial tails). Out-of-scope scores are larger for what is further out. Not covered: the scores
themselves (`classifier`).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.linear import Floats, softmax

BINS = 15
"""Bins of equal width of the expected calibration error."""
CONFIDENCE = 0.9
"""That the risk among accepted decisions is at most the stated one."""
OUT_OF_SCOPE_SHARE = 0.18
"""Of the questions that are taken to be out of scope when a threshold weighs misses against false alarms (CLINC150's own
share; its validation part holds a sixth of it, so counts are reweighted to this share)."""

SLACK = 0.01
"""F1 that may be given up for fewer false alarms."""


Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """A detector's worth: AUROC, and F1 of "out of scope" with precision and recall at `threshold`."""

    auroc: float
    f1: float
    precision: float
    recall: float
    threshold: float


def temperature(logits: Floats, labels: NDArray[np.int64], groups: Floats | None = None) -> float:
    """The T that makes softmax(logits / T) likeliest; `groups` (classes, coarse) sums probabilities before that.

    1.0 where nothing is labelled. Golden-section search over ln T in [ln 0.05, ln 20].
    """
    if not len(labels):
        return 1.0
    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        shares = softmax(logits / np.float32(math.exp(log_t)))
        if groups is not None:
            shares = shares @ groups
        return -float(np.log(np.maximum(shares[rows, labels], 1e-12)).mean(dtype=np.float64))

    low, high = math.log(0.05), math.log(20.0)
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-3:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return math.exp((low + high) / 2)


def expected_calibration_error(confidence: Floats, correct: Booleans) -> float:
    """Mean distance of confidence from accuracy over BINS bins of equal width, each weighted by its share of the rows."""
    if not len(confidence):
        return 0.0
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    gap = np.bincount(bins, confidence, BINS) - np.bincount(bins, correct.astype(np.float64), BINS)
    return float(np.abs(gap).sum() / counts.sum())


def auroc(inside: Floats, outside: Floats) -> float:
    """How often an out-of-scope row scores above one in scope, ties counting half; nan where either is missing."""
    if not len(inside) or not len(outside):
        return math.nan
    ordered = np.sort(inside)
    below = np.searchsorted(ordered, outside, "left")
    upto = np.searchsorted(ordered, outside, "right")
    return float((below + upto).sum(dtype=np.float64) / 2 / (len(inside) * len(outside)))


def detection(inside: Floats, outside: Floats, threshold: float) -> OutOfScope:
    """The detector that calls out of scope what scores at least `threshold`, on these rows as they are."""
    hits, alarms = int((outside >= threshold).sum()), int((inside >= threshold).sum())
    precision = hits / (hits + alarms) if hits else 0.0
    recall = hits / len(outside) if len(outside) else 0.0
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return OutOfScope(auroc(inside, outside), f1, precision, recall, threshold)


def detection_threshold(inside: Floats, outside: Floats, share: float = OUT_OF_SCOPE_SHARE) -> float:
    """The score from which on F1 is best, but for SLACK, when `share` of the questions are out of scope; inf where none is known.

    Of all thresholds that are nearly the best, the highest: false alarms, and decisions that a slip flips, are fewest there.
    Both distributions are smoothed with a normal kernel (Silverman's width), because a hundred rows make a ragged curve.
    """
    if not len(inside) or not len(outside):
        return math.inf
    grid = np.linspace(min(inside.min(), outside.min()), max(inside.max(), outside.max()), 512)
    hits, alarms = _tail(outside, grid) * share, _tail(inside, grid) * (1 - share)
    f1 = 2 * hits / np.maximum(hits + alarms + share, 1e-12)
    return float(grid[np.flatnonzero(f1 >= f1.max() - SLACK)[-1]])


def accept_threshold(confidence: Floats, correct: Booleans, risk: float) -> float:
    """The lowest confidence from which on the error is at most `risk`, with CONFIDENCE; inf where there is none.

    Thresholds are tested from the strictest down, each on all rows above it, until one fails.
    """
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence, wrong = confidence[order], np.cumsum(~correct[order])
    found = math.inf
    fewest = math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-risk))  # rows that show it if none of them is wrong
    if len(order) < fewest:
        return found
    for count in np.unique(np.linspace(fewest, len(order), 50).astype(np.int64)):
        if _binomial_tail(int(wrong[count - 1]), int(count), risk) > 1 - CONFIDENCE:
            break
        found = float(sorted_confidence[count - 1])
    return found


def risk_coverage(confidence: Floats, correct: Booleans, points: int = 20) -> list[tuple[float, float]]:
    """(coverage, error among what is covered), the most confident first."""
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(~correct[order])
    if not len(order):
        return []
    counts = np.unique(np.linspace(1, len(order), points + 1)[1:].astype(np.int64))
    return [(int(count) / len(order), float(wrong[count - 1]) / int(count)) for count in counts]


def _tail(scores: Floats, grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the smoothed scores at or above each point of the grid."""
    spread = float(min(scores.std(), np.subtract(*np.percentile(scores, [75, 25])) / 1.349) or scores.std())
    width = max(0.9 * spread * len(scores) ** -0.2, 1e-6)
    shares: NDArray[np.float64] = 1 - _normal((grid[:, None] - scores[None, :]) / width).mean(axis=1)
    return shares


def _normal(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """The normal distribution function by its logistic approximation (Bowling et al. 2009, error below 1.4e-4)."""
    return 1 / (1 + np.exp(-np.clip(1.5976 * z + 0.07056 * z**3, -50, 50)))


def _binomial_tail(errors: int, count: int, risk: float) -> float:
    """P(at most `errors` of `count`) where each fails with probability `risk`: small when the true risk is lower."""
    if risk <= 0:
        return 1.0
    logs = [
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(risk)
        + (count - k) * math.log1p(-risk)
        for k in range(errors + 1)
    ]
    top = max(logs)
    return min(1.0, math.exp(top) * sum(math.exp(one - top) for one in logs))
