"""An answer in free text, token by token, until the model, a limit or the caller ends it. Not covered: tool calls, structures."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.chat import Finish
from data.config import Sampling
from router.engines._llamacpp.choosing import Path
from router.engines._llamacpp.drawing import Draw
from router.engines._llamacpp.vocab import Vocab


class Saying:
    """One answer being said, as a batch computes it. piece: the bytes of the last token; count: tokens said."""

    branches: tuple[Path, ...] = ((),)

    def __init__(self, vocab: Vocab, prompt: Sequence[int], most: int, sampling: Sampling) -> None:
        self.tokens = list(prompt)
        self.done = False
        self.finish: Finish = "stop"
        self.piece = b""
        self.count = 0
        self._vocab, self._most = vocab, most
        self._draw = Draw(sampling)
        self._all = np.zeros(vocab.size, dtype=np.float32)
        self._said: list[int] = []

    def hear(self, node: Path, logits: NDArray[np.float32]) -> None:
        """Draw the next token. Raises ModelInvalid where the logits are no numbers."""
        token = self._draw(logits, self._all, self._said)
        self.done = token < 0 or self._vocab.is_end(token)
        self.piece = b"" if self.done else self._vocab.piece(token)
        if not self.done:
            self._said.append(token)

    def settle(self) -> None:
        """Take the token that was drawn."""
        if self.done:
            return
        self.tokens.append(self._said[-1])
        self.count += 1
        if self.count >= self._most:
            self.done, self.finish = True, "length"
