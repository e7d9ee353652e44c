"""Full-text search over everything in the log: questions, answers, thinking, corrections, comments, titles.

The words are kept in search_document, and indexed in the same transaction by FTS5 or in a tsvector column, whose words are
folded here because PostgreSQL's own folding depends on the server's locale. FTS5 is kept up by `add` and `remove`, not by
triggers, which trusted_schema=OFF forbids. Answers are indexed when they end, incognito conversations never.
Not covered: stemming, synonyms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, column, delete, insert, literal, select, table, text
from sqlalchemy.sql.elements import ColumnElement

from data.errors import InputError
from data.store import words
from data.store.database import Database
from data.store.rows import Hit
from data.store.tables import UtcTime, clean, conversation, search_document, turn

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
_NEWEST = """
    SELECT d.id, d.turn_id, d.conversation_id FROM search_document d {joins}
    WHERE d.kind = 'answer' {filters}
    ORDER BY d.id DESC LIMIT :most"""
_SAID = (
    " AND EXISTS (SELECT 1 FROM feedback f WHERE f.inference_id = i.id AND NOT f.withdrawn AND ({said})"
    " AND NOT EXISTS (SELECT 1 FROM feedback n WHERE n.supersedes_id = f.id))"
)
_RATINGS = {
    "rated": "f.kind IN ('thumb', 'rating', 'correction', 'preference')",
    "good": "(f.kind = 'thumb' AND f.value > 0) OR (f.kind = 'rating' AND f.value >= 4)",
    "bad": "(f.kind = 'thumb' AND f.value < 0) OR (f.kind = 'rating' AND f.value <= 2)",
    "corrected": "f.kind = 'correction'",
    "commented": "f.kind = 'comment'",
    **{str(stars): f"f.kind = 'rating' AND f.value = {stars}" for stars in range(1, 6)},
}
RATINGS = tuple(_RATINGS)
_JOINS = " JOIN inference i ON i.turn_id = d.turn_id"
_ADD_TSVECTOR = text(
    "INSERT INTO search_document (conversation_id, turn_id, feedback_id, kind, body, created_at, terms) "
    "VALUES (:conversation_id, :turn_id, :feedback_id, :kind, :body, :created_at, to_tsvector('simple', :folded))"
)
_ADD_FTS5 = text("INSERT INTO search_index(rowid, body) VALUES (:id, :body)")
_index = table("search_index", column("search_index"), column("rowid"), column("body"))


@dataclass(frozen=True, slots=True)
class Filters:
    """Which answers, and what was said about them, a search is for; "" and None leave a part open.

    mode, domain: as in `Inference`; rating: "rated", "good" (a thumb up, or 4 stars or more), "bad" (a thumb down, or 2 stars or
    fewer), "corrected", "commented", or "1" to "5" stars; since, before: when it was said. All but the times leave out
    questions and titles.
    """

    mode: str = ""
    domain: str = ""
    rating: str = ""
    since: datetime | None = None
    before: datetime | None = None


_EVERYTHING = Filters()


class Search:
    """The one way to look things up by words."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(
        self, query: str, *, model: str = "", conversation_id: str = "", limit: int = 50, filters: Filters = _EVERYTHING
    ) -> list[Hit]:
        """Where all the words occur, best first, among equals the newest first, at most `limit`.

        Words in double quotes must stand together; the last word may be the beginning of one. No other character has a
        meaning. One hit a turn, and the title only of a conversation that has no other. `model` (as `Inference.model`)
        finds only its answers and what was said about them; conversation_id is a whole id. Where `filters` say something
        the words may be missing: then the newest answers that fit are found. Raises InputError where there is neither.
        """
        narrowing = filters != _EVERYTHING or bool(model)
        if not query.strip() and not narrowing:
            raise InputError("there is nothing to search for", "give one word at least")
        terms = words.terms(clean(query))
        express = _fts5 if self._database.sqlite else _tsquery
        expression = express(terms, not query.rstrip().endswith('"')) if terms else ""
        if not (expression or (narrowing and not terms)) or limit < 1:
            return []
        where, values = _narrowed(model, conversation_id, filters)
        ranked = _RANKED["sqlite" if self._database.sqlite else "postgresql"] if expression else _NEWEST
        joins = _JOINS if " i." in where else ""
        statement = text(ranked.format(joins=joins, filters=where))
        times = [bindparam(name, type_=UtcTime()) for name in ("since", "before") if name in values]
        with self._database.read() as connection:
            found = connection.execute(
                statement.bindparams(*times), {"most": limit * 4, **({"query": expression} if expression else {}), **values}
            ).all()
            talks = {row.conversation_id for row in found if row.turn_id}
            best: dict[str, int] = {}
            for row in found:
                if row.turn_id or row.conversation_id not in talks:
                    best.setdefault(row.turn_id or row.conversation_id, row.id)
            return _hits(connection, list(best.values())[:limit], terms)


def _narrowed(model: str, conversation_id: str, filters: Filters) -> tuple[str, dict[str, Any]]:
    """The conditions as SQL, and their values. Raises InputError for a rating that there is not."""
    if filters.rating and filters.rating not in _RATINGS:
        raise InputError(f"there is no rating {filters.rating!r}", "one of: " + ", ".join(_RATINGS))
    wanted = {
        "model": (clean(model), " AND i.model = :model"),
        "conversation": (clean(conversation_id), " AND d.conversation_id = :conversation"),
        "mode": (clean(filters.mode), " AND i.mode = :mode"),
        "domain": (clean(filters.domain), " AND i.domain = :domain"),
        "since": (filters.since, " AND d.created_at >= :since"),
        "before": (filters.before, " AND d.created_at < :before"),
    }
    where = "".join(condition for value, condition in wanted.values() if value)
    where += _SAID.format(said=_RATINGS[filters.rating]) if filters.rating else ""
    return where, {name: value for name, (value, _) in wanted.items() if value}


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
