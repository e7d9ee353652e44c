"""Files within files: Parquet without the rows that hold what is looked for; whether an archive, an array or a database holds it.

Archives are read member by member, one within another down to DEEPEST, and never written to disk. Not covered: what becomes of an
archive that holds something (files.py).
"""

import bz2
import gzip
import io
import lzma
import sqlite3
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from data.forgetting._texts import LARGEST_BYTES, Parts, TooLarge
from data.forgetting.wanted import Wanted

DEEPEST = 3
ZIP, GZIP, BZIP2, XZ, SQLITE, NUMPY, PARQUET = (
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"SQLite format 3\x00",
    b"\x93NUMPY",
    b"PAR1",
)
_PACKED: dict[bytes, Callable[[io.BytesIO], Any]] = {GZIP: gzip.open, BZIP2: bz2.open, XZ: lzma.open}
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)
"""What the readers of archives raise for one that is no such archive, is encrypted, or packed in a way that is not known."""


def parquet(path: Path, wanted: Wanted, drop: bool) -> Parts:
    """The table without its rows; one whose metadata holds the text loses its metadata. Raises ImportError without pyarrow."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    keep = [not any(map(wanted.found, _texts(row))) for row in table.to_pylist()]
    hits = keep.count(False)
    if wanted.in_bytes(str(table.schema.metadata or {}).encode()):
        table, hits = table.replace_schema_metadata(None), hits + 1
    if not hits:
        yield path.read_bytes(), 0
        return
    made = io.BytesIO()
    pq.write_table(table.filter(keep), made)
    yield made.getvalue(), hits


def holds(path: Path, wanted: Wanted) -> bool:
    """Whether a file that is no text holds it, in its members too. Raises TooLarge."""
    with path.open("rb") as file:
        head = file.read(16)
    if head == SQLITE:
        return _database_holds(path, wanted)
    if path.stat().st_size > LARGEST_BYTES:
        raise TooLarge
    return _holds(path.read_bytes(), wanted, 0)


def _holds(raw: bytes, wanted: Wanted, depth: int) -> bool:
    if depth < DEEPEST and _is_container(raw):
        try:
            return any(wanted.found(name) or _holds(member, wanted, depth + 1) for name, member in _members(raw))
        except DAMAGED:  # searched as it is
            pass
    if wanted.in_bytes(raw):
        return True
    return b"\0" not in raw[:4096] and wanted.within(raw.decode("utf-8", "replace"))


def _is_container(raw: bytes) -> bool:
    return raw.startswith((ZIP, NUMPY, *_PACKED)) or raw[257:262] == b"ustar"


def _members(raw: bytes) -> Iterator[tuple[str, bytes]]:
    if raw[:4] == ZIP:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for one in archive.infolist():
                if one.file_size > LARGEST_BYTES:
                    raise TooLarge
                yield f"{one.filename} {one.comment.decode('utf-8', 'replace')}", archive.read(one)
        return
    for magic, unpack in _PACKED.items():
        if raw.startswith(magic):
            with unpack(io.BytesIO(raw)) as file:
                whole = file.read(LARGEST_BYTES + 1)
            if len(whole) > LARGEST_BYTES:
                raise TooLarge
            yield "", whole
            return
    if raw[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() and member.size <= LARGEST_BYTES else None
                yield member.name, file.read() if file else b""
    if raw.startswith(NUMPY):
        yield "", _array(raw).encode("utf-8", "replace")


def _array(raw: bytes) -> str:
    """The texts of an array; "" for numbers."""
    import numpy as np

    found = np.load(io.BytesIO(raw), allow_pickle=False)
    return "\n".join(map(str, found.ravel())) if found.dtype.kind in "US" else ""


def _database_holds(path: Path, wanted: Wanted) -> bool:
    """Every value of every table; a database that cannot be read so is searched by its bytes."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for name in names:
                quoted = name.replace('"', '""')
                for row in database.execute(f'SELECT * FROM "{quoted}"'):  # noqa: S608 a table's own name, quoted
                    if any(_value_holds(value, wanted) for value in row):
                        return True
    except sqlite3.Error:
        return _holds(path.read_bytes(), wanted, DEEPEST)
    return False


def _value_holds(value: Any, wanted: Wanted) -> bool:
    return wanted.found(value) if isinstance(value, str) else isinstance(value, bytes) and wanted.in_bytes(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
