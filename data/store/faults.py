"""The one place where a database's errors become Pointsman's own: what failed, in which file, and what to do next.

Not covered: damaged values inside sound rows (tables.py, reading.py).
"""

import errno
import os
import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from data.errors import StoreDamaged, StoreError, StoreFull, StoreReadOnly

_RESTORE = "keep the file, and move it away to start anew or put a backup in its place"
_FREE = "free some space; nothing that was kept is lost"
_POSTGRES = "pip install 'pointsman[postgres]'"


def damaged(where: str, reason: str) -> StoreDamaged:
    """The database at `where` is no sound database."""
    return StoreDamaged(f"the log {where} is damaged ({reason})", _RESTORE)


def translate(error: Exception, where: str) -> StoreError:
    """The StoreError that says what `error` (of SQLAlchemy or sqlite3) means for the database at `where`."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        return _from_sqlite(cause, where)
    state = getattr(cause, "sqlstate", None)
    if cause is not None and hasattr(cause, "sqlstate"):
        return _from_postgres(cause, state or "", where)
    return StoreError(f"the log {where} failed: {_line(error)}", "run pointsman doctor")


def translate_os(error: OSError, where: str) -> StoreError:
    """The StoreError for a file that cannot be made, locked or renamed."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFull(f"no space for the log {where}: {reason}", _FREE)
    if error.errno in (errno.EPERM, errno.EACCES, errno.EROFS):
        return _read_only(where, reason)
    return StoreError(f"cannot use the log {where}: {reason}", "set POINTSMAN_HOME or store.url to another place")


def missing_driver(where: str) -> StoreError:
    """PostgreSQL is wanted and its driver is not there."""
    return StoreError(f"the log {where} needs the PostgreSQL driver", _POSTGRES)


def _from_sqlite(error: sqlite3.Error, where: str) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0)
    reason = _line(error)
    if code in (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_TRUNCATE) or code & 0xFF == sqlite3.SQLITE_FULL:
        return StoreFull(f"no space for the log {where} (disk, quota or file-size limit): {reason}", _FREE)
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT) or reason.startswith("Could not decode"):
        return damaged(where, reason)
    if code == sqlite3.SQLITE_READONLY_DBMOVED:
        return StoreReadOnly(f"the log {where} was moved or deleted while it was open", "put it back, or start Pointsman again")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return _read_only(where, reason)
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"the log {where} is in use by another program: {reason}", "try again; nothing was lost")
    if primary == sqlite3.SQLITE_CANTOPEN:
        return _cannot_open(where, reason)
    if "no such module: fts5" in reason:
        return StoreError("this Python's SQLite has no full-text search (FTS5)", "use a Python whose SQLite has it, as most do")
    if reason.startswith(("no such table", "no such column", "unsupported file format")):
        return damaged(where, reason)
    return StoreError(f"the log {where} failed: {reason}", "run pointsman doctor")


def _cannot_open(where: str, reason: str) -> StoreError:
    folder = Path(where).parent
    if folder.is_dir() and not os.access(folder, os.W_OK):
        return _read_only(where, reason)
    return StoreError(f"cannot open the log {where}: {reason}", "set POINTSMAN_HOME or store.url to another place")


def _from_postgres(error: BaseException, state: str, where: str) -> StoreError:
    reason = _line(error)
    if state in ("53100", "53200"):  # disk_full, out_of_memory
        return StoreFull(f"no space for the log {where}: {reason}", "free some space on the server")
    if state in ("25006", "42501"):  # read_only_sql_transaction, insufficient_privilege
        return StoreReadOnly(f"the log {where} may not be written: {reason}", "grant this user the right to write")
    if state in ("55P03", "40P01", "40001"):  # lock_not_available, deadlock_detected, serialization_failure
        return StoreError(f"the log {where} is in use by another program: {reason}", "try again; nothing was lost")
    if state in ("XX001", "XX002"):  # data_corrupted, index_corrupted
        return StoreDamaged(f"the log {where} is damaged: {reason}", "restore the server's backup")
    if state[:2] in ("", "08", "57", "28", "3D"):  # no connection; connection lost; shutdown; not admitted; no such database
        return StoreError(f"cannot reach the log {where}: {reason}", "start the server, or correct store.url")
    return StoreError(f"the log {where} failed: {reason}", "run pointsman doctor")


def _read_only(where: str, reason: str) -> StoreReadOnly:
    return StoreReadOnly(
        f"the log {where} may not be written: {reason}", "make it writable, or set POINTSMAN_HOME to another folder"
    )


def _line(error: BaseException) -> str:
    if isinstance(error, SQLAlchemyError) and not isinstance(error, DBAPIError):
        error = error.__cause__ or error
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
