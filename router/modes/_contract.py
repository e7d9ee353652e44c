"""The contract of reasoning first and answering after a marker line, and the parser that keeps the two apart as they come.

The marker asked for is "ANSWER:" at the beginning of a line; what models make of it ("**Final answer:** 42", "### Answer",
"The final answer is 42", a closing think tag) counts too. Not covered: native thinking, which the engines part themselves.
"""

import re

ASK = (
    "First think step by step about what is asked, in a few short lines. Then begin a new line with ANSWER: "
    "and give the final answer there."
)
"""What a model without native thinking is told, behind the question."""
LINE_CHARS = 64
"""A line longer than this without a marker at its beginning is no marker line."""

_WORDS = r"(?:(?:so|thus|therefore|hence)[, ]+)?(?:(?:the|my)\s+)?(?P<final>final\s+)?answer"
_MARK = re.compile(
    rf"[\s#>*_`\-]*(?:{_WORDS}(?:\s+is)?\s*[*_`]*\s*[:：]|(?:the\s+|my\s+)?final\s+answer\s+is\b|</think>)", re.IGNORECASE
)
_HEADING = re.compile(r"\s*(?:#+\s*|[*_]{1,3})(?:the\s+)?(?:final\s+)?answer\s*[*_]*\s*", re.IGNORECASE)
_BEHIND = re.compile(r"(?:\*\*|__|[*_`])?\s*")


class Marked:
    """Parts a stream into reasoning and answer. Holds back at most a line's beginning, which could still be the marker."""

    def __init__(self) -> None:
        self.found = False
        self._held = ""
        self._fresh = True  # at the beginning of a line
        self._bare = False  # right behind the marker, nothing of the answer yet

    def feed(self, text: str) -> tuple[str, str]:
        """(reasoning, answer) that is certain now."""
        if self.found:
            return "", self._behind(text)
        self._held += text
        reasoning: list[str] = []
        while self._held:
            line, newline, rest = self._held.partition("\n")
            marker = self._marker(line, bool(newline)) if self._fresh else None
            if marker is not None:
                self.found = self._bare = True
                self._held = ""
                return "".join(reasoning), self._behind(line[marker:] + newline + rest)
            if not newline and self._fresh and len(line) <= LINE_CHARS:
                break
            reasoning.append(line + newline)
            self._held, self._fresh = rest, bool(newline)
        return "".join(reasoning), ""

    def flush(self) -> tuple[str, str]:
        """What was held back, at the end."""
        held, self._held = self._held, ""
        if self.found:
            return "", "" if self._bare else held
        marker = self._marker(held, True) if self._fresh else None
        if marker is not None:
            self.found = True
            return "", held[marker:].strip()
        return held, ""

    def _marker(self, line: str, whole: bool) -> int | None:
        """Where the answer begins in a line that begins with a marker, None in any other."""
        if found := _MARK.match(line):
            return found.end()
        if whole and _HEADING.fullmatch(line):
            return len(line)
        return None

    def _behind(self, text: str) -> str:
        if not self._bare:
            return text
        self._held += text
        begun = self._held[_BEHIND.match(self._held).end() :]  # type: ignore[union-attr]  # it matches anything
        if not begun:
            return ""
        self._bare, self._held = False, ""
        return begun


def unmarked(text: str) -> tuple[str, str]:
    """(reasoning, answer) of a whole text; the answer is "" where there is no marker."""
    parser = Marked()
    parts = [parser.feed(text), parser.flush()]
    return "".join(part[0] for part in parts).strip(), "".join(part[1] for part in parts).strip()
