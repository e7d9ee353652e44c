"""A domain's answer about many texts: rules, the model and the encoder heard in that order, weighed, and the output written.

Rows go through in groups. Where the model alone is heard it writes the whole answer at once, labels chosen by its own
log-probabilities; in a mix it gives the labels' probabilities first, and writes the rest once the label is decided. What rules set
stands in its place before the model writes, so that nothing it says contradicts them; Pointsman fills in its own part. Where the
model cannot be had, the next in line takes its place: the pack's base models, then the encoder alone. Not covered: whose word
counts (`labelling`), files and resuming (`tui.commands.classify`), scores (`trainer.evaluate`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from data.chat import Usage
from data.domains import Domain
from data.errors import InputError, PointsmanError
from data.indicators import Indicators
from router.contract import Contract
from router.domain_rules import LABEL, DomainRules, Verdict
from router.domain_voices import EncoderVoice, Missing, ModelVoice, Progress, digest, quiet
from router.engines import Engines
from router.engines.structure import Completion, Structure
from router.fillings import Known, filled
from router.labelling import Decided, Labeller, Voice
from router.linear import softmax

__all__ = ["GROUP", "Classified", "Classifier", "Voice"]

GROUP = 128
"""Texts that go through together."""


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
        self._model = ModelVoice(self.contract, engines, model, lambda: (hybrid or not model) and self._hears_encoder())
        self._labeller = Labeller(self.contract, self._model, progress)
        self._words: frozenset[str] | None = None
        if hybrid:
            self._hears_encoder()

    @property
    def model(self) -> str:
        """The reference of the model that is asked, "" where none is left."""
        return self._model.reference

    @property
    def digest(self) -> str:
        """What tells this version of the domain from any other."""
        return digest(self.domain)

    def classify(self, texts: Iterable[str]) -> Iterator[Classified]:
        """One answer a text, in order. Raises ModelError or EngineError where nobody is left to ask."""
        waiting = iter(texts)
        while group := list(islice(waiting, GROUP)):
            yield from self._group(group)

    def labels(self, texts: Iterable[str]) -> Iterator[Decided | None]:
        """The label of each text alone, in order: the one that `classify` gives, without writing the rest of the answers.

        None where there is none. Raises as `classify`, and InputError where the domain has no labels.
        """
        waiting = iter(texts)
        structure = self.contract.label_structure()[0]
        while group := list(islice(waiting, GROUP)):
            answers = self._model.completed([(text, structure) for text in group])
            yield from self._labeller.decided(group, [self._rules.verdict(text) for text in group], answers)

    def _group(self, texts: Sequence[str]) -> Iterator[Classified]:
        verdicts = [self._rules.verdict(text) for text in texts]
        answers = self._model.completed([(text, self._first(one)) for text, one in zip(texts, verdicts, strict=True)])
        decided: list[Decided | None] = [None] * len(texts)
        if self.domain.labels:
            decided = self._labeller.decided(texts, verdicts, answers)
            answers = self._rewritten(texts, verdicts, decided, answers)
        for text, verdict, choice, answer in zip(texts, verdicts, decided, answers, strict=True):
            yield self._finished(text, verdict, choice, answer)

    def _first(self, verdict: Verdict) -> Structure:
        """What the model is asked for first: the labels alone where others have a word too, else the whole answer."""
        if self.domain.labels and (self._labeller.encoder is not None or self._labeller.forced(verdict)):
            return self.contract.label_structure()[0]
        return self._placed(verdict)

    def _placed(self, verdict: Verdict, label: str = "") -> Structure:
        """The structure with what rules set and forbid, and the label where it is decided."""
        path = self.contract.label_path
        fixed = {place: value for place, value in verdict.set.items() if place not in (LABEL, path)}
        never = {place: values for place, values in verdict.never.items() if place not in (LABEL, path)}
        if label:
            fixed[path] = label
        elif banned := self._labeller.banned(verdict):
            never[path] = tuple(sorted(banned))
        return self.contract.structure_with(fixed, never)

    def _rewritten(
        self,
        texts: Sequence[str],
        verdicts: Sequence[Verdict],
        decided: Sequence[Decided | None],
        answers: Sequence[Completion],
    ) -> list[Completion]:
        """The answers, written whole where only the label was asked for."""
        found = list(answers)
        plans: list[tuple[int, Structure]] = []
        whole = self.contract.label_structure()[1]
        for at, (verdict, choice) in enumerate(zip(verdicts, decided, strict=True)):
            partly = self._labeller.encoder is not None or bool(self._labeller.forced(verdict))
            if choice is not None and partly and not whole:
                plans.append((at, self._placed(verdict, choice.label)))
        done = self._model.completed([(texts[at], structure) for at, structure in plans])
        for (at, _), answer in zip(plans, done, strict=True):
            found[at] = answer
        return found

    def _finished(self, text: str, verdict: Verdict, choice: Decided | None, answer: Completion) -> Classified:
        """The row's result: the model's output parsed, what rules set in place, what Pointsman fills in."""
        output: dict[str, Any] = {}
        reasoning, fault = "", str(answer.fault or "")
        if not fault:
            try:
                parsed = self.contract.parse(answer.text)
                output, reasoning = dict(parsed.output), parsed.reasoning
            except InputError as broken:
                fault = broken.what
        valid = not fault and not self.contract.faults(output)
        if choice is not None and not fault:
            output[self.contract.label_path] = choice.label
        elif choice is not None and not self._model.reference:  # no model is left, but a label: the encoder's or a rule's
            output, fault = {self.contract.label_path: choice.label}, ""
        if output or verdict.set:  # what rules set stands, whatever came of the model
            for path, value in verdict.set.items():
                if path not in (LABEL, self.contract.label_path):
                    _put(output, path, value)
            output = filled(output, self.domain, verdict, self._known(text, choice, answer, verdict))
        return Classified(
            text,
            choice.label if choice else "",
            choice.probabilities if choice else {},
            choice.confidence if choice else None,
            output,
            reasoning,
            self.model,
            choice.voices if choice else (),
            choice.reason if choice else "",
            valid,
            answer.usage,
            fault,
        )

    def _known(self, text: str, choice: Decided | None, answer: Completion, verdict: Verdict) -> Known:
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
                    self._labeller.notes.append(f"the encoder's words are absent: {fault.what}")
        return self._words

    def _hears_encoder(self) -> bool:
        """Let the encoder have a word, where the domain has labels and it can be had; whether it can."""
        if self._labeller.encoder is None and self.domain.labels:
            from router.encoder import encoder

            try:
                self._labeller.encoder = EncoderVoice(self.domain, encoder(self._engines), self._progress)
            except (*Missing, InputError) as fault:
                self._labeller.notes.append(f"the encoder is absent: {fault.what}")
        return self._labeller.encoder is not None


def _chance(logs: Sequence[float], chosen: int) -> float:
    shares = softmax(np.maximum(np.array(logs, np.float32), np.float32(-60)))
    return float(shares[chosen])


def _put(output: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    place = output
    for part in parents:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise PointsmanError(f"a rule sets {path}, which is no object's property", "see: pointsman domains check")
    place[last] = value
