"""What a new chat shows instead of a transcript: which models were found, how to send, and the first keys.

It is complete without any of the findings, so nothing waits for them. Not covered: finding them (see `tui.survey`).
"""

from collections.abc import Iterable

from textual.content import Content
from textual.widgets import Static

from data.sanitise import one_line

HINTS = (
    ("enter", "asks; ctrl+j breaks the line"),
    ("ctrl+l", "chooses another model"),
    ("f2", "chooses the way of reasoning"),
    ("@", "puts a file before the model"),
    ("ctrl+s", "finds earlier chats"),
    ("f1", "shows every key"),
)


class EmptyState(Static):
    """A few lines in the middle of the screen."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._found: tuple[str, ...] = ("looking for models …",)

    def on_mount(self) -> None:
        """Draw what is known on the first frame."""
        self.update(self._content())

    def show(self, found: Iterable[str]) -> None:
        """Replace the findings, one line each; model names in them are untrusted and sanitised here."""
        self._found = tuple(one_line(line, 200) for line in found)
        self.update(self._content())

    def _content(self) -> Content:
        lines = [Content.styled("What would you like to know?", "bold"), Content("")]
        lines += [Content.assemble(Content.styled(f"{key:>7}", "$text-accent"), f"  {words}") for key, words in HINTS]
        lines += [Content(""), *(Content.styled(line, "$foreground-muted") for line in self._found)]
        return Content("\n").join(lines)
