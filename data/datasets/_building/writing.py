"""The third pass of a build: kept rows in their split's file and format, the others in quarantine, and what was counted on the way.

Not covered: the manifest and the card, which are made of these counts (`build`).
"""

import json
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data.datasets._building.deciding import CONTRADICTS, EXACT, KEPT, Fate
from data.datasets._building.facts import Facts
from data.datasets._building.reading import ROWS_FILE, Progress, Quarantine, line, refused
from data.datasets.formats import Formatter
from data.datasets.rows import Row

NAMES: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")
REPORT_EVERY = 2_000
"""Rows between two reports of progress."""
MOST_EXAMPLES = 8


@dataclass
class Written:
    """What was counted of the kept rows; examples: the first lines of training, at most two a label, for the card."""

    by_split: Counter[str] = field(default_factory=Counter)
    by_label: dict[str, Counter[str]] = field(default_factory=dict)
    by_shape: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    chains: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    characters: "array[int]" = field(default_factory=lambda: array("l"))
    tokens: "array[int]" = field(default_factory=lambda: array("l"))

    def count(self, row: Row, label: str, split: str, lines: int) -> None:
        """Count one kept row."""
        self.by_split[split] += 1
        self.lines[split] += lines
        self.by_shape[row.shape] += 1
        self.chains[row.reasoning_source or ("given" if row.reasoning else "none")] += 1
        self.licences[row.origin.licence or "not stated"] += 1
        if row.reasoning_by:
            self.models[row.reasoning_by] += 1
        if label:
            self.by_label.setdefault(label, Counter())[split] += 1


def write(
    facts: Facts, fate: Fate, formatter: Formatter, work: Path, made: Path, quarantine: Quarantine, progress: Progress
) -> Written:
    """Read the work file once and write the splits; what is not kept, or what the format cannot express, goes to quarantine."""
    written = Written()
    names, labels = facts.names.all(), facts.labels.all()
    size = (work / ROWS_FILE).stat().st_size
    with ExitStack() as stack:
        files = {name: stack.enter_context((made / f"{name}.jsonl").open("wb")) for name in NAMES}
        for place, (row, done) in enumerate(_rows(work / ROWS_FILE)):
            if place % REPORT_EVERY == 0:
                progress(f"writing {formatter.fmt}", done, size)
            if fate.state[place] != KEPT:
                quarantine.add(_refusal(row, int(fate.state[place]), facts.origin(int(fate.other[place]), names)))
                continue
            split = NAMES[fate.split[place]]
            row = row.with_split(split)
            expressed = formatter.express(row)
            if not expressed.lines:
                quarantine.add(refused(row.origin, "format", f"{formatter.fmt} cannot express it: {expressed.reason}", row.text))
                continue
            for one in expressed.lines:
                files[split].write(line(one))
            label = labels[facts.label[place]]
            written.count(row, label, split, len(expressed.lines))
            written.characters.append(facts.characters[place])
            written.tokens.append(facts.tokens[place])
            _example(written, label, row, expressed.lines[0])
    return written


def _rows(file: Path) -> Iterator[tuple[Row, int]]:
    """The rows of the work file, each with the bytes read so far."""
    done = 0
    with file.open("rb") as opened:
        for text in opened:
            done += len(text)
            yield Row.from_dict(json.loads(text)), done


def _refusal(row: Row, state: int, other: str) -> Any:
    if state == CONTRADICTS:
        return refused(row.origin, "contradiction", f"contradicts {other}", row.text)
    return refused(row.origin, "exact duplicate" if state == EXACT else "near duplicate", f"duplicate of {other}", row.text)


def _example(written: Written, label: str, row: Row, first: dict[str, Any]) -> None:
    """Keep a training row for the card: two a label, MOST_EXAMPLES in all."""
    if row.split != "train" or len(written.examples) >= MOST_EXAMPLES:
        return
    if sum(one == label for one, _ in written.examples) < 2:
        written.examples.append((label, first))
