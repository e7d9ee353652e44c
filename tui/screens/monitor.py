"""How each model does in each domain beside its own 30 days before, what got worse, and whether other things are asked than before.

Not covered: reading the log and the statistics (`data.monitor`), the page (`tui.monitor_page`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.content import Content

from data.sanitise import one_line
from tui import screen_keys
from tui.screens.browse import Browse
from tui.screens.picker import Row
from tui.screens.words import blocks, lines, muted, named, title

if TYPE_CHECKING:
    from data.monitor import Look
    from data.monitor import Row as Line
    from data.store import Store
    from data.store.measures import Figures

DAYS = 7
MOST_DAYS = 365
DRIFT, UNKNOWN = "drift", "unknown"
NAME = 14
"""Columns of a figure's name, and of each of both values."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A figure now and before, in words."""

    name: str
    now: str
    before: str


class MonitorScreen(Browse):
    """Alarms, models and the mix of domains."""

    BINDINGS: ClassVar[list[BindingType]] = [*screen_keys.MONITOR]
    CONTEXTS = ("Rows and details", "Monitor")
    HEADING = "Monitor"
    NOTHING = "the log has no answers of these days"

    def __init__(self, store: "Store") -> None:
        super().__init__()
        self._store = store
        self._days = DAYS
        self._found: Look | None = None

    def read(self) -> "Look":
        """See `Browse.read`."""
        from data import monitor

        return monitor.look(self._store.database, days=self._days)

    def draw(self, found: "Look") -> None:
        """See `Browse.draw`."""
        self._found = found
        count = len(found.alarms)
        said = f"{count} alarm{'' if count == 1 else 's'}" if count else "no alarm"
        self.heading(f"Monitor: the last {self._days} days, {said} of {found.looked_at} questions asked")
        self.show(list(_listed(found)))

    def about(self, key: str) -> Content | None:
        """See `Browse.about`."""
        kind, _, number = key.partition(":")
        found = self._found
        if found is None:
            return Content()
        if kind == "alarm":
            alarm = found.alarms[int(number)]
            return blocks(
                title("alarm"), Content(one_line(alarm.line, 600)), muted(f"it counts from an e-value of {alarm.limit:,.0f} on")
            )
        if kind == "row":
            return _figures(found.rows[int(number)])
        if kind == DRIFT and found.drift:
            mix = [
                named(name or "no domain", f"{count:,}, before {found.drift.before.get(name, 0):,}")
                for name, count in found.drift.now.items()
            ]
            words = f"population stability index {found.drift.index:.2f}, by chance up to {found.drift.by_chance:.2f}"
            return blocks(lines(title("the mix of domains"), muted(words)), lines(*mix))
        return lines(title("what the log does not tell"), *(Content(f"· {one_line(words, 400)}") for words in found.unknown))

    def action_days(self) -> None:
        """Look at another number of days."""
        self.ask("days to look at", self._look_at, value=str(self._days), check=_wrong)

    def action_page(self) -> None:
        """Write the page."""
        self.ask("the page's file", self._write, value="monitor.html", check=lambda file: "" if file.strip() else "name a file")

    def _look_at(self, days: str) -> None:
        self._days = int(days)
        self.action_reload()

    def _write(self, file: str) -> None:
        self.do("writing …", lambda: self._written(Path(file.strip()).expanduser()), lambda: None)

    def _written(self, file: Path) -> str:
        from data import monitor
        from tui import monitor_page

        monitor_page.write(file, monitor.look(self._store.database, days=self._days, by_day=True))
        return f"the page is {file}"


def _listed(found: "Look") -> Iterator[Row]:
    for number, alarm in enumerate(found.alarms):
        yield Row(f"alarm:{number}", Content.assemble(Content.styled("! ", "$text-error"), one_line(alarm.line, 200)))
    for number, row in enumerate(found.rows):
        bad = f", {_share(row.now.bad, row.now.answers)} bad"
        words = f"  {row.domain or 'no domain'}, {row.now.answers:,} answers{bad}"
        yield Row(f"row:{number}", Content.assemble("  ", one_line(row.model, 60), muted(words, 100)))
    if found.rows and found.drift:
        mark = "! " if found.drift.warns else "  "
        yield Row(DRIFT, Content(f"{mark}the mix of domains is {'another' if found.drift.warns else 'no other'} than before"))
    if found.rows:
        yield Row(UNKNOWN, Content.assemble("  ", muted("what the log does not tell")))


def _figures(row: "Line") -> Content:
    stage = f"{row.version.stage} " if row.version else ""
    head = Content.styled(f"{'':<{NAME}}{'now':<{NAME}}30 days before", "$foreground-muted")
    told = [Content(f"{pair.name:<{NAME}}{pair.now:<{NAME}}{pair.before}") for pair in _pairs(row.now, row.before)]
    return blocks(lines(title(row.model), muted(f"{stage}in {row.domain or 'no domain'}")), lines(head, *told))


def _pairs(now: "Figures", before: "Figures") -> Iterator[Pair]:
    def shares(name: str, part: str, whole: str = "answers") -> Pair:
        return Pair(name, *(_share(getattr(one, part), getattr(one, whole)) for one in (now, before)))

    def numbers(name: str, part: str, digits: int) -> Pair:
        return Pair(name, *(_number(getattr(one, part), digits) for one in (now, before)))

    yield Pair("answers", f"{now.answers:,}", f"{before.answers:,}")
    yield shares("bad", "bad")
    yield shares("rated", "rated")
    yield shares("thumbs down", "thumbs_down", "rated")
    yield shares("asked again", "regenerated")
    yield Pair("failed", *(_share(one.errors + one.interrupted, one.answers) for one in (now, before)))
    yield shares("cut", "truncated")
    yield shares("refused~", "refused")
    yield shares("JSON bad", "json_invalid", "json_asked")
    yield numbers("first token s", "ttft_p50_s", 2)
    yield numbers("its p95 s", "ttft_p95_s", 2)
    yield numbers("tokens/s", "tokens_per_s", 1)
    yield numbers("tokens", "tokens", 0)


def _wrong(days: str) -> str:
    return "" if days.strip().isdecimal() and 1 <= int(days) <= MOST_DAYS else f"a whole number from 1 to {MOST_DAYS}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
