"""From token bytes to what is shown: whole characters, the model's thinking apart, and nothing past a stop string.

Everything works piece by piece and holds back only what the next piece could still change: an unfinished character, or an
ending that could be the beginning of a stop string or of a tag. Not covered: terminal control characters (data.sanitise).
"""

import codecs
from collections.abc import Sequence

OPEN, CLOSE = "<think>", "</think>"


class Stops:
    """Ends a text before the first of the stop strings, which itself is never passed on."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._heads = frozenset(stop[:size] for stop in self._stops for size in range(1, len(stop)))
        self._longest = max(map(len, self._stops), default=1)
        self._held = ""
        self.reached = False

    def feed(self, text: str) -> str:
        """What can be shown now; "" for ever once a stop string was reached."""
        if self.reached:
            return ""
        text = self._held + text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.reached, self._held = True, ""
            return text[: min(found)]
        keep = next((size for size in range(min(self._longest - 1, len(text)), 0, -1) if text[-size:] in self._heads), 0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, at the end of the answer."""
        held, self._held = self._held, ""
        return held


class Thinking:
    """Parts an answer that begins with <think>, or whose prompt ended with it, into thinking and text."""

    def __init__(self, inside: bool) -> None:
        self._state = "inside" if inside else "before"
        self._held = ""

    def feed(self, text: str) -> tuple[str, str]:
        """(thinking, text) that can be shown now."""
        text, self._held = self._held + text, ""
        if self._state == "before":
            text = self._open(text)
        thinking = ""
        if self._state == "inside":
            thinking, text = self._close(text)
        if self._state == "after":
            text = text.lstrip()
            self._state = "text" if text else "after"
        return thinking, text if self._state == "text" else ""

    def flush(self) -> tuple[str, str]:
        """What was held back, at the end of the answer."""
        held, self._held = self._held, ""
        return (held, "") if self._state == "inside" else ("", held)

    def _open(self, text: str) -> str:
        begun = text.lstrip()
        if begun.startswith(OPEN):
            self._state = "inside"
            return begun[len(OPEN) :].lstrip("\n")
        if OPEN.startswith(begun):
            self._held = text
            return ""
        self._state = "text"
        return text

    def _close(self, text: str) -> tuple[str, str]:
        at = text.find(CLOSE)
        if at >= 0:
            self._state = "after"
            return text[:at], text[at + len(CLOSE) :]
        keep = next((size for size in range(min(len(CLOSE) - 1, len(text)), 0, -1) if CLOSE.startswith(text[-size:])), 0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], ""


class Shown:
    """The whole way from token bytes to (thinking, text), ended by a stop string in the text.

    spaced: the vocabulary begins every text with a space, which is no part of it.
    """

    def __init__(self, stops: Sequence[str], thinks: bool, inside: bool = False, spaced: bool = False) -> None:
        self._spaced = spaced
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._thinking = Thinking(inside) if thinks else None
        self._stops = Stops(stops) if any(stops) else None

    @property
    def stopped(self) -> bool:
        """Whether a stop string was reached."""
        return self._stops is not None and self._stops.reached

    def feed(self, piece: bytes) -> tuple[str, str]:
        """(thinking, text) that can be shown after one more token."""
        text = self._decode(piece)
        thinking = ""
        if self._spaced and text:
            text, self._spaced = text.removeprefix(" "), False
        if self._thinking is not None:
            thinking, text = self._thinking.feed(text)
        if self._stops is not None:
            text = self._stops.feed(text)
        return thinking, text

    def flush(self) -> tuple[str, str]:
        """The rest, at the end of the answer; an unfinished character becomes U+FFFD."""
        text = self._decode(b"", True)
        thinking = ""
        if self._thinking is not None:
            thinking, text = self._thinking.feed(text)
            more, rest = self._thinking.flush()
            thinking, text = thinking + more, text + rest
        if self._stops is not None:
            text = self._stops.feed(text)
            text += self._stops.flush()
        return thinking, text
