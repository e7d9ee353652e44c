"""What a process killed with no warning leaves behind, and how it goes: temporary files, folders that never got their first file.

Only within folders that belong to the learn of a domain, by whoever holds that domain's lock. Not covered: what the parts clean
up by themselves (datasets, exports).
"""

import os
import re
import shutil
from pathlib import Path

from data import paths

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}")
"""A name of `data.paths.replacing`: mkstemp behind the file's own."""


def stateless(place: Path, domain: str, file: str) -> None:
    """Remove the learn folders of a domain in which no state was ever whole, and temporary files in the others."""
    for one in place.glob(f"{domain}-2*"):
        if one.is_dir() and not one.is_symlink():
            if (one / file).is_file():
                temporary(one)
            else:
                shutil.rmtree(one, ignore_errors=True)


def temporary(place: Path) -> None:
    """Remove the temporary files of killed writers in a folder and those below it."""
    for one in place.rglob(".*"):
        if one.is_file() and not one.is_symlink() and _TEMPORARY.fullmatch(one.name):
            one.unlink(missing_ok=True)


def free(place: Path, lock: str) -> bool:
    """Whether no process holds the lock file of that name in a folder."""
    try:
        descriptor = os.open(place / lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        return paths.try_lock(descriptor)
    finally:
        os.close(descriptor)
