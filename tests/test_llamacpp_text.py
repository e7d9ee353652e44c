"""From token bytes to shown text: characters, thinking and stop strings, cut at any place."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.engines._llamacpp.text import Shown, Stops, Thinking

letters = st.text("ab<think>/STOP \n", max_size=40)


def pieces(text: str, cuts: list[int]) -> list[str]:
    """`text` cut at the given places."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[begin:end] for begin, end in pairwise(places)]


@given(letters, st.lists(st.integers(0, 100)), st.lists(st.text("aSTOP\n", min_size=1, max_size=4), max_size=3))
def test_a_stop_string_ends_the_text_wherever_the_pieces_are_cut(text: str, cuts: list[int], stops: list[str]) -> None:
    filtering = Stops(stops)
    shown = "".join(filtering.feed(piece) for piece in pieces(text, cuts)) + filtering.flush()
    reached = [text.find(stop) for stop in stops if stop in text]
    if cuts == []:
        assert shown == (text[: min(reached)] if reached else text)
    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)
    assert filtering.reached == bool(reached)
    if not reached:
        assert shown == text


def test_only_what_could_become_a_stop_string_is_held_back() -> None:
    filtering = Stops(("\nUser:",))
    assert filtering.feed("hello") == "hello"
    assert filtering.feed(" there\nUs") == " there"
    assert filtering.feed("ual") == "\nUsual"
    assert filtering.feed("\nUser") == ""
    assert filtering.feed(":") == ""
    assert (filtering.reached, filtering.feed("more"), filtering.flush()) == (True, "", "")


@given(st.text("ab \n<k/", max_size=12), st.text("ab \n<k/", max_size=12), st.lists(st.integers(0, 100)))
def test_thinking_is_parted_from_the_answer_wherever_it_is_cut(thought: str, said: str, cuts: list[int]) -> None:
    parting = Thinking(inside=False)
    found = [parting.feed(piece) for piece in pieces(f"\n<think>{thought}</think>\n\n{said}", cuts)] + [parting.flush()]
    assert "".join(thinking for thinking, _ in found).lstrip("\n") == thought.lstrip("\n")
    assert "".join(text for _, text in found) == said.lstrip()


def test_a_prompt_that_ends_with_the_tag_begins_inside_the_thinking() -> None:
    parting = Thinking(inside=True)
    assert parting.feed("I wonder</th") == ("I wonder", "")
    assert parting.feed("ink>Yes") == ("", "Yes")
    assert parting.feed("<think>no") == ("", "<think>no")


def test_text_that_only_looks_like_thinking_is_text() -> None:
    parting = Thinking(inside=False)
    assert parting.feed(" <thi") == ("", "")
    assert parting.feed("ng> is") == ("", " <thing> is")
    assert Thinking(inside=False).feed("a <think> tag") == ("", "a <think> tag")


def test_thinking_that_never_ends_is_all_thinking() -> None:
    parting = Thinking(inside=False)
    assert parting.feed("<think>on and on</thi") == ("on and on", "")
    assert parting.flush() == ("</thi", "")


@given(st.text(max_size=30), st.lists(st.integers(0, 100)))
def test_characters_cut_into_bytes_come_out_whole(text: str, cuts: list[int]) -> None:
    raw = text.encode("utf-8", "replace")
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    shown = Shown((), thinks=False)
    found = [shown.feed(raw[begin:end])[1] for begin, end in pairwise(places)] + [shown.flush()[1]]
    assert "".join(found) == raw.decode("utf-8")
    assert not any("\ufffd" in piece for piece in found) or "\ufffd" in text


def test_bytes_that_are_no_text_become_a_visible_sign() -> None:
    shown = Shown((), thinks=False)
    assert shown.feed(b"a\xffb") == ("", "a\ufffdb")
    assert shown.feed("é".encode()[:1]) == ("", "")
    assert shown.flush() == ("", "\ufffd")


@pytest.mark.parametrize("stop", ["", "\n"])
def test_stop_strings_count_in_the_answer_and_not_in_the_thinking(stop: str) -> None:
    shown = Shown((stop,), thinks=True)
    assert shown.feed(b"<think>one\ntwo</think>\n\nthree") == ("one\ntwo", "three")
    assert shown.feed(b"\nfour") == ("", "" if stop else "\nfour")
    assert shown.stopped == bool(stop)


def test_the_space_that_a_vocabulary_puts_first_is_left_out() -> None:
    shown = Shown((), thinks=False, spaced=True)
    assert [shown.feed(piece)[1] for piece in (b" Hello", b" there", b"  ")] == ["Hello", " there", "  "]
    assert Shown((), thinks=False, spaced=True).feed(b"Hi") == ("", "Hi")
