"""`pointsman verify`: an export checked again, by its files and, where its run is still here, against the trained model."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tui import output

if TYPE_CHECKING:
    from export.exporting import Source

HELP = """Check an export again: digests, headers, loading, the Modelfile, and what it says beside the trained model.

DIR is the folder of an export, or its name among your exports. What needs the run is checked where the run is still here, and said
to be not checked where it is not. The exit code is 3 where a check failed.

\b
  pointsman verify triage-20261120-2104-1f2e3d4c
  pointsman verify ./models/triage --json
"""


@click.command(help=HELP)
@click.argument("folder", metavar="DIR")
@click.option("--files-only", is_flag=True, help="Do not look for the run: files alone, in seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def command(folder: str, files_only: bool, as_json: bool) -> None:
    """Check an export again."""
    from export.verify import verify
    from tui.commands import export as exporting

    place = _find(folder)
    source, why = (None, "--files-only was given") if files_only else _source(place)
    with output.Progress("verify", lambda count: f"{count:,.0f}") as progress:
        found, checks = verify(place, source, lambda step: exporting.told(progress, step), why=why)
    passed = all(one.passed is not False for one in checks)
    if as_json:
        output.as_json({"name": found.name, "folder": str(place), "passed": passed, "verify": exporting.plain(checks)})
    else:
        exporting.table(checks)
        output.line()
        failed = sum(one.passed is False for one in checks)
        output.line(f"{place}: {f'{failed} checks FAILED' if failed else 'all that could be checked passed'}")
    if not passed:
        from tui.cli import EXIT_GATE

        click.get_current_context().exit(EXIT_GATE)


def _find(given: str) -> Path:
    """The folder of an export: a path, or a name among the exports, or how one begins. Raises NotFound, InputError."""
    import os

    from data import exports
    from data.errors import InputError, NotFound
    from data.sanitise import one_line

    path = Path(given).expanduser()
    if os.path.isfile(path / exports.FILE) or os.path.isdir(path):  # no fault for a name that no file can have
        return path.absolute()
    names = [one.name for one, _ in exports.found()]
    begin = [name for name in names if name == given] or [name for name in names if given and name.startswith(given)]
    if len(begin) == 1:
        return exports.folder() / begin[0]
    if begin:
        raise InputError(f"{len(begin)} exports begin with {one_line(given)!r}: {', '.join(begin[-5:])}", "give more of the name")
    there = f"there are: {', '.join(names[-5:])}" if names else "make one: pointsman export RUN"
    raise NotFound(f"there is no export {one_line(given)!r}", there)


def _source(place: Path) -> "tuple[Source | None, str]":
    """The run of the export, or why it is not to be had."""
    from data import exports
    from data.errors import InputError, ModelError, NotFound, Offline
    from data.sanitise import one_line
    from trainer import run_folder
    from tui.commands.export import source_of

    run = exports.read(place).run
    if not run or Path(run).name != run:
        return None, "export.json names no run"
    folder = run_folder.runs_dir() / run
    if not folder.is_dir():
        return None, f"its run {one_line(run, 80)} is not among your runs"
    try:
        return source_of(folder, failed_gates=True), ""
    except (InputError, ModelError, NotFound, Offline) as fault:
        return None, f"its run cannot be used: {one_line(fault.what, 200)}"
