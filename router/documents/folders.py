"""Which files of a folder are documents: its text files, without hidden ones, links, and files named like secrets.

Not covered: .gitignore, and files that turn out to be no text when they are read.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError
from data.sanitise import one_line

MOST = 5_000
"""Files taken from one folder at most."""
_BUILT = frozenset({"__pycache__", "node_modules"})
_SECRET = re.compile(
    r"\.env(\..*)?|.*\.(pem|key|p12|pfx|jks|keystore|kdbx|ovpn|ppk)|id_(rsa|dsa|ecdsa|ed25519)(_sk)?"
    r"|\.(netrc|pgpass|npmrc|pypirc|git-credentials|htpasswd)|(credentials?|secrets?)(\.[a-z0-9]+)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be a document, and the name it is cited by."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or folder that is no document, and why."""

    path: Path
    why: str


def is_secret(path: Path) -> bool:
    """Whether the file's name is one that keys and passwords are usually kept under."""
    return _SECRET.fullmatch(path.name) is not None


def gather(paths: Sequence[Path]) -> tuple[list[Candidate], list[LeftOut]]:
    """The files at `paths`, in the order given, folders opened, and what was left out of the folders.

    A file is taken as it is named, a secret too: only what a folder brings along is sorted out. Raises InputError for a
    path that is not there, a folder without any file to add, and one with more than MOST.
    """
    taken: list[Candidate] = []
    left: list[LeftOut] = []
    for path in paths:
        shown = one_line(str(path), 200)
        try:
            whole = path.expanduser().absolute()
            folder = whole.is_dir()
            there = folder or os.path.lexists(whole)
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(f"cannot read {shown}: {error}", "check its name") from error
        if not there:
            raise InputError(f"there is no file {shown}", "check its name")
        if not folder:
            taken.append(Candidate(whole, whole.name))
            continue
        found, out = _sorted_out(whole)
        if not found:
            raise InputError(f"the folder {shown} has no file to add ({len(out)} left out)", "name the files themselves")
        taken += found
        left += out
    return taken, left


def _sorted_out(folder: Path) -> tuple[list[Candidate], list[LeftOut]]:
    found: list[Candidate] = []
    out: list[LeftOut] = []
    for path in _walk(folder, out):
        why = _why_not(path)
        if why:
            out.append(LeftOut(path, why))
        else:
            found.append(Candidate(path, str(path.relative_to(folder.parent))))
        if len(found) > MOST:
            raise InputError(f"the folder {one_line(str(folder), 200)} has more than {MOST} files", "add its subfolders one by one")
    return found, out


def _walk(folder: Path, out: list[LeftOut]) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        out.append(LeftOut(Path(error.filename or folder), f"cannot be opened: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        kept = []
        for name in sorted(folders):
            path = Path(place, name)
            why = (
                "a link"
                if path.is_symlink()
                else "hidden"
                if name.startswith(".")
                else "made by a program"
                if name in _BUILT
                else ""
            )
            if why:
                out.append(LeftOut(path, why))
            else:
                kept.append(name)
        folders[:] = kept
        yield from (Path(place, name) for name in sorted(files))


def _why_not(path: Path) -> str:
    if is_secret(path):
        return "named like a secret"
    if path.name.startswith("."):
        return "hidden"
    if path.is_symlink():
        return "a link"
    return "" if path.is_file() else "no regular file"
