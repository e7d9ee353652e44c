"""README.md: there is one, and the counts in its tables are those of the files.

A table is checked where a column is headed train, validation, all or indicators: the row of each label, and the row "all". Beside
tables, "40 adversarial cases" is checked.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from data._checks.pack import Pack
from data.cases import Case
from data.domains import Example

NAME = "README.md"
_COLUMNS = ("train", "validation", "all", "indicators")
_CASES = re.compile(r"\b(\d+) adversarial cases\b")


@dataclass(frozen=True)
class Counts:
    """How many rows and indicators each label has, by the column's heading; "all" is every label together."""

    by_column: Mapping[str, Counter[str]]
    cases: int
    labels: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, examples: Iterable[Example], cases: Iterable[Case], indicators: Iterable[str], labels: tuple[str, ...]) -> "Counts":
        """The counts of a pack; indicators: the label of each."""
        rows = list(examples)
        found = {split: Counter(one.label for one in rows if one.split == split) for split in ("train", "validation")}
        found["all"] = found["train"] + found["validation"]
        found["indicators"] = Counter(indicators)
        return cls(found, sum(1 for _ in cases), labels)

    def at(self, label: str, column: str) -> int:
        """The count of a label, or of all of them."""
        counted = self.by_column[column]
        return counted.total() if label == "all" else counted[label]


def readme(pack: Pack, counts: Counts) -> None:
    """Note a README that is missing or counts wrongly."""
    text = pack.text(NAME)
    if text is None:
        if not any(problem.file.endswith(NAME) for problem in pack.problems):
            pack.fault(NAME, 1, "is missing: it says where the examples come from, how many there are, and the limits")
        return
    heads: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        cells = [cell.strip(" `*") for cell in line.strip().strip("|").split("|")] if line.strip().startswith("|") else []
        if not cells:
            heads = []
        elif not heads:
            heads = [cell.casefold() for cell in cells]
        else:
            _row(pack, number, heads, cells, counts)
        for found in _CASES.finditer(line):
            if int(found.group(1)) != counts.cases:
                pack.fault(NAME, number, f"says {found.group(1)} adversarial cases; there are {counts.cases}")


def _row(pack: Pack, number: int, heads: list[str], cells: list[str], counts: Counts) -> None:
    if cells[0] not in (*counts.labels, "all"):
        return
    for head, cell in list(zip(heads, cells, strict=False))[1:]:
        if head in _COLUMNS and cell.isascii() and cell.isdigit() and len(cell) < 10 and int(cell) != counts.at(cells[0], head):
            pack.fault(NAME, number, f"says {cell} for {cells[0]}, {head}; there are {counts.at(cells[0], head)}")
