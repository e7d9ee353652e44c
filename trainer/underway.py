"""Runs under way or broken off: which they are, and asking one that trains to end now and keep the best it has.

Needs neither torch nor the training itself, so that whoever watches a run can import it. Not covered: stopping so that the run can
go on later, which Ctrl-C (SIGINT) does; what a run tells (`events`).
"""

import json
from pathlib import Path

from data import paths
from data.errors import NotFound
from trainer import run_folder

PART = ".part"
STATE = "state.json"
ENOUGH = "enough"
"""The file in a run's folder that asks it to end its training."""


def unfinished(folder: Path | None = None) -> list[Path]:
    """The runs under way or broken off, the newest last."""
    where = folder or run_folder.runs_dir()
    found = [one for one in where.glob(f".*{PART}") if (one / STATE).is_file()] if where.is_dir() else []
    return sorted(found, key=lambda one: one.stat().st_mtime)


def name_of(folder: Path) -> str:
    """The name that an unfinished run will have."""
    return folder.name.removeprefix(".").removesuffix(PART)


def place(name: str, where: Path | None = None) -> Path:
    """The folder of an unfinished run of that name, which need not exist."""
    return (where or run_folder.runs_dir()) / f".{name}{PART}"


def stages_done(folder: Path) -> int:
    """How many stages of an unfinished run are done; 0 where its state cannot be read."""
    try:
        return len(json.loads(paths.read_text(folder / STATE, 1 << 20, "train anew"))["stages"])
    except (ValueError, KeyError, TypeError, NotFound, RecursionError):
        return 0


def enough(folder: Path) -> None:
    """Ask a run to end its training after the step in hand and to go on with the best adapter so far: judging, proof, folder.

    Stages that have not begun are left out. Raises NotFound where it is no unfinished run, InputError where nothing can be written.
    """
    if not (folder / STATE).is_file():
        raise NotFound(f"{folder.name} is no run that is under way", "see: pointsman report")
    with paths.replacing(folder / ENOUGH):
        pass


def is_enough(folder: Path) -> bool:
    """Whether somebody asked for that."""
    return (folder / ENOUGH).is_file()
