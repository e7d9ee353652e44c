"""A folder of code or documentation as a source: what its authors wrote about their own code, as instructions with answers.

    a function with a docstring or documentation comment   "write this function" -> its code, and
                                                           "explain this function" -> what its authors say of it
    a heading with its section                             "write this section" -> its text

Python, Markdown and reStructuredText are read by their structure, other languages by documentation comments. Every row names its
file's licence; rows of one file share a group. Left out with a reason: vendored, built, hidden, ignored, generated, minified and
oversized files, and symbolic links, which are never followed. Files of other kinds are no records. Not covered: running anything.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data.datasets._sources import doc_comments, ignoring, python_code, sections
from data.datasets._sources.base import Broken, Progress, open_bytes, silent, unusable_text
from data.datasets._sources.files import FORMATS
from data.datasets._sources.lessons import Lesson
from data.datasets._sources.licences import NONE, Licences, permissive, stated
from data.datasets.rows import Origin, Refused, Row
from data.errors import InputError
from data.sanitise import one_line

LARGEST_FILE_BYTES = 1 << 20
MOST_FOLDERS_DEEP = 40
DATA = frozenset(FORMATS) - {".json"}
"""Endings of data sets, which are no documentation of anything; JSON is mostly configuration."""
Read = Callable[[str], Iterator[Lesson | Broken]]


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder. otherwise: the licence where none is found; licences: "permissive" keeps out all that have another or none."""

    root: Path
    name: str
    otherwise: str = ""
    licences: str = ""

    @property
    def licence(self) -> str:
        """That of the folder itself, "" where it has none; rows name their own file's."""
        found = self._known().of("")
        return "" if found == NONE else found

    def rows(self, progress: Progress = silent) -> Iterator[Row | Refused]:
        """See Source.rows; files in the order of their names. Raises InputError where there is nothing to read at all."""
        found = list(_walk(self.root))
        total = sum(one.size for one in found)
        known = self._known()
        done, any_text = 0, False
        for one in found:
            done += one.size
            for row in self._of(one, known):
                any_text = any_text or one.ending not in DATA
                yield row
            progress(done, total)
        if not any_text:
            raise InputError(
                f"{self.root} holds no documentation and no documented code", "a data set is given by its file, not by its folder"
            )

    def digest(self) -> str:
        """sha256 over the names and contents of every file that is read, in order, and of the licences found."""
        sha256 = hashlib.sha256()
        known = self._known()
        for one in _walk(self.root):
            content = b"" if one.reason else hashlib.sha256(_content(self.root.joinpath(*one.parts))).digest()
            line = (ignoring.relative(one.parts), one.reason, "" if one.reason else known.of(os.path.join("", *one.parts[:-1])))
            sha256.update("\0".join(line).encode("utf-8", "surrogatepass") + content)
        return sha256.hexdigest()

    def _known(self) -> Licences:
        return Licences(self.root, self.otherwise or NONE)

    def _of(self, one: "_Found", known: Licences) -> Iterator[Row | Refused]:
        place = one_line(f"{self.name}/{ignoring.relative(one.parts)}", 1000)
        if one.reason:
            yield Refused(Origin(place), "folder", one.reason)
            return
        try:
            content = _content(self.root.joinpath(*one.parts))
            licence = stated(content) or known.of(os.path.join("", *one.parts[:-1]))
            origin = Origin(place, 0, licence)
            text = self._text(one, content, licence)
        except InputError as error:
            yield Refused(Origin(place), "folder", error.what)
            return
        for number, lesson in enumerate(READERS[one.ending](text), start=1):
            origin = Origin(place, number, licence)
            if isinstance(lesson, Broken):
                yield Refused(origin, "reading", lesson.reason, lesson.excerpt)
            elif reason := unusable_text((lesson.asked, lesson.answer)):  # a docstring may escape what no text holds
                yield Refused(origin, "reading", reason)
            else:
                yield Row("instruction", lesson.asked, origin, completion=lesson.answer, group=place)

    def _text(self, one: "_Found", content: bytes, licence: str) -> str:
        """A file's text. Raises InputError with the reason for which it is left out."""
        if reason := ignoring.file_reason(one.parts[-1], content, one.ending not in sections.READERS):
            raise InputError(reason)
        if self.licences == "permissive" and not permissive(licence):
            raise InputError(f"the licence {licence} is not permissive")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"is not UTF-8 at byte {error.start}") from error
        if "\0" in text:
            raise InputError(f"holds a NUL character at position {text.index(chr(0))}")
        return text.replace("\r\n", "\n")


READERS: dict[str, Read] = {".py": python_code.lessons} | sections.READERS | doc_comments.READERS
"""By ending, in lower case."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A file that may be read, or, with a reason, a file or folder that is left out. size: bytes."""

    parts: tuple[str, ...]
    size: int = 0
    reason: str = ""

    @property
    def ending(self) -> str:
        return os.path.splitext(self.parts[-1])[1].casefold()


def _walk(root: Path) -> Iterator[_Found]:
    """Every file of a kind that can be read and everything left out, folders before what lies in them, sorted by name."""
    pending: list[tuple[tuple[str, ...], list[ignoring.Pattern]]] = [((), [])]
    while pending:
        parts, above = pending.pop()
        folder = root.joinpath(*parts)
        found = [*above, *ignoring.patterns(folder, parts)]
        try:
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if not parts:
                raise InputError(f"cannot read {root}: {error.strerror or error}", "make it a readable folder") from error
            yield _Found(parts, reason=f"cannot be read: {error.strerror}")
            continue
        below = []
        for entry in inside:
            path = (*parts, entry.name)
            if entry.is_dir(follow_symlinks=False):
                reason = _folder_reason(path, found)
                if reason:
                    yield _Found(path, reason=reason)
                else:
                    below.append((path, found))
            elif (one := _file(entry, path, found)) is not None:
                yield one
        pending += reversed(below)


def _folder_reason(path: tuple[str, ...], found: list[ignoring.Pattern]) -> str:
    if ignoring.ignored(found, path, folder=True):
        return "ignored by .gitignore"
    if len(path) > MOST_FOLDERS_DEEP:
        return f"more than {MOST_FOLDERS_DEEP} folders deep"
    return ignoring.folder_reason(path[-1])


def _file(entry: os.DirEntry[str], path: tuple[str, ...], found: list[ignoring.Pattern]) -> _Found | None:
    """A file of a kind that is read, with the reason where it is left out; None for all else."""
    if entry.is_symlink():
        return _Found(path, reason="a symbolic link, which is not followed")
    ending = os.path.splitext(entry.name)[1].casefold()
    if ending in DATA:
        return _Found(path, reason="a data set, which is given by its own name")
    if ending not in READERS:
        return None
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        return _Found(path, reason=f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return _Found(path, reason="no regular file")
    if ignoring.ignored(found, path, folder=False):
        return _Found(path, reason="ignored by .gitignore")
    if status.st_size > LARGEST_FILE_BYTES:
        return _Found(path, reason=f"{status.st_size:,} bytes are too large for a file of code (at most {LARGEST_FILE_BYTES:,})")
    return _Found(path, status.st_size)


def _content(path: Path) -> bytes:
    with open_bytes(path) as file:
        return file.read(LARGEST_FILE_BYTES)
