"""A choice among given texts by their exact probabilities, over the tree of the tokens that spell them.

Every option is tokenised with the fixed text around it, as the model was trained to see it, and takes part up to the token in
which it ends. P(option) is the product of its tokens' probabilities, normalised over the options; so that they exclude each
other, an option that another one goes on from takes part with the text after it as well. What all share is computed once, and
the last token of an option never: nobody asks what comes after it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data.errors import ModelInvalid
from router.engines._llamacpp.vocab import Vocab

Path = tuple[int, ...]
"""Tokens one after the other."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a decision came to: tokens and text to add, and whether it is over.

    covered: bytes of the fixed text after it that the tokens hold already; open: the end of the text as far as no token holds it
    yet; forced: text that must come next; drop, drop_bytes: tokens and bytes to take back first.
    """

    tokens: Path = ()
    text: bytes = b""
    over: bool = True
    covered: int = 0
    open: str = ""
    forced: str = ""
    drop: int = 0
    drop_bytes: int = 0


@dataclass(frozen=True)
class Tree:
    """Options as token paths. stem: what all begin with; paths: the rest of each; covered: bytes of each after its option."""

    stem: Path
    paths: tuple[Path, ...]
    covered: tuple[int, ...]

    @cached_property
    def branches(self) -> tuple[Path, ...]:
        """The longest paths to compute: those to the last token but one of each option, without beginnings of others."""
        inner = sorted({path[:-1] for path in self.paths})
        return tuple(
            path for path, after in zip(inner, [*inner[1:], ()], strict=True) if after[: len(path)] != path or after == path
        ) or ((),)

    @cached_property
    def nexts(self) -> Mapping[Path, tuple[int, ...]]:
        """For each place in the tree the tokens that can follow."""
        found: dict[Path, set[int]] = {}
        for path in self.paths:
            for at, token in enumerate(path):
                found.setdefault(path[:at], set()).add(token)
        return {node: tuple(sorted(tokens)) for node, tokens in found.items()}


def tree(vocab: Vocab, before: str, options: Sequence[str], afters: Sequence[str]) -> Tree:
    """The tree of `options`, each with the fixed text after it; `before` is what no token holds yet of the text in front."""
    spelled = [_Spelled(vocab, before, option, after) for option, after in zip(options, afters, strict=True)]
    while True:
        taken = {one.path for one in spelled}
        short = [one for one in spelled if any(len(path) > len(one.path) and path[: len(one.path)] == one.path for path in taken)]
        if not short:
            break
        for one in short:
            one.extend(vocab.eos)
    paths = [one.path for one in spelled]
    stem = paths[0]
    for path in paths:
        stem = stem[: next((at for at, (a, b) in enumerate(zip(stem, path, strict=False)) if a != b), min(len(stem), len(path)))]
    if len(set(paths)) == 1:
        stem = stem[:-1]
    return Tree(stem, tuple(path[len(stem) :] for path in paths), tuple(one.covered for one in spelled))


class Choosing:
    """One choice being taken; `log_probabilities` are known after `settle`."""

    def __init__(self, found: Tree, options: Sequence[str]) -> None:
        self.branches = found.branches
        self.log_probabilities: tuple[float, ...] = ()
        self.chosen = -1
        self._tree, self._options = found, options
        self._known: dict[Path, dict[int, float]] = {}

    def hear(self, node: Path, logits: NDArray[np.float32]) -> None:
        """What the model says after `node`. Raises ModelInvalid where that is no number."""
        wanted = self._tree.nexts.get(node)
        if wanted is None:
            return
        highest = logits.max()
        rest = float(np.log(np.exp(logits - highest).sum(dtype=np.float64)))
        if not np.isfinite(rest):
            raise ModelInvalid("the model's output is not numbers", "use another file of it")
        self._known[node] = {token: float(logits[token]) - float(highest) - rest for token in wanted}

    def settle(self) -> Outcome:
        """The most probable option."""
        sums = np.array([self._sum(path) for path in self._tree.paths])
        normalised = sums - sums.max()
        normalised -= np.log(np.exp(normalised).sum())
        self.log_probabilities = tuple(float(value) for value in normalised)
        self.chosen = int(normalised.argmax())
        path = self._tree.paths[self.chosen]
        return Outcome(path, self._options[self.chosen].encode(), covered=self._tree.covered[self.chosen])

    def _sum(self, path: Path) -> float:
        return sum(self._known[path[:at]][token] for at, token in enumerate(path))


class Opening(Choosing):
    """Whether an array stays empty: the first option ends it, the others are what an item can begin with."""

    empty = False

    def __init__(self, found: Tree, options: Sequence[str], open_text: str) -> None:
        super().__init__(found, options)
        self._open = open_text

    def settle(self) -> Outcome:
        """The end, or nothing: the item is decided on next, after what no token holds yet."""
        super().settle()
        self.empty = self.log_probabilities[0] >= np.log(0.5)
        if self.empty:
            return Outcome(self._tree.paths[0], self._options[0].encode(), covered=self._tree.covered[0])
        return Outcome(open=self._open)


class _Spelled:
    """One option with its surroundings in tokens, and how many of them take part."""

    def __init__(self, vocab: Vocab, before: str, option: str, after: str) -> None:
        self._tokens = vocab.tokenise_within(before + option + after)
        text = (before + option + after).encode()
        self._ends: list[int] = []
        end = 0
        for token in self._tokens:
            end += len(vocab.piece(token))
            self._ends.append(end)
        self._least = len((before + option).encode())
        if end != len(text):  # the vocabulary has no spelling for it: it takes part as a whole
            self._tokens = vocab.tokenise_within(before + option)
            self._ends = [self._least] * len(self._tokens)
            self._count = len(self._tokens)
        else:
            self._text = text
            self._count = next(at for at, end in enumerate(self._ends, 1) if end >= self._least and _whole(text, end))

    @property
    def path(self) -> Path:
        """The tokens that take part."""
        return tuple(self._tokens[: self._count])

    @property
    def covered(self) -> int:
        """Bytes after the option that they spell."""
        return max(0, self._ends[min(self._count, len(self._ends)) - 1] - self._least)

    def extend(self, end: int) -> None:
        """Take one more token part, the end of the answer after the last one."""
        if self._count == len(self._tokens):
            self._tokens.append(end)
            self._ends.append(self._ends[-1] if self._ends else 0)
        self._count += 1
        while self._count < len(self._ends) and not _whole(self._text, self._ends[self._count - 1]):
            self._count += 1


def _whole(text: bytes, end: int) -> bool:
    """Whether a character ends at this byte."""
    return end >= len(text) or text[end] & 0xC0 != 0x80
