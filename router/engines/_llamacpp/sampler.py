"""The next token, drawn in C: penalties, then the cuts, temperature and the draw; an answer's JSON schema as a grammar.

Penalties look at the answer only, not at the prompt. Not covered: mirostat, DRY and other samplers of llama.cpp.
"""

import os
from collections.abc import Callable, Mapping
from ctypes import byref, c_float, memmove, sizeof
from functools import partial
from typing import Any

from data.config import Sampling
from data.errors import EngineInterrupted
from router.engines._llamacpp.grammar import compiled


class Sampler:
    """A sampler chain for one answer. `draw` picks and accepts the next token from the context's last logits."""

    def __init__(self, api: Any, context: int, vocab: int, sampling: Sampling, schema: Mapping[str, Any] | None = None) -> None:
        """Raises EngineRejected where the schema cannot be made into a grammar."""
        self._api = api
        self._grammar: Any = None if schema is None else compiled(api, vocab, schema)
        self._chain: Any = _chain(api, api.llama_vocab_n_tokens(vocab), sampling)
        self._candidates = None if self._grammar is None else _Candidates(api, context, vocab)
        self.draw: Callable[[], int] = self._draw_allowed
        self.follow(context)

    def follow(self, context: int) -> None:
        """Draw from that context from now on, where the answer moved to it; `draw` is another function afterwards."""
        if self._candidates is None:
            self.draw = partial(self._api.llama_sampler_sample, self._chain, context, -1)
        else:
            self._candidates.context = context

    def close(self) -> None:
        """Free the chain and the grammar. Safe to call twice."""
        for sampler in (self._chain, self._grammar):
            if sampler is not None:
                self._api.llama_sampler_free(sampler)
        self._chain = self._grammar = None

    def _draw_allowed(self) -> int:
        """The chain's choice if the grammar allows it, else its choice among what the grammar allows.

        Asking about one token is some hundred times cheaper than about the whole vocabulary; the outcome is the same.
        """
        candidates = self._candidates
        if candidates is None:
            raise EngineInterrupted("the answer has no grammar", "ask again")
        token = candidates.choose(self._chain)
        if not self._allowed(token):
            token = candidates.choose(self._grammar, self._chain)
            if not self._allowed(token):
                raise EngineInterrupted("the model has no token that the schema allows here", "simplify the schema")
        self._api.llama_sampler_accept(self._grammar, token)
        self._api.llama_sampler_accept(self._chain, token)
        return token

    def _allowed(self, token: int) -> bool:
        one = (self._api.llama_token_data * 1)(self._api.llama_token_data(token, 1.0, 0.0))
        array = self._api.llama_token_data_array(one, 1, -1, False)
        self._api.llama_sampler_apply(self._grammar, byref(array))
        return bool(one[0].logit == 1.0)


class _Candidates:
    """All tokens with their logits, as the samplers want them, filled anew for each choice."""

    def __init__(self, api: Any, context: int, vocab: int) -> None:
        import numpy as np

        self._api = api
        self.context = context
        self._size: int = api.llama_vocab_n_tokens(vocab)
        self._data = (api.llama_token_data * self._size)()
        self._rows = np.frombuffer(self._data, dtype=[("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
        self._ids = np.arange(self._size, dtype=np.int32)
        self._logits = np.empty(self._size, dtype=np.float32)

    def choose(self, *samplers: Any) -> int:
        """The token that the samplers, applied one after the other, select."""
        found = self._api.llama_get_logits_ith(self.context, -1)
        memmove(self._logits.ctypes.data, found, self._size * sizeof(c_float))
        self._rows["id"], self._rows["logit"], self._rows["p"] = self._ids, self._logits, 0.0
        array = self._api.llama_token_data_array(self._data, self._size, -1, False)
        for sampler in samplers:
            self._api.llama_sampler_apply(sampler, byref(array))
        return int(array.data[array.selected].id)


def _chain(api: Any, vocab_size: int, sampling: Sampling) -> Any:
    chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
    for sampler in _parts(api, vocab_size, sampling):
        api.llama_sampler_chain_add(chain, sampler)
    return chain


def _parts(api: Any, vocab_size: int, sampling: Sampling) -> list[Any]:
    greedy = sampling.temperature == 0
    keep = 1 if greedy else sampling.top_k
    parts = _penalties(api, vocab_size, sampling, keep)
    if greedy:
        return [*parts, api.llama_sampler_init_greedy()]
    if sampling.top_k:
        parts.append(api.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p < 1:
        parts.append(api.llama_sampler_init_top_p(sampling.top_p, 1))
    if sampling.min_p > 0:
        parts.append(api.llama_sampler_init_min_p(sampling.min_p, 1))
    seed = int.from_bytes(os.urandom(4), "little") if sampling.seed is None else sampling.seed
    return [*parts, api.llama_sampler_init_temp(sampling.temperature), api.llama_sampler_init_dist(seed)]


def _penalties(api: Any, vocab_size: int, sampling: Sampling, keep: int) -> list[Any]:
    """The penalties, and before them a cut that cannot change the outcome.

    Penalties that only lower can push at most `repeat_last_n` tokens below others, so the best `keep` after them are
    among the best keep + repeat_last_n before; looking up 100 tokens instead of 50000 saves up to a millisecond a token.
    """
    lowered = (sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty)
    if not sampling.repeat_last_n or lowered == (1.0, 0.0, 0.0):
        return []
    penalties = api.llama_sampler_init_penalties(vocab_size, sampling.repeat_last_n, *lowered)
    if keep and sampling.repeat_penalty >= 1 and min(lowered[1:]) >= 0:
        return [api.llama_sampler_init_top_k(keep + sampling.repeat_last_n), penalties]
    return [penalties]
