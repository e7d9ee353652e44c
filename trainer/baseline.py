"""Baselines that a model has to beat: the majority class, TF-IDF with logistic regression, MiniLM vectors with a linear head.

They are fitted at full strength: regularisation and class weights are chosen by cross-validation on the training rows alone,
the vocabulary being made anew in every fold, and a temperature calibrates the probabilities on the rows that a fold left out.
Features as scikit-learn's TfidfVectorizer gives them: words (one and two) and characters within words (two to five), sublinear
counts, smoothed idf, each half of length 1; logistic regression with its C and its class_weight="balanced". Not covered:
measuring them (`evaluate`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from router.calibration import temperature
from router.features import HEAD_WORDS, Grams, Vocabulary, grams, vocabulary
from router.linear import Design, Floats, Linear, fit, one_hot, softmax
from trainer.figures import macro_f1

Labels = NDArray[np.int64]
Embed = Callable[[Sequence[str]], Floats]
Progress = Callable[[str, int, int], object]
Aim = Literal["accuracy", "macro_f1"]

STRENGTHS = (1.0, 5.0, 25.0, 125.0)
"""C, tried in this order for words; each begins where the last ended, and none is tried after one that is worse in both figures."""
DENSE_STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""C for standardised sentence vectors."""
ITERATIONS = 150
SMALL, MIDDLING = 2_000, 5_000
"""Rows up to which five folds, and three, are made; above, one fifth is held out once."""
TRIED, HELD = 10_000, 4_000
"""Rows at most that settings are tried on, and held against; the chosen one is fitted on all rows. C means the same for both."""
TEXT_CHARACTERS = 20_000
"""Characters of a text that are read."""
BATCH = 32
"""Texts embedded at once."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """One setting and what cross-validation said of it. c: as scikit-learn's C; balanced: classes weigh alike however rare."""

    c: float
    balanced: bool
    accuracy: float
    macro_f1: float
    temperature: float


class Baseline(Protocol):
    """A fitted baseline; its probabilities have the columns of `classes`."""

    @property
    def name(self) -> str:
        """How tables call it."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, in the order of the columns."""

    @property
    def chosen(self) -> Chosen | None:
        """The setting that cross-validation chose, where there was one to choose."""

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Shape (len(texts), classes)."""


@dataclass(frozen=True, slots=True)
class Majority:
    """The class that most training rows have, with the classes' shares as probabilities."""

    classes: tuple[str, ...]
    shares: Floats
    name: str = "majority"
    chosen: Chosen | None = None

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """The shares, for every text."""
        return np.tile(self.shares, (len(texts), 1))


@dataclass(frozen=True, slots=True)
class TfIdf:
    """Words and characters with their weights."""

    classes: tuple[str, ...]
    vocabulary: Vocabulary
    head: Linear
    chosen: Chosen
    name: str = "tfidf"

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Calibrated, shape (len(texts), classes)."""
        rows = self.vocabulary.rows([whole_grams(text) for text in texts])
        return softmax(self.head.rows(rows) / np.float32(self.chosen.temperature))


@dataclass(frozen=True, slots=True)
class MiniLM:
    """A linear head on standardised sentence vectors."""

    classes: tuple[str, ...]
    embed: Embed
    mean: Floats
    scale: Floats
    head: Linear
    chosen: Chosen
    name: str = "minilm"

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Calibrated, shape (len(texts), classes)."""
        vectors = (embedded(texts, self.embed) - self.mean) / self.scale
        return softmax(self.head.dense(vectors) / np.float32(self.chosen.temperature))


def majority(labels: Labels, classes: Sequence[str]) -> Majority:
    """The most frequent class of the training labels, which are places in `classes`."""
    counts = np.bincount(labels, minlength=len(classes))
    return Majority(tuple(classes), (counts / counts.sum()).astype(np.float32))


def tfidf(
    texts: Sequence[str],
    labels: Labels,
    classes: Sequence[str],
    *,
    groups: Labels | None = None,
    aim: Aim = "macro_f1",
    seed: int = 0,
    progress: Progress = lambda doing, done, of: None,
) -> TfIdf:
    """TF-IDF with logistic regression, fitted on all rows with what cross-validation chose by `aim`.

    groups: rows of one group stay on one side of every fold. Raises ValueError where there are fewer than two rows or classes.
    """
    _require(texts, labels)
    found = [whole_grams(text) for text in texts]
    tried = trials_tfidf(found, labels, len(classes), groups=groups, seed=seed, progress=progress)
    return fit_tfidf(found, labels, classes, best(tried, aim))


def trials_tfidf(
    found: Sequence[Grams],
    labels: Labels,
    classes: int,
    *,
    groups: Labels | None = None,
    seed: int = 0,
    progress: Progress = lambda doing, done, of: None,
) -> tuple[Chosen, ...]:
    """What cross-validation says of every setting for TF-IDF; texts as `whole_grams` gives them."""

    def prepared(inside: Labels, outside: Labels) -> tuple[Design, Callable[[Linear], Floats]]:
        known = vocabulary([found[at] for at in inside], _at_least(len(found)))
        rows, apart = known.rows([found[at] for at in inside]), known.rows([found[at] for at in outside])
        return Design(None, rows, len(known)), lambda head: head.rows(apart)

    split = list(folds(labels, groups, seed))
    return _trials(labels, classes, split, STRENGTHS, prepared, lambda done, of: progress("TF-IDF", done, of))


def fit_tfidf(found: Sequence[Grams], labels: Labels, classes: Sequence[str], chosen: Chosen) -> TfIdf:
    """The baseline with that setting, fitted on all rows."""
    known = vocabulary(found, _at_least(len(found)))
    design = Design(None, known.rows(found), len(known))
    head = _fitted(design, labels, len(classes), chosen.c, chosen.balanced, None)
    return TfIdf(tuple(classes), known, head, chosen)


def minilm(
    texts: Sequence[str],
    labels: Labels,
    classes: Sequence[str],
    embed: Embed,
    *,
    groups: Labels | None = None,
    aim: Aim = "macro_f1",
    seed: int = 0,
    progress: Progress = lambda doing, done, of: None,
) -> MiniLM:
    """A linear head on the sentence vectors of `embed`, chosen and fitted as `tfidf` is; raises as both."""
    _require(texts, labels)
    vectors = embedded(texts, embed, lambda done, of: progress("sentence vectors", done, of))
    tried = trials_minilm(vectors, labels, len(classes), groups=groups, seed=seed, progress=progress)
    return fit_minilm(vectors, labels, classes, best(tried, aim), embed)


def trials_minilm(
    vectors: Floats,
    labels: Labels,
    classes: int,
    *,
    groups: Labels | None = None,
    seed: int = 0,
    progress: Progress = lambda doing, done, of: None,
) -> tuple[Chosen, ...]:
    """What cross-validation says of every setting for a linear head on `vectors`."""

    def prepared(inside: Labels, outside: Labels) -> tuple[Design, Callable[[Linear], Floats]]:
        mean, scale = _standard(vectors[inside])
        apart = (vectors[outside] - mean) / scale
        return Design((vectors[inside] - mean) / scale), lambda head: head.dense(apart)

    split = list(folds(labels, groups, seed))
    return _trials(labels, classes, split, DENSE_STRENGTHS, prepared, lambda done, of: progress("MiniLM", done, of))


def fit_minilm(vectors: Floats, labels: Labels, classes: Sequence[str], chosen: Chosen, embed: Embed) -> MiniLM:
    """The baseline with that setting, fitted on all rows; `embed` makes the vectors of new texts."""
    mean, scale = _standard(vectors)
    head = _fitted(Design((vectors - mean) / scale), labels, len(classes), chosen.c, chosen.balanced, None)
    return MiniLM(tuple(classes), embed, mean, scale, head, chosen)


def best(tried: Sequence[Chosen], aim: Aim) -> Chosen:
    """The setting with the highest figure; of equal ones the more regularised."""
    return max(tried, key=lambda one: (round(getattr(one, aim), 6), -one.c, not one.balanced))


def folds(labels: Labels, groups: Labels | None = None, seed: int = 0) -> Iterator[tuple[Labels, Labels]]:
    """(training places, held-out places): every class spread over the folds, every group whole on one side.

    Five folds up to SMALL rows, three up to MIDDLING, else one fifth held out once, of TRIED and HELD rows at most. A class with
    one group is trained on only.
    """
    count = 3 if SMALL < len(labels) <= MIDDLING else 5
    group = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    draw = np.random.default_rng(seed)
    order = draw.permutation(group.max() + 1)
    first = np.zeros(group.max() + 1, np.int64)
    first[group[::-1]] = labels[::-1]
    order = order[np.argsort(first[order], kind="stable")]
    fold_of = np.zeros(len(order), np.int64)
    fold_of[order] = np.arange(len(order)) % count
    of_row = fold_of[group]
    for fold in range(count if len(labels) <= MIDDLING else 1):
        inside, outside = np.flatnonzero(of_row != fold), np.flatnonzero(of_row == fold)
        inside, outside = (np.sort(draw.permutation(rows)[:most]) for rows, most in ((inside, TRIED), (outside, HELD)))
        outside = outside[np.isin(labels[outside], labels[inside])]
        if len(inside) and len(outside):
            yield inside, outside


def whole_grams(text: str) -> Grams:
    """The n-grams of a text of any length: the router's own reads the first 48 and the last 16 words of a long one."""
    words = text[:TEXT_CHARACTERS].split()
    parts = [grams(" ".join(words[at : at + HEAD_WORDS])) for at in range(0, len(words), HEAD_WORDS)] or [grams("")]
    if len(parts) == 1:
        return parts[0]
    first, rest = [part.hashes[: part.words] for part in parts], [part.hashes[part.words :] for part in parts]
    hashes = np.concatenate([*first, *rest])
    nowhere = np.zeros(len(hashes), np.int64)
    return Grams("", hashes, nowhere, nowhere, sum(map(len, first)))


def embedded(texts: Sequence[str], embed: Embed, progress: Callable[[int, int], object] = lambda done, of: None) -> Floats:
    """The vectors of many texts, each embedded once, texts of one length together; raises as `embed` does."""
    distinct = sorted({text[:TEXT_CHARACTERS] for text in texts}, key=lambda text: (len(text), text))
    made = []
    for begin in range(0, len(distinct), BATCH):
        progress(begin, len(distinct))
        made.append(np.asarray(embed(distinct[begin : begin + BATCH]), np.float32))
    place = {text: at for at, text in enumerate(distinct)}
    found: Floats = np.concatenate(made)[[place[text[:TEXT_CHARACTERS]] for text in texts]]
    return found


def _trials(
    labels: Labels,
    classes: int,
    split: Sequence[tuple[Labels, Labels]],
    strengths: Sequence[float],
    prepared: Callable[[Labels, Labels], tuple[Design, Callable[[Linear], Floats]]],
    progress: Callable[[int, int], object],
) -> tuple[Chosen, ...]:
    """Every setting on every fold. Without a fold (too few rows) one strong regularisation stands, unmeasured."""
    if not split:
        return (Chosen(strengths[len(strengths) // 2], True, 0.0, 0.0, 1.0),)
    logits: dict[tuple[float, bool], list[Floats]] = {(c, even): [] for even in (False, True) for c in strengths}
    done, steps = 0, 2 * len(split) * len(strengths)
    for inside, outside in split:
        design, read = prepared(inside, outside)
        for even in (False, True):
            head: Linear | None = None
            reached: tuple[float, float] = (0.0, 0.0)
            for place, c in enumerate(strengths):
                progress(done + place, steps)
                head = _fitted(design, labels[inside], classes, c, even, head)
                logits[c, even].append(read(head))
                now = _reached(logits[c, even][-1], labels[outside])
                if now[0] < reached[0] and now[1] < reached[1]:
                    break  # weaker regularisation only fits the noise better, and takes longest
                reached = max(reached[0], now[0]), max(reached[1], now[1])
            done += len(strengths)
    right = np.concatenate([labels[outside] for _, outside in split])
    whole = {key: np.concatenate(parts) for key, parts in logits.items() if len(parts) == len(split)}
    return tuple(_measured(c, even, found, right) for (c, even), found in whole.items())


def _measured(c: float, balanced: bool, logits: Floats, right: Labels) -> Chosen:
    accuracy, f1 = _reached(logits, right)
    return Chosen(c, balanced, accuracy, f1, temperature(logits, right))


def _reached(logits: Floats, right: Labels) -> tuple[float, float]:
    """Accuracy and macro-F1."""
    said = logits.argmax(axis=1)
    return float((said == right).mean()), macro_f1(right, said)


def _fitted(design: Design, labels: Labels, classes: int, c: float, balanced: bool, begin: Linear | None) -> Linear:
    counts = np.bincount(labels, minlength=classes)
    weights = (1 / counts[labels]).astype(np.float32) if balanced else None
    l2 = 1 / (c * len(labels))
    targets = one_hot(labels, classes)
    return fit(design, targets, l2, weights=weights, iterations=ITERATIONS, begin=begin)


def _at_least(rows: int) -> int:
    """Rows that an n-gram must occur in: of many rows, those of a single one only cost memory."""
    return 1 if rows <= MIDDLING else 2


def _standard(vectors: Floats) -> tuple[Floats, Floats]:
    return vectors.mean(axis=0), vectors.std(axis=0) + np.float32(1e-6)


def _require(texts: Sequence[str], labels: Labels) -> None:
    if len(texts) != len(labels) or len(np.unique(labels)) < 2:
        raise ValueError(f"{len(texts)} texts with {len(np.unique(labels))} classes teach nothing")
