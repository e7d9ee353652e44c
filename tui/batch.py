"""The file of a long batch: rows appended as they are done, picked up where a killed run left off, and put in place at the end.

Work goes on in `OUT.part`: a first line that says which job it is, then one JSON line a row. A line that a kill cut off is dropped;
no row is lost or written twice. When all rows are there the file becomes OUT, as JSONL or CSV by its name. Not covered: what the
rows say.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from data import paths
from data.errors import InputError

SYNC_ROWS = 64
"""Rows after which the file is made durable."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Batch:
    """One job's output. `done` rows are there already; `add` the next; `finish` puts the file in place."""

    def __init__(self, out: Path, job: Mapping[str, Any], *, force: bool = False) -> None:
        """job: everything that decides the rows (inputs, model, options); a part file of another job is not gone on with.

        Raises InputError where OUT exists (force replaces it), has a name of neither kind, or cannot be written.
        """
        self.out = out.expanduser()
        if self.out.suffix not in (".jsonl", ".csv"):
            raise InputError(f"{out} is named neither .jsonl nor .csv", "name the output so")
        if self.out.exists() and not force:
            raise InputError(f"{out} exists", "choose another name, or say --force to replace it")
        self._part = self.out.with_name(f"{self.out.name}.part")
        self._job = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()
        self.done = 0
        self._unsynced = 0
        self._file = self._opened(force)

    def __enter__(self) -> "Batch":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row. Raises InputError where the disk is full."""
        try:
            self._file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            self._file.flush()
            self._unsynced += 1
            if self._unsynced >= SYNC_ROWS:
                os.fsync(self._file.fileno())
                self._unsynced = 0
        except OSError as error:
            raise InputError(
                f"cannot write {self._part}: {error.strerror or error}", "free space; the same command goes on"
            ) from error
        self.done += 1

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows that are there."""
        with self._part.open("rb") as file:
            next(file)
            for line in file:
                yield json.loads(line)

    def finish(self, cells: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        """Put the file in place; cells: a row as the flat columns of a CSV."""
        self._file.close()
        with paths.replacing(self.out) as out:
            if self.out.suffix == ".jsonl":
                for row in self.rows():
                    out.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            else:
                _as_csv(out, map(cells, self.rows()))
        self._part.unlink()

    def _opened(self, force: bool) -> IO[bytes]:
        head = json.dumps({"pointsman": "batch", "job": self._job}).encode() + b"\n"
        try:
            paths.ensure(self._part.parent)
            descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT, 0o600)
            file = os.fdopen(descriptor, "r+b")
            if not paths.try_lock(descriptor):
                file.close()
                raise InputError(f"{self._part} is being written by another run", "wait for it")
            kept, self.done = _sound(file, head)
            if kept < 0 and not force:
                file.close()
                raise InputError(
                    f"{self._part} is of another job: other input, model or options", "remove it, or say --force to begin anew"
                )
            if kept <= 0:
                self.done = 0
                file.truncate(0)
                file.seek(0)
                file.write(head)
            else:
                file.truncate(kept)
                file.seek(kept)
        except OSError as error:
            raise InputError(f"cannot write {self._part}: {error.strerror or error}", "choose another place") from error
        return file


def _sound(file: IO[bytes], head: bytes) -> tuple[int, int]:
    """Bytes of the part file that are whole and their rows: 0 bytes where there is nothing yet, -1 where it is of another job."""
    file.seek(0)
    first = file.readline()
    if not first.endswith(b"\n"):
        return 0, 0
    if first != head:
        return -1, 0
    kept, rows = len(first), 0
    for line in file:
        try:
            if not line.endswith(b"\n") or not isinstance(json.loads(line), dict):
                break
        except ValueError:
            break
        kept, rows = kept + len(line), rows + 1
    return kept, rows


def _as_csv(out: IO[bytes], rows: Iterator[Mapping[str, Any]]) -> None:
    """The rows under the columns of the first; what a spreadsheet would run as a formula is quoted as text."""
    columns: list[str] = []
    for row in rows:
        buffer = io.StringIO()
        if not columns:
            columns = list(row)
            csv.writer(buffer).writerow(columns)
        csv.writer(buffer).writerow([_harmless(row.get(column, "")) for column in columns])
        out.write(buffer.getvalue().encode("utf-8", "replace"))


def _harmless(value: Any) -> Any:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text
