"""One llama.cpp context: what is in its KV cache, computed batch by batch and reused by common prefix.

`tokens` is always what sequence 0 of the cache holds: a token is added only after it was computed, so an answer may be
left at any point. A context serves one adapter for its whole life, because cached values depend on it.

On a processor, llama.cpp computes a single token with other kernels than several, and the rounding differs: with
quantised weights up to 0.4 in a logit. So a prompt is computed in batches of two or more and its last token always alone;
then the same prompt gives the same logits to the bit, however much of it was cached. That holds with flash attention off,
which is also 1.5 (at 300 tokens) to 2.7 times (at 3000) faster a token on a processor, for a prompt read 10 to 25 % slower
(SmolLM2-135M, AVX-512).

A context may begin with fewer cells than its size and grow: its cache is copied into a larger one as it is, which changes no bit of
what follows. Not covered: shifting a full context, saving it to disk.
"""

from collections.abc import Callable, Sequence
from ctypes import c_uint8
from typing import Any

from data.errors import Cancelled, EngineInterrupted, ModelInvalid
from router.cancelling import Cancellation
from router.engines._llamacpp import bindings
from router.engines._llamacpp.aborting import heed, was_aborted
from router.engines._llamacpp.memory import padded

SEQUENCES = 32  # continuations scored at once beside the conversation itself
LOGITS_BYTES = 32 << 20  # of logits in one batch
GRAPH_BYTES = 16 << 20  # of a context beside cache and logits, about: 6 to 7 MiB and 1 MiB for each adapter loaded (SmolLM2-135M)
ATTENTION_BYTES = 512 << 20  # of attention scores in one batch without flash attention; above, it is left to llama.cpp


class Context:
    """A context of `size` tokens at most, on a loaded model. cells: how many it has room for now."""

    def __init__(
        self,
        api: Any,
        model: int,
        *,
        size: int,
        batch: int,
        threads: int,
        vocab_size: int,
        on_gpu: bool = False,
        sequences: int = SEQUENCES + 1,
        flash: bool = False,
        begin: int = 0,
        rows: int = 0,
        prepare: Callable[[Any], None] | None = None,
        cache_bytes: Callable[[int], int] = int,
    ) -> None:
        """Raises ModelInvalid where llama.cpp cannot make it (most often for lack of memory).

        begin: tokens that there is room for at first, 0 for all; rows: of logits in a batch, 0 for as many as are sensible;
        prepare: done to every context of llama.cpp that is made for this one; cache_bytes: what a cache of so many tokens takes.
        """
        self._api, self._model, self._prepare, self._cache_bytes = api, model, prepare, cache_bytes
        self._rolls_back = not (api.llama_model_is_recurrent(model) or api.llama_model_is_hybrid(model))
        self.sequences = sequences if self._rolls_back else 1
        self.rows = max(self.sequences, rows or min(batch, LOGITS_BYTES // (4 * vocab_size)))
        self._graph_bytes = GRAPH_BYTES + 4 * vocab_size * self.rows
        self._params = params = api.llama_context_default_params()
        params.n_batch = params.n_ubatch = min(batch, size)
        params.n_seq_max = self.sequences
        params.n_outputs_max = self.rows
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True  # the sequences share their prefix
        params.no_perf = True
        if not on_gpu and not flash and 4 * size * params.n_batch * api.llama_model_n_head(model) <= ATTENTION_BYTES:
            params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.size = size
        self.cells = min(padded(max(begin, params.n_batch)), size) if begin and self._rolls_back else size
        self.pointer: Any = self._made(self.cells)
        self.memory: Any = api.llama_get_memory(self.pointer)
        self.batch: int = params.n_batch
        self.tokens: list[int] = []
        self.exact = 0  # how many of them, from the first, were computed in batches of two or more
        self._cancellation: Cancellation | None = None
        self.user: object = None  # whose answer is being computed; another one makes the first stop
        self._buffer = (api.llama_token * self.batch)()

    @property
    def size_bytes(self) -> int:
        """What the context takes: its cache, exactly, and what its graphs need, about."""
        return self._cache_bytes(self.cells) + self._graph_bytes

    def reserve(self, tokens: int) -> None:
        """Make room for so many tokens, `size` at most, with everything cached kept; only what sequence 0 holds.

        `pointer` and `memory` are others afterwards. Raises ModelInvalid where there is not enough memory; then all is as before.
        """
        if tokens <= self.cells or self.cells >= self.size:
            return
        cells = min(self.size, padded(max(tokens, 2 * self.cells)))
        api, old = self._api, self.pointer
        pointer = self._made(cells)
        if self.tokens:
            size = api.llama_state_seq_get_size(old, 0)
            state = (c_uint8 * size)()
            if not (api.llama_state_seq_get_data(old, state, size, 0) and api.llama_state_seq_set_data(pointer, state, size, 0)):
                api.llama_free(pointer)
                raise ModelInvalid(f"the cache of {len(self.tokens)} tokens could not be moved", "ask in a new conversation")
        api.llama_free(old)
        self.pointer, self.memory, self.cells = pointer, api.llama_get_memory(pointer), cells
        heed(api, pointer, self._cancellation)

    def heed(self, cancellation: Cancellation | None) -> None:
        """Compute for an answer that can be cancelled, None for one that cannot: `check` then raises Cancelled."""
        heed(self._api, self.pointer, cancellation)
        self._cancellation = cancellation  # not before: llama.cpp looked at the other one's memory until now

    def keep(self, prompt: Sequence[int], exact: bool = False) -> int:
        """Keep the cached tokens that `prompt` begins with; returns how many. At least its last token is left to compute.

        exact: keep only what was computed in batches of two or more, and leave at least two tokens to compute.
        """
        count = common_prefix(self.tokens, prompt[:-1])
        if exact:
            count = max(0, min(count, self.exact, len(prompt) - 2))
        elif count == len(prompt) - 2:
            count = max(0, count - 1)  # else one token would be left beside the last
        if not self._api.llama_memory_seq_rm(self.memory, 0, count, -1):
            count = 0
            self._api.llama_memory_clear(self.memory, False)
        del self.tokens[count:]
        self.exact = min(self.exact, count)
        return count

    def batches(self, begin: int, end: int) -> list[slice]:
        """The stretch of a prompt from `begin` to `end` in pieces to `read`, none of a single token if it has more."""
        found = []
        while begin < end:
            size = min(self.batch, end - begin)
            if end - begin - size == 1:
                size -= 1
            found.append(slice(begin, begin + size))
            begin += size
        return found

    def read(self, tokens: Sequence[int]) -> None:
        """Compute at most `batch` tokens that follow the cached ones; the logits are those of the last."""
        count = len(tokens)
        self.reserve(len(self.tokens) + count)
        self._buffer[:count] = tokens
        self.check(self._api.llama_decode(self.pointer, self._api.llama_batch_get_one(self._buffer, count)))
        if self.exact == len(self.tokens) and count > 1:
            self.exact += count
        self.tokens += tokens

    def check(self, code: int) -> None:
        """Raise EngineInterrupted for a failed llama_decode, after emptying the cache, whose state is then unknown.

        Raises Cancelled for one that was ended by the answer's cancellation, with everything cached as before it.
        """
        if code == 0:
            return
        if was_aborted(code, self._cancellation):
            self._mend()
            raise Cancelled("nobody waits for this answer any more", "ask again")
        self.clear()
        reason = {1: "no room in the context", 2: "the computation was aborted"}.get(code) or bindings.last_complaint()
        raise EngineInterrupted(f"llama.cpp failed to compute (code {code}): {reason or 'it does not say why'}", "ask again")

    def clear(self) -> None:
        """Empty the cache."""
        self.tokens.clear()
        self.exact = 0
        self._api.llama_memory_clear(self.memory, False)

    def close(self) -> None:
        """Free the context. Safe to call twice."""
        if self.pointer is not None:
            self._api.llama_free(self.pointer)
            self.pointer = None
            self.user = None

    def _mend(self) -> None:
        """After an abort llama.cpp takes the batch out of the cache again (llama-context.cpp, decode). Where it cannot, because a
        state has no way back or a window of attention has moved on, the cache is emptied."""
        first, last = (ask(self.memory, 0) for ask in (self._api.llama_memory_seq_pos_min, self._api.llama_memory_seq_pos_max))
        if not self._rolls_back or first > 0 or last + 1 != len(self.tokens):
            self.clear()

    def _made(self, cells: int) -> Any:
        self._params.n_ctx = cells
        bindings.forget_log()
        pointer = self._api.llama_init_from_model(self._model, self._params)
        if not pointer:
            reason = bindings.last_complaint() or "llama.cpp does not say why"
            raise ModelInvalid(
                f"no context of {cells} tokens can be made: {reason}", "try: pointsman config set llamacpp.context 2048"
            )
        if self._prepare is not None:
            self._prepare(pointer)
        return pointer


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with."""
    length = min(len(first), len(second))
    if first[:length] == second[:length]:
        return length
    return next(at for at in range(length) if first[at] != second[at])
