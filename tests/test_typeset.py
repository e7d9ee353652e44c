"""Markdown as lines of text: what it looks like, what a copy of it contains, and that nothing in it acts."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.geometry import Offset
from textual.selection import SELECT_ALL, Selection
from textual.style import Style
from textual.theme import BUILTIN_THEMES

from data.sanitise import sanitise
from tui.widgets.typeset import Page, typeset

COLOURS = BUILTIN_THEMES["textual-dark"].to_color_system().generate()


def looks(markdown: str, width: int = 40) -> list[str]:
    return [line.text.plain.rstrip() for line in typeset(markdown, width).lines]


def copied(markdown: str, width: int = 40) -> str:
    return typeset(markdown, width).selected(SELECT_ALL)


def test_blocks_stand_a_blank_line_apart() -> None:
    assert looks("# Title\ntext\n\n---\n> quoted") == ["Title", "", "text", "", "─" * 40, "", "▎ quoted"]


def test_close_lists_stay_close_and_hang() -> None:
    assert looks("- one\n  - inner words that wrap\n- two\n\n10. ten\n11. eleven", 16) == [
        "• one",
        "  ◦ inner words",
        "    that wrap",
        "• two",
        "",
        "10. ten",
        "11. eleven",
    ]


def test_loose_lists_stand_apart() -> None:
    assert looks("- one\n\n  more\n- two") == ["• one", "", "  more", "", "• two"]


def test_an_empty_item_keeps_its_mark() -> None:
    assert looks("- \n- two") == ["•", "• two"]


def test_code_in_a_list_keeps_its_lines() -> None:
    assert looks("- do\n  ```\n  a\n\n  b\n  ```") == ["• do", "   a", "", "   b"]


def test_a_table_shrinks_to_the_width() -> None:
    table = "| a | long |\n|--:|:-:|\n| 1 | words that need room to stand in |\n"
    assert looks(table, 20) == [
        "a │       long",
        "──┼─────────────────",
        "1 │ words that need",
        "  │ room to stand in",
    ]


def test_a_table_too_wide_becomes_one_line_a_cell() -> None:
    table = "| a | b | c |\n|---|---|---|\n| one | a text that is longer | three |\n"
    assert looks(table, 14) == ["a: one", "b: a text that is longer", "c: three"]


def test_links_and_images_show_their_address() -> None:
    assert looks("[good](https://bad.example/x) ![pic](http://a.b/c) <http://d.e>", 99) == [
        "good (https://bad.example/x) image: pic (http://a.b/c) http://d.e"
    ]


@pytest.mark.parametrize("address", ["javascript:alert(1)", "file:///etc/passwd", "data:text/html;base64,AAAA", "vbscript:x"])
def test_addresses_that_could_act_stay_as_written(address: str) -> None:
    assert looks(f"[x]({address}) ![y]({address}) [z]\n\n[z]: {address}", 200)[0] == f"[x]({address}) ![y]({address}) [z]"


def test_html_and_markup_of_other_kinds_stay_as_written() -> None:
    text = "<b>x</b> [@click=app.quit]y[/] [link=http://a]z[/link] [bold]b[/]"
    assert looks(text, 200) == [text]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("[]()<>@=\"' abc:/.!`*_#-|\n\x1b\x9b\x07&;0x2"), max_size=120), st.integers(1, 60))
def test_nothing_acts_and_no_control_character_survives(text: str, width: int) -> None:
    page = typeset(text, width)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page.content.plain)
    for span in page.content.spans:
        style = Style.parse(span.style, COLOURS) if isinstance(span.style, str) else span.style
        assert style.link is None and not style.meta


@pytest.mark.parametrize("entity", ["&#x1b;", "&#27;", "&#x9b;", "&#12;", "&#13;", "&#x202e;", "&#8238;", "&#x2066;", "&NewLine;"])
def test_entities_that_spell_control_characters_do_not_make_them(entity: str) -> None:
    for markdown in (
        f"a{entity}b",
        f"`x` **{entity}**",
        f"```{entity}\nx\n```",
        f"[a{entity}]({entity}b)",
        f"| {entity} |\n|---|\n| {entity} |",
    ):
        plain = typeset(markdown, 60).content.plain
        assert plain == sanitise(plain)


def test_known_languages_are_coloured_and_unknown_ones_are_not() -> None:
    assert styles("```python\nreturn 1\n```") > styles("```no-such-language\nreturn 1\n```")
    assert styles("```python\nreturn 1\n```", "draft") == styles("```\nreturn 1\n```")


def test_tabs_do_not_move_colours() -> None:
    page = typeset('```python\n\tx = "text"\n```', 40)
    coloured = [page.content.plain[span.start : span.end] for span in page.content.spans if "success" in str(span.style)]
    assert "".join(coloured) == '"text"'


def test_a_copy_has_the_breaks_of_the_source() -> None:
    markdown = "- a list item that is wrapped\n  here\n\n```\nlong_code_line_that_is_folded = 1\n  b\n```"
    assert copied(markdown, 20) == "• a list item that is wrapped here\n\nlong_code_line_that_is_folded = 1\n  b"


def test_a_copy_may_begin_and_end_within_lines() -> None:
    page = typeset("```\nabcdef\nghijkl\n```", 30)
    assert page.selected(Selection(Offset(3, 0), Offset(4, 1))) == "cdef\nghi"
    assert page.selected(Selection(Offset(0, 1), None)) == "ghijkl"


def test_plain_text_is_shown_as_it_is() -> None:
    assert typeset("# *x*\n  y\n", 40, "plain").content.plain == "# *x*\n  y"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), st.integers(1, 30))
def test_any_text_can_be_set_and_selected(text: str, width: int) -> None:
    page = typeset(text, width)
    assert isinstance(page, Page)
    assert page.content.plain.split("\n") == [line.text.plain for line in page.lines] or not page.lines
    page.selected(SELECT_ALL)


@pytest.mark.parametrize(
    "text",
    [
        "> " * 3000 + "x",
        "- " * 3000 + "x",
        "*a " * 3000 + "b* " * 3000,
        "[" * 5000,
        "![" * 3000,
        "`" * 5000 + "x",
        "|" * 3000 + "\n" + "|-" * 3000 + "|\n",
        "<" * 5000,
        "&" * 5000,
        "\n" * 5000,
        "x" * 50_000,
    ],
    ids=["quotes", "lists", "emphasis", "brackets", "images", "backticks", "columns", "angles", "ampersands", "lines", "word"],
)
def test_pathological_text_is_set(text: str) -> None:
    assert typeset(text, 40).content.plain is not None


def styles(markdown: str, setting: str = "markdown") -> int:
    return len(typeset(markdown, 40, setting).content.spans)  # type: ignore[arg-type]
