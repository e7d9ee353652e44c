"""Why an answer took its route, and the key that says it was the wrong one.

Ends with the right route, else with None. Not covered: how the evidence is set (widgets/evidence.py), and what would change
the route (`pointsman why`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static

from tui import keys
from tui.screens.modes import Domains
from tui.screens.wrong_route import Models, WrongRouteScreen
from tui.widgets.evidence import evidence

if TYPE_CHECKING:
    from data.store import Inference


@dataclass(frozen=True, slots=True)
class Route:
    """The right route; "" leaves that part open."""

    domain: str = ""
    mode: str = ""
    model: str = ""

    @classmethod
    def of(cls, marked: str) -> "Route":
        """The route that the screen of a wrong one ends with."""
        mode, domain, model = marked.split("\n")
        return cls(domain, mode, model)


class WhyScreen(Screen[Route | None]):
    """A full screen of text."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.WHY]
    CSS_PATH = "why.tcss"
    CONTEXTS = ("Why this route",)

    def __init__(self, inference: "Inference", domains: Domains, models: Models = tuple) -> None:
        super().__init__()
        self._inference = inference
        self._domains = domains
        self._models = models

    def compose(self) -> ComposeResult:
        """Heading, the decision, and the keys."""
        yield Static("Why this route", id="heading", markup=False)
        with VerticalScroll(id="why"):
            for part in explained(self._inference):
                yield Static(part, markup=False)
        yield Footer(compact=True)

    def action_leave(self) -> None:
        """Go back."""
        self.dismiss(None)

    @work
    async def action_wrong(self) -> None:
        """Say which route was the right one."""
        was = self._inference
        screen = WrongRouteScreen(self._domains, was.domain, was.mode, self._models, was.model)
        right = await self.app.push_screen_wait(screen)
        if right:
            self.dismiss(Route.of(right))


def explained(inference: "Inference") -> list[Content]:
    """The parts of the panel, one below the other."""
    return evidence(inference.decision, inference.model, inference.mode, inference.domain)
