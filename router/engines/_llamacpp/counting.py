"""A JSON number within bounds, written token by token: only what can still become a number of the wanted kind may come next.

Bounds are compared in whole units of the last decimal place, so nothing is rounded. Not covered: exponents, which no answer needs.
"""

import math
import re
from collections.abc import Mapping
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from router.engines._llamacpp.choosing import Outcome, Path
from router.engines._llamacpp.drawing import Draw
from router.engines._llamacpp.masks import Alphabet
from router.engines.structure import Number

LARGEST = 10**15
_SHAPE = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]*))?")


class Bounds:
    """Which texts are numbers of the wanted kind, or beginnings of one."""

    def __init__(self, number: Number) -> None:
        self._decimals = 0 if number.integer else max(0, number.decimals)
        self._unit: int = 10**self._decimals
        least, most = (self._units(value) for value in (number.minimum, number.maximum))
        self.least, self.most = math.ceil(least), math.floor(most)
        self.only = _plain(number.minimum) if self.least > self.most else ""

    def complete(self, text: str) -> bool:
        """Whether the text is such a number."""
        found = _SHAPE.fullmatch(text)
        if found is None or found[3] == "" or len(found[3] or "") > self._decimals:
            return False
        value = int(Decimal(text) * self._unit)
        return self.least <= value <= self.most

    def viable(self, text: str) -> bool:
        """Whether some such number begins with the text."""
        if text in ("", "-"):
            return text == "" or self.least < 0
        found = _SHAPE.fullmatch(text)
        if not found or len(found[3] or "") > self._decimals or (found[3] is not None and not self._decimals):
            return False
        least, most = (-self.most, -self.least) if found[1] else (self.least, self.most)
        if found[3] is not None:
            size: int = 10 ** (self._decimals - len(found[3]))
            begin = int(found[2] + found[3]) * size
            return begin <= most and begin + size > least
        begin, size = int(found[2]) * self._unit, self._unit
        while begin <= most:
            if begin + size > least:
                return True
            if begin == 0:
                return False
            begin, size = begin * 10, size * 10
        return False

    def _units(self, value: float) -> Decimal:
        return Decimal(str(min(max(value, -LARGEST), LARGEST))) * self._unit


class NumberMask:
    """The tokens that may come next in a Number, by what is written of it; `afters`: the fixed texts that can follow."""

    def __init__(self, alphabet: Alphabet, bounds: Bounds, afters: tuple[str, ...]) -> None:
        self._alphabet, self._bounds = alphabet, bounds
        self._ends: dict[int, int] = {}
        for after in afters:
            for size in range(1, min(len(after), 32) + 1):
                raw = after[:size].encode()
                if raw in alphabet.tokens:
                    self._ends[alphabet.tokens[raw]] = len(raw) if len(afters) == 1 else 0
        if not self._ends:
            self._ends = dict.fromkeys(alphabet.ends, 0)
        self._known: dict[str, tuple[NDArray[np.float32], Mapping[int, str], Mapping[int, int]]] = {}

    def at(self, text: str) -> tuple[NDArray[np.float32], Mapping[int, str], Mapping[int, int]]:
        """The mask, what each token that goes on makes of the text, and the tokens that end it with how much they cover."""
        if text not in self._known:
            grown = {token: text + piece for token, piece in self._alphabet.numeric}
            goes_on = {token: then for token, then in grown.items() if then[0] == " " and self._bounds.viable(then[1:])}
            ends = self._ends if self._bounds.complete(text[1:]) else {}
            mask = np.full(self._alphabet.size, -np.inf, dtype=np.float32)
            mask[[*goes_on, *ends]] = 0
            self._known[text] = mask, goes_on, ends
        return self._known[text]


class Counting:
    """One Number being written. spaced: the space before it is not computed yet, and may be one token with its first digit."""

    branches: tuple[Path, ...] = ((),)

    def __init__(self, mask: NumberMask, bounds: Bounds, draw: Draw, spaced: bool, hurried: bool) -> None:
        self._mask, self._bounds, self._draw, self._hurried = mask, bounds, draw, hurried
        self._text = "" if spaced else " "  # always with a space in front, for both to be alike
        self._outcome = Outcome()

    def hear(self, node: Path, logits: NDArray[np.float32]) -> None:
        """Take the next token by the logits after the last one."""
        mask, goes_on, ends = self._mask.at(self._text)
        token = self._draw(logits, mask, ())
        if token in ends:
            taken = (token,) if ends[token] else ()
            self._outcome = Outcome(taken, covered=ends[token])
        elif token in goes_on:
            grown = goes_on[token]
            added = grown[len(self._text) :].replace(" ", "")
            self._text = grown
            enough = self._hurried and self._bounds.complete(grown[1:])
            self._outcome = Outcome((token,), added.encode(), over=enough)
        else:
            self._outcome = self._rest()

    def settle(self) -> Outcome:
        """What came of it."""
        return self._outcome

    def _rest(self) -> Outcome:
        """No token of the vocabulary leads on: the shortest number that begins so, as text."""
        begun = self._text[1:]
        found = begun
        while not self._bounds.complete(found):
            found = next(found + more for more in "0123456789.-" if self._bounds.viable(found + more))
        return Outcome(forced=found[len(begun) :], open="" if self._text else " ")


def _plain(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else format(Decimal(str(value)), "f")
