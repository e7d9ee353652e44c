"""Completing `@file` while a question is typed."""

import os
from pathlib import Path

import pytest
from chatting import Chat, chat, scenario
from scripted_mode import unlearned
from textual.widgets import Static

from tui import mentions
from tui.mentions import Mention, candidates, typed, written


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a few files."""
    unlearned(monkeypatch)
    work = tmp_path / "work"
    (work / "src").mkdir(parents=True)
    for name in ("notes.md", "plan notes.md", "Numbers.csv", ".hidden", "src/main.py", "src/mail.py"):
        (work / name).write_text("x")
    monkeypatch.chdir(work)
    return work


def offered(driven: Chat) -> list[str]:
    files = driven.app.chat.query_one("#files", Static)
    return str(files.content).splitlines() if files.display else []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("@", Mention(1, "")),
        ("look at @not", Mention(9, "not")),
        ("(@src/ma", Mention(2, "src/ma")),
        ('see @"plan no', Mention(5, "plan no")),
        ("@~/x", Mention(1, "~/x")),
        ("mail me@example.org", None),
        ("@notes.md and", None),
        ("no mention", None),
        ("@@a", None),
        ('@"closed" x', None),
    ],
)
def test_a_mention_is_what_stands_behind_an_at_sign(line: str, expected: Mention | None) -> None:
    assert typed(line, len(line)) == expected


def test_only_what_is_before_the_cursor_counts() -> None:
    assert typed("@notes.md", 4) == Mention(1, "not")
    assert typed("x " * 50_000 + "@no", 100_003) == Mention(100_001, "no")


def test_names_that_begin_so_come_before_names_that_contain_it(folder: Path) -> None:
    assert candidates("no", folder) == ["notes.md", "plan notes.md"]
    assert candidates("N", folder)[:2] == ["notes.md", "Numbers.csv"]
    assert candidates("", folder) == ["notes.md", "Numbers.csv", "plan notes.md", "src/"]
    assert candidates("src/ma", folder) == ["src/mail.py", "src/main.py"]
    assert candidates(".h", folder) == [".hidden"]
    assert candidates("../work/nu", folder) == ["../work/Numbers.csv"]
    assert candidates(f"{folder}/nu", Path("/")) == [f"{folder}/Numbers.csv"]


@pytest.mark.parametrize("path", ["absent/x", "notes.md/x", "\0", "~nobody-here/x", "a" * 5_000 + "/b"])
def test_a_folder_that_cannot_be_read_offers_nothing(folder: Path, path: str) -> None:
    assert candidates(path, folder) == []


def test_names_that_a_terminal_acts_on_or_quotes_cannot_hold_are_not_offered(folder: Path) -> None:
    for name in ("odd\x1b[31m.txt", "two\nlines.txt", 'quo"te.txt'):
        (folder / name).write_text("x")
    (folder / os.fsdecode(b"bytes\xff.txt")).write_text("x")
    assert candidates("odd", folder) == candidates("two", folder) == candidates("quo", folder) == candidates("byt", folder) == []


def test_a_large_folder_is_read_no_further_than_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mentions, "SCANNED", 50)
    for number in range(200):
        (folder / "src" / f"file{number:03}").write_text("")
    found = candidates("src/file", folder)
    assert 0 < len(found) <= mentions.SHOWN


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("notes.md", "notes.md "),
        ("src/", "src/"),
        ("plan notes.md", '"plan notes.md" '),
        ("my dir/", '"my dir/'),
        ("a'b", '"a\'b" '),
    ],
)
def test_paths_are_quoted_where_they_must_be(path: str, expected: str) -> None:
    assert written(path) == expected


# In the chat


@scenario
async def test_files_are_offered_and_tab_takes_the_marked_one() -> None:
    async with chat() as driven:
        await driven.press(*"see @no")
        await driven.until(lambda: offered(driven) == ["● notes.md  tab takes it", "  plan notes.md"])
        await driven.press("tab")
        assert driven.app.chat.prompt.text == "see @notes.md "
        await driven.until(lambda: not offered(driven))
        assert driven.app.chat.prompt.has_focus


@scenario
async def test_arrows_mark_another_file_and_names_with_spaces_are_quoted() -> None:
    async with chat() as driven:
        await driven.press(*"@no")
        await driven.until(lambda: offered(driven))
        await driven.press("down")
        await driven.until(lambda: offered(driven)[1].startswith("● plan"))
        await driven.press("tab")
        assert driven.app.chat.prompt.text == '@"plan notes.md" '


@scenario
async def test_a_folder_is_entered() -> None:
    async with chat() as driven:
        await driven.press(*"@sr")
        await driven.until(lambda: offered(driven))
        await driven.press("tab")
        await driven.until(lambda: [line.strip("● ").split("  ")[0] for line in offered(driven)] == ["src/mail.py", "src/main.py"])
        await driven.press("down", "tab")
        assert driven.app.chat.prompt.text == "@src/main.py "


@scenario
async def test_escape_puts_the_files_away_and_leaves_the_text() -> None:
    async with chat() as driven:
        await driven.press(*"@no")
        await driven.until(lambda: offered(driven))
        await driven.press("escape", "t")
        await driven.until(lambda: not offered(driven))
        assert driven.app.chat.prompt.text == "@not"
        await driven.press(*" @no")
        await driven.until(lambda: offered(driven))


@scenario
async def test_enter_sends_although_files_are_offered_and_tab_elsewhere_moves_on() -> None:
    async with chat("Hello") as driven:
        await driven.press(*"@zzz")
        await driven.pilot.pause()
        assert not offered(driven)
        await driven.press(*" x @no")
        await driven.until(lambda: offered(driven))
        await driven.press("enter")
        await driven.until(lambda: driven.questions and not offered(driven))


@scenario
async def test_an_earlier_question_that_ends_with_a_file_does_not_keep_the_arrows() -> None:
    async with chat("one", "two") as driven:
        await driven.ask("first")
        await driven.ask("about @no")
        await driven.press("up")
        await driven.pilot.pause()
        assert driven.app.chat.prompt.text == "about @no" and not offered(driven)
        await driven.press("up")
        assert driven.app.chat.prompt.text == "first"
