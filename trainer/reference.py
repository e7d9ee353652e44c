"""A finished run as the yardstick of its export: base and adapter in float32, never merged, with the rows that it was judged on.

    rows_of(folder)       the rows of a run, where they are still there
    opened(folder)        base, adapter and rows, checked to be those that it was trained with
    task(recipe, rows)    what a GGUF file is worth on the validation rows, by the contract that serving uses

Where the rows are no longer there the model alone is given, and `notes` says why. Not covered: what is compared and what is enough
(`export.verify`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from data import bundles, domains
from data.chat import Message
from data.domains import Domain, Example
from data.errors import EngineRejected, InputError, ModelInvalid, NotFound, Offline
from trainer import adapter, encode, manifest, material, run_folder, train
from trainer.device import Policy, torch
from trainer.manifest import Manifest
from trainer.material import Material
from trainer.recipe import Recipe, StageTable

if TYPE_CHECKING:
    from trainer.base import Base

ADAPTER = "adapter"
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Asked:
    """A row as training had it. prompt, answer: tokens, the answer with the token that ends it."""

    messages: tuple[Message, ...]
    prompt: tuple[int, ...]
    answer: tuple[int, ...]


class Reference:
    """Base and adapter of a run in memory. notes: what could not be had."""

    def __init__(self, folder: Path, recipe: Recipe, noted: Manifest, base: "Base", model: Any, rows: Material | None) -> None:
        self.folder, self.recipe, self.manifest, self.base, self.model, self.rows = folder, recipe, noted, base, model, rows
        self.domain: Domain | None = domains.load(recipe.domain) if recipe.domain else None
        self.notes: tuple[str, ...] = ()

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """What base and adapter say after each token, shape (len(ids), vocabulary)."""
        return next(self.logits_of([ids], 0))

    def logits_of(self, rows: Sequence[Sequence[int]], shared: int) -> Iterator[NDArray[np.float32]]:
        """As `logits`, row by row; rows after the first begin with its first `shared` tokens, which are left out of theirs."""
        from transformers import DynamicCache

        found = torch()
        cache = DynamicCache(config=self.base.model.config)
        held = 0
        for number, row in enumerate(rows):
            kept = shared if number else 0
            if held > kept:
                cache.crop(kept - held)  # a negative number: so many are taken away
            held = len(row)
            with found.inference_mode():
                ids = found.tensor([list(row[kept:])], device=self.model.device)
                out = self.model(input_ids=ids, past_key_values=cache, use_cache=True)
            yield out.logits[0].float().cpu().numpy()

    def activations(self, rows: Sequence[Sequence[int]], collect: Callable[[Any, Sequence[Sequence[int]]], Found]) -> Found:
        """What `collect` (`export.imatrix.collect`) finds while the model reads rows of tokens."""
        return collect(self.model, rows)

    def spelled(self, messages: Sequence[Message]) -> tuple[str | None, list[int]]:
        """The conversation in the base's own template, and its tokens, as training has them; None where the template refuses it."""
        try:
            return self.base.prompt(messages, self.think), self.base.prompt_ids(messages, self.think)
        except EngineRejected:
            return None, []

    def text_ids(self, text: str) -> list[int]:
        """The tokens of plain text, in which nothing becomes a control token."""
        return self.base.text_ids(text)

    @property
    def think(self) -> bool | None:
        """How prompts were made: without native thinking under a contract, else as the model has it."""
        return False if self.domain is not None and self.domain.schema else None

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end an answer."""
        return self.base.stop_ids

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts of the tokens that end an answer."""
        return tuple(self.base.vocab.text(token) for token in self.base.stop_ids)

    @property
    def vocabulary(self) -> int:
        """How many tokens the model's output has."""
        return int(self.base.model.config.vocab_size)

    @property
    def template(self) -> str:
        """The base's chat template as Jinja."""
        return str(self.base.tokenizer.chat_template or "")

    @cached_property
    def validation(self) -> tuple[Asked, ...]:
        """The validation rows with their right answers; () where the rows are not there."""
        return self._asked(self.rows.validation) if self.rows else ()

    def training(self, count: int) -> tuple[tuple[int, ...], ...]:
        """The tokens of at most so many training rows, prompt and answer, spread over all of them."""
        rows = self.rows.train if self.rows else ()
        step = max(1, len(rows) // max(count, 1))
        return tuple((*one.prompt, *one.answer) for one in self._asked(rows[::step][:count]))

    def _asked(self, rows: Sequence[Any]) -> tuple[Asked, ...]:
        stage = next((one for one in self.recipe.stages if one.kind == "sft"), StageTable(kind="sft"))
        fitted = encode.fitted(self.recipe, stage, self.domain, self.base, rows)
        return tuple(Asked(one.written.messages, one.prompt, one.answers[0]) for one in fitted)


def opened(folder: Path, checkpoint: Path | None = None, rows: "tuple[Material | None, str] | None" = None) -> Reference:
    """The run's base with its adapter, in float32. checkpoint: a merged model that takes the place of both; rows: as `rows_of` has
    them, where they were read already.

    Raises NotFound where the folder is no run, InputError where its adapter was changed since, ModelInvalid where the base is
    another one than it was trained on, ModelMissing where the base is not there.
    """
    from trainer import base as bases

    recipe, noted = train.recipe_of(folder), manifest.read(folder)
    _unchanged(folder)
    table = recipe.base.model_copy(update={"dtype": "float32"})
    if checkpoint is not None:
        table = table.model_copy(update={"model": str(checkpoint), "revision": "", "quantisation": "none", "adapter": ""})
    else:
        _same_base(noted, bases.look(recipe.base))
    base = bases.load(table, _policy())
    model: Any = base.model if checkpoint is not None else adapter.attach(base, recipe.lora, str(folder), recipe.seed)
    model.train(False)
    material, why = rows or rows_of(folder)
    found = Reference(folder, recipe, noted, base, model, material)
    found.notes = (f"the rows of the run cannot be read: {why}",) if why else ()
    return found


@dataclass(frozen=True, slots=True)
class Judged:
    """What a model said about rows: its labels ("" for an answer with a fault), which are right, the share of valid JSON."""

    said: tuple[str, ...]
    right: tuple[bool, ...]
    valid: float | None


class Task:
    """The validation rows of a run as a task for GGUF files, asked as in service. count: rows at most, the same every time."""

    def __init__(self, domain: Domain, recipe: Recipe, rows: Sequence[Example], count: int = 200) -> None:
        from trainer.evaluate import sampled

        self._recipe = recipe
        self._domain = Domain(domain.folder, domain.described)
        self._domain.__dict__["cases"] = ()  # cached_property's own place: adversarial cases are the proof's
        self.rows = sampled(rows, count)

    def judged(self, model: Path, attached: Path | None = None) -> Judged:
        """What the file says, with an adapter GGUF attached where one is named. Raises ModelError and EngineError."""
        from data import config
        from router.engines import Engines

        settings = config.load()
        engines = Engines(settings, {"llamacpp": _engine(settings, attached)})
        try:
            scores = self._scores(engines, str(model.absolute()))
        finally:
            engines.close()
        said = tuple(one.said or str(one.output.get("text", "")) for one in scores.predictions)
        return Judged(said, tuple(one.correct for one in scores.predictions), scores.json_valid)

    def _scores(self, engines: Any, model: str) -> Any:
        from router.classification import Classifier
        from router.engines.base import Request
        from trainer.answers import evaluate_answers
        from trainer.evaluate import evaluate

        domain, contract = self._domain, self._recipe.data.contract
        if domain.schema:
            classifier = Classifier(domain, engines, f"llamacpp/{model}", contract=contract)
            return evaluate(domain, classifier.classify, self.rows)

        def answer(text: str) -> str:
            sampling = engines.settings.sampling.model_copy(update={"temperature": 0.0, "repeat_penalty": 1.0})
            asked = Request(model, domain.prompt(text), sampling, max_tokens=512)
            return "".join(chunk.text for chunk in engines.get("llamacpp").stream(asked))

        return evaluate_answers(domain, answer, self.rows)


def task(recipe: Recipe, rows: Material | None, count: int = 200) -> Task | None:
    """The run's validation rows as a task; None without a domain or without rows that can be judged."""
    if not recipe.domain or rows is None:
        return None
    domain = domains.load(recipe.domain)
    examples = [one for one in rows.examples if domain.schema or one.check]
    return Task(domain, recipe, examples, count) if examples else None


def trained(folder: Path, asked: Task) -> tuple[bool, ...]:
    """Which rows of the task the trained model had right when the run was judged; () where that was not kept of each, or where it
    was judged together with the sentence encoder."""
    if train.recipe_of(folder).gates.hybrid:
        return ()
    known = {one.text: one.correct for one in run_folder.read(folder).predictions}
    return tuple(known[row.text] for row in asked.rows) if all(row.text in known for row in asked.rows) else ()


def _engine(settings: Any, attached: Path | None) -> Any:
    """The llama.cpp engine; with an adapter every request gets it."""
    from router.engines.base import Adapter
    from router.engines.llamacpp import LlamaCpp

    if attached is None:
        return LlamaCpp(settings.llamacpp)
    with_it = Adapter(str(attached.absolute()))

    class Attached(LlamaCpp):
        """Every answer with the adapter."""

        def complete(self, requests: Any, structure: Any) -> Any:
            """As the engine's."""
            return super().complete((replace(one, adapter=with_it) for one in requests), structure)

        def stream(self, request: Any) -> Any:
            """As the engine's."""
            return super().stream(replace(request, adapter=with_it))

    return Attached(settings.llamacpp)


def _policy() -> Policy:
    device: Any = "cuda" if torch().cuda.is_available() else "cpu"
    return Policy(device, "float32", "adamw_torch", "sdpa", False, torch().get_num_threads())


def _unchanged(folder: Path) -> None:
    """Raise InputError where the adapter or the recipe is not as the run left it."""
    faults = [one for one in manifest.check(folder) if one.startswith((f"{ADAPTER}/", "recipe."))]
    if faults:
        raise InputError(f"{folder.name} is not as it was left: {faults[0]}", "copy the run again, or train it again")


def _same_base(noted: Manifest, found: Any) -> None:
    wanted = noted.base.sha256
    if wanted and found.sha256 != wanted:
        raise ModelInvalid(
            f"the adapter was trained on {noted.base.source} {wanted[:16]}…, and what is there now is {found.sha256[:16]}…",
            "bring back the base that it was trained on",
        )


def rows_of(folder: Path) -> tuple[Material | None, str]:
    """The rows of the run, or why they cannot be had. Raises NotFound where the folder is no run."""
    recipe, noted = train.recipe_of(folder), manifest.read(folder)
    if bundles.imported(folder) and (recipe.data.train or recipe.data.validation):
        return None, "they did not come with the bundle"  # and what its recipe names here is something else
    try:
        found = _read(recipe)
    except (InputError, NotFound, Offline) as fault:
        return None, fault.what
    if found.validation_sha256 != noted.data.validation_sha256:
        return None, "the validation rows are not those that it was judged on"
    return found, ""


def _read(recipe: Recipe) -> Material:
    from data import config

    domain = domains.load(recipe.domain) if recipe.domain else None
    if not set(material.OF_STORE) & {*recipe.data.train, *recipe.data.validation}:
        return material.read(recipe, domain)
    from data.store import open_store

    with open_store(config.load().store.url) as store:
        return material.read(recipe, domain, store)
