"""A domain pack made from labelled rows: CSV, TSV, JSONL or Parquet in, a folder that `domains check` finds sound out.

Rows are cleaned as data sets are, equal texts kept once, texts with contradictory labels and rows that the source marks as test
left out, and near duplicates kept on one side of the split. What is drafted here (descriptions, adversarial cases) is said to be
so in the files, for a person to edit. Same rows, same bytes. Not covered: the drafting itself (`drafts`), training on the rows.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import domains, drafts, paths
from data._checks.similar import alike, folded
from data.cases import Case
from data.domains import Example
from data.errors import InputError
from data.sanitise import one_line

if TYPE_CHECKING:
    from data.datasets.sources import Source

MOST_ROWS = 20_000
"""Examples that a pack keeps; of more rows a fixed sample that keeps the labels' shares."""
MOST_BYTES = 48 << 20
"""Of examples.jsonl; a pack's file may have 64 MB."""
MOST_LABELS = 500
LABEL_CHARACTERS = 60
TEXT_CHARACTERS = 20_000
"""Of one text; longer ones are left out and counted."""
VALIDATION = 0.2
"""Share of the rows that validate."""
LISTED = 8
"""Labels that a message lists at most."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Made:
    """The pack that was made. labels: rows kept of each, the most frequent first; left_out: rows not kept, by the reason.

    unvalidated: labels of which no row validates, because all of theirs are too alike.
    """

    name: str
    folder: Path
    labels: Mapping[str, int]
    train: int
    validation: int
    adversarial: int
    left_out: Mapping[str, int]
    unvalidated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Words:
    """What the user says about the pack; "" is drafted."""

    title: str = ""
    description: str = ""
    system: str = ""


def make(
    name: str,
    source: "Source",
    words: Words | None = None,
    *,
    force: bool = False,
    progress: Progress = lambda doing, done, of: None,
) -> Made:
    """Make the pack in the user's data folder and return what became of the rows. force: replace one of that name.

    Raises InputError where the name is taken or cannot be one, where rows have fewer than two or more than 500 labels, or a label
    has a single row; and as the source does.
    """
    target = _target(name, force)
    left_out: Counter[str] = Counter()
    rows = _distinct(list(_cleaned(source, left_out, progress)), left_out)
    _require_labels(Counter(label for _, label in rows), left_out)
    rows = _kept(rows, left_out)
    progress("comparing", 0, 0)
    validates, unvalidated = _split(rows)
    examples = [
        Example(text=text, label=label, split="validation" if held else "train", source=one_line(source.name, 200))
        for (text, label), held in zip(rows, validates, strict=True)
    ]
    counts = dict(Counter(label for _, label in rows).most_common())
    cases = drafts.cases(examples)
    files = _files(name, words or Words(), counts, examples, cases, left_out, source.name)
    progress("writing", 0, 0)
    _write(target, files)
    held = sum(validates)
    return Made(name, target, counts, len(rows) - held, held, len(cases), dict(left_out), unvalidated)


def _target(name: str, force: bool) -> Path:
    if not re.fullmatch(domains.NAME, name):
        raise InputError(
            f"{one_line(name, 60)!r} cannot be a domain's name", "use a to z, 0 to 9 and _, a letter first, 40 characters at most"
        )
    if name in domains.names() and not force:
        raise InputError(
            f"there is a domain {name} already",
            "choose another name; --force replaces your own, or hides the one that comes with Pointsman",
        )
    return paths.data_dir() / "domains" / name


def _cleaned(source: "Source", left_out: "Counter[str]", progress: Progress) -> Iterator[tuple[str, str]]:
    """(text, label) of each usable row, cleaned."""
    from data.datasets.clean import Cleaner
    from data.datasets.rows import Row

    cleaner = Cleaner()
    for one in source.rows(lambda done, of: progress("reading", done, of)):
        row = cleaner.check(one) if isinstance(one, Row) else one
        if not isinstance(row, Row):
            left_out[f"{row.filter}: {re.sub(r'[0-9][0-9,.]*', 'N', one_line(row.reason, 120))}"] += 1
        elif not (label := row.label.strip()):
            left_out["no label"] += 1
        elif row.split == "test":
            left_out["marked as test by the source"] += 1
        elif len(row.text) > TEXT_CHARACTERS:
            left_out[f"text of more than {TEXT_CHARACTERS:,} characters"] += 1
        else:
            yield row.text, label


def _distinct(rows: list[tuple[str, str]], left_out: "Counter[str]") -> list[tuple[str, str]]:
    """Each text once; texts whose rows disagree about the label not at all."""
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for text, label in rows:
        labels[folded(text) or text.strip()].add(label)
    kept: dict[str, tuple[str, str]] = {}
    for text, label in rows:
        key = folded(text) or text.strip()
        if len(labels[key]) > 1:
            left_out["the same text with different labels"] += 1
        elif key in kept:
            left_out["the same text again"] += 1
        else:
            kept[key] = (text, label)
    return list(kept.values())


def _require_labels(counts: "Counter[str]", left_out: "Counter[str]") -> None:
    lost = f" ({left_out.total():,} rows could not be used)" if left_out else ""
    if len(counts) < 2:
        raise InputError(f"the rows have {len(counts)} labels{lost}, and two are the least to tell apart", "check the label column")
    if len(counts) > MOST_LABELS:
        raise InputError(
            f"the rows have {len(counts):,} labels, {MOST_LABELS} at most", "check that the label column is no text or number"
        )
    unusable = [label for label in counts if len(label) > LABEL_CHARACTERS or one_line(label, LABEL_CHARACTERS) != label]
    if unusable:
        raise InputError(
            f"{_listed(unusable)}: labels have one line and {LABEL_CHARACTERS} characters at most", "check the label column"
        )
    twins = Counter(label.casefold() for label in counts)
    if alike_names := [label for label in counts if twins[label.casefold()] > 1]:
        raise InputError(f"labels that differ in case alone: {_listed(alike_names)}", "write each in one way")
    single = [label for label, count in counts.items() if count == 1]
    if single:
        raise InputError(
            f"labels with a single row{lost}: {_listed(single)}", "two are the least: one to learn from, one to measure with"
        )


def _kept(rows: list[tuple[str, str]], left_out: "Counter[str]") -> list[tuple[str, str]]:
    """The rows that the pack keeps, in their order: of too many the first of each label by a hash, two of each at least."""
    size = sum(len(text.encode("utf-8", "replace")) + 120 for text, _ in rows)
    share = min(1.0, MOST_ROWS / len(rows), MOST_BYTES / size)
    if share == 1.0:
        return rows
    by_label: defaultdict[str, list[int]] = defaultdict(list)
    for at, (_, label) in enumerate(rows):
        by_label[label].append(at)
    chosen: set[int] = set()
    for places in by_label.values():
        places.sort(key=lambda at: _digest(rows[at][0]))
        chosen.update(places[: max(2, int(share * len(places)))])
    left_out["beyond what a pack keeps"] += len(rows) - len(chosen)
    return [row for at, row in enumerate(rows) if at in chosen]


def _split(rows: Sequence[tuple[str, str]]) -> tuple[list[bool], tuple[str, ...]]:
    """Whether each row validates, near duplicates on one side; and the labels of which none can."""
    import numpy as np

    from data.datasets.duplicates import Signatures, unite
    from data.datasets.split import assign

    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    with tempfile.TemporaryDirectory() as folder:
        signatures = Signatures(Path(folder), 0)
        for text in texts:
            signatures.add(text)
        clusters = signatures.finish().cluster.copy()
    pairs = np.array([(earlier, later) for earlier, later, _ in alike(texts)], np.int64).reshape(-1, 2)
    unite(clusters, pairs[:, 0], pairs[:, 1])
    none = [""] * len(rows)
    held = assign(clusters, none, np.zeros(len(rows)), labels, none, (1 - VALIDATION, VALIDATION, 0.0)) > 0
    unvalidated = []
    for label in dict.fromkeys(labels):
        mine = np.array([one == label for one in labels])
        if held[mine].any() and not held[mine].all():
            continue
        moved = _movable(clusters, mine)
        if moved is None:
            held[mine] = False
            unvalidated.append(label)
        else:
            held[mine] = False
            held[moved] = True
    return held.tolist(), tuple(unvalidated)


def _movable(clusters: Any, mine: Any) -> Any:
    """The smallest cluster that has rows of one label alone and not all of them, as a mask; None where there is none."""
    import numpy as np

    own = [one for one in np.unique(clusters[mine]) if not (clusters[~mine] == one).any()]
    sizes = {int(one): int((clusters == one).sum()) for one in own}
    fitting = [one for one, size in sizes.items() if size < mine.sum()]
    return clusters == min(fitting, key=lambda one: (sizes[one], one)) if fitting else None


def _files(
    name: str,
    words: Words,
    counts: Mapping[str, int],
    examples: Sequence[Example],
    cases: Sequence[Case],
    left_out: Mapping[str, int],
    source: str,
) -> dict[str, str]:
    """The pack's files by name."""
    labels = {"type": "string", "enum": list(counts)}
    schema = {"type": "object", "properties": {"label": labels}, "required": ["label"], "additionalProperties": False}
    train = [one for one in examples if one.split == "train"]
    return {
        "domain.toml": drafts.domain_toml(name, words.title, words.description, words.system, list(counts), train),
        "schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n",
        "rules.toml": drafts.RULES,
        "examples.jsonl": "".join(one.model_dump_json(exclude_defaults=True) + "\n" for one in examples),
        "adversarial.jsonl": "".join(one.model_dump_json(exclude_defaults=True) + "\n" for one in cases),
        "README.md": drafts.readme(name, words.title, one_line(source, 200), counts, examples, len(cases), left_out),
    }


def _write(target: Path, files: Mapping[str, str]) -> None:
    """The whole folder under its name, or nothing; one that was there goes only when the new one is complete."""
    parent = paths.ensure(target.parent)
    made = Path(tempfile.mkdtemp(prefix=".new-domain-", dir=parent.parent))
    try:
        for name, text in files.items():
            with paths.replacing(made / name) as out:
                out.write(text.encode("utf-8", "replace"))
        old = made.with_name(made.name + "-old")
        if target.exists():
            target.rename(old)
        try:
            made.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        paths.sync_folder(parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}", "free space, or move what is there") from error
    finally:
        with suppress(OSError):
            shutil.rmtree(made, ignore_errors=True)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(repr(one_line(label, 40)) for label in labels[:LISTED])
    return shown + (f" and {len(labels) - LISTED} more" if len(labels) > LISTED else "")
