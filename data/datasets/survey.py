"""What a source holds, row by row, without building anything from it: for looking before a build, and for importing.

Not covered: duplicates, splits, redaction (`build`), and dataset folders, which their manifest describes (`manifest`).
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data import paths
from data.datasets._building.facts import characters
from data.datasets._building.judging import Judge
from data.datasets._building.reading import line
from data.datasets.rows import Refused, Row
from data.domains import Domain
from data.errors import InputError

MOST_FAULTS = 20
"""Refused rows that are told one by one; all are counted."""

Watch = Callable[[float, float], None]


@dataclass
class Survey:
    """rows: those that are sound; refused: by filter; faults: the first refusals in words; labels, shapes, licences: of sound rows;
    characters: the length of each."""

    rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    cleaned: Counter[str] = field(default_factory=Counter)
    characters: "array[int]" = field(default_factory=lambda: array("l"))

    def refuse(self, refused: Refused) -> None:
        """Count a refused row."""
        self.refused[refused.filter] += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(f"{refused.origin}: {refused.reason}")

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, most frequent first."""
        lengths = sorted(self.characters)
        shares = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0) if lengths else ()
        return {
            "rows": self.rows,
            "refused": dict(self.refused.most_common()),
            "faults": self.faults,
            "labels": dict(self.labels.most_common()),
            "shapes": dict(self.shapes.most_common()),
            "licences": dict(self.licences.most_common()),
            "cleaned": dict(self.cleaned.most_common()),
            "characters": {f"{share:g}": lengths[round(share * (len(lengths) - 1))] for share in shares},
        }


def survey(source: Any, domain: Domain | None = None, watch: Watch = lambda done, of: None) -> Survey:
    """Read a source to its end and judge every row as a build would, by the domain where there is one. Memory: 8 bytes a row."""
    from data.datasets.clean import Cleaner

    found, cleaner, judge = Survey(), Cleaner(), Judge(domain)
    for one in source.rows(watch):
        passed = one if isinstance(one, Refused) else cleaner.check(one)
        passed = passed if isinstance(passed, Refused) else judge.check(passed)
        if isinstance(passed, Refused):
            found.refuse(passed)
            continue
        found.rows += 1
        found.shapes[passed.shape] += 1
        found.licences[passed.origin.licence or "not stated"] += 1
        found.characters.append(characters(passed))
        if label := judge.label(passed):
            found.labels[label] += 1
    found.cleaned = cleaner.counts
    return found


def save(source: Any, out: Path, force: bool = False, watch: Watch = lambda done, of: None) -> Survey:
    """Write a source's rows to a JSONL file as they are, all at once or not at all. Raises InputError where `out` is there already,
    and not `force`, or where there is no row."""
    if out.exists() and (not force or not out.is_file()):
        raise InputError(f"{out} is there already", "choose another --out, or --force to replace a file")
    found = Survey()
    with paths.replacing(out.absolute(), mode=0o644) as file:
        for row in _rows(source, found, watch):
            found.rows += 1
            found.shapes[row.shape] += 1
            found.licences[row.origin.licence or "not stated"] += 1
            found.characters.append(characters(row))
            file.write(line(row.to_dict()))
        if not found.rows:
            raise InputError(f"{source.name} holds no row: {'; '.join(found.faults[:1]) or 'it is empty'}", "name its columns")
    return found


def _rows(source: Any, found: Survey, watch: Watch) -> Iterator[Row]:
    for one in source.rows(watch):
        if isinstance(one, Refused):
            found.refuse(one)
        else:
            yield one
