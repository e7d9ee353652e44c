"""The user's documents: added from files, and searched for what a question may be answered from.

A document can be found by its words as soon as `add` has read it; its sentence vectors are made after that, a chunk at a time
(some 0.1 s each), and kept in parts, so that adding again goes on where it was broken off. Where no vector can be made, the
search goes by words alone and `Added.problem` or `Documents.problem` says why.
Not covered: reading and cutting (reading.py, chunks.py), ranking (retrieval.py), putting passages before a model (attach.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.config import DocumentsSettings
from data.errors import EngineError, ModelError, PointsmanError
from data.sanitise import one_line
from data.store import Store
from data.store.documents import Document, Source
from router.documents import chunks, reading, retrieval
from router.tools.base import Passage

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to L2-normalised sentence vectors, shape (texts, dimensions); raises EngineError or ModelError."""
Progress = Callable[[int, int], None]
"""Called with the chunks that have a vector and those of the whole document."""
ENCODER = "minilm-l6"
_Waiting = list[tuple[int, bytes]]  # chunks with their packed vectors
_KEPT_AT_ONCE = 32  # vectors in one transaction: what an interruption loses at most
_NAME = 200  # characters of a document's name
_QUERY = 4_000  # characters of a query that are embedded; far beyond the encoder's window


@dataclass(frozen=True, slots=True)
class Added:
    """What adding did. chunks: of the whole document; unchanged: it was there already, the same; problem: why vectors are
    missing, "" where none is."""

    document: Document
    chunks: int
    unchanged: bool
    problem: str = ""


class Documents:
    """The library of a store, and the documents attached to its conversations.

    embed: makes sentence vectors, None for a search by words alone; encoder: its name, kept with the vectors, so that those
    of another are never compared with its own. Not to be shared between threads.
    """

    def __init__(
        self, store: Store, embed: Embed | None, settings: DocumentsSettings | None = None, *, encoder: str = ENCODER
    ) -> None:
        self._library = store.documents
        self._embed = embed
        self._settings = settings or DocumentsSettings()
        self._encoder = encoder
        self._vectors = retrieval.Vectors(self._library, encoder)
        self.problem = ""
        """Why the last search or add went without sentence vectors; "" where it did not."""

    def add(
        self, path: Path, conversation: str = "", *, name: str = "", vectors: bool = True, progress: Progress | None = None
    ) -> Added:
        """Read a file and keep its chunks: in the library, or attached to a conversation (a whole id).

        The same file unchanged stays as it is, but for vectors that are missing. name: what it is cited as, by default the
        file's name; vectors: False leaves them to a later `add` or `complete`, since a long document takes minutes. Raises
        InputError where the file cannot be used, NotFound for an unknown conversation.
        """
        found = reading.read(path, self._settings.max_mb * 1_000_000)
        size = self._settings.chunk_chars
        cited = one_line(name or path.name or found.path.name, _NAME)
        pieces = chunks.cut(found.lines, found.kind, size, found.pages)
        source = Source(
            str(found.path), cited, found.sha256, found.kind, found.size_bytes, len(found.lines), f"{chunks.CUT}:{size}"
        )
        kept, changed = self._library.put(source, pieces, conversation)
        if vectors:
            self._complete(kept, progress)
            kept = self._library.find(kept.id)
        return Added(kept, kept.chunks, not changed, self.problem if vectors else "")

    def complete(self, conversation: str = "", progress: Progress | None = None) -> None:
        """Make the vectors that visible documents still lack."""
        for document in self._library.all(conversation):
            self._complete(document, progress)

    def list(self, conversation: str = "") -> Sequence[Document]:
        """The library's documents, with those attached to the conversation where one is given; by name."""
        return self._library.all(conversation)

    def remove(self, key: str) -> Document:
        """Remove the document of that path, name or id, every trace of it; returns what it was. Raises NotFound."""
        found = self._library.find(key)
        self._library.remove(found.id)
        return found

    def search(self, query: str, limit: int = 0, conversation: str = "") -> Sequence[Passage]:
        """The passages nearest to the query in the library and in what is attached to the conversation, best first.

        limit: chunks at most, 0 for what the settings say; neighbours among them become one passage. [] where no document is
        visible or no word fits. The text of a passage is untrusted.
        """
        limit = limit if limit > 0 else self._settings.chunks
        by_words = self._library.ranked(query, conversation, retrieval.CANDIDATES)
        by_meaning, cosines = self._nearest(query, conversation, by_words)
        scores = retrieval.fused([by_words, by_meaning])
        found = self._library.chunks(list(scores)[: limit * 3])  # more than the limit, since some say the same
        return retrieval.passages(found, scores, cosines, limit)

    def _nearest(self, query: str, conversation: str, also: Sequence[int]) -> retrieval.Nearest:
        self.problem = ""
        if self._embed is None or not query.strip() or not self._vectors.load(conversation):
            return [], {}
        try:
            vector = self._embed([query[:_QUERY]])[0]
        except (EngineError, ModelError) as fault:
            self.problem = _without(fault)
            return [], {}
        return self._vectors.nearest(vector.astype(np.float32), retrieval.CANDIDATES, also)

    def _complete(self, document: Document, progress: Progress | None) -> None:
        self.problem = ""
        missing = self._library.without_vectors(document.id, self._encoder)
        if self._embed is None or not missing:
            return
        whole = document.chunks
        waiting: _Waiting = []
        try:
            for done, chunk in enumerate(missing, 1):
                text = f"{document.source.name} {chunk.piece.heading}\n{chunk.piece.text}"
                vector = self._embed([text])  # one at a time: a batch shares one attention window and takes 1.3 times as long
                waiting.append((chunk.id, retrieval.packed(vector)[0]))
                if len(waiting) == _KEPT_AT_ONCE:
                    self._keep(document, waiting)
                if progress:
                    progress(whole - len(missing) + done, whole)
        except (EngineError, ModelError) as fault:
            self.problem = _without(fault)
        finally:
            self._keep(document, waiting)

    def _keep(self, document: Document, waiting: _Waiting) -> None:
        if waiting:
            self._library.set_vectors(document.id, waiting, self._encoder)
            waiting.clear()


def _without(fault: PointsmanError) -> str:
    return f"searched by words alone, since there are no sentence vectors: {fault}"
