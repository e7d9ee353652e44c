"""What `router eval` measures: the cascade exactly as it is shipped, each head alone, and three baselines in full strength.

The baselines share our data, mending of slips excepted: TF-IDF with logistic regression (AdaGrad, then L-BFGS), all-MiniLM-L6
vectors with logistic regression, and the majority class. All are calibrated and thresholded on the same held-out rows as we are,
and all are tested on the same rows. Without a test file the test rows are the held-out ones, and calibration falls on a fold
of the training rows, so that nothing is measured on what it was tuned on. Not covered: printing.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.calibration import (
    OUT_OF_SCOPE_SHARE,
    detection,
    detection_threshold,
    expected_calibration_error,
    risk_coverage,
    temperature,
)
from router.classifier import DomainEvidence, DomainHead, Encode
from router.encoder import OWN_DIMENSIONS, Encoder
from router.exemplars import Exemplar
from router.features import grams, vocabulary
from router.labelled import Labelled, held_out
from router.linear import Design, Floats, descend, fit, logsumexp, one_hot, softmax
from router.spelling import Spelling
from router.training import PASSES, train_head
from router.typos import slipped

Progress = Callable[[str, int, int], object]
TIMED = 300
"""Questions whose decision is timed."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The rows of one evaluation. `data` trains and calibrates; `test` and `outside` are never seen before the end."""

    data: Labelled
    test: tuple[tuple[str, str], ...]
    outside: tuple[str, ...]


def parts(found: Labelled, tested: Labelled | None = None) -> Parts:
    """What to train on and what to test. tested: the same data with a test file's rows held out."""
    if tested is not None:
        return Parts(found.split(), tested.held, tested.outside_held)
    if found.held:  # half of the validation part calibrates, the other half tests
        chosen = [row for row in found.held if held_out(row[0], "calibrate ", 50)]
        rest = [row for row in found.held if not held_out(row[0], "calibrate ", 50)]
        data = replace(found, held=tuple(chosen), outside_held=())
        return Parts(data, tuple(rest), found.outside_held)
    split = found.split("test ")
    return Parts(replace(split, held=(), outside_held=()).split(), split.held, split.outside_held)


def evaluate(
    given: Parts, encoder: Encoder | None, *, words: Sequence[str] = (), progress: Progress = lambda doing, done, of: None
) -> dict[str, Any]:
    """Every figure as plain JSON; shares between 0 and 1, milliseconds where the name says so."""
    started = time.monotonic()
    head = train_head(given.data, encoder, words=words, progress=progress)
    trained_s = time.monotonic() - started
    progress("test", 0, 1)
    shared = _Shared(given, encoder)
    encode: Encode | None = None
    kept: dict[str, Floats] = {}
    if encoder is not None and head.trained is not None and head.trained.dense is not None:
        clean = [head.spelling.mend(text) for text in (*shared.texts, *given.outside)]
        noisy = [head.spelling.mend(text) for text in shared.noisy]
        both = [*clean, *noisy]
        kept = dict(zip(both, encoder.many(both, lambda done, of: progress("sentence vectors", done, of)), strict=True))

        encode = kept.__getitem__
    ours = _ours(head, encode, shared)
    ours["heads"] = _heads(head, given, kept) if encode is not None else {}
    ours["latency_ms"] = _latency(head, encoder, shared.texts)
    ours["train_s"] = round(trained_s, 1)
    ours["baselines"] = _baselines(shared, progress)
    ours["n"] = {"train": len(given.data.train), "test": len(given.test), "outside": len(given.outside)}
    ours["data"] = given.data.name
    return ours


class _Shared:
    """What ours and the baselines are measured on alike."""

    def __init__(self, given: Parts, encoder: Encoder | None) -> None:
        self.given, self.encoder = given, encoder
        self.data = given.data.split()
        self.intents, self.domains = self.data.intents, self.data.domains
        self.texts = [text for text, _ in given.test]
        source = random.Random(len(self.texts))  # noqa: S311  the same slips every time
        self.noisy = [slipped(text, source) for text in self.texts]
        self.labels = np.array([self.intents.index(intent) for _, intent in given.test])
        self.domain_of = np.array([self.domains.index(self.data.domain_of[intent]) for intent in self.intents])
        self.groups = np.eye(len(self.domains), dtype=np.float32)[self.domain_of]

    @property
    def right(self) -> NDArray[np.int64]:
        """The domain of each test row."""
        found: NDArray[np.int64] = self.domain_of[self.labels]
        return found


def _ours(head: DomainHead, encode: Encode | None, shared: _Shared) -> dict[str, Any]:
    clean = [head.read(text, encode) for text in shared.texts]
    outside = [head.read(text, encode) for text in shared.given.outside]
    noisy = [head.read(text, encode) for text in shared.noisy]
    right = [shared.domains[at] for at in shared.right]
    correct = np.array([one.probabilities[0][0] == domain for one, domain in zip(clean, right, strict=True)])
    confidence = np.array([one.confidence for one in clean], np.float32)
    found: dict[str, Any] = {
        "accuracy": {"domain": _share(correct), "intent": _intents(clean, shared)},
        "ece": expected_calibration_error(confidence, correct),
        "flip_rate": _share(np.array([one.domain != other.domain for one, other in zip(clean, noisy, strict=True)])),
    }
    accepted = np.array([one.outcome == "accepted" for one in clean])
    found["coverage"] = _share(accepted)
    passed = int(sum(one.outcome == "accepted" for one in outside))
    wrong = int((accepted & ~correct).sum()) + passed
    found["risk"] = wrong / max(int(accepted.sum()) + passed, 1)
    found["encoder_asked"] = _share(np.array(["dense" in one.heads for one in clean]))
    found["risk_coverage"] = risk_coverage(confidence, correct)
    scores, far = (np.array([one.out_of_scope for one in some], np.float32) for some in (clean, outside))
    limit = dict(clean[0].thresholds).get("out_of_scope", 0.5)
    found["oos"] = _oos(scores, far, limit) if len(far) else {}
    found["confusions"] = _confusions(clean, right)
    return found


def _intents(clean: Sequence[DomainEvidence], shared: _Shared) -> float:
    if shared.intents == shared.domains:
        return _share(np.array([one.probabilities[0][0] == row[1] for one, row in zip(clean, shared.given.test, strict=True)]))
    return _share(np.array([one.intent == row[1] for one, row in zip(clean, shared.given.test, strict=True)]))


def _heads(head: DomainHead, given: Parts, kept: dict[str, Floats]) -> dict[str, Any]:
    """Each head alone on all test rows: the sparse one, the mix."""
    if head.trained is None:
        return {}
    trained = head.trained
    mended = [head.spelling.mend(text) for text in (*(text for text, _ in given.test), *given.outside)]
    logits = trained.sparse.rows(trained.vocabulary.rows([grams(text) for text in mended]))
    vectors = np.stack([kept[text] for text in mended])
    labels = np.array([trained.intents.index(intent) for _, intent in given.test])
    domains = trained.groups.argmax(axis=1)[labels]
    count = len(labels)
    found = {}
    readings = {"sparse": (trained.read_sparse(logits), trained.sparse_gate)}
    if trained.mixed_gate is not None:
        readings["mixed"] = (trained.read_mixed(logits, vectors), trained.mixed_gate)
    for name, (seen, gate) in readings.items():
        one: dict[str, Any] = {
            "domain": _share(seen.domains[:count].argmax(axis=1) == domains),
            "intent": _share(seen.intents[:count].argmax(axis=1) == labels),
        }
        if given.outside:
            one |= _oos(seen.log_odds[:count], seen.log_odds[count:], gate.out_of_scope)
        found[name] = one
    return found


def _latency(head: DomainHead, encoder: Encoder | None, texts: Sequence[str]) -> dict[str, float]:
    """Of `read` as shipped, every text new to the encoder."""
    spent = []
    chosen = [texts[at] for at in np.linspace(0, len(texts) - 1, min(TIMED, len(texts))).astype(int)]
    if encoder is not None and head.trained is not None and head.trained.dense is not None:
        encoder("warm")
    for text in chosen:
        started = time.perf_counter()
        head.read(text, encoder)
        spent.append((time.perf_counter() - started) * 1e3)
    return {name: float(np.percentile(spent, share)) for name, share in (("p50", 50), ("p99", 99))}


def _baselines(shared: _Shared, progress: Progress) -> dict[str, Any]:
    labels = np.array([shared.intents.index(intent) for _, intent in shared.data.train])
    most = np.bincount(shared.domain_of[labels]).argmax()
    found: dict[str, Any] = {
        "majority": {
            "accuracy": {
                "domain": _share(shared.right == most),
                "intent": _share(shared.labels == np.bincount(labels).argmax()),
            }
        },
        "tfidf": _tfidf(shared, labels, progress),
    }
    if shared.encoder is not None:
        found["minilm"] = _minilm(shared, labels, progress)
    return found


def _sets(shared: _Shared) -> tuple[list[str], list[str], list[str]]:
    """Training texts, calibration texts (in scope, then out), test texts (in scope, out, with slips)."""
    data = shared.data
    return (
        [text for text, _ in data.train],
        [*(text for text, _ in data.held), *data.outside_train, *data.outside_held],
        [*shared.texts, *shared.given.outside, *shared.noisy],
    )


def _tfidf(shared: _Shared, labels: NDArray[np.int64], progress: Progress) -> dict[str, Any]:
    train, held, test = _sets(shared)
    found = [grams(text) for text in train]
    known = vocabulary(found, 2)
    design, targets = Design(None, known.rows(found), len(known)), one_hot(labels, len(shared.intents))
    epochs = int(np.clip(PASSES // len(found), 6, 60))
    begin = descend(design, targets, 0.0, epochs=epochs, rate=1.0, rows=128)
    head = fit(design, targets, 1e-6, begin=begin, iterations=20, progress=lambda done, of: progress("baseline tfidf", done, of))
    return _measured(shared, *(head.rows(known.rows([grams(text) for text in texts])) for texts in (held, test)))


def _minilm(shared: _Shared, labels: NDArray[np.int64], progress: Progress) -> dict[str, Any]:
    assert shared.encoder is not None  # noqa: S101  the caller looked
    train, held, test = (shared.encoder.many(texts)[:, :OWN_DIMENSIONS] for texts in _sets(shared))
    mean, scale = train.mean(axis=0), (train.std(axis=0) + 1e-6) * np.sqrt(np.float32(train.shape[1]))
    best: tuple[float, Floats, Floats] | None = None
    inside = np.array([shared.intents.index(intent) for _, intent in shared.data.held])
    for l2 in (1e-6, 3e-6, 1e-5):  # the strongest of three, by the held-out rows
        head = fit(
            Design((train - mean) / scale),
            one_hot(labels, len(shared.intents)),
            l2,
            iterations=200,
            progress=lambda done, of: progress("baseline minilm", done, of),
        )
        calibrating = head.dense((held - mean) / scale)
        accuracy = float((calibrating[: len(inside)].argmax(axis=1) == inside).mean())
        if best is None or accuracy > best[0]:
            best = (accuracy, calibrating, head.dense((test - mean) / scale))
    assert best is not None  # noqa: S101  three were tried
    return _measured(shared, best[1], best[2])


def _measured(shared: _Shared, held: Floats, test: Floats) -> dict[str, Any]:
    """A baseline's figures: probabilities summed to domains, temperature, and the energy as score, as ours are."""
    inside = np.array([shared.intents.index(intent) for _, intent in shared.data.held])
    heat = temperature(held[: len(inside)], shared.domain_of[inside], shared.groups)
    count = len(shared.labels)
    shares = softmax(test / np.float32(heat)) @ shared.groups
    energy, known = -logsumexp(test), -logsumexp(held)
    limit = detection_threshold(known[: len(inside)], known[len(inside) :])
    domains = np.where(energy >= limit, -1, shares.argmax(axis=1))
    noisy = domains[len(test) - count :]
    right = shares[:count].argmax(axis=1) == shared.right
    found: dict[str, Any] = {
        "accuracy": {"domain": _share(right), "intent": _share(test[:count].argmax(axis=1) == shared.labels)},
        "ece": expected_calibration_error(shares[:count].max(axis=1), right),
        "flip_rate": _share(domains[:count] != noisy),
    }
    if shared.given.outside:
        found["oos"] = _oos(energy[:count], energy[count : len(test) - count], limit)
    return found


def few_shots(
    given: Parts, encoder: Encoder, shots: Sequence[int] = (5, 20), draws: int = 5, words: Sequence[str] = ()
) -> dict[str, float]:
    """Accuracy over domains of heads made of a few examples each, tested on the held-out rows; the mean of several draws."""
    data = given.data.split()
    by_domain: dict[str, list[str]] = {domain: [] for domain in data.domains}
    for text, intent in data.train:
        by_domain[data.domain_of[intent]].append(text)
    result = {}
    empty = DomainHead("", (), Spelling({}, words))
    mended = {text: empty.spelling.mend(text) for text, _ in (*data.train, *given.test)}
    tested = [text for text, _ in given.test]
    vectors = dict(zip([mended[text] for text in tested], encoder.many([mended[text] for text in tested]), strict=True))
    right = [data.domain_of[intent] for _, intent in given.test]
    for count in shots:
        scores = []
        for draw in range(draws):
            source = random.Random(draw)  # noqa: S311  the same draws every time
            chosen = [
                Exemplar(text, domain, source="seed")
                for domain, texts in by_domain.items()
                for text in source.sample(texts, min(count, len(texts)))
            ]
            head = empty.with_exemplars(chosen, encoder)
            answers = [head.read(text, lambda one: vectors[one]).probabilities[0][0] for text in tested]
            scores.append(float(np.mean([answer == domain for answer, domain in zip(answers, right, strict=True)])))
        result[str(count)] = float(np.mean(scores))
    return result


def _oos(inside: Floats, outside: Floats, limit: float) -> dict[str, float]:
    seen = detection(inside, outside, limit)
    hits, alarms = OUT_OF_SCOPE_SHARE * seen.recall, (1 - OUT_OF_SCOPE_SHARE) * float((inside >= limit).mean())
    return {
        "auroc": seen.auroc,
        "f1": seen.f1,
        "precision": seen.precision,
        "recall": seen.recall,
        "threshold": float(limit),
        "f1_at_share": 2 * hits / (hits + alarms + OUT_OF_SCOPE_SHARE),  # as if 18 % of the rows were out of scope
    }


def _confusions(clean: Sequence[DomainEvidence], right: Sequence[str]) -> list[dict[str, Any]]:
    counts: dict[tuple[str, str], int] = {}
    for one, domain in zip(clean, right, strict=True):
        said = one.probabilities[0][0]
        if said != domain:
            counts[domain, said] = counts.get((domain, said), 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])[:10]
    return [{"right": domain, "said": said, "count": count} for (domain, said), count in ordered]


def _share(rows: Any) -> float:
    return float(np.mean(rows)) if len(rows) else 0.0
