"""What happened before an answer: a line for each step and each call of a tool, folded to one line once the answer is there.

A click on a line opens it: what came of the step, the arguments of the call and its result. Untrusted text, shown as
written. Not covered: what is cited, which stands below the answer (outcome.py).
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from textual import events
from textual.app import RenderResult
from textual.content import Content
from textual.geometry import Size
from textual.reactive import var
from textual.selection import Selection
from textual.widget import Widget

from data.sanitise import one_line, sanitise
from tui.trace import Call, Step, Trace

LIVE_ROWS: Final = 8
"""Rows shown at most while the answer is on its way: the newest."""
OPEN_CHARACTERS: Final = 8_000
"""Characters of one opened text; a tool's result has no more."""
OPEN_ROWS: Final = 400
"""Lines of one opened text."""
PREVIEW: Final = 300
"""Characters of arguments and result that a line may take before it is cut to the width."""
FAILED: Final = "$text-error not dim"
STRANGE: Final = "$text-warning not dim"
_MARKS: Final = {"done": ("✓", ""), "failed": ("✗", FAILED), "started": ("…", "")}

Row = tuple[Content, int]
"""A line on the screen and the item that it belongs to, -1 for the head."""


class TraceView(Widget, inherit_bindings=False):
    """The steps and calls of one answer."""

    DEFAULT_CSS = """
    TraceView { width: 1fr; height: auto; text-style: dim; }
    TraceView.-open { margin-bottom: 1; }
    """

    virtual_size: var[Size] = var(Size(0, 0))  # Textual's own lays the whole screen out a second time after each change

    def __init__(self, trace: Trace, *, live: bool) -> None:
        super().__init__(markup=False)
        self.auto_links = False  # there are none
        self._trace = trace
        self._live = live
        self._open = False
        self._opened: set[int] = set()
        self._set: tuple[int, list[Row]] = (-1, [])  # the rows, and the width for which they were set

    @property
    def is_open(self) -> bool:
        """Whether the single lines are displayed, not for being on their way."""
        return self._open

    def refresh_rows(self) -> None:
        """Something happened."""
        self._set = (-1, [])
        self.set_class(self._open, "-open")
        self.refresh(layout=True)

    def done(self) -> None:
        """The answer is there; fold."""
        if self._live:
            self._live = False
            self.refresh_rows()

    def unfold(self, whole: bool) -> None:
        """Open everything, or fold to one line."""
        self._open = whole
        self._opened = set(range(len(self._trace.items))) if whole else set()
        self.refresh_rows()

    def on_click(self, event: events.Click) -> None:
        """A click opens or folds what it falls on, unless it ended the selection of text."""
        event.stop()
        rows = self._rows(self.content_size.width)
        if self.text_selection is not None or not 0 <= event.y < len(rows):
            return
        item = rows[event.y][1]
        if item < 0:
            self._open = not self._open
            self._opened.clear()
        else:
            self._opened ^= {item}
        self.refresh_rows()

    def render(self) -> RenderResult:
        """The rows."""
        return Content("\n").join(row for row, _ in self._rows(self.content_size.width))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The number of rows at `width` cells."""
        return len(self._rows(width))

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text."""
        return selection.extract("\n".join(row.plain for row, _ in self._rows(self.content_size.width))), "\n"

    def _rows(self, width: int) -> list[Row]:
        if self._set[0] != width:
            self._set = (width, self._laid_out(max(width, 8)))
        return self._set[1]

    def _laid_out(self, width: int) -> list[Row]:
        items = list(enumerate(self._trace.items))
        shown = items if self._open else items[-LIVE_ROWS:] if self._live else []
        rows = [(Content(f"{'▾' if shown else '▸'} {summary(self._trace)}"), -1)]
        for number, item in shown:
            rows.append((_line(item).truncate(width, ellipsis=True), number))
            if number in self._opened:
                rows += [(line, number) for line in _inside(item, width)]
        return rows


def summary(trace: Trace) -> str:
    """The trace on one line: `3 steps · 2 tool calls, 1 failed`."""
    parts = []
    for what, found, failed in (
        ("step", len(trace.steps), sum(step.state == "failed" for step in trace.steps)),
        ("tool call", len(trace.calls), sum(call.failed for call in trace.calls)),
    ):
        if found:
            parts.append(f"{found} {what}{'' if found == 1 else 's'}{f', {failed} failed' if failed else ''}")
    return " · ".join(parts)


def _line(item: Step | Call) -> Content:
    """An item on one line."""
    if isinstance(item, Step):
        tries = f" · tried {item.tries} times" if item.tries > 1 else ""
        return Content.assemble(_mark(item.state), f"{item.number}. {one_line(item.title, PREVIEW)}{tries}")
    arguments = ", ".join(f"{one_line(str(key), 40)}: {_short(value)}" for key, value in item.arguments.items())
    parts: list[str | Content] = [_mark(_state(item)), f"{one_line(item.name, 60)}({one_line(arguments, PREVIEW)})"]
    if item.result is not None:
        parts.append(f" → {one_line(item.result, PREVIEW)}" if not item.untrusted else " → ")
    if item.untrusted:
        parts += [Content.styled("untrusted", STRANGE), f" {one_line(item.result or '', PREVIEW)}"]
    return Content.assemble(*parts)


def _inside(item: Step | Call, width: int) -> list[Content]:
    """What an opened item holds, wrapped and indented."""
    if isinstance(item, Step):
        return _indented(item.text or ("nothing came of it" if item.state == "done" else ""), width)
    lines = _indented(_long(item.arguments), width) if item.arguments else []
    if item.result is None:
        return lines
    kind = "failed" if item.failed else "result"
    strangers = Content.styled(" · untrusted: text of a file or a server", STRANGE) if item.untrusted else Content()
    head = Content.assemble("    ", Content.styled(kind, FAILED) if item.failed else kind, strangers)
    return [*lines, head, *_indented(item.result, width)]


def _indented(text: str, width: int) -> list[Content]:
    shown = sanitise(text[:OPEN_CHARACTERS]).strip("\n").expandtabs(4)
    if not shown:
        return []
    lines = Content(shown).wrap(max(width - 4, 4))
    left = len(text) - OPEN_CHARACTERS
    more = [Content(f"    … {left:,} more characters")] if left > 0 else []
    more += [Content(f"    … {len(lines) - OPEN_ROWS:,} more lines")] if len(lines) > OPEN_ROWS else []
    return [*(Content("    ") + line for line in lines[:OPEN_ROWS]), *more]


def _mark(state: str) -> Content:
    mark, style = _MARKS.get(state, _MARKS["started"])
    return Content.assemble("  ", Content.styled(mark, style) if style else mark, " ")


def _state(call: Call) -> str:
    return "started" if call.result is None else "failed" if call.failed else "done"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _long(arguments: Mapping[str, Any]) -> str:
    """The arguments, one below the other; text of several lines begins on a line of its own."""
    parts = []
    for key, value in arguments.items():
        text = _short(value)
        parts.append(f"{key}:\n{text}" if "\n" in text else f"{key}: {text}")
    return "\n".join(parts)
