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
from trainer import evaluate, general
from trainer.answers import evaluate_answers
from trainer.engine import ADAPTER, BASE, engines
from trainer.events import Event, Tell
from trainer.general import Ability, General
from trainer.material import Material
from trainer.recipe import Recipe
from trainer.scores import Scores

if TYPE_CHECKING:
    from trainer.base import Base

GREEDY_TOKENS = 512
"""Of a free answer that is checked."""


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
        values = {"json_valid": found.json_valid}
        if found.figures is not None:
            values |= {"accuracy": found.figures.accuracy, "macro_f1": found.figures.macro_f1, "ece": found.figures.ece}
        return {name: float(value) for name, value in values.items() if value is not None}

    def _scores(self, model: str, note: str) -> Scores | None:
        domain, rows = self._domain, evaluate.sampled(self._material.examples, self._recipe.gates.rows)
        if domain is None or not rows:
            return None
        if not domain.schema:
            return evaluate_answers(
                domain, lambda text: self._answer(domain, model, text), rows, self._telling(note), f"torch/{model}"
            )
        hybrid = self._recipe.gates.hybrid
        classifier = Classifier(domain, self._engines, f"torch/{model}", hybrid=hybrid, contract=self._recipe.data.contract)
        return replace(evaluate.evaluate(domain, classifier.classify, rows, self._telling(note)), model=note)

    def _answer(self, domain: Domain, model: str, text: str) -> str:
        sampling = Settings().sampling.model_copy(update={"temperature": 0.0, "repeat_penalty": 1.0})
        messages: tuple[Message, ...] = domain.prompt(text)
        request = Request(model, messages, sampling, GREEDY_TOKENS)
        return "".join(chunk.text for chunk in self._engines.get("torch").stream(request))

    def _telling(self, note: str) -> evaluate.Progress:
        return lambda doing, done, of: self._tell(Event("judging", "", done, of, note=f"{note}: {doing}"))
