"""Markdown in a terminal while it comes, read back from a terminal emulator."""

import re
from itertools import islice

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui.live_markdown import LiveMarkdown, closed_length, parser, wrap
from tui.output import width

COLUMNS, LINES = 60, 12
DOCUMENT = """# Title

A paragraph with **bold** and `code` that is rather long so that it has to be wrapped over several lines, really it does.
Second line.

- one
- two with 日本語

  more of two
- three

1. a
2. b

Now text.

```python
def f(x):

    return x + 1  # a comment that goes on and on and on and on and on and on and on and on and on
```

| a | b |
|---|---|
| 1 | 2 |

> quote
lazy

[1]: http://x.y

<div>html</div> [link](http://a.b)

the end"""


class Screen:
    """A stream that is a terminal of COLUMNS x LINES."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.emulator = pyte.HistoryScreen(COLUMNS, LINES, history=2000)
        self._feed = pyte.Stream(self.emulator)
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        self._feed.feed(text.replace("\n", "\r\n"))
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True

    def rows(self) -> list[str]:
        past = ["".join(line[column].data for column in range(COLUMNS)).rstrip() for line in self.emulator.history.top]
        rows = [*past, *(line.rstrip() for line in self.emulator.display)]
        while rows and not rows[-1]:
            rows.pop()
        return rows


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setenv("LINES", str(LINES))
    monkeypatch.setenv("TERM", "xterm-256color")


def shown(pieces: list[str]) -> Screen:
    screen = Screen()
    markdown = LiveMarkdown(screen)
    for piece in pieces:
        markdown.write(piece)
    markdown.close()
    return screen


def test_however_the_text_is_cut_the_screen_ends_the_same() -> None:
    whole = shown([DOCUMENT]).rows()
    assert "                           Title" in whole
    assert " • one" in whole
    for size in (1, 2, 3, 7, 40):
        pieces = iter(DOCUMENT)
        cut = ["".join(piece) for piece in iter(lambda: list(islice(pieces, size)), [])]  # noqa: B023
        assert [row for row in shown(cut).rows() if row] == [row for row in whole if row], f"in pieces of {size}"


def test_nothing_of_an_answer_is_hidden() -> None:
    rows = "\n".join(shown([DOCUMENT]).rows())
    for text in ("[1]: http://x.y", "<div>html</div>", "link (http://a.b)", "quote lazy", "the end"):
        assert text in rows


def test_the_first_token_is_visible_at_once() -> None:
    screen = Screen()
    LiveMarkdown(screen).write("Par")
    assert screen.rows() == ["Par"]


def test_an_open_block_higher_than_the_screen_is_whole_in_the_end() -> None:
    code = "\n".join(f"line {number}" for number in range(50))
    pieces = [f"{line}\n" for line in f"before\n\n```\n{code}\n```\nafter".split("\n")]
    rows = [row.strip() for row in shown(pieces).rows()]
    assert [row for row in rows if row.startswith("line")] == [f"line {number}" for number in range(50)]
    assert rows[0] == "before"
    assert rows[-1] == "after"


def test_rendered_rows_carry_no_padding_to_copy() -> None:
    rendered = re.sub(r"\x1b\[[0-9;]*m", "", "".join(shown(["one\n\ntwo\n\n- three\n"]).written))
    assert not [line for line in rendered.split("\n") if line.endswith("  ")]


def test_entities_cannot_smuggle_controls_past_the_sanitiser() -> None:
    screen = shown(["a &#x1b;[31m b &#x202e; c &#x9b;31m d\n\n`\x1b]0;title\x07`\n\nend"])
    text = "".join(screen.written)
    sent = re.sub(r"\x1b\[[0-9;]*[mAJ]", "", text)
    assert not set(sent) & {"\x1b", "\u202e", "\x9b", "\x07"}
    assert screen.emulator.title == ""


def test_colours_stay_off_where_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = "".join(shown(["```python\nx = 1\n```\n[a](http://b) `code`"]).written)
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|4[0-7]|9[0-7]|38|48)[;m]", text)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet=st.sampled_from(list("ab1 \n\n-*_`#>|:.[]()!\\<&~\t\x1b日")), max_size=8), max_size=40))
def test_no_markdown_breaks_the_screen_or_sends_a_foreign_control(pieces: list[str]) -> None:
    text = "".join(shown(pieces).written)
    assert "\x1b" not in re.sub(r"\x1b\[[0-9;]*[mAJ]", "", text)


@pytest.mark.parametrize(
    ("markdown", "closed"),
    [
        ("para", ""),
        ("para\n", ""),
        ("para\n\n", "para\n\n"),
        ("# head\n", "# head\n"),
        ("```\na\n\nb", ""),
        ("```\na\n```\n", "```\na\n```\n"),
        ("```\n\n", ""),
        ("- a\n\n", ""),
        ("- a\n\n1", ""),
        ("- a\n\nNow", "- a\n\n"),
        ("a\n\nb\n", "a\n\n"),
        ("", ""),
    ],
)
def test_a_block_is_closed_when_nothing_to_come_can_change_it(markdown: str, closed: str) -> None:
    assert markdown[: closed_length(parser().parse(markdown), markdown)] == closed


def test_rows_break_at_spaces_and_never_exceed_the_columns() -> None:
    assert wrap("one two three", 8) == ["one two", "three"]
    assert wrap("abcdefghij", 4) == ["abcd", "efgh", "ij"]
    assert wrap("a\tb", 20) == ["a   b"]
    assert all(width(row) <= 9 for row in wrap("日本語の文章は空白なしで続く " * 5, 9))
