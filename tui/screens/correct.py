"""Correcting an answer: its text in an editor; what is saved is what the answer should have been.

Ends with the corrected text, or None. Not covered: storing it.
"""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import Footer, Static, TextArea

from data.sanitise import sanitise
from tui import keys


class CorrectScreen(Screen[str | None]):
    """A full screen of text."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.CORRECTION]
    CSS_PATH = "correct.tcss"
    CONTEXTS = ("Correcting an answer",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = sanitise(text)
        self._warned = False

    def compose(self) -> ComposeResult:
        """Heading, the text, a note, and the keys."""
        yield Static("What should the answer have been?", id="heading", markup=False)
        yield TextArea(self._text, id="correction", soft_wrap=True, highlight_cursor_line=False, compact=True)
        yield Static("", id="note", markup=False)
        yield Footer(compact=True)

    def action_save(self) -> None:
        """End with the text; an unchanged one is no correction."""
        text = self.query_one(TextArea).text
        if text == self._text or not text.strip():
            self.query_one("#note", Static).update("nothing was changed, so there is nothing to keep")
        else:
            self.dismiss(text)

    def action_leave(self) -> None:
        """Go back; changes that would be lost are asked about once."""
        if self.query_one(TextArea).text != self._text and not self._warned:
            self._warned = True
            self.query_one("#note", Static).update("the change is not kept: ctrl+s keeps it, escape again drops it")
        else:
            self.dismiss(None)
