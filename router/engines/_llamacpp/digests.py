"""SHA-256 of model and adapter files, computed once for each state of a file: its path, size and time of change.

What was computed is kept in the cache folder, so that a model of many gigabytes is not read again at every start. Not covered:
whose digest is the right one (`exported`).
"""

import hashlib
import json
from pathlib import Path

from data import paths
from data.errors import ModelInvalid, ModelMissing, PointsmanError

REMEMBERED = 500
_known: dict[str, str] = {}


def sha256(path: Path) -> str:
    """The file's digest in hexadecimal; raises ModelMissing, and ModelInvalid where it cannot be read or changes meanwhile."""
    mark = _mark(path)
    if mark not in _known:
        kept = _kept()
        found = kept.get(mark) or _computed(path, mark)
        _known[mark] = found
        if mark not in kept:
            _keep(kept | {mark: found})
    return _known[mark]


def _computed(path: Path, mark: str) -> str:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelInvalid(f"cannot read {path}: {error.strerror or error}", "make it a readable file") from error
    if _mark(path) != mark:
        raise ModelInvalid(f"{path} changed while it was read", "try again")
    return found


def _mark(path: Path) -> str:
    try:
        found = path.stat()
    except OSError as error:
        raise ModelMissing(f"there is no file {path}: {error.strerror}", "export it again: pointsman export") from error
    return f"{path.absolute()} {found.st_size} {found.st_mtime_ns}"


def _register() -> Path:
    return paths.cache_dir() / "models" / "digests.json"


def _kept() -> dict[str, str]:
    try:
        found = json.loads(_register().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(mark): str(digest) for mark, digest in found.items()} if isinstance(found, dict) else {}


def _keep(found: dict[str, str]) -> None:
    try:
        with paths.replacing(_register()) as file:
            file.write(json.dumps(dict(list(found.items())[-REMEMBERED:])).encode())
    except PointsmanError:
        return  # a cache folder that cannot be written costs another reading next time, nothing else
