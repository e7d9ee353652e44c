"""Answers that the user keeps out of training: whatever is said about them is no row of the log's sources.

    <data>/excluded.json     {"answers": ["conversation@seconds since 1970", ...]}, no text of anybody's
Not covered: rows of files, which are edited there, and forgetting, after which nothing is left to keep out.
"""

import json
from pathlib import Path

from data import paths
from data.datasets.rows import Row
from data.errors import InputError

LARGEST_BYTES = 64 << 20


def file() -> Path:
    """Where they are kept; it need not exist."""
    return paths.data_dir() / "excluded.json"


def key(row: Row) -> str:
    """What names the answer that a row of the log came from."""
    return f"{row.group}@{row.at!r}"


def keys() -> frozenset[str]:
    """All that are kept out. Raises InputError where the file is damaged: nothing is trained on in doubt."""
    if not file().is_file():
        return frozenset()
    try:
        found = json.loads(paths.read_text(file(), LARGEST_BYTES, "remove it, and exclude again"))["answers"]
        return frozenset(str(one) for one in found)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{file()} is damaged", "remove it, and exclude again") from error


def put(name: str, out: bool) -> None:
    """Keep an answer out, or take it in again. Raises InputError where that cannot be written."""
    found = keys() | {name} if out else keys() - {name}
    with paths.replacing(file()) as written:
        written.write(json.dumps({"answers": sorted(found)}, indent=1).encode())
