"""Exported models on this machine: a folder each, whose export.json says what is in it, what it was made of, and what was proven.

    <data>/exports/<name>/   model-<form>.gguf  adapter.gguf  adapter-Q8_0.gguf  Modelfile  export.json
`export` writes these folders, the llama.cpp engine offers their models, the registry names them. A folder may come from elsewhere,
so what is read is checked: a file that export.json names lies in the folder itself. Not covered: making one (`export.exporting`).
"""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from data import paths
from data.errors import InputError, NotFound
from data.sanitise import one_line

FILE = "export.json"
LARGEST_BYTES = 16 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseNote(_Part):
    """The base that the adapter was trained on.

    reference: a model of the llama.cpp engine that the adapter can be attached to (`llamacpp/smollm2-135m`), "" where none is;
    source, sha256, family: as the run's manifest has them.
    """

    reference: str = ""
    source: str
    sha256: str
    family: str = ""


class File(_Part):
    """A file of the folder. form: its number format; fallbacks: "tensor: wanted -> used" where rows do not suit it."""

    name: str
    kind: Literal["model", "adapter", "modelfile", "other"]
    form: str = ""
    bytes: int
    sha256: str
    fallbacks: tuple[str, ...] = ()

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("a file lies in the export's own folder")
        return value


class Check(_Part):
    """One thing that was verified. passed: None says that it was not checked, and `note` why; of: the file, "" for the whole."""

    name: str
    of: str = ""
    passed: bool | None
    value: float | None = None
    limit: float | None = None
    note: str = ""


class Export(_Part):
    """export.json. chosen: the form that is served; figures: what was measured of each form (kl_mean, top1, speed, task)."""

    version: Literal[1] = 1
    name: str
    at: str
    run: str = ""
    domain: str = ""
    base: BaseNote
    chosen: str = ""
    files: tuple[File, ...]
    checks: tuple[Check, ...] = ()
    figures: dict[str, dict[str, float | str]] = {}
    ollama: str = ""
    versions: dict[str, str] = {}

    @property
    def passed(self) -> bool:
        """Whether no check failed; checks that could not be made do not count."""
        return all(check.passed is not False for check in self.checks)

    def model(self, form: str = "") -> File | None:
        """The model of that form, else of the chosen one; None where there is none."""
        wanted = form or self.chosen
        return next((file for file in self.files if file.kind == "model" and file.form == wanted), None)

    @property
    def adapter(self) -> File | None:
        """The adapter's GGUF file that is served: in Q8_0 where there is one, which is the faster."""
        return min((file for file in self.files if file.kind == "adapter"), key=lambda file: file.form != "Q8_0", default=None)


def folder() -> Path:
    """Where exports lie unless a folder was named."""
    return paths.data_dir() / "exports"


def read(place: Path) -> Export:
    """The export in a folder, read again only where its export.json changed.

    Raises NotFound where it is none, InputError naming what is wrong in its export.json.
    """
    file = place / FILE
    try:
        state = file.stat()
    except OSError as error:
        raise NotFound(f"{place} is no export: it has no {FILE}", "see: pointsman export") from error
    return _read(file, state.st_size, state.st_mtime_ns)


def found(where: Path | None = None) -> Iterator[tuple[Path, Export]]:
    """The complete exports of a folder by name; damaged ones are left out (reading one says what is wrong)."""
    place = where or folder()
    for one in sorted(place.iterdir()) if place.is_dir() else ():
        if one.name.startswith(".") or not (one / FILE).is_file():
            continue
        try:
            yield one, read(one)
        except (InputError, NotFound):
            continue


@lru_cache(maxsize=512)
def _read(file: Path, size_bytes: int, changed_ns: int) -> Export:
    """An export.json in that state: a router that looks for new exports at every question reads none of the old ones again."""
    try:
        return Export.model_validate(json.loads(paths.read_text(file, LARGEST_BYTES, "an export.json is smaller; export it again")))
    except (ValidationError, ValueError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise InputError(f"{file}: {one_line(where, 80)}: {one_line(str(first['msg']), 160)}", "export the run again") from error
