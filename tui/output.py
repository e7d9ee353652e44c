"""What the command line prints: sanitised text, JSON in ASCII, aligned tables, and progress on stderr.

Everything that came from a model, a file, a server or the log passes `sanitise` here; JSON escapes every character that
is not printable ASCII. Not covered: an answer's Markdown while it streams (`tui.live_markdown`).
"""

import json
import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

from data.errors import InputError
from data.sanitise import one_line, sanitise

REDRAW_S = 0.1
"""Seconds between two redraws of a progress line."""


def text(untrusted: str) -> None:
    """Write sanitised text to stdout at once, without adding a newline."""
    raw(sanitise(untrusted))


def line(untrusted: str = "") -> None:
    """Write sanitised text and a newline to stdout."""
    raw(f"{sanitise(untrusted)}\n")


def as_json(value: Any) -> None:
    """Write one JSON value on one line; datetimes as ISO 8601."""
    raw(json.dumps(value, default=_plain) + "\n")


def raw(safe: str) -> None:
    """Write text that is already harmless; raises InputError where stdout cannot take it (a full disk)."""
    try:
        sys.stdout.write(safe)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"cannot write the output: {error.strerror or error}", "free space, or print elsewhere") from error


def note(untrusted: str) -> None:
    """Write one sanitised line to stderr."""
    sys.stderr.write(f"{one_line(untrusted, 1000)}\n")
    sys.stderr.flush()


def dim_note(untrusted: str) -> None:
    """Write one sanitised line to a terminal's stderr, fainter than the answer."""
    sys.stderr.write(f"\x1b[2m{one_line(untrusted, columns() - 1)}\x1b[22m\n")
    sys.stderr.flush()


def coloured(safe: str, colour: int, stream: TextIO | None = None) -> str:
    """`safe` in an ANSI colour (30 to 37) where `stream` (stdout) is a terminal and NO_COLOR is not set."""
    plain = os.environ.get("NO_COLOR") or not is_terminal(stream or sys.stdout)
    return safe if plain else f"\x1b[{colour}m{safe}\x1b[39m"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in aligned columns; in a terminal the last column is cut to the width."""
    cells = [[one_line(cell, 200) for cell in row] for row in (header, *rows)]
    widths = [max(width(row[column]) for row in cells) for column in range(len(header))]
    room = columns() if is_terminal(sys.stdout) else 10_000
    for row in cells:
        padded = [cell + " " * (widths[index] - width(cell)) for index, cell in enumerate(row[:-1])]
        start = sum(widths[:-1]) + 2 * len(padded)
        raw("  ".join([*padded, one_line(row[-1], max(room - start, 10))]).rstrip() + "\n")


def width(shown: str) -> int:
    """Columns that one line of text takes in a terminal: two for wide characters, none for combining ones."""
    if shown.isascii():
        return len(shown)
    return sum(_cell(character) for character in shown)


def columns() -> int:
    """Columns of the terminal; 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def is_terminal(stream: TextIO | None) -> bool:
    """Whether `stream` is a terminal that understands cursor movements (not TERM=dumb)."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM", "") != "dumb"
    except ValueError:  # closed
        return False


def size(count_bytes: float) -> str:
    """A size in bytes for people: "386 MB", decimal units."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count_bytes) < 1000:
            return f"{count_bytes:.0f} {unit}" if unit == "bytes" or count_bytes >= 10 else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1000
    return f"{count_bytes:.1f} TB"


def duration(seconds: float) -> str:
    """A duration for people: "7 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Status:
    """One line on stderr that is redrawn in place; outside a terminal nothing of it is shown."""

    def __init__(self) -> None:
        self._live = is_terminal(sys.stderr)
        self._drawn = 0.0
        self._shown = ""

    def show(self, untrusted: str) -> None:
        """Put `untrusted` in the line's place, at most every REDRAW_S."""
        now = time.monotonic()
        if not self._live or now - self._drawn < REDRAW_S:
            return
        self._drawn = now
        self._shown = one_line(untrusted, columns() - 1)
        sys.stderr.write(f"\r\x1b[2K{self._shown}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
        self._shown = ""
        self._drawn = 0.0


class Progress:
    """The progress of long work on stderr: a bar with amounts and the time left in a terminal, else a line per step.

    amount: how a number done or in all is written; bytes unless told.
    """

    def __init__(self, title: str, amount: Callable[[float], str] = size) -> None:
        self._title = title
        self._amount = amount
        self._status = Status()
        self._live = is_terminal(sys.stderr)
        self._told = ""
        self._started = time.monotonic()
        self._first: float | None = None  # what was done when the counting began; a resumed download does not begin at 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._status.clear()

    def show(self, step: str, done: float = 0, total: float = 0, beside: str = "") -> None:
        """Say what is being done, and how far it is (0 of 0 where that is not known).

        beside: told after the amounts, in place of the time left that is reckoned here.
        """
        if not self._live:
            if step != self._told:
                note(f"{self._title}: {step}")
            self._told = step
            return
        if not total:
            self._status.show(f"{self._title}: {step}")
            return
        if self._first is None:
            self._first, self._started = done, time.monotonic()
        share = min(done / total, 1.0)
        filled = round(share * 24)
        counts = f"{self._amount(done)} of {self._amount(total)}"
        rest = f"  {beside}" if beside else self._left(done, total)
        self._status.show(f"{self._title}  {'█' * filled}{'░' * (24 - filled)} {share:4.0%}  {counts}{rest}")

    def _left(self, done: float, total: float) -> str:
        gained, seconds = done - (self._first or 0), time.monotonic() - self._started
        if gained <= 0 or seconds < 1:
            return ""
        return f"  {duration((total - done) * seconds / gained)} left"


def confirm(question: str) -> None:
    """Ask on stderr; anything but yes ends the verb as interrupted. Where nobody can be asked it is wrong usage."""
    import click

    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(f"{one_line(question, 200)} Nobody can be asked here; --yes says yes")
    click.confirm(one_line(question, 200), abort=True, err=True)


def _cell(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"no JSON for {type(value).__name__}")
