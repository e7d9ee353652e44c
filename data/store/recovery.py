"""After a crash: answers that no living process writes any more become `interrupted`, with the text that had arrived.

Where the machine itself went down while an answer was being written, the file's pages are checked first. Not covered:
telling a living process from a dead one (writer.py).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, select, text, update

from data.errors import StoreDamaged, StoreFull, StoreReadOnly
from data.store import answering
from data.store.database import Database
from data.store.tables import inference
from data.store.writer import Life, Writer, life, this_process

STALE = timedelta(hours=1)  # without a sign of life, for a writer on another machine or in another container
LEFT = "Pointsman ended before the answer did"
_OPEN = text("status IN ('pending', 'streaming')")  # spelt as in the partial index, which bound values would not match
UNFINISHED = select(inference.c.id, inference.c.writer, inference.c.updated_at).where(_OPEN)


def recover(database: Database, here: Writer | None = None, now: datetime | None = None) -> int:
    """Mark what dead processes left; returns how many answers. Raises StoreDamaged.

    Where the disk is full or may not be written the log stays readable as it is, and the next opening tries again.
    """
    here, now = here or this_process(), now or datetime.now(UTC)
    lives = {row.id: _life(row, here, now) for row in _unfinished(database)}
    left = [key for key, found in lives.items() if found in ("dead", "rebooted")]
    if "rebooted" in lives.values():
        database.check()
    try:
        return sum(_interrupt(database, key, now) for key in left)
    except (StoreFull, StoreReadOnly):
        return 0


def _unfinished(database: Database) -> Sequence[Row[Any, Any, Any]]:
    with database.read() as connection:
        return connection.execute(UNFINISHED).all()


def _life(row: Row[Any, Any, Any], here: Writer, now: datetime) -> Life:
    found: Life
    try:
        found = life(Writer.parse(row.writer), here)
    except StoreDamaged:
        found = "unknown"
    return "dead" if found == "unknown" and now - row.updated_at > STALE else found


def _interrupt(database: Database, key: str, now: datetime) -> int:
    with database.write() as connection:
        changed = connection.execute(
            update(inference)
            .where(inference.c.id == key, _OPEN)
            .values(status="interrupted", finish="interrupted", error=LEFT, updated_at=now, finished_at=now)
        ).rowcount
        if changed:
            answering.index_answer(connection, key, now)
    return changed
