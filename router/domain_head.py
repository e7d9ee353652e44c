"""The encoder's voice on a domain: logistic regression on MiniLM vectors, its strength chosen and its temperature fitted
out of fold, so that the probabilities of new texts mean what they say.

Rare classes count more than their share (the square root of balanced weights), times the weights of the domain's labels.
Not covered: the vectors (`encoder`), and weighing this voice against others (`domain_calibration`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.calibration import temperature
from router.linear import Design, Floats, Linear, logsumexp, one_hot, softmax
from router.linear import fit as fit_linear

Integers = NDArray[np.int64]

STRENGTHS = (3e-3, 1e-3, 3e-4, 1e-4, 3e-5)
"""Of the L2 penalty, those that are tried."""
FOLDS = 4
TRIED_ROWS = 4_000
"""Rows at most that strengths are compared on."""


@dataclass(frozen=True, slots=True)
class DomainClassifier:
    """A fitted head. classes: the labels in the order of the columns."""

    classes: tuple[str, ...]
    head: Linear
    temperature: float = 1.0

    def probabilities(self, vectors: Floats) -> Floats:
        """Calibrated probabilities, shape (rows, classes)."""
        return softmax(self.head.dense(vectors) / np.float32(self.temperature))


def fit(
    labels: Sequence[str], vectors: Floats, classes: Sequence[str], weights: Mapping[str, float] | None = None
) -> DomainClassifier:
    """The head for rows with these labels and vectors, shape (rows, dimensions).

    weights: how much a row of a class counts, 1 where it is not named. Raises ValueError for a label that is no class.
    """
    place = {name: at for at, name in enumerate(classes)}
    if strange := set(labels) - set(place):
        raise ValueError(f"{min(strange)!r} is none of the classes")
    targets = np.array([place[label] for label in labels], np.int64)
    rows = _row_weights(targets, classes, weights or {})
    folds = np.arange(len(targets)) % FOLDS
    folds[np.argsort(targets, kind="stable")] = np.arange(len(targets)) % FOLDS  # every class in every fold
    strength, logits, tried = _chosen(vectors, targets, len(classes), rows, folds)
    heat = temperature(logits, targets[tried]) if len(tried) else 1.0
    return DomainClassifier(tuple(classes), _fitted(vectors, targets, len(classes), rows, strength), heat)


def _row_weights(targets: Integers, classes: Sequence[str], weights: Mapping[str, float]) -> Floats:
    counts = np.maximum(np.bincount(targets, minlength=len(classes)), 1)
    shares = np.sqrt(len(targets) / (len(classes) * counts)) * np.array([weights.get(name, 1.0) for name in classes])
    found: Floats = shares[targets].astype(np.float32)
    return found


def _fitted(vectors: Floats, targets: Integers, classes: int, rows: Floats, strength: float) -> Linear:
    return fit_linear(Design(vectors), one_hot(targets, classes), strength, weights=rows)


def _chosen(
    vectors: Floats,
    targets: Integers,
    classes: int,
    rows: Floats,
    folds: Integers,
) -> tuple[float, Floats, Integers]:
    """The strength whose out-of-fold logits are likeliest, those logits, and the rows they are of."""
    step = max(1, math.ceil(len(targets) / TRIED_ROWS))
    tried = np.arange(0, len(targets), step)
    if len(tried) < 2 * FOLDS:
        return STRENGTHS[0], np.zeros((0, classes), np.float32), tried[:0]
    best = (math.inf, STRENGTHS[0], np.zeros((len(tried), classes), np.float32))
    for strength in STRENGTHS:
        logits = np.zeros((len(tried), classes), np.float32)
        for fold in range(FOLDS):
            inside = tried[folds[tried] != fold]
            apart = folds[tried] == fold
            logits[apart] = _fitted(vectors[inside], targets[inside], classes, rows[inside], strength).dense(vectors[tried[apart]])
        heat = np.float32(temperature(logits, targets[tried]))
        loss = float((logsumexp(logits / heat) - (logits / heat)[np.arange(len(tried)), targets[tried]]).mean(dtype=np.float64))
        if loss < best[0]:
            best = (loss, strength, logits)
    return best[1], best[2], tried
