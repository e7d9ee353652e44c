"""What the user said about answers of a domain, as rows that it can learn from: a source for `data.datasets.build`.

Over `data.datasets.sources.from_log`, which leaves out what may not train:

    a label or JSON of the domain    is read out of an answer however it was written, and put into the domain's own layout
    thumb and correction             of one answer are one lesson, the correction
    one conversation                 gives a fifth of the rows at most: one long talk shall not outweigh all others
Not covered: redaction, duplicates, splits (the build).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from data.datasets.rows import Refused, Row
from data.datasets.sources import Progress, Source, silent
from data.domains import Domain
from data.sanitise import one_line
from tui.learn.layout import Layout

SHARE = 0.2
"""Of all rows that one conversation gives at most."""
LEAST = 5
"""Rows that one conversation may give whatever their share."""
FILTER = "learn"
EXCERPT_CHARACTERS = 120


@dataclass(frozen=True)
class Said:
    """The rows of a source for one domain (None: any). Read once: what is said meanwhile is for the next learn."""

    inner: Source
    domain: Domain | None
    name: str = "log"
    licence: str = ""

    def rows(self, progress: Progress = silent) -> Iterator[Row | Refused]:
        """See Source.rows."""
        progress(0, len(self.read))
        yield from self.read
        progress(len(self.read), len(self.read))

    def digest(self) -> str:
        """sha256 of the rows as JSON lines."""
        sha256 = hashlib.sha256()
        for one in self.read:
            sha256.update(json.dumps(one.to_dict(), ensure_ascii=True, sort_keys=True).encode() + b"\n")
        return sha256.hexdigest()

    @property
    def usable(self) -> tuple[Row, ...]:
        """The rows that were not refused."""
        return tuple(one for one in self.read if isinstance(one, Row))

    @cached_property
    def read(self) -> tuple[Row | Refused, ...]:
        """Every row with what became of it, in the order of the log."""
        layout = Layout(self.domain)
        fitted = [one if isinstance(one, Refused) else _fitted(one, layout) for one in self.inner.rows()]
        return tuple(_capped(_one_lesson(fitted)))


def key(row: Row) -> str:
    """16 hex digits by which a row is known again: of its question and what was said about it."""
    said = json.dumps([row.group, row.shape, row.text, row.completion, row.rejected, row.thumb], ensure_ascii=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _fitted(row: Row, layout: Layout) -> Row | Refused:
    """The row in the domain's own layout, or why it teaches nothing there."""
    domain = layout.domain
    if domain is None:
        return row
    row = replace(row, before=tuple(one for one in row.before if one.role != "system"))  # the domain's own stands there
    if row.thumb is False:
        return replace(row, completion=layout.text(layout.meaning(row.completion)) or row.completion) if layout.closed else row
    if not layout.closed:
        said, reason = layout.expressed(row)
        return row if said else _refused(row, f"it cannot be expressed in {domain.name}: {reason}")
    meaning = layout.meaning(row.completion)
    if not meaning:
        what = "a label" if domain.labels else "JSON"
        return _refused(row, f"{what} of {domain.name} cannot be read out of its answer")
    made, reason = layout.row(row, meaning)
    if made is None:
        return _refused(row, f"it cannot be expressed in {domain.name}: {reason}")
    rejected = layout.text(layout.meaning(row.rejected)) or row.rejected
    return replace(made, rejected="" if rejected == made.completion else rejected)


def _one_lesson(rows: Sequence[Row | Refused]) -> Iterator[Row | Refused]:
    """Without the thumbs of answers that were corrected as well."""
    corrected = {(one.group, one.text, one.at) for one in rows if isinstance(one, Row) and one.shape == "correction"}
    for one in rows:
        if isinstance(one, Row) and one.thumb is not None and (one.group, one.text, one.at) in corrected:
            yield _refused(one, "the correction of the same answer says more than its thumb")
        else:
            yield one


def _capped(given: Iterator[Row | Refused]) -> Iterator[Row | Refused]:
    """With at most a share of the rows from one conversation, the newest of it."""
    rows = list(given)
    usable = [one for one in rows if isinstance(one, Row)]
    most = max(LEAST, int(SHARE * len(usable)))
    left = Counter(one.group for one in usable)
    for one in rows:
        if isinstance(one, Row) and one.group and left[one.group] > most:
            left[one.group] -= 1
            yield _refused(one, f"its conversation gives more than {SHARE:.0%} of all rows")
        else:
            yield one


def _refused(row: Row, reason: str) -> Refused:
    return Refused(row.origin, FILTER, reason, one_line(row.text, EXCERPT_CHARACTERS))
