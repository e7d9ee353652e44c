"""Labelled questions from files: what the heads are trained on and measured with.

Three layouts: a folder like CLINC150's (a JSON object of splits, each a list of [text, intent], beside domains.json), a folder
like BANKING77's (train.csv with text,category, beside categories.json), and any CSV, TSV or JSONL file with text and label
columns. Texts are taken as they are; rows without a text are left out and counted. Not covered: training (`training`).
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data import paths
from data.errors import InputError
from data.sanitise import one_line

OUTSIDE = ("oos", "out_of_scope", "none")
"""Labels that mean that no domain fits."""
HELD_OUT_PERCENT = 20
"""Of the rows of a file without a validation part, by the hash of their text, so that equal texts stay together."""
MANY_ROWS = 3_000
"""From here on half of that percentage suffices."""
LARGEST_BYTES = 512 << 20
TEXT_CHARACTERS = 20_000
"""Characters of one text that are kept; the router reads fewer."""

Row = tuple[str, str]
"""Text and intent."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Rows in scope, by their use, and texts out of scope. domain_of: the domain of every intent."""

    name: str
    domain_of: Mapping[str, str]
    train: tuple[Row, ...]
    held: tuple[Row, ...] = ()
    outside_train: tuple[str, ...] = ()
    outside_held: tuple[str, ...] = ()
    skipped: int = 0

    @property
    def intents(self) -> tuple[str, ...]:
        """Those of the training rows, sorted."""
        return tuple(sorted({intent for _, intent in self.train}))

    @property
    def domains(self) -> tuple[str, ...]:
        """Those of the training rows, sorted."""
        return tuple(sorted({self.domain_of[intent] for intent in self.intents}))

    def split(self, salt: str = "") -> "Labelled":
        """With a part of the training rows held out, where nothing is held out yet; another part for another salt."""
        if self.held:
            return self
        percent = HELD_OUT_PERCENT if len(self.train) < MANY_ROWS else HELD_OUT_PERCENT // 2
        kept = [row for row in self.train if not held_out(row[0], salt, percent)]
        apart = [row for row in self.train if held_out(row[0], salt, percent)]
        only = {intent for _, intent in self.train} - {intent for _, intent in kept}
        kept += [row for row in apart if row[1] in only]
        apart = [row for row in apart if row[1] not in only]
        outside = [text for text in self.outside_train if held_out(text, salt, 50)]
        rest = [text for text in self.outside_train if not held_out(text, salt, 50)]
        held_outside = tuple(outside) or self.outside_held
        return replace(self, train=tuple(kept), held=tuple(apart), outside_train=tuple(rest), outside_held=held_outside)


def load(source: Path, test: Path | None = None) -> Labelled:
    """The labelled questions of a folder or file; `test` replaces what is held out.

    Raises InputError naming the file and what is wrong: missing, of another layout, fewer than two labels.
    """
    source = source.expanduser()
    if not source.exists():
        raise InputError(f"there is no folder or file {source}", "give --data a folder like CLINC150's, or a CSV or JSONL file")
    found = _folder(source) if source.is_dir() else _file(source)
    if test is not None:
        held, outside = _test(test.expanduser(), found)
        found = replace(found, held=held, outside_train=(*found.outside_train, *found.outside_held), outside_held=outside)
    counts = Counter(intent for _, intent in found.train)
    if len(counts) < 2:
        raise InputError(f"{source} has {len(counts)} labels, and two are the least to tell apart", "add rows with other labels")
    return found


def packs() -> Labelled:
    """What the domain packs teach the router: their examples, each pack one domain, and general questions as out of scope.

    Raises InputError where a pack's files are wrong.
    """
    from data import domains

    found = [domains.load(name) for name in domains.names()]
    rows = [(text, pack.name) for pack in found for text in pack.described.router.examples]
    return Labelled(
        "domain packs", {pack.name: pack.name for pack in found}, tuple(dict.fromkeys(rows)), outside_train=domains.outside()
    )


def joined(first: Labelled, second: Labelled) -> Labelled:
    """Both sets' rows as one; an intent that both have keeps the first's domain."""
    return Labelled(
        f"{first.name} and {second.name}",
        {**second.domain_of, **first.domain_of},
        (*first.train, *second.train),
        (*first.held, *second.held),
        (*first.outside_train, *second.outside_train),
        (*first.outside_held, *second.outside_held),
        first.skipped + second.skipped,
    )


def held_out(text: str, salt: str = "", percent: int = HELD_OUT_PERCENT) -> bool:
    """Whether a row belongs to the held-out part, by its text's hash alone."""
    key = salt + " ".join(text.casefold().split())
    return int(hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) % 100 < percent


def _folder(folder: Path) -> Labelled:
    if (folder / "train.csv").is_file():
        return _file(folder / "train.csv")
    if not (folder / "domains.json").is_file():
        raise InputError(
            f"{folder} has neither domains.json nor train.csv",
            "give a folder like CLINC150's or BANKING77's, or a CSV or JSONL file",
        )
    domains = _json(folder / "domains.json")
    if not isinstance(domains, dict) or not all(isinstance(intents, list) for intents in domains.values()):
        raise InputError(f"{folder / 'domains.json'} is no object of domain: list of intents", "see the CLINC150 layout")
    domain_of = {str(intent): str(domain) for domain, intents in domains.items() for intent in intents}
    files = sorted(path for path in folder.glob("*.json") if path.name != "domains.json")
    parts: dict[str, list[Row]] = {}
    for file in files:
        if isinstance(content := _json(file), dict) and "train" in content:
            parts = {name: _pairs(rows, file, name) for name, rows in content.items()}
            break
    if not parts.get("train"):
        raise InputError(f"{folder} has no JSON file with a split named train", "see the CLINC150 layout")
    unknown = {intent for _, intent in parts["train"]} - set(domain_of)
    if unknown:
        raise InputError(f"{folder / 'domains.json'} has no domain for the intent {min(unknown)!r}", "add it")
    inside = {name: tuple(row for row in parts.get(name, ()) if row[0].strip()) for name in ("train", "val")}
    outside = {name: tuple(text for text, _ in parts.get(name, ()) if text.strip()) for name in ("oos_train", "oos_val")}
    return Labelled(
        folder.name,
        domain_of,
        inside["train"],
        inside["val"],
        outside["oos_train"],
        outside["oos_val"],
        sum(not text.strip() for rows in parts.values() for text, _ in rows),
    )


def _file(path: Path) -> Labelled:
    rows = list(_rows(path))
    inside = [(text, label) for text, label in rows if text.strip() and label not in OUTSIDE]
    outside = tuple(text for text, label in rows if text.strip() and label in OUTSIDE)
    labels = {label for _, label in inside}
    return Labelled(
        path.parent.name if path.stem == "train" else path.stem,
        {label: label for label in labels},
        tuple(inside),
        outside_train=outside,
        skipped=len(rows) - len(inside) - len(outside),
    )


def _test(path: Path, known: Labelled) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Rows in scope and texts out of scope of a test file of either format."""
    if path.suffix == ".json":
        content = _json(path)
        if not isinstance(content, dict):
            raise InputError(f"{path} is no object of splits", 'give {"test": [[text, intent], ...], "oos_test": [...]}')
        parts = {name: _pairs(rows, path, name) for name, rows in content.items()}
        wanted = [name for name in parts if "train" not in name] or list(parts)
        tests = [name for name in wanted if "test" in name]  # a whole data set is measured by its test part
        rows = [row for name in tests or wanted for row in parts[name]]
    else:
        rows = list(_rows(path))
    inside = tuple((text, label) for text, label in rows if text.strip() and label not in OUTSIDE)
    strange = {label for _, label in inside} - set(known.intents)
    if strange:
        label = one_line(min(strange), 60)
        raise InputError(f"{path} has the label {label!r}, which training never saw", "check that both belong together")
    if not inside:
        raise InputError(f"{path} has no rows in scope", "give rows with the labels of the training data")
    return inside, tuple(text for text, label in rows if text.strip() and label in OUTSIDE)


def _pairs(rows: Any, path: Path, name: str) -> list[Row]:
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 2 for row in rows):
        raise InputError(f"{path}: the split {name!r} is no list of [text, intent]", "see the CLINC150 layout")
    return [(str(text)[:TEXT_CHARACTERS], str(intent)) for text, intent in rows]


def _rows(path: Path) -> Iterator[Row]:
    """Text and label of every row of a CSV, TSV or JSONL file, by its header or keys."""
    content = paths.read_text(path, LARGEST_BYTES, "take a sample of it")
    if path.suffix in (".jsonl", ".ndjson"):
        for number, line in enumerate(content.splitlines(), start=1):
            if line.strip():
                row = _parsed(line, path, f" line {number}")
                if not isinstance(row, dict):
                    raise InputError(f"{path}: line {number} is no JSON object", "give one object a line")
                yield _pair(row, path, number)
        return
    if path.suffix not in (".csv", ".tsv"):
        raise InputError(f"{path} is neither CSV, TSV, JSONL nor a folder", "name it so, or convert it")
    csv.field_size_limit(1 << 30)
    try:
        reader = csv.DictReader(content.splitlines(keepends=True), delimiter="\t" if path.suffix == ".tsv" else ",")
        for number, fields in enumerate(reader, start=2):
            yield _pair(fields, path, number)
    except csv.Error as error:
        raise InputError(f"{path} is not valid CSV: {error}", "correct it") from error


def _pair(row: Mapping[str, Any], path: Path, number: int) -> Row:
    text = next((row[name] for name in ("text", "query", "question") if name in row), None)
    label = next((row[name] for name in ("label", "category", "domain", "intent") if name in row), None)
    if text is None or label is None:
        names = ", ".join(str(name) for name in row)
        raise InputError(f"{path}, row {number}, has no text and label ({one_line(names, 80)})", "name the columns text and label")
    return str(text)[:TEXT_CHARACTERS], str(label).strip()


def _json(path: Path) -> Any:
    return _parsed(paths.read_text(path, LARGEST_BYTES, "take a sample of it"), path)


def _parsed(text: str, path: Path, where: str = "") -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}{where} is not valid JSON: {error}", "correct it") from error


def rare(rows: Sequence[Row]) -> dict[str, int]:
    """Labels with a single example, which cannot be measured."""
    return {label: count for label, count in Counter(label for _, label in rows).items() if count == 1}
