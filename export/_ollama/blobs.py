"""A file on the server's disk: sent once, in pieces, and only where the server has no file of the same bytes.

Not covered: split files.
"""

import hashlib
from contextlib import closing
from pathlib import Path

from data.errors import EngineRejected, EngineUnavailable, InputError, PointsmanError
from export._exporting.steps import Counting, Step, Tell
from router.engines._faults import Dropped, Fault, Refusal, Stalled
from router.engines._http import PIECE_BYTES
from router.engines._ollama_connection import Connection

ASK_S = 30.0
STALL_S = 300.0
TRIES = 2
FULL = "no space left on device"
_TELL_BYTES = 64 << 20


def digest(file: Path, tell: Tell) -> str:
    """The sha256 of a file's bytes, in hex. Raises InputError where it cannot be read."""
    found, done = hashlib.sha256(), 0
    try:
        counting = Counting(f"reading {file.name} (KB)", _kb(file.stat().st_size), tell)
        with file.open("rb") as opened:
            while piece := opened.read(PIECE_BYTES):
                found.update(piece)
                done += len(piece)
                if done % _TELL_BYTES == 0:
                    counting.at(_kb(done))
    except OSError as error:
        raise _unreadable(file, error) from error
    return found.hexdigest()


def ensure(connection: Connection, file: Path, sha256: str, tell: Tell) -> int:
    """Have the server hold the file's bytes; returns how many were sent. A connection that is lost is tried once more.

    Raises EngineUnavailable, EngineRejected, InputError where the file cannot be read or changes meanwhile.
    """
    path = f"/api/blobs/sha256:{sha256}"
    for left in reversed(range(TRIES)):
        with connection.translating():
            if _has(connection, path):
                return 0
        try:
            return _send(connection, path, file, tell)
        except (Dropped, Stalled) as fault:
            if not left:
                what = f"Ollama at {connection.host} was lost while {file.name} was sent: {fault}"
                raise EngineUnavailable(what, "try again; its log says why") from fault
            tell(Step(f"the connection was lost ({fault}); sending {file.name} once more"))
        except Fault as fault:
            raise _refused(connection, fault, file) from fault
    raise AssertionError  # the last try returns or raises


def _has(connection: Connection, path: str) -> bool:
    try:
        connection.server().whole("HEAD", path, deadline_s=ASK_S)
    except Refusal as refusal:
        if refusal.status == 404:
            return False
        raise
    return True


def _send(connection: Connection, path: str, file: Path, tell: Tell) -> int:
    try:
        size = file.stat().st_size
        counting = Counting(f"sending {file.name} (KB)", _kb(size), tell)
        with file.open("rb") as opened, closing(connection.server().send(path, opened, size, stall_s=STALL_S)) as sending:
            for gone in sending:
                counting.at(_kb(gone))
    except OSError as error:
        raise _unreadable(file, error) from error
    return size


def _kb(size: int) -> int:
    return -(-size // 1000)


def _refused(connection: Connection, fault: Fault, file: Path) -> PointsmanError:
    if isinstance(fault, Refusal) and FULL in fault.text.lower():
        return EngineRejected(f"the disk of Ollama at {connection.host} is full: {fault}", "free space there: ollama rm MODEL")
    if isinstance(fault, Refusal) and "digest mismatch" in fault.text.lower():
        return InputError(f"{file} changed while it was sent, or arrived damaged: {fault}", "try again")
    return connection.translated(fault, "")


def _unreadable(file: Path, error: OSError) -> InputError:
    return InputError(f"cannot read {file}: {error.strerror or error}", "make it readable")
