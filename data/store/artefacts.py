"""The files behind a model version: what an export folder holds, and whether it still holds the very same.

A version's files lie in the folder of exports, which the engine serves from, and are known by their SHA-256. Not covered: what the
files compute, which was checked when they were exported (`data.exports`).
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data import exports
from data.errors import InputError, ModelInvalid, ModelMissing, NotFound
from data.exports import Export
from data.sanitise import one_line
from data.store.tables import dump_json
from data.store.versions import File, Gate, Version

MAGIC = b"GGUF"
_AGAIN = "export the run again: pointsman export"
_PIECE_BYTES = 1 << 20

State = Mapping[str, tuple[int, int, int]]
"""Inode, size and time of change (ns) of each file, by name: whether it was touched since it was read."""


def read(folder: Path) -> tuple[Export, dict[str, Any]]:
    """An export in the folder of exports, and what of it a version keeps.

    Raises NotFound where it is none, InputError where it lies elsewhere or its export.json is damaged, ModelMissing where it has
    no model that could be served.
    """
    if folder.is_symlink() or folder.resolve().parent != exports.folder().resolve():
        raise InputError(
            f"{folder} does not lie in {exports.folder()}, from where models are served",
            "export it without --out, or move it there",
        )
    export = exports.read(folder)
    if export.model() is None and export.adapter is None:
        raise ModelMissing(f"the export {folder.name} has neither a model nor an adapter", _AGAIN)
    kept = {"chosen": export.chosen, "files": [file.model_dump(exclude={"fallbacks"}) for file in export.files]}
    return export, kept


def digest(domain: str, name: str, kept: Mapping[str, Any]) -> str:
    """The SHA-256 that a version is known by: of domain, name and the digests of all files."""
    return hashlib.sha256(dump_json({"domain": domain, "name": name, **kept}).encode()).hexdigest()


def reference(name: str, export: Export) -> str:
    """What the router asks for: the merged model, else the base with the adapter attached. Raises ModelMissing for neither."""
    if export.model() is not None:
        return f"llamacpp/{name}"
    if not export.base.reference:
        raise ModelMissing(f"the adapter of {name} has no base on this machine", "export it with its merged model")
    return f"{export.base.reference}+{name}"


def folder(version: Version) -> Path:
    """Where a version's files lie."""
    return exports.folder() / version.name


def export_of(version: Version) -> Export:
    """The export behind a version as it is now. Raises NotFound where it is gone, ModelInvalid where another took its place."""
    try:
        export, kept = read(folder(version))
    except NotFound as error:
        raise NotFound(f"the files of {version.name} are gone: {error.what}", _AGAIN) from error
    if digest(version.domain, version.name, kept) != version.sha256:
        raise ModelInvalid(
            f"the export {version.name} was replaced by another since it was registered", "promote the new one by name"
        )
    return export


def verify(version: Version) -> State:
    """Read every file of a version and compare it; what its files are like, for `unchanged`.

    Raises ModelMissing where one is gone, ModelInvalid where one is another or no GGUF file.
    """
    return {file.name: _verified(folder(version) / file.name, file) for file in version.files}


def unchanged(version: Version, state: State) -> bool:
    """Whether no file was touched since `verify` gave `state`. Reads no file."""
    try:
        return all(_state(folder(version) / name) == was for name, was in state.items())
    except OSError:
        return False


def checks(export: Export) -> list[Gate]:
    """The checks of an export as gates; one that proves nothing fails."""
    found = [
        Gate(f"export: {one.name}" + (f" of {one.of}" if one.of else ""), one.passed, one.value, one.limit, one.note)
        for one in export.checks
    ]
    if not any(one.passed for one in export.checks):
        found.append(Gate("export: verified", False, note="no check of the export was made and passed"))
    return found


def _verified(path: Path, file: File) -> tuple[int, int, int]:
    sha, head = hashlib.sha256(), b""
    try:
        if path.is_symlink():
            raise ModelInvalid(f"{path} is a link, and a version's files are not", _AGAIN)
        before = _state(path)
        if before[1] != file.bytes:
            raise ModelInvalid(f"{path} has {before[1]} bytes, and the export wrote {file.bytes}", _AGAIN)
        with path.open("rb") as opened:
            while piece := opened.read(_PIECE_BYTES):
                head = head or piece[:4]
                sha.update(piece)
        after = _state(path)
    except OSError as error:
        raise ModelMissing(f"cannot read {path}: {error.strerror or error}", _AGAIN) from error
    if sha.hexdigest() != file.sha256 or before != after:
        raise ModelInvalid(f"{path} was changed: sha256 {sha.hexdigest()[:12]}, not {one_line(file.sha256, 12)}", _AGAIN)
    if file.kind in ("model", "adapter") and head != MAGIC:
        raise ModelInvalid(f"{path} is no GGUF file", _AGAIN)
    return after


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
