"""Keys and pastes as terminals send them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual._xterm_parser import XTermParser
from textual.events import Key, Paste

from tui.terminal_input import BEGIN, END, PasteParser, mend


def read(*pieces: str) -> list[str]:
    parser = PasteParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return [f"paste {event.text}" if isinstance(event, Paste) else event.key for event in events if isinstance(event, Key | Paste)]


def test_alt_enter_of_an_old_terminal_breaks_the_line() -> None:
    mend()
    assert read("\x1b\r") == ["ctrl+j"]
    assert read("\r") == ["enter"]


def test_keys_around_a_paste_keep_their_order() -> None:
    assert read(f"a{BEGIN}one\rtwo{END}b{BEGIN}{END}c") == ["a", "paste one\rtwo", "b", "paste ", "c"]


@given(st.text("ab\x1b[2\r", max_size=20), st.integers(1, 7))
def test_a_paste_is_whole_wherever_the_input_is_cut(text: str, size: int) -> None:
    sent = f"{BEGIN}{text}{END}"
    pieces = [sent[: len(BEGIN)], *(sent[at : at + size] for at in range(len(BEGIN), len(sent), size))]
    assert read(*pieces) == [f"paste {text}"]


def test_a_paste_whose_beginning_is_cut_is_read_as_textual_reads_it() -> None:
    assert read(BEGIN[:3], f"{BEGIN[3:]}text{END}", "x") == ["paste text", "x"]


def test_a_huge_paste_is_not_read_character_by_character(monkeypatch: pytest.MonkeyPatch) -> None:
    slow: list[str] = []
    feed = XTermParser.feed
    monkeypatch.setattr(XTermParser, "feed", lambda parser, data: slow.append(data) or feed(parser, data))
    text = "hello world " * 800_000
    sent = f"a{BEGIN}{text}{END}b"
    assert read(*(sent[at : at + 4096] for at in range(0, len(sent), 4096))) == ["a", f"paste {text}", "b"]
    assert slow == ["a", "b"]
