"""The indicator knowledge base: exact quotes, disguised words, bad files told with their line, patterns that cannot run away."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import domains
from data.errors import InputError
from data.indicators import MOST_FINDS, PATTERN_CHARS, SEEN_CHARS, Indicators
from data.patterns import checked

BASE = """
[[indicator]]
name = "gift_card"
label = "scam"
description = "wants gift cards"
keywords = ["gift card", "café"]
patterns = ['(?:scratch|read) .{0,30}(?:card|code)s?']
weight = 2.0
against = ["fine"]
test = ["Pay with a gift card."]
not_test = ["A gift for you"]

[[indicator]]
name = "thanks"
label = "fine"
description = "says thank you"
keywords = ["thank you", "谢谢"]
"""


@pytest.fixture()
def base() -> Indicators:
    return Indicators.parse(BASE, labels=("scam", "fine"))


def test_a_find_carries_the_exact_words_and_their_place(base: Indicators) -> None:
    text = "First thank you. Then buy a GIFT   Card!"
    found = base.find(text)
    assert [(one.indicator, one.label, one.quote) for one in found] == [
        ("thanks", "fine", "thank you"),
        ("gift_card", "scam", "GIFT   Card"),
    ]
    assert all(text[one.start : one.end] == one.quote for one in found)


def test_keywords_are_whole_words(base: Indicators) -> None:
    assert not base.find("gift cardigan, thank your mother")


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        ("a gi\u200bft ca\u00adrd", "gi\u200bft ca\u00adrd"),
        ("a gift с\u0430rd", "gift с\u0430rd"),  # Cyrillic letters
        ("ｇｉｆｔ　ｃａｒｄ", "ｇｉｆｔ　ｃａｒｄ"),
        ("at the cafe", "cafe"),
        ("at the CAFE\u0301", "CAFE\u0301"),
        ("a gift\ncard", "gift\ncard"),
        ("𝐠𝐢𝐟𝐭 𝐜𝐚𝐫𝐝", "𝐠𝐢𝐟𝐭 𝐜𝐚𝐫𝐝"),
    ],
)
def test_disguised_words_are_found_and_quoted_as_they_stand(base: Indicators, text: str, quote: str) -> None:
    (found,) = base.find(text)
    assert found.quote.rstrip("\u0301") == quote.rstrip("\u0301")
    assert text[found.start : found.end] == found.quote


def test_overlapping_finds_of_one_indicator_are_one(base: Indicators) -> None:
    (found,) = base.find("scratch the gift card")
    assert found.quote == "scratch the gift card"


def test_a_text_full_of_one_sign_gives_the_first_few(base: Indicators) -> None:
    found = base.find("gift card, " * 500)
    assert [one.start for one in found] == [11 * at for at in range(MOST_FINDS)]


def test_patterns_see_the_beginning_and_keywords_more(base: Indicators) -> None:
    assert not base.find("x" * PATTERN_CHARS + " read the codes")
    assert base.find("x " * (PATTERN_CHARS // 2) + " gift card")
    assert not base.find("x " * (SEEN_CHARS // 2) + " gift card")


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_every_quote_is_in_the_text_whatever_the_text(text: str) -> None:
    base = Indicators.parse(BASE)
    said = text + " gift card " + text[::-1]
    found = base.find(said)
    assert [one.start for one in found] == sorted(one.start for one in found)
    assert all(said[one.start : one.end] == one.quote and one.quote for one in found)


def test_names_and_lookup_follow_the_file(base: Indicators) -> None:
    assert base.names == ("gift_card", "thanks")
    assert base.by_name["gift_card"].weight == 2.0
    assert base.by_name["gift_card"].against == ("fine",)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('label = "scam"', 'label = "skam"', "indicators.toml:4: indicator gift_card: 'skam' is no label of the pack"),
        ('against = ["fine"]', 'against = ["nobody"]', "indicators.toml:9: indicator gift_card: 'nobody' is no label"),
        ("weight = 2.0", "weight = 99", "indicators.toml:8: indicator gift_card: weight"),
        ("weight = 2.0", "wieght = 2.0", "indicators.toml:8: indicator gift_card: wieght"),
        ("(?:scratch|read) .{0,30}", "(a+)+", "indicators.toml:7: indicator gift_card: the pattern could take very long"),
        ("(?:scratch|read)", "(?:scratch|read", "indicators.toml:7: indicator gift_card: bad pattern"),
        ('"gift card", "café"', '"gift card",\n  "!!"', "indicators.toml:7: indicator gift_card: a keyword without letters"),
        ('name = "thanks"', 'name = "gift_card"', "indicators.toml:14: there are two indicators 'gift_card'"),
        ('keywords = ["thank you", "谢谢"]', "", "indicators.toml:13: indicator thanks: has neither keywords nor patterns"),
        ('name = "thanks"', 'name = "thanks', "indicators.toml:14: not TOML"),
        ("[[indicator]]\nname", "[[indicators]]\nname", "unknown key indicators"),
    ],
)
def test_a_bad_file_is_told_with_its_line(old: str, new: str, told: str) -> None:
    with pytest.raises(InputError) as raised:
        Indicators.parse(BASE.replace(old, new), labels=("scam", "fine"))
    assert told in str(raised.value)


@pytest.mark.parametrize("text", ["indicator = 5", "indicator = [1, 2]", "[[indicator]]", "x = " + "[" * 5000, "n = " + "9" * 5000])
def test_a_hostile_file_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError):
        Indicators.parse(text)


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+b", "a.*b.*c", r"(a)\1", "(?:a|ab|abc){1,40}x", "a*", "", r"\d+\s+\w+", ".{0,300}.{0,300}", "x" * 301, "[", "(?P<n>"],
)
def test_a_pattern_that_could_run_away_or_is_wrong_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        checked(pattern)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"\b(?:send|give|read|forward) .{0,40}(?:code|pin).{0,60}x", "send code " * 400),
        (r"a{1,140}b{0,140}c", "a" * 4000),
        (r"(?:\d\s?){6,10}z", "1 " * 2000),
    ],
)
def test_the_slowest_pattern_that_is_taken_ends_soon(pattern: str, text: str) -> None:
    compiled = checked(pattern)
    begun = time.process_time()
    compiled.search(text, 0, PATTERN_CHARS)
    assert time.process_time() - begun < 20  # a run-away pattern takes years here


def test_a_pack_without_the_file_has_no_indicators(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "domain.toml").write_text('name = "plain"\ntitle = "P"\ndescription = "d"\n')
    empty = Indicators.of(domains.read(folder))
    assert len(empty) == 0
    assert empty.names == ()
    assert empty.find("gift card") == ()


def test_a_pack_is_read_with_its_labels_and_told_by_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "domain.toml").write_text(
        'name = "small"\ntitle = "S"\ndescription = "d"\nlabels = [{name = "scam"}, {name = "fine"}]\nlabel_field = "label"\n'
    )
    file = folder / "indicators.toml"
    file.write_text(BASE, encoding="utf-8")
    assert len(Indicators.of(domains.read(folder))) == 2
    file.write_bytes(b"name = \xff")
    with pytest.raises(InputError, match="UTF-8"):
        Indicators.of(domains.read(folder))
