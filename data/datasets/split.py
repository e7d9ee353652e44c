"""Which rows train, which choose, which test: splits that share no cluster, no conversation or document, and no future.

Rows of one cluster of near duplicates or one group are one unit and stay together. Within units the order is: what the source
gave, then time, then the shares for each label. Everything is a pure function of the arguments; chance comes from a hash of the
seed and the position of the unit's first row. Not covered: which rows are too alike (`duplicates`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.datasets.duplicates import unite
from data.errors import InputError

TRAIN: Final = 0
VALIDATION: Final = 1
TEST: Final = 2
NAMES: Final = ("train", "validation", "test")
SMALL: Final = 3
"""Rows (or timed units) from which a label gets one in validation; one more, and it gets one in test."""
_Shares = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """The split of every row, shape (rows,), and what had to be done for it.

    units: sets of rows that stay together. moved: rows that the source put into another split than they got because their unit
    would have stood in two. completed: rows taken from the given training rows for a split that the source left empty.
    timed: rows placed by time. labels: for each label its rows in train, validation and test.
    """

    split: NDArray[np.int8]
    units: int = 0
    moved: int = 0
    completed: int = 0
    timed: int = 0
    labels: dict[str, tuple[int, int, int]] = field(default_factory=dict)


def assign(
    clusters: ArrayLike,
    groups: Sequence[str] | NDArray[Any],
    at: ArrayLike,
    labels: Sequence[str],
    given: Sequence[str],
    shares: _Shares = (0.8, 0.1, 0.1),
    seed: int = 0,
    by_time: bool = True,
) -> NDArray[np.int8]:
    """The split of every row (0 train, 1 validation, 2 test); see `plan`."""
    return plan(clusters, groups, at, labels, given, shares, seed, by_time).split


def plan(
    clusters: ArrayLike,
    groups: Sequence[str] | NDArray[Any],
    at: ArrayLike,
    labels: Sequence[str],
    given: Sequence[str],
    shares: _Shares = (0.8, 0.1, 0.1),
    seed: int = 0,
    by_time: bool = True,
) -> Plan:
    """Split rows by unit, in the parts `shares` (train, validation, test), as nearly as the units allow.

    clusters: integers; groups: names or hashes, "" or 0 for none; at: seconds since 1970, 0 unknown; labels: "" for none;
    given: "train", "validation", "test" or "". All have one entry a row. A unit whose rows were given to two splits goes to the
    one nearer to training. Where every row is given and a split has none, it is taken from the rows given to training. With
    `by_time` the units with a time are ordered by their newest row: the newest test, those before them validate, whatever
    their label. The others are spread so that each label has its shares; a label of SMALL rows or more is in validation.
    Raises InputError where the lengths differ, a given split is unknown, or the shares are not three parts of 1.
    """
    rows = len(labels)
    _check(shares, (len(np.asarray(clusters)), len(groups), len(np.asarray(at)), rows, len(given)))
    unit, count = _units(np.asarray(clusters, dtype=np.int64), _numbers(groups))
    wanted = _codes(given)
    placed = _placed(unit, wanted, count)
    moved = int(((wanted >= 0) & (placed[unit] != wanted)).sum())
    free = placed < 0
    if not free.any() and rows:
        free, shares = _completion(placed, unit, shares)
    before = placed.copy()
    newest = np.zeros(count)
    np.maximum.at(newest, unit, np.nan_to_num(np.asarray(at, dtype=np.float64), posinf=0.0, neginf=0.0))
    timed = free & (newest > 0) & by_time
    placed[timed] = _by_time(newest[timed], np.bincount(unit, minlength=count)[timed], shares)
    _stratify(placed, free & ~timed, unit, labels, shares, seed)
    split = placed[unit]
    completed = int(((before[unit] >= 0) & (split != before[unit])).sum())
    return Plan(split, count, moved, completed, int(timed[unit].sum()), _tally(labels, split))


def _check(shares: _Shares, lengths: tuple[int, ...]) -> None:
    if len(set(lengths)) > 1:
        raise InputError(f"clusters, groups, times, labels and given splits have {lengths} rows", "give one entry a row")
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or shares[TRAIN] == 0:
        raise InputError(f"shares {shares} are not three parts of 1 with a part for training", "for instance 0.8, 0.1, 0.1")


def _codes(given: Sequence[str]) -> NDArray[np.int8]:
    known = {"": -1, **{name: code for code, name in enumerate(NAMES)}}
    try:
        return np.fromiter((known[name] for name in given), dtype=np.int8, count=len(given))
    except KeyError as error:
        raise InputError(f"unknown split {error.args[0]!r}", f"one of {', '.join(NAMES)}") from error


def _numbers(groups: Sequence[str] | NDArray[Any]) -> NDArray[np.int64]:
    """A number for each row's group, 0 for none."""
    if isinstance(groups, np.ndarray) and groups.dtype.kind in "iu":
        return groups.view(np.int64) if groups.dtype.itemsize == 8 else groups.astype(np.int64)
    known: dict[str, int] = {"": 0}
    return np.fromiter((known.setdefault(name, len(known)) for name in groups), dtype=np.int64, count=len(groups))


def _units(clusters: NDArray[np.int64], groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """The unit of every row, numbered in the order of their first rows, and how many there are."""
    root = _first_of(clusters)
    grouped = np.flatnonzero(groups)
    unite(root, grouped[_first_of(groups[grouped])], grouped)
    found, unit = np.unique(root, return_inverse=True)
    return unit.astype(np.int64), len(found)


def _first_of(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each place the first place with the same value."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def _placed(unit: NDArray[np.int64], wanted: NDArray[np.int8], count: int) -> NDArray[np.int8]:
    """For each unit the given split nearest to training, or -1."""
    none = len(NAMES)
    placed = np.full(count, none, dtype=np.int8)
    np.minimum.at(placed, unit, np.where(wanted < 0, none, wanted).astype(np.int8))
    placed[placed == none] = -1
    return placed


def _completion(placed: NDArray[np.int8], unit: NDArray[np.int64], shares: _Shares) -> tuple[NDArray[np.bool_], _Shares]:
    """The units given to training where a split has no row, and the shares of them that fill it; else none."""
    rows = np.bincount(placed[unit], minlength=len(NAMES))
    lacking = [share if code != TRAIN and not rows[code] else 0.0 for code, share in enumerate(shares)]
    if not any(lacking) or not rows[TRAIN]:
        return np.zeros(len(placed), dtype=bool), shares
    validation, test = (min(part * len(unit) / rows[TRAIN], part / (part + shares[TRAIN])) for part in lacking[1:])
    return placed == TRAIN, (1 - validation - test, validation, test)


def _by_time(newest: NDArray[np.float64], sizes: NDArray[np.int64], shares: _Shares) -> NDArray[np.int8]:
    """The splits of units by their newest row: the last ones test, those before them validation."""
    order = np.lexsort((np.arange(len(newest)), newest))[::-1]
    middle = np.cumsum(sizes[order]) - sizes[order] / 2  # a unit falls to the side that holds most of it
    total = sizes.sum()
    test = int((middle <= shares[TEST] * total).sum())
    validation = int((middle <= (shares[TEST] + shares[VALIDATION]) * total).sum()) - test
    test = max(test, int(len(order) > SMALL and shares[TEST] > 0))
    validation = max(validation, int(len(order) >= SMALL and shares[VALIDATION] > 0))
    split = np.zeros(len(order), dtype=np.int8)
    split[order[:test]] = TEST
    split[order[test : test + validation]] = VALIDATION
    return split


def _stratify(
    placed: NDArray[np.int8], free: NDArray[np.bool_], unit: NDArray[np.int64], labels: Sequence[str], shares: _Shares, seed: int
) -> None:
    """Place the free units so that each label comes near to its shares: rare labels first, large units first.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011): each unit goes where its rarest label lacks most.
    """
    rows = np.flatnonzero(free[unit])
    rows = rows[np.argsort(unit[rows], kind="stable")]
    names, counts = _classes([labels[row] for row in rows.tolist()])
    lacking = _quotas(counts, shares)
    overall = [sum(part) for part in zip(*lacking, strict=True)] or [0, 0, 0]
    numbers, starts = np.unique(unit[rows], return_index=True)
    ends = np.append(starts[1:], len(rows))
    rarity = np.argsort(np.argsort(counts, kind="stable"), kind="stable")
    rarest = np.minimum.reduceat(rarity[names], starts) if len(rows) else np.empty(0, dtype=np.int64)
    order = np.lexsort((numbers, _mixed(numbers, seed), starts - ends, rarest))
    label_of = np.argsort(counts, kind="stable")
    code, first, last = names.tolist(), starts.tolist(), ends.tolist()
    for place in order.tolist():
        wants = lacking[label_of[rarest[place]]]
        split = max(range(len(NAMES)), key=lambda part: (wants[part], overall[part], -part))
        placed[numbers[place]] = split
        for name in code[first[place] : last[place]]:
            lacking[name][split] -= 1
            overall[split] -= 1


def _classes(labels: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The class of each row and the rows of each class. Where most labels stand on fewer than SMALL rows they are no classes:
    all such rows are one."""
    known: dict[str, int] = {}
    found = np.fromiter((known.setdefault(label, len(known)) for label in labels), dtype=np.int64, count=len(labels))
    counts = np.bincount(found, minlength=len(known))
    rare = counts < SMALL
    if counts[rare].sum() * 2 > len(labels) and len(labels) >= SMALL:
        found = np.unique(np.where(rare[found], -1, found), return_inverse=True)[1].astype(np.int64)
        counts = np.bincount(found)
    return found, counts


def _quotas(counts: NDArray[np.int64], shares: _Shares) -> list[list[int]]:
    """For each class the rows that each split shall have; what cannot be divided goes where the whole lacks most."""
    quotas = []
    lack = [0.0, 0.0, 0.0]
    for count in counts.tolist():
        least = (0, int(count >= SMALL and shares[VALIDATION] > 0), int(count > SMALL and shares[TEST] > 0))
        quota = [max(int(share * count + 1e-9), at_least) for share, at_least in zip(shares, least, strict=True)]
        quota[TRAIN] = min(quota[TRAIN], count - quota[VALIDATION] - quota[TEST]) if count >= SMALL else count
        lack = [had + share * count - has for had, share, has in zip(lack, shares, quota, strict=True)]
        for _ in range(count - sum(quota)):
            part = max(range(len(NAMES)), key=lambda part: (lack[part], -part))
            quota[part] += 1
            lack[part] -= 1
        quotas.append(quota)
    return quotas


def _mixed(numbers: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """A number that looks random for each, by seed: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    start = (seed * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) % 2**64
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _tally(labels: Sequence[str], split: NDArray[np.int8]) -> dict[str, tuple[int, int, int]]:
    found: dict[str, list[int]] = {}
    for label, part in zip(labels, split.tolist(), strict=True):
        found.setdefault(label, [0, 0, 0])[part] += 1
    return {label: (parts[TRAIN], parts[VALIDATION], parts[TEST]) for label, parts in sorted(found.items())}
