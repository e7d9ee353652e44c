"""One file as a source, whatever its format; the format is told by its ending, or by the user.

Not covered: reading the formats (`delimited`, `jsonl`, `parquet`) and folders (`folder`).
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from data.datasets._sources.base import Broken, Progress, Record, open_bytes, silent
from data.datasets._sources.delimited import DelimitedReader
from data.datasets._sources.jsonl import JsonReader
from data.datasets._sources.parquet import ParquetReader
from data.datasets._sources.shapes import Shaper
from data.datasets.rows import Origin, Refused, Row, Split
from data.errors import InputError
from data.sanitise import one_line

Format = Literal["csv", "tsv", "jsonl", "json", "parquet"]
FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".tar", ".tgz", ".7z", ".rar")
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".npy", ".npz", ".arrow")
_MAGIC = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_EVERY = 256  # records between two calls of progress


class Reader(Protocol):
    """Records of an open file; name: as messages call it."""

    def records(self, file: BinaryIO, name: str) -> Iterator[Record | Broken]:
        """Every record in order; raises InputError where the file as a whole cannot be used."""
        ...


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file. split: the one that all its rows belong to, "" where the rows say or nobody does."""

    path: Path
    name: str
    licence: str
    reader: Reader
    shaper: Shaper
    split: Split | Literal[""] = ""

    def rows(self, progress: Progress = silent) -> Iterator[Row | Refused]:
        """See Source.rows; a file without a record is an InputError too."""
        with open_bytes(self.path) as file:
            size = os.fstat(file.fileno()).st_size
            count = 0
            for count, record in enumerate(self.reader.records(file, one_line(str(self.path), 200)), start=1):
                if count % _EVERY == 0:
                    progress(min(file.tell(), size), size)
                if isinstance(record, Broken):
                    yield record.refused(Origin(self.name, record.number, self.licence))
                    continue
                if self.split and not record.split:
                    record = Record(record.number, record.value, self.split)
                yield from self.shaper.rows(record, self.name)
            if not count:
                raise InputError(f"{self.path} holds no rows", "give a file with rows")
            progress(size, size)

    def digest(self) -> str:
        """sha256 of the file's bytes."""
        with open_bytes(self.path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def open_file(
    path: Path, shaper: Shaper, kind: str = "", *, name: str = "", labelled: bool = False, split: Split | Literal[""] = ""
) -> FileSource:
    """A file as a source. Raises InputError where it cannot be read, is compressed, or is of no known format."""
    ending = path.suffix.casefold()
    with open_bytes(path) as file:
        begin = file.read(8)
    if not begin:
        raise InputError(f"{path} is empty", "give a file with rows")
    if begin.startswith(_MAGIC) or (ending in PACKED and not kind):
        raise InputError(f"{path} is compressed", "unpack it first")
    if ending in PICKLES and not kind:
        raise InputError(f"{path} may hold code (a pickle or the like) and is not read", "save it as CSV, JSONL or Parquet")
    form = kind or FORMATS.get(ending, "")
    if form not in FORMATS.values():
        raise InputError(f"{path} is neither CSV, TSV, JSONL, JSON nor Parquet by its name", "name it so, or say which it is")
    return FileSource(path, name or path.name, shaper.licence, _reader(form, shaper, labelled), shaper, split)


def _reader(form: str, shaper: Shaper, labelled: bool) -> Reader:
    if form == "parquet":
        return ParquetReader(shaper, labelled)
    if form in ("jsonl", "json"):
        return JsonReader(form == "jsonl", shaper)
    return DelimitedReader("tsv" if form == "tsv" else "csv", shaper, labelled)
