"""One token drawn from logits in numpy, among the allowed ones. Not covered: the samplers of llama.cpp (`sampler`)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.config import Sampling
from data.errors import ModelInvalid


class Draw:
    """Draws for one answer. At temperature 0 it is the likeliest token, the first of equals."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def __call__(self, logits: NDArray[np.float32], mask: NDArray[np.float32], said: Sequence[int]) -> int:
        """The token; `said`: those already said, for the penalties; -1 where nothing is allowed. Raises ModelInvalid."""
        allowed = logits + mask
        self._punish(allowed, said)
        best = int(allowed.argmax())
        if np.isnan(allowed[best]) or allowed[best] == np.inf:
            raise ModelInvalid("the model's output is not numbers", "use another file of it")
        if allowed[best] == -np.inf:
            return -1
        return self._drawn(allowed) if self._sampling.temperature else best

    def _punish(self, logits: NDArray[np.float32], said: Sequence[int]) -> None:
        sampling = self._sampling
        if (sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty) == (1.0, 0.0, 0.0):
            return
        recent = said[-sampling.repeat_last_n :] if sampling.repeat_last_n else ()
        tokens, counts = np.unique(np.array(recent, dtype=np.int64), return_counts=True)
        values = logits[tokens]
        values = np.where(values > 0, values / sampling.repeat_penalty, values * sampling.repeat_penalty)
        logits[tokens] = values - counts * sampling.frequency_penalty - sampling.presence_penalty

    def _drawn(self, logits: NDArray[np.float32]) -> int:
        """One of the likeliest, as top_k, top_p and min_p leave them, by its probability at the temperature."""
        sampling = self._sampling
        keep = sampling.top_k or logits.size
        order = np.argpartition(logits, -keep)[-keep:] if keep < logits.size else np.arange(logits.size)
        order = order[np.argsort(-logits[order], kind="stable")]
        shares = np.exp(logits[order].astype(np.float64) - float(logits[order[0]]))
        shares /= shares.sum()
        kept = (np.cumsum(shares) - shares < sampling.top_p) & (shares >= sampling.min_p * shares[0]) & (shares > 0)
        order = order[kept]
        heated = (logits[order].astype(np.float64) - float(logits[order[0]])) / sampling.temperature
        weights = np.exp(heated)
        return int(self._random.choice(order, p=weights / weights.sum()))
