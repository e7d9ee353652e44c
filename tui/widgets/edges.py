"""The two ends of a transcript: how many messages there are above, and how many new lines below what is in sight.

Both only tell and ask; the transcript counts and moves.
"""

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Static


class Earlier(Static, can_focus=True):
    """The line above the oldest message: how many more there are. A click or enter brings them."""

    DEFAULT_CSS = """
    Earlier { text-style: dim; padding: 0 1 0 2; margin-bottom: 1; display: none; }
    Earlier:focus, Earlier:hover { text-style: underline; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "wanted", "Earlier messages", show=False)]

    class Wanted(Message):
        """Earlier messages are to be shown."""

    def count(self, turns: int) -> None:
        """Say how many earlier messages there are."""
        self.display = turns > 0
        self.update(f"↑ {turns:,} earlier {'message' if turns == 1 else 'messages'}")

    def action_wanted(self) -> None:
        """Ask for them."""
        self.post_message(self.Wanted())

    def on_click(self, event: events.Click) -> None:
        """Ask for them."""
        event.stop()
        self.action_wanted()


class NewLines(Static):
    """The note over the last line: how much came below while the user reads above. A click goes there."""

    DEFAULT_CSS = """
    NewLines {
        dock: bottom; layer: note; width: auto; padding: 0 1; margin-left: 1;
        background: $primary; color: $background; display: none;
    }
    NewLines:ansi { text-style: reverse; background: ansi_default; color: ansi_default; }
    """

    class Wanted(Message):
        """The newest text is to be shown."""

    def count(self, lines: int) -> None:
        """Say how many new lines there are; 0 hides the note."""
        self.display = lines > 0
        if lines > 0:
            self.update(f"↓ {lines:,} new {'line' if lines == 1 else 'lines'} below")

    def on_click(self, event: events.Click) -> None:
        """Go there."""
        event.stop()
        self.post_message(self.Wanted())
