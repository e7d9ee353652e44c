"""Cutting documents: every line is in a chunk, none is too long, and structure is where the cuts are."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.documents import chunks
from router.documents.reading import lines_of

LINE = st.one_of(
    st.text(alphabet=st.characters(blacklist_characters="\n\r", blacklist_categories=("Cs",)), max_size=60),
    st.sampled_from(["", "# One", "## Two", "```", "~~~", "====", "def f(x):", "    return x", "@decorator", "class A:", " "]),
    st.builds(lambda character, n: character * n, st.sampled_from("ab 漢"), st.integers(150, 1500)),
)
KINDS = st.sampled_from(["text", "markdown", "code", "table", "html", "pdf"])


@given(st.lists(LINE, min_size=1, max_size=60), KINDS, st.integers(200, 600), st.integers(1, 9))
@settings(max_examples=300, deadline=None)
def test_every_line_is_in_a_chunk_whole_and_no_chunk_is_too_long(lines, kind, size, per_page):
    pages = [number // per_page + 1 for number in range(len(lines))] if kind == "pdf" else []
    pieces = chunks.cut(lines, kind, size, pages)
    covered = {number for piece in pieces for number in range(piece.first_line, piece.last_line + 1)}
    assert covered == set(range(1, len(lines) + 1))
    assert all(len(piece.text) <= size for piece in pieces)
    for piece in pieces:
        inside = "\n".join(lines[piece.first_line - 1 : piece.last_line])
        assert piece.text in inside
        if max(map(len, lines)) <= size:
            assert piece.text == inside
        if pages:
            assert {pages[number - 1] for number in range(piece.first_line, piece.last_line + 1)} == {piece.page}
    firsts = [(piece.first_line, piece.last_line) for piece in pieces]
    assert firsts == sorted(firsts)
    long = [number for number, line in enumerate(lines, 1) if len(line) > size]
    for number in long:
        parts = [piece.text for piece in pieces if piece.first_line <= number <= piece.last_line]
        assert lines[number - 1].replace(" ", "") in re.sub(r"\n", "", "".join(parts)).replace(" ", "")


@given(st.lists(LINE, min_size=1, max_size=80), KINDS)
@settings(max_examples=100, deadline=None)
def test_overlap_is_little(lines, kind):
    size = 400
    pieces = chunks.cut(lines, kind, size)
    for one, two in pairwise(pieces):
        common = one.last_line - two.first_line + 1
        if common > 0 and all(len(line) <= size for line in lines):
            assert len("\n".join(two.text.split("\n")[:common])) <= size // 8


def test_markdown_is_cut_before_headings_and_knows_its_path():
    text = (
        "# Guide\n\nintro\n\n## Install\n\n"
        + "words here. " * 30
        + "\n\n### Linux\n\n"
        + "apt things. " * 30
        + "\n\n## Use\n\nrun it\n"
    )
    pieces = chunks.cut(lines_of(text), "markdown", 500)
    assert [piece.heading for piece in pieces] == ["Guide", "Guide › Install › Linux", "Guide › Use"]
    assert [piece.text.split("\n")[0] for piece in pieces] == ["# Guide", "### Linux", "## Use"]


def test_a_hash_within_a_fence_is_no_heading_and_underlined_ones_are():
    text = "Title\n=====\n\n```sh\n# not a heading\n" + "run\n" * 100 + "```\n\nPart\n----\n\ntext\n"
    pieces = chunks.cut(lines_of(text), "markdown", 300)
    assert {piece.heading for piece in pieces} == {"Title", "Title › Part"}
    assert pieces[-1].text.startswith("Part\n----")


def test_code_is_cut_before_definitions_with_their_decorators():
    body = "\n".join(f"    value_{n} = {n}" for n in range(12))
    text = f"import os\n\n\n@decorated\ndef one():\n{body}\n\n\n# about two\ndef two():\n{body}\n"
    pieces = chunks.cut(lines_of(text), "code", 400)
    assert [piece.text.split("\n")[0] for piece in pieces] == ["import os", "# about two"]
    pieces = chunks.cut(lines_of(text), "code", 200)
    assert pieces[1].heading == "def one():" and "def two():" in {piece.heading for piece in pieces}


def test_paragraphs_stay_together():
    text = "\n\n".join(f"paragraph {n} " + "word " * 30 for n in range(6))
    pieces = chunks.cut(lines_of(text), "text", 400)
    assert all(piece.text.startswith("paragraph") for piece in pieces)


def test_a_table_is_headed_by_its_first_line():
    pieces = chunks.cut(["name,age", *[f"person {n},{n}" for n in range(100)]], "table", 300)
    assert len(pieces) > 3 and {piece.heading for piece in pieces} == {"name,age"}


def test_a_line_of_10_mb_is_cut_within_and_keeps_its_number():
    pieces = chunks.cut(["first", "word " * 2_000_000, "last"], "text", 1000)
    assert len(pieces) > 10_000 and all(len(piece.text) <= 1000 for piece in pieces)
    assert {(piece.first_line, piece.last_line) for piece in pieces[2:-2]} == {(2, 2)}
    assert pieces[0].first_line == 1 and pieces[-1].last_line == 3


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("a", ["a"]),
        ("a\n", ["a"]),
        ("a\r\nb\rc\n", ["a", "b", "c"]),
        ("a\n\n", ["a", ""]),
        ("\x0b\u2028\x85", ["\x0b\u2028\x85"]),
    ],
)
def test_lines_are_numbered_as_editors_number_them(text, lines):
    assert lines_of(text) == lines
