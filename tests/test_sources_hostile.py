"""Hostile files: nothing crashes, nothing is held in memory, nothing is swallowed, and every record is told of."""

import io
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.datasets._sources import base, delimited, jsonl
from data.datasets._sources.shapes import Shaper
from data.datasets.rows import Origin, Refused, Row
from data.datasets.sources import open_source
from data.errors import InputError

GOOD = '{"text": "good", "label": "a"}'
LINES: dict[str, tuple[bytes, str]] = {
    "NUL escape": (rb'{"text": "a\u0000b", "label": "x"}', "NUL character"),
    "NUL byte": (b'{"text": "a\0b", "label": "x"}', "not valid JSON"),
    "lone surrogate": (rb'{"text": "a\ud800b", "label": "x"}', "lone surrogate (U+D800)"),
    "lone surrogate in a key": (rb'{"text": "a", "\udfff": "x"}', "lone surrogate (U+DFFF)"),
    "lone surrogate deep inside": (rb'{"text": "a", "output": {"x": [["\udc00"]]}}', "lone surrogate"),
    "bad UTF-8": (b'{"text": "a\xffb", "label": "x"}', "not UTF-8 at byte 42"),
    "surrogate in UTF-8": (b'{"text": "a\xed\xa0\x80b", "label": "x"}', "not UTF-8 at byte 42"),
    "10,000 deep lists": (b"[" * 10_000 + b"]" * 10_000, "nested deeper than 100"),
    "10,000 deep objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested deeper than 100"),
    "100,000 deep and never closed": (b'{"text": "a", "b": ' + b"[" * 100_000, "nested deeper than 100"),
    "1e999": (b'{"text": "a", "at": 1e999}', "out of range"),
    "-1e999": (b'{"text": "a", "at": -1e999}', "out of range"),
    "NaN": (b'{"text": "a", "at": NaN}', "NaN is no JSON"),
    "Infinity": (b'{"text": "a", "at": -Infinity}', "-Infinity is no JSON"),
    "a number of 5,000 digits": (b'{"text": "a", "at": ' + b"9" * 5000 + b"}", "5000 digits"),
    "keys given twice": (b'{"text": "a", "label": "x", "text": "b"}', "the key 'text' is given twice"),
    "a million empty lists": (b'{"text": "a", "x": [' + b"[]," * 1_000_000 + b"[]]}", "1,000,003 lists and objects"),
    "role spoofing": (b'{"messages": [{"role": "system\\n", "content": "x"}, {"role": "assistant", "content": "y"}]}', "role"),
    "cut off": (b'{"text": "a", "label":', "not valid JSON"),
    "no JSON": (b"GET / HTTP/1.1", "not valid JSON"),
    "single quotes": (b"{'text': 'a'}", "not valid JSON"),
    "two values": (b'{"text": "a"} {"text": "b"}', "not valid JSON"),
    "ten thousand messages too many": (b'{"messages": [' + b"1," * 20_000 + b"1]}", "20,001 messages"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_hostile_line_is_refused_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    line, said = LINES[name]
    path = tmp_path / "some.jsonl"
    path.write_bytes(GOOD.encode() + b"\n" + line + b"\n" + GOOD.encode() + b"\n")
    found = list(open_source(str(path)).rows())
    assert [type(one) for one in found] == [Row, Refused, Row]
    assert said in found[1].reason
    assert str(found[1].origin) == "some.jsonl:2"
    assert "\n" not in found[1].excerpt
    assert len(found[1].excerpt) <= 80


@pytest.mark.parametrize("name", LINES)
def test_a_hostile_element_of_a_list_is_refused(tmp_path: Path, name: str) -> None:
    line, said = LINES[name]
    if name in ("cut off", "100,000 deep and never closed", "no JSON", "ten thousand messages too many"):
        said = ""  # an element that never closes takes what follows with it, and is told of
    path = tmp_path / "some.json"
    path.write_bytes(f"[{GOOD},".encode() + line + f",{GOOD}]".encode())
    found = list(open_source(str(path)).rows())
    assert isinstance(found[0], Row)
    assert isinstance(found[1], Refused)
    assert said.replace(" at byte 42", "") in found[1].reason


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"[{GOOD}", "the list ends in the middle"),
        (f'[{GOOD}, {{"text": "', "the list ends in the middle"),
        (f"[{GOOD}] {GOOD}", "after the end of the list"),
        (f"[{GOOD},, {GOOD}]", "not valid JSON"),
        (f"[{GOOD}}}", "closed by a brace"),
    ],
)
def test_a_list_that_is_none_is_told_of(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "some.json"
    path.write_text(content)
    found = list(open_source(str(path)).rows())
    assert any(isinstance(one, Refused) and said in one.reason for one in found), found


CSV: dict[str, tuple[bytes, str]] = {
    "NUL": (b"a\0b,x", "NUL byte at byte 23"),
    "bad UTF-8": (b"a\xffb,x", "not UTF-8 at byte 23"),
    "text after a quote": (b'"a"b,x', "text after a closing quote"),
    "carriage return": (b"a\rb,x", "lone carriage return"),
    "too few": (b"a", "has 1 fields"),
    "too many": (b"a,b,c,d", "has 4 fields"),
    "a quote that swallows a row and closes wrongly": (b'"a,x', "quote"),
}


@pytest.mark.parametrize("name", CSV)
def test_a_hostile_record_is_refused_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    line, said = CSV[name]
    path = tmp_path / "some.csv"
    path.write_bytes(b'text,label\n"good",xyz\n' + line + b'\nbetter,y\n"best",z\n')
    found = list(open_source(str(path)).rows())
    assert [type(one) for one in found] == [Row, Refused, Row, Row]
    assert said in found[1].reason
    assert [one.text for one in found if isinstance(one, Row)] == ["good", "better", "best"]
    assert [one.origin.number for one in found] == [1, 2, 3, 4]


def test_zero_width_characters_and_formulas_are_left_to_the_cleaner(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text("text,label\n=HYPERLINK(1),a\nz\u200bero,b\n<|im_start|>system,c\n", encoding="utf-8")
    assert [one.text for one in open_source(str(path)).rows()] == ["=HYPERLINK(1)", "z\u200bero", "<|im_start|>system"]


def test_a_quote_never_closed_costs_its_own_row_only(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_bytes(b'text,label\na,x\n"open,y\n' + b"plain,z\n" * 20_000)
    found = list(open_source(str(path)).rows())
    refused = [one for one in found if isinstance(one, Refused)]
    assert [(one.origin.number, one.reason) for one in refused] == [(2, "opens a quote that is never closed")]
    assert len(found) == 20_002


@pytest.fixture
def small_records(monkeypatch: pytest.MonkeyPatch) -> int:
    for module in (base, delimited, jsonl):
        monkeypatch.setattr(module, "LARGEST_RECORD_BYTES", 4096)
    return 4096


def test_a_quote_never_closed_is_given_up_at_the_limit(tmp_path: Path, small_records: int) -> None:
    path = tmp_path / "some.csv"
    path.write_bytes(b'text,label\n"open,y\n' + b"plain,z\n" * 5_000)
    found = list(open_source(str(path)).rows())
    assert "too large" in found[0].reason
    assert sum(isinstance(one, Row) for one in found) == 5_000


def test_lines_that_open_and_never_close_do_not_make_reading_quadratic(tmp_path: Path, small_records: int) -> None:
    path = tmp_path / "some.csv"
    line = b'a",",b\n'  # whether within quotes or not, it ends within quotes
    path.write_bytes(b"text,label\n" + line * 20_000)
    source = open_source(str(path))
    size = path.stat().st_size
    counted = _Counting(path.open("rb"))
    with counted.file:
        found = list(source.reader.records(counted, "some.csv"))
    assert counted.bytes < 8 * (size + 4 * small_records)
    assert any("lines after it are left out too" in one.reason for one in found)


def test_a_csv_line_beyond_the_limit_is_skipped(tmp_path: Path, small_records: int) -> None:
    path = tmp_path / "some.csv"
    path.write_bytes(b"text,label\n" + b"a" * 100_000 + b",x\ngood,y\n" + b'"' + b"b\n" * 40_000 + b'",x\nfine,z\n')
    found = list(open_source(str(path)).rows())
    assert found[0].reason == f"a record of 100,003 bytes is too large (at most {small_records:,})"
    assert {one.text for one in found if isinstance(one, Row)} == {"good", "fine"}


@pytest.mark.parametrize("name", ["some.jsonl", "some.json", "some.csv"])
def test_a_field_of_50_mb_is_refused_without_being_held(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    begin, end = {
        "some.jsonl": (f'{GOOD}\n{{"text": "', f'"}}\n{GOOD}\n'),
        "some.json": (f'[{GOOD},{{"text": "', f'"}},{GOOD}]'),
        "some.csv": ("text,label\ngood,a\n", ",b\ngood,a\n"),
    }[name]
    with path.open("wb") as file:
        file.write(begin.encode())
        for _ in range(50):
            file.write(b"x" * (1 << 20))
        file.write(end.encode())
    tracemalloc.start()
    found = list(open_source(str(path)).rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [type(one) for one in found] == [Row, Refused, Row]
    assert "bytes is too large (at most 16,777,216)" in found[1].reason
    assert "a record of 52,4" in found[1].reason
    assert peak < 64 << 20


@pytest.mark.parametrize("name", ["some.jsonl", "some.json", "some.csv", "some.parquet"])
def test_a_file_of_30_mb_is_read_in_little_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    text, count = "word " * 500, 12_000
    if name == "some.parquet":
        pa = pytest.importorskip("pyarrow")
        pq = pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"text": [text + str(n) for n in range(count)], "label": ["a"] * count}), path)
    else:
        with path.open("w") as file:
            file.write({"some.csv": "text,label\n", "some.json": "["}.get(name, ""))
            for n in range(count):
                row = json.dumps({"text": f"{text}{n}", "label": "a"})
                end = "," if n < count - 1 else "]"
                file.write({"some.csv": f"{text}{n},a\n", "some.json": row + end}.get(name, row + "\n"))
    source = open_source(str(path))
    tracemalloc.start()
    read = sum(isinstance(one, Row) for one in source.rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == count
    assert peak < 8 << 20


PIECES = [
    b'"',
    b",",
    b"\n",
    b"\r\n",
    b"\t",
    b"[",
    b"]",
    b"{",
    b"}",
    b":",
    b"\\",
    b"\xff",
    b"\0",
    b"\xef\xbb\xbf",
    b"1e999",
    b"a",
    b" ",
]
PIECES += [b'"text"', b'"label"', b"text,label\n", b'{"text": "a"}', b'["a", "b"]', b"\\ud800", b"x,y\n", b'"a ""b""",c\n']


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=40), kind=st.sampled_from(["csv", "tsv", "jsonl", "json"]))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_become_rows_or_refusals_that_can_be_written(pieces: list[bytes], kind: str) -> None:
    shaper = Shaper()
    reader = jsonl.JsonReader(kind == "jsonl", shaper) if kind.startswith("json") else delimited.DelimitedReader(kind, shaper)
    try:
        for record in reader.records(io.BytesIO(b"".join(pieces)), "some"):
            found = [record.refused(Origin("some"))] if isinstance(record, base.Broken) else list(shaper.rows(record, "some"))
            assert found
            for one in found:
                json.dumps(one.to_dict(), ensure_ascii=False).encode("utf-8")
    except InputError as error:
        assert error.what


class _Counting:
    """A file that counts the bytes read from it."""

    def __init__(self, file) -> None:
        self.file = file
        self.bytes = 0

    def readline(self, size: int = -1) -> bytes:
        line = self.file.readline(size)
        self.bytes += len(line)
        return line

    def read(self, size: int = -1) -> bytes:
        return self.file.read(size)

    def seek(self, place: int) -> int:
        return self.file.seek(place)
