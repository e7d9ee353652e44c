"""Log-probabilities of given continuations: the prompt is computed once, the continuations as sequences that share it.

Several continuations go through the model in one batch. The conversation's own cache stays as it was, up to the prompt.
Not covered: continuations that call for another prompt each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import ContextOverflow
from router.cancelling import current
from router.engines._llamacpp.context import Context
from router.engines._llamacpp.model import LoadedModel
from router.engines._llamacpp.prompt import compose
from router.engines.base import Request


@dataclass(frozen=True, slots=True)
class _Entry:
    """One token to compute: its place, and which token of which continuation its logits are about."""

    sequence: int
    position: int
    token: int
    tail: int
    wanted: int


def score(model: LoadedModel, request: Request, continuations: Sequence[str]) -> list[tuple[float, ...]]:
    """Natural log-probability of each token of each continuation after the prompt of `request`.

    Raises what `compose` raises, and ContextOverflow where a continuation does not fit behind the prompt.
    """
    with model.lock:
        context = model.context(request.adapter)
        tails = [model.vocab.tokenise_text(text) for text in continuations]
        longest = max(map(len, tails), default=0)
        if longest >= context.size:
            raise ContextOverflow(
                f"a continuation of {longest} tokens does not fit the context of {context.size}",
                "shorten it, or raise llamacpp.context",
            )
        prompt = compose(model, request, context, answer_tokens=longest).tokens
        context.user = None
        together = sorted(map(len, tails))[-max(1, context.sequences - 2) :]
        model.reserve(context, len(prompt) + sum(together) + 1)
        scores = _Scores(model, context, prompt, tails)
        context.heed(current())
        try:
            scores.read_prompt()
            for wave in scores.waves():
                scores.compute(wave)
        finally:
            context.heed(None)
        return scores.found()


class _Scores:
    """The log-probabilities as they are found."""

    def __init__(self, model: LoadedModel, context: Context, prompt: list[int], tails: list[list[int]]) -> None:
        self._api, self._context = model.api, context
        self._vocab_size = model.vocab.size
        self._prompt, self._tails = prompt, tails
        self._values: list[list[float]] = [[] for _ in tails]

    def found(self) -> list[tuple[float, ...]]:
        """One tuple a continuation."""
        return [tuple(values) for values in self._values]

    def read_prompt(self) -> None:
        """Compute what of the prompt is not cached; its last logits are about every continuation's first token.

        All is computed in batches of two or more, so the scores do not depend on what was cached (see `context`).
        """
        self._restore()
        (row,) = self._logits(1)
        for tail, values in zip(self._tails, self._values, strict=True):
            if tail:
                values.extend(_log_probabilities(row[None, :], [tail[0]]))

    def waves(self) -> Iterator[list[int]]:
        """Numbers of continuations that fit the context together."""
        wave: list[int] = []
        room = free = self._context.cells - len(self._prompt)
        for number, tail in enumerate(self._tails):
            size = max(0, len(tail) - 1)
            if not size:
                continue
            if wave and (size > free or len(wave) >= max(1, self._context.sequences - 2)):
                yield wave
                wave, free = [], room
            wave.append(number)
            free -= size
        if wave:
            yield wave

    def compute(self, wave: Sequence[int]) -> None:
        """The rest of the continuations of one wave, each in a sequence of its own."""
        context, api = self._context, self._api
        alone = context.sequences == 1  # a recurrent model: no second sequence can share the prompt
        if alone:
            self._restore()
        sequences = [0] if alone else list(range(1, len(wave) + 1))
        entries = []
        for sequence, number in zip(sequences, wave, strict=True):
            if not alone:
                api.llama_memory_seq_cp(context.memory, 0, sequence, -1, -1)
            tail = self._tails[number]
            pairs = pairwise(tail)
            entries += [_Entry(sequence, len(self._prompt) + at, token, number, wanted) for at, (token, wanted) in enumerate(pairs)]
        try:
            self._decode(entries)
        finally:
            for sequence in sequences:
                if sequence:
                    self._forget(sequence)
            if alone:
                context.clear()

    def _forget(self, sequence: int) -> None:
        self._api.llama_memory_seq_rm(self._context.memory, sequence, -1, -1)

    def _restore(self) -> None:
        context = self._context
        for part in context.batches(context.keep(self._prompt, exact=True), len(self._prompt)):
            context.read(self._prompt[part])

    def _decode(self, entries: Sequence[_Entry]) -> None:
        step = min(self._context.rows, self._context.batch)
        batch = self._api.llama_batch_init(step, 0, 1)
        try:
            for begin in range(0, len(entries), step):
                part = entries[begin : begin + step]
                spare = len(part) == 1 and self._context.sequences > 1
                _fill(batch, [*part, replace(part[0], sequence=self._context.sequences - 1)] if spare else part)
                self._context.check(self._api.llama_decode(self._context.pointer, batch))
                values = _log_probabilities(self._logits(len(part)), [entry.wanted for entry in part])
                if spare:
                    self._forget(self._context.sequences - 1)
                for entry, value in zip(part, values, strict=True):
                    self._values[entry.tail].append(value)
        finally:
            self._api.llama_batch_free(batch)

    def _logits(self, rows: int) -> NDArray[np.float32]:
        """The logits of the last batch, shape (rows, vocabulary), a view that the next batch overwrites."""
        return np.ctypeslib.as_array(self._api.llama_get_logits(self._context.pointer), (rows, self._vocab_size))


def _fill(batch: Any, entries: Sequence[_Entry]) -> None:
    batch.n_tokens = len(entries)
    for index, entry in enumerate(entries):
        batch.token[index] = entry.token
        batch.pos[index] = entry.position
        batch.n_seq_id[index] = 1
        batch.seq_id[index][0] = entry.sequence
        batch.logits[index] = 1


def _log_probabilities(logits: NDArray[np.float32], wanted: Sequence[int]) -> list[float]:
    """log softmax of each row at its wanted token; the sums are in double precision."""
    highest = logits.max(axis=1, keepdims=True)
    normaliser = np.log(np.exp(logits - highest).sum(axis=1, dtype=np.float64))
    chosen = (logits - highest)[np.arange(len(wanted)), wanted].astype(np.float64)
    return [float(value) for value in chosen - normaliser]
