"""Models that were trained on what is forgotten, and what is only kept to be quick: what of them goes.

A run that is not finished always goes, since its rows are no longer those it began with. Finished ones go where that was asked for,
with the exports and versions made of them; what answers people now goes only by force, and the one before it, or the base, answers
then. Recipes stay, so that each can be trained again. Not covered: finding them (trained.py).
"""

import json
import os
import shlex
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import paths
from data.errors import InputError, ModelInvalid, ModelMissing, NotFound
from data.forgetting import files, journal
from data.forgetting.files import Touched
from data.forgetting.journal import Step
from data.forgetting.trained import Trained

if TYPE_CHECKING:
    from data.store import Store
    from data.store.versions import Version

WHY = "it was trained on what was forgotten"


def refuse_busy(models: Iterable[Trained]) -> None:
    """Raise InputError where a run is being trained on it at this moment."""
    for one in models:
        lock = one.path / ".lock" if one.kind == "unfinished run" and one.path else None
        if lock is None or not lock.is_file():
            continue
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        try:
            if not paths.try_lock(descriptor):
                raise InputError(f"{one.name} is being trained on it now", "stop that training, and forget again")
        finally:
            os.close(descriptor)


def removable(store: "Store", models: Sequence[Trained], asked: bool, force: bool) -> tuple[Trained, ...]:
    """The models, each with whether it goes, and why it is kept where it was asked to go."""
    kept: dict[str, str] = {}
    for version in _versions(store, models):
        if version.stage in ("champion", "canary") and not force:
            why = f"{version.name} is the {version.stage} of {version.domain}: --force removes it too"
            kept |= dict.fromkeys((version.name, version.lineage.run), why)
    found = []
    for one in models:
        if asked and one.name in kept:
            found.append(replace(one, kept=kept[one.name]))
            continue
        goes = asked or one.kind == "unfinished run"
        again = one.command
        if goes and one.kind in ("run", "unfinished run", "export") and again.startswith("pointsman train "):
            run = Path(shlex.split(again)[2]).parent.name.removeprefix(".").removesuffix(".part")
            again = f"pointsman train {shlex.quote(str(_recipe(run)))}"
        found.append(replace(one, removed=goes, command=again))
    return tuple(found)


def recipes(known: Iterable[Trained], key: str) -> list[Step]:
    """The recipes of runs that go, put where their commands look for them."""
    steps = []
    for one in known:
        if not (one.removed and one.path and one.kind in ("run", "unfinished run")):
            continue
        target = _recipe(one.name)
        staged = paths.ensure(target.parent) / f".{target.name}{files.STAGED}{key[-8:]}"
        waiting = one.path / f".recipe.toml{files.STAGED}{key[-8:]}"
        shutil.copyfile(waiting if waiting.is_file() else one.path / "recipe.toml", staged)
        steps.append(Step(str(target), str(staged), journal.state_of(target)))
    return steps


def caches(touched: Iterable[Touched]) -> list[Step]:
    """Vectors of texts, where rows went that they may be of: numbers that can be made again."""
    if not any(one.how == "rows" for one in touched):
        return []
    found = [*(paths.cache_dir() / "vectors").glob("*.npz"), *(paths.cache_dir() / "domains").glob("*/*.npz")]
    return [Step(str(one)) for one in sorted(found)]


def routers(known: Iterable[Trained], key: str) -> list[Step]:
    """The learned router's register without the versions that go."""
    gone = {one.name for one in known if one.removed and one.kind == "router"}
    file = paths.data_dir() / "router" / "current.json"
    state: dict[str, Any] = files.json_of(file)
    if not gone or not state:
        return []
    before = [name for name in state.get("before", ()) if name not in gone]
    current = state.get("current", "")
    if current in gone:
        current = before.pop() if before else ""
    staged = file.with_name(f".{file.name}{files.STAGED}{key[-8:]}")
    was = journal.state_of(file)
    with paths.replacing(staged) as out:
        out.write(json.dumps({"current": current, "before": before}).encode())
    return [Step(str(file), str(staged), was)]


def unregister(store: "Store", known: Sequence[Trained], who: str) -> None:
    """Take the versions that go out of use; a champion is rolled back, to the base where the one before it goes too."""
    going = {one.name for one in known if one.removed and one.kind == "version"}
    for version in _versions(store, known):
        if version.name not in going or version.stage == "retired":
            continue
        if version.stage == "champion":
            _roll_back(store, version, going, who)
        elif version.stage == "canary":
            for experiment in store.experiments.running():
                if experiment.version == version.id:
                    store.experiments.stop(experiment.id, who=who, why=WHY)
            store.registry.retire(version.id, who=who, why=WHY)
        else:
            store.registry.retire(version.id, who=who, why=WHY)


def _roll_back(store: "Store", version: "Version", going: set[str], who: str) -> None:
    previous = store.registry.aliases(version.domain).get("previous")
    if previous is not None and previous.name not in going:
        try:
            store.registry.rollback(version.domain, who=who, why=WHY)
        except (ModelInvalid, ModelMissing, NotFound):  # the one before is gone or damaged
            store.registry.rollback(version.domain, who=who, why=WHY, to_base=True)
        return
    store.registry.rollback(version.domain, who=who, why=WHY, to_base=True)


def _versions(store: "Store", models: Iterable[Trained]) -> list["Version"]:
    names = {one.name for one in models if one.kind == "version"}
    return [one for one in store.registry.versions() if one.name in names]


def _recipe(run: str) -> Path:
    return journal.folder() / "recipes" / f"{run}.toml"
