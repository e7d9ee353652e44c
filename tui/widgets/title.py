"""The thin bar on top: what the conversation is called, and which model answers in it."""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from data.sanitise import one_line

NAMELESS = "New chat"


class TitleBar(Horizontal):
    """Title to the left, model to the right; both come from outside and are sanitised here."""

    def compose(self) -> ComposeResult:
        """The two texts."""
        yield Static(NAMELESS, id="title-text", markup=False)
        yield Static("", id="title-model", markup=False)

    def show(self, title: str, model: str) -> None:
        """Display the conversation's title ("" is a new chat) and the model's reference."""
        self.query_one("#title-text", Static).update(one_line(title, 120) or NAMELESS)
        self.query_one("#title-model", Static).update(one_line(model, 60))
