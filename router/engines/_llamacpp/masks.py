"""Which tokens may come next within free text, as vectors to add to the logits: 0 for allowed, minus infinity for not.

Two languages: the content of a JSON string (no quote, no control character, escapes only whole), and plain text before a closing
tag. Both stay valid UTF-8 though a token may be part of a character: the state says how far into one the text is. A token that
holds the end and goes on as the fixed text after it does is allowed too, because that is how a model was trained to end: with
`",` and not with `"`. Not covered: which token is taken (`writing`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from router.engines._llamacpp.vocab import Vocab

QUOTE = '"'
_JSON = re.compile(rb'(?:[\x20\x21\x23-\x5b\x5d-\xff]|\\["\\/bfnrt])*+')
_PLAIN = re.compile(rb"[\t\n\x20-\x7e\x80-\xff]*+")
_NUMBER = re.compile(rb" ?[-0-9.]+")
# UTF-8 within a character (RFC 3629, section 4): what the next byte may be, and the state after it. 0 is between characters.
_LEADS = {range(0xC2, 0xE0): 1, range(0xE0, 0xE1): 4, range(0xE1, 0xED): 2, range(0xED, 0xEE): 5, range(0xEE, 0xF0): 2}
_LEADS |= {range(0xF0, 0xF1): 6, range(0xF1, 0xF4): 3, range(0xF4, 0xF5): 7}
_CONTINUED = {1: (0x80, 0xBF, 0), 2: (0x80, 0xBF, 1), 3: (0x80, 0xBF, 2), 4: (0xA0, 0xBF, 1), 5: (0x80, 0x9F, 1)}
_CONTINUED |= {6: (0x90, 0xBF, 2), 7: (0x80, 0x8F, 2)}


@dataclass(frozen=True, slots=True)
class State:
    """Where the text is: how far into a character, and how many bytes of the closing tag its end may be."""

    utf8: int = 0
    tag: int = 0


@dataclass(frozen=True, slots=True)
class Ending:
    """A token that ends the text: bytes and characters of the text in it, and bytes of it after the stop."""

    inside: int
    chars: int
    covered: int


class Alphabet:
    """What every token of a vocabulary spells, sorted by where it may stand. Made once for a model: about 0.3 s."""

    def __init__(self, vocab: Vocab) -> None:
        self.size = vocab.size
        self.ends = [token for token in range(vocab.size) if vocab.is_end(token)]
        self.pieces = [b"" if vocab.is_control(token) or vocab.is_end(token) else vocab.piece(token) for token in range(vocab.size)]
        self.longest = 1
        self.chars = np.zeros(self.size, dtype=np.int32)
        for token, piece in enumerate(self.pieces):
            if piece:
                self.chars[token] = count_chars(piece)
        self.longest = max(1, int(self.chars.max(initial=0)))

    @cached_property
    def tokens(self) -> dict[bytes, int]:
        """The token of each spelling."""
        return {piece: token for token, piece in reversed(list(enumerate(self.pieces))) if piece}

    @cached_property
    def numeric(self) -> list[tuple[int, str]]:
        """The tokens of which numbers are written, some with a space in front."""
        return [(token, piece.decode()) for token, piece in enumerate(self.pieces) if _NUMBER.fullmatch(piece)]

    def holding(self, byte: int) -> list[int]:
        """The tokens in which that byte occurs."""
        return [token for token, piece in enumerate(self.pieces) if byte in piece]

    @cached_property
    def json(self) -> dict[int, NDArray[np.float32]]:
        """For each UTF-8 state the mask of what may stand within a JSON string."""
        return self._masks(_JSON)

    @cached_property
    def plain(self) -> dict[int, NDArray[np.float32]]:
        """For each UTF-8 state the mask of what may stand in plain text."""
        return self._masks(_PLAIN)

    def _masks(self, allowed: re.Pattern[bytes]) -> dict[int, NDArray[np.float32]]:
        masks = {state: np.full(self.size, -np.inf, dtype=np.float32) for state in range(8)}
        for token, piece in enumerate(self.pieces):
            if piece and allowed.fullmatch(piece):
                for state in (0,) if piece[0] & 0xC0 != 0x80 else range(1, 8):
                    if utf8_after(state, piece) >= 0:
                        masks[state][token] = 0
        return masks


class TextMask:
    """The masks of one Text; `afters`: the fixed texts that can follow it."""

    def __init__(self, alphabet: Alphabet, stop: str, afters: tuple[str, ...]) -> None:
        self.undecided = len(afters) > 1
        self._alphabet = alphabet
        self._is_json = stop == QUOTE
        self._stop, self._afters = stop.encode(), [after.encode() for after in afters]
        self._candidates = alphabet.holding(self._stop[-1])
        self._known: dict[State, tuple[NDArray[np.float32], dict[int, Ending]]] = {}

    def at(self, state: State) -> tuple[NDArray[np.float32], dict[int, Ending]]:
        """The mask there, with the tokens that end the text, and what is known of those."""
        if state not in self._known:
            base = (self._alphabet.json if self._is_json else self._alphabet.plain)[state.utf8].copy()
            endings: dict[int, Ending] = {}
            if state.utf8 == 0:
                for token in self._candidates:
                    self._judge(token, state.tag, base, endings)
                base[self._alphabet.ends] = 0
            self._known[state] = base, endings
        return self._known[state]

    def step(self, state: State, token: int) -> State:
        """The state after a token that does not end the text."""
        piece = self._alphabet.pieces[token]
        return State(utf8_after(state.utf8, piece), 0 if self._is_json else self._matched(self._stop[: state.tag] + piece))

    def _judge(self, token: int, tag: int, mask: NDArray[np.float32], endings: dict[int, Ending]) -> None:
        """Allow or forbid a token that may hold the stop."""
        piece = self._alphabet.pieces[token]
        head = b"" if self._is_json else self._stop[:tag]
        found = head + piece
        at = _JSON.match(found).end() if self._is_json else found.find(self._stop)  # type: ignore[union-attr]
        if at < 0 or found[at : at + len(self._stop)] != self._stop:
            return
        inside, beyond = found[len(head) : at], found[at + len(self._stop) :]
        mask[token] = -np.inf
        if any(after.startswith(beyond) for after in self._afters) and utf8_after(0, inside) == 0 and utf8_after(0, beyond) == 0:
            mask[token] = 0
            endings[token] = Ending(len(piece) - len(beyond), count_chars(inside), len(beyond))

    def _matched(self, text: bytes) -> int:
        """How many bytes of the stop the text ends with."""
        return next(size for size in range(min(len(self._stop) - 1, len(text)), -1, -1) if text.endswith(self._stop[:size]))


def utf8_after(state: int, piece: bytes) -> int:
    """The state after these bytes; -1 where they cannot stand there."""
    if state == 0 and piece.isascii():
        return 0
    for byte in piece:
        state = _next(state, byte)
        if state < 0:
            break
    return state


def count_chars(piece: bytes) -> int:
    """Characters that begin in these bytes."""
    return len(piece) if piece.isascii() else sum(byte & 0xC0 != 0x80 for byte in piece)


@lru_cache(maxsize=8 * 256)
def _next(state: int, byte: int) -> int:
    if state:
        least, most, after = _CONTINUED[state]
        return after if least <= byte <= most else -1
    return 0 if byte < 0x80 else next(_lead(byte), -1)


def _lead(byte: int) -> Iterator[int]:
    return (state for bounds, state in _LEADS.items() if byte in bounds)
