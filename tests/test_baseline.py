"""The baselines: chosen by cross-validation, as strong as they can be, blind to the rows they are tested on."""

import itertools
from pathlib import Path

import feedback_pack
import numpy as np
import pytest
import routing_data

from data.errors import InputError, ModelMissing
from trainer import baseline
from trainer.baseline import Chosen, best, folds, majority, minilm, tfidf, whole_grams
from trainer.comparison import compare
from trainer.figures import figures

ROWS = routing_data.labelled().train
CLASSES = tuple(sorted({label for _, label in ROWS}))
TEXTS = [text for text, _ in ROWS]
LABELS = np.array([CLASSES.index(label) for _, label in ROWS])


def letters(texts) -> np.ndarray:
    """A sentence encoder that counts letter pairs, each vector of length 1."""
    found = np.zeros((len(texts), 64), np.float32)
    for row, text in enumerate(texts):
        for pair in itertools.pairwise(text):
            found[row, (ord(pair[0]) * 31 + ord(pair[1])) % 64] += 1
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def test_majority_says_the_most_frequent_class_with_its_share() -> None:
    made = majority(np.array([1, 1, 0, 1]), ("a", "b", "c"))
    shares = made.probabilities(["x", "y"])
    assert shares.argmax(axis=1).tolist() == [1, 1]
    assert shares[0].tolist() == pytest.approx([0.25, 0.75, 0.0])


@pytest.mark.parametrize("name", ["tfidf", "minilm"])
def test_a_fitted_baseline_beats_the_majority_on_rows_it_has_not_seen(name: str) -> None:
    inside, outside = next(folds(LABELS))
    train, test = [TEXTS[at] for at in inside], [TEXTS[at] for at in outside]
    made = tfidf(train, LABELS[inside], CLASSES) if name == "tfidf" else minilm(train, LABELS[inside], CLASSES, letters)
    shares = made.probabilities(test)
    found = figures(CLASSES, LABELS[outside], shares.argmax(axis=1), shares)
    rest = majority(LABELS[inside], CLASSES).probabilities(test)
    assert found.accuracy > 0.6 > 3 * (rest.argmax(axis=1) == LABELS[outside]).mean()
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert made.chosen is not None and made.chosen.temperature > 0


def test_folds_share_no_row_and_no_group_and_spread_every_class() -> None:
    groups = np.arange(len(LABELS)) // 3
    labels = np.repeat(np.array([0, 1, 0, 1, 2]), 30)
    groups = np.arange(len(labels)) // 3
    seen = []
    for inside, outside in folds(labels, groups):
        assert not set(inside) & set(outside)
        assert not set(groups[inside]) & set(groups[outside])
        assert set(labels[outside]) == {0, 1, 2} == set(labels[inside])
        seen.extend(outside)
    assert sorted(seen) == list(range(len(labels)))


def test_folds_are_the_same_every_time_and_others_for_another_seed() -> None:
    first, again, other = ([part[1].tolist() for part in folds(LABELS, seed=seed)] for seed in (0, 0, 1))
    assert first == again != other


def test_of_very_many_rows_a_part_is_tried() -> None:
    labels = np.arange(30_000) % 3
    ((inside, outside),) = folds(labels)
    assert (len(inside), len(outside)) == (baseline.TRIED, baseline.HELD)
    assert not set(inside) & set(outside)


def test_a_class_with_a_single_row_is_trained_on_and_never_held_out() -> None:
    labels = np.array([0] * 10 + [1] * 10 + [2])
    assert all(20 not in outside for _, outside in folds(labels))
    made = tfidf([f"word{at} text" for at in range(21)], labels, ("a", "b", "c"))
    assert made.probabilities(["anything"]).shape == (1, 3)


def test_class_weights_are_tried_and_raise_the_recall_of_a_rare_class() -> None:
    source = np.random.default_rng(0)
    labels = np.array([0] * 380 + [1] * 20)
    vectors = source.normal(size=(400, 8)).astype(np.float32) + labels[:, None].astype(np.float32)
    tried = baseline.trials_minilm(vectors, labels, 2)
    assert {one.balanced for one in tried} == {True, False}
    plain, even = (max(one.macro_f1 for one in tried if one.balanced is how) for how in (False, True))
    heads = [baseline.fit_minilm(vectors, labels, ("a", "b"), Chosen(0.001, how, 0, 0, 1.0), letters) for how in (False, True)]
    recalls = [float((one.head.dense((vectors - one.mean) / one.scale).argmax(axis=1)[labels == 1] == 1).mean()) for one in heads]
    assert recalls[1] > recalls[0]
    assert best(tried, "macro_f1").macro_f1 == max(plain, even)


def test_of_equal_settings_the_more_regularised_one_is_chosen() -> None:
    tried = (Chosen(25.0, False, 0.9, 0.8, 1.0), Chosen(1.0, False, 0.9, 0.8, 1.0), Chosen(5.0, True, 0.8, 0.8, 1.0))
    assert best(tried, "macro_f1").c == best(tried, "accuracy").c == 1.0


def test_the_middle_of_a_long_text_counts() -> None:
    long = " ".join(["filler"] * 100 + ["xylophone"] + ["filler"] * 100)
    short = whole_grams("xylophone")
    assert set(short.hashes[: short.words]) <= set(whole_grams(long).hashes)
    assert len(whole_grams("").hashes) == 0
    assert len(whole_grams("\x00 ‮\n").hashes) == 0


def test_two_rows_or_one_class_teach_nothing() -> None:
    with pytest.raises(ValueError, match="teach nothing"):
        tfidf(["a", "b"], np.array([0, 0]), ("x", "y"))
    few = tfidf(["red apple", "blue sky"], np.array([0, 1]), ("x", "y"))
    assert few.probabilities(["red apple", "blue sky"]).argmax(axis=1).tolist() == [0, 1]


def test_a_text_is_embedded_once_however_often_it_comes() -> None:
    asked: list[str] = []

    def embed(texts):
        asked.extend(texts)
        return letters(texts)

    found = baseline.embedded(["b", "aa", "b"], embed)
    assert sorted(asked) == ["aa", "b"]
    assert (found[0] == found[2]).all() and found.shape == (3, 64)


def test_a_comparison_misses_labels_it_never_saw_and_goes_on_without_an_encoder(tmp_path: Path) -> None:
    pack = feedback_pack.pack(tmp_path)
    train = [one for one in pack.examples if one.split == "train" and one.label != "praise"]
    test = [one for one in pack.examples if one.split == "validation"]

    def absent(texts):
        raise ModelMissing("the encoder is not there", "prepare it")

    found = compare(pack, train, test, absent)
    assert [one.name for one in found.baselines] == ["majority", "tfidf"]
    assert found.train == 24 and "the encoder is not there" in found.notes[0]
    recall = found.baselines[1].to_dict()["recall"]
    assert recall["bug"] == recall["idea"] == 1.0 and recall["praise"] == 0.0


def test_a_comparison_never_trains_on_rows_it_is_measured_on(tmp_path: Path) -> None:
    pack = feedback_pack.pack(tmp_path)
    found = compare(pack, pack.examples, [one for one in pack.examples if one.split == "validation"], letters)
    assert found.train == 36 and "24 training rows are test rows too" in found.notes[0]
    assert found.baselines[-1].name == "minilm" and found.baselines[-1].chosen is not None
    with pytest.raises(InputError, match="fewer than two labels"):
        compare(pack, pack.examples[:5], pack.examples[30:], None)
