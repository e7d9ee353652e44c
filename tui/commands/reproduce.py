"""`pointsman reproduce`: a training run again, from its own recipe, and how far the two are apart."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tui import output

if TYPE_CHECKING:
    from trainer.events import Event
    from trainer.reproduction import Reproduced

HELP = """Train a run again from its recipe and compare: losses step by step, figures, the adapter's weights.

RUN is the folder of a run, its name among your runs, or how that name begins. Where the data, the base or the recipe are not what
they were, it is refused with the difference. On the same machine a processor repeats a run to the last bit. The exit code is 3
where the repetition lies outside the limits.

\b
  pointsman reproduce triage-20261120-2104-1f2e3d4c
  pointsman reproduce FIRST --with SECOND      compares two runs that are there, trains nothing
"""


@click.command(help=HELP)
@click.argument("run")
@click.option("--out", default="", metavar="DIR", help="The folder that gets the new run; else where runs are kept.")
@click.option("--with", "other", default="", metavar="RUN", help="Compare with this run, train nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def command(run: str, out: str, other: str, as_json: bool) -> None:
    """Train a run again and compare."""
    from trainer import reproduction, run_folder

    folder = run_folder.find(run)
    if other:
        if out:
            raise click.UsageError("--out is for a new run, and --with trains none")
        found = reproduction.compare_runs(folder, run_folder.find(other))
    else:
        with output.Progress("reproduce", lambda count: f"{count:,.0f}") as progress:
            found = reproduction.reproduce(
                folder, out=Path(out).expanduser() if out else None, tell=lambda event: _told(progress, event)
            )
    if as_json:
        output.as_json(found.to_dict())
    else:
        _show(found)
    if not found.passed:
        from tui.cli import EXIT_GATE

        click.get_current_context().exit(EXIT_GATE)


def _told(progress: output.Progress, event: "Event") -> None:
    progress.show(" ".join(part for part in (event.doing, event.stage) if part), event.done, event.of)


def _show(found: "Reproduced") -> None:
    for note in found.around:
        output.note(f"not the same around the runs: {note}")
    for note in found.differences:
        output.line(f"not the same run: {note}")
    rows = [
        (
            one.name,
            _number(one.first),
            _number(one.second),
            _number(one.difference),
            f"{one.limit:g}",
            "same" if one.passed and not one.difference else "within" if one.passed else "OUTSIDE",
            one.note,
        )
        for one in found.measures
    ]
    output.table(("", "first", "second", "difference", "limit", "", ""), rows)
    output.line(f"adapter: {'equal to the last bit' if found.identical else 'other bytes'}")
    output.line(f"{found.second} {'reproduces' if found.passed else 'does NOT reproduce'} {found.first}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
