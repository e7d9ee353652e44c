"""The model picker: every model of every engine, found while one looks, for the chat that is open.

Not covered: downloading and removing models (`pointsman models`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import on
from textual.content import Content
from textual.message import Message
from textual.widgets import Input

from data.sanitise import one_line
from tui import survey
from tui.background import in_background
from tui.screens.picker import Picker, Row

if TYPE_CHECKING:
    from router.engines import Engines
    from router.engines.base import ModelInfo


class ModelsScreen(Picker):
    """Ends with a model reference."""

    @dataclass
    class Found(Message):
        """An engine has told its models; None: that was all."""

        listing: survey.Listing | None

    HEADING = "Models"
    PLACEHOLDER = "type to narrow"

    def __init__(self, engines: "Engines", current: str) -> None:
        super().__init__()
        self._engines = engines
        self._current = current
        self._found: list[survey.Listing] = []
        self._complete = False

    def begin(self) -> None:
        """Ask the engines, each as fast as it is."""
        self.note("looking for models …")
        in_background("models", self._look)

    def action_choose(self) -> None:
        """End with the highlighted model; where nothing matches, with what was typed, which the engine may know."""
        typed = self.filter.value.strip()
        if not self.highlighted and typed and self._complete:
            self.dismiss(typed)
            return
        super().action_choose()

    @on(Input.Changed)
    def _narrow(self) -> None:
        words = self.filter.value.casefold().split()
        rows: list[Row] = []
        for listing in self._found:
            if listing.problem and not words:
                rows.append(Row("", Content.styled(f"  {one_line(listing.line, 200)}", "$foreground-muted")))
            rows += [_row(model, self._current) for model in listing.models if all(word in _haystack(model) for word in words)]
        self.show(rows, "" if words or self.highlighted else self._current)
        unmatched = self._complete and words and not any(row.id for row in rows)
        wait = "" if self._complete else "looking for models …"
        self.note(f"no model matches; enter tries {one_line(self.filter.value, 60)!r} as it is" if unmatched else wait)

    def _look(self) -> None:
        for listing in survey.listings(self._engines):
            self.post_message(self.Found(listing))
        self.post_message(self.Found(None))

    @on(Found)
    def _listed(self, message: Found) -> None:
        if message.listing is None:
            self._complete = True
        else:
            self._found.append(message.listing)
        self._narrow()


def _row(model: "ModelInfo", current: str) -> Row:
    facts = (model.parameters, model.quantisation, _context(model.context_tokens), _size(model.size_bytes))
    mark = "● " if model.reference == current else "  "
    return Row(
        model.reference,
        Content.assemble(
            mark,
            one_line(model.reference, 80),
            Content.styled(f"  {one_line(' · '.join(filter(None, facts)), 80)}", "$foreground-muted"),
        ),
    )


def _haystack(model: "ModelInfo") -> str:
    return f"{model.reference} {model.family} {model.parameters} {model.quantisation}".casefold()


def _context(tokens: int) -> str:
    return f"{tokens // 1024}k context" if tokens >= 1024 else f"{tokens} context" if tokens else ""


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB" if size_bytes else ""
