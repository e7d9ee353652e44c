"""The scores of one evaluation: predictions, adversarial cases, figures and gates, as values and as plain JSON.

Not covered: where they come from (`evaluate`, `answers`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from data import paths
from data.domains import Domain
from trainer.figures import Figures, plain
from trainer.gates import Gate, gates


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row with what was said about it. right: the label wanted; valid: whether the output fits the whole schema, None without.

    faults: for an answer in free text, what its check found; else the row's fault.
    """

    text: str
    right: str
    said: str
    confidence: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)
    wanted: Mapping[str, Any] = field(default_factory=dict)
    valid: bool | None = None
    voices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reason: str = ""
    fault: str = ""

    @property
    def correct(self) -> bool:
        """Whether it is what was wanted."""
        return self.said == self.right and not self.fault


@dataclass(frozen=True, slots=True)
class FailedCase:
    """An adversarial case that did not pass, with what was not as expected, and why the case is there."""

    id: str
    text: str
    faults: tuple[str, ...]
    why: str
    output: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Adversarial:
    """The adversarial cases of a pack. rate is None where it has none."""

    passed: int = 0
    of: int = 0
    failed: tuple[FailedCase, ...] = ()

    @property
    def rate(self) -> float | None:
        """The share that passed."""
        return self.passed / self.of if self.of else None


@dataclass(frozen=True)
class Scores:
    """Everything that was measured. Shares lie between 0 and 1; what could not be measured is None.

    figures: of the labels, None for a domain without; checks: share of the answers in free text that pass their checks; fields:
    share of the rows whose output has the wanted value, for the properties that choose among values; voices: each voice alone,
    on the rows about which it gave probabilities.
    """

    domain: str
    model: str
    n: int
    errors: int
    figures: Figures | None
    checks: float | None
    json_valid: float | None
    adversarial: Adversarial
    fields: Mapping[str, float]
    voices: Mapping[str, Figures]
    seconds: float
    predictions: tuple[Prediction, ...]
    wanted: Domain
    notes: tuple[str, ...] = ()

    @property
    def seconds_per_row(self) -> float:
        """Mean, adversarial cases not counted."""
        return self.seconds / self.n if self.n else 0.0

    @property
    def rows_per_s(self) -> float:
        """The inverse of it."""
        return self.n / self.seconds if self.seconds else 0.0

    @cached_property
    def gates(self) -> tuple[Gate, ...]:
        """The gates of the pack, each with what was reached."""
        reached = {"json_valid": self.json_valid, "adversarial": self.adversarial.rate, "accuracy": self.checks}
        return gates(self.wanted, self.figures, reached)

    @property
    def passed(self) -> bool:
        """Whether every gate of the pack is passed."""
        return all(gate.passed for gate in self.gates)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, with the fields that the command line promises; predictions are left out."""
        found = self.figures
        return {
            "domain": self.domain,
            "model": self.model,
            "n": self.n,
            "accuracy": found.accuracy if found else self.checks,
            "macro_f1": found.macro_f1 if found else None,
            "recall": {one.label: one.recall for one in found.classes if one.support} if found else {},
            "json_valid": self.json_valid,
            "ece": found.ece if found else None,
            "adversarial": self.adversarial.rate,
            "rows_per_s": self.rows_per_s,
            "seconds_per_row": self.seconds_per_row,
            "errors": self.errors,
            "passed": self.passed,
            "gates": [plain(gate) for gate in self.gates],
            "ci": _intervals(found),
            "classes": [plain(one) for one in found.classes] if found else [],
            "confusion": {"labels": list(self.wanted.labels), "matrix": plain(found.confusion)} if found else {},
            "brier": found.brier if found else None,
            "nll": found.nll if found else None,
            "fields": dict(self.fields),
            "voices": {name: _voice(one) for name, one in self.voices.items()},
            "adversarial_cases": {
                "passed": self.adversarial.passed,
                "of": self.adversarial.of,
                "failed": [{"id": one.id, "faults": list(one.faults), "why": one.why} for one in self.adversarial.failed],
            },
            "notes": list(self.notes),
        }


def write(scores: Scores, folder: Path, more: Mapping[str, Any] | None = None) -> None:
    """Write predictions.jsonl and metrics.json (with what `more` adds) into the folder. Raises InputError where that fails."""
    with paths.replacing(folder / "predictions.jsonl") as out:
        for one in scores.predictions:
            found = {name: getattr(one, name) for name in one.__dataclass_fields__} | {"correct": one.correct}
            out.write(json.dumps(found, ensure_ascii=True, default=dict).encode() + b"\n")
    with paths.replacing(folder / "metrics.json") as out:
        out.write(json.dumps(scores.to_dict() | dict(more or {}), indent=1, ensure_ascii=True).encode() + b"\n")


def _intervals(found: Figures | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {
        "accuracy": plain(found.accuracy_ci),
        "macro_f1": plain(found.macro_f1_ci),
        "recall": {one.label: plain(one.recall_ci) for one in found.classes if one.support},
    }


def _voice(one: Figures) -> dict[str, Any]:
    return {"n": one.n, "accuracy": one.accuracy, "macro_f1": one.macro_f1, "ece": one.ece, "nll": one.nll}
