"""The thin bar on top: what the conversation is called, and which model answers in it."""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from data.sanitise import one_line

NAMELESS = "New chat"
PRIVATE = "incognito: nothing is kept"


class TitleBar(Horizontal):
    """Title to the left, model to the right; both come from outside and are sanitised here."""

    def compose(self) -> ComposeResult:
        """The two texts."""
        yield Static(NAMELESS, id="title-text", markup=False)
        yield Static("", id="title-model", markup=False)

    def show(self, title: str, model: str, private: bool = False) -> None:
        """Display the conversation's title ("" is a new chat), whether it leaves no trace, and the model's reference."""
        shown = one_line(title, 120) or NAMELESS
        self.query_one("#title-text", Static).update(f"{PRIVATE} · {shown}" if private else shown)
        self.query_one("#title-model", Static).update(one_line(model, 60))
