"""Free text within an answer, one token at a time, up to its end or its limit. Which tokens may come is known by `masks`."""

import numpy as np
from numpy.typing import NDArray

from router.engines._llamacpp.choosing import Outcome, Path
from router.engines._llamacpp.drawing import Draw
from router.engines._llamacpp.masks import Alphabet, Ending, State, TextMask
from router.engines.structure import Text


class Writing:
    """One Text being written. budget: tokens at most, unless `min_chars` asks for more."""

    branches: tuple[Path, ...] = ((),)

    def __init__(self, text: Text, mask: TextMask, alphabet: Alphabet, draw: Draw, budget: int) -> None:
        self._wanted, self._mask, self._alphabet, self._draw = text, mask, alphabet, draw
        self._budget = max(budget, 4 * text.min_chars)  # a character has four bytes at most, and a token one at least
        self._said: list[int] = []
        self._states = [State()]
        self._chars = self._sure = 0
        self._outcome = Outcome()

    @property
    def full(self) -> bool:
        """Whether nothing more may be written."""
        spent = len(self._said) >= self._budget or (self._chars >= self._wanted.max_chars and not self._states[-1].utf8)
        return spent and self._sure >= self._wanted.min_chars

    def hear(self, node: Path, logits: NDArray[np.float32]) -> None:
        """Take the next token by the logits after the last one."""
        state = self._states[-1]
        mask, endings = self._mask.at(state)
        token = self._draw(logits, self._limited(mask, endings), self._said)
        if token in endings:
            self._outcome = self._ended(token, endings[token])
        elif token < 0 or token in self._alphabet.ends:
            self._outcome = self.close()
        else:
            self._outcome = self._went_on(token, self._mask.step(state, token))

    def settle(self) -> Outcome:
        """What came of it."""
        return self._outcome

    def close(self) -> Outcome:
        """The end, forced: without a last character of which bytes are missing, and with the rest of a begun closing tag."""
        drop = next(back for back, state in enumerate(reversed(self._states)) if state.utf8 == 0)
        state = self._states[len(self._states) - 1 - drop]
        lost = b"".join(self._alphabet.pieces[token] for token in self._said[len(self._said) - drop :])
        begun = len(self._wanted.stop.encode()[: state.tag].decode("utf-8", "ignore"))
        return Outcome(forced=self._wanted.stop[begun:], drop=drop, drop_bytes=len(lost))

    def _limited(self, mask: NDArray[np.float32], endings: dict[int, Ending]) -> NDArray[np.float32]:
        """The mask with what would make the text too long or too short taken out."""
        left, missing = self._wanted.max_chars - self._chars, self._wanted.min_chars - self._sure
        if left >= self._alphabet.longest and missing <= 0:
            return mask
        mask = np.where(self._alphabet.chars <= max(left, 0), mask, -np.inf).astype(np.float32)
        for token, ending in endings.items():
            mask[token] = 0 if ending.chars <= left and ending.chars >= missing else -np.inf
        if missing > 0:
            mask[self._alphabet.ends] = -np.inf
        return mask

    def _ended(self, token: int, ending: Ending) -> Outcome:
        text = self._alphabet.pieces[token][: ending.inside]
        if self._mask.undecided:  # what comes next is a choice, in which this token's text takes part
            return Outcome(text=text, open=text.decode())
        return Outcome((token,), text, covered=ending.covered)

    def _went_on(self, token: int, state: State) -> Outcome:
        piece = self._alphabet.pieces[token]
        self._said.append(token)
        self._states.append(state)
        self._chars += int(self._alphabet.chars[token])
        self._sure += int(self._alphabet.chars[token]) - piece.count(b"\\")
        if self.full:
            closing = self.close()
            kept = len(self._said) - closing.drop
            if closing.drop:  # the token just taken is one of those to drop
                return Outcome(forced=closing.forced, drop=closing.drop - 1, drop_bytes=closing.drop_bytes - len(piece))
            return Outcome((token,), piece, forced=closing.forced) if kept else closing
        return Outcome((token,), piece, over=False)
