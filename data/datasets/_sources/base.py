"""What the kinds of source share: what a source is, records on their way to rows, and the limits that keep memory flat.

Not covered: the kinds themselves (one file each) and what a record means (`shapes`).
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

from data.datasets.rows import Origin, Refused, Row, Split
from data.errors import InputError
from data.sanitise import one_line

LARGEST_RECORD_BYTES = 16 << 20
"""Of one line, list element or table cell; a longer one is refused without being held."""
EXCERPT_CHARACTERS = 80
BOM = b"\xef\xbb\xbf"
SPLITS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}
"""How sources name their splits, in lower case, and what they are called here."""

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""
Turns = Literal["last", "all"]
"""Of a conversation: a row for the last answer only, or for every answer."""
_BLOCK = 1 << 20


def silent(done_bytes: int, of_bytes: int) -> None:
    """Progress that nobody watches."""


class Source(Protocol):
    """Where rows come from. `rows` may be called again and gives the same rows in the same order."""

    @property
    def name(self) -> str:
        """As rows name it in their origin; no absolute path."""
        ...

    @property
    def licence(self) -> str:
        """SPDX name as given or found; "" where unknown, and for a folder whose files differ."""
        ...

    def rows(self, progress: Progress = silent) -> Iterator[Row | Refused]:
        """Every record as a row or with the reason why not. Raises InputError where the source itself cannot be used."""
        ...

    def digest(self) -> str:
        """sha256 in hex of the source's bytes, or of its canonical content."""
        ...


@dataclass(frozen=True, slots=True)
class Record:
    """A parsed record and its number from 1; split: as the source's layout gives it."""

    number: int
    value: Any
    split: Split | Literal[""] = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that could not be parsed, with its number from 1, the reason and how it begins."""

    number: int
    reason: str
    excerpt: str = ""

    def refused(self, origin: Origin) -> Refused:
        """As a row that is kept out."""
        return Refused(origin, "reading", self.reason, self.excerpt)


def too_large(size_bytes: int) -> str:
    """The reason of a record beyond LARGEST_RECORD_BYTES."""
    return f"a record of {size_bytes:,} bytes is too large (at most {LARGEST_RECORD_BYTES:,})"


def excerpt(begin: bytes | str) -> str:
    """How a record begins, harmless and on one line."""
    text = begin[: EXCERPT_CHARACTERS * 4].decode("utf-8", "replace") if isinstance(begin, bytes) else begin
    return one_line(text, EXCERPT_CHARACTERS)


def skip_line(file: BinaryIO) -> int:
    """Read to the end of the line without holding it; returns the bytes read."""
    skipped = 0
    while part := file.readline(_BLOCK):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def open_bytes(path: Path) -> BufferedReader:
    """A regular file, opened for reading. Raises InputError for anything else (a device or pipe could block for ever)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", "make it a readable file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path} is no regular file", "give a file or a folder")
    return os.fdopen(descriptor, "rb")


def unusable_text(value: Any) -> str:
    """Why some text within a parsed value is no text (a NUL, half a surrogate pair), or ""."""
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, str):
            if reason := _unusable(part):
                return reason
        elif isinstance(part, Mapping):
            pending.extend(part.keys())
            pending.extend(part.values())
        elif isinstance(part, list | tuple):
            pending.extend(part)
    return ""


def _unusable(text: str) -> str:
    if "\0" in text:
        return f"holds a NUL character at position {text.index(chr(0))}"
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            code = ord(text[error.start])
            return f"holds a lone surrogate (U+{code:04X}) at position {error.start}, which is no character"
    return ""
