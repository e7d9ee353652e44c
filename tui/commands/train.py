"""`pointsman train`: a recipe becomes an adapter, with its progress and what it has proven. The work itself is `trainer.train`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tui import output
from tui.learning import Learning, share

if TYPE_CHECKING:
    from trainer.events import Event
    from trainer.recipe import Recipe
    from trainer.train import Run

HELP = """Fine-tune a model by a recipe: check the data, estimate, train stage by stage, prove the result against the base.

RECIPE is the name of a shipped recipe or a TOML file of your own; the options overrule what it says. Ctrl-C stops after the step in
hand; --resume goes on as if nothing had happened, after a kill too. The exit code is 3 where a gate is not passed.

\b
  pointsman train triage
  pointsman train triage --data messages.csv --label-column queue --dry-run
  pointsman train smollm2 --base ./my-model --seed 7 --json
  pointsman train style --adapter triage-20261120     your own style on top of that run
  pointsman train --resume                     the newest run that broke off
"""
NEWEST = "the newest"
"""What --resume without a value stands for; no run has such a name."""
MEASURES = (("accuracy", "accuracy"), ("macro_f1", "macro-F1"), ("json_valid", "JSON valid"), ("ece", "ECE"))


@click.command(help=HELP)
@click.argument("recipe", required=False, default="")
@click.option("--base", default="", metavar="BASE", help="The model that is tuned; else the recipe's.")
@click.option("--adapter", default="", metavar="RUN", help="Go on from the adapter of a finished run, on its base.")
@click.option("--data", multiple=True, metavar="FILE", help="Training rows: CSV, TSV, JSONL, Parquet; several are joined.")
@click.option("--text-column", default="", metavar="COLUMN", help="The column of texts.")
@click.option("--label-column", default="", metavar="COLUMN", help="The column of labels.")
@click.option("--seed", type=click.IntRange(0, (1 << 32) - 1), default=None, metavar="N", help="Another seed than the recipe's.")
@click.option("--out", default="", metavar="DIR", help="The folder that gets the run folder; else where runs are kept.")
@click.option("--resume", is_flag=False, flag_value=NEWEST, default="", metavar="[RUN]", help="Go on with a run that broke off.")
@click.option("--dry-run", is_flag=True, help="Check the data and estimate memory and time, train nothing.")
@click.option("--launch", type=click.IntRange(1, 4096), default=1, metavar="N", help="Train in N processes.")
@click.option("--events", default="", metavar="FILE", help="Write each event as a line of JSON too, for programs that watch.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of a recipe.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def command(recipe: str, as_json: bool, **flags: Any) -> None:
    """Train by a recipe."""
    from trainer import recipe as recipes

    if flags["schema"]:
        output.raw(json.dumps(recipes.Recipe.model_json_schema(), indent=1) + "\n")
        return
    resumed = _resumed(flags["resume"], flags["out"])
    wanted = _recipe(recipe, resumed, flags)
    if flags["launch"] > 1:
        from trainer import launch

        click.get_current_context().exit(launch.run(_again(recipe, resumed, as_json, flags), flags["launch"], wanted))
    found = _run(wanted, resumed, flags)
    if not _first():
        return  # the first of several processes tells for all
    if as_json:
        output.as_json(_as_json(found))
    else:
        _show(found, flags["dry_run"])
    if not found.passed and not flags["dry_run"]:
        from tui.cli import EXIT_GATE

        click.get_current_context().exit(EXIT_GATE)


def _run(wanted: "Recipe", resumed: Path | None, flags: Mapping[str, Any]) -> "Run":
    from router.encoder import ENCODER
    from trainer import train
    from trainer.events import silent
    from tui import opening, training_events

    out = Path(flags["out"]).expanduser() if flags["out"] else None
    if _first() and wanted.domain and not flags["dry_run"]:
        opening.prepare(ENCODER)  # for the baselines
    with Learning() as learning, training_events.written(flags["events"] if _first() else "") as write:

        def both(event: "Event") -> None:
            write(event)
            learning.tell(event)

        tell = both if _first() else silent
        try:
            return train.run(wanted, out=out, tell=tell, resume=resumed, dry=flags["dry_run"])
        except KeyboardInterrupt:
            learning.clear()
            if _first() and not flags["dry_run"] and (left := train.unfinished(out)):
                where = f" --out {flags['out']}" if flags["out"] else ""
                output.note(f"stopped; to go on: pointsman train --resume {_name(left[-1])}{where}")
            raise


def _recipe(given: str, resumed: Path | None, flags: Mapping[str, Any]) -> "Recipe":
    """The recipe with what the flags overrule. Raises InputError, NotFound and UsageError."""
    from trainer import recipe as recipes
    from trainer import train

    if given:
        found = recipes.load(given)
    elif resumed is not None:
        found = train.recipe_of(resumed)
    else:
        raise click.UsageError(f"name a recipe: {', '.join(recipes.names()) or 'a TOML file'}")
    if flags["adapter"]:
        from trainer import going_on

        if flags["base"]:
            raise click.UsageError("--adapter has its own base: leave out --base")
        found = going_on.onto(found, flags["adapter"])
    over = _overruled(flags)
    if not over:
        return found
    merged = found.model_dump()
    for table, values in over.items():
        merged[table] = merged[table] | values if isinstance(values, dict) else values
    return recipes.validated(merged, f"{given or found.name} with the options")


def _overruled(flags: Mapping[str, Any]) -> dict[str, Any]:
    """What the flags say, as the recipe's tables."""
    data: dict[str, Any] = {name: flags[name] for name in ("text_column", "label_column") if flags[name]}
    if flags["data"]:
        data["train"] = tuple(_absolute(one) for one in flags["data"])
    found: dict[str, Any] = {"data": data} if data else {}
    if flags["base"]:
        found["base"] = {"model": _absolute(flags["base"]), "revision": ""}
    if flags["seed"] is not None:
        found["seed"] = flags["seed"]
    return found


def _absolute(given: str) -> str:
    """A file or folder by its whole path, so that a run goes on from anywhere; names stay names."""
    path = Path(given).expanduser()
    return str(path.absolute()) if path.exists() else given


def _resumed(given: str, out: str) -> Path | None:
    """The run to go on with. Raises NotFound with the unfinished ones."""
    if not given:
        return None
    from data.errors import NotFound
    from data.sanitise import one_line
    from trainer import train

    left = train.unfinished(Path(out).expanduser() if out else None)
    if given == NEWEST:
        if not left:
            raise NotFound("no run broke off", "start one: pointsman train RECIPE")
        return left[-1]
    if (path := Path(given).expanduser()).is_dir():
        return path
    found = [one for one in left if _name(one).startswith(given)]
    if len(found) != 1:
        which = "several runs that broke off begin" if found else "no run that broke off begins"
        names = ", ".join(_name(one) for one in left[-5:])
        raise NotFound(f"{which} with {one_line(given, 80)!r}", f"there are: {names}" if names else "start one")
    return found[0]


def _name(folder: Path) -> str:
    return folder.name.removeprefix(".").removesuffix(".part")


def _again(given: str, resumed: Path | None, as_json: bool, flags: Mapping[str, Any]) -> list[str]:
    """The command's own arguments for each of several processes, without --launch."""
    values = {name: flags[name] for name in ("base", "adapter", "text_column", "label_column", "out", "events") if flags[name]}
    if flags["seed"] is not None:
        values["seed"] = str(flags["seed"])
    if resumed is not None:
        values["resume"] = str(resumed)
    found = ["train", *([given] if given else [])]
    for name, value in values.items():
        found += [f"--{name.replace('_', '-')}", value]
    for one in flags["data"]:
        found += ["--data", one]
    return found + ["--dry-run"] * flags["dry_run"] + ["--json"] * as_json


def _first() -> bool:
    """Whether this is the only process, or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def _as_json(found: "Run") -> dict[str, Any]:
    proof = found.proof.to_dict() if found.proof else {}
    return {
        "run": str(found.folder) if found.folder else None,
        "passed": found.passed,
        "gates": proof.get("gates", []),
        "routable": proof.get("routable", False),
        "metrics": dict(found.metrics),
        "baselines": dict(found.baselines),
        "estimate": found.estimate.to_dict() if found.estimate else None,
        "notes": list(found.notes),
    }


def _show(found: "Run", dry: bool) -> None:
    for note in found.notes:
        output.note(note)
    if dry:
        for line in found.estimate.lines() if found.estimate else ():
            output.line(line)
        return
    rows = [_row("adapter", found.metrics)]
    if isinstance(base := found.metrics.get("base"), Mapping):
        rows.append(_row("base", base))
    rows += [_row(_called(name), one) for name, one in found.baselines.items()]
    if any(cell != "-" for row in rows for cell in row[1:]):
        output.table(("", *(name for _, name in MEASURES)), rows)
        output.line()
    for gate in found.proof.gates if found.proof else ():
        limit = f"{'at most' if gate.at_most else 'at least'} {_figure(gate.limit)}"
        said = "passed" if gate.passed else "NOT passed"
        output.line(f"gate {gate.name}: {said}, {_figure(gate.reached)} of {limit}{f' ({gate.note})' if gate.note else ''}")
    _next(found)


def _next(found: "Run") -> None:
    """What was made of it and what to do now."""
    if found.folder is None:
        return
    output.line(f"run: {found.folder}")
    if not found.passed:
        output.line(f"a gate is not passed; what it got wrong: pointsman report {found.folder.name}")
    elif found.proof and not found.proof.routable:
        output.line(f"all gates passed, but it is not proven better than its base; see: pointsman report {found.folder.name}")
    else:
        output.line(f"all gates passed; see: pointsman report {found.folder.name}")


def _row(name: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    return (name, *(share(figures.get(key)) for key, _ in MEASURES))


def _called(name: str) -> str:
    from trainer.report import NAMES

    return NAMES.get(name, name)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
