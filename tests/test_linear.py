"""Logistic regression: dense, sparse and mixed designs, against numbers worked out another way."""

import numpy as np
import pytest

from router.features import Rows
from router.linear import Design, descend, fit, logsumexp, one_hot, softmax


def blobs(rows: int = 300, classes: int = 4, columns: int = 6) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(3)
    centres = source.normal(size=(classes, columns)) * 2
    labels = source.integers(0, classes, rows)
    return (centres[labels] + source.normal(size=(rows, columns))).astype(np.float32), labels


def as_rows(dense: np.ndarray) -> Rows:
    row, column = np.nonzero(dense)
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(dense)))])
    return Rows(starts.astype(np.int64), column.astype(np.int32), dense[row, column].astype(np.float32))


def test_the_fit_is_where_the_gradient_vanishes() -> None:
    features, labels = blobs()
    targets = one_hot(labels, 4)
    head = fit(Design(features), targets, 0.01, iterations=300, tolerance=1e-9)
    error = (softmax(head.dense(features)) - targets) / len(features)
    assert np.abs(features.T @ error + 0.01 * head.weights).max() < 2e-4
    assert np.abs(error.sum(axis=0)).max() < 2e-4


def test_sparse_and_dense_features_give_the_same_head() -> None:
    features, labels = blobs()
    features[np.random.default_rng(1).random(features.shape) < 0.6] = 0
    targets = one_hot(labels, 4)
    dense = fit(Design(features), targets, 0.01, iterations=200, tolerance=1e-8)
    sparse = fit(Design(None, as_rows(features), features.shape[1]), targets, 0.01, iterations=200, tolerance=1e-8)
    assert np.abs(dense.dense(features) - sparse.rows(as_rows(features))).max() < 0.02


def test_rare_columns_outside_the_block_are_multiplied_right() -> None:
    source = np.random.default_rng(5)
    features = np.zeros((400, 500), np.float32)
    features[np.arange(400), source.integers(2, 500, 400)] = source.normal(size=400)
    features[:, 0] = 1  # a frequent column, and an empty one beside it
    design = Design(None, as_rows(features), 500)
    weights = source.normal(size=(500, 3)).astype(np.float32)
    gradient = source.normal(size=(400, 3)).astype(np.float32)
    assert np.allclose(design.forward(weights), features @ weights, atol=1e-4)
    assert np.allclose(design.backward(gradient), features.T @ gradient, atol=1e-3)


def test_dense_and_sparse_columns_stand_side_by_side() -> None:
    source = np.random.default_rng(6)
    dense, other = source.normal(size=(2, 50, 4)).astype(np.float32)
    other[other < 0] = 0
    design = Design(dense, as_rows(other), 4)
    weights = source.normal(size=(8, 2)).astype(np.float32)
    assert np.allclose(design.forward(weights), np.hstack([dense, other]) @ weights, atol=1e-5)
    assert np.allclose(design.backward(design.forward(weights)), np.hstack([dense, other]).T @ design.forward(weights), atol=1e-3)


def test_adagrad_comes_near_the_fit_by_lbfgs() -> None:
    features, labels = blobs(600)
    targets = one_hot(labels, 4)
    design = Design(None, as_rows(features), features.shape[1])
    quick = descend(design, targets, 0.0, epochs=30, rate=0.5, rows=32)
    exact = fit(Design(features), targets, 1e-6, iterations=300)
    assert (softmax(quick.rows(as_rows(features))).argmax(1) == labels).mean() >= (
        softmax(exact.dense(features)).argmax(1) == labels
    ).mean() - 0.02


def test_the_same_seed_gives_the_same_weights() -> None:
    features, labels = blobs()
    design = Design(None, as_rows(features), features.shape[1])
    one, two = (descend(design, one_hot(labels, 4), 0.0, epochs=3, seed=7) for _ in range(2))
    assert np.array_equal(one.weights, two.weights)


def test_an_unlabelled_row_is_spread_evenly() -> None:
    assert one_hot(np.array([1, -1]), 4).tolist() == [[0, 1, 0, 0], [0.25] * 4]
    assert one_hot(np.array([0]), 2, 0.2).tolist() == [[pytest.approx(0.9), pytest.approx(0.1)]]


def test_huge_logits_do_not_overflow() -> None:
    assert softmax(np.array([1e4, 0.0], np.float32)).tolist() == [1, 0]
    assert logsumexp(np.array([1e4, 0.0], np.float32)) == 1e4


def test_a_row_without_features_gets_the_bias() -> None:
    features, labels = blobs()
    features[0] = 0
    head = fit(Design(None, as_rows(features), features.shape[1]), one_hot(labels, 4), 0.01)
    assert np.allclose(head.rows(as_rows(features))[0], head.bias)


def test_rows_are_taken_in_the_order_asked_for() -> None:
    features = np.array([[0, 1, 2], [0, 0, 0], [3, 0, 0]], np.float32)
    taken = as_rows(features).take(np.array([2, 1, 0, 2]))
    assert np.diff(taken.starts).tolist() == [1, 0, 2, 1]
    assert taken.values.tolist() == [3, 1, 2, 3]


def test_a_design_without_features_is_refused() -> None:
    with pytest.raises(ValueError, match="dense features"):
        Design()
