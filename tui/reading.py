"""What the user hands to a verb as text: arguments, stdin, files. UTF-8 or refused, with the byte that is wrong.

Not covered: pictures, archives and other binary files, which are refused, and tables of examples (`data.datasets`).
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from data.errors import InputError
from data.sanitise import one_line

PATH_WIDTH = 500  # characters of a path in a message
MAX_BYTES = 16_000_000
"""Bytes of one file or of stdin at most; far beyond any model's context."""


def question(words: Sequence[str], files: Sequence[str]) -> str:
    """The arguments, then stdin where something is piped in, then the files, each under its name.

    A single file with neither arguments nor stdin is the question itself. Raises InputError where all are empty.
    """
    parts = [part for part in (argument(words), piped()) if part.strip()]
    contents = [(name, file_text(name)) for name in files]
    if not parts and len(contents) == 1:
        parts = [contents[0][1]]
    else:
        parts += [_quoted(name, content) for name, content in contents]
    text = "\n\n".join(parts)
    if not text.strip():
        raise InputError("there is no question", 'give one: pointsman ask "...", or pipe it in')
    return text


def argument(words: Sequence[str]) -> str:
    """The arguments as one text; raises InputError where they were not UTF-8."""
    text = " ".join(words)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the argument is not UTF-8 text (character {error.start})", "use a UTF-8 locale, or pipe it in"
        ) from error
    return text


def piped() -> str:
    """All of stdin, or "" where it is a terminal or closed."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return ""
    try:
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read stdin: {error.strerror}", "close it: < /dev/null") from error
    return _decoded(data, "stdin")


def file_text(name: str) -> str:
    """The text of one file; raises InputError naming it and what is wrong with it."""
    try:
        with Path(name).expanduser().open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot read {one_line(name, PATH_WIDTH)}: {reason}", "check the name and your rights to it") from error
    return _decoded(data, one_line(name, PATH_WIDTH))


def _decoded(data: bytes, source: str) -> str:
    if len(data) > MAX_BYTES:
        raise InputError(f"{source} is larger than {MAX_BYTES // 1_000_000} MB", "give a part of it, for example with head -c")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{source} is UTF-16, not UTF-8", "convert it: iconv -f UTF-16 -t UTF-8")
    if b"\0" in data:
        raise InputError(f"{source} is not text: byte {data.index(0)} is NUL", "give its text, not the binary file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = f"byte {error.start} is 0x{data[error.start]:02x}"
        raise InputError(f"{source} is not UTF-8: {wrong}", "convert it, for example: iconv -f ISO-8859-1 -t UTF-8") from error


def _quoted(name: str, content: str) -> str:
    """The content in a fence that is longer than any in it, headed by the file's name."""
    longest = max((len(run) for run in re.findall(r"`{3,}", content)), default=2)
    fence = "`" * (longest + 1)
    return f"{one_line(Path(name).name)}:\n{fence}\n{content.rstrip()}\n{fence}"
