"""Completing `@file` while a question is typed: what is being typed, and which files it may become.

The forms are those of `router.documents`: `@notes.md`, `@~/x.md`, `@"with spaces.txt"`. Names that a terminal would act on are
not offered. Not covered: attaching the file, which the session does when the question is asked.
"""

import heapq
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from data.sanitise import sanitise

SHOWN: Final = 8
"""Files offered at most."""
SCANNED: Final = 50_000
"""Entries of a folder that are looked at."""
WALKED: Final = 20_000
"""Entries that are looked at in the folders below."""
SKIPPED: Final = frozenset({"node_modules", "__pycache__", "site-packages", "target", "dist", "build"})
LONGEST: Final = 4_096
"""Characters before the cursor that are looked at."""
_TYPED: Final = re.compile(r"""(?<![\w@/\\.+-])@(?:"(?P<quoted>[^"\n]*)|(?P<bare>[^\s"'@`|<>]*))$""")
_NEEDS_QUOTES: Final = re.compile(r"""[\s'@`|<>]""")


@dataclass(frozen=True, slots=True)
class Mention:
    """A path that is being typed. start: the column behind its @."""

    start: int
    path: str


def typed(line: str, column: int) -> Mention | None:
    """The mention that ends at `column` of the line, if there is one."""
    offset = max(column - LONGEST, 0)
    found = _TYPED.search(line[offset:column])
    if found is None:
        return None
    return Mention(offset + found.start() + 1, found["bare"] if found["quoted"] is None else found["quoted"])


def written(path: str) -> str:
    """How `path` stands behind the @; a folder's quotes stay open, a file ends with a space."""
    whole = not path.endswith("/")
    if _NEEDS_QUOTES.search(path):
        return f'"{path}"' + " " if whole else f'"{path}'
    return f"{path} " if whole else path


def candidates(path: str, base: Path, below: Sequence[str] = ()) -> list[str]:
    """The paths that `path` may become, relative as it is: names that begin with it before names that contain it, folders
    with a slash behind them; then those of `below` (see there) whose letters fit. Reads one folder; [] where it cannot be read."""
    found = _here(path, base)
    return list(dict.fromkeys((*found, *fuzzy(path, below))))[:SHOWN] if path else found


def below(base: Path) -> list[str]:
    """The files in the folders below `base`, relative, the nearer folders first; hidden ones, and those that programs make for
    themselves, left out. Looks at so many entries at most; what cannot be read is left out."""
    found: list[str] = []
    waiting, seen = [""], 0
    while waiting and seen < WALKED:
        folder = waiting.pop(0)
        try:
            with os.scandir(base / folder) as entries:
                names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in islice(entries, WALKED - seen))
        except OSError:
            continue
        seen += len(names)
        for name, is_folder in names:
            if not _offered(name, "") or name in SKIPPED:
                continue
            if is_folder:
                waiting.append(f"{folder}{name}/")
            elif folder:
                found.append(f"{folder}{name}")
    return found


def fuzzy(typed: str, paths: Iterable[str]) -> list[str]:
    """The paths that hold the letters of what is typed in their order, best first: in the name, together, near its beginning."""
    wanted = typed.casefold()
    ranked = ((rank, len(path), path) for path in paths if (rank := _rank(wanted, path.casefold())) is not None)
    return [path for _, _, path in heapq.nsmallest(SHOWN, ranked)]


def _rank(wanted: str, path: str) -> int | None:
    name = path.rpartition("/")[2]
    if wanted in name:
        return 0 if name.startswith(wanted) else 1
    if wanted in path:
        return 2
    for rank, text in ((3, name), (4, path)):
        letters = iter(text)
        if all(letter in letters for letter in wanted):
            return rank
    return None


def _here(path: str, base: Path) -> list[str]:
    """What one folder has for `path`."""
    folder, _, name = path.rpartition("/")
    folder += "/" if "/" in path else ""
    wanted = name.casefold()
    try:
        with os.scandir(base / Path(folder or ".").expanduser()) as entries:
            names = (_name(entry) for entry in islice(entries, SCANNED) if wanted in entry.name.casefold())
            fitting = ((not one.casefold().startswith(wanted), one.casefold(), one) for one in names if _offered(one, name))
            return [folder + one for _, _, one in heapq.nsmallest(SHOWN, fitting)]
    except (OSError, RuntimeError, ValueError):  # no such folder, no such home, a NUL in the name
        return []


def _name(entry: "os.DirEntry[str]") -> str:
    return f"{entry.name}/" if entry.is_dir() else entry.name


def _offered(name: str, typed_name: str) -> bool:
    """Whether the name can be written in a question; hidden files only where a dot was typed."""
    return (
        (typed_name.startswith(".") or not name.startswith(".")) and '"' not in name and "\n" not in name and sanitise(name) == name
    )
