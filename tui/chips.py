"""Long pasted text as a chip: a few words in the prompt stand for it, until the question is sent.

Not covered: files, which an @ names (`tui.mentions`).
"""

import re
from typing import Final

LINES: Final = 20
CHARACTERS: Final = 2_000
"""A paste of more than these becomes a chip."""
_CHIP: Final = re.compile(r"\[pasted (\d{1,6}): [\d,]+ (?:lines|characters)\]")
_FENCE: Final = re.compile(r"`{3,}")


class Chips:
    """The pastes of one prompt. A chip may be sent again with an earlier question as long as the chat is open."""

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}

    def take(self, text: str) -> str:
        """What stands in the prompt for a pasted text: a chip, or the text itself where it is short."""
        lines = text.count("\n") + 1
        if lines <= LINES and len(text) <= CHARACTERS:
            return text
        number = len(self._texts) + 1
        self._texts[number] = text
        size = f"{lines:,} lines" if lines > LINES else f"{len(text):,} characters"
        return f"[pasted {number}: {size}] "

    def expanded(self, text: str) -> str:
        """The text with each chip, once more at the end in full; a chip that was changed stays what it is written as."""
        numbers = [int(found[1]) for found in _CHIP.finditer(text)]
        known = dict.fromkeys(number for number in numbers if number in self._texts)
        parts = [text.rstrip(), *(f"[pasted {number}]:\n{_fenced(self._texts[number])}" for number in known)]
        return "\n\n".join(parts) if known else text


def _fenced(text: str) -> str:
    """The text in a fence that is longer than any in it."""
    fence = "`" * (max((len(run) for run in _FENCE.findall(text)), default=2) + 1)
    return f"{fence}\n{text.rstrip()}\n{fence}"
