"""The monitor's page: one HTML file with its plots inside, light and dark, that needs no network and runs no script.

Names of models and domains are untrusted: sanitised, escaped and cut. Not covered: what was measured (data/monitor.py), the frame
and the tables (trainer/page.py), the drawing (data/plots.py).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from data import paths, plots, statistics
from data.monitor import BASELINE_DAYS, Look, Row
from data.store.measures import Figures
from trainer import page

LINES = 6
"""Models and domains, those with the most answers, that the plots over time show."""


def html(found: Look) -> str:
    """The page. Raises InputError where matplotlib is not installed."""
    days = (found.until - found.since).days
    title = f"Monitor · {found.since:%d %B %Y} to {found.until:%d %B %Y}"
    told = f"{sum(row.now.answers for row in found.rows):,} answers in {days} days, beside the {BASELINE_DAYS} days before"
    parts = [f"<h1>{page.text(title)}</h1>", f"<p class='sub'>{page.text(told)}</p>", _alarms(found), _mix(found)]
    if found.rows:
        parts += [_counts(found), _speeds(found), _plots(found)]
    parts += ["<h2>What cannot be known</h2>", "<ul>", *(f"<li>{page.text(one)}</li>" for one in found.unknown), "</ul>"]
    return page.document(title, parts)


def write(file: Path, found: Look) -> None:
    """Write the page. Raises InputError where the file cannot be written, or matplotlib is not installed."""
    whole = html(found).encode("utf-8", "replace")
    with paths.replacing(file) as out:
        out.write(whole)


def _alarms(found: Look) -> str:
    known = (
        f"{found.looked_at} questions were asked of these days; where nothing has changed, one look in twenty raises any at most"
    )
    if not found.alarms:
        return f"<h2>Alarms</h2><p>None. <span class='soft'>{page.text(known)}</span></p>"
    rows = [(one.line, f"{one.e_value:.3g}", f"{one.limit:.0f}") for one in found.alarms]
    return page.table("Alarms", ("what rose or fell", "#e-value", "#needed"), rows, known)


def _mix(found: Look) -> str:
    drift = found.drift
    if drift is None:
        return ""
    said = "another mix than before" if drift.warns else "no other mix than before"
    limit = max(statistics.DRIFTED, drift.by_chance)
    under = f"population stability index {drift.index:.2f}, {said} (it warns above {limit:.2f})"
    names = sorted({*drift.now, *drift.before}, key=lambda one: -drift.now.get(one, 0))
    now, before = sum(drift.now.values()), sum(drift.before.values())
    values = {
        "now": {one or "no domain": 100 * drift.now.get(one, 0) / now for one in names},
        "before": {one or "no domain": 100 * drift.before.get(one, 0) / before for one in names},
    }
    return f"<h2>Domains of the questions</h2><p>{page.text(under)}</p>" + plots.bars(
        "Mix of domains", values, unit="% of the questions"
    )


def _counts(found: Look) -> str:
    header = ("model and domain", "", "#answers", "#rated", "#thumbs down", "#asked again", "#failed", "#truncated", "#empty")
    more = ("#refused (guess)", "#invalid JSON")
    rows = []
    for row in found.rows:
        for when, one in (("now", row.now), ("before", row.before)):
            rows.append((_name(row) if when == "now" else "", when, f"{one.answers:,}", *_shares(one)))
    under = "rated: share of answers with a thumb or stars; thumbs down: of the rated; invalid JSON: of those held to a schema"
    return page.table("Answers", (*header, *more), rows, under)


def _shares(one: Figures) -> tuple[str, ...]:
    """The shares of a row: rated, thumbs down, asked again, failed, truncated, empty, refused, invalid JSON."""
    failed = one.errors + one.interrupted
    return (
        _share(one.rated, one.answers),
        _share(one.thumbs_down, one.rated),
        *(_share(part, one.answers) for part in (one.regenerated, failed, one.truncated, one.empty, one.refused)),
        _share(one.json_invalid, one.json_asked),
    )


def _speeds(found: Look) -> str:
    header = (
        "model and domain",
        "",
        "#first token p50 s",
        "#p95 s",
        "#tokens/s",
        "#tokens an answer",
        "#stars",
        "#stopped by the user",
    )
    rows = []
    for row in found.rows:
        for when, one in (("now", row.now), ("before", row.before)):
            measured = (_number(one.ttft_p50_s, 2), _number(one.ttft_p95_s, 2), _number(one.tokens_per_s), _number(one.tokens, 0))
            rows.append((_name(row) if when == "now" else "", when, *measured, _number(one.stars), f"{one.stopped:,}"))
    return page.table("Speed and length", header, rows, "speed and length are medians of whole answers")


def _plots(found: Look) -> str:
    def drawn(title: str, unit: str, value: Callable[[Figures], float | None]) -> str:
        series = {}
        today = int(found.until.timestamp() // 86_400)
        for row in found.rows[:LINES]:
            days = found.days[row.model, row.domain]
            points = [(float(day - today), known) for day, one in days.items() if (known := value(one)) is not None]
            if points:
                series[_name(row)] = points
        return (
            plots.lines(title, series, x=f"days before {datetime.fromtimestamp(today * 86_400, UTC):%d %B}", y=unit)
            if series
            else ""
        )

    pictures = (
        drawn("Answers a day", "answers", lambda one: float(one.answers)),
        drawn("Answers with any sign against them", "%", lambda one: 100 * one.bad / one.answers if one.answers else None),
        drawn("Time to first token", "s (median)", lambda one: one.ttft_p50_s),
        drawn("Speed", "tokens/s (median)", lambda one: one.tokens_per_s),
        drawn("Length", "tokens (median)", lambda one: one.tokens),
    )
    return f"<h2>Day by day</h2><div class='plots'>{''.join(pictures)}</div>"


def _name(row: Row) -> str:
    """A model in a domain, with the stage that the registry has it in."""
    stage = f" ({row.version.stage})" if row.version else ""
    return f"{row.model}{stage} · {row.domain or 'no domain'}"


def _share(part: int, whole: int) -> str:
    return page.share(part / whole if whole else None)


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
