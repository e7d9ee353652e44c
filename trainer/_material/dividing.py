"""Which rows validate, which train, and which of the training rows where only some are wanted.

Rows that ask nearly the same (MinHash, `data.datasets.duplicates`) or are of one conversation never stand on both sides of a share
that is held out. Not covered: reading the rows (`reading`).
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data.datasets.rows import Row
from data.datasets.split import VALIDATION, plan
from data.domains import Domain
from data.errors import InputError
from trainer._material.rows import asked, label_of


def by_source(rows: Sequence[Row]) -> tuple[list[Row], list[Row], int]:
    """The training and validation rows as their sources say, and how many test rows are left alone; nobody's own say: training."""
    train = [row for row in rows if row.split in ("", "train")]
    validation = [row for row in rows if row.split == "validation"]
    return train, validation, len(rows) - len(train) - len(validation)


def held_out(rows: Sequence[Row], fixed: Sequence[Row], share: float, seed: int, domain: Domain | None) -> list[Row]:
    """The rows that validate: about that share of each label's, the newest of those with a time; in their order.

    fixed: rows that train in any case; what resembles them is not held out. Raises InputError where datasketch is missing.
    """
    whole = [*rows, *fixed]
    found = plan(
        _clusters(whole, seed),
        [row.group for row in whole],
        [row.at for row in whole],
        [label_of(row, domain) for row in whole],
        [""] * len(rows) + ["train"] * len(fixed),
        (1 - share, share, 0.0),
        seed,
    )
    return [row for row, split in zip(rows, found.split[: len(rows)].tolist(), strict=True) if split == VALIDATION]


def apart(train: Sequence[Row], validation: Sequence[Row]) -> tuple[list[Row], int]:
    """The training rows that ask what no validation row asks, and how many asked the same."""
    taken = {asked(row) for row in validation}
    kept = [row for row in train if asked(row) not in taken]
    return kept, len(train) - len(kept)


def limited(rows: Sequence[Row], limit: int, domain: Domain | None) -> list[Row]:
    """At most so many rows, each label with its share and at least one; the same ones whatever their order, which is kept.

    More rows contain those of a smaller limit. Raises InputError where there are more labels than rows wanted.
    """
    if not limit or len(rows) <= limit:
        return list(rows)
    labels = [label_of(row, domain) if domain is not None and domain.labels else "" for row in rows]
    counts = Counter(labels)
    if len(counts) > limit:
        raise InputError(
            f"data.limit = {limit} is less than the {len(counts)} labels of the training rows", "every label needs a row at least"
        )
    marks = [hashlib.sha256(asked(row).encode("utf-8", "surrogatepass")).digest() for row in rows]
    order = sorted(range(len(rows)), key=lambda place: (marks[place], labels[place], place))
    seen: Counter[str] = Counter()
    turns = {}
    for place in order:
        label = labels[place]
        turns[place] = (seen[label] > 0, (seen[label] + 0.5) / counts[label], marks[place], place)
        seen[label] += 1
    chosen = set(sorted(order, key=lambda place: turns[place])[:limit])
    return [row for place, row in enumerate(rows) if place in chosen]


def _clusters(rows: Sequence[Row], seed: int) -> Sequence[int]:
    """For each row the number of its cluster of texts that are too alike."""
    from data.datasets.duplicates import Signatures

    with tempfile.TemporaryDirectory() as folder:
        try:
            signatures = Signatures(Path(folder), seed)
        except ImportError as error:
            raise InputError(
                f"holding rows out for validation needs {error.name or 'datasketch'}",
                'pip install "pointsman[data]", or name validation rows of your own in data.validation',
            ) from error
        for row in rows:
            signatures.add(row.text)
        found: Sequence[int] = signatures.finish().cluster.tolist()
    return found
