"""What the right route would have been: a domain, known or new, a way of reasoning, a model, or several of these.

Ends with mode, domain and model, a line each, where an empty one leaves that part open; or with None. Not covered: what the
router learns of it (`Session.correct_route`), and answering again (`tui.widgets.conversation`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message

from data.sanitise import one_line
from tui import keys, modes
from tui.background import in_background
from tui.modes import MODES
from tui.screens.modes import DomainPicker, Domains, domain_row, matches, mode_row
from tui.screens.picker import Row

WAYS = tuple(mode for mode in MODES if mode.name != "auto")
Models = Callable[[], Sequence[str]]
"""Finds the references of the models that there are; slow, called in a thread, never raises PointsmanError."""


class WrongRouteScreen(DomainPicker):
    """Enter marks a row, ctrl+s keeps what is marked. The models come below the modes, as soon as they are found."""

    @dataclass
    class FoundModels(Message):
        """The references of the models."""

        models: tuple[str, ...]

    BINDINGS: ClassVar[list[BindingType]] = [*keys.ROUTE]
    HEADING = "What would have been right?  enter marks, ctrl+s keeps it and answers again"
    PLACEHOLDER = "type to narrow, or the name of a new domain"
    CONTEXTS = ("Lists", "A wrong route")

    def __init__(self, domains: Domains, domain: str, mode: str, models: Models = tuple, model: str = "") -> None:
        super().__init__(domains)
        self._was = {"domain": domain, "mode": mode, "model": model}
        self._marked = dict.fromkeys(self._was, "")
        self._find_models = models
        self._models: tuple[str, ...] = ()

    def begin(self) -> None:
        """Draw what is known, and ask for domains and models."""
        super().begin()
        in_background("models", lambda: self.post_message(self.FoundModels(tuple(self._find_models()))))

    def draw(self) -> None:
        """Domains, the ways of reasoning, the models, and the new domain that what is typed may be."""
        typed = " ".join(self.filter.value.split())
        words = typed.casefold().split()
        names = [name for name in dict.fromkeys((*self.names, self._marked["domain"])) if name]
        groups = [
            [self._row(name) for name in names if matches(words, f"domain {name}")],
            [
                mode_row(mode, mode.name == self._marked["mode"])
                for mode in WAYS
                if matches(words, f"{mode.title} {mode.name} {mode.line}")
            ],
            [self._model_row(name) for name in self._models if matches(words, f"model {name}")],
        ]
        rows: list[Row] = []
        for group in groups:
            rows += [Row("", Content("")), *group] if rows and group else group
        if typed and typed not in names:
            fresh = Content.assemble("  ", Content.styled("new domain ", "$text-accent"), one_line(typed, 60))
            rows.append(Row(f"domain:{typed}", fresh))
        self.show(rows)

    def action_choose(self) -> None:
        """Mark the highlighted row, or take its mark away."""
        field, _, value = self.highlighted.partition(":")
        if field:
            self._marked[field] = "" if value == self._marked[field] else value
        self.filter.value = ""
        self.draw()
        parts = (one_line(self._marked["domain"], 40), modes.word(self._marked["mode"]), one_line(self._marked["model"], 60))
        said = " · ".join(part for part in parts if part)
        self.note(f"{said}: ctrl+s keeps it" if said else "")

    def action_save(self) -> None:
        """End with what is marked."""
        if not any(self._marked.values()):
            self.note("nothing is marked yet: enter marks the highlighted line")
        elif all(value in ("", self._was[field]) for field, value in self._marked.items()):
            self.note("that is the route it took")
        else:
            self.dismiss("\n".join(self._marked[field] for field in ("mode", "domain", "model")))

    def _row(self, name: str) -> Row:
        return domain_row(
            name, name == self._marked["domain"], "", "domain, as it was" if name == self._was["domain"] else "domain"
        )

    def _model_row(self, name: str) -> Row:
        note = "model, as it was" if name == self._was["model"] else "model"
        marked = "● " if name == self._marked["model"] else "  "
        return Row(f"model:{name}", Content.assemble(marked, one_line(name, 80), Content.styled(f"  {note}", "$foreground-muted")))

    @on(FoundModels)
    def _found_models(self, message: FoundModels) -> None:
        self._models = message.models
        self.draw()
