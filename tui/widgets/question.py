"""What the user asked, as written: no Markdown, an accent gutter beside it. A long text is folded to its beginning.

Not covered: asking; a question knows only whether it still waits in line.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from textual import events
from textual.content import Content
from textual.selection import Selection
from textual.widgets import Static

from data.sanitise import sanitise
from tui.widgets.inline import MUTED

if TYPE_CHECKING:
    from data.store.rows import Turn

FOLD_LINES: Final = 30
FOLD_CHARACTERS: Final = 3_000
"""A question longer than these shows only its beginning until it is opened."""


@dataclass(slots=True)
class Question:
    """What a view of a question shows. sibling counts from 0."""

    turn_id: str
    text: str
    queued: bool = False
    sibling: int = 0
    siblings: int = 1

    @classmethod
    def of(cls, turn: "Turn") -> "Question":
        """The question as logged."""
        return cls(turn.id, turn.message.content, False, turn.sibling_index, turn.siblings)


class QuestionView(Static):
    """One question of the transcript."""

    DEFAULT_CSS = """
    QuestionView { border-left: outer $accent; padding: 0 1; margin-bottom: 1; width: 1fr; }
    QuestionView.-queued { text-style: italic dim; }
    QuestionView.-selected { border-left: thick $primary; }
    """

    def __init__(self, question: Question) -> None:
        super().__init__(markup=False, classes="-queued" if question.queued else "")
        self.question = question
        self._open = False
        self._draw()

    @property
    def turn_id(self) -> str:
        """The turn in the log; "" until it is there."""
        return self.question.turn_id

    @property
    def text(self) -> str:
        """The question as the user wrote it."""
        return self.question.text

    @property
    def queued(self) -> bool:
        """Whether it still waits in line."""
        return self.question.queued

    def confirm(self, turn_id: str) -> None:
        """The question is in the log."""
        self.question.turn_id = turn_id
        self.question.queued = False
        self.remove_class("-queued")
        self._draw()

    def set_siblings(self, index: int, count: int) -> None:
        """Say which of how many versions this is; `index` counts from 0."""
        self.question.sibling, self.question.siblings = index, count
        self._draw()

    def toggle(self) -> None:
        """Open or fold a long question."""
        self._open = not self._open
        self._draw()

    def on_click(self, event: events.Click) -> None:
        """A click on a folded question opens it."""
        if self._folded() and not self._open:
            event.stop()
            self.toggle()

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text without the notes below it."""
        return selection.extract(self._shown()), "\n"

    def _folded(self) -> bool:
        return len(self.text) > FOLD_CHARACTERS or self.text.count("\n") > FOLD_LINES

    def _shown(self) -> str:
        text = sanitise(self.text)
        if not self._folded() or self._open:
            return text
        return "\n".join(text[:FOLD_CHARACTERS].split("\n")[:FOLD_LINES])

    def _draw(self) -> None:
        notes = []
        shown = self._shown()
        if len(shown) < len(sanitise(self.text)):
            notes.append(f"… {len(self.text) - len(shown):,} more characters")
        if self.question.queued:
            notes.append("queued")
        if self.question.siblings > 1:
            notes.append(f"{self.question.sibling + 1}/{self.question.siblings}")
        note = Content.styled("\n" + " · ".join(notes), MUTED) if notes else Content()
        self.update(Content(shown) + note)
