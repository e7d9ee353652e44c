"""How every state of the chat looks, in a wide and in a narrow terminal. See the pictures in __snapshots__.

`pytest tests/test_app_snapshots.py --snapshot-update` accepts what is drawn now.
"""

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from chatting import Held, wait_until
from scripted_mode import unlearned
from textual.pilot import Pilot

from data import config
from data.errors import EngineRejected, StoreReadOnly
from data.store import open_store
from router.engines import Engines
from router.engines.base import ModelInfo
from router.engines.echo import Echo, Reply
from router.session import Session
from tui.app import PointsmanApp
from tui.screens.help import HelpScreen
from tui.screens.models import ModelsScreen
from tui.screens.sessions import SessionsScreen
from tui.widgets.answer import AnswerView

WIDE, NARROW = (120, 36), (50, 24)
ANSWER = """Three things to know:

1. A **pointsman** sets the points.
2. The signalman sets the *signals*.

```python
def route(train):
    return points[train.line]
```

| lever | line |
|-------|------|
| 1     | up   |
| 2     | down |
"""
Compare = Callable[..., bool]
Script = Callable[["Snapped"], Awaitable[None]]


class Listed(Echo):
    """An engine that lists two models."""

    name = "llamacpp"

    def models(self) -> list[ModelInfo]:
        return [
            ModelInfo("smollm2-135m", "llamacpp", 91_700_000, 8192, "135M", "Q4_1", "smollm2"),
            ModelInfo("/models/long-name-of-a-model-7b-instruct.gguf", "llamacpp", 4_400_000_000, 32768, "7B", "Q4_K_M"),
        ]


class Snapped:
    """A chat whose times and models are always the same."""

    def __init__(self, *replies: Reply | Held, fault: StoreReadOnly | None = None) -> None:
        self.settings = config.load({"model": "echo/echo"})
        self.held = [reply for reply in replies if isinstance(reply, Held)]
        self.echo = Echo(list(replies))  # type: ignore[arg-type]
        self.fault = fault
        self.app = PointsmanApp(self.settings, self._open)
        self.pilot: Pilot[Any]

    def _open(self) -> Session:
        if self.fault:
            raise self.fault
        return Session(self.settings, open_store(), Engines(self.settings, {"echo": self.echo, "llamacpp": Listed()}))

    async def ready(self) -> None:
        """Until the log is open and everything on this machine was found."""
        conversation = self.app.chat.conversation
        await self.until(lambda: conversation.ready and str(self.app.chat.query_one("#status-chip").content))  # type: ignore[attr-defined]
        await self.until(lambda: "smollm2" in str(self.app.chat.query_one("#empty").content))  # type: ignore[attr-defined]

    async def until(self, predicate: Callable[[], object]) -> None:
        await wait_until(self.pilot, predicate)

    async def send(self, text: str) -> None:
        """Send, without waiting for the answer."""
        self.app.chat.prompt.insert(text)
        await self.pilot.press("enter")

    async def ask(self, text: str) -> None:
        """Send, and wait for the end of the answer."""
        count = len(self.app.chat.conversation.transcript.query(AnswerView))
        await self.send(text)
        conversation = self.app.chat.conversation
        await self.until(lambda: len(conversation.transcript.query(AnswerView)) > count and not conversation.busy)


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Clocks that always give the same times, no animations, a router that has learned nothing, an Ollama
    that is installed and does not run."""
    ticks = itertools.count()
    unlearned(monkeypatch)
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    monkeypatch.setattr("textual.constants.TEXTUAL_ANIMATIONS", "none")
    monkeypatch.setattr("router.engines.echo.time.perf_counter", lambda: next(ticks) * 0.25)
    monkeypatch.setattr("tui.widgets.answer.monotonic", lambda: 0.0)
    command = tmp_path / "bin" / "ollama"
    command.parent.mkdir()
    command.write_text("")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent))


@pytest.fixture(params=[WIDE, NARROW], ids=["wide", "narrow"])
def look(request: pytest.FixtureRequest, snap_compare: Compare) -> Callable[[Snapped, Script], bool]:
    """Run a script in the app, then compare the picture, at both sizes."""

    def compare(snapped: Snapped, script: Script) -> bool:
        async def before(pilot: Pilot[Any]) -> None:
            snapped.pilot = pilot
            await wait_until(pilot, lambda: snapped.app.focused is not None)
            snapped.app.chat.prompt.cursor_blink = False
            await script(snapped)

        try:
            return snap_compare(snapped.app, terminal_size=request.param, run_before=before)
        finally:
            for held in snapped.held:
                held.released.set()
            snapped.app.part()

    return compare


Look = Callable[[Snapped, Script], bool]


def test_new_chat(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()

    assert look(Snapped(), script)


def test_first_frame(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.pilot.pause()

    held = Held()
    snapped = Snapped(held)
    snapped._open = lambda: (list(held) and None) or Snapped._open(snapped)  # type: ignore[method-assign]
    snapped.app = PointsmanApp(snapped.settings, snapped._open)
    assert look(snapped, script)


def test_answering(look: Look) -> None:
    held = Held([ANSWER[:100]], ["never"])

    async def script(chat: Snapped) -> None:
        await chat.ready()
        await chat.send("What is a pointsman?")
        await chat.until(lambda: "signals" in chat.app.export_screenshot())

    assert look(Snapped(held), script)


def test_answered(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()
        await chat.ask("What is a pointsman?")

    assert look(Snapped([ANSWER]), script)


def test_cancelled(look: Look) -> None:
    held = Held(["One, two,"], [" three", " four"])

    async def script(chat: Snapped) -> None:
        await chat.ready()
        await chat.send("Count to ten.")
        await chat.until(lambda: "two" in chat.app.export_screenshot())
        await chat.pilot.press("escape")
        held.released.set()
        await chat.until(lambda: not chat.app.chat.conversation.busy)

    assert look(Snapped(held), script)


def test_failed(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()
        await chat.ask("Hello?")

    assert look(Snapped([EngineRejected("the model refuses this request", "choose another with ctrl+l")]), script)


def test_queue(look: Look) -> None:
    held = Held(["One moment"], [])

    async def script(chat: Snapped) -> None:
        await chat.ready()
        await chat.send("First question")
        await chat.until(lambda: "moment" in chat.app.export_screenshot())
        await chat.send("Second question")
        await chat.send("Third question\nof two lines")
        await chat.until(lambda: "2 queued" in chat.app.export_screenshot().replace("&#160;", " "))

    assert look(Snapped(held), script)


def test_selected_and_rated(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()
        await chat.ask("What is a pointsman?")
        await chat.pilot.press("alt+up", "+")
        await chat.until(lambda: "good" in chat.app.export_screenshot().lower() and chat.app.chat.conversation.has_focus)
        await chat.until(lambda: chat.app.chat.conversation.transcript.query(AnswerView).last().answer.thumb == 1)

    assert look(Snapped("It sets the points."), script)


def test_sessions(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await _two_chats(chat)
        await chat.pilot.press("ctrl+s")
        await chat.until(lambda: isinstance(chat.app.screen, SessionsScreen) and "apples" in chat.app.export_screenshot())

    assert look(Snapped("About apples and their trees.", "About pears."), script)


def test_search(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await _two_chats(chat)
        await chat.pilot.press("ctrl+s", *"trees")
        await chat.until(lambda: "answer" in chat.app.export_screenshot())

    assert look(Snapped("About apples and their trees.", "About pears."), script)


def test_models(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()
        await chat.pilot.press("ctrl+l")
        await chat.until(lambda: isinstance(chat.app.screen, ModelsScreen) and "ollama" in chat.app.export_screenshot())

    assert look(Snapped(), script)


def test_correcting(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()
        await chat.ask("What is a pointsman?")
        await chat.pilot.press("alt+up", "e")
        await chat.until(lambda: "should" in chat.app.export_screenshot())
        chat.app.screen.query_one("#correction").cursor_blink = False  # type: ignore[attr-defined]

    assert look(Snapped([ANSWER]), script)


def test_help(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()
        await chat.pilot.press("f1")
        await chat.until(lambda: isinstance(chat.app.screen, HelpScreen))

    assert look(Snapped(), script)


def test_log_that_cannot_be_opened(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.until(lambda: chat.app.chat.query_one("#banner").display)

    fault = StoreReadOnly("the log /home/you/.local/share/pointsman/pointsman.db cannot be written", "make its folder writable")
    assert look(Snapped(fault=fault), script)


async def _two_chats(chat: Snapped) -> None:
    await chat.ready()
    await chat.ask("What are apples?")
    await chat.pilot.press("ctrl+n")
    await chat.until(lambda: not chat.app.chat.conversation.conversation)
    await chat.ask("What are pears?")
