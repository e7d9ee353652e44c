"""Manifests made true again after rows were dropped and texts cleared: of a dataset, of a run, of an export.

Each lists its files with their SHA-256; a dataset counts its rows too. What was measured then stays as it was measured. Not
covered: what is dropped (files.py), the registry's row of an export (course.py).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data import exports
from data.datasets.manifest import Manifest

MANIFEST = "manifest.json"
LISTS = {MANIFEST: ("files", "artefacts"), exports.FILE: ("files",)}
"""Manifests by their file names, with the keys of their lists of files."""

Now = Callable[[Path], Path]
"""Where the coming content of a file lies: itself, or what waits to take its place."""


def sealed(file: Path, raw: bytes, now: Now) -> bytes | None:
    """The manifest's bytes with the digests of its files as they will be; None where it is none of these, or nothing differs.

    file: the manifest's place; raw: its content, cleared already. Raises OSError.
    """
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    key = next((one for one in LISTS[file.name] if isinstance(told, dict) and isinstance(told.get(one), list)), "")
    if not key:
        return None
    before = {str(one.get("name")): dict(one) for one in told[key] if isinstance(one, dict)}
    differ = False
    for one in told[key]:
        differ = _noted(one, file.parent, now) or differ
    if not differ:
        return None
    if key == "files" and isinstance(told.get("counts"), dict):
        return _dataset(told, before, file.parent, now)
    indent = 1 if raw[:3] == b"{\n " else None
    return json.dumps(told, ensure_ascii=True, sort_keys=file.name == MANIFEST, indent=indent).encode() + b"\n"


def _noted(one: Any, folder: Path, now: Now) -> bool:
    """Bring one file's entry up to date; whether it was not."""
    if not isinstance(one, dict) or not isinstance(name := one.get("name"), str) or ".." in Path(name).parts:
        return False
    place = now(folder / name)
    if place == folder / name or not place.is_file():
        return False
    content = place.read_bytes()
    one |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if "rows" in one and name.endswith(".jsonl"):
        one["rows"] = content.count(b"\n")
    return True


def _dataset(told: dict[str, Any], before: Mapping[str, Any], folder: Path, now: Now) -> bytes | None:
    """A dataset's manifest with its counts too."""
    counts, lost = told["counts"], 0
    for split in ("train", "validation", "test"):
        name = f"{split}.jsonl"
        if name not in before or now(folder / name) == folder / name:
            continue
        lines = [_row(line) for line in dropped(folder / name, now(folder / name))]
        counts["lines"][split] = counts["lines"].get(split, 0) - len(lines)
        rows = _rows_lost(counts, split, len(lines), int(before[name]["rows"]))
        counts["by_split"][split] -= rows
        _less(counts["by_shape"], Counter(str(one.get("shape", "")) for one in lines), rows)
        for one in lines:
            splits = counts["by_label"].get(str(one.get("label", "")), {})
            splits |= {split: max(splits[split] - 1, 0)} if split in splits else {}
        lost += rows
    counts["kept"] -= lost
    for line in dropped(folder / "quarantine.jsonl", now(folder / "quarantine.jsonl")):
        _out_of_quarantine(counts, str(_row(line).get("filter", "")))
    counts["read"] = counts["kept"] + counts["quarantined"] + counts["exact_duplicates"] + counts["near_duplicates"]
    told["warnings"] = [*told.get("warnings", ()), f"{lost} of its rows were forgotten after it was built"]
    return Manifest.model_validate(told).to_bytes()


def dropped(old: Path, new: Path) -> Iterator[bytes]:
    """The lines of a file that its new content has not: that holds the others in their order."""
    if old == new or not old.is_file():
        return
    with old.open("rb") as before, new.open("rb") as after:
        kept = after.readline()
        for line in before:
            if line == kept:
                kept = after.readline()
            else:
                yield line


def _rows_lost(counts: Mapping[str, Any], split: str, lines: int, before: int) -> int:
    """How many rows the dropped lines were: some formats make several lines of one row."""
    rows = int(counts["by_split"].get(split, 0))
    return min(rows, lines if rows == before else -(-lines * rows // max(before, 1)))


def _less(counts: dict[str, int], wanted: Counter[str], rows: int) -> None:
    """Take `rows` off the counts: those that are wanted first, then from the largest."""
    for name, count in wanted.items():
        taken = min(counts.get(name, 0), count, rows)
        if taken:
            counts[name] -= taken
            rows -= taken
    while rows > 0 and counts:
        name = max(counts, key=lambda one: counts[one])
        taken = min(counts[name], rows)
        if not taken:
            return
        counts[name] -= taken
        rows -= taken


def _out_of_quarantine(counts: dict[str, Any], refused: str) -> None:
    kind = {"exact duplicate": "exact_duplicates", "near duplicate": "near_duplicates"}.get(refused, "quarantined")
    counts[kind] -= 1
    if kind == "quarantined" and refused in counts["by_filter"]:
        counts["by_filter"][refused] -= 1


def _row(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
