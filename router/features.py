"""Text to sparse features: hashed word and character n-grams, and the normalisation that every stage of the router shares.

Words (one and two) and characters (two to five within a word) follow scikit-learn's `char_wb` and word n-grams, hashed to
64 bits by a polynomial over code points, so that nothing has to be looked up in a dictionary of strings. A `Vocabulary` keeps
the hashes that training has seen often enough, sorted, with their inverse document frequency: two n-grams share a weight only
where their 64-bit hashes are equal. Not covered: the weights (`linear`), sentence vectors (`encoder`).
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEAD_WORDS, TAIL_WORDS = 48, 16
"""Words kept of a long text: of its begin and of its end (research: 64 tokens in all hold the intent)."""
WORD_CHARACTERS = 128
"""Characters kept of one word; a text without spaces is one word."""
HEAD_CHARACTERS, TAIL_CHARACTERS = 6_144, 2_048
"""Characters of a text that are looked at before it is cut to words."""
LONGEST = 5
"""Characters of the longest character n-gram; the shortest has two."""

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that powers never vanish (2^64 over the golden ratio)
_MIX = np.uint64(0xBF58476D1CE4E5B9)  # the multiplier of splitmix64's finaliser
_WORD_TAG, _PAIR_TAG = np.uint64(0xA5A5), np.uint64(0x5A5A)
_REACH = 40_000  # above the length of any normalised text with its spaces
_POWERS = np.cumprod(np.concatenate([np.ones(1, np.uint64), np.full(_REACH, _BASE)]), dtype=np.uint64)

Hashes = NDArray[np.uint64]
Floats = NDArray[np.float32]


def normalise(text: str) -> str:
    """The text as the router reads it: NFKC, case-folded, no control characters, at most 64 words, single spaces.

    Of a long text the first 48 and the last 16 words are kept. "" where nothing readable is left.
    """
    if len(text) > HEAD_CHARACTERS + TAIL_CHARACTERS:
        text = f"{text[:HEAD_CHARACTERS]} {text[-TAIL_CHARACTERS:]}"
    folded = unicodedata.normalize("NFKC", text).casefold()
    if not folded.isprintable():
        folded = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in folded)
    words = folded.split()
    if len(words) > HEAD_WORDS + TAIL_WORDS:
        words = words[:HEAD_WORDS] + words[-TAIL_WORDS:]
    return " ".join(word[:WORD_CHARACTERS] for word in words)


def spaced(normalised: str) -> str:
    """The normalised text with every punctuation mark a word of its own and a space at both ends, as n-grams are cut from."""
    if normalised.isascii() and normalised.replace(" ", "").isalnum():
        return f" {normalised} "
    apart = "".join(char if char.isalnum() or char in " _" else f" {char} " for char in normalised)
    return f" {' '.join(apart.split())} "


@dataclass(frozen=True, slots=True)
class Grams:
    """The n-grams of one text: hashes, and where each begins and ends in `text`. The first `words` are word n-grams."""

    text: str
    hashes: Hashes
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    words: int

    def name(self, index: int) -> str:
        """How an n-gram is shown: a word or two as they stand, characters in quotes with "_" for a word's edge."""
        piece = self.text[int(self.begins[index]) : int(self.ends[index])]
        return piece if index < self.words else f"'{piece.replace(' ', '_')}'"


def grams(text: str) -> Grams:
    """The n-grams of a text as the user wrote it."""
    line = spaced(normalise(text))
    if not line.strip():
        empty = np.zeros(0, np.int64)
        return Grams(line, np.zeros(0, np.uint64), empty, empty, 0)
    codes = np.frombuffer(line.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64) + np.uint64(1)
    count = len(codes)
    space = codes == np.uint64(33)
    edges = np.flatnonzero(space)
    prefix = np.concatenate([np.zeros(1, np.uint64), np.cumsum(codes * _POWERS[:count], dtype=np.uint64)])
    begins, ends = [edges[:-1] + 1], [edges[1:]]
    if len(edges) > 2:
        begins.append(edges[:-2] + 1)
        ends.append(edges[2:])
    words = sum(map(len, begins))
    inside = np.cumsum(space)
    for size in range(2, min(LONGEST, count) + 1):
        first = np.arange(count - size + 1)
        within = first[inside[first + size - 2] == inside[first]]  # no space but at the first or the last place
        begins.append(within)
        ends.append(within + size)
    begin, end = np.concatenate(begins), np.concatenate(ends)
    hashes = (prefix[end] - prefix[begin]) * _POWERS[_REACH - begin]  # the same n-gram hashes alike wherever it stands
    hashes[: len(begins[0])] ^= _WORD_TAG
    hashes[len(begins[0]) : words] ^= _PAIR_TAG
    hashes ^= hashes >> np.uint64(31)
    hashes *= _MIX
    return Grams(line, hashes, begin, end, words)


@dataclass(frozen=True, slots=True)
class Rows:
    """Sparse feature vectors, one after the other: row i holds `columns[starts[i]:starts[i + 1]]` with their `values`."""

    starts: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: Floats

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, wanted: NDArray[np.int64]) -> "Rows":
        """Those rows, in that order."""
        lengths = np.diff(self.starts)[wanted]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        at = np.arange(starts[-1]) - np.repeat(starts[:-1] - self.starts[wanted], lengths)
        return Rows(starts, self.columns[at], self.values[at])


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The n-grams that have weights: sorted hashes, and the inverse document frequency of each."""

    hashes: Hashes
    idf: Floats

    def __len__(self) -> int:
        return len(self.hashes)

    def vector(self, found: Grams) -> tuple[NDArray[np.int32], Floats, NDArray[np.int64]]:
        """Columns, TF-IDF values and one place in `found` of each n-gram that is known; the vector has at most length 1."""
        if not len(self.hashes) or not len(found.hashes):
            return np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        column = np.searchsorted(self.hashes, found.hashes)
        column[column == len(self.hashes)] = 0
        known = np.flatnonzero(self.hashes[column] == found.hashes)
        columns, first, counts = np.unique(column[known], return_index=True, return_counts=True)
        places = known[first]
        values = (1 + np.log(counts)) * self.idf[columns]
        words = places < found.words
        for part in (words, ~words):
            values[part] /= max(float(np.sqrt(2 * (values[part] ** 2).sum())), 1e-9)
        return columns.astype(np.int32), values.astype(np.float32), places

    def rows(self, texts: Sequence[Grams]) -> Rows:
        """The vectors of many texts."""
        made = [self.vector(text) for text in texts]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(columns) for columns, _, _ in made])])
        if not made:
            return Rows(starts.astype(np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
        return Rows(starts.astype(np.int64), np.concatenate([one[0] for one in made]), np.concatenate([one[1] for one in made]))


def vocabulary(texts: Sequence[Grams], at_least: int = 2) -> Vocabulary:
    """The n-grams that occur in `at_least` of the texts; idf as scikit-learn smooths it, ln((1 + n) / (1 + df)) + 1."""
    if not texts:
        return Vocabulary(np.zeros(0, np.uint64), np.zeros(0, np.float32))
    hashes, counts = np.unique(np.concatenate([np.unique(text.hashes) for text in texts]), return_counts=True)
    kept = counts >= at_least
    idf = np.log((1 + len(texts)) / (1 + counts[kept])) + 1
    return Vocabulary(hashes[kept], idf.astype(np.float32))
