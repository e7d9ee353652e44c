"""The forward pass of training: nothing is computed twice, nothing for padding, and logits only where an answer is learnt.

The rows of a domain share their system message. It stands once at the beginning of one long sequence, and the rows' own tokens
follow one after the other; every row attends to that beginning and to itself. Loss and gradient are those of the whole prompts, for
the price of the rows' own tokens, whatever their lengths: rows need no sorting by length, which would sort them by label too. Only
attention itself sees padding, a twentieth of the work. Of the own tokens only those that predict the answer go through the head.
Exact, up to rounding; needs no kernel. Not covered: which tokens those are (`encode`), packing on a GPU (TRL's).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from types import MethodType
from typing import Any

from trainer.device import torch
from trainer.trunk import only

ALIKE = 0.7
"""The shortest row of a group against its longest."""
ATTENTION = "pointsman_rows"
"""The name under which transformers knows `attention`."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What is known of each answer token of a batch, in row order, shape (answer tokens,); log_probs has a graph.

    row: the row in the batch; place: the position inside the row's answer.
    """

    log_probs: Any
    row: Any
    place: Any


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of about one length. tokens: which own tokens stand in the padded rows, shape (rows, longest); real: which of these
    places, flattened, are no padding."""

    tokens: Any
    real: Any


@dataclass(frozen=True)
class Batch:
    """Rows one after the other. prefix: (shared,), ids: (all own tokens,), both long; lengths, starts: (rows,), a row's own tokens
    and where in them its answer begins, which is at least 1: the token before an answer's first is the row's own.

    first, lower_prefix, lower: where the layers below `first` were computed before (`trunk`), what they gave for prefix and ids,
    shapes (shared, width) and (own tokens, width).
    """

    prefix: Any
    ids: Any
    lengths: Any
    starts: Any
    first: int = 0
    lower_prefix: Any = None
    lower: Any = None

    def to(self, device: Any) -> "Batch":
        """On that device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in ("prefix", "ids", "lengths", "starts")})

    @cached_property
    def begins(self) -> Any:
        """Where each row begins among the own tokens."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def row(self) -> Any:
        """Of each own token, its row."""
        found = torch()
        return found.repeat_interleave(found.arange(len(self.lengths), device=self.ids.device), self.lengths)

    @cached_property
    def place(self) -> Any:
        """Of each own token, its place in the row."""
        return torch().arange(len(self.ids), device=self.ids.device) - self.begins[self.row]

    @cached_property
    def groups(self) -> "tuple[Group, ...]":
        """The rows by length, each group's shortest at least ALIKE of its longest: attention is paid for each padded place."""
        lengths = self.lengths.tolist()
        found: list[list[int]] = []
        for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
            if found and lengths[row] >= ALIKE * lengths[found[-1][0]]:
                found[-1].append(row)
            else:
                found.append([row])
        return tuple(self._group(rows) for rows in found)

    @cached_property
    def grouped(self) -> Any:
        """The own tokens in the order of the groups: where each stands in the batch."""
        return torch().cat([group.tokens.flatten()[group.real] for group in self.groups])

    def _group(self, rows: list[int]) -> "Group":
        found = torch()
        at = found.tensor(rows, device=self.ids.device)
        lengths = self.lengths[at][:, None]
        places = found.arange(int(lengths.max()), device=self.ids.device)[None]
        tokens = self.begins[at][:, None] + places.minimum(lengths - 1)  # a row's last token again where it is over
        return Group(tokens, (places < lengths).flatten())


def batched(prefix: Sequence[int], prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Batch:
    """A batch of rows. prompts: whole ones, each beginning with the prefix and longer than it."""
    found = torch()
    own = [list(prompt[len(prefix) :]) for prompt in prompts]
    ids = [token for prompt, answer in zip(own, answers, strict=True) for token in (*prompt, *answer)]
    lengths = [len(prompt) + len(answer) for prompt, answer in zip(own, answers, strict=True)]
    shared = found.tensor(list(prefix), dtype=found.long)
    return Batch(shared, found.tensor(ids), found.tensor(lengths), found.tensor([len(prompt) for prompt in own]))


def scored(model: Any, batch: Batch) -> Scored:
    """The log-probability of every answer token. model: a causal language model of transformers, with or without PEFT around it."""
    found = torch()
    inner = unwrapped(model)
    with only(inner.get_decoder(), batch.first) if batch.first else nullcontext():
        last = hidden(inner.get_decoder(), batch)[len(batch.prefix) :]
    at = predicting(batch)
    logits = logits_of(inner, last[at])
    targets = batch.ids[at + 1]
    chosen = logits.gather(1, targets[:, None])[:, 0]
    row = batch.row[at]
    return Scored(chosen - found.logsumexp(logits, dim=1), row, batch.place[at] + 1 - batch.starts[row])


def unwrapped(model: Any) -> Any:
    """The model of transformers without PEFT around it; its layers keep their adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def predicting(batch: Batch) -> Any:
    """The own tokens that predict an answer's token, by number, shape (answer tokens,)."""
    last_of_row = batch.place == batch.lengths[batch.row] - 1
    return ((batch.place >= batch.starts[batch.row] - 1) & ~last_of_row).nonzero(as_tuple=True)[0]


def logits_of(inner: Any, hidden: Any) -> Any:
    """Logits in float32, shape (positions, vocabulary), of last hidden states, shape (positions, width)."""
    logits = inner.get_output_embeddings()(hidden).float()
    cap = getattr(inner.config, "final_logit_softcapping", None)  # Gemma 2
    return cap * (logits / cap).tanh() if cap else logits


def hidden(decoder: Any, batch: Batch) -> Any:
    """The last hidden states of prefix and own tokens, shape (shared + own tokens, width)."""
    found = torch()
    shared = len(batch.prefix)
    positions = found.cat([found.arange(shared, device=batch.ids.device), batch.place + shared])[None]
    if batch.lower is None:
        given = {"input_ids": found.cat([batch.prefix, batch.ids])[None]}
    else:
        given = {"inputs_embeds": batch.lower if not shared else found.cat([batch.lower_prefix, batch.lower])}
        given["inputs_embeds"] = given["inputs_embeds"][None]
    with _attending(decoder.config):
        return decoder(**given, position_ids=positions, use_cache=False, rows=batch).last_hidden_state[0]


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


def attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    rows: Batch | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Attention of prefix and rows as transformers calls it: shapes (1, heads, shared + own tokens, size of a head); the result
    is (1, shared + own tokens, heads, size). Heads that share keys and values are laid beside each other as more queries."""
    if rows is None:
        raise ValueError("attention by rows needs the rows")
    found = torch()
    shared, heads, groups, size = len(rows.prefix), key.shape[1], query.shape[1] // key.shape[1], query.shape[3]

    def attend(q: Any, k: Any, v: Any, before: int) -> Any:
        """Shape (rows * longest, heads, size); q (rows, heads, longest, size), k and v with `before` places more."""
        count, _, length, _ = q.shape
        mask = _mask(length, before, sliding_window, q.device).repeat(groups, 1)
        q = q.reshape(count, heads, groups * length, size)
        if softcap:
            weights = (q @ k.transpose(2, 3)) * (scaling or size**-0.5)
            weights = (softcap * (weights / softcap).tanh()).masked_fill(~mask, float("-inf")).softmax(-1, dtype=found.float32)
            out = found.dropout(weights.to(q.dtype), dropout, True) @ v
        else:
            out = found.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scaling)
        return out.view(count, heads * groups, length, size).transpose(1, 2).reshape(count * length, heads * groups, size)

    parts = []
    for group in rows.groups:
        count, longest = group.tokens.shape
        q, k, v = (
            whole[0, :, shared:].index_select(1, group.tokens.flatten()).view(-1, count, longest, size).transpose(0, 1)
            for whole in (query, key, value)
        )
        if shared:
            k, v = (found.cat([a[:, :, :shared].expand(count, -1, -1, -1), b], dim=2) for a, b in ((key, k), (value, v)))
        parts.append(attend(q, k, v, shared)[group.real])
    together = found.cat(parts)
    own = together.new_empty(together.shape).index_copy(0, rows.grouped, together)
    if not shared:
        return own[None], None
    first = attend(query[:, :, :shared], key[:, :, :shared], value[:, :, :shared], 0)
    return found.cat([first, own])[None], None


def _mask(length: int, before: int, window: int | None, device: Any) -> Any:
    """Which of before + length keys each of the last `length` positions sees, shape (length, before + length)."""
    found = torch()
    seen = found.arange(before + length, device=device)[None]
    at = found.arange(before, before + length, device=device)[:, None]
    mask = seen <= at
    return mask & (at - seen < window) if window else mask


@contextmanager
def _attending(config: Any) -> Iterator[None]:
    """While open, a model of that configuration attends by rows."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attention)
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before
