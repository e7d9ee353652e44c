"""Full-text search over everything in the log: questions, answers, thinking, corrections, comments, titles.

The words are kept in search_document, and indexed in the same transaction by FTS5 or in a tsvector column, whose words are
folded here because PostgreSQL's own folding depends on the server's locale. FTS5 is kept up by `add` and `remove`, not by
triggers, which trusted_schema=OFF forbids. Answers are indexed when they end, incognito conversations never.
Not covered: stemming, synonyms.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, column, delete, insert, literal, select, table, text
from sqlalchemy.sql.elements import ColumnElement

from data.errors import InputError
from data.store import words
from data.store.database import Database
from data.store.rows import Hit
from data.store.tables import clean, conversation, search_document, turn

_RANKED = {
    "sqlite": """
        SELECT d.id, d.turn_id, d.conversation_id FROM search_index
        JOIN search_document d ON d.id = search_index.rowid {joins}
        WHERE search_index MATCH :query {filters}
        ORDER BY round(bm25(search_index)), d.id DESC LIMIT :most""",
    "postgresql": """
        SELECT d.id, d.turn_id, d.conversation_id FROM search_document d {joins}
        WHERE d.terms @@ to_tsquery('simple', :query) {filters}
        ORDER BY round(CAST(10 * ts_rank(d.terms, to_tsquery('simple', :query)) AS numeric)) DESC, d.id DESC LIMIT :most""",
}
_JOINS = " JOIN inference i ON i.turn_id = d.turn_id"
_ADD_TSVECTOR = text(
    "INSERT INTO search_document (conversation_id, turn_id, feedback_id, kind, body, created_at, terms) "
    "VALUES (:conversation_id, :turn_id, :feedback_id, :kind, :body, :created_at, to_tsvector('simple', :folded))"
)
_ADD_FTS5 = text("INSERT INTO search_index(rowid, body) VALUES (:id, :body)")
_index = table("search_index", column("search_index"), column("rowid"), column("body"))


class Search:
    """The one way to look things up by words."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, query: str, *, model: str = "", conversation_id: str = "", limit: int = 50) -> list[Hit]:
        """Where all the words occur, best first, among equals the newest first, at most `limit`.

        Words in double quotes must stand together; the last word may be the beginning of one. No other character has a
        meaning. One hit a turn, and the title only of a conversation that has no other. `model` (as `Inference.model`)
        finds only its answers and what was said about them; conversation_id is a whole id. Raises InputError where there
        is no word at all.
        """
        if not query.strip():
            raise InputError("there is nothing to search for", "give one word at least")
        terms = words.terms(clean(query))
        expression = (_fts5 if self._database.sqlite else _tsquery)(terms, not query.rstrip().endswith('"'))
        if not expression or limit < 1:
            return []
        filters = (" AND i.model = :model" if model else "") + (" AND d.conversation_id = :conversation" if conversation_id else "")
        ranked = _RANKED["sqlite" if self._database.sqlite else "postgresql"]
        values = {"model": clean(model), "conversation": clean(conversation_id)}
        values = {name: value for name, value in values.items() if value}
        with self._database.read() as connection:
            found = connection.execute(
                text(ranked.format(joins=_JOINS if model else "", filters=filters)),
                {"query": expression, "most": limit * 4, **values},
            ).all()
            talks = {row.conversation_id for row in found if row.turn_id}
            best: dict[str, int] = {}
            for row in found:
                if row.turn_id or row.conversation_id not in talks:
                    best.setdefault(row.turn_id or row.conversation_id, row.id)
            return _hits(connection, list(best.values())[:limit], terms)


def add(
    connection: Connection,
    conversation_id: str,
    kind: str,
    body: str,
    at: datetime,
    *,
    turn_id: str | None = None,
    feedback_id: str | None = None,
) -> None:
    """Index one text within the caller's transaction; nothing where there is no text."""
    row = {"conversation_id": conversation_id, "turn_id": turn_id, "feedback_id": feedback_id, "kind": kind, "created_at": at}
    for part in words.parts(clean(body)):
        if connection.dialect.name == "postgresql":
            connection.execute(_ADD_TSVECTOR, {**row, "body": part, "folded": words.folded(part)})
            continue
        made = connection.execute(insert(search_document).values(**row, body=part)).inserted_primary_key
        connection.execute(_ADD_FTS5, {"id": made[0] if made else None, "body": part})


def remove(connection: Connection, which: ColumnElement[bool]) -> None:
    """Take documents out of the index within the caller's transaction."""
    if connection.dialect.name == "sqlite":
        gone = select(literal("delete"), search_document.c.id, search_document.c.body).where(which)
        connection.execute(insert(_index).from_select(["search_index", "rowid", "body"], gone))
    connection.execute(delete(search_document).where(which))


def _fts5(terms: Sequence[str], open_ended: bool) -> str:
    quoted = ['"' + words.seams(term).replace('"', '""') + '"' for term in terms]
    return " ".join(quoted) + (" *" if open_ended else "")


def _tsquery(terms: Sequence[str], open_ended: bool) -> str:
    phrases = [[f"'{word}'" for word in words.folded(words.seams(term)).split()] for term in terms]
    phrases = [phrase for phrase in phrases if phrase]
    if phrases and open_ended:
        phrases[-1][-1] += ":*"
    return " & ".join("(" + " <-> ".join(phrase) + ")" for phrase in phrases)


def _hits(connection: Connection, ids: Sequence[int], terms: Sequence[str]) -> list[Hit]:
    d = search_document
    found = connection.execute(
        select(d, conversation.c.title, turn.c.role)
        .join_from(d, conversation, conversation.c.id == d.c.conversation_id)
        .join(turn, turn.c.id == d.c.turn_id, isouter=True)
        .where(d.c.id.in_(ids))
    )
    hits = {}
    for row in found:
        shown = words.snippet(words.without_seams(row.body), terms)
        hits[row.id] = Hit(row.conversation_id, row.turn_id or "", row.role or "title", row.kind, shown, row.created_at, row.title)
    return [hits[key] for key in ids]
