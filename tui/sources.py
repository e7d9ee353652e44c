"""The lines that an answer cites, as the document has them now, else as they were when it was read. Slow: call it in a thread.

Not covered: drawing them (`tui.screens.sources`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import NotFound, PointsmanError
from tui.trace import Citation

if TYPE_CHECKING:
    from data.store import Store
    from data.store.chunks import Chunk
    from data.store.documents import Document

AROUND = 12
"""Lines shown before and after those that are cited."""
LARGEST_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Passage:
    """Some lines of a document; first: the number of the first one, from 1. note: why they may differ from what was cited."""

    path: str
    first: int
    lines: tuple[str, ...]
    note: str = ""


def passage(store: "Store", conversation: str, citation: Citation) -> Passage:
    """The cited lines with those around them. Raises NotFound where the document is not known any more, StoreError."""
    document = _document(store, conversation, citation.source)
    source = document.source
    try:
        lines, note = _now(document)
    except PointsmanError as fault:
        kept = store.documents.chunks_of(document.id)
        return _kept(source.path, kept, citation, f"as it was read: {fault.what}")
    first = max(citation.first_line - AROUND, 1)
    return Passage(source.path, first, tuple(lines[first - 1 : citation.last_line + AROUND]), note)


def _document(store: "Store", conversation: str, name: str) -> "Document":
    known = [*store.documents.all(conversation), *store.documents.all("")]
    found = next((one for one in known if name in (one.source.name, one.source.path)), None)
    if found is None:
        raise NotFound(f"{name} is no document of this chat or of the library any more", "see: pointsman docs list")
    return found


def _now(document: "Document") -> tuple[Sequence[str], str]:
    from router.documents import reading

    found = reading.read(Path(document.source.path), LARGEST_BYTES)
    changed = "the file has changed since it was read" if found.sha256 != document.source.sha256 else ""
    return found.lines, changed


def _kept(path: str, chunks: "Sequence[Chunk]", citation: Citation, note: str) -> Passage:
    pieces = [one.piece for one in chunks]
    fitting = [one for one in pieces if one.first_line <= citation.last_line and one.last_line >= citation.first_line]
    if not fitting:
        raise NotFound(f"lines {citation.first_line} to {citation.last_line} of {path} are not kept", "add the document again")
    return Passage(path, fitting[0].first_line, tuple(line for one in fitting for line in one.text.split("\n")), note)
