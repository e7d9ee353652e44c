"""What all answers of one structure by one model share: token trees, masks and bounds, each made when it is first needed."""

from typing import Protocol

from router.engines._llamacpp.choosing import Tree, tree
from router.engines._llamacpp.counting import Bounds, NumberMask
from router.engines._llamacpp.masks import Alphabet, TextMask
from router.engines._llamacpp.unfolding import Chain, Turn
from router.engines._llamacpp.vocab import Vocab
from router.engines.structure import Literal, Node, Number, Repeat, Select, Series, Structure, Text

TREES = 512  # kept of one structure: one for each choice and text before it
CHARS_PER_TOKEN = 4
NUMBER_TOKENS = 24  # the longest number: a sign, 16 digits, a point, decimals


class Speller(Protocol):
    """What a plan needs of a model: how it spells."""

    @property
    def vocab(self) -> Vocab:
        """Its vocabulary."""

    @property
    def alphabet(self) -> Alphabet:
        """What the vocabulary's tokens spell."""


class Plan:
    """One structure for one model, valid as long as the model is."""

    def __init__(self, model: Speller, structure: Structure) -> None:
        self.vocab = model.vocab
        self.root = structure.root
        self._model = model
        self._trees: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Tree] = {}
        self._texts: dict[tuple[str, tuple[str, ...]], TextMask] = {}
        self._numbers: dict[tuple[Number, tuple[str, ...]], tuple[Bounds, NumberMask]] = {}
        self.least = self.tokens((structure.root, None))
        free = _text_chars(structure.root)
        self.likely = self.least + free // CHARS_PER_TOKEN
        self.writes = free > 0

    @property
    def alphabet(self) -> Alphabet:
        """What the vocabulary's tokens spell."""
        return self._model.alphabet

    def tree(self, before: str, options: tuple[str, ...], afters: tuple[str, ...]) -> Tree:
        """The token tree of a choice."""
        key = before, options, afters
        if key not in self._trees:
            if len(self._trees) >= TREES:
                self._trees.clear()
            self._trees[key] = tree(self.vocab, before, options, afters)
        return self._trees[key]

    def text(self, stop: str, afters: tuple[str, ...]) -> TextMask:
        """The masks of a Text."""
        if (stop, afters) not in self._texts:
            self._texts[stop, afters] = TextMask(self.alphabet, stop, afters)
        return self._texts[stop, afters]

    def number(self, wanted: Number, afters: tuple[str, ...]) -> tuple[Bounds, NumberMask]:
        """The bounds and masks of a Number."""
        if (wanted, afters) not in self._numbers:
            bounds = Bounds(wanted)
            self._numbers[wanted, afters] = bounds, NumberMask(self.alphabet, bounds, afters)
        return self._numbers[wanted, afters]

    def tokens(self, chain: Chain) -> int:
        """Tokens that are enough for the shortest answers from here on."""
        count = 0
        while chain is not None:
            part, chain = chain
            count += self._tokens(part)
        return count

    def _tokens(self, part: Node | Turn) -> int:
        spell = self.vocab.tokenise_within
        if isinstance(part, Literal):
            return len(spell(part.text)) + 1
        if isinstance(part, Select):
            return max((len(spell(option)) for option in part.options), default=0) + 1
        if isinstance(part, Text):
            return len(spell(part.stop)) + 1 + 4 * part.min_chars
        if isinstance(part, Number):
            return NUMBER_TOKENS
        if isinstance(part, Repeat):
            return 2 + part.least * (2 + self._tokens(part.item))
        if isinstance(part, Turn):
            return 2 + max(0, part.repeat.least - part.count) * (2 + self._tokens(part.repeat.item))
        return sum(self._tokens(one) for one in part.parts)


def _text_chars(part: Node) -> int:
    """Characters of free text at most; of an array, in half of its items."""
    if isinstance(part, Text):
        return part.max_chars
    if isinstance(part, Repeat):
        return _text_chars(part.item) * (part.least + part.most) // 2
    return sum(_text_chars(one) for one in part.parts) if isinstance(part, Series) else 0
