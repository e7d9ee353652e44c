"""Figures of a classification: F1 by class and on average, confusion, calibration, and how far each can be trusted.

Classes are numbered; a prediction of -1 stands for no usable answer and counts as wrong. F1 averages over the classes that
occur among the right or the predicted labels, as scikit-learn does. Not covered: getting the predictions (`evaluate`).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.statistics import log_above
from router.calibration import expected_calibration_error
from router.linear import Floats

Labels = NDArray[np.int64]

Z = 1.959964
"""Of a two-sided 95 % interval of the normal distribution."""
BEYOND = 0.05
"""The probability that a share lies above its one-sided upper bound."""
DRAWS = 1_000
"""Bootstrap samples."""
SMALLEST = 1e-12
"""Probability below which none is taken for the log loss."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval of a share."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class: shares between 0 and 1, support in rows; recall_ci after Wilson."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    recall_ci: Interval


@dataclass(frozen=True, slots=True)
class Figures:
    """What one set of predictions is worth. ece, brier and nll are None where no probabilities were given.

    confusion: rows are the right classes, columns the predicted ones and, last, no usable answer.
    """

    n: int
    accuracy: float
    accuracy_ci: Interval
    macro_f1: float
    macro_f1_ci: Interval
    classes: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]
    ece: float | None
    brier: float | None
    nll: float | None


def figures(
    classes: Sequence[str], right: Labels, said: Labels, probabilities: Floats | None = None, confidence: Floats | None = None
) -> Figures:
    """Every figure. probabilities: (rows, classes), a row of nan where none were given; confidence: that of what was said, else
    the largest probability."""
    table = confusion(right, said, len(classes))
    correct = right == said
    known = np.zeros(len(right), bool) if probabilities is None else np.isfinite(probabilities).all(axis=1)
    ece = brier = nll = None
    if probabilities is not None and known.any():
        shares, truth = probabilities[known], right[known]
        sure = shares.max(axis=1) if confidence is None else confidence[known]
        ece = expected_calibration_error(np.clip(sure, 0, 1).astype(np.float32), correct[known])
        wanted = np.eye(len(classes))[truth]
        brier = float(((shares - wanted) ** 2).sum(axis=1).mean())
        nll = float(-np.log(np.maximum(shares[np.arange(len(truth)), truth], SMALLEST)).mean())
    hits = int(correct.sum())
    return Figures(
        n=len(right),
        accuracy=hits / len(right) if len(right) else 0.0,
        accuracy_ci=wilson(hits, len(right)),
        macro_f1=_macro(table),
        macro_f1_ci=macro_f1_interval(table),
        classes=by_class(classes, table),
        confusion=tuple(tuple(int(count) for count in row) for row in table),
        ece=ece,
        brier=brier,
        nll=nll,
    )


def confusion(right: Labels, said: Labels, classes: int) -> NDArray[np.int64]:
    """Counts of shape (classes, classes + 1); the last column holds predictions of -1."""
    table = np.zeros((classes, classes + 1), np.int64)
    np.add.at(table, (right, np.where(said < 0, classes, said)), 1)
    return table


def by_class(classes: Sequence[str], table: NDArray[np.int64]) -> tuple[ClassFigures, ...]:
    """Precision, recall, F1 and support of every class; 0 where there is nothing to divide by."""
    precision, recall, f1 = _rates(table[None].astype(np.float64))
    support = table.sum(axis=1)
    return tuple(
        ClassFigures(
            label,
            float(precision[0, at]),
            float(recall[0, at]),
            float(f1[0, at]),
            int(support[at]),
            wilson(int(table[at, at]), int(support[at])),
        )
        for at, label in enumerate(classes)
    )


def macro_f1(right: Labels, said: Labels) -> float:
    """The mean F1 of the classes that occur; predictions of -1 are misses."""
    count = int(max(right.max(initial=-1), said.max(initial=-1))) + 1
    return _macro(confusion(right, said, count)) if count else 0.0


def wilson(hits: int, of: int) -> Interval:
    """The 95 % score interval of a share (Wilson 1927); 0 to 1 where nothing was counted."""
    if not of:
        return Interval(0.0, 1.0)
    share, square = hits / of, Z * Z / of
    middle = (share + square / 2) / (1 + square)
    reach = Z / (1 + square) * math.sqrt(share * (1 - share) / of + square / (4 * of))
    return Interval(max(0.0, middle - reach), min(1.0, middle + reach))


def exact_upper(hits: int, of: int) -> float:
    """The one-sided upper 95 % bound of a share after Clopper and Pearson (1934), which holds for any number of independent rows.

    It is the share at which so few hits would be met with a probability of 5 %: for none of n about 3 / n; 1 where nothing was
    counted.
    """
    if hits >= of:
        return 1.0
    low, high = hits / of, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if log_above(middle, hits + 1, of - hits) > math.log(BEYOND):
            low = middle
        else:
            high = middle
    return high


def macro_f1_interval(table: NDArray[np.int64], seed: int = 0) -> Interval:
    """The 95 % percentile interval of macro-F1 over DRAWS bootstrap samples of the rows, seeded."""
    total = int(table.sum())
    if not total:
        return Interval(0.0, 1.0)
    shares = (table / total).ravel()
    drawn = np.random.default_rng(seed).multinomial(total, shares, size=DRAWS).reshape(DRAWS, *table.shape).astype(np.float64)
    found = _means(drawn)
    low, high = np.percentile(found, [2.5, 97.5])
    return Interval(float(low), float(high))


def plain(found: Any) -> Any:
    """A figure of this module, or a tuple of them, as plain JSON."""
    return [plain(one) for one in found] if isinstance(found, tuple) else asdict(found) if hasattr(found, "__slots__") else found


def _macro(table: NDArray[np.int64]) -> float:
    return float(_means(table[None].astype(np.float64))[0])


def _means(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Macro-F1 of tables of shape (n, classes, classes + 1)."""
    f1 = _rates(tables)[2]
    classes = tables.shape[1]
    occurs = (tables.sum(axis=2) + tables[:, :, :classes].sum(axis=1)) > 0
    found: NDArray[np.float64] = (f1 * occurs).sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)
    return found


def _rates(tables: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision, recall and F1, each of shape (n, classes)."""
    classes = tables.shape[1]
    hits = tables[:, np.arange(classes), np.arange(classes)]
    said, support = tables[:, :, :classes].sum(axis=1), tables.sum(axis=2)
    return hits / np.maximum(said, 1), hits / np.maximum(support, 1), 2 * hits / np.maximum(said + support, 1)
