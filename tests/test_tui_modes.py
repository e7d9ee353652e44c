"""Choosing the way of reasoning and the domain in the chat: pins, what is shown of them, and for how long they hold."""

from collections.abc import Iterator
from typing import Any

import pytest
from chatting import Chat, Held, chat, scenario
from scripted_mode import play, unlearned
from textual.widgets import Static

from router.modes.base import Event, Text
from router.rules import Rules
from router.session import Session
from tui import modes
from tui.modes import MODES, Pins
from tui.screens.modes import ModesScreen


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    unlearned(monkeypatch)
    monkeypatch.setattr(Session, "domains", lambda self: ["coding", "travel"])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the session was asked, with the pins."""
    found: list[dict[str, Any]] = []
    original = Session.ask

    def ask(self: Session, text: str, **given: Any) -> Iterator[Event]:
        found.append({"text": text} | {key: given.get(key) for key in ("mode", "domain", "model")})
        return original(self, text, **given)

    monkeypatch.setattr(Session, "ask", ask)
    return found


def standing(driven: Chat) -> str:
    return str(driven.app.chat.query_one("#status-mode", Static).content)


async def choose(driven: Chat, words: str) -> None:
    """Open the picker, narrow it, and take what is highlighted."""
    await driven.press("f2")
    await driven.until(lambda: isinstance(driven.app.screen, ModesScreen) and "coding" in driven.screen)
    await driven.press(*words)
    await driven.press("enter")
    await driven.until(lambda: driven.app.screen is driven.app.chat)


def test_every_mode_has_a_title_and_one_line() -> None:
    assert [mode.name for mode in MODES] == ["auto", "standard", "chain_of_thought", "multi_step", "agent", "ensemble"]
    assert all(mode.title and mode.line and "\n" not in mode.line for mode in MODES)
    assert modes.title("chain_of_thought") == "Chain-of-Thought"
    assert modes.title("\x1b[31mold") == "␛[31mold"


def test_the_mode_after_the_last_is_the_first() -> None:
    names = [mode.name for mode in MODES]
    assert [modes.following(name) for name in names] == [*names[1:], names[0]]
    assert modes.following("unknown") == names[0]


@pytest.mark.parametrize(
    ("decision", "default", "expected"),
    [
        ({}, "standard", Pins()),
        ({"stages": None}, "standard", Pins()),
        (
            {"model": "echo/echo", "mode": "agent", "domain": "travel", "stages": [{"name": "pin", "outcome": "agent, travel"}]},
            "standard",
            Pins("", "agent", "travel"),
        ),
        ({"mode": "agent", "stages": [{"name": "mode", "outcome": "agent"}]}, "standard", Pins(mode="auto")),
        ({"mode": "agent", "stages": [{"name": "mode", "outcome": "agent"}]}, "auto", Pins()),
        ({"mode": "standard", "stages": ["damaged", {"name": "default", "outcome": "standard"}]}, "standard", Pins()),
    ],
)
def test_what_was_pinned_is_read_from_the_last_decision(decision: dict[str, Any], default: str, expected: Pins) -> None:
    assert modes.pinned(decision, default) == expected


@scenario
async def test_the_status_line_shows_the_default_and_a_pin_as_yours(asked: list[dict[str, Any]]) -> None:
    async with chat("one", "two", mode="auto") as driven:
        assert standing(driven) == "mode: auto"
        await driven.ask("first")
        await choose(driven, "multi")
        assert standing(driven) == "mode: multi-step (yours)"
        await choose(driven, "travel")
        assert standing(driven) == "mode: multi-step (yours) · domain: travel (yours)"
        await driven.type("second")
        await driven.press("enter")
        await driven.until(lambda: len(asked) == 2)
    assert [(one["mode"], one["domain"]) for one in asked] == [(None, None), ("multi_step", "travel")]


@scenario
async def test_the_picker_marks_the_present_mode_and_takes_a_domain_back() -> None:
    async with chat() as driven:
        await choose(driven, "coding")
        await driven.press("f2")
        await driven.until(lambda: "● Standard" in driven.screen and "● coding" in driven.screen)
        for mode in MODES:
            assert mode.title in driven.screen
        await driven.press(*"any domain", "enter")
        await driven.until(lambda: standing(driven) == "mode: standard")


@scenario
async def test_words_that_no_mode_has_choose_nothing() -> None:
    async with chat() as driven:
        await driven.press("f2", *"zzz", "enter")
        await driven.until(lambda: "nothing matches" in driven.screen)
        await driven.press("escape", "escape")
        await driven.until(lambda: driven.app.screen is driven.app.chat)
        assert standing(driven) == "mode: standard"


@scenario
async def test_a_key_takes_the_next_mode_while_one_types() -> None:
    async with chat() as driven:
        await driven.press("H", "i", "shift+tab")
        assert driven.app.chat.prompt.text == "Hi" and driven.app.chat.prompt.has_focus
        await driven.until(lambda: standing(driven) == "mode: chain-of-thought (yours)")


@scenario
async def test_pins_belong_to_their_conversation(asked: list[dict[str, Any]]) -> None:
    async with chat("one", "two") as driven:
        driven.app.chat.conversation.pin(mode="standard", domain="travel")
        await driven.ask("first")
        first = driven.app.chat.conversation.conversation
        await driven.press("ctrl+n")
        await driven.until(lambda: standing(driven) == "mode: standard")
        await driven.ask("second")
        driven.app.chat.conversation.show(first)
        await driven.until(lambda: standing(driven) == "mode: standard (yours) · domain: travel (yours)")
    assert [(one["mode"], one["domain"]) for one in asked] == [("standard", "travel"), (None, None)]


@scenario
async def test_pins_outlive_the_program() -> None:
    async with chat("one") as driven:
        driven.app.chat.conversation.pin(mode="standard", domain="travel")
        await driven.ask("first")
        first = driven.app.chat.conversation.conversation
    async with chat(conversation=first) as driven:
        await driven.until(lambda: standing(driven) == "mode: standard (yours) · domain: travel (yours)")


@scenario
async def test_a_question_in_line_keeps_the_mode_it_was_sent_with(asked: list[dict[str, Any]]) -> None:
    held = Held(["One"], [" done"])
    async with chat(held, "two", "three") as driven:
        await driven.type("first")
        await driven.press("enter")
        await driven.until(lambda: driven.app.chat.conversation.busy)
        driven.app.chat.conversation.pin(mode="chain_of_thought")
        await driven.type("second")
        await driven.press("enter")
        await driven.until(lambda: len(driven.questions) == 2)
        driven.app.chat.conversation.pin(mode="standard")
        await driven.type("third")
        await driven.press("enter")
        held.released.set()
        await driven.until(lambda: len(asked) == 3 and not driven.app.chat.conversation.busy)
    assert [one["mode"] for one in asked] == [None, "chain_of_thought", "standard"]


@scenario
async def test_the_answer_says_which_mode_and_domain_it_got_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def script() -> Iterator[Event]:
        yield Text("Seven.")

    play(monkeypatch, script)
    rule = '[[rule]]\nname = "sums"\nwhen = \'keyword("sum")\'\nmode = "agent"\ndomain = "arithmetic"\n'
    test = '[[rule.test]]\ntext = "the sum of 1 and 2"\n'
    unlearned(monkeypatch, rules=Rules.parse(rule + test, "rules.toml"))
    async with chat(mode="auto") as driven:
        await driven.ask("the sum of 3 and 4?")
        assert "agent · arithmetic" in driven.screen
        assert "route: rule 'sums'" in driven.screen
