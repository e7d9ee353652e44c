"""Conversations that go by their age: those whose last turn is longer ago than `store.keep_days`, and diagnostic files of that age.

At a start it happens by itself, at most once a day; after a week without a start, or when the clock was set forward by as much,
and when the setting is new, it waits for a day first, so that a wrong clock or a slip of the finger deletes nothing at once. Going
by age is forgetting in the log (data.store.forget): no byte of it stays there. Not covered: datasets and models, which were made on
purpose and stay until they are removed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from data import paths
from data.store import forget
from data.store import tables as t

if TYPE_CHECKING:
    from data.store import Store

ABSENCE = timedelta(days=7)
"""Longer without a start, the clock has to be believed for a day first."""
TRIAL = timedelta(days=1)
FILE = "retention.json"


@dataclass(frozen=True, slots=True)
class Purged:
    """What went, or is to go: conversations and diagnostic files; waits: until when nothing goes yet, None where it went."""

    conversations: int
    files: int
    waits: datetime | None = None


def due(store: "Store", days: int, now: datetime) -> tuple[list[str], list[Path]]:
    """The conversations and diagnostic files that are older than so many days."""
    before = now - timedelta(days=days)
    query = select(t.conversation.c.id).where(t.conversation.c.updated_at < before).order_by(t.conversation.c.id)
    with store.database.read() as connection:
        ids = list(connection.execute(query).scalars())
    folder = paths.log_dir()
    named = [*folder.glob("crash-*.txt"), *folder.glob("*.log")]
    return ids, sorted(one for one in named if one.is_file() and one.stat().st_mtime < before.timestamp())


def purge(store: "Store", days: int, now: datetime | None = None, *, dry_run: bool = False) -> Purged:
    """Let them go now. Raises StoreError where other programs keep the database busy; again finishes it."""
    ids, files = due(store, days, now or datetime.now(UTC))
    if dry_run or not (ids or files):
        return Purged(len(ids), len(files))
    _purge(store, ids, files)
    return Purged(len(ids), len(files))


def at_start(store: "Store", days: int, now: datetime | None = None) -> Purged | None:
    """What a start does; None where there is nothing to tell.

    A store in memory has nothing old; one on a server may be shared, so there only `purge` forgets, when somebody asks for it.
    """
    if not days or store.database.path is None:
        return None
    now = now or datetime.now(UTC)
    state = _read()
    seen, trusted = _time(state.get("seen")), _time(state.get("from"))
    if state.get("days") != days or seen is None or trusted is None or now - seen > ABSENCE:
        trusted = now + TRIAL
    elif now - seen < TRIAL and state.get("done") == now.date().isoformat():
        return None
    done = now >= trusted
    _write({"seen": now.isoformat(), "from": trusted.isoformat(), "days": days, "done": now.date().isoformat()})
    found = purge(store, days, now, dry_run=not done)
    if not (found.conversations or found.files):
        return None
    return found if done else Purged(found.conversations, found.files, trusted)


def _purge(store: "Store", ids: Sequence[str], files: Sequence[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
    if not ids:
        return
    with store.database.write() as connection:
        forget.delete_conversations(connection, ids)
    forget.scrub(store.database)


def _read() -> dict[str, Any]:
    try:
        found = json.loads((paths.data_dir() / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(state: dict[str, Any]) -> None:
    with paths.replacing(paths.data_dir() / FILE) as out:
        out.write(json.dumps(state).encode())


def _time(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found if found.tzinfo else None
