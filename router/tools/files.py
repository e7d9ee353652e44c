"""List, read and search files beneath the folders of `tools.folders`; nothing is offered where there are none.

How a path is kept beneath is told in `_paths`. A regular expression of a model can take forever, so it runs in a child process
that is ended after `PATTERN_S` seconds and may take little memory: Python's own syntax, and no pattern can hold up the program.
Text that is not UTF-8 is read with replacement characters. Not covered: PDF and other documents (attach those).
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.errors import ToolError
from data.sanitise import one_line, sanitise
from router.tools import _paths
from router.tools._paths import Allowed
from router.tools.base import Surroundings, Tool, tool

READ_BYTES = 4_000_000
"""Read of one file at most."""
LINES = 200
"""Lines that read_file gives at once."""
LISTED = 200
FOUND = 50
"""Lines that search_files gives."""
SEARCH_BYTES = 16_000_000
SEARCH_FILES = 5_000
SEARCH_S = 5.0
PATTERN_S = 2.0
PATTERN_CHARS = 300
_MATCHER = Path(__file__).with_name("_matcher.py")


def build(surroundings: Surroundings) -> Sequence[Tool]:
    """list_files, read_file and search_files, or nothing where no folder is allowed or the system cannot guard them."""
    folders = _paths.allowed(surroundings.settings.folders)
    if not folders or os.open not in os.supports_dir_fd:
        return ()

    @tool("read", untrusted=True)
    def list_files(path: str = "") -> str:
        """List a folder. path: relative to an allowed folder; empty for the allowed folders themselves."""
        return _listing(path, folders)

    @tool("read", untrusted=True)
    def read_file(path: str, first_line: int = 1, last_line: int = 0) -> str:
        """Read lines of a text file. path: relative to an allowed folder. first_line: from 1. last_line: 0 for as many as fit."""
        return _lines(path, first_line, last_line, folders)

    @tool("read", untrusted=True)
    def search_files(text: str, path: str = "", regex: bool = False) -> str:
        """Find lines that contain a text, in any case. path: folder or file to search. regex: the text is a regular expression."""
        return _found(text, path, regex, folders)

    return (list_files, read_file, search_files)


def _listing(path: str, folders: Sequence[Allowed]) -> str:
    if path in ("", ".", "./") and len(folders) > 1:
        return "\n".join(["allowed folders:", *(f"{folder.written}/" for folder in folders)])
    for folder, parts in _paths.candidates(path, folders):
        try:
            with _paths.open_folder(folder, parts) as handle:
                found = _paths.entries(handle)
        except FileNotFoundError:
            continue
        lines = [_entry(entry) for entry in found[:LISTED]]
        if len(found) > LISTED:
            lines.append(f"[{len(found) - LISTED} more]")
        return "\n".join([f"{_shown(folder, parts, folders) or '.'}/", *lines]) if found else "the folder is empty"
    raise _missing(path)


def _entry(entry: _paths.Entry) -> str:
    name = sanitise(entry.name).replace("\n", "␊")
    if entry.refusal:
        return f"  {name} (not readable: hidden, secret, a link or no plain file)"
    return f"  {name}/" if entry.is_folder else f"  {name} ({entry.size_bytes:,} bytes)"


def _lines(path: str, first: int, last: int, folders: Sequence[Allowed]) -> str:
    for folder, parts in _paths.candidates(path, folders):
        try:
            with _paths.open_file(folder, parts) as handle:
                size = os.fstat(handle).st_size
                data = _read(handle, READ_BYTES)
        except FileNotFoundError:
            continue
        shown = _shown(folder, parts, folders)
        if kind := _binary(data):
            return f"{shown} is not text: {kind}, {size:,} bytes"
        lines = _text(data).removesuffix("\n").split("\n") if data else []
        note = f"; only its first {READ_BYTES:,} of {size:,} bytes are read" if size > READ_BYTES else ""
        if not lines:
            return f"{shown} is empty"
        if not 1 <= first <= len(lines):
            raise ToolError(f"{shown} has lines 1 to {len(lines)}, not {first}{note}")
        end = min(len(lines), first + LINES - 1, last if last >= first else len(lines))
        head = f"{shown}, lines {first}-{end} of {len(lines)}{note}:"
        return "\n".join([head, *(f"{number}: {line}" for number, line in enumerate(lines[first - 1 : end], first))])
    raise _missing(path)


@dataclass(slots=True)
class _Search:
    """What one search has used up, and why it ended early."""

    deadline: float
    files: int = 0
    bytes: int = 0
    ended: str = ""
    texts: list[tuple[str, str]] = field(default_factory=list)

    def goes_on(self) -> bool:
        if self.files >= SEARCH_FILES or self.bytes >= SEARCH_BYTES:
            self.ended = f"only the first {self.files:,} files ({self.bytes / 1e6:.0f} MB) were searched"
        elif time.monotonic() > self.deadline:
            self.ended = f"only {self.files:,} files were searched in {SEARCH_S:.0f} s"
        return not self.ended


def _found(text: str, path: str, regex: bool, folders: Sequence[Allowed]) -> str:
    if not 0 < len(text) <= PATTERN_CHARS:
        raise ToolError(f"a search text has 1 to {PATTERN_CHARS} characters, not {len(text):,}")
    search = _Search(time.monotonic() + SEARCH_S)
    known = False
    for folder, parts in _paths.candidates(path, folders):
        try:
            _gather(folder, parts, folders, search)
            known = True
        except FileNotFoundError:
            continue
    if not known:
        raise _missing(path)
    hits = _matching(text, search.texts) if regex else _containing(text, search.texts)
    lines = [f"{search.texts[file][0]}:{number}: {one_line(line, 300)}" for file, number, line in hits[:FOUND]]
    notes = [f"[{search.ended}; name a folder to search]"] if search.ended else []
    if len(hits) > FOUND:
        notes.append(f"[{len(hits) - FOUND} more lines]")
    return "\n".join([*(lines or [f"no line contains that ({search.files} files)"]), *notes])


def _gather(folder: Allowed, parts: tuple[str, ...], folders: Sequence[Allowed], search: _Search) -> None:
    """Texts of the file or of all files below the folder, as far as the bounds go."""
    shown = _shown(folder, parts, folders)
    with contextlib.ExitStack() as opened:
        try:
            handle = opened.enter_context(_paths.open_folder(folder, parts))
        except ToolError:
            if not parts:
                raise
            _take(opened.enter_context(_paths.open_file(folder, parts)), shown, search)
        else:
            _gather_folder(handle, shown, search, len(parts))


def _gather_folder(handle: int, shown: str, search: _Search, depth: int) -> None:
    device = os.fstat(handle).st_dev
    for entry in _paths.entries(handle):
        if entry.refusal or depth >= _paths.PARTS or not search.goes_on():
            continue
        place = f"{shown}/{entry.name}" if shown else entry.name
        with contextlib.suppress(ToolError, FileNotFoundError):  # changed since it was listed, or not for us to read
            below = _paths.open_child(handle, entry.name, device) if entry.is_folder else _paths.open_beneath(handle, entry.name)
            try:
                if entry.is_folder:
                    _gather_folder(below, place, search, depth + 1)
                else:
                    _take(below, place, search)
            finally:
                os.close(below)


def _take(handle: int, shown: str, search: _Search) -> None:
    data = _read(handle, min(READ_BYTES, SEARCH_BYTES - search.bytes))
    search.files += 1
    search.bytes += len(data)
    if not _binary(data):
        search.texts.append((shown, _text(data)))


def _containing(text: str, texts: Sequence[tuple[str, str]]) -> list[tuple[int, int, str]]:
    wanted = text.casefold()
    return [
        (file, number, line)
        for file, (_, content) in enumerate(texts)
        if wanted in content.casefold()
        for number, line in enumerate(content.split("\n"), 1)
        if wanted in line.casefold()
    ]


def _matching(pattern: str, texts: Sequence[tuple[str, str]]) -> list[tuple[int, int, str]]:
    """Lines in which the pattern is found, by a child process that can be ended."""
    asked = json.dumps({"pattern": pattern, "texts": [content for _, content in texts], "most": FOUND * 4})
    command = [sys.executable, "-I", "-S", str(_MATCHER)]
    try:
        done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=PATTERN_S, check=False, env={})  # noqa: S603 (our own file)
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"the pattern took more than {PATTERN_S:.0f} s", "simplify it or search for plain text") from error
    except OSError as error:
        raise ToolError(f"cannot search by pattern: {error.strerror}", "search for plain text") from error
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise ToolError("the pattern took too long", "simplify it or search for plain text")
    if done.returncode != 0:
        raise ToolError("the pattern took too much memory", "simplify it or search for plain text")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise ToolError(f"the pattern is not a valid regular expression: {one_line(answer['error'])}")
    return [(file, number, line) for file, number, line in answer["hits"]]


def _text(data: bytes) -> str:
    """Lines end with LF alone, as editors and grep count them."""
    return data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n")


def _read(handle: int, most: int) -> bytes:
    chunks, left = [], most
    try:
        while left > 0 and (chunk := os.read(handle, min(left, 1 << 20))):
            chunks.append(chunk)
            left -= len(chunk)
    except OSError as error:
        raise ToolError(f"the file cannot be read: {os.strerror(error.errno or 0)}") from error
    return b"".join(chunks)


_KINDS = {
    b"\x7fELF": "a program",
    b"%PDF": "a PDF document (attach it with pointsman docs add)",
    b"PK\x03\x04": "a ZIP archive or office document",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"\x1f\x8b": "gzip data",
    b"GGUF": "a GGUF model",
    b"SQLite format 3": "an SQLite database",
}


def _binary(data: bytes) -> str:
    """What binary data is, "" for text: known beginnings, else NUL bytes or many control characters in the first 8 KB."""
    for magic, kind in _KINDS.items():
        if data.startswith(magic):
            return kind
    head = data[:8192]
    odd = len(re.findall(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]", head))
    return "binary data" if b"\0" in head or odd * 20 > len(head) else ""


def _shown(folder: Allowed, parts: Sequence[str], folders: Sequence[Allowed]) -> str:
    """How a path is named to the model: relative to the one allowed folder, or whole where there are several."""
    below = "/".join(parts)
    return below if len(folders) == 1 else f"{folder.written}/{below}".rstrip("/")


def _missing(path: str) -> ToolError:
    if path.strip("./") == "":
        return ToolError("no allowed folder exists any more", "the user may correct tools.folders")
    return ToolError(f"there is no {one_line(path)!r} in the allowed folders", "see what there is with list_files")
