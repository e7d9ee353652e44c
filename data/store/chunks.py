"""The chunks of documents and the full-text index over them, within a transaction of the caller's.

Words are stemmed as English (FTS5's porter, PostgreSQL's english) so that "installing" finds "installed"; in other languages
the stems are the same on both sides of the comparison and do no harm. The ranking is BM25 on SQLite; ts_rank knows no rarity
of words, so that on PostgreSQL each word's rank is weighted by BM25's inverse document frequency. Words that more than a quarter
of the chunks have are passed over where there are rarer ones: they say nothing, and ranking their chunks takes the most time.
Not covered: sentence vectors' comparison (router/documents), the documents themselves (documents.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, bindparam, column, delete, func, insert, literal, select, table, text, update

from data.store import words
from data.store.tables import chunk, clean, document

TERMS = 48
"""Different words of a query that are looked up, at most."""
_BATCH = 500  # rows in one statement
_Row = TypeVar("_Row")
_VISIBLE = "(d.conversation_id IS NULL OR d.conversation_id = :conversation)"
_RANKED = {
    "sqlite": f"""
        SELECT c.id FROM chunk_index JOIN chunk c ON c.id = chunk_index.rowid JOIN document d ON d.id = c.document_id
        WHERE chunk_index MATCH :query AND {_VISIBLE}
        ORDER BY bm25(chunk_index), c.id LIMIT :most""",  # noqa: S608 constants only
    "postgresql": f"""
        SELECT c.id FROM unnest(CAST(:terms AS text[]), CAST(:weights AS float8[])) AS asked(term, weight)
        JOIN chunk c ON c.terms @@ phraseto_tsquery('english', asked.term) JOIN document d ON d.id = c.document_id
        WHERE {_VISIBLE} GROUP BY c.id
        ORDER BY round(CAST(sum(weight * ts_rank(c.terms, phraseto_tsquery('english', asked.term), 1)) AS numeric), 9) DESC, c.id
        LIMIT :most""",  # noqa: S608
}
_FOUND = {
    "sqlite": text("SELECT count(*) FROM chunk_index WHERE chunk_index MATCH :term"),
    "postgresql": text("SELECT count(*) FROM chunk WHERE terms @@ phraseto_tsquery('english', :term)"),
}
_EMPTY = frozenset(
    "a about after all am an and any are as at be been before being but by can could d did do does doing don for from had "
    "has have having he her here him his how i if in into is it its just ll may me might more most must my no not of on one "
    "only or other our out over own please re s same shall she should so some such t tell than that the their them then "
    "there these they this those through to too under until up us ve very was we were what when where which while who whom "
    "whose why will with would you your".split()
)
"""English words that a question has and its answer has not: rare in documents, they would weigh the most."""
_FREQUENT = 0.25  # share of the chunks; words beyond it tell nothing where the query has others
_ADD_TSVECTOR = text(
    "INSERT INTO chunk (document_id, number, first_line, last_line, page, heading, body, embedding, encoder, terms) "
    "VALUES (:document_id, :number, :first_line, :last_line, :page, :heading, :body, :embedding, :encoder, "
    "setweight(to_tsvector('english', :folded_heading), 'B') || setweight(to_tsvector('english', :folded), 'B'))"
)
_ADD_FTS5 = text(
    "INSERT INTO chunk_index(rowid, heading, body) SELECT id, heading, body FROM chunk WHERE document_id = :document_id"
)
_index = table("chunk_index", column("chunk_index"), column("rowid"), column("heading"), column("body"))


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk's text and where it stands: lines from 1, both included; page from 1, 0 where the document has none.

    heading: what stands above it, for search and for people ("Installation › Linux"); it is not part of the text.
    """

    first_line: int
    last_line: int
    text: str
    page: int = 0
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A kept piece of a document. number: its place in the document, from 0; name: the document's."""

    id: int
    document: str
    name: str
    number: int
    piece: Piece


def add(connection: Connection, document_id: str, pieces: Sequence[Piece], kept: dict[tuple[str, str], tuple[bytes, str]]) -> None:
    """Keep and index the pieces of a document that has none; `kept` are vectors and their encoders by heading and text."""
    rows: list[dict[str, Any]] = []
    for number, piece in enumerate(pieces):
        heading, body = words.seams(clean(piece.heading)), words.seams(clean(piece.text))
        vector, encoder = kept.get((heading, body), (None, ""))
        rows.append(
            {
                "document_id": document_id,
                "number": number,
                "first_line": piece.first_line,
                "last_line": piece.last_line,
                "page": piece.page,
                "heading": heading,
                "body": body,
                "embedding": vector,
                "encoder": encoder,
            }
        )
    postgres = connection.dialect.name == "postgresql"
    for part in _batches(rows):
        if postgres:
            folded = [{"folded": words.folded(row["body"]), "folded_heading": words.folded(row["heading"])} for row in part]
            connection.execute(_ADD_TSVECTOR, [row | more for row, more in zip(part, folded, strict=True)])
        else:
            connection.execute(insert(chunk), part)
    if not postgres:
        connection.execute(_ADD_FTS5, {"document_id": document_id})


def remove(connection: Connection, which: ColumnElement[bool]) -> None:
    """Take chunks out of the table and the index."""
    if connection.dialect.name == "sqlite":
        gone = select(literal("delete"), chunk.c.id, chunk.c.heading, chunk.c.body).where(which)
        connection.execute(insert(_index).from_select(["chunk_index", "rowid", "heading", "body"], gone))
    connection.execute(delete(chunk).where(which))


def remove_documents(connection: Connection, which: ColumnElement[bool]) -> None:
    """Remove the documents and their chunks."""
    remove(connection, chunk.c.document_id.in_(select(document.c.id).where(which)))
    connection.execute(delete(document).where(which))


def vectors_of(connection: Connection, document_id: str) -> dict[tuple[str, str], tuple[bytes, str]]:
    """The vectors and encoders of a document's chunks by heading and body, as `add` takes them."""
    c = chunk.c
    found = connection.execute(
        select(c.heading, c.body, c.embedding, c.encoder).where(c.document_id == document_id, c.encoder != "")
    )
    return {(row.heading, row.body): (row.embedding, row.encoder) for row in found}


def set_vectors(connection: Connection, vectors: Sequence[tuple[int, bytes]], encoder: str) -> None:
    """Keep the vectors of chunks by their ids."""
    rows = [{"chunk_id": key, "vector": vector} for key, vector in vectors]
    if rows:
        statement = update(chunk).where(chunk.c.id == bindparam("chunk_id"))
        connection.execute(statement.values(embedding=bindparam("vector"), encoder=encoder), rows)


def ranked(connection: Connection, query: str, conversation: str, most: int) -> list[int]:
    """The ids of the visible chunks in which any word of `query` occurs, best first, at most `most`."""
    terms = terms_of(query)
    if not terms or most < 1:
        return []
    whole = connection.execute(select(func.count()).select_from(chunk)).scalar() or 0
    sqlite = connection.dialect.name == "sqlite"
    found = {term: _count(connection, f'"{term}"' if sqlite else term) for term in terms}
    found = {term: count for term, count in found.items() if count}
    telling = {term: count for term, count in found.items() if count <= whole * _FREQUENT} or found
    if not telling:
        return []
    values: dict[str, Any] = {"conversation": conversation, "most": most}
    if sqlite:
        values["query"] = " OR ".join(f'"{term}"' for term in telling)
    else:
        values["terms"] = list(telling)
        values["weights"] = [log(1 + (whole - count + 0.5) / (count + 0.5)) for count in telling.values()]
    return list(connection.execute(text(_RANKED[connection.dialect.name]), values).scalars())


def _count(connection: Connection, term: str) -> int:
    return int(connection.execute(_FOUND[connection.dialect.name], {"term": term}).scalar() or 0)


def terms_of(query: str) -> list[str]:
    """The different words of a query, folded; characters of scripts without spaces two by two, as phrases."""
    found: dict[str, None] = {}
    for word in clean(query[:20_000]).split():
        pieces = words.folded(words.seams(word)).split()
        spaced = words.seams(word) == word
        pairs = pieces if spaced or len(pieces) < 2 else [f"{one} {two}" for one, two in pairwise(pieces)]
        found |= dict.fromkeys(pairs)
        if len(found) >= 2 * TERMS:
            break
    return ([term for term in found if term not in _EMPTY] or list(found))[:TERMS]


def read(connection: Connection, ids: Sequence[int]) -> list[Chunk]:
    """The chunks of these ids, in this order; those that are gone are left out."""
    found: dict[int, Chunk] = {}
    c = chunk.c
    query = select(c.id, c.document_id, document.c.name, c.number, c.first_line, c.last_line, c.page, c.heading, c.body)
    for part in _batches(list(ids)):
        for row in connection.execute(query.join(document, document.c.id == c.document_id).where(c.id.in_(part))):
            body, heading = words.without_seams(row.body), words.without_seams(row.heading)
            piece = Piece(row.first_line, row.last_line, body, row.page, heading)
            found[row.id] = Chunk(row.id, row.document_id, row.name, row.number, piece)
    return [found[key] for key in ids if key in found]


def _batches(rows: Sequence[_Row]) -> Iterator[Sequence[_Row]]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]
