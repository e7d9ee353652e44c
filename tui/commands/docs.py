"""`pointsman docs`: documents added to the library, listed, shown, removed, and searched as questions search them."""

import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tui import output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from data.store import Store
    from data.store.documents import Document
    from router.documents.library import Added, Documents

HELP = """Add documents that questions may be answered from: text, Markdown, code, tables, HTML and PDF.

A KEY is a document's name, its path, or the end of its id as `docs list` shows it. Adding a file again brings it up to date.

\b
  pointsman docs add README.md paper.pdf
  pointsman docs add src/                     its text files, without hidden ones and keys
  pointsman docs search "how is it installed"
  pointsman docs rm paper.pdf                 the file itself stays where it is
"""

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")


@click.group(help=HELP)
def command() -> None:
    """Add documents that questions may be answered from, list, show, search or remove them."""


@command.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@_json
def add(paths: tuple[str, ...], as_json: bool) -> None:
    """Add the files at PATH, and the text files of folders; a file that is there already is brought up to date."""
    from data.errors import InputError
    from router.documents import folders

    candidates, left = folders.gather([Path(path) for path in paths])
    named = {Path(path).expanduser().absolute() for path in paths}
    done = []
    with _opened(prepare=True) as (_, documents):
        for candidate in candidates:
            with _Counting(candidate.name) as counting:
                try:
                    added = documents.add(candidate.path, name=candidate.name, progress=counting.show)
                except InputError as fault:
                    if candidate.path in named:
                        raise
                    left.append(folders.LeftOut(candidate.path, fault.what))
                    continue
            done.append(added)
            if not as_json:
                output.line(_told(added))
    if as_json:
        rows = [_row(one.document) | {"unchanged": one.unchanged} for one in done]
        problem = next((one.problem for one in done if one.problem), "")
        output.as_json({"added": rows, "left_out": [{"path": str(one.path), "why": one.why} for one in left], "problem": problem})
    for one in left:
        output.note(f"left out: {one.path}: {one.why}")
    for problem in sorted({one.problem for one in done if one.problem}):
        output.note(problem)


@command.command("list")
@_json
def list_(as_json: bool) -> None:
    """List the library's documents and those attached to conversations."""
    with _store() as store:
        found = store.documents.all(None)
    if as_json:
        output.as_json([_row(one) for one in found])
    elif not found:
        output.note("there is no document; add one: pointsman docs add PATH")
    else:
        from tui import lookup

        rows = [
            (
                lookup.short(one.id),
                lookup.when(one.added),
                output.size(one.source.size_bytes),
                str(one.chunks),
                f"conversation {lookup.short(one.conversation)}" if one.conversation else "library",
                one.source.name,
            )
            for one in found
        ]
        output.table(("id", "added", "size", "chunks", "in", "name"), rows)


@command.command()
@click.argument("key")
@_json
def show(key: str, as_json: bool) -> None:
    """Show the document KEY and where its chunks are."""
    with _store() as store:
        found = store.documents.find(key)
        chunks = store.documents.chunks_of(found.id)
    pieces = [one.piece for one in chunks]
    if as_json:
        output.as_json(_row(found) | {"chunks": [asdict(piece) for piece in pieces]})
        return
    for name, value in _row(found).items():
        output.line(f"{name:<13} {value}")
    output.line()
    rows = [
        (
            f"p.{piece.page}" if piece.page else f"{piece.first_line}-{piece.last_line}",
            piece.heading or "-",
            " ".join(piece.text[:400].split()),
        )
        for piece in pieces
    ]
    output.table(("lines", "under", "text"), rows)


@command.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@_json
def rm(keys: tuple[str, ...], as_json: bool) -> None:
    """Remove documents, so that no byte of them stays in the log's files. The files they came from are not touched."""
    with _store() as store:
        found = {one.id: one for one in map(store.documents.find, keys)}
        store.documents.remove(*found)
    if as_json:
        output.as_json([_row(one) for one in found.values()])
    else:
        for one in found.values():
            output.line(f"removed: {one.source.name}")


@command.command()
@click.argument("text", nargs=-1, required=True)
@click.option("-n", "count", type=click.IntRange(1, 50), default=None, help="How many chunks at most.")
@_json
def search(text: tuple[str, ...], count: int | None, as_json: bool) -> None:
    """Find what TEXT would be answered from, by its words and its meaning."""
    from tui import reading

    with _opened(prepare=False) as (store, documents):
        found = documents.search(reading.argument(text), count or 0)
        empty = not store.documents.versions()
    if as_json:
        output.as_json([asdict(one) | {"place": one.place} for one in found])
    elif not found:
        output.note("there is no document; add one: pointsman docs add PATH" if empty else "nothing was found")
    else:
        for one in found:
            output.line(f"── {one.place}" + (f" ({one.heading})" if one.heading else ""))
            output.line(one.text.strip("\n"))
    if documents.problem:
        output.note(documents.problem)


@contextmanager
def _store() -> "Iterator[Store]":
    from tui import opening

    with opening.store(opening.settings().store.url) as store:
        yield store


@contextmanager
def _opened(prepare: bool) -> "Iterator[tuple[Store, Documents]]":
    from router.documents.library import ENCODER, Documents
    from tui import opening

    settings = opening.settings()
    if prepare:
        opening.prepare(ENCODER)
    with opening.engines(settings) as engines, opening.store(settings.store.url) as store:

        def embed(texts: "Sequence[str]") -> "NDArray[np.float32]":
            return engines.get("llamacpp").embed(texts)

        yield store, Documents(store, embed, settings.documents)


class _Counting:
    """A line on stderr with the chunks done and the time left."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._status = output.Status()
        self._first = 0
        self._started = time.monotonic()

    def __enter__(self) -> "_Counting":
        return self

    def __exit__(self, *_: object) -> None:
        self._status.clear()

    def show(self, done: int, whole: int) -> None:
        """So many chunks of the whole have a vector."""
        self._first = self._first or done
        gained, seconds = done - self._first, time.monotonic() - self._started
        left = f", {output.duration((whole - done) * seconds / gained)} left" if gained and seconds > 1 else ""
        self._status.show(f"{self._name}: {done} of {whole} chunks{left}")


def _told(added: "Added") -> str:
    found = added.document
    what = "unchanged" if added.unchanged else "added"
    return f"{what}: {found.source.name} ({found.source.kind}, {found.source.lines} lines, {found.chunks} chunks)"


def _row(document: "Document") -> dict[str, Any]:
    source = document.source
    return {
        "id": document.id,
        "name": source.name,
        "path": source.path,
        "kind": source.kind,
        "bytes": source.size_bytes,
        "lines": source.lines,
        "sha256": source.sha256,
        "chunks": document.chunks,
        "vectors": document.vectors,
        "added": document.added.isoformat(),
        "conversation": document.conversation,
    }
