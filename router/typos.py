"""Slips of the finger, made on purpose: to train the heads on, and to count how many decisions they flip.

A share of the words gets one slip each: two letters swapped, one dropped, one doubled, or one replaced. Not covered: mending
them (`spelling`).
"""

import random
import string

SHARE = 0.3
"""Of the words that get a slip, as in the published measure."""


def slipped(text: str, source: random.Random, share: float = SHARE) -> str:
    """The text with slips in about `share` of its words of two letters or more."""
    return " ".join(_slip(word, source) if len(word) > 1 and source.random() < share else word for word in text.split())


def _slip(word: str, source: random.Random) -> str:
    at = source.randrange(len(word))
    kind = source.randrange(4)
    if kind == 0:
        at = min(at, len(word) - 2)
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    return word[:at] + source.choice(string.ascii_lowercase) + word[at + 1 :]
