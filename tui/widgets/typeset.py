"""Markdown set as lines of styled text: how a model's answer looks at a given width.

`typeset` turns Markdown into one Page, whose content a single Static can show: no widget per block, no markup of Rich or
Textual, and nothing clickable. A link shows its address as text, `title (address)`, an image likewise, HTML stays as
written. Styles are theme variables, so a page follows the theme without being set anew. A Page knows which of its lines
only the width broke, so that copied text has the breaks of the source. Not covered: footnotes, mathematics, raw HTML.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal

from markdown_it import MarkdownIt
from markdown_it.token import Token
from textual.content import Content
from textual.selection import Selection

from data.sanitise import sanitise
from tui.widgets.coloured import coloured
from tui.widgets.inline import MUTED, inline
from tui.widgets.tables import set_table

Setting = Literal["markdown", "draft", "plain"]
"""How a text is set: as Markdown, as Markdown with code in one colour (cheaper, for text that is still coming), as is."""

_CODE: Final = "on $surface"
_HEADINGS: Final = {"h1": "bold underline $text-primary", "h2": "bold $text-primary"}
_BULLETS: Final = ("•", "◦", "▪")
_NARROWEST: Final = 8  # cells that a text keeps, however deep it is nested


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a page.

    join: what stands between the line before and this one in the source, "\\n" for a real break, " " or "" where only
    the width broke it; indent: leading characters that belong to the layout and not to the text.
    """

    text: Content
    join: str = "\n"
    indent: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """Text set for `width` cells."""

    width: int
    lines: tuple[Line, ...]
    content: Content

    def selected(self, selection: Selection) -> str:
        """The selected text with the line breaks of the source, without indentation and padding of the layout."""
        parts: list[str] = []
        for y, line in enumerate(self.lines):
            span = selection.get_span(y)
            if span is None:
                continue
            plain = line.text.plain
            start, end = span[0], len(plain) if span[1] == -1 else span[1]
            parts.append((line.join if parts else "") + plain[max(start, line.indent) : end].rstrip())
        return "".join(parts)


def typeset(text: str, width: int, setting: Setting = "markdown") -> Page:
    """Untrusted text set for `width` cells. Control characters become visible symbols, also those that entities spell."""
    text = sanitise(text)
    if setting == "plain":
        return page((Line(Content(line)) for line in text.rstrip("\n").split("\n")), width)
    setter = _Setter(max(width, 1), highlighted=setting == "markdown")
    tokens = _parser().parse(text)
    _mark_loose(tokens)
    for token in tokens:
        setter.feed(token)
    return page(setter.lines, width)


def page(lines: Iterable[Line], width: int) -> Page:
    """The lines as one page."""
    kept = tuple(lines)
    return Page(width, kept, Content("\n").join(line.text for line in kept))


def code_blocks(text: str) -> list[str]:
    """The blocks of code in untrusted Markdown, in order, without their fences."""
    tokens = _parser().parse(text)
    return [token.content.rstrip("\n") for token in tokens if token.type in ("fence", "code_block") and token.content.strip()]


def new_parser() -> MarkdownIt:
    """CommonMark with tables and strikethrough, without raw HTML; links to javascript:, file: and their like stay as written."""
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


@dataclass(slots=True)
class _Frame:
    """A list item or a quotation around a block: what its first line and its other lines begin with."""

    first: str
    rest: str
    tight: bool
    used: bool = False


@dataclass(slots=True)
class _List:
    """A list being set: the number of its next item (-1 for bullets), whether its items stand apart, whether one began."""

    number: int
    loose: bool
    bullet: str
    begun: bool = False


@dataclass(slots=True)
class _Table:
    """A table being read, row by row; the first row is the header."""

    rows: list[list[Content]] = field(default_factory=list)
    aligns: list[str] = field(default_factory=list)


class _Setter:
    """Takes the tokens of the parser in order and makes lines of them. Flat: no recursion, however deep the nesting."""

    def __init__(self, width: int, highlighted: bool) -> None:
        self.lines: list[Line] = []
        self._width = width
        self._highlighted = highlighted
        self._frames: list[_Frame] = []
        self._lists: list[_List] = []
        self._table: _Table | None = None
        self._style = ""
        self._handlers: Mapping[str, Callable[[Token], None]] = {
            "heading_open": self._heading,
            "paragraph_open": self._paragraph,
            "inline": self._inline,
            "fence": self._code,
            "code_block": self._code,
            "hr": self._rule,
            "blockquote_open": self._quote,
            "blockquote_close": lambda _: self._leave(),
            "bullet_list_open": self._list,
            "ordered_list_open": self._list,
            "bullet_list_close": lambda _: self._leave_list(),
            "ordered_list_close": lambda _: self._leave_list(),
            "list_item_open": self._item,
            "list_item_close": lambda _: self._leave(),
            "table_open": self._open_table,
            "tr_open": self._row,
            "th_open": self._header_cell,
            "table_close": self._close_table,
        }

    def feed(self, token: Token) -> None:
        handler = self._handlers.get(token.type)
        if handler is not None:
            handler(token)

    def _heading(self, token: Token) -> None:
        self._gap()
        self._style = _HEADINGS.get(token.tag, "bold")

    def _paragraph(self, token: Token) -> None:
        self._style = ""
        if not token.hidden:
            self._gap()

    def _inline(self, token: Token) -> None:
        text = inline(token.children or [])
        if self._table is not None:
            self._table.rows[-1].append(text)
            return
        self._text(text.stylize(self._style) if self._style else text)
        self._style = ""

    def _code(self, token: Token) -> None:
        self._gap()
        code = sanitise(token.content).rstrip("\n").expandtabs(4)
        language = token.info.split()[0].lower() if token.info.split() else ""
        room = max(self._room() - 2, 1)
        for line in (coloured(code, language) if self._highlighted else Content(code)).split("\n", allow_blank=True):
            for number, piece in enumerate(line.fold(room)):
                padded = Content.assemble(" ", piece, " " * (room - piece.cell_length + 1)).stylize_before(_CODE)
                self._add(padded, "" if number else "\n", layout=1)

    def _rule(self, _: Token) -> None:
        self._gap()
        self._add(Content.styled("─" * min(self._room(), 40), MUTED))

    def _quote(self, _: Token) -> None:
        self._gap()
        self._frames.append(_Frame("▎ ", "▎ ", tight=False))

    def _list(self, token: Token) -> None:
        self._gap()
        number = int(token.attrs.get("start", 1)) if token.type == "ordered_list_open" else -1
        self._lists.append(_List(number, bool(token.meta.get("loose")), _BULLETS[len(self._lists) % len(_BULLETS)]))

    def _leave_list(self) -> None:
        self._lists.pop()

    def _item(self, _: Token) -> None:
        current = self._lists[-1]
        if current.loose and current.begun:
            self._blank()
        current.begun = True
        mark = f"{current.bullet} " if current.number < 0 else f"{current.number}. "
        current.number += current.number >= 0
        self._frames.append(_Frame(mark, " " * len(mark), tight=not current.loose))

    def _leave(self) -> None:
        frame = self._frames[-1]
        if not frame.used and frame.first != frame.rest:
            self._add(Content())
        self._frames.pop()

    def _open_table(self, _: Token) -> None:
        self._gap()
        self._table = _Table()

    def _row(self, _: Token) -> None:
        if self._table is not None:
            self._table.rows.append([])

    def _header_cell(self, token: Token) -> None:
        if self._table is not None:
            self._table.aligns.append(str(token.attrs.get("style", "")).removeprefix("text-align:"))

    def _close_table(self, _: Token) -> None:
        table, self._table = self._table, None
        if table is not None and table.rows:
            for line in set_table(table.rows, table.aligns, self._room()):
                self._add(line)

    def _room(self) -> int:
        return max(self._width - sum(len(frame.rest) for frame in self._frames), _NARROWEST)

    def _gap(self) -> None:
        """A blank line before a block, except at the top, within a close list, and where its list item or quotation begins."""
        if self.lines and (not self._frames or (self._frames[-1].used and not self._frames[-1].tight)):
            self._blank()

    def _blank(self) -> None:
        self.lines.append(Line(Content.styled("".join(frame.rest for frame in self._frames).rstrip(), MUTED)))

    def _text(self, text: Content) -> None:
        """A paragraph: outside of lists and quotations one line that the widget wraps, else wrapped here to hang."""
        for line in text.split("\n", allow_blank=True):
            if not self._frames:
                self._add(line)
                continue
            rest, join = line.plain, "\n"
            for piece in line.wrap(self._room()):
                self._add(piece, join)
                rest = rest[len(piece.plain) :]
                join = " " if rest[:1].isspace() else ""
                rest = rest.lstrip()

    def _add(self, text: Content, join: str = "\n", layout: int = 0) -> None:
        marks = "".join(frame.rest if frame.used else frame.first for frame in self._frames)
        fresh = any(not frame.used for frame in self._frames)
        for frame in self._frames:
            frame.used = True
        line = Content.assemble((marks, MUTED), text) if marks else text
        continued = join != "\n" or layout > 0
        self.lines.append(Line(line, join, len(marks) + layout if continued and not fresh else 0))


def _mark_loose(tokens: Iterable[Token]) -> None:
    """Note at each list whether its items stand apart: one of them holds a paragraph of its own."""
    opened: list[Token] = []
    for token in tokens:
        if token.type in ("bullet_list_open", "ordered_list_open"):
            opened.append(token)
        elif token.type in ("bullet_list_close", "ordered_list_close"):
            opened.pop()
        elif token.type == "paragraph_open" and opened and not token.hidden and token.level == opened[-1].level + 2:
            opened[-1].meta["loose"] = True


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    return new_parser()
