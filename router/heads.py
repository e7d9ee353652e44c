"""The trained heads at decision time: the sparse one, the dense one, their log-linear mix, and the gates of each.

Trained on fine intents, probabilities summed to domains. A `Gate` turns logits into calibrated probabilities and a log-odds of
being out of scope, and holds the thresholds that were chosen on held-out data. Plain numpy; nothing here is ever changed after
it was made. Not covered: the user's exemplars (`exemplars`), what the outcome is (`classifier`), fitting (`training`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from router.features import Grams, Vocabulary
from router.linear import Floats, Linear, logsumexp, softmax

SPARSE_SHARE = 0.3
"""Of the sparse head's logits in the mix (measured: docs/experiments.md)."""
PAIRS_SHARE = 0.5
"""What the pairs take from the weight of the dense head's linear part."""
PRODUCTS = 1.25
"""Weight of the products beside the axes' own values."""
PAIRS_SCALE = 6.0
"""Brings scores of about 0 to 1 to the size of logits; up to 36 the accuracy is the same, and at 6 the log loss is least."""


@dataclass(frozen=True, slots=True)
class Detector:
    """Logistic regression over a few standardised scores: the log-odds that a text is out of scope."""

    mean: Floats
    scale: Floats
    weights: Floats
    bias: float

    def log_odds(self, scores: Floats) -> Floats:
        """Of scores of shape (..., len(mean))."""
        found: Floats = np.asarray(((scores - self.mean) / self.scale) @ self.weights + self.bias, np.float32)
        return found


@dataclass(frozen=True, slots=True)
class Gate:
    """How one head's logits are read. `out_of_scope`: log-odds from which a text is; `accept`: confidence that is enough;
    `sure`: trust (chance of the likeliest intent times that of being in scope) from which no other head need be asked."""

    temperature: float
    detector: Detector
    out_of_scope: float
    accept: float
    sure: float = np.inf

    def trust(self, intents: Floats, log_odds: Floats) -> Floats:
        """Chance that the likeliest intent is right and the text in scope; stricter than the domain's, so that a quick answer
        has the right intent too. intents: probabilities, shape (..., intents)."""
        found: Floats = intents.max(axis=-1) / (1 + np.exp(np.clip(log_odds, -50, 50)))
        return found


@dataclass(frozen=True, slots=True)
class Pairs:
    """Scores from the principal axes of sentence vectors and the products of each two of them: a quadratic kernel machine
    written out, which tells close intents of one subject better apart than a linear head. axes: (dimensions, count);
    weights: (count + count (count + 1) / 2, intents)."""

    axes: Floats
    weights: Floats

    def scores(self, centred: Floats) -> Floats:
        """Of vectors less the training mean, shape (..., dimensions), about 0 to 1, shape (..., intents)."""
        return self.features(centred) @ self.weights

    def features(self, centred: Floats) -> Floats:
        """The axes' values, then their products."""
        along = (centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-9)) @ self.axes
        first, second = np.triu_indices(self.axes.shape[1])
        products = along[..., first] * along[..., second] * np.where(first == second, 1.0, np.sqrt(2.0)).astype(np.float32)
        found: Floats = np.concatenate([along, np.float32(PRODUCTS) * products], axis=-1)
        return found


@dataclass(frozen=True, slots=True)
class Dense:
    """A head over sentence vectors, those of layers included.

    mean, scale: of the training vectors' dimensions. centroids: of the intents' own vectors, length 1, (intents, own).
    pairs: where held-out rows showed that they help.
    """

    mean: Floats
    scale: Floats
    head: Linear
    centroids: Floats
    pairs: Pairs | None = None

    @property
    def own(self) -> int:
        """Dimensions of the encoder's own vector."""
        return int(self.centroids.shape[1])

    def fits(self, vectors: Floats) -> bool:
        """Whether vectors are from the encoder that this was trained with."""
        return bool(vectors.shape[-1] == len(self.mean))

    def logits(self, vectors: Floats) -> Floats:
        """Of vectors of shape (..., dimensions), shape (..., intents)."""
        centred = vectors - self.mean
        linear = self.head.dense(centred / self.scale)
        if self.pairs is None:
            return linear
        both: Floats = np.float32(1 - PAIRS_SHARE) * linear + np.float32(PAIRS_SCALE) * self.pairs.scores(centred)
        return both

    def nearness(self, vectors: Floats) -> Floats:
        """Cosine with the nearest intent's centroid."""
        found: Floats = np.max(vectors[..., : self.own] @ self.centroids.T, axis=-1)
        return found


@dataclass(frozen=True, slots=True)
class Reading:
    """What a head says about one text or many: intent probabilities, domain probabilities, log-odds of being out of scope."""

    intents: Floats
    domains: Floats
    log_odds: Floats


@dataclass(frozen=True, slots=True)
class Trained:
    """Both heads with what they need. groups: (intents, domains), 1 where an intent belongs to a domain."""

    intents: tuple[str, ...]
    groups: Floats
    vocabulary: Vocabulary
    sparse: Linear
    sparse_gate: Gate
    dense: Dense | None
    mixed_gate: Gate | None

    def sparse_logits(self, grams: Grams) -> Floats:
        """Of one text, shape (intents,)."""
        columns, values, _ = self.vocabulary.vector(grams)
        return self.sparse.sparse(columns, values)

    def read_sparse(self, logits: Floats) -> Reading:
        """The sparse head alone; logits of one text or many."""
        return reading(logits, sparse_scores, self.sparse_gate, self.groups)

    def read_mixed(self, logits: Floats, vectors: Floats) -> Reading:
        """Both heads; the sparse logits and the sentence vectors of the same texts. Only where there is a dense head."""
        if self.dense is None or self.mixed_gate is None:
            raise ValueError("there is no dense head")
        nearness = self.dense.nearness(vectors)
        return reading(
            mix(logits, self.dense.logits(vectors)),
            lambda mixed, confidence: mixed_scores(mixed, nearness),
            self.mixed_gate,
            self.groups,
        )


def mix(sparse: Floats, dense: Floats) -> Floats:
    """The log-linear mix of both heads' logits."""
    found: Floats = np.float32(SPARSE_SHARE) * sparse + np.float32(1 - SPARSE_SHARE) * dense
    return found


def sparse_scores(logits: Floats, confidence: Floats) -> Floats:
    """What the sparse gate's detector sees: the energy (Liu et al. 2020) and the log of the doubt, shape (..., 2)."""
    return np.stack([-logsumexp(logits), np.log(1.001 - confidence)], axis=-1)


def mixed_scores(logits: Floats, nearness: Floats) -> Floats:
    """What the mixed gate's detector sees: the energy and the distance from the nearest intent, shape (..., 2)."""
    return np.stack([-logsumexp(logits), -nearness], axis=-1)


def reading(logits: Floats, scores: Callable[[Floats, Floats], Floats], gate: Gate, groups: Floats) -> Reading:
    """Logits read through a gate."""
    intents = softmax(logits / np.float32(gate.temperature))
    domains: Floats = intents @ groups
    return Reading(intents, domains, gate.detector.log_odds(scores(logits, domains.max(axis=-1))))
