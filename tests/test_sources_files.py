"""Files as sources: formats, headers, columns, numbering, progress, digests; real data sets where they are."""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from data.datasets.rows import Refused, Row
from data.datasets.sources import open_source
from data.errors import InputError

DATASETS = os.environ.get("POINTSMAN_DATASETS", "")
needs_datasets = pytest.mark.skipif(not DATASETS, reason="POINTSMAN_DATASETS names no folder of shared data sets")


@pytest.fixture
def file(tmp_path: Path):
    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def read(given: str, **how) -> list[Row | Refused]:
    return list(open_source(given, **how).rows())


def pairs(found: list[Row | Refused]) -> list[tuple[str, str]]:
    assert all(isinstance(one, Row) for one in found), found
    return [(one.text, one.label) for one in found]


WANTED = [("hello, you", "a"), ("two\nlines", "b")]


def test_csv_with_quotes_and_lines_within_a_field(file) -> None:
    found = read(file("some.csv", 'text,label\n"hello, you",a\n"two\nlines",b\n'))
    assert pairs(found) == WANTED
    assert [str(one.origin) for one in found] == ["some.csv:1", "some.csv:2"]


@pytest.mark.parametrize(
    "content",
    [
        'text;label\r\n"hello, you";a\r\n"two\nlines";b\r\n',
        '\ufefflabel,text\na,"hello, you"\n\n\nb,"two\nlines"',
        'Text\tLabel\n"hello, you"\ta\n"two\nlines"\tb\n',
        'id,split,CATEGORY,Query\n1,x,a,"hello, you"\n2,x,b,"two\nlines"\n',
    ],
    ids=["semicolon and CR LF", "byte order mark and blank lines", "tabs in .csv", "other names and columns"],
)
def test_csv_of_other_habits(file, content: str) -> None:
    assert pairs(read(file("some.csv", content))) == WANTED


def test_tsv_without_header_and_quoting_finds_label_and_text(file) -> None:
    content = 'ham\t"Quote at the start\nspam\tWin a prize now, call today\nham\tSee you at five then\nspam\tFree "entry" here\n'
    assert pairs(read(file("train.tsv", content)))[:2] == [
        ('"Quote at the start', "ham"),
        ("Win a prize now, call today", "spam"),
    ]


def test_tsv_with_text_first_label_numbers_and_a_unique_column(file) -> None:
    content = "".join(f"a longer sentence number {n}\t{n % 3}\tid{n}x\n" for n in range(30))
    assert pairs(read(file("train.tsv", content)))[:2] == [("a longer sentence number 0", "0"), ("a longer sentence number 1", "1")]


def test_tsv_that_doubles_quotes_is_unquoted(file) -> None:
    found = read(file("some.tsv", 'text\tlabel\n"he said ""no"""\ta\nplain\tb\n'))
    assert pairs(found) == [('he said "no"', "a"), ("plain", "b")]


def test_columns_named_by_the_user_win(file) -> None:
    path = file("some.csv", "text,tweet,kind,label\nx,hello,a,y\n")
    assert pairs(read(path, text_column="tweet", label_column="kind")) == [("hello", "a")]
    assert pairs(read(path, label_column="Kind")) == [("x", "a")]


def test_columns_of_a_table_without_header_by_number(file) -> None:
    path = file("some.csv", "1,hello there,a\n2,good bye,b\n")
    assert pairs(read(path, text_column="2", label_column="3")) == [("hello there", "a"), ("good bye", "b")]


@pytest.mark.parametrize(
    ("content", "how", "said"),
    [
        ("tweet,kind\nhello,a\nbye,b\n", {}, "tweet, kind"),
        ("text,kind\nhello,a\n", {"label_column": "label"}, "--label-column"),
        ("tweet,label\nhello,a\n", {"text_column": "words"}, "--text-column"),
        ("text,kind\nhello,a\n", {"labelled": True}, "--label-column"),
        ("text,text,label\na,b,c\n", {}, "twice"),
    ],
)
def test_missing_columns_name_those_there_are_and_the_flag(file, content: str, how: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(file("some.csv", content), **how)


def test_text_without_labels_is_read_where_none_are_needed(file) -> None:
    assert pairs(read(file("some.csv", "text\nhello\n"))) == [("hello", "")]


def test_rows_of_the_wrong_width_are_refused_and_reading_goes_on(file) -> None:
    found = read(file("some.csv", "text,label\na,b\nonly\nc,d,e\nf,g\n"))
    assert [one.text for one in found if isinstance(one, Row)] == ["a", "f"]
    assert [(one.origin.number, one.reason) for one in found if isinstance(one, Refused)] == [
        (2, "has 1 fields where the header has 2"),
        (3, "has 3 fields where the header has 2"),
    ]


JSON = [{"text": "hello, you", "label": "a"}, {"text": "two\nlines", "label": "b"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("some.jsonl", "\n".join(map(json.dumps, JSON))),
        ("some.ndjson", "\ufeff" + "\r\n\r\n".join(map(json.dumps, JSON)) + "\r\n"),
        ("some.json", json.dumps(JSON)),
        ("list.json", "\ufeff " + json.dumps(JSON, indent=2) + "\n"),
        ("lines.json", "\n".join(map(json.dumps, JSON)) + "\n"),
        ("splits.json", json.dumps({"train": JSON})),
        ("pairs.json", json.dumps({"oos_train": [[one["text"], one["label"]] for one in JSON]})),
    ],
)
def test_json_by_lines_as_a_list_and_as_splits(file, name: str, content: str) -> None:
    found = read(file(name, content))
    assert pairs(found) == WANTED
    assert {one.split for one in found} == ({"train"} if name == "splits.json" else {""})


def test_one_object_over_several_lines_is_one_record(file) -> None:
    assert pairs(read(file("some.json", json.dumps(JSON[0], indent=1)))) == WANTED[:1]


def test_jsonl_numbers_are_line_numbers(file) -> None:
    found = read(file("some.jsonl", '{"text":"a"}\n\n{broken\n{"text":"b"}\n'))
    assert [one.origin.number for one in found] == [1, 3, 4]


def test_a_large_list_is_cut_at_its_own_commas_only(file) -> None:
    rows = [{"text": f'a "{n}", ]}}[[ \\ \u20ac' * 30, "label": str(n), "output": {"x": [n, [n]]}} for n in range(500)]
    found = read(file("some.json", json.dumps(rows, ensure_ascii=False)))
    assert [(one.text, one.label, one.output) for one in found] == [(one["text"], one["label"], one["output"]) for one in rows]


def test_parquet_with_class_names_and_nested_messages(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    features = {"info": {"features": {"label": {"names": ["ham", "spam"], "_type": "ClassLabel"}}}}
    table = pa.table({"text": [f"row {n}" for n in range(1000)], "label": [n % 2 for n in range(1000)], "image": [b"x"] * 1000})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "some.parquet")
    found = read(str(tmp_path / "some.parquet"))
    assert pairs(found)[:2] == [("row 0", "ham"), ("row 1", "spam")]
    assert len(found) == 1000
    chat = [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]]
    pq.write_table(pa.table({"messages": chat}), tmp_path / "chat.parquet")
    (row,) = read(str(tmp_path / "chat.parquet"))
    assert (row.shape, row.text, row.completion) == ("chat", "hi", "ho")


def test_damaged_parquet_is_named(file) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match="no sound Parquet"):
        read(file("some.parquet", b"PAR1 but nothing else PAR1"))


def test_parquet_with_bad_utf8_refuses_that_row_only(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    column = pa.array([b"good", b"b\xffd", b"fine"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": column}), tmp_path / "some.parquet")
    found = read(str(tmp_path / "some.parquet"))
    assert [isinstance(one, Row) for one in found] == [True, False, True]
    assert "utf-8" in found[1].reason


def test_a_source_can_be_read_twice_and_its_digest_is_that_of_the_bytes(file) -> None:
    path = file("some.csv", "text,label\na,b\n")
    source = open_source(path, licence="MIT")
    assert list(source.rows()) == list(source.rows())
    assert source.digest() == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert (source.name, source.licence) == ("some.csv", "MIT")
    assert next(iter(source.rows())).origin.licence == "MIT"


def test_progress_grows_to_the_files_size(file) -> None:
    path = file("some.csv", "text,label\n" + "a long enough line,b\n" * 20_000)
    seen: list[tuple[int, int]] = []
    count = sum(1 for _ in open_source(path).rows(lambda done, of: seen.append((done, of))))
    size = Path(path).stat().st_size
    assert count == 20_000
    assert seen == sorted(seen)
    assert len(seen) > 10
    assert seen[-1] == (size, size)
    assert seen[0][0] < size


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", b"", "empty"),
        ("blank.jsonl", b"\n\n  \n", "no rows"),
        ("blank.csv", b"\n\n", "empty"),
        ("header.csv", b"text,label\n", "no rows"),
        ("list.json", b"[]", "no rows"),
        ("packed.csv.gz", b"\x1f\x8b\x08abc", "compressed"),
        ("packed.csv", b"PK\x03\x04abc", "compressed"),
        ("model.pkl", b"\x80\x04K\x01.", "may hold code"),
        ("some.txt", b"hello", "neither CSV"),
        ("wide.csv", "text,label\na,b\n".encode("utf-16"), "UTF-16"),
        ("wide.jsonl", '{"text": "a"}\n'.encode("utf-16"), "UTF-16"),
        ("old.csv", b"text,label\ra,b\rc,d\r", "CR alone"),
        ("quote.csv", b'"text,label\na,b\n', "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(file, name: str, content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(file(name, content))


def test_what_is_no_file_is_an_input_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for given, said in ((tmp_path / "none.csv", "no file or folder"), (tmp_path / "pipe.csv", "no regular file")):
        with pytest.raises(InputError, match=said):
            open_source(str(given))
    with pytest.raises(InputError):
        open_source("a\0b.csv")
    with pytest.raises(InputError, match="no kind"):
        open_source(str(tmp_path), kind="excel")
    with pytest.raises(InputError, match="folder"):
        open_source(str(tmp_path), kind="csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_an_input_error(file) -> None:
    path = file("some.csv", "text\na\n")
    os.chmod(path, 0)
    with pytest.raises(InputError, match="cannot read"):
        open_source(path)


def test_the_kind_can_be_said_where_the_name_does_not_tell(file) -> None:
    assert pairs(read(file("some.txt", "text\tlabel\na\tb\n"), kind="tsv")) == [("a", "b")]


def test_a_file_without_a_permissive_licence_is_refused_where_only_those_are_wanted(file) -> None:
    path = file("some.csv", "text\na\n")
    assert open_source(path, licence="CC-BY-4.0", licences="permissive").licence == "CC-BY-4.0"
    for licence in ("", "GPL-3.0", "MIT AND GPL-3.0"):
        with pytest.raises(InputError, match="licence"):
            open_source(path, licence=licence, licences="permissive")


@needs_datasets
@pytest.mark.parametrize(
    ("path", "shape", "count", "labels"),
    [
        ("sms_spam/train.tsv", "label", 4010, {"ham": 3459, "spam": 551}),
        ("smishing/train.csv", "label", 4276, {"ham": 3460, "smishing": 485, "spam": 331}),
        ("banking77/train.csv", "label", 10003, None),
        ("goemotions/dev.tsv", "label", 5426, None),
        ("clinc150/data_full_train_val.json", "label", 18200, None),
        ("gsm8k/train.jsonl", "instruction", 7473, None),
        ("llmbar/natural.json", "preference", 77, None),
        ("mbpp/train.jsonl", "instruction", 374, None),
        ("self_instruct/seed_tasks.jsonl", "instruction", 175, None),
    ],
)
def test_real_data_sets_are_read_whole(path: str, shape: str, count: int, labels: dict[str, int] | None) -> None:
    found = read(str(Path(DATASETS) / path))
    assert Counter(type(one).__name__ for one in found) == {"Row": count}
    assert {one.shape for one in found} == {shape}
    if shape == "label":
        counts = Counter(one.label for one in found)
        assert labels in (None, counts)
        assert all(counts)
        assert sum(one.text == one.label for one in found) < len(found) / 100  # the columns were not mixed up
