"""A SQLite log as a file: how it is made, locked, opened and copied.

A new database is built under another name and renamed, so that one under its final name is complete; an existing file is
never overwritten or moved. Write-ahead logging is used only where the linked SQLite is free of the WAL-reset race
(3.7.0 to 3.51.2, https://sqlite.org/releaselog/3_51_3.html); older ones keep a rollback journal.
Not covered: what is in the tables.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import StaticPool

from data import paths
from data.errors import StoreError
from data.store.faults import damaged, translate_os
from data.store.tables import dump_json, load_json

BUSY_S = 10.0  # seconds a writer waits for another
PAUSE_S = 0.002  # seconds between two tries of a writer
LOCK_S = 120.0  # seconds a process waits while another one migrates
BEGIN = "pointsman_begin"  # execution option: the statement that opens a transaction, "" for none
WRITING = "BEGIN IMMEDIATE"
SIDE_FILES = ("-journal", "-wal", "-shm")
_PRAGMAS = (
    "foreign_keys=ON",
    "trusted_schema=OFF",
    "cell_size_check=ON",
    "mmap_size=0",
    "secure_delete=ON",
    "synchronous=FULL",
    "journal_size_limit=67108864",
)


def sqlite_engine(path: Path | None) -> Engine:
    """An engine for the file, or for a database in memory where there is none. Transactions begin as `BEGIN` says."""
    options: dict[str, Any] = {"poolclass": StaticPool} if path is None else {}
    engine = create_engine(
        URL.create("sqlite", database=str(path) if path else None),
        connect_args={"timeout": BUSY_S, "check_same_thread": False},
        hide_parameters=True,  # the user's words belong into no traceback
        json_serializer=dump_json,
        json_deserializer=load_json,
        **options,
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def journal_mode() -> str:
    """ "wal" where the linked SQLite may use it safely, else "delete"."""
    version = sqlite3.sqlite_version_info
    return "wal" if version >= (3, 51, 3) and version != (3, 52, 0) else "delete"  # 3.52.0 was withdrawn


def set_journal(connection: Connection) -> None:
    """Put the database into `journal_mode`; outside a transaction."""
    wanted = journal_mode()
    if connection.exec_driver_sql("PRAGMA journal_mode").scalar() not in (wanted, "memory"):
        connection.exec_driver_sql(f"PRAGMA journal_mode={wanted}")


def ensure_file(path: Path, build: Callable[[Path], None]) -> None:
    """Make the database with `build` where there is none yet; processes that start at once make it once.

    Raises StoreDamaged where the file is empty or only its journal is left, StoreReadOnly, StoreFull or StoreError where
    it cannot be made.
    """
    if _exists(path):
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise translate_os(error, str(path)) from error
    with locked(path):
        if not _exists(path):
            _build(path, build)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file beside the database; it frees itself when the process ends. Raises StoreError after LOCK_S."""
    try:
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise translate_os(error, str(path)) from error
    try:
        deadline = time.monotonic() + LOCK_S
        while not paths.try_lock(descriptor):
            if time.monotonic() > deadline:
                raise StoreError(f"another program has kept the log {path} locked for {LOCK_S:.0f} s", "end it and try again")
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def backups(path: Path) -> list[Path]:
    """The copies that migrations left beside the database."""
    return sorted(path.parent.glob(f"{path.name}.*.backup"))


def back_up(connection: Connection, path: Path, version: str) -> Path:
    """Copy the database to `<name>.<version>.backup` (0600), whole or not at all; outside a transaction."""
    target = path.with_name(f"{path.name}.{version}.backup")
    temporary = path.with_name(f".{target.name}.new")
    try:
        _empty_file(temporary)
        connection.exec_driver_sql("VACUUM INTO ?", (str(temporary),))
        os.replace(temporary, target)
        paths.sync_folder(path.parent)
    except OSError as error:
        raise translate_os(error, str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _exists(path: Path) -> bool:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        left = [path.name + end for end in SIDE_FILES[:2] if _size(path.with_name(path.name + end))]
        if left:
            raise damaged(str(path), f"the file is gone and its {left[0]} is left") from None
        return False
    except OSError as error:
        raise translate_os(error, str(path)) from error
    if not size:
        raise damaged(str(path), "it is empty, 0 bytes")
    return True


def _build(path: Path, build: Callable[[Path], None]) -> None:
    temporary = path.with_name(f".{path.name}.new")
    try:
        _empty_file(temporary)
        build(temporary)
        os.replace(temporary, path)
        paths.sync_folder(path.parent)
    except OSError as error:
        raise translate_os(error, str(path)) from error
    finally:
        for end in ("", *SIDE_FILES):
            temporary.with_name(temporary.name + end).unlink(missing_ok=True)


def _empty_file(path: Path) -> None:
    path.unlink(missing_ok=True)  # what a crash left
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _configure(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # no implicit BEGIN: `_begin` says which one
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    statement = connection.get_execution_options().get(BEGIN, "BEGIN")
    if statement == WRITING:
        _begin_writing(connection)
    elif statement:
        connection.exec_driver_sql(statement)


def _begin_writing(connection: Connection) -> None:
    """Begin once no other writer is at it, within BUSY_S.

    SQLite's own busy handler pauses up to 100 ms between two tries, during which busy writers take the turn from each
    other again and again: with four of them one waited 6 s. Short pauses keep that below a second.
    """
    raw: Any = connection.connection.driver_connection
    deadline = time.monotonic() + BUSY_S
    raw.execute("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                raw.execute(WRITING)
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE_S)
    finally:
        raw.execute(f"PRAGMA busy_timeout={BUSY_S * 1000:.0f}")
