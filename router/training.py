"""Fitting the heads: from labelled questions to a `DomainHead` with its calibration.

Texts are mended, doubled with slips of the finger, and fitted on fine intents: the sparse head by AdaGrad, the dense ones by
L-BFGS. Temperatures, detectors and thresholds come from the held-out part alone, never from rows that were fitted. With fewer
than FEW rows a label, the examples' own method is used instead. Not covered: versions (`learning`), measures (`evaluation`).
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data.errors import EngineError, InputError, ModelError
from router.calibration import OUT_OF_SCOPE_SHARE, accept_threshold, detection_threshold, temperature
from router.classifier import DomainHead
from router.encoder import OWN_DIMENSIONS, Encoder
from router.exemplars import MOST, Exemplar
from router.features import grams, vocabulary
from router.heads import Dense, Detector, Gate, Pairs, Trained, mix, mixed_scores, sparse_scores
from router.labelled import Labelled, Row
from router.linear import Design, Floats, descend, fit, one_hot, softmax
from router.spelling import Spelling, learnt
from router.typos import slipped

FEW = 25
"""Rows a label, in the middle: below, kernel ridge regression on examples is better than fitted heads (docs/experiments.md)."""
RISK = 0.05
"""Share of wrong domains among accepted ones, at most, unless told."""
SURE_RISK = 0.005
"""Of the answers that the sparse head gives alone."""
DENSE_L2 = 0.045
"""Divided by the rows: 3e-6 with 15,000."""
AXES = 128
"""Principal axes of sentence vectors whose products `Pairs` sees; with fewer rows fewer, about one product for each row."""
PAIRS_RIDGE = 0.25
PAIRS_GAIN = 0.005
"""By which pairs must lessen the mean log loss of the held-out rows' intents to be used; BANKING77 gains 0.014, CLINC150 loses."""
CHUNK = 2_000
"""Rows whose pairs are made at once."""
PASSES = 90_000
"""Rows that AdaGrad sees in all, within 6 to 60 epochs."""
SEEDS = 300
"""Training texts that stand for the domains beside the user's examples, at most."""
ALARMS = 0.01
"""Share of in-scope questions called out of scope, where no out-of-scope rows are known."""
UNPROVEN = 0.9
"""Confidence that is asked for where the held-out rows are too few, or too often wrong, to show that the risk is kept."""

Progress = Callable[[str, int, int], object]
"""What is being done, steps done, steps in all."""


def train_head(
    data: Labelled,
    encoder: Encoder | None,
    *,
    words: Sequence[str] = (),
    risk: float = RISK,
    version: str = "",
    progress: Progress = lambda doing, done, of: None,
) -> DomainHead:
    """A calibrated head. words: those that the encoder knows, for the spelling. Without an encoder only the sparse head is fitted.

    Raises InputError where the rows do not suffice.
    """
    data = data.split()
    counts = sorted(Counter(intent for _, intent in data.train).values())
    if counts[len(counts) // 2] < FEW:
        return _few(data, encoder, words, version)
    if not data.held:
        raise InputError("nothing can be held out of these rows", "add rows")
    spelling = learnt([text for text, _ in data.train], words)
    mended = [spelling.mend(text) for text, _ in data.train]
    source = random.Random(len(mended))  # noqa: S311  slips for training need no secrecy, only the same ones every time
    noisy = [spelling.mend(slipped(text, source)) for text in mended]
    labels = np.array([data.intents.index(intent) for _, intent in data.train])
    groups = np.zeros((len(data.intents), len(data.domains)), np.float32)
    for at, intent in enumerate(data.intents):
        groups[at, data.domains.index(data.domain_of[intent])] = 1
    found = [grams(text) for text in (*mended, *noisy)]
    known = vocabulary(found, 3 if len(found) > 5_000 else 2)
    design = Design(None, known.rows(found), len(known))
    targets = one_hot(np.concatenate([labels, labels]), len(data.intents))
    epochs = int(np.clip(2 * PASSES // len(found), 6, 60))
    sparse = descend(
        design, targets, 0.0, epochs=epochs, rate=1.0, rows=128, progress=lambda done, of: progress("words and letters", done, of)
    )
    dense, vectors = _dense(encoder, mended, noisy, labels, targets, progress)
    trained = Trained(data.intents, groups, known, sparse, _OPEN, dense, _OPEN if dense else None)
    trained = _calibrated(trained, data, spelling, encoder, risk, progress)
    seeds = _seeds(data, mended, labels, groups, vectors)
    seed_vectors = vectors[[at for at, _ in seeds]] if vectors is not None else None
    return DomainHead(version, data.domains, spelling, trained, tuple(one for _, one in seeds), seed_vectors)


def _dense(
    encoder: Encoder | None,
    mended: Sequence[str],
    noisy: Sequence[str],
    labels: NDArray[np.int64],
    targets: Floats,
    progress: Progress,
) -> tuple[Dense | None, Floats | None]:
    if encoder is None:
        return None, None
    try:
        vectors = encoder.many([*mended, *noisy], lambda done, of: progress("sentence vectors", done, of))
    except (EngineError, ModelError):
        return None, None  # whoever trains says so: the head has no dense part
    clean = vectors[: len(mended)]
    mean = clean.mean(axis=0)
    own = min(OWN_DIMENSIONS, vectors.shape[1])
    scale = clean.std(axis=0) + 1e-6
    scale *= np.sqrt(np.float32(vectors.shape[1]))  # rows of about length 1, whatever their dimensions
    l2 = DENSE_L2 / len(mended)
    found = fit(
        Design((vectors - mean) / scale), targets, l2, iterations=200, progress=lambda done, of: progress("sentences", done, of)
    )
    centroids = np.stack([clean[labels == at][:, :own].mean(axis=0) for at in range(targets.shape[1])])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    progress("pairs", 0, 1)
    return Dense(mean, scale, found, centroids, _pairs(clean - mean, targets[: len(clean)])), clean


def _pairs(centred: Floats, targets: Floats) -> Pairs:
    """Ridge regression on principal axes and their products, solved at once by the normal equations."""
    lengths = np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    unit = centred / lengths
    _, axes = np.linalg.eigh(unit.T @ unit)
    count = min(AXES, int(np.sqrt(2 * len(centred))), centred.shape[1])
    empty = Pairs(np.ascontiguousarray(axes[:, ::-1][:, :count]), np.zeros((0, 0), np.float32))
    columns = count + count * (count + 1) // 2
    normal, right = np.zeros((columns, columns), np.float32), np.zeros((columns, targets.shape[1]), np.float32)
    for begin in range(0, len(centred), CHUNK):
        made = empty.features(centred[begin : begin + CHUNK])
        normal += made.T @ made
        right += made.T @ (targets[begin : begin + CHUNK] - np.float32(1 / targets.shape[1]))
    normal[np.diag_indices(columns)] += np.float32(PAIRS_RIDGE)
    return replace(empty, weights=np.linalg.solve(normal, right).astype(np.float32))


def _calibrated(
    trained: Trained, data: Labelled, spelling: Spelling, encoder: Encoder | None, risk: float, progress: Progress
) -> Trained:
    inside = [spelling.mend(text) for text, _ in data.held]
    outside = [spelling.mend(text) for text in (*data.outside_train, *data.outside_held)]
    labels = np.array([data.domains.index(data.domain_of[intent]) for _, intent in data.held])
    rows = trained.vocabulary.rows([grams(text) for text in (*inside, *outside)])
    logits = trained.sparse.rows(rows)
    count = len(inside)
    gate = _gate(logits, labels, trained.groups, count, sparse_scores, risk, SURE_RISK)
    trained = replace(trained, sparse_gate=gate)
    if trained.dense is None or encoder is None:
        return trained
    vectors = encoder.many([*inside, *outside], lambda done, of: progress("sentence vectors", done, of))
    known = {intent: at for at, intent in enumerate(data.intents)}
    intents = np.array([known.get(intent, -1) for _, intent in data.held])
    seen = np.flatnonzero(intents >= 0)
    dense = _without_idle_pairs(trained.dense, logits[seen], vectors[seen], intents[seen])
    nearness = dense.nearness(vectors)
    mixed = mix(logits, dense.logits(vectors))
    return replace(
        trained,
        dense=dense,
        mixed_gate=_gate(mixed, labels, trained.groups, count, lambda one, _: mixed_scores(one, nearness), risk, None),
    )


def _without_idle_pairs(dense: Dense, sparse: Floats, vectors: Floats, intents: NDArray[np.int64]) -> Dense:
    """The head with its pairs if they made the held-out rows' intents likelier, else without."""
    plain = replace(dense, pairs=None)
    before, after = (_log_loss(mix(sparse, one.logits(vectors)), intents) for one in (plain, dense))
    return dense if after < before - PAIRS_GAIN else plain


def _log_loss(logits: Floats, labels: NDArray[np.int64]) -> float:
    """The mean, at the best temperature."""
    shares = softmax(logits / np.float32(temperature(logits, labels)))
    return -float(np.log(np.maximum(shares[np.arange(len(labels)), labels], 1e-12)).mean(dtype=np.float64))


def _gate(
    logits: Floats,
    labels: NDArray[np.int64],
    groups: Floats,
    count: int,
    scores: Callable[[Floats, Floats], Floats],
    risk: float,
    sure_risk: float | None,
) -> Gate:
    """The gate of a head whose logits are of `count` held-out rows in scope, labelled, followed by rows out of scope."""
    heat = temperature(logits[:count], labels, groups)
    intents = softmax(logits / np.float32(heat))
    domains = intents @ groups
    seen = scores(logits, domains.max(axis=1))
    detector = _detector(seen[:count], seen[count:])
    log_odds = detector.log_odds(seen)
    inside, outside = log_odds[:count], log_odds[count:]
    limit = detection_threshold(inside, outside) if len(outside) else float(np.quantile(inside, 1 - ALARMS))
    confidence = domains.max(axis=1)
    right = np.concatenate([domains[:count].argmax(axis=1) == labels, np.zeros(len(outside), bool)])
    gate = Gate(heat, detector, limit, 0.0)
    sure = np.inf if sure_risk is None else accept_threshold(gate.trust(intents, log_odds), right, sure_risk)
    passed = _at_share(log_odds < limit, count)
    accept = accept_threshold(confidence[passed], right[passed], risk) if len(passed) else np.inf
    return replace(gate, accept=float(accept) if np.isfinite(accept) else UNPROVEN, sure=float(sure))


def _at_share(passed: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Which rows to count, so that those out of scope are as many as assumed: every n-th in scope, all others; if they passed."""
    outside = len(passed) - count
    wanted = min(count, int(outside * (1 - OUT_OF_SCOPE_SHARE) / OUT_OF_SCOPE_SHARE)) if outside else count
    kept = np.concatenate([np.linspace(0, count - 1, wanted).astype(np.int64), np.arange(count, len(passed))])
    found: NDArray[np.int64] = kept[passed[kept]]
    return found


def _detector(inside: Floats, outside: Floats) -> Detector:
    """Logistic regression with both sides weighted to the assumed share; without rows out of scope, the sum of the scores."""
    both = np.concatenate([inside, outside])
    mean, scale = both.mean(axis=0), both.std(axis=0) + 1e-6
    if len(outside) < 10:
        return Detector(mean, scale, np.ones(inside.shape[1], np.float32), 0.0)
    labels = np.concatenate([np.zeros(len(inside), np.int64), np.ones(len(outside), np.int64)])
    weights = np.where(labels == 1, OUT_OF_SCOPE_SHARE / len(outside), (1 - OUT_OF_SCOPE_SHARE) / len(inside)).astype(np.float32)
    found = fit(Design(((both - mean) / scale).astype(np.float32)), one_hot(labels, 2), 1e-3, weights=weights)
    return Detector(mean, scale, found.weights[:, 1] - found.weights[:, 0], float(found.bias[1] - found.bias[0]))


def _seeds(
    data: Labelled, mended: Sequence[str], labels: NDArray[np.int64], groups: Floats, vectors: Floats | None
) -> list[tuple[int, Exemplar]]:
    """The texts nearest to each intent's centre, as examples of its domain; the first of each without vectors."""
    each = max(1, min(5, SEEDS // len(data.intents)))
    found = []
    for intent in range(len(data.intents)):
        rows = np.flatnonzero(labels == intent)
        if vectors is not None:
            centre = vectors[rows].mean(axis=0)
            rows = rows[np.argsort(-(vectors[rows] @ centre), kind="stable")]
        domain = data.domains[int(groups[intent].argmax())]
        found += [(int(at), Exemplar(mended[at], domain, source="seed", id=f"seed-{at}")) for at in rows[:each]]
    return found


def _few(data: Labelled, encoder: Encoder | None, words: Sequence[str], version: str) -> DomainHead:
    """A head on examples alone: all rows, because each of them counts."""
    rows: tuple[Row, ...] = (*data.train, *data.held)
    each = max(1, MOST // len(data.intents))
    spelling = learnt([text for text, _ in rows], words)
    taken: Counter[str] = Counter()
    examples = []
    for text, intent in rows:
        taken[intent] += 1
        if taken[intent] <= each:
            examples.append(Exemplar(spelling.mend(text), data.domain_of[intent], source="seed"))
    names = [Exemplar(domain.replace("_", " "), domain, source="seed") for domain in data.domains]
    seeds = tuple({one.text: one for one in (*names, *examples) if one.text}.values())
    vectors = None
    if encoder is not None:
        try:
            vectors = encoder.many([one.text for one in seeds])
        except (EngineError, ModelError):
            vectors = None  # whoever trains says so
    return DomainHead(version, (), spelling, None, seeds, vectors).with_exemplars((), encoder)


_OPEN = Gate(1.0, Detector(np.zeros(2, np.float32), np.ones(2, np.float32), np.zeros(2, np.float32), 0.0), np.inf, 0.0)
