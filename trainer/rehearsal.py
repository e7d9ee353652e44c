"""Rehearsal: general questions in training, so that what the base could beside the domain stays as it was.

A term of the loss holds the tuned model to the base's own predictions on rehearsal.jsonl: the mean Kullback-Leibler divergence, in
nats a token, of the tuned model's distribution from the base's, over the answers' tokens (Li and Hoiem 2016, "Learning without
Forgetting"). It teaches nothing new and contradicts nothing: an adapter can tell a domain's prompt by its instruction. The base's
last hidden states are computed once; each step sees a few of the rows. None of its questions is in general.jsonl, by which
forgetting is measured. Not covered: the gates (`proof`).
"""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import paths
from data.chat import Message
from data.errors import InputError
from trainer._loop.order import mixed
from trainer.device import torch
from trainer.encode import shared
from trainer.forward import batched, hidden, logits_of, predicting, unwrapped

if TYPE_CHECKING:
    from trainer.base import Base

FILE = Path(__file__).parent / "rehearsal.jsonl"
LARGEST_BYTES = 1 << 20


@cache
def rows() -> tuple[tuple[str, str], ...]:
    """Questions with an answer. Raises InputError where the file is damaged."""
    text = paths.read_text(FILE, LARGEST_BYTES, "install pointsman again")
    try:
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
        return tuple((one["prompt"], one["completion"]) for one in found)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{FILE.name} is damaged: {error}", "install pointsman again") from error


class Rehearsal:
    """The rows as tokens, and what the base predicts of them. Make it before layers are replaced (`fused`)."""

    def __init__(self, model: Any, base: "Base", count: int, seed: int) -> None:
        """model: PEFT's, whose adapter is switched off to ask the base; count: rows a step."""
        end = tuple(base.ids(base.end))
        self._prompts = [tuple(base.prompt_ids((Message("user", prompt),))) for prompt, _ in rows()]
        self._answers = [(*base.ids(answer), *end) for _, answer in rows()]
        self._prefix = shared(self._prompts)
        self._count, self._seed = min(count, len(self._prompts)), seed
        was = model.training
        model.train(False)
        with torch().no_grad(), model.disable_adapter():
            self._known = [self._hidden(unwrapped(model), [at]) for at in range(len(self._prompts))]
        model.train(was)

    def loss(self, model: Any, step: int) -> Any:
        """The mean divergence over the answers of this step's rows, with a graph; the same step gives the same rows. model: PEFT's,
        with the adapter on."""
        found, at, inner = torch(), list(self._drawn(step)), unwrapped(model)
        with found.no_grad():
            wanted = logits_of(inner, found.cat([self._known[one] for one in at])).log_softmax(-1)
        mine = logits_of(inner, self._hidden(inner, at)).log_softmax(-1)
        return found.nn.functional.kl_div(mine, wanted, reduction="batchmean", log_target=True)

    def _drawn(self, step: int) -> Iterator[int]:
        """The next rows of an order that is drawn anew each time all were seen."""
        found, count = torch(), len(self._prompts)
        for place in range(step * self._count, (step + 1) * self._count):
            turn, at = divmod(place, count)
            order = found.randperm(count, generator=found.Generator().manual_seed(mixed(self._seed, turn)))
            yield int(order[at])

    def _hidden(self, inner: Any, at: Sequence[int]) -> Any:
        """Last hidden states that predict the answers' tokens, in the order of `at`, shape (answer tokens, width)."""
        batch = batched(self._prefix, [self._prompts[one] for one in at], [self._answers[one] for one in at])
        batch = batch.to(next(inner.parameters()).device)
        return hidden(inner.get_decoder(), batch)[len(batch.prefix) :][predicting(batch)]
