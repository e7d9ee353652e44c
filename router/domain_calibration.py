"""How much each voice on a domain is worth, fitted on the domain's validation rows: temperatures, and the weights of the mix.

The voices are pooled logarithmically (a product of experts: Genest and Zidek 1986): log p = sum of weight x log p of a voice, up to
a constant. Weights are found by minimising the negative log-likelihood of the validation labels, so that they calibrate too.
Not covered: the voices themselves (`classification`, `domain_head`).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from router.calibration import temperature
from router.linear import Floats, softmax

Name = TypeVar("Name", bound=str)

FLOOR = 1e-6
"""Below this a probability counts as this much: one voice alone cannot forbid a label."""
GRID = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.4, 2.0)
FEWEST = 8
"""Validation rows below which nothing is fitted."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """temperature: of the model's label log-probabilities; weights: of the voices "model" and "encoder" in the mix; rows: those it
    was fitted on, 0 where there were too few."""

    temperature: float = 1.0
    weights: tuple[tuple[str, float], ...] = (("model", 0.5), ("encoder", 0.5))
    rows: int = 0

    def pooled(self, voices: Mapping[Name, Floats]) -> Floats:
        """The mix of the voices there are, shape as each of them: (classes,) or (rows, classes). Raises ValueError for none."""
        if not voices:
            raise ValueError("nobody to ask")
        if len(voices) == 1:
            return next(iter(voices.values()))
        weights = dict(self.weights)
        total = sum(np.float32(weights.get(name, 0.0)) * np.log(np.maximum(shares, FLOOR)) for name, shares in voices.items())
        return softmax(np.asarray(total, np.float32))


def fit(labels: Sequence[str], classes: Sequence[str], model: Floats | None, encoder: Floats | None) -> Calibration:
    """The calibration for validation rows with these labels. model: the model's log-probabilities of the classes, encoder: the
    encoder's probabilities, both of shape (rows, classes); None where there is no such voice."""
    if len(labels) < FEWEST:
        return Calibration()
    targets = np.array([classes.index(label) for label in labels], np.int64)
    heat = 1.0 if model is None else temperature(model, targets)
    if model is None or encoder is None:
        return Calibration(heat, rows=len(labels))
    calibrated = softmax(model / np.float32(heat))
    logs = [np.log(np.maximum(shares, np.float32(FLOOR))).astype(np.float32) for shares in (calibrated, encoder)]
    loss, first, second = min(
        (_loss(np.float32(one) * logs[0] + np.float32(other) * logs[1], targets), one, other)
        for one, other in itertools.product(GRID, GRID)
        if one or other
    )
    if not math.isfinite(loss):
        return Calibration(heat, rows=len(labels))
    return Calibration(heat, (("model", first), ("encoder", second)), len(labels))


def _loss(logits: Floats, targets: NDArray[np.int64]) -> float:
    shares = softmax(logits)
    return -float(np.log(np.maximum(shares[np.arange(len(targets)), targets], 1e-12)).mean(dtype=np.float64))
