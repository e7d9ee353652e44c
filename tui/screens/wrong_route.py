"""What the right route would have been: a domain, known or new, a way of reasoning, or both.

Ends with `MODE:DOMAIN`, where an empty name leaves that part open, or with None. Not covered: what the router learns of it
(`Session.correct_route`).
"""

from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content

from data.sanitise import one_line
from tui import keys, modes
from tui.modes import MODES
from tui.screens.modes import DomainPicker, Domains, domain_row, matches, mode_row
from tui.screens.picker import Row

WAYS = tuple(mode for mode in MODES if mode.name != "auto")


class WrongRouteScreen(DomainPicker):
    """Enter marks a row, ctrl+s keeps what is marked."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.ROUTE]
    HEADING = "What would have been right?  enter marks, ctrl+s keeps it"
    PLACEHOLDER = "type to narrow, or the name of a new domain"
    CONTEXTS = ("Lists", "A wrong route")

    def __init__(self, domains: Domains, domain: str, mode: str) -> None:
        super().__init__(domains)
        self._was = domain, mode
        self._domain = self._mode = ""

    def draw(self) -> None:
        """Domains, the ways of reasoning, and the new domain that what is typed may be."""
        typed = " ".join(self.filter.value.split())
        words = typed.casefold().split()
        names = [name for name in dict.fromkeys((*self.names, self._domain)) if name]
        rows = [self._row(name) for name in names if matches(words, f"domain {name}")]
        ways = [mode for mode in WAYS if matches(words, f"{mode.title} {mode.name} {mode.line}")]
        rows += [Row("", Content(""))] if rows and ways else []
        rows += [mode_row(mode, mode.name == self._mode) for mode in ways]
        if typed and typed not in names:
            fresh = Content.assemble("  ", Content.styled("new domain ", "$text-accent"), one_line(typed, 60))
            rows.append(Row(f"domain:{typed}", fresh))
        self.show(rows)

    def action_choose(self) -> None:
        """Mark the highlighted row, or take its mark away."""
        field, _, value = self.highlighted.partition(":")
        if field == "domain":
            self._domain = "" if value == self._domain else value
        elif field:
            self._mode = "" if value == self._mode else value
        self.filter.value = ""
        self.draw()
        said = " · ".join(part for part in (one_line(self._domain, 40), modes.word(self._mode)) if part)
        self.note(f"{said}: ctrl+s keeps it" if said else "")

    def action_save(self) -> None:
        """End with what is marked."""
        domain, mode = self._was
        if not (self._domain or self._mode):
            self.note("nothing is marked yet: enter marks the highlighted line")
        elif self._domain in ("", domain) and self._mode in ("", mode):
            self.note("that is the route it took")
        else:
            self.dismiss(f"{self._mode}:{self._domain}")

    def _row(self, name: str) -> Row:
        return domain_row(name, name == self._domain, "", "domain, as it was" if name == self._was[0] else "domain")
