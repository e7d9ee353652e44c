"""The second pass of a build: which rows contradict each other, which are duplicates, and which split each kept row goes to.

    contradiction   the same question has two answers (labels, outputs, thumbs): the answer that most rows give stays, the others
                    are refused; where no answer has most rows, all are
    duplicate       an exact or near copy of an earlier row with the same answer; a near copy with another answer is kept, in the
                    same split: such pairs teach where the border is
    splits          rows of one cluster, one group or one question stay together

Not covered: how similarity is measured (`duplicates`), and the shares (`split`).
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data.datasets._building.facts import SPLITS, Facts

if TYPE_CHECKING:
    from data.datasets.duplicates import Groups

KEPT, EXACT, NEAR, CONTRADICTS = range(4)


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of each row, shape (rows,). state: one of the four above; other: the row that a duplicate copies or a refused
    one contradicts, -1 for kept ones; split: 0 train, 1 validation, 2 test, -1 for rows that are not kept. moved: kept rows that
    could not stay in the split which their source gave them; completed: its training rows that were taken for a split without any.
    """

    state: NDArray[np.int8]
    other: NDArray[np.int64]
    split: NDArray[np.int8]
    moved: int
    completed: int


def decide(facts: Facts, groups: "Groups", shares: tuple[float, float, float], seed: int) -> Fate:
    """The fate of every row; a pure function of its arguments. Raises InputError where the shares are wrong."""
    from data.datasets import split
    from data.datasets.duplicates import unite

    count = len(facts)
    state = np.zeros(count, dtype=np.int8)
    other = np.full(count, -1, dtype=np.int64)
    _contradictions(facts, state, other)
    _copies(facts, groups, state, other)
    kept = np.flatnonzero(state == KEPT)
    cluster = groups.cluster.astype(np.int64).copy()
    first, rows = _equal_prompts(np.frombuffer(facts.prompt, dtype=np.uint64) if count else np.empty(0, dtype=np.uint64))
    unite(cluster, first, rows)
    labels = facts.labels.all()
    plan = split.plan(
        cluster[kept],
        np.frombuffer(facts.group, dtype=np.uint64)[kept] if count else np.empty(0, dtype=np.uint64),
        np.frombuffer(facts.at, dtype=np.float64)[kept] if count else np.empty(0),
        [labels[facts.label[row]] for row in kept],
        [SPLITS[facts.given[row]] for row in kept],
        shares=shares,
        seed=seed,
    )
    placed = np.full(count, -1, dtype=np.int8)
    placed[kept] = plan.split
    return Fate(state, other, placed, plan.moved, plan.completed)


def _contradictions(facts: Facts, state: NDArray[np.int8], other: NDArray[np.int64]) -> None:
    """Refuse rows whose question has another answer that more rows, or as many, give."""
    if not len(facts):
        return
    key = np.frombuffer(facts.key, dtype=np.uint64)
    value = np.frombuffer(facts.value, dtype=np.uint64)
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], key[order][1:] != key[order][:-1]]))
    lowest = np.minimum.reduceat(value[order], starts)
    highest = np.maximum.reduceat(value[order], starts)
    ends = np.append(starts[1:], len(order))
    for place in np.flatnonzero(lowest != highest):
        rows = order[starts[place] : ends[place]]
        if key[rows[0]] == 0:
            continue
        ranked = Counter(value[rows].tolist()).most_common()
        winner = ranked[0][0] if ranked[0][1] > ranked[1][1] else None
        for row in rows:
            if value[row] != winner:
                against = rows[value[rows] != value[row]] if winner is None else rows[value[rows] == winner]
                state[row], other[row] = CONTRADICTS, against[0]


def _copies(facts: Facts, groups: "Groups", state: NDArray[np.int8], other: NDArray[np.int64]) -> None:
    """Of rows that are copies of one row, keep the first of each answer that was not refused."""
    count = len(facts)
    stands_for = np.where(groups.duplicate_of >= 0, groups.duplicate_of, np.arange(count))
    copied = np.bincount(stands_for, minlength=count) > 1 if count else np.empty(0, dtype=bool)
    kept: dict[tuple[int, int], int] = {}
    for row in np.flatnonzero(copied[stands_for] & (state == KEPT)) if count else ():
        first = kept.setdefault((int(stands_for[row]), facts.value[row]), int(row))
        if first != row:
            same = facts.prompt[first] == facts.prompt[row]
            state[row], other[row] = (EXACT if groups.exact[row] and same else NEAR), first


def _equal_prompts(prompt: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (first row, later row) of rows that ask the same."""
    order = np.argsort(prompt, kind="stable")
    same = np.flatnonzero(prompt[order][1:] == prompt[order][:-1]) + 1
    starts = (
        np.concatenate([[0], np.flatnonzero(prompt[order][1:] != prompt[order][:-1]) + 1])
        if len(order)
        else np.empty(0, dtype=np.int64)
    )
    first = order[starts[np.searchsorted(starts, same, side="right") - 1]] if len(same) else np.empty(0, dtype=np.int64)
    return first.astype(np.int64), order[same].astype(np.int64)
