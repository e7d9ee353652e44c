"""The model under training, or just trained, answers as serving will: under output contracts, with exact probabilities.

What an answer is made of is the llama.cpp engine's own code (`router.engines._llamacpp.answer`); only what computes is torch, so a
model is judged on what it will say in service. Two names, one set of weights: `torch/adapter`, and `torch/base` with the adapter
off. Prompts, states of training and random numbers are left as they were. Used from one thread, between two steps of training.

Not covered: adapters from files, native thinking, tool calls, leaving out old turns of a conversation, models that are sharded
over processes, recurrent models; attention beyond a sliding window (rows are as long as the window at most).
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from data.chat import Chunk, Message, Usage
from data.config import Settings
from data.errors import EngineRejected, InputError, ModelMissing
from router.contract import node
from router.engines import Engines
from router.engines._llamacpp.masks import Alphabet
from router.engines._llamacpp.plan import Plan
from router.engines._llamacpp.text import OPEN, Shown
from router.engines.base import Capabilities, Engine, ModelInfo, Request
from router.engines.structure import Completion, Structure
from trainer._engine.batching import Batch
from trainer._engine.complete import Work, too_long
from trainer._engine.generate import Saying
from trainer._engine.score import Scoring
from trainer._engine.weights import fingerprint

if TYPE_CHECKING:
    from trainer.base import Base

ADAPTER = "adapter"
BASE = "base"


class TorchEngine(Engine):
    """A base of `trainer.base`, with a PEFT model around it or without. model: that PEFT model, None for the base as it is."""

    name = "torch"
    capabilities = Capabilities(score=True, schema=True)

    def __init__(self, base: "Base", model: Any = None) -> None:
        self.model = base.model if model is None else model
        self._base = base
        self._alone = False
        window = getattr(base.model.config.get_text_config(), "sliding_window", None)
        self.context = min(base.context, window or base.context)
        self.vocab = base.vocab
        self._alphabet: Alphabet | None = None
        self._structures: list[tuple[Structure, Plan]] = []

    @property
    def alphabet(self) -> Alphabet:
        """What the vocabulary's tokens spell. Made once, when it is first needed."""
        if self._alphabet is None:
            self._alphabet = Alphabet(self.vocab)
        return self._alphabet

    @contextmanager
    def base_alone(self) -> Iterator[None]:
        """While open, every name answers with the adapter off: paired comparisons from the same weights."""
        before, self._alone = self._alone, True
        try:
            yield
        finally:
            self._alone = before

    def version(self, model: str) -> str:
        """The base's, and a fingerprint of the adapter's weights where it has a word: another one after every training step."""
        of_base = self._base.identity.sha256[:16]
        return of_base if self._without_adapter(model) else f"{of_base}+{fingerprint(self.model)}"

    def complete(self, requests: Iterable[Request], structure: Structure) -> Iterator[Completion]:
        """Completions, many at once, with the probabilities of all choices. Rows beyond the context have ContextOverflow as fault.

        Raises ModelMissing for an unknown name, EngineRejected for an adapter file, ModelInvalid where the output is no numbers.
        """
        for model, rows in groupby(requests, key=lambda request: request.model):
            batch = Batch(self.model, self._without_adapter(model))
            yield from Work(batch, self._plan(structure), rows, self._asked, self.context).completions()

    def stream(self, request: Request) -> Iterator[Chunk]:
        """The answer, in pieces; by its JSON schema at once where it has one. Raises as `complete`, and ContextOverflow."""
        started = time.perf_counter()
        if request.schema is not None:
            yield from self._by_schema(request)
            return
        prompt = self._fitting(request, 1)
        thinks = OPEN in str(getattr(self._base.tokenizer, "chat_template", "") or "")
        inside = thinks and self.vocab.spelling(prompt[-8:]).decode("utf-8", "ignore").rstrip().endswith(OPEN)
        shown = Shown(request.stop, thinks, inside, self.vocab.spaces_first)
        saying = Saying(self.vocab, prompt, min(request.max_tokens, self.context - len(prompt)), request.sampling)
        batch = Batch(self.model, self._without_adapter(request.model))
        batch.admit(saying)
        first_at = 0.0
        while not (saying.done or shown.stopped):
            batch.compute()
            first_at = first_at or time.perf_counter()
            yield from _chunk(*shown.feed(saying.piece))
        yield from _chunk(*shown.flush())
        now = time.perf_counter()
        finish = "stop" if shown.stopped else saying.finish
        yield Chunk(usage=Usage(len(prompt), 0, saying.count, first_at - started, now - started, finish, 0.0, self.context))

    def score(self, request: Request, continuations: Sequence[str]) -> list[tuple[float, ...]]:
        """Natural log-probability of each token of each continuation, given the rendered request. Raises as `stream`."""
        tails = [self.vocab.tokenise_text(text) for text in continuations]
        scoring = Scoring(self._fitting(request, max(map(len, tails), default=0)), tails)
        batch = Batch(self.model, self._without_adapter(request.model))
        batch.admit(scoring)
        while not scoring.done:
            batch.compute()
        return scoring.found

    def models(self) -> list[ModelInfo]:
        """The two names."""
        about = self._base.identity
        names = (ADAPTER, BASE) if self.model is not self._base.model else (BASE,)
        return [
            ModelInfo(name, self.name, about.size_bytes, self.context, str(about.parameters), "", about.family, about.source)
            for name in names
        ]

    def count(self, model: str, messages: Sequence[Message]) -> int:
        """Tokens of a conversation as the prompt has them."""
        return len(self._base.prompt_ids(messages))

    def _plan(self, structure: Structure) -> Plan:
        """What is known of a structure, kept for the next rows of the same one."""
        for known, plan in self._structures:
            if known is structure:
                return plan
        self._structures = [*self._structures[-7:], (structure, Plan(self, structure))]
        return self._structures[-1][1]

    def _asked(self, request: Request) -> list[int]:
        """The prompt of a structured answer: thinking would come before what is asked for."""
        return self._prompt(replace(request, think=bool(request.think)))

    def _prompt(self, request: Request) -> list[int]:
        if request.adapter is not None:
            raise EngineRejected("the torch engine attaches no adapter files", "use the llamacpp engine")
        if not request.messages:
            raise EngineRejected("the conversation is empty", "ask something")
        return self._base.prompt_ids(request.messages, request.think)

    def _fitting(self, request: Request, answer: int) -> list[int]:
        prompt = self._prompt(request)
        if len(prompt) + answer > self.context:
            raise too_long(len(prompt), self.context - answer)
        return prompt

    def _without_adapter(self, model: str) -> bool:
        if model not in (ADAPTER, BASE, ""):
            raise ModelMissing(f"the torch engine has no model {model!r}", f"it has {ADAPTER} and {BASE}")
        return self._alone or model == BASE

    def _by_schema(self, request: Request) -> Iterator[Chunk]:
        schema = request.schema or {}
        try:
            structure = Structure(node(schema, ""), schema)
        except InputError as fault:
            raise EngineRejected(f"the torch engine cannot keep to this schema: {fault.what}", fault.fix) from fault
        (found,) = self.complete([replace(request, schema=None)], structure)
        if found.fault is not None:
            raise found.fault
        yield Chunk(found.text)
        yield Chunk(usage=found.usage)


def engines(base: "Base", settings: Settings, model: Any = None) -> Engines:
    """All engines, and this model as `torch/adapter` and `torch/base`. model: the PEFT model; None for a base without adapter."""
    return Engines(settings, {TorchEngine.name: TorchEngine(base, model)})


def _chunk(thinking: str, text: str) -> Iterator[Chunk]:
    if thinking or text:
        yield Chunk(text, thinking)
