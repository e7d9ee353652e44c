"""Rows of a recipe's sources: files, dataset folders, the log and the pack, relabelled and judged one by one.

Not covered: which of them validate (`dividing`).
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from data.datasets import manifest
from data.datasets._building.judging import Judge
from data.datasets.rows import Origin, Refused, Row
from data.datasets.sources import Source, approved, from_log, open_source
from data.domains import Domain, Example
from data.errors import InputError
from data.sanitise import one_line
from trainer._material.rows import Lost, label_of
from trainer.recipe import DataTable

if TYPE_CHECKING:  # the database's libraries load when a store is opened, not before
    from data.store import Store

LOG, APPROVED = "log", "approved"
OF_STORE = (LOG, APPROVED)
"""Sources that are read from the user's log."""
PACK = "pack"
SHOWN_ROWS = 20
SHOWN_LABELS = 12
Part = Literal["train", "validation"]


@dataclass
class Read:
    """What was read. excused: answers of the log that may not train, which is no fault; examples: of the pack, by the origin of the
    row made of each."""

    rows: list[Row] = field(default_factory=list)
    refused: list[Lost] = field(default_factory=list)
    excused: list[Lost] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    examples: dict[str, Example] = field(default_factory=dict)


class Reading:
    """Reads sources as the recipe's data table says. Raises InputError, NotFound and Offline as sources do."""

    def __init__(self, data: DataTable, domain: Domain | None, store: "Store | None") -> None:
        self._data, self._domain, self._store = data, domain, store
        self._judge = Judge(domain)
        self._unknown: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def read(self, given: Sequence[str], part: Part) -> Read:
        """Every row of the sources that can be used. Raises InputError where too many cannot, naming the first of them."""
        found = Read()
        for name in given:
            if name in OF_STORE:
                self._log(name, found)
            elif name == PACK and part == "validation":
                self._pack(found, ("validation",))
            elif (folder := _folder_of(name)) is not None:
                self._folder(folder, part, found)
            else:
                self._file(name, found)
        self._require_known()
        if self._left_out:
            listed = ", ".join(f"{one_line(label, 40)} ({count})" for label, count in self._left_out.most_common(SHOWN_LABELS))
            found.notes.append(f"left out, as data.labels says: rows labelled {listed}")
            self._left_out.clear()
        self._require_sound(found)
        return found

    def pack(self, splits: Sequence[str]) -> Read:
        """The examples of the domain's pack in those splits."""
        found = Read()
        self._pack(found, splits)
        self._require_known()
        self._require_sound(found)
        return found

    def _pack(self, found: Read, splits: Sequence[str]) -> None:
        for number, example in enumerate(self._domain.examples if self._domain else (), start=1):
            if example.split in splits and self._domain:
                row = _row(example, Origin(packed(self._domain.name), number))
                self._take([row], found)
                found.examples[str(row.origin)] = example

    def _file(self, name: str, found: Read) -> None:
        data = self._data
        try:
            source = open_source(name, text_column=data.text_column, label_column=data.label_column)
            before = len(found.rows)
            self._take(source.rows(), found)
        except InputError as error:
            raise _for_recipes(error) from error
        if len(found.rows) == before and self._domain is not None and self._domain.labels and not data.label_column:
            self._complain(name)

    def _complain(self, name: str) -> None:
        """Raise what a source says of a table without a label column: it lists the columns."""
        try:
            next(open_source(name, text_column=self._data.text_column, labelled=True).rows(), None)
        except InputError as error:
            raise _for_recipes(error) from error

    def _folder(self, folder: Path, part: Part, found: Read) -> None:
        made = manifest.read(folder)
        if made.format != "rows":
            raise InputError(f"{folder} is a dataset in the format {made.format}, not in rows", "build it with --format rows")
        if faults := manifest.check(folder):
            more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
            raise InputError(f"{folder} is not as its manifest says: {faults[0]}{more}", "build the dataset again")
        name = self._domain.name if self._domain else ""
        if made.domain != name:
            found.notes.append(f"{folder.name} was built for {made.domain or 'chat'}, not for {name or 'chat'}")
        if made.counts.lines.get("test"):
            found.notes.append(f"{folder.name}: its {made.counts.lines['test']:,} test rows stay untouched")
        for split in ("train", "validation") if part == "train" else ("validation",):
            if made.counts.lines.get(split):
                self._take((_in_split(one, split) for one in open_source(str(folder / f"{split}.jsonl")).rows()), found)

    def _log(self, name: str, found: Read) -> None:
        if self._store is None:
            raise InputError(f"the recipe asks for the {LOG}, and there is none", "leave it out of data.train")
        opened = approved if name == APPROVED else from_log
        source: Source = opened(self._store, self._domain.name if self._domain else "")
        said = Read(rows=found.rows)
        self._take(source.rows(), said)
        found.excused += said.refused

    def _take(self, rows: Iterable[Row | Refused], found: Read) -> None:
        for one in rows:
            if isinstance(one, Refused):
                found.refused.append(Lost(str(one.origin), one.reason, one.excerpt[:80]))
                continue
            judged = self._judged(one)
            if isinstance(judged, Lost):
                found.refused.append(judged)
            elif judged is not None:
                found.rows.append(judged)

    def _judged(self, row: Row) -> Row | Lost | None:
        """The row under the domain's labels; why it cannot be used; None where the recipe leaves its label out."""
        if not row.text.strip():
            return Lost.of(row, "it has no text")
        row = _relabelled(row, self._data.labels, self._domain)
        if row.label in self._data.labels and not self._data.labels[row.label]:
            self._left_out[row.label] += 1
            return None
        if self._domain is None:
            return row
        if self._domain.labels and (unknown := self._unknown_of(row)):
            self._unknown.update(unknown)
            return None
        judged = self._judge.check(row) if self._domain.labels else self._judge.output(row)
        if isinstance(judged, Refused):
            return Lost.of(row, judged.reason)
        if self._domain.labels and judged.shape in ("label", "instruction", "chat") and not label_of(judged, self._domain):
            return Lost.of(row, "it has no label")
        return judged

    def _unknown_of(self, row: Row) -> list[str]:
        known = self._domain.labels if self._domain else ()
        return [one for one in (row.label, *row.correct_labels, *row.incorrect_labels) if one and one not in known]

    def _require_known(self) -> None:
        if not self._unknown or self._domain is None:
            return
        folded = {label.casefold(): label for label in self._domain.labels}
        listed = []
        for label, count in self._unknown.most_common(SHOWN_LABELS):
            near = difflib.get_close_matches(label.casefold(), list(folded), 1, 0.5)
            listed.append(f"{one_line(label, 40)!r} ({count:,}{f', near {folded[near[0]]}' if near else ''})")
        more = f" and {len(self._unknown) - SHOWN_LABELS} more" if len(self._unknown) > SHOWN_LABELS else ""
        known = ", ".join(self._domain.labels[:SHOWN_LABELS]) + (", …" if len(self._domain.labels) > SHOWN_LABELS else "")
        raise InputError(
            f"{self._domain.name} does not know these labels of the data: {', '.join(listed)}{more}",
            f"map them in data.labels; its labels are {known}",
        )

    def _require_sound(self, found: Read) -> None:
        """Raise where too many rows were refused; say how many of the log were."""
        if found.excused:
            reasons = Counter(one.reason for one in found.excused).most_common(3)
            listed = "; ".join(f"{count:,}: {reason}" for reason, count in reasons)
            found.notes.append(f"{len(found.excused):,} answers of the log are not trained on ({listed})")
        total = len(found.rows) + len(found.refused)
        if not found.refused or len(found.refused) <= self._data.lost * total:
            return
        if not found.rows:
            reason, count = Counter(one.reason for one in found.refused).most_common(1)[0]
            raise InputError(f"none of the {total:,} rows can be used; {count:,} of them: {reason}", _fix(reason))
        lines = "; ".join(f"{one.origin}: {one.reason}" for one in found.refused[:SHOWN_ROWS])
        raise InputError(
            f"{len(found.refused):,} of {total:,} rows cannot be used, more than data.lost = {self._data.lost:g} allows: {lines}",
            f"correct them, or set data.lost = {enough(len(found.refused), total):g}",
        )


def _relabelled(row: Row, names: dict[str, str], domain: Domain | None) -> Row:
    """The row with its labels as the domain calls them; a label that is left out (named "") stays."""
    if not names:
        return row
    right, wrong = (tuple(names.get(one) or one for one in labels) for labels in (row.correct_labels, row.incorrect_labels))
    output: Any = row.output
    path = domain.described.label_field if domain else ""
    if path and isinstance(inner := output.get(path), str) and names.get(inner):
        output = {**output, path: names[inner]}
    return replace(row, label=names.get(row.label) or row.label, correct_labels=right, incorrect_labels=wrong, output=output)


def packed(domain: str) -> str:
    """What the rows of a pack's own examples name as their source."""
    return f"{domain}/examples.jsonl"


def _row(example: Example, origin: Origin) -> Row:
    return Row(
        "label" if example.label or example.output else "instruction",
        example.text,
        origin,
        label=example.label,
        output=dict(example.output),
        completion=example.completion,
        reasoning=example.reasoning,
        reasoning_source="given" if example.reasoning else "",
        split=example.split,
    )


def _folder_of(name: str) -> Path | None:
    """The folder of that name; None for anything else, of which a source says what is wrong with it."""
    try:
        path = Path(name).expanduser()
        return path if path.is_dir() else None
    except (RuntimeError, OSError):  # no such home, a name too long
        return None


def _in_split(one: Row | Refused, split: Literal["train", "validation"]) -> Row | Refused:
    return one if isinstance(one, Refused) else one.with_split(split)


def _for_recipes(error: InputError) -> InputError:
    """The same fault with a recipe's own keys beside the flags."""
    fix = error.fix
    for flag in ("text_column", "label_column"):
        fix = fix.replace(f"--{flag.replace('_', '-')}", f"data.{flag}")
    return InputError(error.what, fix)


def _fix(reason: str) -> str:
    if "label" in reason:
        return "name the column in data.label_column, or map the labels in data.labels"
    return "name the columns in data.text_column and data.label_column" if "text" in reason or "keys" in reason else "correct them"


def enough(lost: int, total: int) -> float:
    """The smallest share in whole hundredths that allows so many."""
    return min(1.0, -(-lost * 100 // total) / 100)
