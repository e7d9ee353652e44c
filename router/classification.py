"""A domain's answer about many texts: rules, the model and the encoder heard in that order, weighed, and the output written.

Rows go through in groups. First the voices give their probabilities of the labels: the model by its own log-probabilities over the
labels after one reading of the prompt, calibrated; the encoder's head where the mix is asked for. Then the label is decided: a rule
that sets it has the last word; else the mix, weights fitted on validation rows; else the one voice there is. Then the model writes
the rest with the label and what rules have set in place, so that nothing it says contradicts them, and Pointsman fills in its own
part. Where the model cannot be had, the next in line takes its place: the pack's base models, then the encoder alone. Not covered:
files, resuming (`tui.commands.classify`), scores (`trainer.evaluate`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import numpy as np

from data.chat import Usage
from data.domains import Domain
from data.errors import EngineUnavailable, InputError, PointsmanError
from data.indicators import Indicators
from router.contract import Contract
from router.domain_calibration import Calibration, fit
from router.domain_rules import LABEL, DomainRules, Verdict
from router.domain_voices import (
    CALIBRATION_ROWS,
    SLOW_ROWS,
    EncoderVoice,
    Missing,
    Progress,
    calibration,
    digest,
    identity,
    quiet,
    validation,
)
from router.engines import Engines, Resolved
from router.engines.structure import Completion, Structure
from router.fillings import Known, filled
from router.linear import Floats, softmax

GROUP = 128
"""Texts that go through together."""
BOUND = "the server tells only its likeliest tokens, so the probability is an upper bound"

VoiceName = Literal["rules", "model", "encoder", "combined"]


@dataclass(frozen=True, slots=True)
class Voice:
    """What one voice says: probabilities by label, highest first, and a note (which rule, which weight)."""

    name: VoiceName
    probabilities: Mapping[str, float]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Classified:
    """The answer about one text. confidence: the label's probability, None where the engine gives none (reason says so).

    probabilities: of all labels, highest first. json_valid: whether the model's own answer parsed and fitted the schema.
    reason: why this label, in words. fault: why there is no answer, else "".
    """

    text: str
    label: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    confidence: float | None = None
    output: Mapping[str, Any] = field(default_factory=dict)
    reasoning: str = ""
    model: str = ""
    voices: tuple[Voice, ...] = ()
    reason: str = ""
    json_valid: bool = False
    usage: Usage = field(default_factory=Usage)
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Decided:
    """A row's label with how it came about, and the model's first answer where that is the whole one already."""

    label: str
    probabilities: Mapping[str, float]
    confidence: float | None
    voices: tuple[Voice, ...]
    reason: str
    first: Completion | None


class Classifier:
    """Classifies texts for one domain. Raises where the domain's files are wrong; faults of single rows stay in their rows.

    model: a reference; "" takes the one of settings `router.models`, then the pack's base models. hybrid: hear the encoder too.
    """

    def __init__(
        self,
        domain: Domain,
        engines: Engines,
        model: str = "",
        *,
        hybrid: bool = False,
        contract: str = "",
        progress: Progress = quiet,
    ) -> None:
        self.domain = domain
        self.contract = Contract(domain, contract)
        self.hybrid = hybrid
        self._engines = engines
        self._progress = progress
        self._rules = DomainRules.of(domain)
        self._indicators = Indicators.of(domain)
        self._named = bool(model)
        tuned = engines.settings.router.models.get(domain.name, "")
        wanted = [model] if model else [*([tuned] if tuned else []), *domain.described.base_models]
        self._line = list(dict.fromkeys(wanted))
        self._notes: list[str] = []
        self._encoder: EncoderVoice | None = None
        self._calibration: Calibration | None = None
        self._words: frozenset[str] | None = None
        if hybrid and domain.labels:
            self._hear_encoder()

    @property
    def model(self) -> str:
        """The reference of the model that is asked, "" where none is left."""
        return self._engines.resolve(self._line[0]).reference if self._line else ""

    @property
    def digest(self) -> str:
        """What tells this version of the domain from any other."""
        return digest(self.domain)

    def classify(self, texts: Iterable[str]) -> Iterator[Classified]:
        """One answer a text, in order. Raises ModelError or EngineError where nobody is left to ask."""
        waiting = iter(texts)
        while group := list(islice(waiting, GROUP)):
            yield from self._group(group)

    def _group(self, texts: Sequence[str]) -> Iterator[Classified]:
        verdicts = [self._rules.verdict(text) for text in texts]
        decided: list[_Decided | None] = [None] * len(texts)
        firsts: list[Completion] = []
        if self.domain.labels:
            firsts, decided = self._decided(texts, verdicts)
        written = self._written(texts, verdicts, decided, firsts)
        for text, verdict, choice, answer in zip(texts, verdicts, decided, written, strict=True):
            yield self._finished(text, verdict, choice, answer)

    # --- the label ---------------------------------------------------------------------------------------------------------

    def _decided(self, texts: Sequence[str], verdicts: Sequence[Verdict]) -> "tuple[list[Completion], list[_Decided | None]]":
        """The model's first answers, and each row's label; None where there is no answer at all."""
        structure, whole = self.contract.label_structure()
        firsts = self._completed([(text, structure) for text in texts])
        logs = [self._label_logs(one) for one in firsts]
        settled = self._settled(any(row is not None for row in logs))
        shares = None if self._encoder is None else self._encoder.probabilities(texts)
        found: list[_Decided | None] = []
        for at, verdict in enumerate(verdicts):
            voices: dict[str, Floats] = {}
            if not texts[at].strip():
                found.append(None)
                continue
            row = logs[at]
            if row is not None:
                voices["model"] = softmax(row / np.float32(settled.temperature))
            if shares is not None:
                voices["encoder"] = shares[at]
            found.append(self._weighed(voices, verdict, settled, firsts[at], whole))
        return firsts, found

    def _weighed(
        self, voices: Mapping[str, Floats], verdict: Verdict, settled: Calibration, first: Completion, whole: bool
    ) -> "_Decided | None":
        labels = self.domain.labels
        names: tuple[tuple[str, VoiceName], ...] = (("model", "model"), ("encoder", "encoder"))
        told = [Voice(name, _ranked(labels, voices[key])) for key, name in names if key in voices]
        bound = any(one.path == self.contract.label_path and not one.complete for one in first.choices)
        if bound and "model" in voices:
            told[0] = replace(told[0], note=BOUND)
        pooled = settled.pooled(voices) if voices else None
        if len(voices) > 1 and pooled is not None:
            note = ", ".join(f"{name} {weight:g}" for name, weight in settled.weights)
            told.append(Voice("combined", _ranked(labels, pooled), f"weights: {note}"))
        forced = verdict.set.get(LABEL, verdict.set.get(self.contract.label_path))
        banned = {*verdict.never.get(LABEL, ()), *verdict.never.get(self.contract.label_path, ())}
        if forced is not None:
            said = f"rule {verdict.reasons.get(LABEL) or verdict.reasons.get(self.contract.label_path)}"
            told.insert(0, Voice("rules", {str(forced): 1.0}, said))
            return _Decided(str(forced), {str(forced): 1.0}, 1.0, tuple(told), said, first if whole else None)
        if pooled is None:
            return self._unweighed(first, whole)
        if banned:
            pooled = pooled * np.array([label not in banned for label in labels], np.float32)
            pooled = pooled / np.float32(max(float(pooled.sum()), 1e-12))
            told.insert(0, Voice("rules", {}, f"never {', '.join(sorted(map(str, banned)))}: {verdict.reasons.get(LABEL, '')}"))
        ranked = _ranked(labels, pooled)
        label = next(iter(ranked))
        reason = self._said(voices, settled) + (f"; {BOUND}" if bound else "")
        return _Decided(label, ranked, ranked[label], tuple(told), reason, first if whole else None)

    def _unweighed(self, first: Completion, whole: bool) -> "_Decided | None":
        """Where the engine gives no probabilities, the label that the model has written."""
        label = self._label_written(first)
        if label is None:
            return None
        reason = f"the model's answer; its engine gives no probabilities, so the confidence is unavailable{self._noted}"
        return _Decided(label, {}, None, (Voice("model", {}, "no probabilities"),), reason, first if whole else None)

    def _label_logs(self, one: Completion) -> Floats | None:
        """The model's log-probabilities of the labels in the domain's order; None where it gives none.

        In a mix a mere answer counts as a guess that is right nine times of ten; the calibration finds what it is worth.
        """
        labels = self.domain.labels
        for choice in one.choices:
            if choice.path == self.contract.label_path:
                known = dict(zip(map(str, choice.values), choice.log_probabilities, strict=True))
                return np.maximum(np.array([known.get(label, -np.inf) for label in labels], np.float32), np.float32(-30))
        label = self._label_written(one) if self._encoder is not None else None
        if label is None:
            return None
        return np.log(np.where(np.array(labels) == label, 0.9, 0.1 / max(len(labels) - 1, 1))).astype(np.float32)

    def _label_written(self, first: Completion) -> str | None:
        """The label in an answer's text, None where there is no answer or none of the labels in it."""
        text = first.text[first.text.find("{") : first.text.rfind("}") + 1]
        if first.fault is not None or not text:
            return None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        label = found.get(self.contract.label_path) if isinstance(found, dict) else None
        return label if label in self.domain.labels else None

    def _said(self, voices: Mapping[str, Floats], settled: Calibration) -> str:
        if len(voices) > 1:
            return f"model and encoder weighed{self._noted}"
        who = "the model" if "model" in voices else "the encoder's classifier"
        calibrated = f", calibrated on {settled.rows} rows" if settled.rows else ", not calibrated: too few validation rows"
        return f"{who} alone{calibrated if 'model' in voices else ''}{self._noted}"

    @property
    def _noted(self) -> str:
        return f" ({'; '.join(self._notes)})" if self._notes else ""

    def _settled(self, model: bool) -> Calibration:
        """The calibration of the voices there are, made on the domain's validation rows at the first group."""
        if self._calibration is None:
            key = (
                identity(self._engines.resolve(self._line[0])) if model and self._line else "",
                self.contract.version.name,
                "encoder" if self._encoder else "",
                "calibration 1",
            )
            self._calibration = calibration(self.domain, key, lambda: self._calibrated(model))
        return self._calibration

    def _calibrated(self, model: bool) -> Calibration:
        structure, _ = self.contract.label_structure()
        rows = validation(self.domain, SLOW_ROWS if self.contract.reasons_first else CALIBRATION_ROWS)
        if not rows:
            return Calibration()
        texts = [text for text, _ in rows]
        kept = list(range(len(rows)))
        logs: Floats | None = None
        if model:
            self._progress("calibrating the model on validation rows", 0, len(rows))
            found = [self._label_logs(one) for one in self._completed([(text, structure) for text in texts])]
            kept = [at for at, row in enumerate(found) if row is not None]
            logs = np.stack([row for row in found if row is not None]).astype(np.float32) if kept else None
        if not kept:
            return Calibration()
        shares = self._encoder.probabilities([texts[at] for at in kept]) if self._encoder else None
        return fit([rows[at][1] for at in kept], self.domain.labels, logs, shares)

    def _hear_encoder(self) -> None:
        from router.encoder import encoder

        try:
            self._encoder = EncoderVoice(self.domain, encoder(self._engines), self._progress)
        except Missing as fault:
            self._notes.append(f"the encoder is absent: {fault.what}")
        except InputError as fault:
            self._notes.append(fault.what)

    # --- the rest of the output --------------------------------------------------------------------------------------------

    def _written(
        self,
        texts: Sequence[str],
        verdicts: Sequence[Verdict],
        decided: "Sequence[_Decided | None]",
        firsts: Sequence[Completion],
    ) -> list[Completion]:
        """Each row's whole answer; rows with the same values in place are completed together."""
        answers: list[Completion | None] = [one.first if one is not None else None for one in decided]
        plans: list[tuple[int, Structure]] = []
        for at, (verdict, choice) in enumerate(zip(verdicts, decided, strict=True)):
            if answers[at] is None and not (self.domain.labels and choice is None):
                fixed = {path: value for path, value in verdict.set.items() if path != LABEL}
                if choice is not None:
                    fixed[self.contract.label_path] = choice.label
                plans.append((at, self.contract.structure_with(fixed, verdict.never)))
        order = {id(structure): at for at, structure in reversed(plans)}
        plans.sort(key=lambda plan: order[id(plan[1])])
        done = self._completed([(texts[at], structure) for at, structure in plans])
        for (at, _), answer in zip(plans, done, strict=True):
            answers[at] = answer
        return [firsts[at] if answer is None else answer for at, answer in enumerate(answers)]

    def _completed(self, wanted: Sequence[tuple[str, Structure]]) -> list[Completion]:
        """A completion for each text in its structure, by the first model in line that can be had; none left: faults."""
        while self._line:
            try:
                resolved = self._engines.resolve(self._line[0])
                return list(self._by(resolved, wanted))
            except Missing as fault:
                if self._named and not self.hybrid:
                    raise
                self._notes.append(f"{self._line[0]} is absent: {fault.what}")
                self._calibration = None
                del self._line[0]
                if not self._line and self._encoder is None and not self._alone():
                    raise
        absent = Completion(fault=EngineUnavailable("no model can be had", "see: pointsman models list"))
        return [absent] * len(wanted)

    def _alone(self) -> bool:
        """Whether the encoder can stand in for the models."""
        if self.domain.labels:
            self._hear_encoder()
        return self._encoder is not None

    def _by(self, resolved: Resolved, wanted: Sequence[tuple[str, Structure]]) -> Iterator[Completion]:
        begin = 0
        while begin < len(wanted):
            structure = wanted[begin][1]
            end = next((at for at in range(begin, len(wanted)) if wanted[at][1] is not structure), len(wanted))
            texts = [text for text, _ in wanted[begin:end]]
            asked = [at for at, text in enumerate(texts) if text.strip()]
            requests = (self.contract.request(texts[at], resolved.model) for at in asked)
            found = dict(zip(asked, resolved.engine.complete(requests, structure), strict=True))
            empty = Completion(fault=InputError("the text is empty"))
            yield from (found.get(at, empty) for at in range(len(texts)))
            begin = end

    def _finished(self, text: str, verdict: Verdict, choice: "_Decided | None", answer: Completion) -> Classified:
        """The row's result: the model's output parsed, what rules set in place, what Pointsman fills in."""
        output: dict[str, Any] = {}
        reasoning, fault = "", ""
        if answer.fault is not None:
            fault = str(answer.fault)
        else:
            try:
                parsed = self.contract.parse(answer.text)
                output, reasoning = dict(parsed.output), parsed.reasoning
            except InputError as broken:
                fault = broken.what
        valid = not fault and not self.contract.faults(output)
        if choice is not None and not fault:
            output[self.contract.label_path] = choice.label
        elif choice is not None and text.strip() and not self._line:  # no model is left, but a label: the encoder's or a rule's
            output, fault = {self.contract.label_path: choice.label}, ""
        for path, value in verdict.set.items():
            if path != LABEL and path != self.contract.label_path:
                _put(output, path, value)
        found = filled(output, self.domain, verdict, self._known(text, choice, answer, verdict)) if output else {}
        return Classified(
            text,
            choice.label if choice else "",
            choice.probabilities if choice else {},
            choice.confidence if choice else None,
            found,
            reasoning,
            self.model,
            choice.voices if choice else (),
            choice.reason if choice else "",
            valid,
            answer.usage,
            fault,
        )

    def _known(self, text: str, choice: "_Decided | None", answer: Completion, verdict: Verdict) -> Known:
        chances = {one.path: _chance(one.log_probabilities, one.chosen) for one in answer.choices if one.path}
        chances |= {path: 1.0 for path in verdict.set if path not in (LABEL, self.contract.label_path)}
        if choice is not None and choice.confidence is not None:
            chances[self.contract.label_path] = choice.confidence
        labels = choice.probabilities if choice else {}
        return Known(text, chances, labels, self._indicators.find(text), self._familiar())

    def _familiar(self) -> frozenset[str]:
        """The encoder's whole words, where the domain has a use for them and they can be had."""
        if self._words is None:
            self._words = frozenset()
            if "unfamiliar_terms" in str(self.domain.schema):
                engine = self._engines.get("llamacpp")
                try:
                    self._words = frozenset(engine.words())  # type: ignore[attr-defined]
                except Missing as fault:
                    self._notes.append(f"the encoder's words are absent: {fault.what}")
        return self._words


def _ranked(labels: Sequence[str], shares: Floats) -> dict[str, float]:
    order = np.argsort(-shares, kind="stable")
    return {labels[at]: round(float(shares[at]), 6) for at in order}


def _chance(logs: Sequence[float], chosen: int) -> float:
    shares = softmax(np.maximum(np.array(logs, np.float32), -60.0))
    return float(shares[chosen])


def _put(output: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    place = output
    for part in parents:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise PointsmanError(f"a rule sets {path}, which is no object's property", "see: pointsman domains check")
    place[last] = value
