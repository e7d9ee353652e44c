"""`pointsman monitor`: how each model does in each domain, what got worse, and whether other things are asked than before."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tui import output

if TYPE_CHECKING:
    from data.monitor import Drift, Look, Row
    from data.store.measures import Figures

HELP = """Show how each model did in each domain over the last days, beside its own 30 days before.

An alarm says what rose from what to what, over how many answers, with its e-value; where nothing has changed, one look in
twenty raises any alarm at most, however often you look. It asks nothing of any model, and reads the log only.

\b
  pointsman monitor
  pointsman monitor --domain triage --days 14
  pointsman monitor --html monitor.html
"""
HEADER = (
    "model",
    "domain",
    "answers",
    "rated",
    "down",
    "again",
    "failed",
    "cut",
    "refused~",
    "JSON bad",
    "first s",
    "p95 s",
    "tok/s",
    "tokens",
)


@click.command(help=HELP)
@click.option("--domain", default="", metavar="D", help="Only this domain.")
@click.option("--days", type=click.IntRange(1, 365), default=7, show_default=True, metavar="N", help="How many days.")
@click.option("--html", "page", default="", metavar="FILE", help="Write a page with plots as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def command(domain: str, days: int, page: str, as_json: bool) -> None:
    """Show how the models do."""
    from data import monitor
    from tui import opening

    settings = opening.settings()
    with opening.store(settings.store.url) as store:
        found = monitor.look(store.database, days=days, domain=domain, by_day=bool(page))
    if page:
        from tui import monitor_page

        monitor_page.write(Path(page).expanduser(), found)
        output.note(f"the page is {page}")
    if as_json:
        output.as_json(_plain(found))
    else:
        _show(found, domain, days)


def _show(found: "Look", domain: str, days: int) -> None:
    if not found.rows:
        where = f" in {domain!r}" if domain else ""
        output.note(f'the log has no answers of the last {days} days{where}; ask something: pointsman ask "..."')
        return
    rows = []
    for row in found.rows:
        rows += [_line(row, row.now), *([_line(None, row.before)] if row.before.answers else [])]
    output.table(HEADER, rows)
    output.line()
    if found.drift:
        output.line(_drift(found.drift))
    for alarm in found.alarms:
        output.raw(output.coloured("alarm: ", 31))
        output.line(alarm.line)
    if not found.alarms:
        output.line(f"no alarm, of {found.looked_at} questions asked")
    for one in found.unknown:
        output.note(f"not known: {one}")


def _line(row: "Row | None", one: "Figures") -> tuple[str, ...]:
    """A line of the table; row: None for the baseline's, below that of now."""
    name = f"{row.model} ({row.version.stage})" if row and row.version else row.model if row else "  30 days before"
    return (
        name,
        (row.domain or "-") if row else "",
        f"{one.answers:,}",
        _share(one.rated, one.answers),
        _share(one.thumbs_down, one.rated),
        *(_share(part, one.answers) for part in (one.regenerated, one.errors + one.interrupted, one.truncated, one.refused)),
        _share(one.json_invalid, one.json_asked),
        _number(one.ttft_p50_s, 2),
        _number(one.ttft_p95_s, 2),
        _number(one.tokens_per_s, 1),
        _number(one.tokens, 0),
    )


def _drift(found: "Drift") -> str:
    said = "another mix than before" if found.warns else "no other mix than before"
    return f"domains of the questions: {said} (population stability index {found.index:.2f}, by chance up to {found.by_chance:.2f})"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _plain(found: "Look") -> dict[str, Any]:
    """The JSON value: rows with figures now and before, alarms, drift, and what cannot be known."""
    drift = found.drift
    return {
        "since": found.since,
        "until": found.until,
        "baseline_since": found.baseline,
        "rows": [asdict(row) for row in found.rows],
        "alarms": [asdict(alarm) for alarm in found.alarms],
        "questions_asked": found.looked_at,
        "drift": {**asdict(drift), "warns": drift.warns} if drift else None,
        "unknown": list(found.unknown),
    }
