"""One line of words that something is asked for: a remark, a title, tags, a file's name.

Ends with what was typed, without spaces around it, or with None. Not covered: what becomes of it.
"""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from data.sanitise import one_line
from tui import keys

LONGEST = 4_000
"""Characters of a line."""


class LineScreen(ModalScreen[str | None]):
    """A box with a heading and a line. empty: whether nothing typed is an answer as well."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.LINE]
    CSS_PATH = "line.tcss"
    CONTEXTS = ("One line",)
    AUTO_FOCUS = "#line"

    def __init__(self, heading: str, text: str = "", hint: str = "enter keeps it, escape leaves", *, empty: bool = False) -> None:
        super().__init__()
        self._heading = heading
        self._text = text
        self._hint = hint
        self._empty = empty

    def compose(self) -> ComposeResult:
        """Heading, the line, what the keys do."""
        with Vertical(id="box"):
            yield Static(one_line(self._heading, 200), id="heading", markup=False)
            yield Input(one_line(self._text, LONGEST), id="line", compact=True, max_length=LONGEST)
            yield Static(self._hint, id="hint", markup=False)

    def action_keep(self) -> None:
        """End with what is typed."""
        words = self.query_one(Input).value.strip()
        if words or self._empty:
            self.dismiss(words)

    def action_leave(self) -> None:
        """End with nothing."""
        self.dismiss(None)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_keep()
