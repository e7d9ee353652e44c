"""A list that narrows as one types: the common part of the session list and the model picker.

The rows are replaced only when they differ from those on the screen, and the highlighted row stays highlighted. Not
covered: where rows come from.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from tui import keys

TAKEN = frozenset(key for binding in (*keys.LIST, *keys.SESSIONS) for key in binding.key.split(","))
"""Keys of the lists, which the line to type in must leave alone."""


@dataclass(frozen=True)
class Row:
    """A line of the list. id: what choosing it yields; "" for a line that only informs."""

    id: str
    content: Content


def _without(taken: Set[str], bindings: Iterable[BindingType]) -> Iterator[BindingType]:
    for binding in Binding.make_bindings(bindings):
        if binding.key not in taken:
            yield binding


class Filter(Input, inherit_bindings=False):
    """The line to type in, without the keys that act on the list."""

    BINDINGS: ClassVar[list[BindingType]] = [*_without(TAKEN, Input.BINDINGS)]


class Picker(Screen[str | None]):
    """Ends with the id of the chosen row, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.LIST]
    CSS_PATH = "picker.tcss"
    AUTO_FOCUS = "#filter"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-normal")]
    HEADING: ClassVar[str] = ""
    PLACEHOLDER: ClassVar[str] = ""
    CONTEXTS: ClassVar[tuple[str, ...]] = ("Lists",)

    def compose(self) -> ComposeResult:
        """Heading, the line to type in, the rows, a note, and the keys."""
        yield Static(self.HEADING, id="heading", markup=False)
        yield Filter(placeholder=self.PLACEHOLDER, id="filter", compact=True)
        yield OptionList(id="rows", markup=False, compact=True)
        yield Static("", id="note", markup=False)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Keep the widgets at hand, and begin empty."""
        self.filter = self.query_one("#filter", Filter)
        self.list = self.query_one("#rows", OptionList)
        self._rows: tuple[Row, ...] = ()
        self.begin()

    def begin(self) -> None:
        """Start finding rows."""

    def show(self, rows: Sequence[Row], highlight: str = "") -> None:
        """Replace the rows; the highlight stays on its row where that is still there, else goes to `highlight` or the first."""
        if tuple(rows) == self._rows:
            return
        current = highlight or self.highlighted
        self._rows = tuple(rows)
        with self.app.batch_update():
            self.list.set_options(Option(row.content, disabled=not row.id) for row in self._rows)
            choosable = [index for index, row in enumerate(self._rows) if row.id]
            again = next((index for index in choosable if self._rows[index].id == current), None)
            self.list.highlighted = again if again is not None else next(iter(choosable), None)

    def note(self, text: str) -> None:
        """Say something below the list."""
        self.query_one("#note", Static).update(text)

    @property
    def highlighted(self) -> str:
        """The id of the highlighted row, or ""."""
        index = self.list.highlighted
        return self._rows[index].id if index is not None and index < len(self._rows) else ""

    def action_cursor(self, step: int) -> None:
        """Highlight the row above or below."""
        (self.list.action_cursor_up if step < 0 else self.list.action_cursor_down)()

    def action_page(self, step: int) -> None:
        """Highlight a row one screenful away."""
        (self.list.action_page_up if step < 0 else self.list.action_page_down)()  # type: ignore[no-untyped-call]

    def action_choose(self) -> None:
        """End with the highlighted row."""
        if self.highlighted:
            self.dismiss(self.highlighted)

    def action_leave(self) -> None:
        """Forget what was typed; where nothing was, go back."""
        if self.filter.value:
            self.filter.value = ""
        else:
            self.dismiss(None)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_choose()
