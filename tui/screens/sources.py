"""The lines that an answer cites, among those around them: one citation after the other.

Not covered: finding them (`tui.sources`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, Static

from data.errors import PointsmanError
from data.sanitise import one_line, sanitise
from tui import keys, sources
from tui.background import in_background
from tui.sources import Passage
from tui.trace import Citation

if TYPE_CHECKING:
    from data.store import Store

MUTED = "$foreground-muted"
LONGEST = 2_000
"""Characters of one line that are shown."""


class SourcesScreen(Screen[None]):
    """One passage at a time."""

    @dataclass
    class Found(Message):
        """The lines of a citation, or why there are none."""

        place: int
        passage: Passage | None
        fault: str = ""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.SOURCES]
    CSS_PATH = "sources.tcss"
    CONTEXTS = ("Cited lines",)

    def __init__(self, store: "Store", conversation: str, cited: Sequence[Citation]) -> None:
        super().__init__()
        self._store = store
        self._conversation = conversation
        self._cited = list(cited)
        self._place = 0

    def compose(self) -> ComposeResult:
        """Heading, the lines, a note, and the keys."""
        yield Static("", id="heading", markup=False)
        with VerticalScroll(id="passage"):
            yield Static("", id="lines", markup=False)
        yield Static("", id="note", markup=False)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Show the first one."""
        self.action_turn(0)

    def action_turn(self, step: int) -> None:
        """Show the citation before or after this one."""
        self._place = (self._place + step) % len(self._cited)
        citation = self._cited[self._place]
        self.query_one("#heading", Static).update(f"{citation}  ({self._place + 1} of {len(self._cited)})")
        in_background("source", self._read, self._place, citation)

    def action_leave(self) -> None:
        """Go back."""
        self.dismiss(None)

    def _read(self, place: int, citation: Citation) -> None:
        try:
            self.post_message(self.Found(place, sources.passage(self._store, self._conversation, citation)))
        except PointsmanError as fault:
            self.post_message(self.Found(place, None, str(fault)))

    @on(Found)
    def _found(self, message: Found) -> None:
        if message.place != self._place:
            return
        passage = message.passage
        self.query_one("#note", Static).update(one_line(message.fault or (passage.note if passage else ""), 300))
        self.query_one("#lines", Static).update(_drawn(passage, self._cited[self._place]) if passage else "")
        self.query_one("#passage").scroll_home(animate=False)


def _drawn(passage: Passage, citation: Citation) -> Content:
    """The lines with their numbers; those that are cited bright and marked, which also works without colours."""
    shown = []
    for number, line in enumerate(passage.lines, passage.first):
        cited = citation.first_line <= number <= citation.last_line
        head = Content.styled(f"{'▌' if cited else ' '}{number:>6}  ", "$text-accent" if cited else MUTED)
        text = sanitise(line[:LONGEST]).replace("\n", " ").expandtabs(4)
        shown.append(Content.assemble(head, text if cited else Content.styled(text, MUTED)))
    return Content("\n").join(shown)
