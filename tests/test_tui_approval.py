"""Before a tool writes, runs or uses the network: what the user is shown, and that nothing happens without a clear yes."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from chatting import Chat, chat, scenario
from scripted_mode import play, unlearned
from test_hostile_text import SEQUENCES
from textual.widgets import Button, Static

from router.modes.base import Event, Text, ToolCalled, ToolResult
from router.tools import Wish
from tui import approval
from tui.screens.approval import ApprovalScreen
from tui.turns import Asked, Ended, Turn

CODE = "import os\nfor name in os.listdir('.'):\n    print(name)"


def wish(**fields: Any) -> Wish:
    return Wish(**({"tool": "python", "arguments": {"code": CODE}, "permission": "run", "tainted": False} | fields))


class Asking:
    """A chat whose answer asks for the user's word and says what it was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *wishes: Wish) -> None:
        self.wishes = wishes
        self.answers: list[str] = []
        self.app: Any = None
        play(monkeypatch, self.script)

    def script(self) -> Iterator[Event]:
        for one in self.wishes:
            yield ToolCalled(one.tool, one.arguments)
            self.answers.append(self.app.session.approve(one))
            yield ToolResult(one.tool, self.answers[-1], failed=self.answers[-1] == "no")
        yield Text("The end.")


async def asked(driven: Chat, asking: Asking) -> None:
    """Ask, and wait for the dialog."""
    asking.app = driven.app
    await driven.type("list the files")
    await driven.press("enter")
    await dialog(driven)


async def dialog(driven: Chat) -> None:
    await driven.until(lambda: isinstance(driven.app.screen, ApprovalScreen) and driven.app.screen.query("#answers Button"))


async def over(driven: Chat) -> None:
    await driven.until(lambda: not driven.app.chat.conversation.busy and driven.app.screen is driven.app.chat)


def buttons(driven: Chat) -> list[str]:
    return [str(button.label) for button in driven.app.screen.query(Button)]


def focused(driven: Chat) -> str:
    button = driven.app.focused
    assert isinstance(button, Button)
    return str(button.label)


# The dialog


@scenario
async def test_the_dialog_shows_the_whole_call_and_no_has_the_focus(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(monkeypatch, wish())
    async with chat() as driven:
        await asked(driven, asking)
        for words in ("python wants to run a program", "the call, 5 lines", *CODE.splitlines()):
            assert words in driven.screen
        assert buttons(driven) == ["No", "Once", "Always in this session"]
        assert focused(driven) == "No"
        assert approval.TAINTED not in driven.screen
        await driven.press("enter")
        await over(driven)
    assert asking.answers == ["no"]


@scenario
@pytest.mark.parametrize(
    ("keys", "answer"), [(("right", "enter"), "once"), (("tab", "tab", "enter"), "always"), (("escape",), "no")]
)
async def test_arrows_or_tab_lead_to_the_other_answers(monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...], answer: str) -> None:
    asking = Asking(monkeypatch, wish())
    async with chat() as driven:
        await asked(driven, asking)
        await driven.press(*keys)
        await over(driven)
        assert driven.answers[0].text == "The end."
    assert asking.answers == [answer]


@scenario
async def test_what_one_goes_on_typing_answers_nothing_but_no(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(monkeypatch, wish())
    async with chat() as driven:
        await asked(driven, asking)
        await driven.press(*"yes always once ay1", "backspace")
        assert isinstance(driven.app.screen, ApprovalScreen) and not asking.answers
        await driven.press("enter")
        await over(driven)
    assert asking.answers == ["no"]


@scenario
async def test_after_text_of_strangers_it_says_so_in_red_and_offers_no_always(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(monkeypatch, wish(tainted=True, permission="network", tool="fetch"))
    async with chat() as driven:
        await asked(driven, asking)
        assert "fetch wants to use the network" in driven.screen
        assert buttons(driven) == ["No", "Once"]
        line = driven.app.screen.query_one("#tainted", Static)
        assert str(line.content) == approval.TAINTED
        red, green, blue = line.styles.color.rgb
        assert red > green + 40 and red > blue + 40
        await driven.press("escape")
        await over(driven)


@scenario
async def test_each_wish_is_asked_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(monkeypatch, wish(), wish(tool="write_file", permission="write", arguments={"path": "a.txt"}))
    async with chat() as driven:
        await asked(driven, asking)
        await driven.press("right", "enter")
        await driven.until(lambda: "write_file wants to change files" in driven.screen)
        await driven.press("escape")
        await over(driven)
    assert asking.answers == ["once", "no"]


@scenario
async def test_a_long_program_can_be_scrolled_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "\n".join(f"step({number})" for number in range(300)) + "\nos.remove('everything')"
    asking = Asking(monkeypatch, wish(arguments={"code": code}))
    async with chat(size=(80, 24)) as driven:
        await asked(driven, asking)
        assert "the call, 303 lines" in driven.screen and "everything" not in driven.screen
        assert buttons(driven) == ["No", "Once", "Always in this session"]
        for _ in range(40):
            await driven.press("pagedown")
        assert "os.remove('everything')" in driven.screen
        await driven.press("escape")
        await over(driven)


@scenario
async def test_a_wish_of_control_characters_and_markup_is_shown_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = "".join(SEQUENCES) + "[red]a[/] [@click=app.quit]b[/]"
    asking = Asking(monkeypatch, wish(tool=payload, arguments={payload: payload, "list": [payload]}))
    async with chat() as driven:
        await asked(driven, asking)
        assert "[@click=app.quit]b[/]" in driven.screen
        assert not any((ord(one) < 0x20 and one != "\n") or 0x7F <= ord(one) < 0xA0 for one in driven.screen)
        await driven.press("escape")
        await over(driven)


@pytest.mark.parametrize("hidden", ["\u200b", "\u2060", "\ufeff", "\U000e0041", "\ue000"])
def test_characters_without_a_shape_are_shown_by_their_numbers(hidden: str) -> None:
    shown = approval.call(wish(arguments={"path": f"a{hidden}b"}, target="a server"))
    assert shown == f"python (a server)\npath: a⟦U+{ord(hidden):04X}⟧b"


# Endings


@scenario
async def test_ctrl_c_in_the_dialog_refuses_and_stops_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(monkeypatch, wish())
    async with chat() as driven:
        await asked(driven, asking)
        await driven.press("ctrl+c")
        await over(driven)
        assert driven.answers[0].answer.status == "cancelled"
    assert asking.answers == ["no"]


@scenario
async def test_quitting_in_the_dialog_refuses_and_logs_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(monkeypatch, wish())
    async with chat() as driven:
        await asked(driven, asking)
        await driven.press("ctrl+q")
        await asyncio.to_thread(driven.app.chat.conversation.wait, 20)
        assert asking.answers == ["no"]


@scenario
async def test_leaving_the_conversation_refuses_and_closes_the_dialog(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(monkeypatch, wish())
    async with chat() as driven:
        await asked(driven, asking)
        driven.app.chat.conversation.clear()
        await driven.until(lambda: asking.answers)
        await over(driven)
        assert not driven.answers
    assert asking.answers == ["no"]


def test_an_app_that_ended_unforeseen_leaves_no_thread_waiting_for_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    turn: Turn

    def ask() -> Iterator[Event]:
        said.append(turn.approve(wish()))
        yield Text("end")

    turn = Turn(ask)
    turn.start()
    assert turn.wait(20)
    assert said == ["no"]


def test_a_yes_that_comes_after_the_cancellation_is_a_no() -> None:
    said: list[str] = []
    turn: Turn

    def ask() -> Iterator[Event]:
        said.append(turn.approve(wish()))
        yield Text("end")

    turn = Turn(ask)
    turn.start()
    found: list[Asked] = []
    while not found:
        found = [item for item in turn.news() if isinstance(item, Asked)]
    turn._unattended.set()  # as `cancel` does first
    found[0].answer("always")
    assert turn.wait(20) and said == ["no"]


def test_a_wish_after_the_cancellation_is_not_even_asked() -> None:
    said: list[str] = []
    gate = threading.Event()
    turn: Turn

    def ask() -> Iterator[Event]:
        assert gate.wait(20)
        said.append(turn.approve(wish()))
        yield Text("end")

    turn = Turn(ask)
    turn.start()
    turn.cancel()
    gate.set()
    assert turn.wait(20) and said == ["no"]
    assert [type(item) for item in turn.news()][-1] is Ended


@scenario
async def test_outside_an_answer_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    unlearned(monkeypatch)
    async with chat() as driven:
        assert driven.app.session is not None
        assert driven.app.session.approve(wish()) == "no"
