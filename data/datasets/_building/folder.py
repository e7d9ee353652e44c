"""The folder that a build works in, beside its result, and how the result gets its name: all at once or not at all.

A build that is killed leaves a hidden folder and nothing under the final name; the next build of the same name clears it. Not
covered: what is written (`writing`).
"""

import contextlib
import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data import paths
from data.datasets import manifest
from data.errors import InputError

_AT_FDCWD = -100  # linux/fcntl.h: paths relative to the working folder
_EXCHANGE = 2  # linux/fs.h: RENAME_EXCHANGE


@dataclass(frozen=True, slots=True)
class Place:
    """work: for files that are thrown away; made: the folder that becomes `out`."""

    work: Path
    made: Path
    out: Path

    def publish(self) -> None:
        """Make every file durable and give the folder its final name, in the place of an old one where there is one."""
        for file in sorted(self.made.iterdir()):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        paths.sync_folder(self.made)
        if self.out.exists():
            _swap(self.made, self.out, self.work / "old")
        else:
            os.rename(self.made, self.out)
        paths.sync_folder(self.out.parent)


@contextmanager
def building(out: Path, force: bool) -> Iterator[Place]:
    """A place to build `out` in, cleared away at the end. Raises InputError where `out` is there already (and not `force`, or no
    dataset), where another process builds it, or where nothing can be written."""
    out = Path(os.path.abspath(out))
    _refuse(out, force)
    work = paths.ensure(out.parent) / f".{out.name}.building"
    try:
        work.mkdir(exist_ok=True)
        with (work / "lock").open("a") as lock:
            if not paths.try_lock(lock.fileno()):
                raise InputError(f"another build of {out.name} is running", "wait for it, or choose another --out")
            _recover(work / "old", out)
            _refuse(out, force)
            _clear(work)
            made = work / "made"
            made.mkdir()
            try:
                yield Place(work, made, out)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise InputError(f"cannot build {out.name}: {error.strerror or error}", "free space, or choose another --out") from error


def _refuse(out: Path, force: bool) -> None:
    if not (out.exists() or out.is_symlink()):
        return
    if not force:
        raise InputError(f"{out} is there already", "choose another --out, or --force to replace it")
    if out.is_symlink() or not out.is_dir() or (any(out.iterdir()) and not (out / manifest.FILE).is_file()):
        raise InputError(f"{out} is no dataset folder, so --force does not replace it", "choose another --out")


def _recover(old: Path, out: Path) -> None:
    """Bring back what a killed build had moved away."""
    if old.is_dir() and not out.exists():
        os.rename(old, out)


def _clear(work: Path) -> None:
    for left in work.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        elif left.name != "lock":
            left.unlink()


def _swap(made: Path, out: Path, old: Path) -> None:
    """Put `made` under the name `out` and what was there aside: in one step where the system can, else in two."""
    if not _exchanged(made, out):
        os.rename(out, old)
        os.rename(made, out)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names in one step with renameat2 (Linux 3.15, glibc 2.28); whether that was possible."""
    if not sys.platform.startswith("linux"):
        return False
    with contextlib.suppress(AttributeError, OSError):
        rename = ctypes.CDLL(None, use_errno=True).renameat2
        return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0)
    return False
