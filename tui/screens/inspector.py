"""The data inspector: what the log would train on and why, what is left out and why, what is redacted; a key keeps an answer out.

Not covered: building a dataset (`pointsman data build --log`), rows of files.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.content import Content

from data.datasets.inspection import Inspected, Item
from data.sanitise import one_line, sanitise
from tui import lookup, screen_keys
from tui.screens.browse import Browse
from tui.screens.picker import Row
from tui.screens.words import blocks, lines, muted, named, title

if TYPE_CHECKING:
    from data.datasets.rows import Row as Sample
    from data.store import Store

VIEWS = ("all rows", "those that train", "those left out")
SHOWN_CHARS = 4000
PLACEHOLDER = re.compile(r"<[A-Z][A-Z_]{2,40}>")
"""How a redacted value is shown in a text."""
WORDS = {
    "label": "a label",
    "instruction": "an answer to imitate",
    "chat": "a conversation to imitate",
    "preference": "a better answer and a worse one",
    "thumb": "an answer judged good or bad",
    "correction": "your correction of an answer",
    "feedback": "labels said to be right or wrong",
}


@dataclass(frozen=True, slots=True)
class Everything:
    """What the screen shows: the rows of a domain ("" for all), and the domains there are."""

    found: Inspected
    domains: tuple[str, ...] = ("",)


class InspectorScreen(Browse):
    """Rows of the log as training would see them."""

    BINDINGS: ClassVar[list[BindingType]] = [*screen_keys.INSPECTOR]
    CONTEXTS = ("Rows and details", "Training data")
    HEADING = "What would be trained on"
    NOTHING = "nothing yet: rate or correct an answer, and it becomes a row"

    def __init__(self, store: "Store") -> None:
        super().__init__()
        self._store = store
        self._everything = Everything(Inspected(()))
        self._domain = ""
        self._view = 0

    def read(self) -> Everything:
        """See `Browse.read`."""
        from data import domains
        from data.datasets import inspection

        pack = domains.load(self._domain) if self._domain else None
        return Everything(inspection.inspect(self._store, pack), ("", *inspection.domains_of(self._store)))

    def draw(self, found: Everything) -> None:
        """See `Browse.draw`."""
        self._everything = found
        items = found.found.items
        train = sum(trains(item) for item in items)
        where = self._domain or "all domains"
        self.heading(f"What would be trained on: {where}, {train} rows of {len(items)}, {VIEWS[self._view]}")
        if found.found.note:
            self.note(found.found.note)
        self.show(list(self._listed()))

    def about(self, key: str) -> Content | None:
        """See `Browse.about`."""
        item = self._item(key)
        return told(item) if item else Content()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only answers can be kept out that are not left out already."""
        if action != "exclude":
            return True
        item = self._item(self.highlighted) if self.is_mounted and self._rows else None
        return bool(item and item.key)

    def action_exclude(self) -> None:
        """Keep the answer out of training, or take it in again."""
        item = self._item(self.highlighted)
        if item:
            self.do("…", lambda: _put(item))

    def action_next_source(self) -> None:
        """Show the rows of the next domain."""
        names = self._everything.domains
        self._domain = names[(names.index(self._domain) + 1) % len(names)] if self._domain in names else ""
        self.note("reading …")
        self.action_reload()

    def action_view(self) -> None:
        """Show all rows, those that train, or those left out."""
        self._view = (self._view + 1) % len(VIEWS)
        self.draw(self._everything)

    def _item(self, key: str) -> Item | None:
        return next((item for item in self._everything.found.items if key == f"row:{item.number}"), None)

    def _listed(self) -> Iterator[Row]:
        for item in self._everything.found.items:
            if self._view == 0 or (self._view == 1) == trains(item):
                mark = "✓" if trains(item) else "✗" if item.kept_out else "–"
                kind = item.row.shape if item.row else item.by
                redacted = "▒ " if item.redacted else ""
                yield Row(
                    f"row:{item.number}",
                    Content.assemble(f"{mark} ", muted(f"{kind[:10]:<11}"), redacted, one_line(item.excerpt, 100)),
                )


def trains(item: Item) -> bool:
    """Whether a row would be trained on."""
    return item.row is not None and not item.kept_out


def told(item: Item) -> Content:
    """A row: what it teaches, why it is in or out, and its texts as a model would see them."""
    row = item.row
    state = "you keep this answer out; x takes it in again" if item.kept_out else "left out" if row is None else "it trains"
    if row is None:
        return blocks(lines(title(state), named("by", item.by), named("why", item.why)), _text("begins", item.excerpt))
    date = lookup.when(datetime.fromtimestamp(row.at, UTC)) if row.at else ""
    redacted = ", ".join(f"{kind} × {count}" for kind, count in item.redacted)
    return blocks(
        lines(
            title(state),
            named("why", WORDS.get(row.shape, row.shape)),
            named("for stages", ", ".join(_kinds(row)) or "none"),
            named("label", row.label),
            named("judged", "" if row.thumb is None else "good" if row.thumb else "bad"),
            named("said", date),
            named("redacted", redacted),
        ),
        *(_text(message.role, message.content) for message in row.before),
        _text("question", row.text),
        _text("answer wanted" if row.thumb is not False else "answer judged bad", row.completion),
        _text("answer rejected", row.rejected),
        _text("comment", row.comment),
    )


def _kinds(row: "Sample") -> list[str]:
    from trainer.material import teaches

    return [kind for kind in ("sft", "kto", "dpo") if teaches(row, kind)]


def _text(name: str, text: str) -> Content:
    """A text with its redactions set off."""
    if not text:
        return Content()
    shown = sanitise(text[:SHOWN_CHARS]) + (" …" if len(text) > SHOWN_CHARS else "")
    parts: list[Content] = []
    at = 0
    for found in PLACEHOLDER.finditer(shown):
        parts += [Content(shown[at : found.start()]), Content.styled(found.group(), "$text-warning reverse")]
        at = found.end()
    return Content.assemble(muted(name), "\n", *parts, Content(shown[at:]))


def _put(item: Item) -> str:
    from data.datasets import excluded

    excluded.put(item.key, not item.kept_out)
    return "this answer trains again" if item.kept_out else "this answer is kept out of training; the same key takes that back"
