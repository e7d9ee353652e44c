"""`pointsman domains`: the domain packs listed, shown and checked, and one made from labelled rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tui import output, packs

if TYPE_CHECKING:
    from data.domain_check import Problem

HELP = """List, show, check or make domain packs: folders that say what a job is and how its answers are judged.

\b
  pointsman domains list
  pointsman domains show triage
  pointsman domains new support --from tickets.csv --text message --label queue
  pointsman domains check support
"""
SHOWN_LABELS = 80

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")


@click.group(help=HELP)
def command() -> None:
    """List, show, check or make domain packs."""


@command.command("list")
@_json
def list_(as_json: bool) -> None:
    """List the packs: those that come with Pointsman, and your own."""
    from data import domains
    from data.errors import PointsmanError

    found: list[dict[str, Any]] = []
    for name in domains.names():
        try:
            found.append(packs.summary(domains.load(name)))
        except PointsmanError as fault:
            found.append({"name": name, "error": str(fault)})
    if as_json:
        output.as_json({"domains": found, "folders": [str(folder) for folder in domains.folders()]})
        return
    sound = [one for one in found if "error" not in one]
    rows = [
        (
            one["name"],
            str(len(one["labels"]) or "-"),
            str(one["train"]),
            str(one["validation"]),
            str(one["adversarial"]),
            one["from"],
            one["title"],
        )
        for one in sound
    ]
    output.table(("domain", "labels", "train", "validation", "adversarial", "from", "what it does"), rows)
    for one in found:
        if "error" in one:
            output.note(f"{one['name']}: {one['error']}")


@command.command()
@click.argument("name")
@_json
def show(name: str, as_json: bool) -> None:
    """Show what the pack NAME holds."""
    from data import domains

    pack = domains.load(name)
    found = packs.summary(pack) | {
        "description": pack.described.description,
        "system": pack.described.system,
        "label_field": pack.described.label_field,
        "labels": [one.model_dump() | {"rows": count} for one, count in packs.counted(pack)],
        "properties": list(pack.schema.get("properties", {})),
        "contracts": [one.name for one in pack.described.contracts],
        "modes": list(pack.described.modes),
        "base_models": list(pack.described.base_models),
        "gates": pack.described.gates.model_dump(exclude_none=True),
        "files": sorted(file.name for file in pack.folder.iterdir() if file.is_file()),
    }
    if as_json:
        output.as_json(found)
        return
    output.line(f"{pack.name}: {pack.described.title}")
    output.line(pack.described.description)
    output.line()
    for label in found["labels"][:SHOWN_LABELS]:
        output.line(f"  {label['name']} ({label['rows']}): {label['description']}")
    if len(found["labels"]) > SHOWN_LABELS:
        output.line(f"  and {len(found['labels']) - SHOWN_LABELS} more")
    output.line()
    output.line(f"examples: {found['train']} train, {found['validation']} validation; adversarial cases: {found['adversarial']}")
    output.line(f"answer: {', '.join(found['properties']) or 'free text'}; contracts: {', '.join(found['contracts'])}")
    output.line(f"gates: {packs.gates(found['gates'])}")
    output.line(f"models: {', '.join(found['base_models'])}")
    output.line(f"folder: {found['folder']}")


@command.command()
@click.argument("pack", metavar="[NAME|FOLDER]", required=False, default="")
@_json
def check(pack: str, as_json: bool) -> None:
    """Check a pack by its NAME or FOLDER, or all packs, and say what is wrong where. Exit code 3 where something is."""
    from data import domain_check, domains

    problems: list[Problem] = []
    checked = _folders(pack)
    for folder in checked:
        problems += domain_check.check(folder, (packs.rules,))
    if as_json:
        told = [{"file": one.file, "line": one.line, "text": one.text} for one in problems]
        output.as_json({"passed": not problems, "checked": [str(folder) for folder in checked], "problems": told})
    else:
        for one in problems:
            output.line(str(one))
        count = "1 pack" if len(checked) == 1 else f"{len(checked)} packs"
        output.note(f"{count} checked, {len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}")
    if not checked:
        output.note(f"there is no pack in {' or '.join(str(folder) for folder in domains.folders())}")
    if problems:
        from tui.cli import EXIT_GATE

        click.get_current_context().exit(EXIT_GATE)


@command.command()
@click.argument("name")
@click.option("--from", "source", required=True, metavar="FILE", help="Labelled rows: CSV, TSV, JSONL, Parquet or hf:OWNER/NAME.")
@click.option("--text", "text_column", default="", metavar="COLUMN", help="The column of texts, where it is not named text.")
@click.option("--label", "label_column", default="", metavar="COLUMN", help="The column of labels, where it is not named label.")
@click.option("--title", default="", metavar="TEXT", help="A short title.")
@click.option("--description", default="", metavar="TEXT", help="What the domain does, in a sentence.")
@click.option("--system", default="", metavar="TEXT", help="What the model is told before the labels.")
@click.option("--force", is_flag=True, help="Replace a pack of that name.")
@_json
def new(
    name: str,
    source: str,
    text_column: str,
    label_column: str,
    title: str,
    description: str,
    system: str,
    force: bool,
    as_json: bool,
) -> None:
    """Make the pack NAME from labelled rows, in your data folder. What is drafted in it is yours to edit."""
    from dataclasses import asdict

    from data import new_domain
    from data.datasets.sources import open_source
    from tui import opening

    opening.settings()
    opened = open_source(source, text_column=text_column, label_column=label_column, labelled=True)
    with output.Progress("domains new") as progress:
        made = new_domain.make(
            name, opened, new_domain.Words(title, description, system), force=force, progress=lambda *step: progress.show(*step)
        )
    for reason, count in made.left_out.items():
        output.note(f"{count:,} rows left out: {reason}")
    for label in made.unvalidated:
        output.note(f"no row of {label!r} validates: its rows are too much alike; add others")
    if as_json:
        output.as_json(asdict(made) | {"folder": str(made.folder)})
        return
    output.line(f"{made.folder} is made: {len(made.labels)} labels, {made.train} train and {made.validation} validation rows")
    output.line(f"{made.adversarial} adversarial cases and the labels' descriptions are drafts for you to edit")
    output.line(f"next: pointsman domains check {name}; pointsman eval {name}")


def _folders(pack: str) -> list[Path]:
    """The pack of that name, the folder at that path, or all packs."""
    from data import domains
    from data.errors import InputError, NotFound

    if not pack:
        return [folder for name in domains.names() for folder in _folders(name)]
    path = Path(pack).expanduser()
    if path.name != pack:
        if not path.is_dir():
            raise InputError(f"there is no folder {pack}", "give the name of a pack, or its folder")
        return [path.absolute()]
    for folder in (*domains.folders(), Path.cwd()):
        if (folder / pack).is_dir():
            return [folder / pack]
    raise NotFound(f"there is no domain pack {pack!r}", f"there are: {', '.join(domains.names())}; or: pointsman domains new")
