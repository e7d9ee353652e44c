"""Files beneath the folders that the user allowed, and nothing else: every path is walked from the root, part by part.

Each part is opened relative to its parent without following links (openat with O_NOFOLLOW), so that no swap between a check and
its use leads out. Refused: `..`, `~`, every link (also one that stays inside: name the file itself), hard-linked files, other
file systems mounted below, devices, pipes and sockets (looked at before they are opened, opened without waiting), names that
hide what they are, and what usually holds secrets. An allowed folder may lie behind links of the system, but not be one.
Not covered: what another program writes into the allowed folder.
"""

import contextlib
import errno
import functools
import itertools
import operator
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import SettingsError, ToolError
from data.sanitise import one_line

PATH_CHARS = 4_096
PART_BYTES = 255
"""Limits of Linux (limits.h); longer is refused before the system is asked."""
PARTS = 64
"""Folders within each other at most."""
ENTRIES = 20_000
"""Entries of one folder that are looked at."""


def _flags(*names: str) -> int:
    """Those of the flags that this system knows; where openat is missing the tools are not offered (see `files`)."""
    return functools.reduce(operator.or_, (getattr(os, name, 0) for name in names), os.O_RDONLY)


_FOLDER = _flags("O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC")
_PASSING = _flags("O_PATH", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC")
_FILE = _flags("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC")
_UNREAL = ("/proc", "/sys", "/dev")  # pseudo files: endless, blocking, or of the system

_SECRET = re.compile(
    r"""\..+ | id_(rsa|dsa|ecdsa|ed25519)([._-].*)? | .*\.(pem|key|pfx|p12|jks|keystore|kdbx?|gpg|pgp|asc|ppk|ovpn|wallet)
    | (.*[._-])?(secrets?|credentials?|passwords?|passwd|shadow|htpasswd)(\.[^.]*)? | .*\.(env|tfstate)
    | authorized_keys | known_hosts | wallet\.dat | service[-_]?account.*\.json""",
    re.VERBOSE,
)
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\..*)?", re.IGNORECASE)
_SHORT_NAME = re.compile(r"[^.]{1,8}~\d{1,6}(\.[^.]{0,3})?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Allowed:
    """A folder of the settings: as the user wrote it (expanded), and where it truly lies."""

    written: Path
    real: Path


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a folder: its name, whether it is a folder, its bytes, and why it may not be read ("" where it may)."""

    name: str
    is_folder: bool
    size_bytes: int
    refusal: str = ""


def allowed(folders: Sequence[str]) -> tuple[Allowed, ...]:
    """The folders of the settings. Links before the last part are resolved now, once; later swaps lead nowhere.

    Raises SettingsError for what is no path.
    """
    found = []
    for folder in folders:
        if not folder.strip() or "\0" in folder:
            raise SettingsError(f"tools.folders holds {folder!r}, which is no folder", "name folders like ~/notes")
        written = Path(os.path.abspath(os.path.expanduser(folder)))  # abspath also takes "." and ".." out
        try:
            real = Path(os.path.realpath(written.parent)) / written.name if written.name else written
        except OSError:  # replaced while it was looked at: as it is written it is opened without following links
            real = written
        found.append(Allowed(written, real))
    return tuple(found)


def candidates(path: str, folders: Sequence[Allowed]) -> list[tuple[Allowed, tuple[str, ...]]]:
    """Where the path may be meant: the allowed folder and the checked parts below it. Raises ToolError for what leads out."""
    _check_text(path)
    if not path.startswith("/"):
        parts = _checked_parts(path)
        return [(folder, parts) for folder in folders]
    for folder in folders:
        for base in (folder.written, folder.real):
            if path == str(base) or path.startswith(f"{base}/".replace("//", "/")):
                return [(folder, _checked_parts(path[len(str(base)) :].lstrip("/")))]
    raise ToolError(f"{one_line(path)} lies outside the allowed folders", _known(folders))


@contextlib.contextmanager
def open_folder(folder: Allowed, parts: Sequence[str]) -> Iterator[int]:
    """A descriptor of the folder, opened part by part from the file system's root. Raises ToolError, FileNotFoundError."""
    if str(folder.real).startswith(tuple(f"{place}/" for place in _UNREAL)) or str(folder.real) in (*_UNREAL, "/"):
        raise ToolError(f"{folder.real} is no folder of documents", "allow a folder of yours: pointsman config tools.folders")
    with contextlib.ExitStack() as opened:
        at = _enter(opened, "/", None)
        for part in folder.real.parts[1:]:
            at = _enter(opened, part, at)
        device = os.fstat(at).st_dev
        for part in parts:
            at = _enter(opened, part, at)
            if os.fstat(at).st_dev != device:
                raise ToolError(f"{one_line(part)} is another file system, mounted there", "allow that folder by itself")
        try:
            last = os.open(".", _FOLDER, dir_fd=at)
        except OSError as error:
            raise _refused(error, parts[-1] if parts else str(folder.written)) from error
        opened.callback(os.close, last)
        yield last


@contextlib.contextmanager
def open_file(folder: Allowed, parts: Sequence[str]) -> Iterator[int]:
    """A descriptor of a regular file. Raises ToolError, FileNotFoundError."""
    if not parts:
        raise ToolError(f"{folder.written} is a folder", "use list_files")
    with open_folder(folder, parts[:-1]) as parent:
        handle = open_beneath(parent, parts[-1])
        try:
            yield handle
        finally:
            os.close(handle)


def open_beneath(parent: int, name: str) -> int:
    """Open a regular file of an open folder; the caller closes it. Raises ToolError, FileNotFoundError."""
    try:
        before = os.stat(name, dir_fd=parent, follow_symlinks=False)
        _require_plain(before, name, os.fstat(parent).st_dev)
        handle = os.open(name, _FILE, dir_fd=parent)
    except OSError as error:
        raise _refused(error, name) from error
    try:
        _require_plain(os.fstat(handle), name, before.st_dev)
    except ToolError:
        os.close(handle)
        raise
    return handle


def open_child(parent: int, name: str, device: int) -> int:
    """Open a folder of an open folder on the same device; the caller closes it. Raises ToolError, FileNotFoundError."""
    try:
        handle = os.open(name, _FOLDER, dir_fd=parent)
    except OSError as error:
        raise _refused(error, name) from error
    if os.fstat(handle).st_dev != device:
        os.close(handle)
        raise ToolError(f"{one_line(name)} is another file system, mounted there")
    return handle


def entries(handle: int) -> list[Entry]:
    """What lies in an open folder, folders first, then by name, ENTRIES at most. Raises ToolError."""
    found = []
    device = os.fstat(handle).st_dev
    try:
        with os.scandir(handle) as listing:
            for item in itertools.islice(listing, ENTRIES):
                with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                    found.append(_entry(item.name, item.stat(follow_symlinks=False), device))
    except OSError as error:
        raise ToolError(f"the folder cannot be listed: {os.strerror(error.errno or 0)}") from error
    return sorted(found, key=lambda entry: (not entry.is_folder, entry.name))


def _entry(name: str, status: os.stat_result, device: int) -> Entry:
    is_folder = stat.S_ISDIR(status.st_mode)
    refusal = ""
    try:
        _check_part(name)
        if not is_folder:
            _require_plain(status, name, device)
    except ToolError as error:
        refusal = error.what
    return Entry(name, is_folder, status.st_size, refusal)


def _enter(opened: contextlib.ExitStack, part: str, parent: int | None) -> int:
    try:
        handle = os.open(part, _PASSING, dir_fd=parent)
    except OSError as error:
        raise _refused(error, part) from error
    opened.callback(os.close, handle)
    return handle


def _require_plain(status: os.stat_result, name: str, device: int) -> None:
    shown = one_line(name)
    if stat.S_ISLNK(status.st_mode):
        raise ToolError(f"{shown} is a link, and links are not followed", "name the file that it leads to")
    if stat.S_ISDIR(status.st_mode):
        raise ToolError(f"{shown} is a folder", "use list_files")
    if not stat.S_ISREG(status.st_mode):
        raise ToolError(f"{shown} is a device, pipe or socket and not a file")
    if status.st_nlink > 1:
        raise ToolError(f"{shown} has a second name (hard link), which may lie outside the allowed folders", "copy it first")
    if status.st_dev != device:
        raise ToolError(f"{shown} is on another file system, mounted there")


def _refused(error: OSError, part: str) -> Exception:
    shown = one_line(part)
    if error.errno == errno.ENOENT:
        return FileNotFoundError(f"{shown} does not exist")
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
        return ToolError(f"{shown} is a link or not a folder; links are not followed", "name the place that it leads to")
    return ToolError(f"cannot open {shown}: {os.strerror(error.errno or 0)}")


def _check_text(path: str) -> None:
    if len(path) > PATH_CHARS:
        raise ToolError(f"a path of {len(path):,} characters is too long", f"at most {PATH_CHARS:,}")
    if "\\" in path or re.match(r"[A-Za-z]:", path) or "::" in path:
        raise ToolError(
            f"{one_line(path)} is written the Windows way", "separate folders with / and begin beneath an allowed folder"
        )
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        raise ToolError(f"{one_line(path)} is an address, not a path")
    if path.startswith("~"):
        raise ToolError(f"{one_line(path)}: ~ is not resolved", "name the path beneath an allowed folder")


def _checked_parts(path: str) -> tuple[str, ...]:
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if len(parts) > PARTS:
        raise ToolError(f"a path of {len(parts)} folders is too deep", f"at most {PARTS}")
    for part in parts:
        _check_part(part)
    return parts


def _check_part(part: str) -> None:
    """Raise ToolError for a name that leads up, hides what it is, or belongs to a secret."""
    shown = one_line(part)
    if part == "..":
        raise ToolError("'..' is not allowed in a path", "name the path beneath an allowed folder")
    if any(unicodedata.category(char) in ("Cc", "Cs") or char in "\u2044\u2215\uff0f\u2024\u2025\uff0e" for char in part):
        raise ToolError(f"{shown!r} holds characters that no plain name holds", "name it as list_files shows it")
    if len(part.encode()) > PART_BYTES:
        raise ToolError(f"the name {one_line(part, 40)!r} is too long", f"at most {PART_BYTES} bytes")
    if _RESERVED.fullmatch(part) or _SHORT_NAME.fullmatch(part) or part != part.rstrip(". "):
        raise ToolError(f"{shown!r} is a name that some systems read differently", "rename the file")
    if is_secret(part):
        raise ToolError(f"{shown} is hidden or usually holds secrets (keys, passwords, .env, .git), which tools never read")


def is_secret(name: str) -> bool:
    """Whether a file or folder of this name is kept from tools; upper case and invisible characters change nothing."""
    plain = "".join(char for char in unicodedata.normalize("NFKC", name) if unicodedata.category(char) != "Cf")
    return _SECRET.fullmatch(plain.casefold()) is not None


def _known(folders: Sequence[Allowed]) -> str:
    return f"allowed: {', '.join(one_line(str(folder.written)) for folder in folders)}"
