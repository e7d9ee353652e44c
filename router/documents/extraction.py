"""The text of PDF and HTML, taken out in a child process with limits, since both are other people's formats.

The child (this module, run with -m) reads the file from stdin, caps its own memory, processor time, open files and written
files, and answers a JSON line a page. A damaged, encrypted or bottomless file ends the child, never this process.
Not covered: recognising the text of scanned pages.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, Any

from data.errors import InputError

STALL_S = 60.0
"""Seconds that one page may take."""
CPU_S = 600
MEMORY_BYTES = 1_500_000_000
TEXT_CHARS = 60_000_000
"""Characters of extracted text at most."""
_LINE = 400_000_000  # bytes of one page as a JSON line, at most
_KEPT = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "LANG", "LC_ALL")


def texts(kind: str, data: bytes, shown: str, stall_s: float = STALL_S) -> list[str]:
    """The text of each page of a "pdf", or the one text of "html" in UTF-8.

    Raises InputError where the file is damaged, encrypted, or too much work; `shown` names it in the message.
    """
    pages: list[str] = []
    total = ended = 0
    for answer in _answers(kind, data, stall_s):
        if "refused" in answer:
            raise InputError(f"{shown}: {answer['refused']}", str(answer["fix"]))
        ended += "end" in answer
        if "text" in answer:
            pages.append(str(answer["text"]))
            total += len(pages[-1])
        if total > TEXT_CHARS:
            raise InputError(f"{shown} holds more than {TEXT_CHARS / 1e6:.0f} million characters", "split it")
    if not ended:
        where = f" at page {len(pages) + 1}" if kind == "pdf" and pages else ""
        limits = f"{stall_s:.0f} s a page, {CPU_S} s and {MEMORY_BYTES / 1e9:.1f} GB in all"
        raise InputError(f"{shown} cannot be read{where}: it is damaged or too much work ({limits})", "print it to a new file")
    return pages


def _answers(kind: str, data: bytes, stall_s: float) -> Iterator[dict[str, Any]]:
    """What the child says, until it ends or says nothing for `stall_s`; then it is killed."""
    command = [sys.executable, "-P", "-m", "router.documents.extraction", kind]
    with tempfile.TemporaryFile() as source:
        source.write(data)
        source.seek(0)
        child = subprocess.Popen(  # noqa: S603 our own
            command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
        )
        assert child.stdout is not None  # noqa: S101 a pipe was asked for
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        reader = threading.Thread(target=_forward, args=(child.stdout, lines), daemon=True)
        reader.start()
        try:
            with contextlib.suppress(queue.Empty):
                while line := lines.get(timeout=stall_s):
                    yield _parsed(line)
        finally:
            child.kill()
            child.wait()
            reader.join()
            child.stdout.close()


def _forward(pipe: IO[bytes], lines: "queue.SimpleQueue[bytes]") -> None:
    while line := pipe.readline(_LINE):
        lines.put(line)
    lines.put(b"")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except ValueError:
        return {}  # cut off: the child was ended within it, and no line says that it came to its end
    return answer if isinstance(answer, dict) else {}


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    folders = [str(Path(__file__).resolve().parent.parent.parent), os.environ.get("PYTHONPATH", "")]
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, folders)), "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}


class _Words(HTMLParser):
    """The text of a page, each piece on the line where it stands in the source."""

    SILENT = frozenset({"script", "style", "template", "noscript", "svg"})
    BREAKING = frozenset("p div br li tr td th h1 h2 h3 h4 h5 h6 pre section article header footer table dt dd option".split())

    def __init__(self, lines: int) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[list[str]] = [[] for _ in range(lines)]
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Words on both sides of a block stay apart."""
        if tag in self.SILENT:
            self._silent.append(tag)
        if tag in self.BREAKING:
            self.pieces[self._line()].append(" ")

    def handle_endtag(self, tag: str) -> None:
        """The end of a silent part."""
        if self._silent and self._silent[-1] == tag:
            self._silent.pop()
        if tag in self.BREAKING:
            self.pieces[self._line()].append(" ")

    def handle_data(self, data: str) -> None:
        """Keep visible text."""
        if not self._silent:
            first = self._line()
            for offset, piece in enumerate(data.split("\n")):
                self.pieces[min(first + offset, len(self.pieces) - 1)].append(piece)

    def text(self) -> str:
        """All of it, as many lines as the source has."""
        return "\n".join(" ".join("".join(pieces).split()) for pieces in self.pieces)

    def _line(self) -> int:
        return min(self.getpos()[0], len(self.pieces)) - 1


def _html(source: str) -> Iterator[dict[str, Any]]:
    unified = source.replace("\r\n", "\n").replace("\r", "\n")
    words = _Words(unified.count("\n") + 1)
    words.feed(unified)
    words.close()
    yield {"text": words.text()}
    yield {"end": True}


def _pdf(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    try:
        import pypdf
        from pypdf.errors import DependencyError
    except ImportError:
        yield {"refused": "reading PDF needs pypdf", "fix": "pip install pypdf"}
        return
    reader = pypdf.PdfReader(file)
    if reader.is_encrypted:
        try:
            opened = bool(reader.decrypt(""))
        except (DependencyError, NotImplementedError):
            opened = False
        if not opened:
            yield {"refused": "the PDF is encrypted", "fix": "save a copy without a password"}
            return
    for page in reader.pages:
        yield {"text": page.extract_text()}
    yield {"end": True}


def _limit() -> None:
    """Cap this process. Windows has no such limits; there the parent's clock and the sizes bound it."""
    with contextlib.suppress(ImportError):
        import resource

        caps = {
            resource.RLIMIT_AS: MEMORY_BYTES,
            resource.RLIMIT_CPU: CPU_S,
            resource.RLIMIT_NOFILE: 64,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_CORE: 0,
        }
        for what, cap in caps.items():
            _, hard = resource.getrlimit(what)
            wanted = cap if hard == resource.RLIM_INFINITY else min(cap, hard)
            resource.setrlimit(what, (wanted, wanted))


def _main(kind: str) -> None:
    _limit()
    answers = _pdf(sys.stdin.buffer) if kind == "pdf" else _html(sys.stdin.buffer.read().decode("utf-8", "replace"))
    for answer in answers:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main(sys.argv[1])
