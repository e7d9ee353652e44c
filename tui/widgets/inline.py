"""Running text of a Markdown document as styled text: emphasis, code, and links and images with their address in sight.

Nothing is clickable and nothing is interpreted as markup of Rich or Textual. Not covered: blocks (typeset.py).
"""

from collections.abc import Iterable
from typing import Final

from markdown_it.token import Token
from textual.content import Content, Span

from data.sanitise import sanitise

MUTED: Final = "dim"  # not a colour: it also works without colours
_STYLES: Final = {"em": "italic", "strong": "bold", "s": "strike", "link": "underline"}


def inline(tokens: Iterable[Token]) -> Content:
    """The tokens as one text; line breaks of the source become spaces, hard breaks line feeds."""
    run = _Run()
    for token in tokens:
        run.feed(token)
    return Content("".join(run.parts), run.spans)


def plain(text: str) -> str:
    """Text on one line; entities may have spelled control characters, so it is sanitised after parsing too."""
    return sanitise(text).replace("\n", " ").replace("\t", " ")


class _Run:
    """Text under construction. Flat: no recursion, however deep the emphasis is nested."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.spans: list[Span] = []
        self._length = 0
        self._opened: list[tuple[int, int, str, str]] = []  # start in characters and in parts, style, address

    def feed(self, token: Token) -> None:
        kind = token.type
        if kind == "hardbreak":
            self._add("\n")
        elif kind == "softbreak":
            self._add(" ")
        elif kind == "code_inline":
            self._add(plain(token.content), "$text-warning")
        elif kind == "image":
            self._add(f"image: {plain(token.content)}", "italic")
            self._add(f" ({plain(str(token.attrs.get('src', '')))})", MUTED)
        elif kind.endswith("_open"):
            style = _STYLES.get(kind.removesuffix("_open"), "")
            self._opened.append((self._length, len(self.parts), style, plain(str(token.attrs.get("href", "")))))
        elif kind.endswith("_close"):
            self._close()
        else:
            self._add(plain(token.content))

    def _close(self) -> None:
        start, first, style, address = self._opened.pop()
        if style:
            self.spans.append(Span(start, self._length, style))
        title = "".join(self.parts[first:]) if address else ""
        if address not in ("", title, f"mailto:{title}"):
            self._add(f" ({address})", MUTED)

    def _add(self, text: str, style: str = "") -> None:
        self.parts.append(text)
        if style:
            self.spans.append(Span(self._length, self._length + len(text), style))
        self._length += len(text)
