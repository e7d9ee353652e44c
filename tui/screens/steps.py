"""The steps of a finished answer: one is done again, or written in other words, and the answer goes on from there.

Ends with the plan to take up: a step that keeps its text is not done again. Not covered: doing it (`router.modes.multi_step`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from data.sanitise import one_line
from tui import keys
from tui.trace import Step

if TYPE_CHECKING:
    from router.modes.base import Planned

MARKS = {"done": "✓", "failed": "✗"}
TITLE = 200
"""Characters of a step's title."""


class StepsScreen(Screen["tuple[Planned, ...] | None"]):
    """A list of the steps, and a line to write one anew."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.STEPS]
    CSS_PATH = "steps.tcss"
    CONTEXTS = ("Steps of an answer",)
    AUTO_FOCUS = "#steps"

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        self._steps = list(steps)

    def compose(self) -> ComposeResult:
        """Heading, the steps, the line, a note, and the keys."""
        yield Static("The steps of this answer", id="heading", markup=False)
        yield OptionList(*(Option(_row(step)) for step in self._steps), id="steps", markup=False, compact=True)
        yield Input(id="words", compact=True, max_length=TITLE)
        yield Static("r does the marked step again; e changes it, and what follows is done anew", id="note", markup=False)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Mark the first step that failed, else the first."""
        self._list = self.query_one(OptionList)
        self._list.highlighted = next((place for place, step in enumerate(self._steps) if step.state == "failed"), 0)
        self.query_one(Input).display = False

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a step is written only keeping it and leaving it work."""
        writing = self.query_one(Input).display
        return action not in ("retry", "edit") if writing else action != "keep"

    def action_retry(self) -> None:
        """Do the marked step again; the others stay, unless they failed as well."""
        self.dismiss(self._plan(self._list.highlighted or 0, None))

    def action_edit(self) -> None:
        """Write the marked step."""
        line = self.query_one(Input)
        line.value = self._steps[self._list.highlighted or 0].title
        line.display = True
        line.focus()
        self.refresh_bindings()

    def action_keep(self) -> None:
        """Go on with the step as it is written."""
        words = " ".join(self.query_one(Input).value.split())
        if words:
            self.dismiss(self._plan(self._list.highlighted or 0, words))

    def action_leave(self) -> None:
        """Leave the line, or the screen."""
        line = self.query_one(Input)
        if not line.display:
            self.dismiss(None)
            return
        line.display = False
        self._list.focus()
        self.refresh_bindings()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter keeps what is written."""
        event.stop()
        self.action_keep()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter or a click on a step writes it."""
        event.stop()
        self.action_edit()

    def _plan(self, place: int, words: str | None) -> "tuple[Planned, ...]":
        """The plan with the step at `place` to be done: as it was, or as `words` say, and then all that follow it too."""
        from router.modes.base import Planned

        plan = []
        for number, step in enumerate(self._steps):
            kept = step.state == "done" and number != place and not (words and number > place)
            plan.append(Planned(words if words and number == place else step.title, step.text if kept else ""))
        return tuple(plan)


def _row(step: Step) -> Content:
    head = f"{MARKS.get(step.state, '…')} {step.number}. {one_line(step.title, TITLE)}"
    said = one_line(step.text, 300)
    return Content.assemble(head, Content.styled(f"\n     {said}", "$foreground-muted") if said else "")
