"""What the chat can do, in a minute: one page after the other. Not covered: every key (`tui.screens.help`)."""

from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static

from tui import keys

PAGES: Final = (
    (
        "Ask",
        "Type, and press enter. While an answer comes you may go on typing: questions wait in line. escape stops an answer, and "
        "its text is kept.\n\n@ puts a file before the model; a long text that you paste becomes a chip. $EDITOR is ctrl+g.",
    ),
    (
        "See why",
        "Under each answer stands which model gave it, in which way of reasoning, and why. ctrl+o opens it all: thinking, steps, "
        "tools, evidence. shift+tab takes the next way of reasoning; f2 shows them all.\n\nWas the route wrong? alt+up selects an "
        "answer, w says so: it is answered again, and the router remembers.",
    ),
    (
        "Say what is good",
        "With an answer selected: + and - rate it, 1 to 5 give stars, m is a remark, e writes what it should have been, u takes it "
        "back. ctrl+b has two models answer, blind, and you say which is better.\n\nAll of it stays on this machine, and becomes "
        "training data when you want it to.",
    ),
    (
        "Go back and sideways",
        "r answers again, < and > walk through versions, f asks on from an earlier answer, t shows the tree.\n\nctrl+s finds "
        "chats, with filters such as rating:good since:7d tag:work. alt+n begins a chat that leaves no trace.",
    ),
    (
        "Everything else",
        "/ lists commands, ctrl+p the palette, f1 the keys of the place you are in.\n\nTraining, models, data and registry have "
        "screens of their own: begin with / and their name.",
    ),
)


class TourScreen(Screen[None]):
    """A page at a time."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.TOUR]
    CSS_PATH = "tour.tcss"
    CONTEXTS = ("Tour",)

    def __init__(self) -> None:
        super().__init__()
        self._page = 0

    def compose(self) -> ComposeResult:
        """The page, and the keys."""
        yield Static("", id="page", markup=False)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """The first page."""
        self._draw()

    def action_turn(self, step: int) -> None:
        """The page before or after; after the last one the tour ends."""
        self._page = max(self._page + step, 0)
        if self._page >= len(PAGES):
            self.dismiss(None)
        else:
            self._draw()

    def action_leave(self) -> None:
        """Go back."""
        self.dismiss(None)

    def _draw(self) -> None:
        title, words = PAGES[self._page]
        place = Content.styled(f"  {self._page + 1} of {len(PAGES)}", "$foreground-muted")
        self.query_one("#page", Static).update(Content.assemble(Content.styled(title, "bold"), place, "\n\n", words))
