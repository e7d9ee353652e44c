"""Whether what the user said is enough to learn from, and what is missing in words.

The numbers suit one person, who rates some tens of answers a week: LESSONS answers to imitate, of which the pack's own examples
may be a half, or JUDGED thumbs, which is what KTO wants (Ethayarajh et al., 2024, hold that it bears a heavy imbalance). Not
covered: whether the rows are any good, which the gates find out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

LESSONS = 100
"""Answers to imitate: liked ones and corrections, and up to half of them the pack's own."""
JUDGED, RARER = 150, 20
"""Thumbs that are enough as well, and how many of them of the rarer kind."""
CONVERSATIONS = 10
"""From which the rows come at least, so that some can be held out."""
HELD_OUT = 10
"""Rows for validation and replay at least."""
FRESH = 20
"""Rows since the last learn from which a learn by itself is worth its while."""


@dataclass(frozen=True, slots=True)
class Volume:
    """What there is. lessons: rows with an answer to imitate; good, bad: judged answers, the two sides of pairs included; pack: the
    pack's own training examples; held_out: rows of validation and test."""

    rows: int = 0
    lessons: int = 0
    good: int = 0
    bad: int = 0
    pack: int = 0
    conversations: int = 0
    held_out: int = 0

    @property
    def plain(self) -> Mapping[str, int]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def wanted(volume: Volume, least: int = 0) -> int:
    """Lessons of the user's own that are enough beside the pack's examples; least: another number, 0 for the usual one."""
    return least or max(LESSONS // 2, LESSONS - volume.pack)


def missing(volume: Volume, least: int = 0) -> tuple[str, ...]:
    """What is missing, in words; () where there is enough."""
    found = []
    asked = wanted(volume, least)
    judged = volume.good + volume.bad
    thumbs = not least and judged >= JUDGED and min(volume.good, volume.bad) >= RARER
    if volume.lessons < asked and not thumbs:
        found.append(
            f"{asked - volume.lessons} more answers that you liked or corrected ({volume.lessons} of {asked})"
            + ("" if least else f", or {max(JUDGED - judged, RARER - min(volume.good, volume.bad))} more thumbs")
        )
    conversations = min(CONVERSATIONS, asked)
    if volume.conversations < conversations:
        found.append(
            f"{conversations - volume.conversations} more conversations with such answers "
            f"({volume.conversations} of {conversations})"
        )
    held_out = min(HELD_OUT, max(1, asked // 5))
    if not found and volume.held_out < held_out:
        found.append(f"{held_out - volume.held_out} more rows that can be held out ({volume.held_out} of {held_out})")
    return tuple(found)
