"""The rows of a run: where they come from, which validate, and what is refused before anything long begins."""

import json
import sys
from collections import Counter
from pathlib import Path

import packs
import pytest
from dataset_packs import write_rows
from store_support import again, ask

from data.datasets.build import BuildOptions, build
from data.datasets.rows import Origin, Row
from data.datasets.sources import open_source
from data.domains import Domain
from data.errors import InputError, NotFound
from data.store import Store
from trainer import material
from trainer.recipe import Recipe, validated

WORDS = "card account transfer cheque branch pension mortgage statement deposit currency".split()
DEEDS = "vanished doubled froze expired bounced stalled".split()


def recipe(train: list[Path | str] | None = None, stages: list[dict] | None = None, domain: str = "desk", **data) -> Recipe:
    table = {"train": [str(one) for one in train or ()], **data}
    return validated({"name": "test", "domain": domain, "data": table, "stages": stages or [{"kind": "sft"}]}, "test")


def told(count: int = 60) -> list[dict]:
    """Different texts with the labels of the pack, the first label most often."""
    labels = ["FRAUD", "FRAUD", "RESET", "INFO"]
    pairs = [(word, deed) for word in WORDS for deed in DEEDS]
    return [
        {"text": f"{at} {pairs[at % 60][0]} of Mr {chr(65 + at % 26)}. {pairs[at % 60][1]} {at * 7919}", "label": labels[at % 4]}
        for at in range(count)
    ]


def csv(file: Path, rows: list[dict], columns: tuple[str, str] = ("text", "label")) -> Path:
    file.write_text("\n".join([",".join(columns), *(f'"{row["text"]}","{row["label"]}"' for row in rows)]) + "\n")
    return file


@pytest.fixture
def desk() -> Domain:
    return packs.pack()


def test_without_files_the_pack_trains_by_its_own_split(desk: Domain) -> None:
    found = material.read(recipe(), desk)
    assert Counter(row.label for row in found.train) == {"FRAUD": 3, "RESET": 3, "INFO": 3}
    assert [row.label for row in found.validation] == ["FRAUD", "RESET", "INFO"]
    assert [one.label for one in found.examples] == ["FRAUD", "RESET", "INFO"]
    assert str(found.train[0].origin) == "desk/examples.jsonl:1"
    assert found.refused == ()


def test_checks_of_free_text_examples_reach_the_judge(home: Path) -> None:
    from data import domains

    code = domains.load("code")
    found = material.read(recipe(domain="code"), code)
    assert found.examples == tuple(one for one in code.examples if one.split == "validation" and one.check)
    assert found.examples


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, desk: Domain, ending: str) -> None:
    rows = told()
    file = tmp_path / f"data.{ending}"
    if ending == "jsonl":
        write_rows(file, rows)
    elif ending == "parquet":
        pyarrow = pytest.importorskip("pyarrow", reason="the extra data is not installed")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif ending == "tsv":
        file.write_text("\n".join(["text\tlabel", *(f"{row['text']}\t{row['label']}" for row in rows)]) + "\n")
    else:
        csv(file, rows)
    found = material.read(recipe([file]), desk)
    reference = material.read(recipe([csv(tmp_path / "reference.csv", rows)]), desk)
    assert (found.sha256, found.validation_sha256) == (reference.sha256, reference.validation_sha256)
    assert len(found.train) + len(found.validation) == 60


def test_a_held_out_share_is_stratified_and_the_same_every_time(tmp_path: Path, desk: Domain) -> None:
    file = csv(tmp_path / "data.csv", told(200))
    found = material.read(recipe([file], validation_share=0.2), desk)
    assert Counter(row.label for row in found.validation) == {"FRAUD": 20, "RESET": 10, "INFO": 10}
    assert material.read(recipe([file], validation_share=0.2), desk) == found
    other = validated({**recipe([file], validation_share=0.2).model_dump(), "seed": 1}, "test")
    assert material.read(other, desk).validation_sha256 != found.validation_sha256


def test_near_duplicates_never_stand_on_both_sides(tmp_path: Path, desk: Domain) -> None:
    base = "Your parcel waits at the depot, pay the customs fee of {} pounds at our secure page today to have it delivered to you"
    rows = told(60) + [{"text": base.format(number), "label": "FRAUD"} for number in range(40)]
    found = material.read(recipe([csv(tmp_path / "data.csv", rows)], validation_share=0.3), desk)
    sides = [{"parcel" in row.text for row in side} for side in (found.train, found.validation)]
    assert sum(True in side for side in sides) == 1


def test_a_split_column_of_the_source_counts(tmp_path: Path, desk: Domain) -> None:
    splits = ["train"] * 6 + ["dev", "test"]
    rows = [row | {"split": splits[at % 8]} for at, row in enumerate(told(80))]
    found = material.read(recipe([write_rows(tmp_path / "data.jsonl", rows)]), desk)
    assert (len(found.train), len(found.validation)) == (60, 10)
    assert "10 rows that their source keeps for testing stay untouched" in found.notes


def test_validation_files_win_over_the_source_and_their_texts_leave_training(tmp_path: Path, desk: Domain) -> None:
    rows = told(80)
    seen = [rows[0] | {"text": rows[0]["text"].upper() + "  "}, *rows[1:4]]
    train, held = csv(tmp_path / "train.csv", rows), csv(tmp_path / "held.csv", seen)
    found = material.read(recipe([train], validation=[str(held)]), desk)
    assert (len(found.train), len(found.validation)) == (76, 4)
    assert "4 training rows are dropped: their texts stand in validation too" in found.notes


def test_a_dataset_folder_is_checked_before_it_is_read(tmp_path: Path, desk: Domain) -> None:
    made = tmp_path / "set"
    build([open_source(str(csv(tmp_path / "data.csv", told(80))))], desk, made, BuildOptions(redact=False))
    found = material.read(recipe([made]), desk)
    lines = {name: len((made / f"{name}.jsonl").read_text().splitlines()) for name in ("train", "validation", "test")}
    assert (len(found.train), len(found.validation)) == (lines["train"], lines["validation"])
    assert any(f"its {lines['test']} test rows stay untouched" in note for note in found.notes)
    (made / "train.jsonl").write_text((made / "train.jsonl").read_text().replace("FRAUD", "INFO", 1))
    with pytest.raises(
        InputError, match=r"not as its manifest says: train\.jsonl: .*SHA-256|not as its manifest says: train\.jsonl"
    ):
        material.read(recipe([made]), desk)


def test_a_dataset_in_another_format_or_a_plain_folder_is_refused(tmp_path: Path, desk: Domain) -> None:
    made = tmp_path / "set"
    source = open_source(str(csv(tmp_path / "data.csv", told(80))))
    build([source], desk, made, BuildOptions(format="chat", redact=False))
    with pytest.raises(InputError, match="in the format chat, not in rows; build it with --format rows"):
        material.read(recipe([made]), desk)
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotFound, match="holds no manifest"):
        material.read(recipe([tmp_path / "folder"]), desk)


def test_what_was_said_about_answers_is_material(file_store: Store) -> None:
    for number in range(6):
        question = ask(file_store, f"Why {number} {WORDS[number]}?", "No.")
        file_store.feedback.correct(question.inference, f"Because of {WORDS[number]}.")
        file_store.feedback.rate(again(file_store, question.question, "So.").inference, -1)
    stages = [{"kind": "kto", "min_rows": 4}, {"kind": "dpo", "min_rows": 2}]
    found = material.read(recipe(["log"], stages, domain=""), None, file_store)
    shapes = Counter(row.shape for row in (*found.train, *found.validation))
    assert shapes == {"correction": 6, "thumb": 6}
    texts = [{row.text for row in side} for side in (found.train, found.validation)]
    assert texts[0].isdisjoint(texts[1]) and all(texts)
    with pytest.raises(InputError, match="asks for the log, and there is none"):
        material.read(recipe(["log"], stages, domain=""), None)


def test_foreign_labels_are_mapped_and_the_unwanted_left_out(tmp_path: Path, desk: Domain) -> None:
    names = {"FRAUD": "theft", "RESET": "pin", "INFO": "chatter"}
    rows = [row | {"label": names[row["label"]]} for row in told(80)]
    mapping = {"theft": "FRAUD", "pin": "RESET", "chatter": ""}
    found = material.read(recipe([csv(tmp_path / "data.csv", rows)], labels=mapping), desk)
    assert {row.label for row in found.train} == {"FRAUD", "RESET"}
    assert "left out, as data.labels says: rows labelled chatter (20)" in found.notes
    assert "no training row has the label INFO" in found.notes


def test_the_pack_may_be_added_and_stays_in_training(tmp_path: Path, desk: Domain) -> None:
    rows = [row | {"label": "X"} if row["label"] == "INFO" else row for row in told(40)]
    found = material.read(recipe([csv(tmp_path / "data.csv", rows)], pack=True, labels={"X": "INFO", "INFO": "FRAUD"}), desk)
    added = [row for row in found.train if row.origin.source == "desk/examples.jsonl"]
    assert Counter(row.label for row in added) == {"FRAUD": 3, "RESET": 3, "INFO": 3}


def test_a_limit_takes_the_same_rows_whatever_their_order_and_keeps_every_label(tmp_path: Path, desk: Domain) -> None:
    rows = told(120)
    rare = {"text": "one lonely question about opening hours", "label": "INFO"}
    rows = [row for row in rows if row["label"] != "INFO"] + [rare]
    held = csv(tmp_path / "held.csv", told(124)[120:])

    def texts(given: list[dict], limit: int) -> set[str]:
        found = material.read(recipe([csv(tmp_path / "data.csv", given)], limit=limit, validation=[str(held)]), desk)
        assert len(found.train) == limit
        return {row.text for row in found.train}

    assert texts(rows, 12) == texts(rows[::-1], 12)
    assert rare["text"] in texts(rows, 3)
    assert texts(rows, 3) < texts(rows, 12) < texts(rows, 40)
    with pytest.raises(InputError, match=r"data\.limit = 2 is less than the 3 labels"):
        texts(rows, 2)


def test_unknown_labels_are_listed_with_counts_and_the_nearest(tmp_path: Path, desk: Domain) -> None:
    rows = told(20) + [{"text": "locked out", "label": "reset"}] * 3 + [{"text": "hello", "label": "smalltalk"}]
    with pytest.raises(InputError) as caught:
        material.read(recipe([csv(tmp_path / "data.csv", rows)]), desk)
    assert caught.value.what == "desk does not know these labels of the data: 'reset' (3, near RESET), 'smalltalk' (1)"
    assert caught.value.fix == "map them in data.labels; its labels are FRAUD, RESET, INFO"


@pytest.mark.parametrize(
    ("columns", "data", "said"),
    [
        (
            ("text", "label"),
            {"label_column": "lable"},
            r"none is 'lable'; did you mean label\? else name one of them with data\.label_c",
        ),
        (
            ("text", "label"),
            {"text_column": "texts"},
            r"none is 'texts'; did you mean text\? else name one of them with data\.text_c",
        ),
        (("wording", "team"), {}, r"columns wording, team, and none that holds a text; name them with data\.text_column"),
        (("text", "team"), {}, r"columns text, team, and none that holds a label; name it with data\.label_column"),
    ],
)
def test_missing_columns_are_named_with_the_nearest(
    tmp_path: Path, desk: Domain, columns: tuple[str, str], data: dict[str, str], said: str
) -> None:
    rows = [row | {"label": f"{row['label']} {at}"} for at, row in enumerate(told(20))]
    with pytest.raises(InputError, match=said):
        material.read(recipe([csv(tmp_path / "data.csv", rows, columns)], **data), desk)


def test_missing_keys_of_json_lines_are_named_with_the_nearest(tmp_path: Path, desk: Domain) -> None:
    file = write_rows(tmp_path / "data.jsonl", told(20))
    with pytest.raises(InputError, match=r"none of the 20 rows can be used; 20 of them: has no 'lable' \(did you mean label\?\)"):
        material.read(recipe([file], label_column="lable"), desk)


def test_rows_that_cannot_be_used_are_kept_with_their_lines_up_to_the_limit(tmp_path: Path, desk: Domain) -> None:
    rows = [*told(40), {"text": "  ", "label": "INFO"}, {"text": "no label here", "label": ""}]
    file = csv(tmp_path / "data.csv", rows)
    with pytest.raises(InputError) as caught:
        material.read(recipe([file]), desk)
    assert "2 of 42 rows cannot be used, more than data.lost = 0.01 allows: data.csv:41: it has no text; data.csv:42" in str(
        caught.value
    )
    assert caught.value.fix == "correct them, or set data.lost = 0.05"
    found = material.read(recipe([file], lost=0.05), desk)
    assert [(one.origin, one.reason) for one in found.refused] == [
        ("data.csv:41", "it has no text"),
        ("data.csv:42", "it has no label"),
    ]
    assert "2 rows cannot be used; the first is data.csv:41: it has no text" in found.notes


def test_an_output_against_the_schema_or_its_own_label_is_refused(tmp_path: Path, desk: Domain) -> None:
    rows = [{"text": row["text"], "label": row["label"], "output": {"label": row["label"]}} for row in told(40)]
    rows[3]["output"] = {"label": "INFO" if rows[3]["label"] != "INFO" else "FRAUD"}
    rows[7]["output"] = {"label": rows[7]["label"], "more": 1}
    found = material.read(recipe([write_rows(tmp_path / "data.jsonl", rows)], lost=0.1), desk)
    assert [one.origin for one in found.refused] == ["data.jsonl:4", "data.jsonl:8"]
    assert "but its output says" in found.refused[0].reason and "the output is not valid" in found.refused[1].reason


def test_control_characters_of_a_refused_row_are_made_visible(tmp_path: Path, desk: Domain) -> None:
    rows = [*told(200), {"text": "\x1b[2J" + "wipe " * 60, "output": {"label": 3}}]
    found = material.read(recipe([write_rows(tmp_path / "data.jsonl", rows)]), desk)
    assert len(found.refused) == 1
    assert "\x1b" not in found.refused[0].text and len(found.refused[0].text) <= 80


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("text,label\n", "no rows"),
        ("text,label\n,\n", "none of the 1 rows can be used; 1 of them: it has no text"),
    ],
)
def test_empty_data_is_an_error(tmp_path: Path, desk: Domain, content: str, said: str) -> None:
    file = tmp_path / "data.csv"
    file.write_text(content)
    with pytest.raises(InputError, match=said):
        material.read(recipe([file]), desk)


@pytest.mark.parametrize("name", ["missing.csv", "~nobody-has-this-home/x.csv", "x" * 5000, "nul\0byte.csv"])
def test_a_file_that_is_not_there_is_an_error(desk: Domain, name: str) -> None:
    with pytest.raises(InputError):
        material.read(recipe([name]), desk)


def test_a_pack_without_examples_is_an_error(home: Path) -> None:
    with pytest.raises(InputError, match="there are no training rows; name files in data.train"):
        material.read(recipe(), packs.pack(examples=[]))


def test_one_class_is_an_error_for_stages_that_imitate(tmp_path: Path, desk: Domain) -> None:
    rows = [row | {"label": "FRAUD"} for row in told(40)]
    with pytest.raises(InputError, match="all 36 training rows have the label FRAUD: one class cannot be told from another"):
        material.read(recipe([csv(tmp_path / "data.csv", rows)]), desk)
    mapped = {"RESET": "FRAUD", "INFO": "FRAUD"}
    with pytest.raises(InputError, match="one class"):
        material.read(recipe([csv(tmp_path / "data.csv", told(40))], labels=mapped), desk)


def test_a_stage_with_too_few_rows_of_its_kind_is_refused(tmp_path: Path, desk: Domain) -> None:
    file = csv(tmp_path / "data.csv", told(40))
    with pytest.raises(InputError, match=r"stage 1 \(sft\) has 36 training rows, and its min_rows is 100"):
        material.read(recipe([file], [{"kind": "sft", "min_rows": 100}]), desk)
    with pytest.raises(InputError, match=r"stage 2 \(kto\) has 0 training rows.*answers that were judged good or bad"):
        material.read(recipe([file], [{"kind": "sft"}, {"kind": "kto"}]), desk)


def test_nothing_left_to_validate_with_is_an_error(tmp_path: Path, desk: Domain) -> None:
    file = csv(tmp_path / "data.csv", told(2))
    with pytest.raises(InputError, match="no row is left for validation"):
        material.read(recipe([file]), desk)


def test_holding_out_without_datasketch_says_what_to_install(tmp_path: Path, desk: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)
    file = csv(tmp_path / "data.csv", told(40))
    with pytest.raises(InputError, match=r"needs datasketch; pip install \"pointsman\[data\]\", or name validation rows"):
        material.read(recipe([file]), desk)
    assert material.read(recipe([file], validation=[str(csv(tmp_path / "held.csv", told(44)[40:]))]), desk).validation


def test_texts_with_two_labels_are_counted(tmp_path: Path, desk: Domain) -> None:
    rows = [*told(40), {"text": told(1)[0]["text"], "label": "INFO"}]
    held = csv(tmp_path / "held.csv", told(44)[40:])
    found = material.read(recipe([csv(tmp_path / "data.csv", rows)], validation=[str(held)]), desk)
    assert "1 training texts have more than one label" in found.notes


def test_the_digest_is_of_what_rows_teach_and_of_their_order() -> None:
    rows = [Row("label", text, Origin("a.csv", number), label="X") for number, text in enumerate(("one", "two"))]
    moved = [Row("label", row.text, Origin("b.csv", 9), label="X", at=5.0, split="train") for row in rows]
    assert material.digest(rows) == material.digest(moved)
    assert len({material.digest(rows), material.digest(rows[::-1]), material.digest(rows[:1])}) == 3


def test_the_label_of_a_correction_is_read_from_its_json(desk: Domain) -> None:
    right = Row("correction", "?", Origin("log", 1), completion=json.dumps({"label": "INFO"}), rejected="no")
    assert material.label_of(right, desk) == "INFO"
    deep = Row("correction", "?", Origin("log", 1), completion='{"a":' * 5000, rejected="no")
    assert material.label_of(deep, desk) == ""
