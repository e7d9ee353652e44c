"""Chats as a tree and as a collection: branches, tags, filters, files, and chats that leave no trace."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from chatting import Chat, Held, chat, scenario
from textual.widgets import Input

from data import paths
from data.chat import Message
from data.errors import InputError
from data.store import Filters, Store, open_store
from tui import branches, saving, searching, tags
from tui.screens.line import LineScreen
from tui.screens.sessions import SessionsScreen
from tui.screens.tree import TreeScreen

NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)


def answered(store: Store, question: str, text: str, model: str = "echo/echo", **how: str) -> str:
    """A logged answer; returns its inference."""
    begun = store.log.begin(Message("user", question), model=model, config={}, **{"mode": "standard", **how})  # type: ignore[arg-type]
    store.log.finish(begun.inference, status="complete", text=text)
    return begun.inference


async def line(driven: Chat, words: str) -> None:
    """Type into the box that asks for a line."""
    await driven.until(lambda: isinstance(driven.app.screen, LineScreen))
    driven.app.screen.query_one(Input).value = words
    await driven.press("enter")


# Tags


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("About apples", ("About apples", ())),
        ("About apples #work #fruit", ("About apples", ("work", "fruit"))),
        ("About #3 and more", ("About #3 and more", ())),
        ("#only", ("", ("only",))),
        ("a ## b #x #x", ("a ## b", ("x",))),
    ],
)
def test_tags_are_the_words_with_a_sign_at_the_end_of_a_title(title: str, expected: tuple[str, tuple[str, ...]]) -> None:
    assert tags.split(title) == expected


def test_tags_are_replaced_and_the_title_stays() -> None:
    assert tags.joined("About apples #old", ("new", "new", "two")) == "About apples #new #two"
    assert tags.joined("About apples #old", ()) == "About apples"
    assert tags.typed(" #work, fruit  a#b #") == ("work", "fruit", "ab")


# Filters


def test_what_is_typed_becomes_words_and_filters() -> None:
    wanted = searching.parse(
        'apples "red ones" model:echo/echo Mode:multi-step rating:good since:7d before:2026-05-01 tag:#Work', NOW
    )
    assert wanted.words == 'apples "red ones"' and wanted.model == "echo/echo" and wanted.tag == "work"
    assert wanted.filters.mode == "multi_step" and wanted.filters.rating == "good"
    assert wanted.filters.since == NOW - timedelta(days=7)
    assert wanted.filters.before == datetime(2026, 5, 1).astimezone()


@pytest.mark.parametrize("text", ["since:soon", "before:2026-13-01", "rating:6", "since:99999999999d"])
def test_a_filter_that_cannot_be_used_is_named(text: str) -> None:
    with pytest.raises(InputError, match=text.split(":")[1]):
        searching.parse(text, NOW)


@pytest.mark.parametrize("text", ["http://x", '"model:x"', "a:b", '"open quote', "it's", "   "])
def test_other_colons_and_quotes_are_words(text: str) -> None:
    assert searching.parse(text, NOW).words == " ".join(text.split())


def test_answers_are_found_by_model_mode_domain_rating_and_time() -> None:
    with open_store() as store:
        good = answered(store, "What are apples?", "Apples are fruit", mode="agent", domain="food")
        bad = answered(store, "What are pears?", "Pears are fruit", model="echo/other")
        answered(store, "What is iron?", "Iron is no fruit")
        store.feedback.rate(good, 1)
        store.feedback.stars(bad, 1)
        store.feedback.correct(bad, "Pears are sweet fruit")

        def found(text: str = "fruit", **filters: object) -> list[str]:
            return sorted({hit.title for hit in store.search(text, filters=Filters(**filters))})  # type: ignore[arg-type]

        assert found() == ["What are apples?", "What are pears?", "What is iron?"]
        assert found(mode="agent") == found(domain="food") == found(rating="good") == ["What are apples?"]
        assert found(rating="bad") == found(rating="1") == found(rating="corrected") == ["What are pears?"]
        assert found(rating="rated") == ["What are apples?", "What are pears?"]
        assert found(rating="5") == found(mode="nothing") == []
        assert found(since=datetime.now(UTC) - timedelta(hours=1)) == found()
        assert found(before=datetime.now(UTC) - timedelta(hours=1)) == []
        assert found("", rating="good") == ["What are apples?"]
        assert [hit.title for hit in store.search("", model="echo/other")] == ["What are pears?"]
        store.feedback.rate(good, 0)
        assert found(rating="good") == []
        with pytest.raises(InputError, match="nothing to search"):
            store.search("  ")
        with pytest.raises(InputError, match="no rating"):
            found(rating="'; DROP TABLE turn")


@scenario
async def test_the_list_of_chats_is_filtered_and_says_how() -> None:
    async with chat("About apples", "About pears") as driven:
        await driven.ask("What are apples?")
        driven.app.chat.conversation.action_rate(1)
        await driven.until(lambda: "rated good" in driven.screen)
        await driven.press("ctrl+n")
        await driven.until(lambda: not driven.app.chat.conversation.conversation)
        await driven.ask("What are pears?")
        await driven.press("ctrl+s")
        await driven.until(lambda: "What are apples?" in driven.screen and "filters:" in driven.screen)
        await driven.press(*"about rating:good")
        await driven.until(lambda: "What are pears?" not in driven.screen and "What are apples?" in driven.screen)
        driven.app.screen.query_one(Input).value = "rating:6"
        await driven.until(lambda: "there is no rating" in driven.screen)


@scenario
async def test_a_chat_is_tagged_and_found_by_its_tag() -> None:
    async with chat("a", "b") as driven:
        await driven.ask("What are apples?")
        await driven.press("ctrl+n")
        await driven.until(lambda: not driven.app.chat.conversation.conversation)
        await driven.ask("What are pears?")
        await driven.press("ctrl+s")
        await driven.until(lambda: isinstance(driven.app.screen, SessionsScreen) and "What are pears?" in driven.screen)
        await driven.press("f3")
        await line(driven, "fruit, #sweet")
        await driven.until(lambda: "#fruit  #sweet" in driven.screen)
        assert driven.store.log.conversations()[0].title == "What are pears? #fruit #sweet"
        await driven.press(*"tag:fruit")
        await driven.until(lambda: "What are apples?" not in driven.screen and "What are pears?" in driven.screen)
        await driven.press("f3")
        await line(driven, "")
        await driven.until(lambda: driven.store.log.conversations()[0].title == "What are pears?")


# Files


@scenario
async def test_a_chat_is_written_as_markdown_and_as_json(tmp_path: Path) -> None:
    async with chat("Hello *you* \x1b[31m", "second") as driven:
        await driven.ask("Hi")
        driven.app.chat.conversation.action_rate(1)
        await driven.until(lambda: "rated good" in driven.screen)
        await driven.press("alt+up", "r")
        await driven.until(lambda: [view.text for view in driven.answers] == ["second"] and not driven.app.chat.conversation.busy)
        for name in ("chat.md", "chat.json"):
            driven.app.chat.action_save_chat()
            await line(driven, str(tmp_path / name))
            await driven.until(lambda name=name: (tmp_path / name).exists())
        written = (tmp_path / "chat.md").read_text()
        assert written.startswith("# Hi\n") and "## You\n\nHi\n" in written and "second" in written and "Hello" not in written
        rows = json.loads((tmp_path / "chat.json").read_text())
        assert {row["messages"][-1]["content"] for row in rows} == {"Hello *you* \x1b[31m", "second"}
        driven.app.chat.action_save_chat()
        await line(driven, str(tmp_path / "chat.md"))
        await driven.until(lambda: any("is there already" in notice for notice in driven.notices))


@scenario
async def test_a_chat_is_written_from_the_list(tmp_path: Path) -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi there")
        await driven.press("ctrl+s")
        await driven.until(lambda: "Hi there" in driven.screen and isinstance(driven.app.screen, SessionsScreen))
        await driven.press("ctrl+e")
        await driven.until(lambda: isinstance(driven.app.screen, LineScreen) and "hi-there.md" in driven.screen)
        await line(driven, str(tmp_path / "x.txt"))
        await driven.until(lambda: "ends neither in .md nor in .json" in driven.screen)
        await driven.press("ctrl+e")
        await line(driven, str(tmp_path / "no" / "x.md"))
        await driven.until(lambda: "written" in driven.screen or "cannot write" in driven.screen)


def test_markdown_holds_no_control_characters_and_what_was_said() -> None:
    with open_store() as store:
        inference = answered(store, "Hi \x1b]0;x\x07", "there \x1b[2J")
        store.feedback.comment(inference, "too\nshort")
        text = saving.markdown_of(store, store.log.conversations()[0].id)
    assert "\x1b" not in text and "\x07" not in text and "> comment: too short" in text


def test_a_file_name_is_made_of_the_title() -> None:
    assert saving.proposed("What are apples? / ../../etc") == "what-are-apples-etc.md"
    assert saving.proposed("???") == "chat.md"


# The tree


def test_the_tree_has_every_version_under_its_fork() -> None:
    with open_store() as store:
        answered(store, "q1", "a1")
        place = store.log.conversations()[0].id
        question, first = store.log.turns(place)
        again = store.log.begin_again(question.id, model="echo/echo", mode="standard", config={})
        store.log.finish(again.inference, status="complete", text="a2")
        follow = store.log.begin(Message("user", "q2"), parent=first.id, model="echo/echo", mode="standard", config={})
        store.log.finish(follow.inference, status="complete", text="a3")
        found = branches.nodes(store, place)
    assert [(node.text, node.depth, f"{node.number}/{node.of}", node.used) for node in found] == [
        ("q1", 0, "1/1", True),
        ("a1", 0, "1/2", True),
        ("q2", 1, "1/1", True),
        ("a3", 1, "1/1", True),
        ("a2", 0, "2/2", False),
    ]


@scenario
async def test_an_answer_is_forked_and_the_tree_leads_back() -> None:
    async with chat("one", "two", "other two") as driven:
        await driven.ask("first")
        await driven.ask("second")
        where = driven.app.chat.conversation.conversation
        await driven.press("alt+up", "up", "up", "f")
        await driven.until(lambda: "follows the marked answer" in driven.screen)
        await driven.type("instead")
        await driven.press("enter")
        await driven.until(lambda: driven.answers[-1].text == "other two" and not driven.app.chat.conversation.busy)
        assert [view.text for view in driven.questions] == ["first", "instead"]
        assert [message.content for message in driven.echo.requests[-1].messages] == ["first", "one", "instead"]
        await driven.press("alt+up", "t")
        await driven.until(lambda: isinstance(driven.app.screen, TreeScreen) and "instead" in driven.screen)
        assert "‹1/2› you: second" in driven.screen and "‹2/2› you: instead" in driven.screen
        await driven.press(*"two", "up", "enter")
        await driven.until(lambda: [view.text for view in driven.answers] == ["one", "two"])
        assert [turn.message.content for turn in driven.store.log.turns(where)] == ["first", "one", "second", "two"]


@scenario
async def test_a_fork_is_given_up_with_escape() -> None:
    async with chat("one", "two") as driven:
        await driven.ask("first")
        await driven.press("alt+up", "f")
        await driven.until(lambda: "follows the marked answer" in driven.screen)
        await driven.press("escape", "escape")
        await driven.until(lambda: "follows the marked answer" not in driven.screen)
        await driven.ask("second")
        assert len(driven.store.log.turns(driven.app.chat.conversation.conversation)) == 4


@scenario
async def test_an_empty_chat_has_no_tree_and_no_file() -> None:
    async with chat() as driven:
        driven.app.chat.action_tree()
        driven.app.chat.action_save_chat()
        await driven.until(lambda: driven.notices.count("this chat is still empty") >= 1)


# Incognito


@scenario
async def test_an_incognito_chat_leaves_no_trace() -> None:
    async with chat("first", "the marker answer", "third") as driven:
        await driven.ask("in the log")
        await driven.press("alt+n")
        await driven.until(lambda: "incognito: nothing is kept" in driven.screen)
        await driven.ask("quetzalcoatl marker")
        driven.app.chat.conversation.action_rate(1)
        await driven.until(lambda: "rated good" in driven.screen)
        assert driven.answers[-1].text == "the marker answer"
        await driven.press("alt+n")
        await driven.until(lambda: "incognito" not in driven.screen and not driven.answers)
        await driven.press("up")
        assert driven.app.chat.prompt.text == "in the log"
        driven.app.chat.prompt.clear()
        await driven.ask("again in the log")
        assert [talk.title for talk in driven.store.log.conversations()] == ["again in the log", "in the log"]
        assert [message.content for message in driven.echo.requests[-1].messages] == ["again in the log"]
        assert not driven.store.search("quetzalcoatl")
    root = paths.data_dir().parent
    kept = [file for file in root.rglob("*") if file.is_file() and b"quetzalcoatl" in file.read_bytes()]
    assert kept == []


@scenario
async def test_going_to_a_kept_chat_ends_incognito_even_while_an_answer_comes() -> None:
    held = Held(["half "], ["whole"])
    async with chat("first", held, "third") as driven:
        await driven.ask("in the log")
        where = driven.app.chat.conversation.conversation
        await driven.press("alt+n")
        await driven.until(lambda: "incognito" in driven.screen)
        await driven.type("secret")
        await driven.press("enter")
        await driven.until(lambda: "half" in driven.screen)
        driven.app.chat.conversation.show(where)
        await driven.until(lambda: [view.text for view in driven.answers] == ["first"] and "incognito" not in driven.screen)
        held.released.set()
        await driven.until(lambda: not driven.app.chat.conversation.busy)
        await driven.ask("more")
        assert [turn.message.content for turn in driven.store.log.turns(where)] == ["in the log", "first", "more", "third"]
        assert not [notice for notice in driven.notices if "kept" in notice or "unforeseen" in notice]
