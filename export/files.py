"""Files and folders that libraries make under a path: whole under their final name or not there at all, one maker at a time.

What is being made has a hidden name beside its final one and is renamed once it is complete and on disk; a process killed
in between leaves hidden remains, which the next maker of the same folder removes. Not covered: files that we write
ourselves (`data.paths.replacing`).
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data import paths
from data.errors import InputError


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A path to write; when the block ends without an error it is fsynced and renamed to `target`, else removed.

    Raises InputError naming the target and the system's reason.
    """
    paths.ensure(target.parent)
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        _sync_file(temporary)
        os.replace(temporary, target)
        paths.sync_folder(target.parent)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to fill; when the block ends without an error it takes the place of `target`, else it is removed.

    Files written into it must be on disk already. The caller holds a lock on the target: hidden remains of makers that were
    killed are removed first. Raises InputError naming the target and the system's reason.
    """
    paths.ensure(target.parent)
    for remains in target.parent.glob(f".{target.name}.*/"):
        shutil.rmtree(remains, ignore_errors=True)
    temporary = Path()
    try:
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        yield temporary
        paths.sync_folder(temporary)
        if target.exists():
            os.rename(target, temporary.with_name(f"{temporary.name}.old"))
        os.rename(temporary, target)
        paths.sync_folder(target.parent)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        for remains in target.parent.glob(f"{temporary.name}*/") if temporary.name else ():
            shutil.rmtree(remains, ignore_errors=True)


@contextmanager
def lock(path: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the lock of `path`, which the system releases should this process die; `waiting` is called once if it is taken.

    Raises InputError where the lock's file cannot be opened.
    """
    paths.ensure(path.parent)
    try:
        file = path.open("a+b")
    except OSError as error:
        raise _unwritable(path, error) from error
    with file:
        if not paths.try_lock(file.fileno()):
            waiting()
            while not paths.try_lock(file.fileno()):
                time.sleep(0.1)
        yield


def sha256(path: Path) -> str:
    """The hex digest of a file's bytes; raises InputError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", "make it readable") from error


def need_space(folder: Path, size_bytes: int) -> None:
    """Raise InputError where the file system of `folder` has fewer free bytes than that."""
    free = shutil.disk_usage(paths.ensure(folder)).free
    if free < size_bytes:
        raise InputError(
            f"{folder} has {free / 1e6:,.0f} MB free, and {size_bytes / 1e6:,.0f} MB are needed",
            "free space or choose another folder",
        )


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot write {path}: {error.strerror or error}", "free space or choose another folder")
