"""A model's thinking: its last lines while it thinks, one line afterwards, all of it when opened.

Untrusted text, shown as written. Not covered: whether a model thinks at all; the widget hides while there is nothing.
"""

from typing import Final

from textual import events
from textual.content import Content
from textual.selection import Selection
from textual.widgets import Static

from data.sanitise import sanitise

LIVE_LINES: Final = 4
LIVE_CHARACTERS: Final = 600
"""How much of the end is shown while the model thinks: drawing stays cheap however long that takes."""


class Thoughts(Static):
    """The thinking of one answer."""

    DEFAULT_CSS = """
    Thoughts { text-style: dim; width: 1fr; }
    Thoughts:hover { text-style: dim underline; }
    Thoughts.-open:hover { text-style: dim; }
    Thoughts.-open { margin-bottom: 1; }
    Thoughts.-empty { display: none; }
    """

    def __init__(self, text: str, seconds: float, *, live: bool) -> None:
        super().__init__(markup=False)
        self._text = text
        self._seconds = seconds
        self._thinks = live
        self._open = False
        self._draw()

    def think(self, text: str, seconds: float) -> None:
        """The thinking so far, and for how many seconds it has been going on."""
        self._text, self._seconds, self._thinks = text, seconds, True
        self._draw()

    def done(self, text: str, seconds: float) -> None:
        """The thinking is over; fold it."""
        self._text, self._seconds, self._thinks = text, seconds, False
        self._draw()

    @property
    def is_open(self) -> bool:
        """Whether all of it is displayed."""
        return self._open

    def unfold(self, whole: bool) -> None:
        """Open or fold it."""
        self._open = whole
        self.set_class(whole, "-open")
        self._draw()

    def on_click(self, event: events.Click) -> None:
        """A click opens or folds it, unless it ended the selection of text."""
        event.stop()
        if self.text_selection is None:
            self.unfold(not self._open)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text."""
        return selection.extract(str(self.visual)), "\n"

    def _draw(self) -> None:
        self.set_class(not self._text, "-empty")
        if not self._text:
            return
        seconds = f" {self._seconds:.0f} s" if self._seconds >= 0.5 else ""
        head = f"thinking…{seconds}" if self._thinks else f"thought for{seconds}" if seconds else "thought"
        body = ""
        if self._open:
            body = sanitise(self._text).strip("\n")
        elif self._thinks:
            body = "\n".join(sanitise(self._text[-LIVE_CHARACTERS:]).strip("\n").split("\n")[-LIVE_LINES:])
        mark = "▾" if self._open or self._thinks else "▸"
        self.update(Content(f"{mark} {head}" + (f"\n{body}" if body else "")))
