"""No character of untrusted text may act in a terminal."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from data.sanitise import one_line, sanitise

ATTACKS = [
    "\x1b]52;c;cm0gLXJmIC8=\x07",
    "\x1b]8;;file:///etc/passwd\x1b\\click\x1b]8;;\x1b\\",
    "\x1b[2J\x1b[H",
    "\x1bP1$r0m\x1b\\",
    "\x9b31m",
    "\x9d0;title\x9c",
    "\x08\x08\x08rm",
    "a\rb",
    "‮evil⁦",
]


def acts(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in "\t\n"


def test_known_attacks_keep_their_words_and_lose_their_power() -> None:
    for attack in ATTACKS:
        for end in range(1, len(attack) + 1):
            assert not any(map(acts, sanitise(attack[:end])))
    assert "click" in sanitise(ATTACKS[1])


@given(st.text(st.characters()))
def test_nothing_that_acts_survives_and_pieces_equal_the_whole(text: str) -> None:
    clean = sanitise(text)
    assert not any(map(acts, clean))
    assert sanitise(clean) == clean
    assert "".join(map(sanitise, text.replace("\r\n", "\n"))) == clean
    clean.encode("utf-8")


def test_ordinary_text_is_left_alone() -> None:
    text = "naïve 日本語 👩‍👩‍👧 العربية\n\tdef f(): return '<b>'\n"
    assert sanitise(text) == text


def test_one_line_is_short_and_on_one_line() -> None:
    assert one_line("a\n b\t\tc") == "a b c"
    assert one_line("x" * 200, 10) == "x" * 9 + "…"
