"""The label of each text: what every voice says, weighed, and a rule's last word.

A rule that sets the label decides. Else the mix of model and encoder, its weights fitted on validation rows; else the one voice
there is, calibrated. What a rule forbids is taken out and the next most probable label stands. Not covered: the answers themselves
(`classification`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from router.contract import Contract
from router.domain_calibration import Calibration, fit
from router.domain_rules import LABEL, Verdict
from router.domain_voices import CALIBRATION_ROWS, SLOW_ROWS, EncoderVoice, ModelVoice, Progress, calibration, validation
from router.engines.structure import Completion
from router.linear import Floats, softmax

BOUND = "the server tells only its likeliest tokens, so the probability is an upper bound"
UNLIKELY = -30.0
"""Log-probability of a label that the model does not list."""

VoiceName = Literal["rules", "model", "encoder", "combined"]


@dataclass(frozen=True, slots=True)
class Voice:
    """What one voice says: probabilities by label, highest first, and a note (which rule, which weight)."""

    name: VoiceName
    probabilities: Mapping[str, float]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Decided:
    """A row's label with how it came about. confidence: None where the engine gives no probabilities."""

    label: str
    probabilities: Mapping[str, float]
    confidence: float | None
    voices: tuple[Voice, ...]
    reason: str


class Labeller:
    """Decides labels of one domain. encoder: None where only the model is heard."""

    def __init__(self, contract: Contract, model: ModelVoice, progress: Progress) -> None:
        self.encoder: EncoderVoice | None = None
        self.notes: list[str] = []
        self._contract, self._model, self._progress = contract, model, progress
        self._labels = contract.domain.labels
        self._calibrations: dict[str, Calibration] = {}

    def decided(self, texts: Sequence[str], verdicts: Sequence[Verdict], answers: Sequence[Completion]) -> list[Decided | None]:
        """Each row's label by the model's answers and the other voices; None where there is none: an empty text, no voice."""
        logs = [self._logs(one) for one in answers]
        settled = self._settled(any(row is not None for row in logs))
        shares = None if self.encoder is None else self.encoder.probabilities(texts)
        found: list[Decided | None] = []
        for at, verdict in enumerate(verdicts):
            voices: dict[VoiceName, Floats] = {}
            row = logs[at]
            if row is not None:
                voices["model"] = softmax(row / np.float32(settled.temperature))
            if shares is not None:
                voices["encoder"] = shares[at]
            found.append(self._weighed(voices, verdict, settled, answers[at]) if texts[at].strip() else None)
        return found

    def forced(self, verdict: Verdict) -> str:
        """The label that a rule sets, "" where none does."""
        return str(verdict.set.get(LABEL) or verdict.set.get(self._contract.label_path) or "")

    def banned(self, verdict: Verdict) -> frozenset[str]:
        """The labels that rules forbid."""
        return frozenset(map(str, (*verdict.never.get(LABEL, ()), *verdict.never.get(self._contract.label_path, ()))))

    def _weighed(
        self, voices: Mapping[VoiceName, Floats], verdict: Verdict, settled: Calibration, answer: Completion
    ) -> Decided | None:
        told = [Voice(name, self._ranked(shares)) for name, shares in voices.items()]
        bound = "model" in voices and any(one.path == self._contract.label_path and not one.complete for one in answer.choices)
        if bound:
            told[0] = replace(told[0], note=BOUND)
        pooled = settled.pooled(voices) if voices else None
        if len(voices) > 1 and pooled is not None:
            note = ", ".join(f"{name} {weight:g}" for name, weight in settled.weights)
            told.append(Voice("combined", self._ranked(pooled), f"weights: {note}"))
        if forced := self.forced(verdict):
            said = f"rule: {self._why(verdict)}"
            return Decided(forced, {forced: 1.0}, 1.0, (Voice("rules", {forced: 1.0}, said), *told), said)
        if pooled is None:
            return self._unweighed(answer)
        if banned := self.banned(verdict):
            pooled = pooled * np.array([label not in banned for label in self._labels], np.float32)
            pooled = pooled / np.float32(max(float(pooled.sum()), 1e-12))
            told.insert(0, Voice("rules", {}, f"never {', '.join(sorted(banned))}: {self._why(verdict)}"))
        ranked = self._ranked(pooled)
        label = next(iter(ranked))
        reason = self._said(voices, settled) + (f"; {BOUND}" if bound else "")
        return Decided(label, ranked, ranked[label], tuple(told), reason)

    def _unweighed(self, answer: Completion) -> Decided | None:
        """Where the engine gives no probabilities, the label that the model has written."""
        label = self._written(answer)
        if label is None:
            return None
        reason = f"the model's answer; its engine gives no probabilities, so the confidence is unavailable{self._noted}"
        return Decided(label, {}, None, (Voice("model", {}, "no probabilities"),), reason)

    def _logs(self, answer: Completion) -> Floats | None:
        """The model's log-probabilities of the labels in the domain's order; None where it gives none.

        In a mix a mere answer counts as a guess that is right nine times of ten; the calibration finds what it is worth.
        """
        for choice in answer.choices:
            if choice.path == self._contract.label_path:
                known = dict(zip(map(str, choice.values), choice.log_probabilities, strict=True))
                found = np.array([known.get(label, UNLIKELY) for label in self._labels], np.float32)
                return np.maximum(found, np.float32(UNLIKELY))
        label = self._written(answer) if self.encoder is not None else None
        if label is None:
            return None
        guess = np.where(np.array(self._labels) == label, 0.9, 0.1 / max(len(self._labels) - 1, 1))
        return np.log(guess).astype(np.float32)

    def _written(self, answer: Completion) -> str | None:
        """The label in an answer's text, None where there is no answer or none of the labels in it."""
        text = answer.text[answer.text.find("{") : answer.text.rfind("}") + 1]
        if answer.fault is not None or not text:
            return None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        label = found.get(self._contract.label_path) if isinstance(found, dict) else None
        return label if label in self._labels else None

    def _settled(self, model: bool) -> Calibration:
        """The calibration of the voices there are, made on the domain's validation rows when it is first asked for."""
        key = (
            self._model.identity if model else "",
            self._contract.version.name,
            "encoder" if self.encoder else "",
        )
        name = json.dumps(key)
        if name not in self._calibrations:
            self._calibrations[name] = calibration(self._contract.domain, key, lambda: self._calibrated(model))
        return self._calibrations[name]

    def _calibrated(self, model: bool) -> Calibration:
        rows = validation(self._contract.domain, SLOW_ROWS if self._contract.reasons_first else CALIBRATION_ROWS)
        logs: list[Floats | None] = [np.zeros(0, np.float32)] * len(rows)
        if model and rows:
            self._progress("calibrating the model on validation rows", 0, len(rows))
            structure, _ = self._contract.label_structure()
            logs = [self._logs(one) for one in self._model.completed([(text, structure) for text, _ in rows])]
        kept = [at for at, row in enumerate(logs) if row is not None]
        if not kept:
            return Calibration()
        told = np.stack([row for row in logs if row is not None]).astype(np.float32) if model else None
        shares = self.encoder.probabilities([rows[at][0] for at in kept]) if self.encoder else None
        return fit([rows[at][1] for at in kept], self._labels, told, shares)

    def _said(self, voices: Mapping[VoiceName, Floats], settled: Calibration) -> str:
        if len(voices) > 1:
            return f"model and encoder weighed{self._noted}"
        who = "the model" if "model" in voices else "the encoder's classifier"
        calibrated = f", calibrated on {settled.rows} rows" if settled.rows else ", not calibrated: too few validation rows"
        return f"{who} alone{calibrated if 'model' in voices else ''}{self._noted}"

    @property
    def _noted(self) -> str:
        notes = [*self._model.notes, *self.notes]
        return f" ({'; '.join(notes)})" if notes else ""

    def _why(self, verdict: Verdict) -> str:
        return verdict.reasons.get(LABEL) or verdict.reasons.get(self._contract.label_path, "")

    def _ranked(self, shares: Floats) -> dict[str, float]:
        order = np.argsort(-shares, kind="stable")
        return {self._labels[at]: round(float(shares[at]), 6) for at in order}
