"""Log-probabilities of given continuations: all of them one tree behind the prompt, so what they share is computed once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from router.engines._llamacpp.choosing import Path


class Scoring:
    """The continuations of one prompt, as a batch computes them. found: one log-probability a token of each."""

    def __init__(self, prompt: Sequence[int], tails: Sequence[Sequence[int]]) -> None:
        self.tokens = list(prompt)
        self.done = False
        self._tails = [tuple(tail) for tail in tails]
        self._told: dict[Path, dict[int, float]] = {}
        self._wanted: dict[Path, set[int]] = {}
        for tail in self._tails:
            for at, token in enumerate(tail):
                self._wanted.setdefault(tail[:at], set()).add(token)

    @property
    def branches(self) -> tuple[Path, ...]:
        """The continuations without their last tokens."""
        return tuple(sorted({tail[:-1] for tail in self._tails if tail})) or ((),)

    def hear(self, node: Path, logits: NDArray[np.float32]) -> None:
        """The logits after a place of the tree; the sum is in double precision."""
        highest = float(logits.max())
        rest = highest + float(np.log(np.exp(logits - highest).sum(dtype=np.float64)))
        self._told[node] = {token: float(logits[token]) - rest for token in self._wanted.get(node, ())}

    def settle(self) -> None:
        """All is known."""
        self.done = True

    @property
    def found(self) -> list[tuple[float, ...]]:
        """One tuple a continuation."""
        return [tuple(self._told[tail[:at]][token] for at, token in enumerate(tail)) for tail in self._tails]
