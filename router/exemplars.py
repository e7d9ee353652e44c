"""The user's own examples: a correction counts at the next question, and a handful of examples make a domain.

`Taught` is a kernel ridge regression (Saunders et al. 1998) from texts to domains over exp(b (cosine - 1)) of sentence vectors
plus a share of the cosine of their n-grams: with 5 to 20 examples a domain it is ahead of logistic regression, nearest
neighbours, LDA and whitening (docs/experiments.md). The encoder's own cosine with a domain's nearest examples is added to its
answer, because the regression is too smooth near them. Its leave-one-out answers come from the same matrix (Cawley and Talbot
2004) and set its temperature. The name of a domain is one more example of it. Beside trained heads, some of their own training
texts stand in it for the other domains. Without the sentence encoder the n-grams alone decide. Not covered: where examples are
kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data.errors import InputError
from router.calibration import temperature
from router.features import Grams, Vocabulary, grams, vocabulary
from router.linear import Floats, softmax

SHARPNESS = 2.0
"""b of the kernel; 2 to 3 are best with 5 and with 20 examples a domain."""
SPARSE_SHARE = 0.2
"""Of the n-grams' cosine beside the vectors' kernel."""
RIDGE = 0.06
NEARBY = 0.5
"""Weight of the likeness to a domain's nearest examples beside the regression's answer."""
BLUR = 0.04
"""Difference of cosines that still counts as equally near."""
NEAR, SAME = 0.8, 0.95
"""Cosines of sentence vectors between which a correction gains force, from none to all."""
FAR = 0.3
"""Cosine with the nearest example below which a text is out of scope, at least; half of what the examples have themselves."""
COLDEST = 0.1
"""Temperature at least: a handful of examples that are told apart without a fault prove no certainty."""
MOST = 2_000
"""Exemplars that are used, the newest: more belong into training."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A labelled text. seed: it came with a domain; correction: the user said so."""

    text: str
    domain: str
    mode: str = ""
    source: Literal["seed", "correction"] = "correction"
    id: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the examples say: probabilities of `Taught.domains`, the example nearest and its cosine."""

    probabilities: Floats
    nearest: int
    cosine: float


@dataclass(frozen=True, slots=True)
class Taught:
    """Examples and what was computed from them.

    labels: each example's place in `domains`. vectors: (examples, dimensions), or (examples, 0) without an encoder. own:
    dimensions of the encoder's own vector. answers: two solutions, (2, examples, domains): by n-grams alone, and with vectors.
    temperatures: one for each. reach: the cosine below which a text is unlike all examples, for each. `real` of the examples are
    the user's, the others stand for domains.
    """

    domains: tuple[str, ...]
    labels: NDArray[np.int64]
    exemplars: tuple[Exemplar, ...]
    real: int
    vectors: Floats
    own: int
    vocabulary: Vocabulary
    block: Floats
    answers: Floats
    temperatures: tuple[float, float]
    reach: tuple[float, float]

    def ask(self, found: Grams, vector: Floats | None) -> Verdict:
        """The verdict on one text; without `vector` by its n-grams."""
        likeness = self.likeness(found, None)
        kernel, by = np.float32(SPARSE_SHARE) * likeness, 0
        answer = kernel @ self.answers[0]
        if self.sees(vector) and vector is not None:
            kernel, by = kernel + _kernel(self.vectors @ _unit(vector)), 1
            likeness = self.likeness(found, vector)
            answer = kernel @ self.answers[1] + _nearby(likeness, self.labels, len(self.domains))
        probabilities = softmax(answer / np.float32(self.temperatures[by]))
        mine = likeness[: self.real]
        nearest = int(mine.argmax()) if self.real else -1
        return Verdict(probabilities, nearest, float(mine[nearest]) if self.real else 0.0)

    def sees(self, vector: Floats | None) -> bool:
        """Whether the vector can be compared with those of the examples."""
        return vector is not None and self.vectors.shape[1] == len(vector) > 0

    def likeness(self, found: Grams, vector: Floats | None) -> Floats:
        """Cosines with every example: of the encoder's own vectors, or of n-grams without one."""
        if self.sees(vector) and vector is not None:
            mine, one = self.vectors[:, : self.own], vector[: self.own]
            cosines: Floats = (mine @ one) / (np.linalg.norm(mine, axis=1) * max(float(np.linalg.norm(one)), 1e-9))
            return cosines
        columns, values, _ = self.vocabulary.vector(found)
        near: Floats = self.block[:, columns] @ values
        return near

    def force(self, verdict: Verdict) -> float:
        """How much the nearest example's word counts against a trained head's, 0 to 1."""
        return float(np.clip((verdict.cosine - NEAR) / (SAME - NEAR), 0, 1))


def teach(examples: Sequence[Exemplar], mended: Sequence[str], vectors: Floats | None, *, real: int, own: int) -> Taught:
    """Examples made ready. mended: their texts as the router reads them; vectors: of those; real: how many of them, from the
    first, are the user's; own: dimensions of the encoder's own vector. Raises InputError for one without text or domain."""
    for one in examples[:real]:
        if not one.domain.strip() or not one.text.strip():
            raise InputError(f"the example {one.text[:40]!r} for the domain {one.domain!r} is empty", "give it a text and a domain")
    domains = tuple(sorted({one.domain for one in examples}))
    found = [grams(text) for text in mended]
    known = vocabulary(found, 1)
    block = np.zeros((len(examples), len(known)), np.float32)
    for row, text in enumerate(found):
        columns, values, _ = known.vector(text)
        block[row, columns] = values
    near = block @ block.T
    labels = np.array([domains.index(one.domain) for one in examples])
    sparse = np.float32(SPARSE_SHARE) * near
    solved = [_solve(sparse, labels, len(domains), np.zeros(1, np.float32))] * 2
    joined, cosines = np.zeros((len(examples), 0), np.float32), near
    if vectors is not None:
        joined = np.stack([_unit(one) for one in vectors])
        mine = np.stack([_unit(one[:own]) for one in joined])
        cosines = mine @ mine.T
        others = np.where(np.eye(len(cosines), dtype=bool), -np.inf, cosines).astype(np.float32)
        beside = _nearby(others, labels, len(domains))
        solved[1] = _solve(sparse + _kernel(joined @ joined.T), labels, len(domains), beside)
    return Taught(
        domains,
        labels,
        tuple(examples),
        real,
        joined,
        min(own, joined.shape[1]),
        known,
        block,
        np.stack([answers for answers, _ in solved]),
        (solved[0][1], solved[1][1]),
        (_reach(near, real), _reach(cosines, real)),
    )


def _unit(vector: Floats) -> Floats:
    found: Floats = vector / max(float(np.linalg.norm(vector)), 1e-9)
    return found


def _kernel(cosines: Floats) -> Floats:
    found: Floats = np.exp(np.float32(SHARPNESS) * (cosines - 1))
    return found


def _nearby(cosines: Floats, labels: NDArray[np.int64], domains: int) -> Floats:
    """What the nearest examples add to each domain's answer: a soft maximum of the cosines (..., examples), (..., domains)."""
    members = np.eye(domains, dtype=np.float32)[labels]
    near: Floats = np.exp((cosines - 1) / np.float32(BLUR)) @ members
    found: Floats = np.float32(NEARBY * BLUR) * np.log(near + np.float32(1e-12))
    return found


def _solve(kernel: Floats, labels: NDArray[np.int64], domains: int, beside: Floats) -> tuple[Floats, float]:
    """Coefficients (examples, domains), and the temperature that makes the leave-one-out answers, with what is added to them,
    likeliest."""
    targets = np.eye(domains)[labels] - 1 / domains
    inverse = np.linalg.inv(kernel.astype(np.float64) + RIDGE * np.eye(len(kernel)))
    answers = inverse @ targets
    left_out = (targets - answers / np.diag(inverse)[:, None] + beside).astype(np.float32)
    return answers.astype(np.float32), float(np.clip(temperature(left_out, labels), COLDEST, 1.0))


def _reach(cosines: Floats, real: int) -> float:
    """Half of the cosine that nine in ten examples have with their nearest, at least FAR."""
    if real < 2:
        return FAR
    mine = cosines[:real, :real] - 2 * np.eye(real, dtype=np.float32)
    return max(FAR, 0.5 * float(np.quantile(mine.max(axis=1), 0.1)))
