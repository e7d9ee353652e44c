"""Markdown in a terminal while it comes: every token is visible at once, every finished block is rendered for good.

The open block stands at the bottom as plain text, rewritten in place; when it closes, its rendering takes its place. Only
the last rows of an open block higher than the screen are shown until then, so that no row above is ever touched. Raw HTML
and link definitions are shown as written, links as "text (address)". Not covered: links whose address comes in a later
block, and a terminal that is resized without reflowing its rows.
"""

import shutil
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

from data.sanitise import sanitise
from tui.output import width

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token
    from rich.console import Console

TAIL_CHARACTERS = 8_000
"""Of an open block longer than this only the end is laid out; few screens show more."""

LONG_BLOCK = 2_000
"""Characters from which on an open block is not parsed at every new line."""

_CLOSED_BY_BLANK = ("paragraph_open", "heading_open", "hr", "table_open", "blockquote_open")


class LiveMarkdown:
    """Writes one answer to the terminal `stream`, at most `text_width` columns wide."""

    def __init__(self, stream: TextIO, text_width: int = 100) -> None:
        self._stream = stream
        self._text_width = text_width
        self._pending = ""  # Markdown of the open block, sanitised
        self._rows: list[str] = []  # what of it stands on the screen, one row a line
        self._blocks = 0
        self._next_look = 0
        self._console: Console | None = None
        self._parser: MarkdownIt | None = None
        # Rich takes a fifth of a second to import: meanwhile the model reads the prompt
        threading.Thread(target=import_module, args=("rich.markdown",), name="markdown", daemon=True).start()

    def write(self, piece: str) -> None:
        """Show a piece of the answer."""
        at_line_start = not self._pending or self._pending.endswith("\n")
        self._pending += sanitise(piece)
        if ("\n" in piece or at_line_start) and len(self._pending) >= self._next_look:
            closed = closed_length(self._parse(self._pending), self._pending)
            if closed:
                self._print(self._pending[:closed])
                self._pending = self._pending[closed:].lstrip("\n")
            # a long block is parsed again only when it has grown by a sixteenth, else the time would grow as its square
            self._next_look = len(self._pending) * 17 // 16 if len(self._pending) > LONG_BLOCK else 0
        self._redraw()

    def close(self) -> None:
        """Render what is still open and end the line."""
        if self._pending.strip():
            self._print(self._pending)
        elif self._rows:
            self._erase()
        self._pending = ""
        self._stream.flush()

    def _parse(self, markdown: str) -> "list[Token]":
        if self._parser is None:
            self._parser = parser()
        return self._parser.parse(markdown)

    def _print(self, markdown: str) -> None:
        from rich.console import Console

        self._erase()
        columns = min(shutil.get_terminal_size((80, 24)).columns, self._text_width)
        self._console = self._console or Console(file=self._stream, highlight=False, markup=False, emoji=False, soft_wrap=False)
        self._console.width = columns
        if self._blocks:
            self._console.print()
        self._blocks += 1
        self._console.print(Rendered(self._parse(markdown)))

    def _erase(self) -> None:
        if self._rows:
            self._stream.write(self._to_row(0))
        self._rows = []

    def _redraw(self) -> None:
        """Bring the rows on the screen up to date, writing as little as possible."""
        size = shutil.get_terminal_size((80, 24))
        limit = max(size.lines - 2, 3)
        columns = min(size.columns - 3, self._text_width)  # 3: the ^C that the terminal itself writes fits behind a full row
        hidden = max(len(self._pending) // TAIL_CHARACTERS - 1, 0) * TAIL_CHARACTERS  # in steps, so that rows stay where they are
        rows = wrap(self._pending[hidden:].rstrip("\n"), max(columns, 2))[-limit:]
        old = self._rows
        same = next((i for i, pair in enumerate(zip(rows, old, strict=False)) if pair[0] != pair[1]), min(len(rows), len(old)))
        if same == len(rows) == len(old):
            return
        if old and same == len(old) - 1 < len(rows) and rows[same].startswith(old[same]):
            self._stream.write("\n".join([rows[same][len(old[same]) :], *rows[same + 1 :]]))
        elif old and same == len(old):
            self._stream.write("\n" + "\n".join(rows[same:]))
        else:
            same = min(same, len(rows) - 1)
            self._stream.write((self._to_row(same) if old else "") + "\n".join(rows[same:]))
        self._rows = rows
        self._stream.flush()

    def _to_row(self, index: int) -> str:
        """The sequence that moves from the end of the last row to the start of row `index` and clears from there."""
        columns = max(shutil.get_terminal_size((80, 24)).columns, 1)
        heights = [max(1, -(-width(row) // columns)) for row in self._rows]  # a narrowed terminal has reflowed them
        up = sum(heights[index:]) - 1
        return (f"\x1b[{up}A" if up > 0 else "") + "\r\x1b[J"


class Rendered:
    """Parsed Markdown as a Rich renderable; what entities like &#x202e; decode to is sanitised once more."""

    def __init__(self, tokens: "list[Token]") -> None:
        from rich.markdown import Markdown

        self._document = Markdown("", code_theme="ansi_dark", hyperlinks=False)
        self._document.parsed = tokens

    def __rich_console__(self, console: "Console", options: Any) -> Iterator[Any]:
        from rich.segment import Segment

        shown = (part for part in console.render(self._document, options) if not part.control)
        for line in Segment.split_lines(Segment(sanitise(part.text), part.style) for part in shown):
            while line and not line[-1].text.strip(" ") and not (line[-1].style and line[-1].style.bgcolor):
                line.pop()  # the padding up to the width, which nobody wants to copy
            if line and not (line[-1].style and line[-1].style.bgcolor):
                line[-1] = Segment(line[-1].text.rstrip(" "), line[-1].style)
            yield from (*line, Segment.line())


def parser() -> "MarkdownIt":
    """CommonMark with tables and strikethrough; nothing that hides text: no raw HTML, no link definitions."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).disable("reference")


def closed_length(tokens: "list[Token]", markdown: str) -> int:
    """How many characters of `markdown` belong to blocks that nothing to come can change."""
    tops = [token for token in tokens if token.level == 0 and token.map and token.nesting >= 0]
    if not tops:
        return 0
    lines = markdown.split("\n")
    last, start = tops[-1], (tops[-1].map or [0])[0]
    if _is_closed(last, lines):
        return len(markdown)
    if not markdown.endswith("\n") and start == len(lines) - 1 and not lines[-1][:1].isalpha():
        return 0  # a lone "1" or "*" may yet become the list's next item
    return sum(len(line) + 1 for line in lines[:start])


def wrap(shown: str, columns: int) -> list[str]:
    """`shown` in rows of at most `columns` columns, broken at spaces where there are any; tabs become spaces."""
    rows: list[str] = []
    for line in shown.expandtabs(4).split("\n"):
        while (cut := _fitting(line, columns)) < len(line):
            space = line.rfind(" ", 1, cut + 1)
            rows.append(line[: space if space > 0 else cut])
            line = line[space + 1 if space > 0 else cut :]
        rows.append(line)
    return rows


def _fitting(line: str, columns: int) -> int:
    """The number of leading characters that fit, at least one where there is one."""
    if line[: columns + 1].isascii():
        return min(columns, len(line))
    used = 0
    for index, character in enumerate(line):
        used += width(character)
        if used > columns:
            return max(index, 1)
    return len(line)


def _is_closed(token: "Token", lines: list[str]) -> bool:
    """Whether the last block has met its end: a closing fence, a heading's line, a blank line after a paragraph."""
    if lines[-1]:
        return False  # the last line may still grow
    filled = max((index for index, line in enumerate(lines) if line.strip()), default=0)
    if token.type == "fence":
        end = lines[filled].strip()
        return filled > (token.map or [0])[0] and len(end) >= len(token.markup) and set(end) == set(token.markup)
    if token.type == "hr" or (token.type == "heading_open" and token.markup.startswith("#")):
        return True
    return token.type in _CLOSED_BY_BLANK and len(lines) - filled > 2
