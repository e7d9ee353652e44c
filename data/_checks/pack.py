"""A pack's files as a check reads them: carefully, with every fault noted and none raised.

A file counts only where it is a regular one within the folder, of a sensible size, in UTF-8. Not covered: what is in the files.
"""

import difflib
import json
import stat
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.domains import LARGEST_BYTES
from data.places import Lines, json_lines, toml_lines
from data.sanitise import one_line

FILES = (
    "domain.toml", "schema.json", "rules.toml", "examples.jsonl", "adversarial.jsonl", "indicators.toml", "glossary.txt",
    "bias.jsonl", "README.md",
)  # fmt: skip
LARGEST_TABLE = 1 << 20
"""Bytes of a TOML or schema file at most; rows may have `LARGEST_BYTES`."""
MOST_PROBLEMS = 200
"""Problems told of one file at most."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a pack: the file, the line from 1, and what in words."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Pack:
    """The folder being checked and the problems found so far."""

    folder: Path
    problems: list[Problem] = field(default_factory=list)
    _read: dict[str, str | None] = field(default_factory=dict)

    def fault(self, name: str, line: int, text: str) -> None:
        """Note a problem in the file `name`; many of one file are counted, not told."""
        file = str(self.folder / name)
        told = sum(problem.file == file for problem in self.problems)
        if told < MOST_PROBLEMS:
            self.problems.append(Problem(file, line, text))
        elif told == MOST_PROBLEMS:
            self.problems.append(Problem(file, line, "and more of which none is told: correct those above first"))

    def text(self, name: str) -> str | None:
        """The text of a file; None where there is none, or none that can be read, which is then noted."""
        if name not in self._read:
            try:
                self._read[name] = _text(self.folder, name)
            except _Unusable as error:
                self._read[name] = None
                self.fault(name, error.line, error.text)
        return self._read[name]

    def toml(self, name: str) -> tuple[dict[str, Any], Lines] | None:
        """A TOML file's tables and the places of its keys; None where there are none."""
        text = self.text(name)
        try:
            return None if text is None else (_tables(text), toml_lines(text))
        except _Unusable as error:
            self.fault(name, error.line, error.text)
            return None

    def json(self, name: str) -> tuple[Any, Lines] | None:
        """A JSON file's value and the places of its keys; None where there is none."""
        text = self.text(name)
        if text is None:
            return None
        twice: list[str] = []
        try:
            found = _value(text, twice)
        except _Unusable as error:
            self.fault(name, error.line, error.text)
            return None
        lines = json_lines(text)
        for key in twice:
            line = lines.of_offset(text.rfind(json.dumps(key, ensure_ascii=False)))
            self.fault(name, line, f"the key {one_line(key, 60)!r} stands there twice")
        return found, lines

    def strays(self) -> None:
        """Note files whose names are close to those that a pack has."""
        names = sorted(entry.name for entry in self.folder.iterdir())
        for name in names:
            near = nearest(name, FILES)
            if name not in FILES and near and near not in names:
                self.fault(name, 1, f"is no file of a pack; did you mean {near}?")


def nearest(word: str, words: Iterable[str]) -> str:
    """The word of those that is most like `word`, "" where none is near."""
    found = difflib.get_close_matches(word[:80], list(words), 1, 0.6)
    return found[0] if found else ""


def meant(word: str, words: Iterable[str]) -> str:
    """ ", did you mean ...?" for a word that is none of those; "" where none is near."""
    near = nearest(word, words)
    return f"; did you mean {near}?" if near else ""


class _Unusable(Exception):
    """A file that cannot be used: why, and on which line. Never leaves this module."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(line, text)
        self.line = line
        self.text = text


def _text(folder: Path, name: str) -> str | None:
    file = folder / name
    largest = LARGEST_BYTES if name.endswith(".jsonl") else LARGEST_TABLE
    try:
        if not file.is_symlink() and not file.exists():
            return None
        if not file.resolve(strict=True).is_relative_to(folder.resolve()):
            raise _Unusable(1, "is a link out of the pack's folder; put the file itself there")
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise _Unusable(1, "is no regular file")
        if found.st_size > largest:
            raise _Unusable(1, f"has {found.st_size:,} bytes, {largest:,} at most")
        return file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _Unusable(line, f"is not UTF-8 text, at byte {error.start}; save it as UTF-8") from error
    except RuntimeError as error:  # Python 3.11 and 3.12 say so of a link that leads to itself
        raise _Unusable(1, "is a link that leads nowhere") from error
    except OSError as error:
        raise _Unusable(1, f"cannot be read: {error.strerror or error}") from error


def _tables(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise _Unusable(_told_line(text, str(error)), f"not TOML: {one_line(str(error), 200)}") from error
    except RecursionError as error:
        raise _Unusable(1, "not TOML: nested too deeply") from error


def _value(text: str, twice: list[str]) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, twice), parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _Unusable(error.lineno, f"not JSON: {error.msg} (column {error.colno})") from error
    except ValueError as error:
        raise _Unusable(1, f"not JSON: {one_line(str(error), 200)}") from error
    except RecursionError as error:
        raise _Unusable(1, "not JSON: nested too deeply") from error


def _once(pairs: list[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice += sorted({key for key in keys if keys.count(key) > 1})[:10]
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _told_line(text: str, message: str) -> int:
    if "at end of document" in message:
        return text.rstrip("\n").count("\n") + 1
    _, _, told = message.partition("at line ")
    digits = told.split(",")[0].strip(") ")
    return int(digits) if digits.isdigit() else 1
