"""Correcting an answer: its text in an editor, and below it word by word what differs from what the model wrote.

What is saved is what the answer should have been. Ends with the corrected text, or None. Not covered: storing it, and
finding the differences (`tui.diff`), which happens in a thread.
"""

from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer, Static, TextArea

from data.sanitise import sanitise
from tui import diff, keys
from tui.background import in_background
from tui.widgets.differences import drawn

PAUSE_S = 0.2
"""Seconds without a key before the differences are found."""


class CorrectScreen(Screen[str | None]):
    """A full screen of text. written: what the model wrote, where an earlier correction is corrected."""

    @dataclass
    class Compared(Message):
        """The differences between what was written and `text`."""

        text: str
        changes: tuple[diff.Change, ...]

    BINDINGS: ClassVar[list[BindingType]] = [*keys.CORRECTION]
    CSS_PATH = "correct.tcss"
    CONTEXTS = ("Correcting an answer",)

    def __init__(self, text: str, written: str = "") -> None:
        super().__init__()
        self._text = sanitise(text)
        self._written = sanitise(written or text)
        self._warned = False
        self._pause: Timer | None = None  # until the typing has paused

    def compose(self) -> ComposeResult:
        """Heading, the text, a note, and the keys."""
        yield Static("What should the answer have been?", id="heading", markup=False)
        yield TextArea(self._text, id="correction", soft_wrap=True, highlight_cursor_line=False, compact=True)
        with VerticalScroll(id="changes", can_focus=False):
            yield Static("", id="differences", markup=False)
        yield Static("", id="note", markup=False)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Compare once, and again whenever the typing pauses."""
        self._compare()

    @on(TextArea.Changed)
    def _typed(self) -> None:
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(PAUSE_S, self._compare)

    def _compare(self) -> None:
        text = self.query_one(TextArea).text
        in_background("diff", lambda: self.post_message(self.Compared(text, diff.words(self._written, text))))

    @on(Compared)
    def _compared(self, message: Compared) -> None:
        changed = any(change.kind != "same" for change in message.changes)
        if message.text == self.query_one(TextArea).text:
            self.query_one("#differences", Static).update(drawn(message.changes))
            self.query_one("#changes").display = changed

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
