"""A file as lines of text with the line numbers of the original: plain text, Markdown, code, tables, HTML, PDF.

Text is UTF-8, UTF-16 or UTF-32 with or without a mark, or else Latin-1. A file that is no text is refused with what it is;
so is one that is too big, before a byte of it is read. HTML keeps its line numbers and loses its markup, PDF is numbered
through its extracted text and has page numbers. Not covered: folders (folders.py), the child process that reads PDF and
HTML (extraction.py).
"""

import codecs
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.errors import InputError
from data.sanitise import one_line

Kind = Literal["text", "markdown", "code", "table", "html", "pdf"]
MAX_LINES = 2_000_000
"""Lines of a document at most; beyond it the lists of lines alone would take hundreds of MB."""
_SHOWN = 200  # characters of a path in a message
_MARKED = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MAGIC = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"PK\x03\x04", "a ZIP archive (or an office document)"),
    (b"\xd0\xcf\x11\xe0", "an old office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"SQLite format 3\0", "a SQLite database"),
    (b"GGUF", "a GGUF model"),
    (b"PAR1", "a Parquet table"),
    (b"OggS", "a sound or film"),
    (b"ID3", "a sound"),
    (b"RIFF", "a sound, a film or a picture"),
    (b"wOF", "a font"),
)
_TEXT_BYTES = bytes({*range(0x20, 0x7F), *range(0x80, 0x100), 0x08, 0x09, 0x0A, 0x0C, 0x0D, 0x1B})  # 1B: coloured logs
_CONTROL_SHARE = 0.01  # share of other bytes above which a file is no text; random bytes have 0.1
_KINDS: dict[str, Kind] = {
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd", ".qmd", ".rmd"), "markdown"),
    **dict.fromkeys((".csv", ".tsv"), "table"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".txt", ".text", ".log", ".rst", ".adoc", ".tex", ".org", ""), "text"),
}
_CODE = frozenset(
    ".py .pyi .js .mjs .ts .tsx .jsx .c .h .cc .cpp .hpp .cs .java .kt .rs .go .rb .php .pl .lua .swift .scala .hs .ml .ex .exs "
    ".erl .clj .el .lisp .r .jl .m .f90 .pas .sql .sh .bash .zsh .fish .ps1 .vim .zig .nim .dart .proto .css .scss .toml .yaml "
    ".yml .ini .cfg .json .jsonl .xml .cmake .mk .gradle .tf .nix".split()
)


@dataclass(frozen=True, slots=True)
class Reading:
    """A file as it was read. path: absolute, links followed; lines: without their ends, the last one empty only where blank.

    pages: the page (from 1) of each line, or empty where the document has none. sha256: of the bytes.
    """

    path: Path
    kind: Kind
    sha256: str
    size_bytes: int
    lines: tuple[str, ...]
    pages: tuple[int, ...] = ()


def read(path: Path, max_bytes: int) -> Reading:
    """Read a file whole. Raises InputError where it is missing, unreadable, too big, empty, or no text."""
    shown = one_line(str(path), _SHOWN)
    real, data = _bytes(path, max_bytes, shown)
    kind = kind_of(real, data)
    if kind in ("pdf", "html"):
        from router.documents import extraction  # starts a process; most documents need none

        source = data if kind == "pdf" else decoded(data, shown).encode("utf-8", "replace")
        texts = extraction.texts(kind, source, shown)
    else:
        texts = [decoded(data, shown)]
    pages = [lines_of(page) for page in texts]
    lines = tuple(line for page in pages for line in page)
    if len(lines) > MAX_LINES:
        raise InputError(f"{shown} has {len(lines)} lines; {MAX_LINES} are the limit", "split it")
    if not any(map(str.strip, lines)):
        raise InputError(f"{shown} holds no text" + (" (scanned pages?)" if kind == "pdf" else ""), _fix(kind))
    numbers = tuple(number for number, page in enumerate(pages, 1) for _ in page) if kind == "pdf" else ()
    return Reading(real, kind, hashlib.sha256(data).hexdigest(), len(data), lines, numbers)


def lines_of(text: str) -> list[str]:
    """The lines of a text as editors number them: ended by LF, CR LF or CR and by nothing else."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if len(lines) > 1 and not lines[-1] else lines


def kind_of(path: Path, data: bytes) -> Kind:
    """What to read a file as: PDF by its content, everything else by its name."""
    if b"%PDF-" in data[:1024]:
        return "pdf"
    suffix = path.suffix.lower()
    return _KINDS.get(suffix, "code" if suffix in _CODE else "text")


def decoded(data: bytes, shown: str) -> str:
    """The text of bytes; raises InputError saying what they are instead."""
    for magic, what in _MAGIC:
        if data.startswith(magic):
            raise InputError(f"{shown} is {what}, not text", "convert it to text or PDF")
    for mark, encoding in _MARKED:
        if data.startswith(mark):
            return _strict(data, encoding, shown)
    encoding = _unmarked(data)
    if encoding:
        return _strict(data, encoding, shown)
    controls = len(data.translate(None, _TEXT_BYTES))
    if controls > max(len(data) * _CONTROL_SHARE, 8):
        raise InputError(f"{shown} is no text: {controls} of its {len(data)} bytes are control characters", "convert it to text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _bytes(path: Path, max_bytes: int, shown: str) -> tuple[Path, bytes]:
    try:
        real = path.expanduser().resolve(strict=True)
        descriptor = os.open(real, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))  # a pipe must not hang
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read {shown}: {reason}", "check its name and its rights") from error
    try:
        _require_file(os.fstat(descriptor), max_bytes, shown)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise InputError(f"cannot read {shown}: {error.strerror or error}", "check the disk") from error
    finally:
        os.close(descriptor)
    if len(data) > max_bytes:
        raise _too_big(shown, len(data), max_bytes)
    if not data:
        raise InputError(f"{shown} is empty", "choose another file")
    return real, data


def _require_file(found: os.stat_result, max_bytes: int, shown: str) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{shown} is a folder", "add its files: pointsman docs add FOLDER")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{shown} is no regular file", "copy its text into a file")
    if found.st_size > max_bytes:
        raise _too_big(shown, found.st_size, max_bytes)


def _too_big(shown: str, size: int, max_bytes: int) -> InputError:
    megabytes = f"{size / 1e6:.0f} MB, {max_bytes / 1e6:.0f} MB are the limit"
    return InputError(f"{shown} is too big ({megabytes})", "split it, or raise documents.max_mb")


def _unmarked(data: bytes) -> str:
    """The encoding of UTF-16 text without a mark, told by where its zero bytes are; "" for anything else."""
    sample = data[:4096]
    half = len(sample) // 2
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if len(data) % 2 or half < 2:
        return ""
    if odd > 0.4 * half and even < 0.05 * half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 * half and odd < 0.05 * half else ""


def _strict(data: bytes, encoding: str, shown: str) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{shown} is no sound {encoding} text (byte {error.start})", "save it as UTF-8") from error
    if len(re.findall(r"[\0-\x07\x0b\x0e-\x1a\x1c-\x1f]", text[:100_000])) > max(len(text[:100_000]) * _CONTROL_SHARE, 8):
        raise InputError(f"{shown} is no text: it is full of control characters", "convert it to text")
    return text


def _fix(kind: Kind) -> str:
    return "recognise its text first, for example with ocrmypdf" if kind == "pdf" else "choose another file"
