"""A forgetting written down before anything is changed, so that a crash in its middle is finished by the next start.

    <data>/forgetting/<id>.json       under way: files and what takes their place, rows by their ids; nothing of what is forgotten
    <data>/forgetting/done.jsonl      the record: when, how much, and which models still know it
Every new content lies beside its file already when the journal gets its name; from then on a crash loses nothing, before it nothing
was changed. No digest of the text is kept: one of a name is guessed quickly. Not covered: what goes into it (course.py).
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data import paths
from data.errors import InputError
from data.forgetting import files
from data.store import doomed, forget
from data.store.database import Database
from data.store.doomed import Doomed

VERSION = 1
DONE = "done.jsonl"
LARGEST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """A file that goes, or is replaced by `staged`; state: inode, size and time of change (ns) of the file that it was made from,
    empty where there was none."""

    path: str
    staged: str = ""
    state: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Journal:
    """One forgetting. where: the store, without its password; note: what the record will say of it."""

    id: str
    where: str
    doomed: Doomed
    steps: tuple[Step, ...]
    note: dict[str, Any]


def folder() -> Path:
    """Where journals and the record are."""
    return paths.data_dir() / files.FOLDER


@contextmanager
def alone() -> Iterator[bool]:
    """Hold the lock of forgettings, which frees itself with the process; False where another one holds it."""
    descriptor = os.open(paths.ensure(folder()) / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield paths.try_lock(descriptor)
    finally:
        os.close(descriptor)


def commit(journal: Journal) -> None:
    """Write it down; from here on it is carried out, by this process or by a later one."""
    with paths.replacing(folder() / f"{journal.id}.json") as out:
        out.write(json.dumps({"version": VERSION, **asdict(journal)}, default=str).encode())


def pending() -> list[Path]:
    """The journals of forgettings that are not finished."""
    return sorted(folder().glob("[0-9a-f]*.json"))


def finish(database: Database) -> int:
    """Carry out what a crash left of forgettings of this store; how many. Nothing where another process is at it.

    Raises StoreError where the database's file is kept busy: then the next start tries again.
    """
    done = 0
    with alone() as free:
        for file in pending() if free else ():
            journal = _read(file)
            if journal is not None and journal.where == database.where:
                carry_out(database, journal)
                done += 1
    return done


def carry_out(database: Database, journal: Journal) -> list[Path]:
    """Do all of it, and note that it is done; gives the files that were changed since by somebody else, which stay as they are.

    Raises StoreError, InputError where a file cannot be written; calling again goes on.
    """
    changed = [Path(step.path) for step in journal.steps if not _do(step)]
    doomed.carry_out(database, journal.doomed)
    if database.path:
        from data.store import sqlite_file

        for backup in sqlite_file.backups(database.path):
            backup.unlink(missing_ok=True)
    forget.scrub(database)
    if journal.note:
        _record(journal.note | {"changed_meanwhile": len(changed)})
    (folder() / f"{journal.id}.json").unlink(missing_ok=True)
    paths.sync_folder(folder())
    return changed


def done() -> list[dict[str, Any]]:
    """The record, oldest first; lines that are damaged are left out."""
    found = []
    try:
        lines = (folder() / DONE).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [one for one in found if isinstance(one, dict)]


def state_of(path: Path) -> tuple[int, ...]:
    """Inode, size and time of change of a file; empty where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def sweep(names: Sequence[Path]) -> None:
    """Remove what a forgetting left that was killed before its journal was written."""
    waiting = {Path(step.staged) for file in pending() if (found := _read(file)) for step in found.steps if step.staged}
    for path in names:
        if files.STAGED in path.name and path not in waiting:
            path.unlink(missing_ok=True)


def _do(step: Step) -> bool:
    """One step; False where the file is another than the one that the new content was made from."""
    path, staged = Path(step.path), Path(step.staged) if step.staged else None
    try:
        if staged is None:
            _remove(path)
        elif staged.exists():
            if state_of(path) != step.state:
                staged.unlink()
                return False
            os.replace(staged, path)
            paths.sync_folder(path.parent)
    except OSError as error:
        raise InputError(f"cannot change {path}: {error.strerror or error}", "make it writable, and forget again") from error
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _record(note: dict[str, Any]) -> None:
    file = folder() / DONE
    before = file.read_bytes() if file.is_file() else b""
    if f'"id": "{note.get("id")}"'.encode() in before:
        return
    with paths.replacing(file) as out:
        out.write(before + json.dumps(note, default=str).encode() + b"\n")


def _read(file: Path) -> Journal | None:
    """None for a file that is no journal of this version."""
    try:
        told = json.loads(paths.read_text(file, LARGEST_BYTES, "remove it"))
        if told.pop("version") != VERSION:
            return None
        steps = tuple(Step(one["path"], one["staged"], tuple(one["state"])) for one in told["steps"])
        return Journal(told["id"], told["where"], Doomed.of(told["doomed"]), steps, told["note"])
    except (ValueError, TypeError, KeyError, AttributeError, InputError):
        return None
