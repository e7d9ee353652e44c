"""Text of any length in one widget: Markdown or plain, set for the widget's own width.

A change of width sets the text anew at once where it has never been set, and otherwise when `refit` is called, so that
whoever holds many of these can leave those alone that nobody sees; until then the widget wraps the lines it has.
Not covered: when to call `refit` (the transcript knows what is near the screen).
"""

from dataclasses import dataclass

from textual.app import RenderResult
from textual.content import Content
from textual.geometry import Size
from textual.reactive import var
from textual.selection import Selection
from textual.widget import Widget

from tui.widgets.typeset import Line, Page, Setting, page, typeset


@dataclass(frozen=True, slots=True)
class Part:
    """A text and how it is set."""

    text: str
    setting: Setting = "markdown"


class Prose(Widget, inherit_bindings=False):
    """Parts of untrusted text below one another, a blank line between them."""

    DEFAULT_CSS = """
    Prose { width: 1fr; height: auto; }
    """

    virtual_size: var[Size] = var(Size(0, 0))  # Textual's own lays the whole screen out a second time after each change

    def __init__(self, text: str = "", setting: Setting = "markdown", *, classes: str = "") -> None:
        super().__init__(classes=classes, markup=False)
        self.auto_links = False  # there are none
        self._parts = [Part(text, setting)] if text else []
        self._set = 0  # how many parts the page holds
        self._page: Page = page((), 0)

    @property
    def characters(self) -> int:
        """The length of the text."""
        return sum(len(part.text) for part in self._parts)

    @property
    def stale(self) -> bool:
        """Whether the lines were set for another width than the widget has now."""
        return bool(self._parts) and self._page.width != self.content_size.width

    def show(self, text: str, setting: Setting = "markdown") -> None:
        """Show this text and nothing else."""
        part = Part(text, setting)
        if self._parts != [part]:
            self._parts = [part] if text else []
            self._set = 0
            self._changed()

    def grow(self, text: str) -> None:
        """Add a part of Markdown below."""
        self._parts.append(Part(text))
        self._changed()

    def refit(self) -> None:
        """Set the text for the width that the widget has now."""
        if self.stale:
            self._set = 0
            self._changed()

    def render(self) -> RenderResult:
        """The page."""
        return self._page.content

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The height at `width` cells; sets what has not been set yet."""
        if self._set < len(self._parts):
            self._fit(width)
        return self._page.content.get_height({}, width) if self._parts else 0

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text with the line breaks of its source."""
        return self._page.selected(selection), "\n"

    def _changed(self) -> None:
        """Set the text now where the width is known, and lay the screen out only if the height changes."""
        size = self.content_size
        if not size.width:
            self.refresh(layout=True)
            return
        self._fit(size.width)
        height = self._page.content.get_height({}, size.width) if self._parts else 0
        self.refresh(layout=height != size.height)

    def _fit(self, width: int) -> None:
        kept: list[Line] = [] if self._page.width != width or self._set == 0 else list(self._page.lines)
        parts = self._parts if not kept else self._parts[self._set :]
        for part in parts:
            lines = typeset(part.text, width, part.setting).lines
            if kept and lines:
                kept.append(Line(Content()))
            kept.extend(lines)
        self._page = page(kept, width)
        self._set = len(self._parts)
