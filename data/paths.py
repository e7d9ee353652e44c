"""Where Pointsman keeps things: the config, data, cache and log folders.

POINTSMAN_HOME moves all four beneath one folder; otherwise they follow the platform's convention (XDG on Linux).
Folders are made on first use with mode 0700, files that hold the user's words get 0600. Not covered: the location of the
database, which `store.url` in the settings may move to a server.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from data.errors import InputError, PointsmanError

APP = "pointsman"


def config_dir() -> Path:
    """The folder of settings.toml."""
    return _folder("config")


def data_dir() -> Path:
    """The folder of what must not be lost: the log, trained adapters, the user's own domains."""
    return _folder("data")


def cache_dir() -> Path:
    """The folder of what can be made again: requantised and converted models."""
    return _folder("cache")


def log_dir() -> Path:
    """The folder of diagnostic logs. Conversations are not kept here but in the store."""
    return _folder("log")


def settings_file() -> Path:
    """The path of settings.toml, which need not exist."""
    return config_dir() / "settings.toml"


def ensure(folder: Path) -> Path:
    """Make `folder` (0700) where it is missing and return it; raises PointsmanError where that is not allowed."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PointsmanError(
            f"cannot make the folder {folder}: {error.strerror}",
            "make it writable, or set POINTSMAN_HOME to a folder that is",
        ) from error
    return folder


@contextmanager
def replacing(path: Path, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """Write a whole file or nothing: a temporary file beside `path`, fsynced, then renamed over it.

    Raises InputError naming the path and the system's reason (no space, read-only) and leaves no temporary file behind.
    """
    ensure(path.parent)
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
        temporary = ""
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}", "free space or choose another folder") from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def read_text(path: Path, most_bytes: int, fix: str) -> str:
    """The text of a file in UTF-8, with or without a byte order mark; fix: what to do about one larger than `most_bytes`.

    Raises InputError naming the path and what is wrong: too large, not UTF-8, not readable.
    """
    try:
        if path.stat().st_size > most_bytes:
            raise InputError(f"{path} is larger than {most_bytes >> 20} MB", fix)
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text, at byte {error.start}", "save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", "make it a readable file") from error


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` durable (a no-op where folders cannot be opened, as on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Take the lock of an open file, which the system releases with the process; whether it was free."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # taken, as the one and the other system says it
        return False
    return True


def _folder(kind: str) -> Path:
    home = os.environ.get("POINTSMAN_HOME")
    if home:
        return Path(home).expanduser().absolute() / kind
    import platformdirs  # here, not above: tests and servers set POINTSMAN_HOME and never need it

    dirs = platformdirs.PlatformDirs(APP, appauthor=False)
    return Path(getattr(dirs, f"user_{kind}_dir"))
