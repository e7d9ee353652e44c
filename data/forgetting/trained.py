"""Which models were trained on what is forgotten: runs by the rows that their recipes name, what went on from them, what was made
of them, and the versions that are registered.

Weights cannot be cleared of a text; a model can be trained again without it, and the command for that is told. Where a run's rows
are no longer on this machine nobody can tell, and that is told as well. Not covered: removing them (course.py).
"""

import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from data import paths
from data.forgetting import _texts, files
from data.forgetting.wanted import Wanted
from data.store.doomed import Doomed

if TYPE_CHECKING:
    from data.store.versions import Version

Kind = Literal["run", "unfinished run", "export", "version", "router"]
LOG = "log"
_HELD_OUT = re.compile(r'"split": *"(?:validation|test)"')
_STAMP = re.compile(r"-(\d{8}-\d{6})-([0-9a-f]{8})$")


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that was trained on it. name: as its verbs call it; why: how it came to that; rows: of its training, 0 where it only
    went on from, or was made of, another; command: trains it again without; stage: of a version; ollama: its name there."""

    kind: Kind
    name: str
    path: Path | None
    why: str
    rows: int = 0
    command: str = ""
    stage: str = ""
    ollama: str = ""
    removed: bool = False
    kept: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """models: trained on it, in the order run, export, version, router; untold: runs whose rows are not here any more; outside: the
    user's own files that runs were trained on, with the rows that hold it; datasets: folders elsewhere, made by Pointsman."""

    models: tuple[Trained, ...] = ()
    untold: tuple[str, ...] = ()
    outside: tuple[tuple[Path, int], ...] = ()
    datasets: tuple[Path, ...] = ()


@dataclass
class _Run:
    path: Path
    name: str
    hash8: str
    began: datetime | None
    recipe: Mapping[str, Any]
    parent: str
    rows: int = 0
    why: str = ""
    missing: bool = False
    sources: list[Path] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return not self.path.name.endswith(".part")


def runs(found: Iterable[Path]) -> list[_Run]:
    """The runs among these files: folders with a recipe and a manifest."""
    return [_run(file.parent) for file in found if file.name == "recipe.toml" and (file.parent / "manifest.json").is_file()]


def named(all_runs: Iterable[_Run]) -> list[Path]:
    """Every file and folder that recipes take training rows from, as far as they are there."""
    return sorted({source for run in all_runs for source in run.sources if source.exists()})


def survey(
    all_runs: Sequence[_Run],
    found: Iterable[Path],
    versions: Sequence["Version"],
    wanted: Wanted,
    doomed: Doomed,
    folders: files.Folders,
) -> Survey:
    """Everything that was trained on it. found: every file below Pointsman's folders."""
    counted: dict[Path, int] = {}
    for run in all_runs:
        _trace(run, wanted, doomed, counted)
    _inherit(all_runs)
    bad = [run for run in all_runs if run.why]
    models = [_of_run(run) for run in bad]
    models += _exports(found, {run.name: run for run in bad})
    made = {one.name for one in models if one.kind == "export"}
    names = {run.name for run in bad}
    for one in versions:
        if one.lineage.run in names or one.name in made:
            models.append(Trained("version", one.name, None, f"made of {one.lineage.run or 'its export'}", stage=one.stage))
    models += _routers(wanted)
    untold = tuple(run.name for run in all_runs if run.missing and not run.why)
    outside = tuple((path, count) for path, count in sorted(counted.items()) if count and _is_users(path, folders))
    datasets = tuple(one for one in named(all_runs) if one.is_dir() and not folders.inside(one) and files.is_dataset(one))
    return Survey(tuple(models), untold, outside, datasets)


def _run(folder: Path) -> _Run:
    try:
        recipe = tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        recipe = {}
    name = folder.name.removeprefix(".").removesuffix(".part")
    stamp = _STAMP.search(name)
    began = datetime.strptime(stamp[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC) if stamp else None
    parent = str(files.json_of(folder / "manifest.json").get("parent", ""))
    made = _Run(folder, name, stamp[2] if stamp else "", began, recipe, parent)
    made.sources = [Path(one).expanduser() for one in _train(recipe) if one != LOG]
    data = recipe.get("data", {})
    if recipe.get("domain") and (data.get("pack") or not _train(recipe)):
        made.sources.append(paths.data_dir() / "domains" / str(recipe["domain"]) / "examples.jsonl")
    return made


def _train(recipe: Mapping[str, Any]) -> list[str]:
    found = recipe.get("data", {}).get("train", [])
    return [str(one) for one in found] if isinstance(found, list) else []


def _trace(run: _Run, wanted: Wanted, doomed: Doomed, counted: dict[Path, int]) -> None:
    """Count the rows of the run's sources that hold it."""
    before = run.began is None or not doomed.asked or datetime.fromisoformat(doomed.asked) <= run.began
    if not wanted.term and not before:
        return  # it was trained before the first word of these conversations
    for source in run.sources:
        if not source.exists():
            run.missing = run.missing or source.name != "examples.jsonl"
            continue
        if source not in counted:
            counted[source] = _rows(source, wanted)
        run.rows += counted[source]
    if run.rows:
        run.why = f"{run.rows} of its training rows"
    if LOG in _train(run.recipe) and doomed.conversations and before:
        run.why = " and ".join(one for one in (run.why, "conversations of the log") if one)


def _rows(source: Path, wanted: Wanted) -> int:
    file = source / "train.jsonl" if source.is_dir() else source
    try:
        if file.name == "examples.jsonl":  # of a pack: those of the other splits are not trained on
            rows = [line for line in file.read_text(encoding="utf-8").splitlines() if wanted.maybe(line)]
            return sum(wanted.within(line) for line in rows if not _HELD_OUT.search(line))
        return files.rows(file, wanted)
    except (OSError, ImportError, ValueError, _texts.TooLarge):
        return 0


def _inherit(all_runs: Sequence[_Run]) -> None:
    """What went on from a run that was trained on it has it too."""
    changed = True
    while changed:
        changed = False
        bad = [run for run in all_runs if run.why]
        for run in all_runs:
            if run.why:
                continue
            base = run.recipe.get("base", {})
            given = f"{base.get('model', '')} {base.get('adapter', '')}"
            parent = next((one for one in bad if (run.parent and run.parent == one.hash8) or one.name in given), None)
            if parent is not None:
                run.why, changed = f"it went on from {parent.name}", True


def _of_run(run: _Run) -> Trained:
    kind: Kind = "run" if run.finished else "unfinished run"
    return Trained(kind, run.name, run.path, run.why, run.rows, command(run.path, run.name, run.recipe))


def command(folder: Path, name: str, recipe: Mapping[str, Any]) -> str:
    """What trains a run again: the loop where that made it, else its recipe."""
    for state in (paths.data_dir() / "learn").glob("*/state.json"):
        if recipe.get("domain") and name in state.read_text(encoding="utf-8", errors="replace"):
            return f"pointsman learn {shlex.quote(str(recipe['domain']))}"
    return f"pointsman train {shlex.quote(str(folder / 'recipe.toml'))}"


def _exports(found: Iterable[Path], bad: Mapping[str, _Run]) -> list[Trained]:
    models = []
    for file in found:
        told = files.json_of(file) if file.name == "export.json" else {}
        run = Path(str(told.get("run", ""))).name
        if run in bad:
            one = bad[run]
            again = command(one.path, one.name, one.recipe)
            ollama = str(told.get("ollama", ""))
            models.append(Trained("export", file.parent.name, file.parent, f"made of {run}", command=again, ollama=ollama))
    return models


def _routers(wanted: Wanted) -> list[Trained]:
    """Versions of the learned router whose rows hold it."""
    models = []
    for file in sorted((paths.data_dir() / "router").glob("v*/rows.json")):
        try:
            hits = files.rows(file, wanted)
        except (OSError, ValueError, _texts.TooLarge):
            continue
        if hits:
            again = "pointsman router train --data FOLDER"
            models.append(Trained("router", file.parent.name, file.parent, f"{hits} of its rows", hits, again))
    return models


def _is_users(path: Path, folders: files.Folders) -> bool:
    if folders.inside(path) or any(path.is_relative_to(one) for one in folders.beside):
        return False
    return not (path.is_dir() and files.is_dataset(path))
