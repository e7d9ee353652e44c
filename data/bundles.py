"""A bundle: an adapter in one file, with what its run says of it and, where asked for, its GGUF files. It may come from anywhere.

    a zip archive of
    bundle.json                         name, maker, and every other file with its size and SHA-256
    run/manifest.json  run/recipe.toml  run/metrics.json  run/metrics.jsonl  run/report.html
    run/adapter/adapter_config.json     run/adapter/adapter_model.safetensors
    run/predictions.jsonl  run/base_predictions.jsonl  run/lost.jsonl     texts of the rows, only where asked for
    export/export.json  export/*.gguf   only where asked for
No other name is read, nor written. The archive proves that nothing was changed on its way, not who made it: a run that came so is
marked by imported.json in its folder, and nothing that it says of itself counts as proven here. Not covered: what the files mean
(`tui.bundling`, which places them), and the archive's own format (`data._bundles.archive`).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from data import paths
from data.errors import InputError
from data.sanitise import one_line

if TYPE_CHECKING:
    from data._bundles.archive import Archive

FILE = "bundle.json"
IMPORTED = "imported.json"
NAME = r"[a-z0-9][a-z0-9_.-]{0,99}"
RUN, EXPORT = "run/", "export/"
REPORT = f"{RUN}report.html"
ROWS = tuple(f"{RUN}{name}" for name in ("predictions.jsonl", "base_predictions.jsonl", "lost.jsonl"))
"""The files that hold texts of rows."""
NEEDED = tuple(
    f"{RUN}{name}"
    for name in ("manifest.json", "recipe.toml", "metrics.json", "adapter/adapter_config.json", "adapter/adapter_model.safetensors")
)
_TEXT_BYTES = 64 << 20
LARGEST: Mapping[str, int] = {
    **dict.fromkeys((*NEEDED, REPORT, f"{RUN}metrics.jsonl", *ROWS), _TEXT_BYTES),
    f"{RUN}recipe.toml": 1 << 20,
    f"{RUN}manifest.json": 16 << 20,
    f"{RUN}adapter/adapter_config.json": 4 << 20,
    f"{RUN}adapter/adapter_model.safetensors": 16 << 30,
    f"{EXPORT}export.json": 16 << 20,
}
"""Bytes of each file at most; a GGUF file may have as many as the disk holds."""
MOST_FILES = 64
_GGUF = re.compile(r"export/[A-Za-z0-9_][A-Za-z0-9._-]{0,199}\.gguf")
_SAID_CHARACTERS = 500

Tell = Callable[[str, int, int], object]
"""Called with the file's name, bytes done and bytes in all."""


def silent(name: str, done_bytes: int, of_bytes: int) -> None:
    """Progress that nobody watches."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(_Part):
    """A file of the archive."""

    name: str
    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if not known(value):
            raise ValueError(f"a bundle has no file {one_line(value, 80)!r}")
        return value

    @property
    def stored(self) -> bool:
        """Whether it is kept as it is: weights do not get smaller, and what is not compressed cannot swell."""
        return self.name.endswith((".safetensors", ".gguf"))


class Bundle(_Part):
    """bundle.json. name: of the run; by, note: what its maker says, of which nothing is proven; made_with: versions by name."""

    version: Literal[1] = 1
    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    by: Annotated[str, Field(max_length=_SAID_CHARACTERS)] = ""
    note: Annotated[str, Field(max_length=_SAID_CHARACTERS)] = ""
    made_with: Annotated[dict[str, str], Field(max_length=20)] = {}
    files: Annotated[tuple[Entry, ...], Field(min_length=1, max_length=MOST_FILES)]

    @field_validator("files")
    @classmethod
    def _whole(cls, value: tuple[Entry, ...]) -> tuple[Entry, ...]:
        names = [one.name for one in value]
        if len({name.casefold() for name in names}) < len(names):
            raise ValueError("a file stands twice")
        if missing := [name for name in NEEDED if name not in names]:
            raise ValueError(f"{missing[0]} is missing")
        if any(name.startswith(EXPORT) for name in names) and f"{EXPORT}export.json" not in names:
            raise ValueError(f"{EXPORT}export.json is missing")
        if large := [one.name for one in value if one.bytes > LARGEST.get(one.name, one.bytes)]:
            raise ValueError(f"{large[0]} is larger than a bundle's may be ({LARGEST[large[0]]:,} bytes)")
        return value

    def part(self, part: str) -> tuple[Entry, ...]:
        """The files of `RUN` or `EXPORT`."""
        return tuple(one for one in self.files if one.name.startswith(part))


class Imported(_Part):
    """imported.json of a run that came in a bundle. bundle: SHA-256 of its bundle.json, which tells one bundle from another; file:
    the archive's name; by, note: what its maker says; base: whether the base that it was trained on was there."""

    version: Literal[1] = 1
    bundle: str
    file: str
    at: str
    by: str = ""
    note: str = ""
    base: Literal["same", "absent"] = "absent"

    @property
    def words(self) -> str:
        """For those who look at the run."""
        maker = f"{one_line(self.by, 80)}, as the bundle says" if self.by else "somebody"
        return f"imported from {one_line(self.file, 80)}: its figures are the word of its maker ({maker}), not proven here"


def known(name: str) -> bool:
    """Whether a bundle may hold a file of that name."""
    return name in LARGEST or bool(_GGUF.fullmatch(name))


@contextmanager
def opened(file: Path) -> "Iterator[Archive]":
    """The bundle in a file, its directory checked and its bundle.json read; nothing of it is on disk yet.

    Raises InputError naming what is wrong: no regular file, no archive of this kind, names that no bundle has, links, files that
    stand twice or overlap, sizes that do not agree.
    """
    from data._bundles.archive import Archive

    with Archive.opened(file) as found:
        yield found


def write(
    target: Path,
    sources: Mapping[str, "Path | bytes"],
    *,
    name: str,
    by: str = "",
    note: str = "",
    tell: Tell = silent,
) -> Bundle:
    """Write a bundle of these files by their names in it. The same input gives the same bytes.

    Raises InputError where a file cannot be read, changes meanwhile or is too large, or the target cannot be written.
    """
    from importlib import metadata

    from data._bundles import archive

    said = {"name": name, "by": by, "note": note, "made_with": {"pointsman": metadata.version("pointsman")}}
    return archive.write(target, said, sources, tell)


def entry(name: str, source: "Path | bytes") -> Entry:
    """A file as a bundle lists it. Raises InputError where it cannot be read."""
    from data._bundles import archive

    return archive.entry(name, source)


def require_name(given: str) -> str:
    """The name, which a run may have in a bundle. Raises InputError."""
    if not re.fullmatch(NAME, given):
        raise InputError(
            f"{one_line(given, 80)!r} is no name of a run in a bundle",
            "small letters, digits, dots, dashes and underscores: --name",
        )
    return given


def imported(folder: Path) -> Imported | None:
    """How a run came here in a bundle; None for a run of one's own. Raises InputError where the note is damaged."""
    file = folder / IMPORTED
    if not file.is_file():
        return None
    try:
        return Imported.model_validate(json.loads(paths.read_text(file, 1 << 20, "import the bundle again")))
    except (ValidationError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is damaged", "import the bundle again: pointsman bundle import") from error


def mark(folder: Path, note: Imported) -> None:
    """Write imported.json. Raises InputError where that fails."""
    with paths.replacing(folder / IMPORTED) as out:
        out.write(note.model_dump_json(indent=1).encode() + b"\n")
