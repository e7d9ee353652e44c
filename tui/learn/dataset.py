"""The user's rows as a dataset folder: redacted, without duplicates and contradictions, split by conversation and by time.

The newest conversations are the test split, which is never trained on and is replayed; those before them validate. The pack's own
examples are no part of it: the recipe adds them. Not covered: what a row must be like (`source`), whether there are enough.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import paths
from data.datasets import manifest
from data.datasets.manifest import Manifest
from data.datasets.rows import Row
from data.domains import Domain
from data.errors import InputError
from tui.learn.enough import Volume
from tui.learn.source import Said, key

if TYPE_CHECKING:
    from data.store import Store

SHARES = (0.8, 0.1, 0.1)
FIRST = 5
"""Rows that a survey shows."""
MANIFEST = manifest.FILE
SPLITS = ("train", "validation", "test")
Progress = Callable[[str, float, float], object]


@dataclass(frozen=True)
class Gathered:
    """A dataset folder and what is in it. kinds: kept rows by what was said; left_out: rows by the reason; first: some kept rows,
    redacted."""

    folder: Path
    manifest: Manifest | None
    volume: Volume
    kinds: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    first: tuple[Row, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, without the rows."""
        found = self.manifest
        return {
            "kinds": self.kinds,
            "left_out": self.left_out,
            "volume": dict(self.volume.plain),
            "splits": dict(found.counts.by_split) if found else {},
            "labels": {label: sum(splits.values()) for label, splits in found.counts.by_label.items()} if found else {},
            "redactions": dict(found.redactions) if found else {},
        }


def said(store: "Store", domain: Domain | None) -> Said:
    """What the log holds for that domain (None: for all)."""
    from data.datasets.sources import from_log

    return Said(from_log(store, domain.name if domain else ""), domain)


def build(source: Said, folder: Path, progress: Progress = lambda step, done, of: None) -> Gathered:
    """The dataset in `folder`, made now or by a process that was killed right afterwards; an empty one where nothing is usable.

    Raises InputError where a row can be made into nothing, or the disk is full.
    """
    from data.datasets.build import BuildOptions
    from data.datasets.build import build as built

    def told(step: str, done: float, of: float) -> None:
        progress(step, done, of)

    domain = source.domain
    if not (folder / manifest.FILE).is_file():
        reasons = Counter(str(one["reason"]) for one in (row.to_dict() for row in source.read) if "reason" in one)
        if not source.usable:
            return Gathered(folder, None, Volume(pack=_packed(domain)), {}, dict(reasons.most_common()))
        try:
            built([source], domain, folder, BuildOptions(shares=SHARES), told)
        except InputError as fault:
            if "rows is left" not in fault.what:
                raise
            return Gathered(folder, None, Volume(pack=_packed(domain)), {}, {fault.what: len(source.usable)})
    elif faults := manifest.check(folder):
        raise InputError(f"the dataset {folder} was changed: {faults[0]}", "learn anew: pointsman learn DOMAIN --anew")
    return described(folder, domain)


def described(folder: Path, domain: Domain | None) -> Gathered:
    """What is in a dataset folder. Raises NotFound, InputError."""
    found = manifest.read(folder)
    kinds: Counter[str] = Counter()
    good = bad = lessons = 0
    conversations: set[str] = set()
    first: list[Row] = []
    for row in rows(folder):
        kinds[_kind(row)] += 1
        good += row.thumb is True or bool(row.completion and row.rejected)
        bad += row.thumb is False or bool(row.rejected)
        lessons += row.thumb is not False
        conversations.add(row.group)
        if len(first) < FIRST:
            first.append(row)
    held_out = sum(found.counts.by_split.get(split, 0) for split in SPLITS[1:])
    volume = Volume(kinds.total(), lessons, good, bad, _packed(domain), len(conversations), held_out)
    reasons = Counter(str(one.get("reason", "")) for one in _lines(folder / "quarantine.jsonl"))
    return Gathered(folder, found, volume, dict(kinds.most_common()), dict(reasons.most_common()), tuple(first))


def rows(folder: Path, *splits: str) -> Iterator[Row]:
    """The rows of a dataset folder, of all splits where none is named."""
    for split in splits or SPLITS:
        for line in _lines(folder / f"{split}.jsonl"):
            yield Row.from_dict(line)


def trained(folder: Path) -> frozenset[str]:
    """The conversations whose rows are trained on."""
    return frozenset(row.group for row in rows(folder, "train") if row.group)


def note_seen(file: Path, source: Said) -> None:
    """Keep which rows a learn has seen, by their keys, so that the next one knows which are new."""
    with paths.replacing(file) as out:
        out.writelines(f"{one}\n".encode() for one in sorted({key(row) for row in source.usable}))


def fresh(file: Path, source: Said) -> int:
    """How many rows are new since that was kept; all of them where nothing was."""
    before = set(paths.read_text(file, 1 << 26, "delete it").split()) if file.is_file() else set()
    return sum(key(row) not in before for row in source.usable)


def drop(folder: Path) -> None:
    """Remove a dataset that was only looked at."""
    shutil.rmtree(folder, ignore_errors=True)


def _kind(row: Row) -> str:
    if row.thumb is not None:
        return "thumbs up" if row.thumb else "thumbs down"
    return {"correction": "corrections", "preference": "preferences"}.get(row.shape, row.shape)


def _packed(domain: Domain | None) -> int:
    return sum(one.split == "train" for one in domain.examples) if domain else 0


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    if not file.is_file():
        return
    with file.open(encoding="utf-8") as opened:
        for line in opened:
            if line.strip():
                found = json.loads(line)
                if isinstance(found, dict):
                    yield found
