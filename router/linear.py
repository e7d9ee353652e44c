"""Multinomial logistic regression in numpy: dense and sparse features in one model, fitted by L-BFGS.

The objective is the mean cross entropy of softmax(X W + b) against smoothed targets, plus l2/2 ||W||^2 (the bias is not
shrunk). L-BFGS after Nocedal and Wright, Numerical Optimization (2nd ed.), algorithms 7.4 and 7.5, with backtracking to the
Armijo condition: the objective is convex, and in single precision a stricter line search finds nothing better. Sparse
columns that many rows have are multiplied as a dense block, the others by gathering rows of W. Not covered: calibration.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.features import Rows

Floats = NDArray[np.float32]

HISTORY = 8
"""Pairs of steps and gradient changes that L-BFGS remembers."""
BLOCK_SHARE = 1 / 150
"""Sparse columns in at least this share of the rows become part of the dense block."""
CHUNK = 4_096
"""Rows gathered at once from the sparse part."""
ARMIJO = 1e-4


@dataclass(frozen=True, slots=True)
class Linear:
    """Weights of shape (columns, classes) and biases of shape (classes,)."""

    weights: Floats
    bias: Floats

    def dense(self, features: Floats) -> Floats:
        """Logits of dense feature vectors, shape (..., columns) to (..., classes)."""
        return features @ self.weights + self.bias

    def sparse(self, columns: NDArray[np.int32], values: Floats) -> Floats:
        """Logits of one sparse feature vector, shape (classes,)."""
        return values @ self.weights[columns].astype(np.float32, copy=False) + self.bias

    def rows(self, found: Rows) -> Floats:
        """Logits of many sparse feature vectors, shape (len(found), classes)."""
        return _gathered(found, self.weights.astype(np.float32, copy=False)) + self.bias


class Design:
    """The features of all training rows, ready for X W and X^T G. Dense and sparse parts stand side by side, dense first."""

    def __init__(self, dense: Floats | None = None, sparse: Rows | None = None, sparse_columns: int = 0) -> None:
        if dense is None and sparse is None:
            raise ValueError("a design has dense features, sparse ones or both")
        self.dense = dense
        self.count = len(sparse) if sparse is not None else len(dense) if dense is not None else 0
        self.dense_columns = 0 if dense is None else dense.shape[1]
        self.columns = self.dense_columns + sparse_columns
        self._frequent = np.zeros(0, np.int64)
        if sparse is None:
            return
        seen = np.bincount(sparse.columns, minlength=sparse_columns)
        self._frequent = np.flatnonzero(seen >= max(self.count * BLOCK_SHARE, 1))
        place = np.full(sparse_columns, -1, np.int64)
        place[self._frequent] = np.arange(len(self._frequent))
        row = np.repeat(np.arange(self.count), np.diff(sparse.starts))
        block = place[sparse.columns]
        inside = block >= 0
        self._block = np.zeros((self.count, len(self._frequent)), np.float32)
        self._block[row[inside], block[inside]] = sparse.values[inside]
        row, column, value = row[~inside], sparse.columns[~inside], sparse.values[~inside]
        self._rare = _compressed(row, column, value, self.count)
        order = np.argsort(column, kind="stable")
        self._rare_by_column = _compressed(column[order], row[order].astype(np.int32), value[order], sparse_columns)

    def part(self, wanted: NDArray[np.int64]) -> "Part":
        """Those rows, ready for a step of `descend`."""
        rare = self._rare.take(wanted)
        order = np.argsort(rare.columns, kind="stable")
        row = np.repeat(np.arange(len(wanted), dtype=np.int32), np.diff(rare.starts))[order]
        columns, counts = np.unique(rare.columns, return_counts=True)
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        return Part(self._block[wanted], self._frequent, rare, columns, Rows(starts, row, rare.values[order]))

    def forward(self, weights: Floats) -> Floats:
        """X W, shape (count, classes)."""
        out = np.zeros((self.count, weights.shape[1]), np.float32)
        if self.dense is not None:
            out += self.dense @ weights[: self.dense_columns]
        if self.columns > self.dense_columns:
            below = weights[self.dense_columns :]
            out += self._block @ below[self._frequent]
            out += _gathered(self._rare, below)
        return out

    def backward(self, gradient: Floats) -> Floats:
        """X^T G, shape (columns, classes)."""
        out = np.zeros((self.columns, gradient.shape[1]), np.float32)
        if self.dense is not None:
            out[: self.dense_columns] = self.dense.T @ gradient
        if self.columns > self.dense_columns:
            below = out[self.dense_columns :]
            below += _gathered(self._rare_by_column, gradient)
            below[self._frequent] = self._block.T @ gradient
        return out


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a sparse design: the dense block with its columns, the rest by row, and the rest by column."""

    block: Floats
    frequent: NDArray[np.int64]
    rare: Rows
    columns: NDArray[np.int32]
    by_column: Rows


def softmax(logits: Floats) -> Floats:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def logsumexp(logits: Floats) -> Floats:
    """ln(sum(exp(logits))) along the last axis."""
    top = logits.max(axis=-1, keepdims=True)
    total: Floats = np.log(np.exp(logits - top).sum(axis=-1)) + top[..., 0]
    return total


def one_hot(labels: NDArray[np.int64], classes: int, smoothing: float = 0.0) -> Floats:
    """Targets of shape (len(labels), classes); `smoothing` is the share spread evenly. A label of -1 is spread evenly whole."""
    targets = np.full((len(labels), classes), smoothing / classes, np.float32)
    known = np.flatnonzero(labels >= 0)
    targets[known, labels[known]] += 1 - smoothing
    targets[labels < 0] = 1 / classes
    return targets


def fit(
    design: Design,
    targets: Floats,
    l2: float,
    *,
    weights: Floats | None = None,
    iterations: int = 100,
    tolerance: float = 1e-4,
    begin: Linear | None = None,
    progress: Callable[[int, int], object] = lambda done, of: None,
) -> Linear:
    """The fitted head. `weights`: one a row; `begin`: where to start; stops early when an iteration gains less than
    `tolerance` of the objective."""
    classes = targets.shape[1]
    share = np.full(design.count, 1 / design.count, np.float32) if weights is None else (weights / weights.sum()).astype(np.float32)

    def objective(point: Floats) -> tuple[float, Floats]:
        logits = design.forward(point[:-1]) + point[-1]
        logs = logits - logsumexp(logits)[:, None]
        loss = -float((share * (targets * logs).sum(axis=1)).sum(dtype=np.float64))
        step = (np.exp(logs) - targets) * share[:, None]
        gradient = np.concatenate([design.backward(step) + l2 * point[:-1], step.sum(axis=0, keepdims=True)])
        return loss + l2 / 2 * float((point[:-1] ** 2).sum(dtype=np.float64)), gradient

    start = np.zeros((design.columns + 1, classes), np.float32)
    if begin is not None:
        start[:-1], start[-1] = begin.weights, begin.bias
    found = minimise(objective, start, iterations, tolerance, progress)
    return Linear(found[:-1].copy(), found[-1].copy())


def descend(
    design: Design,
    targets: Floats,
    l2: float,
    *,
    epochs: int = 8,
    rate: float = 0.3,
    rows: int = 256,
    seed: int = 0,
    progress: Callable[[int, int], object] = lambda done, of: None,
) -> Linear:
    """A head for sparse features, by AdaGrad (Duchi et al. 2011) on `rows` rows a step; only columns that occur are touched.

    Text features of very different frequency need steps of different length: this reaches in eight passes what L-BFGS needs
    a hundred for. The rate falls to a tenth of its value.
    """
    classes = targets.shape[1]
    weights, seen = np.zeros((design.columns, classes), np.float32), np.full((design.columns, classes), 1e-6, np.float32)
    bias = np.zeros(classes, np.float32)
    order = np.random.default_rng(seed)
    steps = -(-design.count // rows)
    for epoch in range(epochs):
        progress(epoch, epochs)
        shuffled = order.permutation(design.count)
        for step in range(steps):
            length = np.float32(rate * (1 - 0.9 * (epoch * steps + step) / (epochs * steps)))
            chosen = np.sort(shuffled[step * rows : (step + 1) * rows])
            part = design.part(chosen)
            logits = part.block @ weights[part.frequent] + _gathered(part.rare, weights) + bias
            error = (softmax(logits) - targets[chosen]) / np.float32(len(chosen))
            bias -= length * error.sum(axis=0)
            gradients = ((part.frequent, part.block.T @ error), (part.columns, _gathered(part.by_column, error)))
            for columns, gradient in gradients:
                gradient += np.float32(l2) * weights[columns]
                squares = seen[columns] + gradient**2
                seen[columns] = squares
                weights[columns] -= length * gradient / np.sqrt(squares)
    return Linear(weights, bias)


def minimise(
    objective: Callable[[Floats], tuple[float, Floats]],
    start: Floats,
    iterations: int,
    tolerance: float,
    progress: Callable[[int, int], object] = lambda done, of: None,
) -> Floats:
    """L-BFGS from `start`; `objective` gives value and gradient at a point."""
    point, (value, gradient) = start, objective(start)
    memory: deque[tuple[Floats, Floats, float]] = deque(maxlen=HISTORY)
    small = 0
    for step in range(iterations):
        progress(step, iterations)
        direction = _direction(gradient, memory)
        slope = float(np.vdot(direction, gradient))
        if slope >= 0:  # rounding has spoilt the memory
            memory.clear()
            direction, slope = -gradient, -float(np.vdot(gradient, gradient))
        if slope > -1e-12:
            break
        length = 1.0 if memory else min(1.0, 1.0 / float(np.linalg.norm(gradient)))
        if not memory:
            length *= 8.0
        for _ in range(20):
            candidate = point + np.float32(length) * direction
            reached, slope_there = objective(candidate)
            if reached <= value + ARMIJO * length * slope:
                break
            length /= 2
        else:
            break
        change, turn = candidate - point, slope_there - gradient
        curvature = float(np.vdot(change, turn))
        if curvature > 1e-12:
            memory.append((change, turn, 1 / curvature))
        gained = value - reached
        point, value, gradient = candidate, reached, slope_there
        small = small + 1 if gained < tolerance * max(abs(value), 1e-9) else 0
        if small >= 2:
            break
    return point


def _direction(gradient: Floats, memory: "deque[tuple[Floats, Floats, float]]") -> Floats:
    """-H g by the two-loop recursion."""
    found = gradient.copy()
    shares = []
    for change, turn, scale in reversed(memory):
        share = scale * float(np.vdot(change, found))
        found -= np.float32(share) * turn
        shares.append(share)
    if memory:
        change, turn, scale = memory[-1]
        found *= np.float32(1 / (scale * float(np.vdot(turn, turn))))
    for (change, turn, scale), share in zip(memory, reversed(shares), strict=True):
        found += np.float32(share - scale * float(np.vdot(turn, found))) * change
    return -found


def _compressed(row: NDArray[Any], column: NDArray[np.int32], value: Floats, count: int) -> Rows:
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(row, minlength=count))])
    return Rows(starts.astype(np.int64), column.astype(np.int32), value)


def _gathered(rows: Rows, weights: Floats) -> Floats:
    """Each row's values times those rows of `weights`, summed."""
    out = np.zeros((len(rows), weights.shape[1]), np.float32)
    for begin in range(0, len(rows), CHUNK):
        end = min(begin + CHUNK, len(rows))
        low, high = int(rows.starts[begin]), int(rows.starts[end])
        if low == high:
            continue
        products = weights[rows.columns[low:high]] * rows.values[low:high, None]
        lengths = np.diff(rows.starts[begin : end + 1])
        full = np.flatnonzero(lengths)
        out[begin + full] = np.add.reduceat(products, rows.starts[begin:end][full] - low, axis=0)
    return out
