"""The baselines fitted on a domain's training rows and measured on the rows that a model was measured on.

A row whose label the training rows do not have is missed by every baseline. Where the encoder is absent its baseline is left
out, with the reason. Not covered: how they are fitted (`baseline`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.domains import Domain, Example
from data.errors import EngineError, InputError, ModelError
from trainer import baseline
from trainer.baseline import Baseline, Chosen
from trainer.figures import Figures, figures, plain

Progress = Callable[[str, int, int], object]


@dataclass(frozen=True, slots=True)
class Compared:
    """One baseline: its figures on the test rows, rows a second, the setting that cross-validation chose, seconds of fitting."""

    name: str
    figures: Figures
    rows_per_s: float
    chosen: Chosen | None
    fit_s: float

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        found = self.figures
        return {
            "accuracy": found.accuracy,
            "macro_f1": found.macro_f1,
            "recall": {one.label: one.recall for one in found.classes if one.support},
            "ece": found.ece,
            "ci": {"accuracy": plain(found.accuracy_ci), "macro_f1": plain(found.macro_f1_ci)},
            "rows_per_s": self.rows_per_s,
            "fit_s": self.fit_s,
            "chosen": None if self.chosen is None else {"c": self.chosen.c, "balanced": self.chosen.balanced},
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every baseline that could be had, on how many training rows, and notes about the others."""

    baselines: tuple[Compared, ...]
    train: int
    notes: tuple[str, ...] = ()


def compare(
    domain: Domain,
    train: Sequence[Example],
    test: Sequence[Example],
    embed: baseline.Embed | None,
    progress: Progress = lambda doing, done, of: None,
) -> Comparison:
    """Majority, TF-IDF and, with `embed`, MiniLM. Training rows whose text is among the test rows are left out and counted.

    Raises InputError as `trainable` does.
    """
    kept = trainable(domain, train, test)
    labels = np.array([domain.labels.index(row.label) for row in kept], np.int64)
    lost = len(train) - len(kept)
    notes = [f"{lost} training rows are test rows too, or have no known label: left out"] if lost else []
    texts = [row.text for row in kept]
    found = [_measured(domain, test, lambda: baseline.majority(labels, domain.labels))]
    found.append(_measured(domain, test, lambda: baseline.tfidf(texts, labels, domain.labels, progress=progress)))
    if embed is not None:
        given = embed
        try:
            found.append(_measured(domain, test, lambda: baseline.minilm(texts, labels, domain.labels, given, progress=progress)))
        except (EngineError, ModelError) as fault:
            notes.append(f"the MiniLM baseline is left out: {fault}")
    return Comparison(tuple(found), len(kept), tuple(notes))


def trainable(domain: Domain, train: Sequence[Example], test: Sequence[Example]) -> list[Example]:
    """The training rows of known labels that are not tested on. Raises InputError where they have fewer than two labels."""
    tested = {row.text for row in test}
    kept = [row for row in train if row.label in domain.labels and row.text not in tested]
    if len({row.label for row in kept}) < 2:
        raise InputError(
            "the training rows have fewer than two labels, so no baseline can be fitted", "give --train, or --no-baselines"
        )
    return kept


def _measured(domain: Domain, test: Sequence[Example], fitted: Callable[[], Baseline]) -> Compared:
    started = time.perf_counter()
    made = fitted()
    fit_s = time.perf_counter() - started
    started = time.perf_counter()
    shares = made.probabilities([row.text for row in test])
    spent = time.perf_counter() - started
    right = np.array([domain.labels.index(row.label) for row in test])
    seen = figures(domain.labels, right, shares.argmax(axis=1), shares)
    return Compared(made.name, seen, len(test) / max(spent, 1e-9), made.chosen, fit_s)
