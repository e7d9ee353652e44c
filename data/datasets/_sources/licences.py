"""Licences of a folder's files: the nearest licence file above a file, or the file's own SPDX line, as an SPDX name.

NONE: no licence found; NOASSERTION: a licence file whose text is not recognised (both as SPDX 2.3, section 7.13, uses them).
Texts are told apart by their own titles and sentences. Not covered: licences that only a package's metadata names.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data.datasets._sources.base import open_bytes
from data.errors import InputError
from data.sanitise import one_line

NONE = "NONE"
UNKNOWN = "NOASSERTION"
PERMISSIVE = frozenset(
    name.casefold()
    for name in (
        *("MIT", "MIT-0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "ISC", "Zlib", "BSL-1.0", "Unlicense"),
        *("CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "PSF-2.0", "Python-2.0"),
    )
)
"""Licences that allow use, change and redistribution and ask for no more than attribution."""
_FILE = re.compile(r"(?:(?:un)?licen[sc]es?|copying)(?:[-_.][\w.+-]*)?", re.IGNORECASE)
_ENDINGS = ("", ".txt", ".md", ".rst", ".mit", ".apache", ".bsd", ".lesser")
_SPDX = re.compile(rb"SPDX-License-Identifier:\s*([A-Za-z0-9.+\-() ]{1,120})")
_READ_BYTES = 64 << 10
_TITLES: tuple[tuple[str, str], ...] = (
    ("gnu affero general public license", "AGPL"),
    ("gnu lesser general public license", "LGPL"),
    ("gnu library general public license", "LGPL"),
    ("gnu general public license", "GPL"),
    ("mozilla public license version 2.0", "MPL-2.0"),
    ("apache license version 2.0", "Apache-2.0"),
    ("eclipse public license - v 2.0", "EPL-2.0"),
    ("boost software license - version 1.0", "BSL-1.0"),
    ("cc0 1.0 universal", "CC0-1.0"),
    ("python software foundation license version 2", "PSF-2.0"),
)
_SENTENCES: tuple[tuple[str, str], ...] = (
    ("permission is hereby granted, free of charge, to any person obtaining a copy", "MIT"),
    ("permission to use, copy, modify, and/or distribute this software for any purpose", "ISC"),
    ("permission to use, copy, modify, and distribute this software for any purpose", "ISC"),
    ("this is free and unencumbered software released into the public domain", "Unlicense"),
    ("altered source versions must be plainly marked as such", "Zlib"),
)


def permissive(licence: str) -> bool:
    """Whether an SPDX name or expression is permissive: with OR one part suffices, with AND every part must be."""
    bare = re.sub(r"[()]", " ", licence).strip()
    if not bare:
        return False
    either = re.split(r"\s+OR\s+", bare, flags=re.IGNORECASE)
    return any(
        all(one.strip().casefold() in PERMISSIVE for one in re.split(r"\s+AND\s+", part, flags=re.IGNORECASE)) for part in either
    )


def recognise(text: str) -> str:
    """The SPDX name of a licence's text, UNKNOWN where it is none of those known here."""
    words = " ".join(text.casefold().replace(",", ", ").split())
    if "commons clause" in words:
        return UNKNOWN  # it takes back part of the licence that it stands beside
    plain = words.replace(",", "").replace("–", "-")
    for title, name in _TITLES:
        if (place := plain.find(title)) >= 0 and place < 2000:
            return _versioned(name, plain[place : place + 300])
    if found := re.search(r"creative commons attribution(-noncommercial)?(-sharealike|-noderivatives)? (\d\.\d)", plain):
        kinds = {"-sharealike": "-SA", "-noderivatives": "-ND", None: ""}
        return f"CC-BY{'-NC' if found[1] else ''}{kinds[found[2]]}-{found[3]}"
    if "redistribution and use in source and binary forms" in words:
        return "BSD-3-Clause" if "neither the name" in words else "BSD-2-Clause"
    return next((name for sentence, name in _SENTENCES if " ".join(sentence.replace(",", ", ").split()) in words), UNKNOWN)


def _versioned(name: str, head: str) -> str:
    """A GNU licence with the version that its title tells."""
    if "GPL" not in name:
        return name
    found = re.search(r"version (\d(?:\.\d)?)", head)
    return f"{name}-{found[1]}{'' if '.' in found[1] else '.0'}" if found else UNKNOWN


def stated(content: bytes) -> str:
    """The SPDX expression that a file states for itself near its beginning, or ""."""
    found = _SPDX.search(content[:4096])
    return one_line(found[1].decode("ascii").strip(), 80) if found else ""


@dataclass(slots=True)
class Licences:
    """The licence of each folder below a root: its own licence file's, else that of the folder above.

    Above the root it goes on to the top of the checkout (the folder with `.git`), where there is one; otherwise: if none is found.
    """

    root: Path
    otherwise: str
    _known: dict[str, str] = field(default_factory=dict)

    def of(self, folder: str) -> str:
        """folder: relative to the root, "" for the root itself."""
        if folder not in self._known:
            found = self._own(folder)
            self._known[folder] = found or (self.of(os.path.dirname(folder)) if folder else self._above() or self.otherwise)
        return self._known[folder]

    def _own(self, folder: str) -> str:
        """The names of the folder's licence files joined with OR ("" where it has none), as dual licensing has it."""
        found: Mapping[str, None] = dict.fromkeys(
            name for file in _files(self.root / folder) if (name := self._read(file)) is not None
        )
        known = [name for name in found if name != UNKNOWN]
        return " OR ".join(known or found)

    def _above(self) -> str:
        tops = [place for place, folder in enumerate(self.root.parents) if os.path.exists(folder / ".git")]
        within = self.root.parents[: tops[0] + 1] if tops and not os.path.exists(self.root / ".git") else ()
        return next((found for folder in within if (found := self._own(str(folder)))), "")

    def _read(self, file: Path) -> str | None:
        try:
            with open_bytes(file) as opened:
                content = opened.read(_READ_BYTES)
        except InputError:
            return UNKNOWN  # it is there, and nobody can say what it allows
        return stated(content) or recognise(content.decode("utf-8", "replace"))


def _files(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
    except OSError:  # a folder above that may not be read
        return []
    return [folder / name for name in names if _is_licence(name)]


def _is_licence(name: str) -> bool:
    return bool(_FILE.fullmatch(name)) and os.path.splitext(name)[1].casefold() in _ENDINGS
