"""The forward pass of training: what all prompts begin with is computed once a batch, and logits only where an answer is learnt.

The rows of a domain share their system message. Its keys and values are computed once, with their graph, and every row of the
batch attends to them: the loss and the gradient are those of the whole prompts, for the price of the rows' own tokens. Of the
rows' own tokens only those that predict the answer go through the language model head. Exact, up to rounding; needs no kernel.
Not covered: which tokens those are (`encode`), packing (TRL's, on a GPU).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import MethodType
from typing import Any

from trainer.device import torch
from trainer.trunk import only


@dataclass(frozen=True, slots=True)
class Scored:
    """What is known of each answer token of a batch, in row order, shape (answer tokens,); log_probs has a graph.

    row: the row in the batch; place: the position inside the row's answer.
    """

    log_probs: Any
    row: Any
    place: Any


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows padded on the right. ids: (rows, longest), long, without the prefix; starts: where each answer begins; ends: after it.

    A start is at least 1: the token before an answer's first is the row's own. first, lower_prefix, lower: where the layers below
    `first` were computed before (`trunk`), what they gave for prefix and ids, shapes (1, prefix, width) and (rows, longest, width).
    """

    prefix: Any
    ids: Any
    starts: Any
    ends: Any
    first: int = 0
    lower_prefix: Any = None
    lower: Any = None


def batched(prefix: Sequence[int], prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad: int) -> Batch:
    """A batch of rows. prompts: whole ones, each beginning with the prefix and longer than it."""
    found = torch()
    own = [list(prompt[len(prefix) :]) for prompt in prompts]
    longest = max(len(prompt) + len(answer) for prompt, answer in zip(own, answers, strict=True))
    rows = [[*prompt, *answer] for prompt, answer in zip(own, answers, strict=True)]
    ids = found.tensor([row + [pad] * (longest - len(row)) for row in rows])
    starts = found.tensor([len(prompt) for prompt in own])
    return Batch(found.tensor([list(prefix)]), ids, starts, found.tensor([len(row) for row in rows]))


def scored(model: Any, batch: Batch) -> Scored:
    """The log-probability of every answer token. model: a causal language model of transformers, with or without PEFT around it."""
    found = torch()
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    with only(inner.get_decoder(), batch.first) if batch.first else nullcontext():
        last = hidden(inner.get_decoder(), batch)
    rows, length = batch.ids.shape
    places = found.arange(length, device=batch.ids.device).expand(rows, length)
    predicts = (places >= batch.starts[:, None] - 1) & (places < batch.ends[:, None] - 1)
    row, at = predicts.nonzero(as_tuple=True)
    logits = logits_of(inner, last[row, at])
    targets = batch.ids[row, at + 1]
    chosen = logits.gather(1, targets[:, None])[:, 0]
    return Scored(chosen - found.logsumexp(logits, dim=1), row, at + 1 - batch.starts[row])


def logits_of(inner: Any, hidden: Any) -> Any:
    """Logits in float32, shape (positions, vocabulary), of last hidden states, shape (positions, width)."""
    logits = inner.get_output_embeddings()(hidden).float()
    cap = getattr(inner.config, "final_logit_softcapping", None)  # Gemma 2
    return cap * (logits / cap).tanh() if cap else logits


@contextmanager
def scoring(model: Any) -> Iterator[None]:
    """While open, `model(batch=...)` gives `Scored`: so that wrappers of several processes (DDP, FSDP) see a forward call."""
    before = model.forward

    def forward(self: Any, *args: Any, batch: Batch | None = None, **more: Any) -> Any:
        return before(*args, **more) if batch is None else scored(self, batch)

    model.forward = MethodType(forward, model)
    try:
        yield
    finally:
        del model.forward


def hidden(decoder: Any, batch: Batch) -> Any:
    """The last hidden states of the rows' own tokens, shape (rows, longest, width)."""
    from transformers import DynamicCache

    found = torch()
    own = {"input_ids": batch.ids} if batch.lower is None else {"inputs_embeds": batch.lower}
    shared = int(batch.prefix.shape[1])
    if not shared:
        return decoder(**own, use_cache=False).last_hidden_state
    before = {"input_ids": batch.prefix} if batch.lower is None else {"inputs_embeds": batch.lower_prefix}
    first = decoder(**before, past_key_values=DynamicCache(), use_cache=True).past_key_values
    rows = batch.ids.shape[0]
    cache = DynamicCache()
    for at, layer in enumerate(first.layers):
        cache.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), at)
    positions = found.arange(shared, shared + batch.ids.shape[1], device=batch.ids.device)[None]
    return decoder(**own, past_key_values=cache, position_ids=positions, use_cache=True).last_hidden_state
