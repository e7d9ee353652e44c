"""Documents the user added: whose chunks a question may be answered from, by words and by sentence vectors.

A document belongs to the library, or to one conversation it was attached to, and is named by its absolute path there.
Keeping a changed one replaces its chunks in one transaction and leaves the vectors of chunks that are still the same.
Not covered: reading files and cutting them up (router/documents), the chunks' rows and index (chunks.py).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, case, func, or_, select, update

from data.errors import NotFound
from data.store import chunks, forget
from data.store.chunks import Chunk, Piece
from data.store.database import Database
from data.store.ids import new_id
from data.store.tables import chunk, clean, document, insert_once
from data.store.tables import conversation as owner

_SHORTEST = 4  # characters of an abbreviated id


@dataclass(frozen=True, slots=True)
class Source:
    """A document to be kept. cut: how it was cut into chunks; another cut counts as a change."""

    path: str
    name: str
    sha256: str
    kind: str
    size_bytes: int
    lines: int
    cut: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A kept document. conversation: "" in the library; chunks, and how many of them have a vector; version: new at each change."""

    id: str
    source: Source
    added: datetime
    conversation: str
    version: str
    chunks: int
    vectors: int


class Library:
    """Keeps documents. Methods raise StoreError and its children for what the database can do wrong; any thread may call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, source: Source, pieces: Sequence[Piece], conversation: str = "") -> tuple[Document, bool]:
        """Keep a document in the place of the one at the same path; the kept one, and whether anything changed.

        The same content, cut alike, changes nothing. conversation: a whole id, "" for the library. Raises NotFound where
        there is no such conversation.
        """
        with self._database.write() as connection:
            key, changed = _place(connection, source, clean(conversation))
            if changed:
                kept = chunks.vectors_of(connection, key)
                chunks.remove(connection, chunk.c.document_id == key)
                chunks.add(connection, key, pieces, kept)
            return _documents(connection, document.c.id == key)[0], changed

    def at(self, path: str, conversation: str = "") -> Document | None:
        """The document kept for that path, or None."""
        with self._database.read() as connection:
            found = _documents(connection, document.c.place == _key(path, clean(conversation)))
        return found[0] if found else None

    def all(self, conversation: str | None = "") -> list[Document]:
        """The library's documents, with those attached to the conversation where one is given; by name. None: everything."""
        with self._database.read() as connection:
            return _documents(connection, _visible(conversation))

    def find(self, key: str) -> Document:
        """The document of that path, name or (abbreviated) id; raises NotFound for none and for several."""
        wanted, folded = clean(key), clean(key).strip().lower()
        d = document.c
        with self._database.read() as connection:
            found = _documents(connection, or_(d.path == wanted, d.name == wanted, d.id == folded))
            if not found and len(folded) >= _SHORTEST and not set(folded) - set("0123456789abcdef"):
                found = _documents(connection, or_(d.id.like(f"{folded}%"), d.id.like(f"%{folded}")))
        if not found:
            raise NotFound(f"there is no document {key[:200]!r}", "see: pointsman docs list")
        if len(found) > 1:
            raise NotFound(f"{key[:200]!r} names {len(found)} documents", "give the id or the whole path: pointsman docs list")
        return found[0]

    def remove(self, *ids: str) -> None:
        """Remove documents by their whole ids, so that no trace of them stays in the store's files.

        Raises NotFound, before anything is removed, and StoreError where other programs keep the file from being
        rewritten: then the documents are removed, and traces may remain.
        """
        with self._database.write() as connection:
            known = set(connection.execute(select(document.c.id).where(document.c.id.in_(ids))).scalars())
            for missing in sorted(set(ids) - known):
                raise NotFound(f"there is no document {missing!r}", "see: pointsman docs list")
            chunks.remove_documents(connection, document.c.id.in_(ids))
        forget.scrub(self._database)

    def versions(self, conversation: str = "") -> tuple[tuple[str, str], ...]:
        """The ids of the visible documents with their versions: the same as before as long as nothing changed."""
        query = select(document.c.id, document.c.version).where(_visible(conversation)).order_by(document.c.id)
        with self._database.read() as connection:
            return tuple((row.id, row.version) for row in connection.execute(query))

    def vectors(self, key: str, encoder: str) -> list[tuple[int, bytes]]:
        """The vectors that the encoder made of a document's chunks, by the chunks' ids, in order."""
        c = chunk.c
        query = select(c.id, c.embedding).where(c.document_id == key, c.encoder == encoder).order_by(c.id)
        with self._database.read() as connection:
            return [(row.id, row.embedding) for row in connection.execute(query)]

    def without_vectors(self, key: str, encoder: str) -> list[Chunk]:
        """The chunks of a document that have no vector of this encoder."""
        c = chunk.c
        with self._database.read() as connection:
            query = select(c.id).where(c.document_id == key, c.encoder != encoder).order_by(c.number)
            return chunks.read(connection, list(connection.execute(query).scalars()))

    def set_vectors(self, key: str, vectors: Sequence[tuple[int, bytes]], encoder: str) -> None:
        """Keep vectors of a document's chunks by the chunks' ids. Ids that are gone or another document's are passed over."""
        with self._database.write() as connection:
            own = set(connection.execute(select(chunk.c.id).where(chunk.c.document_id == key)).scalars())
            chunks.set_vectors(connection, [(one, vector) for one, vector in vectors if one in own], encoder)
            connection.execute(update(document).where(document.c.id == key).values(version=new_id()))

    def ranked(self, query: str, conversation: str = "", most: int = 50) -> list[int]:
        """The ids of the visible chunks with any word of `query` in them, best first."""
        with self._database.read() as connection:
            return chunks.ranked(connection, query, clean(conversation), most)

    def chunks(self, ids: Sequence[int]) -> list[Chunk]:
        """Chunks by their ids, in the order given; those that are gone are left out."""
        with self._database.read() as connection:
            return chunks.read(connection, ids)

    def chunks_of(self, key: str) -> list[Chunk]:
        """All chunks of a document, in order."""
        with self._database.read() as connection:
            query = select(chunk.c.id).where(chunk.c.document_id == key).order_by(chunk.c.number)
            return chunks.read(connection, list(connection.execute(query).scalars()))


def _key(path: str, conversation: str) -> str:
    return hashlib.sha256(f"{conversation}\n{clean(path)}".encode()).hexdigest()


def _place(connection: Connection, source: Source, conversation: str) -> tuple[str, bool]:
    """The id of the document's row, made or brought up to date, and whether its chunks must be made anew."""
    if conversation and not connection.execute(select(owner.c.id).where(owner.c.id == conversation)).first():
        raise NotFound(f"there is no conversation {conversation!r}", "see: pointsman log list")
    place = _key(source.path, conversation)
    values = _values(source) | {"added_at": datetime.now(UTC), "version": new_id()}
    fresh = values | {"id": new_id(), "place": place, "conversation_id": conversation or None}
    if insert_once(connection, document, "place", fresh):
        return str(fresh["id"]), True
    row = connection.execute(select(document).where(document.c.place == place).with_for_update()).one()
    if (row.sha256, row.cut) == (source.sha256, source.cut):
        return str(row.id), False
    connection.execute(update(document).where(document.c.id == row.id).values(**values))
    return str(row.id), True


def _values(source: Source) -> dict[str, Any]:
    return {
        "path": source.path,
        "name": source.name,
        "sha256": source.sha256,
        "kind": source.kind,
        "bytes": source.size_bytes,
        "lines": source.lines,
        "cut": source.cut,
    }


def _visible(conversation: str | None) -> ColumnElement[bool]:
    if conversation is None:
        return document.c.id.is_not(None)
    library = document.c.conversation_id.is_(None)
    return or_(library, document.c.conversation_id == clean(conversation)) if conversation else library


def _documents(connection: Connection, which: ColumnElement[bool]) -> list[Document]:
    counted = (
        select(
            chunk.c.document_id,
            func.count().label("chunks"),
            func.sum(case((chunk.c.encoder != "", 1), else_=0)).label("vectors"),
        )
        .group_by(chunk.c.document_id)
        .where(chunk.c.document_id.in_(select(document.c.id).where(which)))
        .subquery()
    )
    query = select(document, counted.c.chunks, counted.c.vectors).join(
        counted, counted.c.document_id == document.c.id, isouter=True
    )
    return [_document(row) for row in connection.execute(query.where(which).order_by(document.c.name, document.c.id))]


def _document(row: Row[Any]) -> Document:
    source = Source(row.path, row.name, row.sha256, row.kind, row.bytes, row.lines, row.cut)
    return Document(row.id, source, row.added_at, row.conversation_id or "", row.version, row.chunks or 0, int(row.vectors or 0))
