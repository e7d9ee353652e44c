"""Splits: nothing alike on both sides, no future in training, the shares for each label, and the same answer every time."""

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.datasets.split import TEST, TRAIN, VALIDATION, Plan, assign, plan
from data.errors import InputError

ROOT = Path(__file__).parent.parent


def planned(count: int, **given) -> Plan:
    values = {
        "clusters": np.arange(count),
        "groups": [""] * count,
        "at": np.zeros(count),
        "labels": ["a"] * count,
        "given": [""] * count,
    }
    return plan(**{**values, **given})


def test_shares_are_reached_for_every_label() -> None:
    labels = random.Random(1).choices(["fraud", "info", "reset"], weights=[1, 20, 4], k=5000)
    found = planned(5000, labels=labels)
    for label, count in Counter(labels).items():
        train, validation, test = found.labels[label]
        assert train + validation + test == count
        assert abs(validation - count * 0.1) <= 1 and abs(test - count * 0.1) <= 1
    assert found.units == 5000 and found.moved == found.completed == found.timed == 0


def test_other_shares_and_a_split_without_a_share() -> None:
    assert planned(100, shares=(0.5, 0.3, 0.2)).labels == {"a": (50, 30, 20)}
    assert planned(100, shares=(0.9, 0.1, 0.0)).labels == {"a": (90, 10, 0)}
    assert planned(100, shares=(1.0, 0.0, 0.0)).labels == {"a": (100, 0, 0)}


def test_rows_of_a_cluster_or_a_group_or_both_stay_together() -> None:
    rng = random.Random(2)
    clusters = [rng.randrange(200) for _ in range(1000)]
    groups = [rng.choice(["", f"conversation {rng.randrange(300)}"]) for _ in range(1000)]
    found = planned(1000, clusters=clusters, groups=groups, labels=rng.choices("ab", k=1000))
    for names in (clusters, [group or f"row {row}" for row, group in enumerate(groups)]):
        sides = {}
        for name, side in zip(names, found.split.tolist(), strict=True):
            assert sides.setdefault(name, side) == side
    assert found.units < 200


def test_groups_may_be_hashes_and_zero_is_none() -> None:
    groups = np.array([0, 0, 2**63 + 5, 2**63 + 5, 0, 7, 7], dtype=np.uint64)
    assert planned(7, groups=groups).units == 5


def test_one_large_cluster_does_not_spoil_the_shares_of_the_rest() -> None:
    clusters = np.where(np.arange(1000) < 400, 0, np.arange(1000))
    found = planned(1000, clusters=clusters)
    assert found.split[:400].tolist() == [TRAIN] * 400
    assert found.labels == {"a": (800, 100, 100)}


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, (2, 1, 0)), (4, (2, 1, 1)), (5, (3, 1, 1)), (10, (8, 1, 1))]
)
def test_a_small_class_has_a_row_in_validation_where_it_has_three(rows: int, expected: tuple[int, int, int]) -> None:
    found = planned(1000 + rows, labels=["common"] * 1000 + ["rare"] * rows)
    assert found.labels["rare"] == expected


def test_labels_that_are_all_different_are_no_classes() -> None:
    found = planned(100, labels=[f"answer {row}" for row in range(100)])
    assert np.bincount(found.split, minlength=3).tolist() == [80, 10, 10]


def test_the_newest_rows_test_and_the_ones_before_them_validate() -> None:
    at = np.array(random.Random(3).sample(range(1, 10_000), 200), dtype=float)
    found = planned(200, at=at)
    assert found.timed == 200
    assert np.bincount(found.split).tolist() == [160, 20, 20]
    assert at[found.split == TRAIN].max() < at[found.split == VALIDATION].min()
    assert at[found.split == VALIDATION].max() < at[found.split == TEST].min()


def test_a_conversation_is_as_new_as_its_newest_row() -> None:
    groups = ["old"] * 5 + ["new"] + ["middle"] * 4
    at = [1.0, 2, 3, 4, 100, 90, 5, 6, 7, 8]  # "old" went on after "new" began
    found = planned(10, groups=groups, at=at, shares=(0.4, 0.1, 0.5))
    assert found.split[:5].tolist() == [TEST] * 5
    assert found.split[5] == VALIDATION


def test_rows_without_a_time_are_spread_and_time_can_be_ignored() -> None:
    at = np.where(np.arange(200) < 100, np.arange(200) + 1.0, 0.0)
    found = planned(200, at=at)
    assert found.timed == 100
    assert np.bincount(found.split[100:]).tolist() == [80, 10, 10]
    assert planned(200, at=at, by_time=False).timed == 0


def test_times_that_are_no_times_count_as_unknown() -> None:
    assert planned(4, at=[float("nan"), float("inf"), -1.0, float("-inf")]).timed == 0


def test_given_splits_are_kept() -> None:
    given = ["train", "validation", "test"] * 30 + [""] * 10
    found = planned(100, given=given)
    assert found.split[:90].tolist() == [TRAIN, VALIDATION, TEST] * 30
    assert found.moved == 0


def test_a_cluster_that_would_stand_in_two_given_splits_goes_to_the_training_side() -> None:
    clusters = [0, 0, 2, 2, 4, 4, 6, 7, 8]
    given = ["train", "test", "validation", "test", "test", "", "train", "validation", "test"]
    found = planned(9, clusters=clusters, given=given)
    assert found.split.tolist() == [TRAIN, TRAIN, VALIDATION, VALIDATION, TEST, TEST, TRAIN, VALIDATION, TEST]
    assert found.moved == 2


def test_a_split_that_the_source_left_empty_is_taken_from_its_training_rows() -> None:
    found = planned(100, given=["train"] * 90 + ["test"] * 10)
    assert np.bincount(found.split).tolist() == [80, 10, 10]
    assert found.split[90:].tolist() == [TEST] * 10
    assert (found.completed, found.moved) == (10, 0)


def test_a_source_that_is_all_training_gets_both() -> None:
    found = planned(100, given=["train"] * 100)
    assert np.bincount(found.split).tolist() == [80, 10, 10]
    assert found.completed == 20


def test_a_source_that_is_all_test_stays_so() -> None:
    assert planned(5, given=["test"] * 5).split.tolist() == [TEST] * 5


def test_the_seed_changes_the_rows_and_not_the_sizes() -> None:
    one, other = planned(500, seed=1), planned(500, seed=2)
    assert not np.array_equal(one.split, other.split)
    assert np.array_equal(np.bincount(one.split), np.bincount(other.split))


def test_no_rows_make_no_splits() -> None:
    assert len(planned(0).split) == 0


def test_assign_is_the_split_of_the_plan() -> None:
    labels = ["a", "b"] * 20
    assert np.array_equal(assign(np.arange(40), [""] * 40, np.zeros(40), labels, [""] * 40), planned(40, labels=labels).split)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"given": ["train", "dev", ""]}, "unknown split 'dev'"),
        ({"labels": ["a"]}, "rows"),
        ({"shares": (0.8, 0.3, 0.1)}, "not three parts of 1"),
        ({"shares": (0.0, 0.5, 0.5)}, "a part for training"),
        ({"shares": (1.2, -0.1, -0.1)}, "not three parts of 1"),
    ],
)
def test_wrong_input_is_named(wrong: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        planned(3, **wrong)


def test_another_process_finds_the_same() -> None:
    code = (
        "import numpy as np; from data.datasets.split import plan\n"
        "n = 400; labels = ['a', 'b', 'c', 'd'] * 100\n"
        "p = plan(np.arange(n) // 3, [f'g{i % 90}' if i % 5 else '' for i in range(n)], np.zeros(n), labels, [''] * n, seed=9)\n"
        "print(p.split.tolist(), p.labels)"
    )
    said = [
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, cwd=ROOT, capture_output=True, check=True).stdout
        for seed in ("0", "999")
    ]
    assert said[0] == said[1] and said[0]


ROW = st.tuples(
    st.integers(0, 12), st.sampled_from(["", "", "g", "h"]), st.sampled_from([0.0, 0.0, 1.0, 5.0, 9.0]), st.sampled_from("abc"),
    st.sampled_from(["", "", "train", "validation", "test"]),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(ROW, max_size=40), st.integers(0, 2**70), st.booleans())
def test_whatever_the_rows_units_stay_whole_and_the_answer_comes_again(rows: list, seed: int, by_time: bool) -> None:
    clusters, groups, at, labels, given = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [], [])
    found = plan(clusters, groups, at, labels, given, seed=seed, by_time=by_time)
    assert np.array_equal(found.split, plan(clusters, groups, at, labels, given, seed=seed, by_time=by_time).split)
    assert set(found.split.tolist()) <= {TRAIN, VALIDATION, TEST}
    for names in (clusters, groups):
        for name in {name for name in names if name != ""}:
            assert len({side for other, side in zip(names, found.split.tolist(), strict=True) if other == name}) == 1
    assert sum(map(sum, found.labels.values())) == len(rows)
    assert found.moved + found.completed <= sum(1 for name in given if name)
