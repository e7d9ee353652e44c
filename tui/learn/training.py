"""The one run of a learn: begun, gone on with after a kill, or found finished.

A run is known by its name, which belongs to this learn alone. Not covered: the recipe (`mixing`), what a run does (trainer).
"""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from data import paths
from data.errors import InputError, PointsmanError
from tui.learn import remains

if TYPE_CHECKING:
    from trainer.events import Tell
    from trainer.recipe import Recipe


def trained(recipe: "Recipe", tell: "Tell") -> Path:
    """The folder of the finished run of that recipe, trained as far as it was not. Raises as `trainer.train.run`."""
    from trainer import train

    resume = _begun(recipe.name)
    found = finished(recipe.name)
    if found is not None:
        return found
    done = train.run(recipe, tell=tell, resume=resume)
    assert done.folder is not None  # noqa: S101  it was no dry run
    return done.folder


def finished(name: str) -> Path | None:
    """The finished run of that name; None where it is not."""
    from trainer import run_folder

    where = run_folder.runs_dir()
    found = sorted(one for one in where.glob(f"{name}-*") if (one / run_folder.METRICS).is_file()) if where.is_dir() else []
    return found[-1] if found else None


def given_up(name: str) -> None:
    """Remove what is left of a run that will not be finished."""
    for one in _parts(name):
        shutil.rmtree(one, ignore_errors=True)


def _begun(name: str) -> Path | None:
    """The run of that name to go on with; None where there is none. What cannot be gone on with is removed."""
    from trainer._run.folder import LOCK
    from trainer.underway import STATE

    sound = None
    for one in _parts(name):
        if not remains.free(one, LOCK):
            raise InputError(f"{one.name} is being trained by another process", "wait for it, or stop it")
        remains.temporary(one)
        if (one / STATE).is_file() and sound is None:
            sound = one
        elif not _published(one):
            shutil.rmtree(one, ignore_errors=True)
    return sound


def _published(place: Path) -> bool:
    """Give a run its final name that was killed when only that was left to do; whether it was such a run."""
    from trainer import manifest, underway
    from trainer._run.folder import LOCK

    (place / underway.ENOUGH).unlink(missing_ok=True)
    try:
        if not manifest.read(place).results or manifest.check(place):
            return False
    except PointsmanError:
        return False
    (place / LOCK).unlink(missing_ok=True)
    os.rename(place, place.with_name(underway.name_of(place)))
    paths.sync_folder(place.parent)
    return True


def _parts(name: str) -> list[Path]:
    from trainer import run_folder, underway

    where = run_folder.runs_dir()
    return sorted(where.glob(f".{name}-*{underway.PART}")) if where.is_dir() else []
