"""What a model under training is worth right now, and what its base is worth: by the contract, rules and checks that serving uses.

The rows are the validation examples of the run; figures on some of them steer the training (best kept, early stopping), scores on
all of them and on the adversarial cases go into the proof. Not covered: what is enough (`proof`).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from data.chat import Message
from data.config import Settings
from data.domains import Domain
from router.classification import Classifier
from router.engines.base import Request
from trainer import bias, evaluate, general
from trainer.answers import evaluate_answers
from trainer.bias import Bias
from trainer.engine import ADAPTER, BASE, engines
from trainer.events import Event, Sample, Tell
from trainer.general import Ability, General
from trainer.material import Material
from trainer.recipe import Recipe
from trainer.scores import Scores

if TYPE_CHECKING:
    from trainer.base import Base

GREEDY_TOKENS = 512
"""Of a free answer that is checked."""
SAMPLES, SAMPLE_CHARS = 3, 300
"""Answers told after a judgement, and characters of each text."""


class Judge:
    """Scores of the adapter and of the base on one run's validation rows. model: the PEFT model that is trained."""

    def __init__(
        self, recipe: Recipe, domain: Domain | None, base: "Base", model: Any, material: Material, settings: Settings, tell: Tell
    ) -> None:
        self._recipe, self._domain, self._material, self._tell = recipe, domain, material, tell
        self._engines = engines(base, settings, model)
        self._base_ability: Ability | None = None

    def close(self) -> None:
        """Free what the engines hold."""
        self._engines.close()

    def adapter(self, note: str = "adapter") -> Scores | None:
        """The model as it stands; None without a domain or rows that can be judged."""
        return self._scores(ADAPTER, note)

    def base(self) -> Scores | None:
        """The same weights with the adapter off."""
        return self._scores(BASE, "base")

    def general(self) -> General:
        """Both on the general set; the base is measured once."""
        engine = self._engines.get("torch")
        told = self._telling("general set")
        if self._base_ability is None:
            self._base_ability = general.ability(engine, BASE, told)
        return general.measure(engine, told, ADAPTER, self._base_ability)

    def bias(self) -> tuple[Bias, Bias] | None:
        """Adapter and base on paired prompts, the adapter on orders in messages too; None where no gate asks for it."""
        domain, gates = self._domain, self._recipe.gates
        if domain is None or (gates.bias is None and gates.injections is None):
            return None
        return self._bias(domain, ADAPTER), self._bias(domain, BASE)

    def figures(self, rows: int) -> Mapping[str, float]:
        """A few figures of the adapter on so many rows, for the loop: accuracy, macro_f1, json_valid, ece. Needs labels."""
        domain = self._domain
        if domain is None or not domain.labels or not self._material.examples:
            return {}
        quick = Domain(domain.folder, domain.described)
        quick.__dict__["cases"] = ()  # cached_property's own place: the adversarial cases wait for the proof
        some = evaluate.sampled(self._material.examples, rows)
        classifier = Classifier(quick, self._engines, f"torch/{ADAPTER}", contract=self._recipe.data.contract)
        found = evaluate.evaluate(quick, classifier.classify, some, self._telling("validation"))
        self._tell(Event("judging", note="validation", samples=_samples(found)))
        values = {"json_valid": found.json_valid}
        if found.figures is not None:
            values |= {"accuracy": found.figures.accuracy, "macro_f1": found.figures.macro_f1, "ece": found.figures.ece}
        return {name: float(value) for name, value in values.items() if value is not None}

    def _scores(self, model: str, note: str) -> Scores | None:
        domain, rows = self._domain, evaluate.sampled(self._material.examples, self._recipe.gates.rows)
        if domain is None or not rows:
            return None
        if not domain.schema:
            found = evaluate_answers(
                domain, lambda text: self._answer(domain, model, text), rows, self._telling(note), f"torch/{model}"
            )
        else:
            classifier = self._classifier(domain, model)
            found = replace(evaluate.evaluate(domain, classifier.classify, rows, self._telling(note)), model=note)
        self._tell(Event("judging", note=note, samples=_samples(found)))
        return found

    def _bias(self, domain: Domain, model: str) -> Bias:
        told = self._telling(model)
        if not domain.schema:
            return bias.by_likelihood(domain, self._engines.get("torch"), model, told)
        return bias.by_contract(domain, self._classifier(domain, model), told, model, injected=model == ADAPTER)

    def _classifier(self, domain: Domain, model: str) -> Classifier:
        """As the model is judged: with the sentence encoder where the recipe says so."""
        hybrid, contract = self._recipe.gates.hybrid, self._recipe.data.contract
        return Classifier(domain, self._engines, f"torch/{model}", hybrid=hybrid, contract=contract)

    def _answer(self, domain: Domain, model: str, text: str) -> str:
        sampling = Settings().sampling.model_copy(update={"temperature": 0.0, "repeat_penalty": 1.0})
        messages: tuple[Message, ...] = domain.prompt(text)
        request = Request(model, messages, sampling, GREEDY_TOKENS)
        return "".join(chunk.text for chunk in self._engines.get("torch").stream(request))

    def _telling(self, note: str) -> evaluate.Progress:
        return lambda doing, done, of: self._tell(Event("judging", "", done, of, note=f"{note}: {doing}"))


def _samples(found: Scores) -> tuple[Sample, ...]:
    """The first answers, wrong ones before right ones."""
    some = sorted(found.predictions, key=lambda one: one.correct)[:SAMPLES]
    return tuple(Sample(*(text[:SAMPLE_CHARS] for text in (one.text, one.right, one.said or one.fault))) for one in some)
