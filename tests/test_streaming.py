"""Splitting Markdown that is still coming: nothing lost, nothing closed too early, however the text is cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.sanitise import sanitise
from tui.widgets import streaming
from tui.widgets.streaming import LIMIT, SETTLE, MarkdownSplitter, Piece, Split
from tui.widgets.typeset import new_parser

PIECES = st.sampled_from(
    sorted(
        {"#", " ", "\n", "\n\n", "```", "~~~", "- ", "* ", "1. ", "> ", "|", "a | b\n---|---\n", "---", "===", "word", "    "}
        | {
            "\t",
            "[x]: http://y",
            "[x]",
            "<div>",
            "&lt;",
            "***",
            "+",
            "\r\n",
            "\r",
            "2) ",
            "some longer text",
            "```py\n",
            "\n```\n",
            "\n- item",
        }
    )
)
PROGRAM = "".join(f"line_{number} = call({number})\n" for number in range(200))
ITEMS = "".join(f"- item {number} with some more words\n" for number in range(100))


def feed(*pieces: str) -> list[Split]:
    splitter = MarkdownSplitter()
    splits = []
    for piece in pieces:
        splitter.write(piece)
        splits.append(splitter.take())
    return splits


def tokens(markdown: str) -> list[tuple[object, ...]]:
    return [(token.type, token.content, token.level, token.hidden, token.tag) for token in new_parser().parse(markdown)]


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=40), st.booleans())
def test_blocks_that_closed_parse_as_they_do_in_the_whole_text(pieces: list[str], hasty: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "SETTLE", 20 if hasty else SETTLE)
        patch.setattr(streaming, "LIMIT", 60 if hasty else LIMIT)
        splitter = MarkdownSplitter()
        closed = []
        for piece in pieces:
            splitter.write(piece)
            split = splitter.take()
            closed += [split.closed] if split.closed else []
            assert all(piece.text for piece in split.settled)
        rest = splitter.finish()
    whole = sanitise("".join(pieces))
    assert "".join(closed) + rest == whole
    assert [token for part in [*closed, rest] for token in tokens(part)] == tokens(whole)


def test_a_paragraph_closes_at_the_blank_line_and_not_before() -> None:
    assert [split.closed for split in feed("one ", "two", "\n", "\n", "three")] == ["", "", "", "one two\n", ""]


def test_half_a_line_closes_nothing() -> None:
    splits = feed("- item\n", "#", "hash is a word of the item\n")
    assert [split.closed for split in splits] == ["", "", ""]


def test_a_fence_closes_with_its_own_mark_only() -> None:
    splits = feed("````python\n", "x = 1\n```\n", "    ````\n", "````\n", "after")
    assert [split.closed for split in splits] == ["", "", "", "````python\nx = 1\n```\n    ````\n````\n", ""]
    assert splits[-1].open == Piece("after", "draft")


def test_lines_of_a_long_fence_are_settled_once_and_stay_a_fence() -> None:
    splits = feed("```python\n", *PROGRAM.splitlines(keepends=True))
    settled = [piece for split in splits for piece in split.settled]
    assert len(settled) >= 3
    assert all(piece.text.startswith("```python\n") and piece.setting == "draft" for piece in settled)
    shown = "".join(piece.text.removeprefix("```python\n") for piece in settled) + splits[-1].open.text.removeprefix("```python\n")
    assert shown == PROGRAM
    assert len(splits[-1].open.text) <= SETTLE + len("```python\n")


def test_items_of_a_long_list_are_settled_whole() -> None:
    splits = feed(*ITEMS.splitlines(keepends=True))
    settled = [piece for split in splits for piece in split.settled]
    assert len(settled) >= 2
    assert all(piece.text.startswith("- item") and piece.text.endswith("\n") for piece in settled)
    assert "".join(piece.text for piece in settled) + splits[-1].open.text == ITEMS


def test_what_was_settled_comes_again_when_its_block_closes() -> None:
    splits = feed(ITEMS, "\nafter\n\n")
    assert splits[0].settled
    assert splits[1].closed == ITEMS + "\nafter\n"
    assert not splits[1].settled


def test_a_line_without_end_is_settled_as_written() -> None:
    word = "x" * (3 * LIMIT)
    (split,) = feed(word)
    assert "".join(piece.text for piece in split.settled) + split.open.text == word
    assert {piece.setting for piece in (*split.settled, split.open)} == {"plain"}
    assert len(split.open.text) <= LIMIT


def test_carriage_return_and_line_feed_in_two_pieces_are_one_break() -> None:
    splitter = MarkdownSplitter()
    for piece in ("one\r", "\ntwo\r", "x\r"):
        splitter.write(piece)
    assert splitter.finish() == "one\ntwo␍x␍"


def test_control_characters_are_pictures_however_they_are_cut() -> None:
    payload = "\x1b]0;title\x07\x9b31m"
    for cut in range(len(payload) + 1):
        splitter = MarkdownSplitter()
        splitter.write(payload[:cut])
        splitter.take()
        splitter.write(payload[cut:])
        assert splitter.finish() == sanitise(payload)


def test_a_finished_splitter_begins_anew() -> None:
    splitter = MarkdownSplitter()
    splitter.write("```\n" + PROGRAM)
    splitter.take()
    splitter.finish()
    splitter.write("# one\n")
    assert splitter.take() == Split("# one\n", (), Piece("", "draft"))
