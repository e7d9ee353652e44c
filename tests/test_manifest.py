"""The manifest of a dataset: every change of a file, a count or a name is found."""

import json
from pathlib import Path

import pytest
from dataset_packs import write_rows

from data.datasets import manifest
from data.datasets.build import BuildOptions, build
from data.datasets.manifest import Counts, Manifest
from data.datasets.sources import open_source
from data.errors import InputError, NotFound


@pytest.fixture
def made(tmp_path: Path) -> Path:
    rows = [{"text": f"a text about {chr(97 + number) * 9} and {number * 7919}", "label": "x"} for number in range(20)]
    build([open_source(str(write_rows(tmp_path / "in" / "rows.jsonl", rows)))], None, tmp_path / "set", BuildOptions(redact=False))
    return tmp_path / "set"


def changed(folder: Path, **values) -> None:
    """Rewrite manifest.json with other values."""
    file = folder / manifest.FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_fresh_dataset_has_no_faults_and_a_digest_of_its_own(made: Path) -> None:
    seen = []
    assert manifest.check(made, lambda done, of: seen.append((done, of))) == []
    assert seen[-1][0] == seen[-1][1] == sum(file.stat().st_size for file in made.iterdir() if file.name != manifest.FILE)
    assert len(manifest.digest(made)) == 64


def test_the_file_is_the_models_bytes_with_sorted_keys_and_no_time(made: Path) -> None:
    read = manifest.read(made)
    content = (made / manifest.FILE).read_bytes()
    assert read.to_bytes() == content
    assert Manifest.model_validate_json(content) == read
    assert list(json.loads(content)) == sorted(json.loads(content))
    assert {note.name for note in read.files} == {file.name for file in made.iterdir()} - {manifest.FILE}


def test_one_flipped_bit_is_found(made: Path) -> None:
    file = made / "train.jsonl"
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.write_bytes(content)
    (fault,) = manifest.check(made)
    assert fault.startswith("train.jsonl: its SHA-256 is ")


def test_missing_changed_longer_and_foreign_files_are_found(made: Path) -> None:
    (made / "test.jsonl").unlink()
    (made / "card.html").write_text("short")
    with (made / "train.jsonl").open("a") as file:
        file.write("{}\n")
    (made / "extra\x1b.txt").write_text("?")
    (made / "validation.jsonl").rename(made / "v")
    (made / "validation.jsonl").symlink_to("v")
    faults = "\n".join(manifest.check(made))
    for said in (
        "test.jsonl: missing",
        "card.html: 5 bytes",
        "train.jsonl: 17 lines, 16",
        "extra␛.txt: not in",
        "validation.jsonl: missing",
        "v: not in",
    ):
        assert said in faults
    assert "\x1b" not in faults


def test_a_manifest_cannot_point_outside_its_folder(made: Path) -> None:
    notes = [{"name": "../../etc/passwd", "rows": 0, "bytes": 1, "sha256": "0" * 64}]
    changed(made, files=notes)
    assert "a path, not the name of a file" in manifest.check(made)[0]


def test_sums_that_do_not_add_up_are_found(made: Path) -> None:
    counts = json.loads((made / manifest.FILE).read_text())["counts"]
    changed(made, counts=counts | {"read": 21, "by_shape": {}, "lines": {"train": 1}})
    faults = "\n".join(manifest.check(made))
    assert "21 rows read, but 20 kept + 0 quarantined + 0 duplicates" in faults
    assert "the counts by shape make 0, not 20" in faults
    assert "train.jsonl: 1 lines are counted, and 16 listed" in faults
    assert (
        Counts(
            read=5, kept=3, quarantined=1, near_duplicates=1, by_filter={"x": 1}, by_split={"train": 3}, by_shape={"label": 3}
        ).faults()
        == []
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "manifest.json"),
        ("null", "manifest.json"),
        ("[" * 100_000, "not valid JSON"),
        ('{"name": "x", "version": 99}', "version 99"),
        ('{"name": "x", "surprise": 1}', "surprise"),
        ('{"name": "x", "counts": {"read": -1}}', "counts.read"),
        ('{"name": "x", "files": [{"name": "a", "rows": 0, "bytes": 0, "sha256": "zz"}]}', "sha256"),
    ],
)
def test_what_is_no_manifest_is_refused_in_words(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / manifest.FILE).write_text(content)
    with pytest.raises(InputError, match=words):
        manifest.check(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / manifest.FILE).write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(InputError, match="not valid JSON"):
        manifest.read(tmp_path)


def test_a_folder_without_a_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="data build"):
        manifest.digest(tmp_path)
