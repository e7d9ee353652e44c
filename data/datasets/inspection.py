"""What the log would train on, row by row: what each teaches, why one is left out, what is redacted in it.

As `pointsman data build --log` sees it: cleaned, redacted, judged by a domain. Not covered: duplicates
and splits, which depend on all rows together (data/datasets/build.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from data.datasets import excluded
from data.datasets.rows import Refused, Row
from data.datasets.sources import from_log
from data.errors import PointsmanError

if TYPE_CHECKING:
    from data.datasets.redact import Redactor
    from data.domains import Domain
    from data.store import Store

MOST = 5000
"""Rows looked at, the oldest first."""


@dataclass(frozen=True, slots=True)
class Item:
    """One row. row: cleaned and redacted, None where it is left out; why: the reason; by: what left it out; excerpt: how it begins.

    key: what keeps its answer out (`data.datasets.excluded`), "" where nothing does; redacted: kinds and how often.
    """

    number: int
    row: Row | None
    key: str = ""
    by: str = ""
    why: str = ""
    excerpt: str = ""
    kept_out: bool = False
    redacted: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Inspected:
    """The rows; note: what could not be looked at, "" for nothing."""

    items: tuple[Item, ...]
    note: str = ""


def inspect(store: "Store", domain: "Domain | None") -> Inspected:
    """The log's rows, in a domain or all. Raises StoreError and its children, InputError for a damaged list of exclusions."""
    source = from_log(store, domain.name if domain else "", whole=True)
    note = ""
    try:
        redactor: Redactor | None = _redactor()
    except ImportError as error:
        redactor, note = None, f"nothing is redacted here: {error.name or 'a package'} is missing; pip install 'pointsman[data]'"
    items = []
    out = excluded.keys()
    for number, found in enumerate(source.rows(), start=1):
        if number > MOST:
            note = f"the first {MOST:,} rows are shown"
            break
        items.append(_item(number, found, domain, redactor, out))
    return Inspected(tuple(items), note)


def _item(number: int, found: Row | Refused, domain: "Domain | None", redactor: "Redactor | None", out: frozenset[str]) -> Item:
    if isinstance(found, Refused):
        return Item(number, None, by=found.filter, why=found.reason, excerpt=found.excerpt)
    key = excluded.key(found)
    passed = _passed(found, domain)
    if isinstance(passed, Refused):
        return Item(number, None, key, passed.filter, passed.reason, passed.excerpt, key in out)
    counts: dict[str, int] = {}
    if redactor is not None:
        passed, findings = redactor.row(passed)
        for finding in findings:
            counts[finding.kind] = counts.get(finding.kind, 0) + 1
    return Item(number, passed, key, excerpt=passed.text, kept_out=key in out, redacted=tuple(sorted(counts.items())))


def _passed(row: Row, domain: "Domain | None") -> Row | Refused:
    from data.datasets._building.judging import Judge
    from data.datasets.clean import Cleaner

    cleaned = Cleaner().check(row)
    return cleaned if isinstance(cleaned, Refused) else Judge(domain).check(cleaned)


@cache
def _redactor() -> "Redactor":
    from data.datasets.redact import Redactor

    return Redactor()


def domains_of(store: "Store") -> Iterator[str]:
    """The domains in which something was answered, sorted; packs that cannot be read are left out."""
    from sqlalchemy import select

    from data import domains
    from data.store.tables import inference

    with store.database.read() as connection:
        found = set(connection.execute(select(inference.c.domain).distinct()).scalars())
    for name in sorted(found & set(domains.names())):
        try:
            domains.load(name)
        except PointsmanError:
            continue
        yield name
