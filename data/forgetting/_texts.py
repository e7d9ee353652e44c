"""Files of text without what is looked for, piece by piece: JSON, JSON lines, CSV, TOML, HTML, and any other text.

Each reader gives (bytes, hits): a piece of the file as it has to be, and how often it held something. Where rows are dropped, a row
is a line of JSON or a record of CSV; anywhere else the texts within are put into other words and everything around them stays, so
that figures keep their rows. Not covered: containers (_containers.py), which file is which (files.py).
"""

import csv
import html
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from data.forgetting.wanted import Wanted

Parts = Iterator[tuple[bytes, int]]
Reader = Callable[[Path, Wanted, bool], Parts]

LARGEST_BYTES = 512 << 20
RECORD_LINES = 2_000
"""Lines that a record of CSV may go over; beyond it a quote was never closed, and each line is a record."""
_JSON_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*', re.DOTALL)
_TOML_TEXT = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|' + r"'''.*?'''" + r'|"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'|#[^\n]*",
    re.DOTALL,
)
_TAG = re.compile(r"(<[^<>]*>)")
_ATTRIBUTE = re.compile(r'"[^"]*"')


class TooLarge(Exception):
    """The file has to be read whole and is too large for that; never leaves this package."""


def json_lines(path: Path, wanted: Wanted, drop: bool) -> Parts:
    """A row a line."""
    with path.open("rb") as file:
        for raw in file:
            text = raw.decode("utf-8", "surrogateescape")
            if not wanted.maybe(text):
                yield raw, 0
                continue
            cleared, hits = _json(text, wanted)
            if hits and drop:
                yield b"", 1
            else:
                yield (_bytes(cleared), hits) if hits else (raw, 0)


def json_value(path: Path, wanted: Wanted, drop: bool) -> Parts:
    """The texts of one JSON value; those that are alone in a list of texts, or first in a list of two, are rows."""
    text = _whole(path)
    if drop and wanted.maybe(text):
        try:
            kept, dropped = _without(json.loads(text), wanted)
        except (ValueError, RecursionError):
            kept, dropped = None, 0
        if dropped:
            text = json.dumps(kept)
            cleared, hits = _json(text, wanted)
            yield _bytes(cleared), dropped + hits
            return
    cleared, hits = _json(text, wanted) if wanted.maybe(text) else (text, 0)
    yield _bytes(cleared), hits


def delimited(path: Path, wanted: Wanted, drop: bool) -> Parts:
    """Records of CSV or TSV; the first, which names the columns, always stays."""
    for number, record in enumerate(_records(path)):
        text = record.decode("utf-8", "surrogateescape")
        if not (wanted.maybe(text) and _record_with(text, wanted)):
            yield record, 0
        elif drop and number:
            yield b"", 1
        else:
            yield _bytes(_lines(text, wanted)), 1


def toml(path: Path, wanted: Wanted, drop: bool) -> Parts:
    """The texts and comments of TOML, and what else holds a term."""
    text = _whole(path)
    hits = 0

    def one(found: re.Match[str]) -> str:
        nonlocal hits
        token = found[0]
        inner = token.lstrip("#") if token[0] == "#" else _toml_value(token)
        if not wanted.found(inner):
            return token
        hits += 1
        cleared = " ".join(wanted.cleared(inner).split("\n"))
        return f"#{cleared}" if token[0] == "#" else json.dumps(cleared, ensure_ascii=False)

    if not wanted.maybe(text):
        yield _bytes(text), 0
        return
    pieces, at = [], 0
    for token in _TOML_TEXT.finditer(text):
        pieces += [text[at : token.start()], one(token)]
        at = token.end()
    pieces.append(text[at:])
    for number in range(0, len(pieces), 2):  # what stands outside of quotes: bare keys, numbers, dates
        if wanted.found(pieces[number]):
            hits += 1
            pieces[number] = wanted.cleared(pieces[number]).replace(wanted.mark, json.dumps(wanted.mark))
    yield _bytes("".join(pieces)), hits


def markup(path: Path, wanted: Wanted, drop: bool) -> Parts:
    """The texts between the tags of HTML or SVG, and the values in them; whole where rows are dropped, as examples show rows."""
    text = _whole(path)
    if not wanted.maybe(text):
        yield _bytes(text), 0
        return
    pieces, hits = [], 0
    for piece in _TAG.split(text):
        if not wanted.found(html.unescape(piece)):
            pieces.append(piece)
            continue
        hits += 1
        if piece.startswith("<"):
            pieces.append(_ATTRIBUTE.sub(lambda value: f'"{html.escape(wanted.cleared(html.unescape(value[0][1:-1])))}"', piece))
        else:
            pieces.append(html.escape(wanted.mark if drop else wanted.cleared(html.unescape(piece)), quote=False))
    yield _bytes("".join(pieces)), hits


def plain(path: Path, wanted: Wanted, drop: bool) -> Parts:
    """Any other text: a term is replaced where it stands, lines with something that was said go."""
    text = _whole(path)
    cleared = _lines(text, wanted) if wanted.maybe(text) else text
    yield _bytes(cleared), int(cleared != text)


def _json(text: str, wanted: Wanted) -> tuple[str, int]:
    """The text of a JSON file with its texts cleared, all else to the letter, and how many were."""
    hits = 0

    def one(found: re.Match[str]) -> str:
        nonlocal hits
        token = found[0]
        if token[0] != '"':  # a number: only as a whole is it a text
            whole = wanted.is_term(token)
            hits += whole
            return json.dumps(wanted.mark) if whole else token
        try:
            inner = json.loads(token, strict=False)
        except ValueError:
            inner = token[1:-1]
        if not wanted.found(inner):
            return token
        hits += 1
        return json.dumps(wanted.cleared(inner), ensure_ascii=token.isascii())

    cleared = _JSON_TEXT.sub(one, text)
    if wanted.found(cleared) and not _is_json(cleared):  # a torn line
        return _lines(cleared, wanted), hits + 1
    return cleared, hits


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _without(value: object, wanted: Wanted) -> tuple[object, int]:
    """A JSON value without the rows in its lists, and how many there were."""
    if isinstance(value, dict):
        made, dropped = {}, 0
        for name, inner in value.items():
            made[name], some = _without(inner, wanted)
            dropped += some
        return made, dropped
    if not isinstance(value, list):
        return value, 0
    rows = [one for one in value if not _row_with(one, wanted)]
    kept = [_without(one, wanted) for one in rows]
    return [one for one, _ in kept], len(value) - len(rows) + sum(some for _, some in kept)


def _row_with(one: object, wanted: Wanted) -> bool:
    if isinstance(one, str):
        return wanted.found(one)
    texts = isinstance(one, list) and 0 < len(one) <= 2 and all(isinstance(part, str) for part in one)
    return texts and any(wanted.found(part) for part in one)  # type: ignore[attr-defined]


def _record_with(text: str, wanted: Wanted) -> bool:
    """Whether a record of CSV holds it, in whatever way its fields are divided."""
    if wanted.within(text):
        return True
    try:
        return any(wanted.found(cell) for mark in ",;\t" for row in csv.reader([text], delimiter=mark) for cell in row)
    except csv.Error:
        return False


def _records(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        waiting: list[bytes] = []
        quotes = 0
        for line in file:
            waiting.append(line)
            quotes += line.count(b'"')
            if quotes % 2 == 0:
                yield b"".join(waiting)
            elif len(waiting) > RECORD_LINES:
                yield from waiting
            else:
                continue
            waiting, quotes = [], 0
        yield from waiting


def _lines(text: str, wanted: Wanted) -> str:
    """Text without it: first where it stands, then by lines, by pairs of lines, and at last as a whole."""
    lines = text.splitlines(keepends=True)
    cleared = [_line(line, wanted) for line in lines]
    for at in range(len(cleared) - 1):
        if wanted.found(cleared[at] + cleared[at + 1]):
            cleared[at], cleared[at + 1] = (wanted.mark + _end(cleared[one]) for one in (at, at + 1))
    made = "".join(cleared)
    return wanted.cleared(made) if wanted.found(made) else made


def _line(line: str, wanted: Wanted) -> str:
    end = _end(line)
    body = line[: len(line) - len(end)]
    return wanted.cleared(body) + end


def _end(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]


def _toml_value(token: str) -> str:
    quotes = 3 if token[:3] in ('"""', "'''") else 1
    inner = token[quotes:-quotes]
    if token[0] == "'":
        return inner
    try:
        return str(json.loads(f'"{inner}"', strict=False))
    except ValueError:
        return inner


def _whole(path: Path) -> str:
    if path.stat().st_size > LARGEST_BYTES:
        raise TooLarge
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
