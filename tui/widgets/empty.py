"""What a new chat shows instead of a transcript: which models were found, how to send, and the first keys.

It is complete without any of the findings, so nothing waits for them. Not covered: finding them (see `tui.survey`).
"""

from collections.abc import Iterable

from textual.content import Content
from textual.widgets import Static

from data.sanitise import one_line

SUGGESTIONS = (
    "Explain what a large language model is, in three sentences.",
    "Plan a weekend with children in a town by the sea.",
    "Write a regular expression that finds dates such as 2026-01-31, and explain it.",
)
"""Questions for a beginning; alt and the number puts one into the prompt."""
HINTS = (
    ("enter", "asks; ctrl+j breaks the line"),
    ("ctrl+l", "chooses another model"),
    ("f2", "chooses the way of reasoning"),
    ("@", "puts a file before the model"),
    ("/", "runs a command, such as /tour"),
    ("ctrl+s", "finds earlier chats"),
    ("f1", "shows every key"),
)


class EmptyState(Static):
    """A few lines in the middle of the screen."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._found: tuple[str, ...] = ("looking for models …",)
        self._cut_off = ""

    def on_mount(self) -> None:
        """Draw what is known on the first frame."""
        self.update(self._content())

    def show(self, found: Iterable[str]) -> None:
        """Replace the findings, one line each; model names in them are untrusted and sanitised here."""
        self._found = tuple(one_line(line, 200) for line in found)
        self.update(self._content())

    def show_cut_off(self, title: str) -> None:
        """Say that the last answer was cut off in the chat of that title, which is untrusted."""
        self._cut_off = one_line(title, 100)
        self.update(self._content())

    def _content(self) -> Content:
        lines = [Content.styled("What would you like to know?", "bold"), Content("")]
        lines += [Content.assemble(Content.styled(f"{key:>7}", "$text-accent"), f"  {words}") for key, words in HINTS]
        if self._cut_off:
            key = Content.styled("  alt+r", "$text-warning")
            lines.append(Content.assemble(key, f"  goes back to the answer that was cut off in: {self._cut_off}"))
        lines += [Content(""), *(Content.styled(line, "$foreground-muted") for line in self._found), Content("")]
        numbered = enumerate(SUGGESTIONS, 1)  # last: they are what a small terminal can do without
        lines += [Content.assemble(Content.styled(f"  alt+{n}", "$text-accent"), f"  {words}") for n, words in numbered]
        return Content("\n").join(lines)
