"""sha256 of files, each computed once in a process. Not covered: digests that a hub tells (`hub`)."""

from functools import lru_cache
from hashlib import file_digest
from pathlib import Path

from data.errors import ModelInvalid


def file_sha256(path: Path) -> str:
    """The digest in hexadecimal; raises ModelInvalid where the file cannot be read."""
    try:
        found = path.stat()
        return _digest(path, found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise ModelInvalid(f"cannot read {path}: {error.strerror or error}", "make it readable") from error


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
