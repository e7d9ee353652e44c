"""Texts that are much alike: pairs whose sets of character 5-grams have a Jaccard similarity of at least 0.8, found exactly.

Prefix filtering (Chaudhuri et al. 2006; Bayardo et al. 2007): two sets that alike share one of their few rarest members. Of very
many or long texts the beginnings are compared, four million 5-grams in all. Not covered: data sets (data/datasets/duplicates.py).
"""

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence

ALIKE = 0.8
_GRAM = 5
_MOST_GRAMS = 4_000_000
_MOST_COMPARED = 2_000_000
_WORD = re.compile(r"\w+")


def folded(text: str) -> str:
    """The words of a text, case-folded, with one space between: texts that differ in nothing else are the same."""
    return " ".join(_WORD.findall(text.casefold()))


def alike(texts: Sequence[str]) -> Iterator[tuple[int, int, float]]:
    """(earlier, later, similarity) of each pair that is alike; stops after two million comparisons."""
    grams = _grams(texts)
    counts = Counter(gram for one in grams for gram in one)
    at: dict[int, list[int]] = {}
    compared = 0
    for later, mine in enumerate(grams):
        rare = sorted(mine, key=lambda gram: (counts[gram], gram))[: len(mine) - math.ceil(ALIKE * len(mine)) + 1]
        candidates = {earlier for gram in rare for earlier in at.get(gram, ())}
        for gram in rare:
            at.setdefault(gram, []).append(later)
        for earlier in sorted(candidates):
            compared += 1
            shared = len(mine & grams[earlier])
            if (found := shared / (len(mine) + len(grams[earlier]) - shared)) >= ALIKE:
                yield earlier, later, found
        if compared > _MOST_COMPARED:
            return


def _grams(texts: Sequence[str]) -> list[set[int]]:
    longest = max(100, _MOST_GRAMS // max(1, len(texts)))
    found = []
    for text in texts:
        joined = folded(text[: 2 * longest]).replace(" ", "")[:longest].encode("utf-32-le", "replace")
        size = 4 * _GRAM
        found.append({zlib.crc32(joined[at : at + size]) for at in range(0, max(4, len(joined) - size + 4), 4)})
    return found
