"""Slips of the finger mended before the router reads a text: swapped, missing, doubled and wrong letters.

A word that is known neither from training nor to the sentence encoder is replaced by the likeliest known word one edit away
(Damerau), found by trying every edit as in Norvig, How to Write a Spelling Corrector (2007): first among the words of the
training texts, then, for words of five letters or more, among the encoder's. Only the router reads the mended text; the model
gets what the user wrote. Not covered: slips that make another known word, two slips in one word, missing spaces.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from router.features import HEAD_WORDS, TAIL_WORDS, normalise, spaced

SEEN = 2
"""Training texts that must hold a word for it to be known."""
LETTERS, LETTERS_ELSEWHERE = 2, 5
"""Letters of a word that may become one of training's words, or one of the encoder's; shorter ones have too many neighbours."""
WORDS = 24
"""Words of one text that are mended at most, which bounds the time."""
LONGEST = 24
"""Letters of a word that is tried at most."""


class Spelling:
    """The known words, and the mending. `words`: how many training texts hold a word; `others`: words by falling frequency."""

    def __init__(self, words: Mapping[str, int], others: Sequence[str] = ()) -> None:
        self.words = dict(words)
        self.others = {word: place for place, word in enumerate(others)}
        self._letters = "".join(sorted({letter for word in words for letter in word if letter.isalpha()})[:64])

    def knowing(self, texts: Iterable[str]) -> "Spelling":
        """One that leaves the words of these texts alone too."""
        fresh = dict.fromkeys(word for text in texts for word in spaced(normalise(text)).split() if word.isalpha())
        wider = Spelling({})
        wider.words, wider._letters = self.words, self._letters
        wider.others = self.others | {word: len(self.others) + at for at, word in enumerate(fresh) if word not in self.others}
        return wider

    def mend(self, text: str) -> str:
        """The text as the router reads it: normalised, punctuation apart, unknown words mended. "" for an empty text."""
        line = spaced(normalise(text)).split()
        if len(line) > HEAD_WORDS + TAIL_WORDS:  # punctuation apart, there are more of them
            line = line[:HEAD_WORDS] + line[-TAIL_WORDS:]
        if not self.words:
            return " ".join(line)
        left = WORDS
        for place, word in enumerate(line):
            if left and self._strange(word):
                left -= 1
                line[place] = self._nearest(word)
        return " ".join(line)

    def _strange(self, word: str) -> bool:
        return LETTERS <= len(word) <= LONGEST and word not in self.words and word not in self.others and word.isalpha()

    def _nearest(self, word: str) -> str:
        near = set(_edits(word, self._letters))
        seen = near & self.words.keys()
        if seen:
            return max(seen, key=lambda one: (self.words[one], one))
        if len(word) < LETTERS_ELSEWHERE:
            return word
        elsewhere = [one for one in near & self.others.keys() if len(one) >= LETTERS_ELSEWHERE - 1]
        return min(elsewhere, key=self.others.__getitem__, default=word)


def learnt(texts: Iterable[str], others: Sequence[str] = ()) -> Spelling:
    """The spelling of those training texts, each counted once a word."""
    counts = Counter(word for text in texts for word in set(spaced(normalise(text)).split()))
    return Spelling({word: count for word, count in counts.items() if count >= SEEN and word.isalpha()}, others)


def _edits(word: str, letters: str) -> Iterator[str]:
    """Every string one swap, loss, exchange or gain of a letter away."""
    for at in range(len(word)):
        head, tail = word[:at], word[at + 1 :]
        yield head + tail
        if tail:
            yield head + tail[0] + word[at] + tail[1:]
        for letter in letters:
            yield head + letter + tail
            yield head + letter + word[at:]
    for letter in letters:
        yield word + letter
