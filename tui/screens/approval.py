"""The question before a tool writes, runs or uses the network. "No" has the focus and is what escape and enter mean.

No letter answers it: it may appear while one types. Not covered: who is asked when there is no screen (`tui.commands.ask`).
"""

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from tui import approval, keys

if TYPE_CHECKING:
    from router.tools import Answer, Wish

CHOICES: dict[str, tuple[str, "Answer"]] = {
    "no": ("No", "no"),
    "once": ("Once", "once"),
    "always": ("Always in this session", "always"),
}


class ApprovalScreen(ModalScreen["Answer"]):
    """Ends with once, always or no."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.APPROVAL]
    CSS_PATH = "approval.tcss"
    AUTO_FOCUS = "#no"

    def __init__(self, wish: "Wish") -> None:
        super().__init__()
        self._wish = wish

    def compose(self) -> ComposeResult:
        """What is wanted, by what, with which arguments, and the answers that may be given."""
        wish = self._wish
        text = approval.call(wish)
        lines = text.count("\n") + 1
        with Vertical(id="dialog"):
            yield Static(approval.headline(wish), id="headline", markup=False)
            if wish.tainted:
                yield Static(approval.TAINTED, id="tainted", markup=False)
            with VerticalScroll(id="arguments", can_focus=False) as box:
                box.border_title = "the call" if lines < 2 else f"the call, {lines} lines"
                yield Static(text, markup=False)
            with Horizontal(id="answers"):
                for choice, (label, answer) in CHOICES.items():
                    if not (answer == "always" and wish.tainted):
                        yield Button(label, id=choice, compact=True)

    def action_refuse(self) -> None:
        """No."""
        self.dismiss("no")

    def action_page(self, step: int) -> None:
        """Scroll the arguments."""
        box = self.query_one("#arguments", VerticalScroll)
        (box.scroll_page_up if step < 0 else box.scroll_page_down)(animate=False)

    @on(Button.Pressed)
    def _answered(self, event: Button.Pressed) -> None:
        event.stop()
        self.dismiss(CHOICES[event.button.id or "no"][1])
