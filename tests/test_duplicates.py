"""Exact and near duplicates: what counts as a copy, that nothing but rows, order and seed decides, and that memory stays flat."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.datasets import duplicates
from data.datasets.duplicates import Groups, Signatures, normalised, shingle_hashes, unite
from data.errors import InputError

ROOT = Path(__file__).parent.parent
SENTENCE = (
    "the parcel that was promised for monday morning has still not arrived and nobody at the depot answers the telephone although "
    "three different people have told me that the driver would ring before noon today"
)
OTHER = (
    "our garden club meets every second thursday in the old library where tea is served after the talk about roses and the pruning "
    "of fruit trees in late winter when frost no longer threatens the young buds"
)


def grouped(folder: Path, texts: list[str], seed: int = 0) -> Groups:
    signatures = Signatures(folder, seed)
    for text in texts:
        signatures.add(text)
    return signatures.finish()


def jaccard(one: str, other: str) -> float:
    left, right = ({*shingle_hashes(normalised(text)).tolist()} for text in (one, other))
    return len(left & right) / len(left | right)


def test_the_same_text_in_another_case_and_spacing_is_an_exact_copy_of_the_first(tmp_path: Path) -> None:
    found = grouped(tmp_path, [SENTENCE, OTHER, SENTENCE.upper().replace(" ", "\n  "), SENTENCE])
    assert found.duplicate_of.tolist() == [-1, -1, 0, 0]
    assert found.exact.tolist() == [False, False, True, True]
    assert found.cluster.tolist() == [0, 1, 0, 0]


def test_compatibility_forms_are_the_same_text(tmp_path: Path) -> None:
    found = grouped(tmp_path, ["the ﬁrst oﬃce in Zürich is open", "the first office in Zu\u0308rich is open"])
    assert found.exact.tolist() == [False, True]


def test_a_row_with_one_changed_word_is_a_near_copy_and_not_exact(tmp_path: Path) -> None:
    changed = SENTENCE.replace("monday", "friday")
    assert jaccard(SENTENCE, changed) > duplicates.DUPLICATE
    found = grouped(tmp_path, [OTHER, SENTENCE, changed])
    assert found.duplicate_of.tolist() == [-1, -1, 1]
    assert not found.exact.any()


def test_rows_that_are_alike_but_no_copies_are_kept_in_one_cluster(tmp_path: Path) -> None:
    alike = SENTENCE.replace("three different people have told me", "my neighbour swore to us")
    assert duplicates.RELATED + 0.05 < jaccard(SENTENCE, alike) < duplicates.DUPLICATE - 0.05
    found = grouped(tmp_path, [SENTENCE, OTHER, alike])
    assert found.duplicate_of.tolist() == [-1, -1, -1]
    assert found.cluster.tolist() == [0, 1, 0]


def test_a_copy_of_a_copy_stands_for_a_row_that_is_kept(tmp_path: Path) -> None:
    words = SENTENCE.split()
    chain = [" ".join(["word"] * count + words[count:]) for count in range(0, 20, 2)]
    found = grouped(tmp_path, [*chain, chain[3]])
    kept = found.duplicate_of == -1
    assert kept[0]
    assert kept[found.duplicate_of[~kept]].all()
    assert (found.duplicate_of < np.arange(len(chain) + 1)).all()
    assert len(set(found.cluster.tolist())) == 1


def test_short_and_empty_texts_are_compared_too(tmp_path: Path) -> None:
    found = grouped(tmp_path, ["", "ok", "no", "OK ", " ", "ok!"])
    assert found.duplicate_of.tolist() == [-1, -1, -1, 1, 0, -1]


def test_no_rows_make_no_groups(tmp_path: Path) -> None:
    found = grouped(tmp_path, [])
    assert len(found.duplicate_of) == len(found.exact) == len(found.cluster) == 0


def test_lone_surrogates_and_long_texts_do_not_stop_it(tmp_path: Path) -> None:
    found = grouped(tmp_path, ["\ud800 broken", "x" * 50_000, "\ud800 BROKEN"])
    assert found.duplicate_of.tolist() == [-1, -1, 0]


def test_signatures_are_those_of_datasketch(tmp_path: Path) -> None:
    from datasketch import MinHash

    hashes = shingle_hashes(normalised(SENTENCE))
    theirs = MinHash(num_perm=duplicates.PERMUTATIONS, seed=7, scheme="affine32", hashfunc=int)
    unmixed = np.frombuffer(normalised(SENTENCE).encode("utf-32-le"), dtype=np.uint32)
    rolled = [0] * (len(unmixed) - duplicates.SHINGLE + 1)
    for place in range(len(rolled)):
        for character in unmixed[place : place + duplicates.SHINGLE].tolist():
            rolled[place] = (rolled[place] * 0x01000193 + character) % 2**32
    theirs.update_batch(rolled)
    assert len(hashes) == len(rolled)
    assert np.array_equal(Signatures(tmp_path, 7)._signature(normalised(SENTENCE)), theirs.hashvalues)


def test_estimates_find_nearly_all_pairs_and_no_strangers(tmp_path: Path) -> None:
    rng = random.Random(5)
    vocabulary = ["".join(rng.choices("etaoinshrdlucmf", k=rng.randint(2, 9))) for _ in range(3000)]
    texts, pairs = [], []
    for _ in range(400):
        words = rng.choices(vocabulary, k=100)
        other = list(words)
        for place in rng.sample(range(100), rng.choice((2, 4, 8, 12, 40))):
            other[place] = rng.choice(vocabulary)
        texts += [" ".join(words), " ".join(other)]
        pairs.append(jaccard(texts[-2], texts[-1]))
    found = grouped(tmp_path, texts)
    together = found.cluster[::2] == found.cluster[1::2]
    copies = found.duplicate_of[1::2] >= 0
    alike = np.array(pairs)
    assert copies[alike >= duplicates.DUPLICATE + 0.08].all()
    assert not copies[alike <= duplicates.DUPLICATE - 0.1].any()
    assert together[alike >= duplicates.RELATED + 0.15].all()
    assert not together[alike <= duplicates.RELATED - 0.15].any()
    assert len(set(found.cluster[::2].tolist())) == 400


def test_a_bucket_full_of_variants_of_templates_is_sorted_out(tmp_path: Path) -> None:
    rng = random.Random(3)
    templates = [" ".join(rng.choices(SENTENCE.split() + OTHER.split(), k=40)) + f" template {number}" for number in range(6)]
    found = grouped(tmp_path, [f"{templates[row % 6]} {row // 6:03d}" for row in range(600)])
    assert (found.duplicate_of == -1).sum() == 6
    assert len(set(found.cluster.tolist())) == 6


def test_the_seed_chooses_the_permutations_and_another_process_finds_the_same(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from data.datasets.duplicates import Signatures\n"
        "signatures = Signatures(Path(sys.argv[1]), 11)\n"
        "for number in range(300): signatures.add(f'row {number % 50} says something about number {number // 7} of the list')\n"
        "groups = signatures.finish(); print(groups.duplicate_of.tolist(), groups.exact.tolist(), groups.cluster.tolist())"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / seed)],
            env={"PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "12345")
    ]
    assert said[0] == said[1] and b"[-1" in said[0]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text("ab cdé\n", max_size=30), max_size=30), st.integers(0, 2**40))
def test_whatever_the_rows_the_groups_are_sound_and_come_again(tmp_path: Path, texts: list[str], seed: int) -> None:
    found, again = grouped(tmp_path, texts, seed), grouped(tmp_path, texts, seed)
    for one, other in zip(
        (found.duplicate_of, found.exact, found.cluster), (again.duplicate_of, again.exact, again.cluster), strict=True
    ):
        assert np.array_equal(one, other)
    plain = [normalised(text) for text in texts]
    for row, (kept, exact, cluster) in enumerate(zip(found.duplicate_of, found.exact, found.cluster, strict=True)):
        assert exact == (plain[row] in plain[:row])
        assert not exact or kept >= 0
        assert kept < 0 or (kept < row and found.duplicate_of[kept] == -1 and found.cluster[kept] == cluster)
        assert cluster <= row and found.cluster[cluster] == cluster


def test_progress_is_told_to_the_end_and_the_files_are_gone(tmp_path: Path) -> None:
    signatures = Signatures(tmp_path / "work", 0)
    for number in range(5):
        signatures.add(f"{SENTENCE} {number}")
    told: list[tuple[int, int]] = []
    signatures.finish(lambda done, of: told.append((done, of)))
    assert told[-1] == (duplicates.BANDS, duplicates.BANDS)
    assert list((tmp_path / "work").iterdir()) == []
    with pytest.raises(InputError, match="already"):
        signatures.finish()


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "digests.bin").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        Signatures(tmp_path, 0)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from data.datasets.duplicates import Signatures\n"
        "signatures = Signatures(Path(sys.argv[1]), 0)\n"
        "def rss(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for number in range(2048): signatures.add(f'{number} ' + 'word %d ' % (number % 97) * 12)\n"
        "before = rss()\n"
        "for number in range(18_000): signatures.add(f'{number * 7919 % 100003} said {number % 13} ' * 6)\n"
        "signatures.finish(); print((rss() - before) // 1024)"
    )
    grown = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, check=True).stdout
    assert int(grown) < 60  # MB for 20,000 rows, of which 13 MB are the files of the last step; measured: 20


def test_joining_pairs_gives_each_cluster_its_smallest_member() -> None:
    cluster = np.arange(8)
    unite(cluster, np.array([5, 2, 7]), np.array([6, 5, 3]))
    assert cluster.tolist() == [0, 1, 2, 3, 4, 2, 2, 3]
    unite(cluster, np.array([6]), np.array([7]))
    assert cluster.tolist() == [0, 1, 2, 2, 4, 2, 2, 2]
