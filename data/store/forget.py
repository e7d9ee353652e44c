"""Forgetting: rows, search index, free pages, journals and backups, until no byte of the text is left in the store's files.

FTS5 keeps deleted words in its segments until they are built anew, and SQLite's file keeps its length until VACUUM; both
are done here. On PostgreSQL the tables are rewritten; the server's own log and backups are its administrator's.
Not covered: text that already went into datasets, models and other files (data.forgetting).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, exists, func, or_, select, update

from data.errors import InputError, StoreError
from data.store import chunks, reading, routing, search, sqlite_file
from data.store import tables as t
from data.store.database import INDEXES, Database
from data.store.rows import Forgotten
from data.store.words import without_seams

_BATCH = 500  # ids in one statement


def forget(database: Database, conversations: Sequence[str], text: str, dry_run: bool) -> Forgotten:
    """Delete these conversations and all in which `text` occurs, then rewrite the file. Log.forget tells the rest."""
    if not conversations and not text.strip():
        raise InputError("forgetting needs a conversation or a text", "give one")
    wanted = t.clean(text).strip().casefold()
    with database.read() if dry_run else database.write() as connection:
        ids = {reading.whole_id(connection, t.conversation, key, "conversation") for key in conversations}
        if wanted:
            ids |= {found for found, words in texts(connection) if wanted in words.casefold()}
        turns, feedback = counts(connection, ids)
        if not dry_run:
            delete_conversations(connection, ids)
            if wanted:
                routing.delete_exemplars_with(connection, wanted)
    backups = sqlite_file.backups(database.path) if database.path else []
    if not dry_run:
        for backup in backups:
            backup.unlink(missing_ok=True)
        scrub(database)
    return Forgotten(len(ids), turns, feedback, len(backups))


def delete_conversations(connection: Connection, ids: Iterable[str]) -> None:
    """Delete the rows of these conversations and the configurations that nothing else uses."""
    for part in _parts(ids):
        turns = select(t.turn.c.id).where(t.turn.c.conversation_id.in_(part))
        answers = select(t.inference.c.id).where(t.inference.c.turn_id.in_(turns))
        pairs = select(t.preference.c.feedback_id).where(
            or_(t.preference.c.chosen_inference_id.in_(answers), t.preference.c.rejected_inference_id.in_(answers))
        )
        said = select(t.feedback.c.id).where(or_(t.feedback.c.inference_id.in_(answers), t.feedback.c.id.in_(pairs)))
        doomed = list(connection.execute(said).scalars())
        search.remove(connection, t.search_document.c.conversation_id.in_(part))
        chunks.remove_documents(connection, t.document.c.conversation_id.in_(part))
        for some in _parts(doomed):
            connection.execute(delete(t.preference).where(t.preference.c.feedback_id.in_(some)))
        _delete_feedback(connection, doomed)
        routing.delete_exemplars(connection, answers)
        connection.execute(delete(t.inference_payload).where(t.inference_payload.c.inference_id.in_(answers)))
        connection.execute(delete(t.inference).where(t.inference.c.turn_id.in_(turns)))
        connection.execute(delete(t.turn).where(t.turn.c.conversation_id.in_(part)))
        connection.execute(delete(t.conversation).where(t.conversation.c.id.in_(part)))
    used = exists().where(t.inference.c.config_hash == t.config_snapshot.c.sha256)
    connection.execute(delete(t.config_snapshot).where(~used))


def scrub(database: Database) -> None:
    """Rewrite the index and the file without what was deleted. Raises StoreError where others keep the file busy."""
    tables = ", ".join(f'"{table.name}"' for table in t.metadata.sorted_tables)
    try:
        if database.sqlite:
            with database.write() as connection:
                for index in INDEXES:
                    connection.exec_driver_sql(f"INSERT INTO {index}({index}) VALUES ('rebuild')")  # noqa: S608 constants only
        with database.outside() as connection:
            connection.exec_driver_sql("VACUUM" if database.sqlite else f"VACUUM (FULL) {tables}")
            if database.sqlite:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    except StoreError as error:
        fix = "end other programs that use the log and forget again"
        raise type(error)(f"deleted, but traces may remain in the file: {error.what}", fix) from error


def _delete_feedback(connection: Connection, doomed: Sequence[str]) -> None:
    for some in _parts(doomed):  # they supersede each other, so that the order would matter
        connection.execute(update(t.feedback).where(t.feedback.c.id.in_(some)).values(supersedes_id=None))
    for some in _parts(doomed):
        connection.execute(delete(t.feedback).where(t.feedback.c.id.in_(some)))


def counts(connection: Connection, ids: Iterable[str]) -> tuple[int, int]:
    """How many turns these conversations have, and pieces of feedback."""
    turns = feedback = 0
    for part in _parts(ids):
        turns += connection.execute(select(func.count()).where(t.turn.c.conversation_id.in_(part))).scalar() or 0
        query = select(func.count()).select_from(t.feedback).join(t.inference, t.inference.c.id == t.feedback.c.inference_id)
        query = query.join(t.turn, t.turn.c.id == t.inference.c.turn_id).where(t.turn.c.conversation_id.in_(part))
        feedback += connection.execute(query).scalar() or 0
    return turns, feedback


def texts(connection: Connection) -> Iterator[tuple[str, str]]:
    """Every text in the log with its conversation."""
    c, n = t.conversation.c, t.inference.c
    yield from _columns(connection, select(c.id, c.title, c.system_prompt, c.domain))
    yield from _columns(connection, select(t.turn.c.conversation_id, t.turn.c.content, t.turn.c.tool_name))
    attached = t.chunk.join(t.document, t.document.c.id == t.chunk.c.document_id)
    texts = select(t.document.c.conversation_id, t.document.c.path, t.chunk.c.heading, t.chunk.c.body).select_from(attached)
    for found, words in _columns(connection, texts.where(t.document.c.conversation_id.is_not(None))):
        yield found, without_seams(words)
    answers = t.inference.join(t.turn, t.turn.c.id == n.turn_id)
    owner = t.turn.c.conversation_id
    payload = t.inference_payload.c
    yield from _columns(
        connection,
        select(owner, payload.text, payload.thinking, payload.tool_calls, payload.trace, n.decision, n.error).select_from(
            answers.join(t.inference_payload)
        ),
    )
    yield from _columns(
        connection,
        select(owner, t.config_snapshot.c.canonical_json).select_from(answers.join(t.config_snapshot)).distinct(),
    )
    yield from _columns(
        connection,
        select(owner, t.feedback.c.text, t.feedback.c.dedupe_key).select_from(
            t.feedback.join(answers, t.feedback.c.inference_id == n.id)
        ),
    )


def _columns(connection: Connection, query: Any) -> Iterator[tuple[str, str]]:
    for owner, *values in connection.execute(query.execution_options(yield_per=1000)):
        for value in values:
            for words in strings(value):
                yield owner, words


def strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield str(name)
            yield from strings(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from strings(item)


def _parts(ids: Iterable[str]) -> Iterator[list[str]]:
    whole = list(ids)
    for start in range(0, len(whole), _BATCH):
        yield whole[start : start + _BATCH]
