"""What a forgetting takes from the database: planned by text, kept as ids and new values alone, and carried out by them.

A plan holds nothing of what is forgotten, so that it can be written down and finished after a crash; carrying it out twice does
no more than once. Free text in rows that have to stay (why a model was promoted) is put into other words; rows that are only ever
added to are changed by this alone. Not covered: the files of the database (forget.scrub), names, which are keys elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Table, and_, delete, exists, inspect, select, update

from data.store import chunks, forget, reading
from data.store import registry_tables as r
from data.store import tables as t
from data.store.database import Database
from data.store.words import without_seams

Found = Callable[[str], bool]
Cleared = Callable[[str], str]

_OF_CONVERSATIONS = (
    t.conversation,
    t.turn,
    t.config_snapshot,
    t.inference,
    t.inference_payload,
    t.feedback,
    t.preference,
    t.search_document,
    t.document,
    t.chunk,
    t.exemplar,
)
"""Tables whose rows go as a whole."""
_KEYS = frozenset(
    "name model base domain sha256 stage state kind action salt from_stage to_stage rules arms arm user run place encoder".split()
)
"""Columns by which something is found again: a word of theirs is told, never changed."""
_ADDED_TO_ONLY = (r.stage_event, r.gate_decision)


@dataclass(frozen=True, slots=True)
class Change:
    """New values of a row's free text. key: its primary key by column."""

    table: str
    key: Mapping[str, Any]
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Doomed:
    """What goes, by ids. documents: of the library, whose conversation is none; changes: rows that stay; turns, feedback: counts;
    named: keys that hold the text and stay, as "table.column"; asked: when the oldest of the conversations began, ISO 8601."""

    conversations: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    exemplars: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    turns: int = 0
    feedback: int = 0
    named: tuple[str, ...] = ()
    asked: str = ""

    def __bool__(self) -> bool:
        return bool(self.conversations or self.documents or self.exemplars or self.changes)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Doomed":
        """From `dataclasses.asdict` of one that went through JSON. Raises TypeError and KeyError where it is none."""
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
        return cls(**(values | {"changes": tuple(Change(**one) for one in told["changes"])}))


def conversations(database: Database, keys: Sequence[str], found: Found | None) -> set[str]:
    """The ids of these conversations (ids or parts of them) and of all in which a text is `found`. Raises NotFound."""
    with database.read() as connection:
        ids = {reading.whole_id(connection, t.conversation, key, "conversation") for key in keys}
        if found is not None:
            ids |= {key for key, words in forget.texts(connection) if key not in ids and found(words)}
    return ids


def said(database: Database, ids: set[str]) -> tuple[list[str], Callable[[], Iterator[str]]]:
    """What was said in these conversations (questions, answers, reasoning, what was said about them), and all other texts."""
    with database.read() as connection:
        mine = [words for key, words in _spoken(connection) if key in ids]

    def others() -> Iterator[str]:
        with database.read() as connection:
            yield from (words for key, words in forget.texts(connection) if key not in ids)

    return mine, others


def plan(database: Database, ids: set[str], found: Found, cleared: Cleared) -> Doomed:
    """What has to go so that nothing of the conversations and no text that is `found` is left."""
    with database.read() as connection:
        turns, feedback = forget.counts(connection, ids)
        c = t.conversation.c
        begun = [row.created_at for row in connection.execute(select(c.id, c.created_at)) if row.id in ids]
        exemplars = connection.execute(select(t.exemplar.c.id, t.exemplar.c.text)).all()
        changes, named = _others(connection, found, cleared)
        return Doomed(
            tuple(sorted(ids)),
            tuple(sorted(_documents(connection, found))),
            tuple(row.id for row in exemplars if found(row.text)),
            tuple(changes),
            turns,
            feedback,
            tuple(sorted(named)),
            min(begun).isoformat() if begun else "",
        )


def carry_out(database: Database, doomed: Doomed) -> None:
    """Do it in one transaction. Rows that are gone already are no fault."""
    with database.write() as connection:
        forget.delete_conversations(connection, doomed.conversations)
        for key in doomed.documents:
            chunks.remove_documents(connection, t.document.c.id == key)
        for key in doomed.exemplars:
            connection.execute(delete(t.exemplar).where(t.exemplar.c.id == key))
        if doomed.changes:
            with _changeable(connection):
                for change in doomed.changes:
                    table = t.metadata.tables[change.table]
                    where = and_(*(table.c[name] == value for name, value in change.key.items()))
                    connection.execute(update(table).where(where).values(**change.values))
        used = exists().where(t.inference.c.config_hash == t.config_snapshot.c.sha256)
        connection.execute(delete(t.config_snapshot).where(~used))


def _spoken(connection: Connection) -> Iterator[tuple[str, str]]:
    """As `forget.texts`, of what people and models said alone: a system prompt or a setting is shared by many conversations."""
    owner, p = t.turn.c.conversation_id, t.inference_payload.c
    answers = t.inference.join(t.turn, t.turn.c.id == t.inference.c.turn_id)
    for query in (
        select(owner, t.turn.c.content).where(t.turn.c.role != "system"),
        select(owner, p.text, p.thinking).select_from(answers.join(t.inference_payload)),
        select(owner, t.feedback.c.text).select_from(t.feedback.join(answers, t.feedback.c.inference_id == t.inference.c.id)),
    ):
        for key, *values in connection.execute(query):
            yield from ((key, value) for value in values if value)


def _documents(connection: Connection, found: Found) -> set[str]:
    """Documents of the library in which the text stands, in their names too."""
    doomed = set()
    alone = t.document.c.conversation_id.is_(None)
    for key, path in connection.execute(select(t.document.c.id, t.document.c.path).where(alone)):
        if found(path):
            doomed.add(key)
    query = select(t.chunk.c.document_id, t.chunk.c.heading, t.chunk.c.body).join(t.document).where(alone)
    ends: dict[str, str] = {}
    for row in connection.execute(query.order_by(t.chunk.c.document_id, t.chunk.c.number)):
        body = without_seams(row.body)
        before = ends.get(row.document_id, "")  # a text that two chunks share
        if row.document_id not in doomed and any(map(found, (without_seams(row.heading), body, f"{before} {body[:2000]}"))):
            doomed.add(row.document_id)
        ends[row.document_id] = body[-2000:]
    return doomed


def _others(connection: Connection, found: Found, cleared: Cleared) -> tuple[list[Change], set[str]]:
    """Changes of every other table that the database has, and the keys that hold the text."""
    changes, named = [], set()
    sqlite = connection.dialect.name == "sqlite"
    schema = None if sqlite else connection.exec_driver_sql("SELECT current_schema()").scalar()  # a user's own, where several share
    present = set(inspect(connection).get_table_names(schema=schema))
    for table in t.metadata.sorted_tables:
        if table in _OF_CONVERSATIONS or table.name not in present:
            continue
        texts = [one for one in table.c if _holds_text(one)]
        for row in connection.execute(select(table)) if texts else ():
            held = {one.name: row._mapping[one.name] for one in texts}
            hits = {name: value for name, value in held.items() if any(map(found, forget.strings(value)))}
            named |= {f"{table.name}.{name}" for name in hits if name in _KEYS}
            values = {name: _cleared(value, cleared) for name, value in hits.items() if name not in _KEYS}
            if values:
                changes.append(Change(table.name, _key(table, row), values))
    return changes, named


def _holds_text(one: "Column[Any]") -> bool:
    plain = isinstance(one.type, t.Words | t.Json) and not isinstance(one.type, t.Id)
    return plain and not one.foreign_keys and (not one.primary_key or one.name in _KEYS)


def _key(table: Table, row: Any) -> dict[str, Any]:
    return {one.name: row._mapping[one.name] for one in table.primary_key}


def _cleared(value: Any, cleared: Cleared) -> Any:
    if isinstance(value, str):
        return cleared(value)
    if isinstance(value, Mapping):
        return {cleared(str(name)): _cleared(one, cleared) for name, one in value.items()}
    return [_cleared(one, cleared) for one in value] if isinstance(value, Sequence) else value


@contextmanager
def _changeable(connection: Connection) -> Iterator[None]:
    """Without the triggers that keep rows from being changed, until the transaction ends."""
    if connection.dialect.name == "postgresql":
        for table in _ADDED_TO_ONLY:
            connection.exec_driver_sql(f"ALTER TABLE {table.name} DISABLE TRIGGER USER")
        yield
        for table in _ADDED_TO_ONLY:
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ENABLE TRIGGER USER")
        return
    names = ", ".join(f"'{table.name}'" for table in _ADDED_TO_ONLY)
    query = f"SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN ({names})"  # noqa: S608 constants only
    triggers = connection.exec_driver_sql(query).all()
    for name, _ in triggers:
        connection.exec_driver_sql(f'DROP TRIGGER "{name}"')
    yield
    for _, made in triggers:
        connection.exec_driver_sql(made)
