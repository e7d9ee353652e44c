"""The picker of the way of reasoning, and of the domain, for the chat that is open.

Ends with `mode:NAME` or `domain:NAME`, where an empty name leaves it to the router. Not covered: the model (screens/models.py).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from textual import on
from textual.content import Content
from textual.message import Message
from textual.widgets import Input

from data.errors import PointsmanError
from data.sanitise import one_line
from tui.background import in_background
from tui.modes import MODES, Mode
from tui.screens.picker import Picker, Row

WIDTH = max(len(mode.title) for mode in MODES) + 2
"""Columns of the first word of a row."""
Domains = Callable[[], Sequence[str]]


class DomainPicker(Picker):
    """A picker that finds the names of the known domains in a thread."""

    @dataclass
    class Found(Message):
        """The names, or why there are none."""

        names: tuple[str, ...]
        fault: str = ""

    def __init__(self, domains: Domains) -> None:
        super().__init__()
        self._domains = domains
        self.names: tuple[str, ...] = ()

    def begin(self) -> None:
        """Draw what is known, and ask for the domains."""
        self.draw()
        in_background("domains", self._look)

    def draw(self) -> None:
        """Show the rows that match what is typed."""

    def _look(self) -> None:
        try:
            self.post_message(self.Found(tuple(self._domains())))
        except PointsmanError as fault:
            self.post_message(self.Found((), str(fault)))

    @on(Found)
    def _found(self, message: Found) -> None:
        self.names = message.names
        if message.fault:
            self.note(one_line(message.fault, 300))
        self.draw()

    @on(Input.Changed)
    def _typed(self) -> None:
        self.draw()


class ModesScreen(DomainPicker):
    """Mode and domain of this chat."""

    HEADING = "How to answer in this chat"
    PLACEHOLDER = "type to narrow"

    def __init__(self, domains: Domains, mode: str, domain: str) -> None:
        super().__init__(domains)
        self._mode = mode
        self._domain = domain

    def draw(self) -> None:
        """The modes, then the domains."""
        words = self.filter.value.casefold().split()
        found = [mode for mode in MODES if matches(words, f"{mode.title} {mode.name} {mode.line}")]
        rows = [mode_row(mode, mode.name == self._mode) for mode in found]
        names = (
            [name for name in ("", *self.names) if matches(words, f"domain {name or 'any'}")] if self.names or self._domain else []
        )
        rows += [Row("", Content(""))] if rows and names else []
        rows += [domain_row(name, name == self._domain, "the router chooses the domain") for name in names]
        self.show(rows or [Row("", Content.styled("  nothing matches", "$foreground-muted"))], self._start(words))

    def _start(self, words: Sequence[str]) -> str:
        return "" if words or self.highlighted else f"mode:{self._mode}"


def matches(words: Iterable[str], text: str) -> bool:
    """Whether each word is somewhere in the text."""
    return all(word in text.casefold() for word in words)


def mode_row(mode: Mode, marked: bool) -> Row:
    """The row of a mode: its title and its line."""
    line = Content.styled(mode.line, "$foreground-muted")
    return Row(f"mode:{mode.name}", Content.assemble("● " if marked else "  ", f"{mode.title:<{WIDTH}}", line))


def domain_row(name: str, marked: bool, nothing: str, note: str = "domain") -> Row:
    """The row of a domain, `nothing` being the words for none."""
    shown = f"{one_line(name, 40):<{WIDTH}}" if name else f"{'Any domain':<{WIDTH}}"
    muted = Content.styled(note if name else nothing, "$foreground-muted")
    return Row(f"domain:{name}", Content.assemble("● " if marked else "  ", shown, muted))
