"""Markdown that is still coming, split into what can no longer change and what can. Pure: no widgets.

Re-rendering a whole answer at every token costs time that grows with its square. Of a growing Markdown text, however, only
the last top-level block can still change: everything before it is closed, is drawn once, and never touched again. Splitting
looks at whole lines only, for half a line may turn out to be something else ("#" is a heading, "#tag" a word).

A block that stays open for long (a program, a list of fifty items) is cut as well: the lines of a fence and the finished
items of a list are settled, drawn once until their block closes, so that what is drawn again and again stays short.
Not covered: link references that are defined after their use; whoever shows the text sets it anew when it is complete.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from data.sanitise import sanitise
from tui.widgets.typeset import Setting, new_parser

SETTLE: Final = 1_000
"""Characters of an open block from which on its beginning is settled where that can be done."""
LIMIT: Final = 4_000
"""Characters of an open block from which on it is shown as it is written, and settled wherever a line or word ends."""
_CLOSING_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*")
_PATIENCE: Final = 64  # a long block is looked at again when it grew by this fraction of its lines


@dataclass(frozen=True, slots=True)
class Piece:
    """Sanitised text and how it is to be set."""

    text: str
    setting: Setting


@dataclass(frozen=True, slots=True)
class Split:
    """What came of the text since the last split.

    closed: whole top-level blocks; where it is not empty, the pieces settled earlier are part of it. settled: beginnings of
    the open block, in order, which stay as they are until it closes. open: the rest.
    """

    closed: str
    settled: tuple[Piece, ...]
    open: Piece


class MarkdownSplitter:
    """Takes pieces of untrusted Markdown, cut anywhere, and gives them back sanitised, block by block.

    The concatenation of everything that closed and of what `finish` returns is the sanitised text, nothing added or lost.
    """

    def __init__(self) -> None:
        self._open = ""  # the open block
        self._settled = 0  # characters of it that are settled
        self._lines = 0  # whole lines of it at the last look
        self._last: _Last = _NOTHING
        self._raw = False  # whether the open block is shown as it is written
        self._held = ""  # a carriage return at the end of a piece: the line feed may come with the next one

    def write(self, text: str) -> None:
        """Add a piece."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        self._open += sanitise(text[: len(text) - len(self._held)])

    def take(self) -> Split:
        """Split what has come so far; what is returned as closed or settled is not returned again."""
        closed = ""
        lines = self._open.count("\n")
        if lines > self._lines + (0 if self._last.kind == "fence" else self._lines // _PATIENCE):
            self._last = _last_block(self._open)
            closed, self._open = self._open[: self._last.start], self._open[self._last.start :]
            self._lines = self._open.count("\n")
            if closed:
                self._settled, self._raw = 0, False
        settled = []
        while piece := self._settle():
            settled.append(piece)
        return Split(closed, tuple(settled), self._piece(len(self._open)))

    def finish(self) -> str:
        """The rest, when nothing more comes."""
        rest = self._open + sanitise(self._held)
        self._open, self._held, self._settled, self._lines, self._last, self._raw = "", "", 0, 0, _NOTHING, False
        return rest

    def _settle(self) -> Piece | None:
        """The next beginning of the open block that can be settled, if there is one."""
        length = len(self._open) - self._settled
        if length <= SETTLE:
            return None
        end = self._cut()
        if end <= self._settled:
            if length <= LIMIT:
                return None
            self._raw = True
            end = _break(self._open, self._settled, self._settled + LIMIT)
        piece = self._piece(end)
        self._settled = end
        if self._last.kind == "table_open":
            self._raw = True
        return piece

    def _cut(self) -> int:
        """Where the open block may be cut: before its last line or its last list item; 0 where nowhere."""
        if self._raw or self._last.kind in ("fence", "code_block", "table_open"):
            return self._open.rfind("\n") + 1
        return self._last.item

    def _piece(self, end: int) -> Piece:
        text = self._open[self._settled : end]
        if self._raw:
            return Piece(text, "plain")
        if self._last.kind == "fence" and self._settled:
            text = self._open[: self._open.find("\n") + 1] + text
        return Piece(text, "draft")


@dataclass(frozen=True, slots=True)
class _Last:
    """The last top-level block of a text: its kind, where it begins, and where, from there, its last list item begins."""

    kind: str
    start: int
    item: int = 0


_NOTHING: Final = _Last("", 0)


def _last_block(text: str) -> _Last:
    """The last top-level block, judged by whole lines; characters before its start are closed."""
    lines = text[: text.rfind("\n") + 1].split("\n")[:-1]
    tokens = _blocks().parse("\n".join(lines))
    first = _last_at(tokens, level=0)
    if first is None or first.map is None:
        return _NOTHING
    start, end = first.map
    if _is_complete(first, lines, end):
        return _Last("", _offset(lines, end))
    begin = _offset(lines, start)
    item = _last_at(tokens, level=1, kind="list_item_open") if first.type.endswith("list_open") else None
    return _Last(first.type, begin, _offset(lines, item.map[0]) - begin if item and item.map else 0)


def _is_complete(block: Token, lines: list[str], end: int) -> bool:
    """Whether the block that ends before line `end` takes no further line, whatever comes."""
    if block.type in ("heading_open", "hr"):
        return True
    if block.type == "fence":
        closing = _CLOSING_FENCE.fullmatch(lines[end - 1])
        return end - 1 > (block.map or [0])[0] and closing is not None and closing[1].startswith(block.markup)
    closed_by_blank = block.type in ("paragraph_open", "table_open", "blockquote_open")
    return closed_by_blank and end < len(lines) and not lines[end].strip()


def _last_at(tokens: list[Token], level: int, kind: str = "") -> Token | None:
    found = (token for token in reversed(tokens) if token.level == level and token.map and kind in ("", token.type))
    return next(found, None)


def _offset(lines: list[str], line: int) -> int:
    return sum(map(len, lines[:line])) + line


def _break(text: str, start: int, end: int) -> int:
    """The last line or word that ends in text[start:end], else `end`."""
    return max(text.rfind("\n", start, end), text.rfind(" ", start, end)) + 1 or end


@lru_cache(maxsize=1)
def _blocks() -> MarkdownIt:
    """The parser without its inline rules, which take most of its time and move no block."""
    return new_parser().disable(["inline", "text_join"])
