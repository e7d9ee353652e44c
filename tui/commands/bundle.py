"""`pointsman bundle`: an adapter with what its run proved in one file, and such a file taken in, looked at and judged here."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tui import output

if TYPE_CHECKING:
    from data.bundles import Bundle
    from trainer.proof import Proof
    from tui.bundling.unpacking import BroughtIn

HELP = """Carry adapters between machines and people: one file with weights, manifest, figures and report, each with its SHA-256.

A bundle proves that nothing changed on its way, not who made it. What was imported can be exported, reported on and promoted like a
run of your own, once it was measured here.

\b
  pointsman bundle export triage triage.bundle
  pointsman bundle import triage.bundle
  pointsman bundle prove triage-20261120-2104-1f2e3d4c
"""
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")


@click.group(help=HELP)
def command() -> None:
    """Carry adapters between machines."""


@command.command(name="export")
@click.argument("name", metavar="RUN|EXPORT")
@click.argument("file", metavar="FILE")
@click.option("--gguf", is_flag=True, help="With the GGUF files of its export.")
@click.option("--rows", is_flag=True, help="With the texts of the validation rows, and what was answered to them.")
@click.option("--name", "called", default="", metavar="NAME", help="Another name for it in the bundle.")
@click.option("--by", default="", metavar="TEXT", help="Who made it; kept as it is said.")
@click.option("--note", default="", metavar="TEXT", help="A remark for whoever imports it.")
@click.option("--replace", is_flag=True, help="Take the place of a FILE that is there.")
@_json
def export(name: str, file: str, as_json: bool, **flags: Any) -> None:
    """Write a run, or the run behind an export, to FILE.

    No path of this machine and no text of your rows goes along, unless --rows is given; the adapter itself may still know them by
    heart.
    """
    from data.errors import InputError
    from tui.bundling import packing

    target = Path(file).expanduser()
    if target.exists() and not flags["replace"]:
        raise InputError(f"{target} is there already", "--replace takes its place")
    run, exported = _found(name)
    gguf = (exported or packing.export_of(run)) if flags["gguf"] else None
    with output.Progress("bundle") as progress:
        made = packing.packed(
            run,
            target,
            name=flags["called"],
            gguf=gguf,
            rows=flags["rows"],
            by=flags["by"],
            note=flags["note"],
            tell=lambda part, done, of: progress.show("writing", done, of),
        )
    size = target.stat().st_size
    if as_json:
        output.as_json({"file": str(target), "bytes": size, **_told(made)})
        return
    output.line(f"{target}: {made.name}, {len(made.files)} files, {output.size(size)}")


@command.command(name="import")
@click.argument("file", metavar="FILE")
@click.option("--name", default="", metavar="NAME", help="Another name for it here.")
@click.option(
    "--base", default="", metavar="BASE", help="Where the model lies that it was trained on: a folder, a GGUF file, a hub id."
)
@click.option("--dry-run", is_flag=True, help="Check it whole, and keep nothing.")
@_json
def take_in(file: str, name: str, base: str, dry_run: bool, as_json: bool) -> None:
    """Check the bundle in FILE, and keep it as a run, and as an export where it has one.

    Refused are changed files, another base, links, paths and pickles; then nothing of it is kept.
    """
    from tui.bundling import unpacking

    with output.Progress("import") as progress:
        found = unpacking.brought_in(
            Path(file).expanduser(),
            name=name,
            base=base,
            dry=dry_run,
            tell=lambda part, done, of: progress.show("reading", done, of),
        )
    if as_json:
        output.as_json(_taken(found))
    else:
        _show(found)


@command.command()
@click.argument("run")
@click.option(
    "--data", multiple=True, metavar="FILE", help="Labelled rows to judge by; else the validation rows of its domain's pack."
)
@click.option("--text-column", default="", metavar="COLUMN", help="The column of texts.")
@click.option("--label-column", default="", metavar="COLUMN", help="The column of labels.")
@_json
def prove(run: str, data: tuple[str, ...], text_column: str, label_column: str, as_json: bool) -> None:
    """Measure an imported run on this machine, beside its base (exit code 3 where a gate fails).

    What was measured here counts when it is promoted; what the bundle says does not.
    """
    from trainer import proven_here, run_folder
    from tui.learning import Learning

    folder = run_folder.find(run)
    with Learning() as learning:
        found = proven_here.prove(folder, data=data, text_column=text_column, label_column=label_column, tell=learning.tell)
    if as_json:
        output.as_json({"run": str(folder), **found.to_dict()})
    else:
        _prove(folder, found)
    if not found.passed:
        from tui.cli import EXIT_GATE

        click.get_current_context().exit(EXIT_GATE)


def _found(name: str) -> tuple[Path, Path | None]:
    """The run of that name, or the export and the run behind it. Raises NotFound, InputError."""
    from data import exports
    from data.errors import NotFound
    from trainer import run_folder

    path = Path(name).expanduser()
    place = path if (path / exports.FILE).is_file() else exports.folder() / name
    try:
        return run_folder.find(name), None
    except NotFound:
        if not (place / exports.FILE).is_file():
            raise
    run = exports.read(place).run
    if not run:
        raise NotFound(f"the export {place.name} names no run", "export the run again, or name it")
    return run_folder.find(run), place


def _told(made: "Bundle") -> dict[str, Any]:
    return {
        "name": made.name,
        "by": made.by,
        "note": made.note,
        "files": [one.model_dump() for one in made.files],
    }


def _taken(found: "BroughtIn") -> dict[str, Any]:
    return {
        "run": str(found.run) if found.run else None,
        "export": str(found.export) if found.export else None,
        "imported": found.imported.model_dump(mode="json"),
        "notes": list(found.notes),
        **_told(found.bundle),
    }


def _show(found: "BroughtIn") -> None:
    came = found.imported
    output.line(came.words)
    if came.note:
        output.line(f"its maker says: {came.note}")
    for note in found.notes:
        output.note(note)
    if found.run is None:
        output.line("it is sound; nothing was kept")
        return
    output.line(f"run: {found.run}")
    if found.export:
        output.line(f"export: {found.export}")
    output.line(f"to measure it here: pointsman bundle prove {found.run.name}")


def _prove(folder: Path, found: "Proof") -> None:
    from trainer.page import amount, limit

    for gate in found.gates:
        note = f" ({gate.note})" if gate.note else ""
        output.line(
            f"gate {gate.name}: {'passed' if gate.passed else 'NOT passed'}, {amount(gate, gate.reached)} of {limit(gate)}{note}"
        )
    for note in found.notes:
        output.line(note)
    output.line(f"what was measured here counts when it is promoted; next: pointsman export {folder.name}")
