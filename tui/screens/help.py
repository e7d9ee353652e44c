"""The keys that work on the screen one came from, as they are set now. Not covered: the palette, which lists commands."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static

from tui import keys

WIDTH = 16
"""Columns of the keys; what needs more has a line of its own."""


class HelpScreen(Screen[None]):
    """One line a key."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.HELP]
    CSS_PATH = "help.tcss"

    def __init__(self, contexts: Sequence[str], keymap: Mapping[str, str]) -> None:
        super().__init__()
        self._contexts = contexts
        self._keymap = keymap

    def compose(self) -> ComposeResult:
        """A table for each context."""
        yield Static("Keys", id="heading", markup=False)
        with VerticalScroll(id="keys"):
            for context in self._contexts:
                yield Static(_table(context, keys.CONTEXTS[context], self._keymap))
        yield Footer(compact=True)


def _table(context: str, bindings: Sequence[Binding], keymap: Mapping[str, str]) -> Content:
    lines = [Content.styled(context, "bold")]
    for binding in bindings:
        key = keymap.get(binding.id or "", binding.key).replace(",", " ")
        gap = " " * (WIDTH - len(key)) if len(key) < WIDTH else f"\n{' ' * (WIDTH + 2)}"
        lines.append(Content.assemble("  ", Content.styled(key, "$text-accent"), gap, binding.tooltip or binding.description))
    return Content("\n").join(lines)
