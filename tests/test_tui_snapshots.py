"""How the parts that show and steer the router and the modes look, wide and narrow. See the pictures in __snapshots__.

`pytest tests/test_tui_snapshots.py --snapshot-update` accepts what is drawn now.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chatting import Held
from scripted_mode import EVENTS, play, unlearned
from test_app_snapshots import Look, Snapped, look, steady
from test_tui_approval import wish
from test_tui_why import inference

from router.modes.base import Event
from router.pairing import two
from router.route import Decision, RunnerUp, Stage
from router.session import Session
from tui.screens.approval import ApprovalScreen
from tui.screens.line import LineScreen
from tui.screens.modes import ModesScreen
from tui.screens.pair import PairScreen
from tui.screens.sources import SourcesScreen
from tui.screens.steps import StepsScreen
from tui.screens.tour import TourScreen
from tui.screens.tree import TreeScreen
from tui.screens.why import WhyScreen
from tui.screens.wrong_route import WrongRouteScreen
from tui.sources import Passage
from tui.trace import Citation, Step
from tui.widgets.trace import TraceView

__all__ = ["look", "steady"]

PROGRAM = "from pathlib import Path\n\nfor path in sorted(Path('notes').glob('*.md')):\n    print(path, path.stat().st_size)\n"
DECISION = Decision(
    model="echo/echo",
    mode="agent",
    domain="travel",
    source="adapter",
    stages=(
        Stage("eligibility", "", "ollama/llama3.2: the server is away", 0.021),
        Stage("rules", "", "no rule that sets anything still open", 0.034),
        Stage("domain", "travel", "travel with 78% (by n-grams and the encoder)", 1.84),
        Stage("mode", "agent", "agent with 91%: how far, from here, names a place", 0.62),
        Stage("adapter", "echo/echo", "gain 0.06 over the base in 400 pairs, lower bound 0.02", 0.01),
    ),
    confidence=0.78,
    runner_up=RunnerUp("domain", "utility", 0.12, 0.66),
    domain_probabilities=(("travel", 0.78), ("utility", 0.12), ("small_talk", 0.06), ("banking", 0.04)),
    mode_probabilities=(("agent", 0.91), ("multi_step", 0.07), ("standard", 0.02)),
    thresholds=(("accept", 0.64), ("tool_need", 0.5)),
    out_of_scope=0.08,
    tool_need=0.93,
    version="2026-11-20.1",
)


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    unlearned(monkeypatch)
    monkeypatch.setattr(Session, "domains", lambda self: ["banking", "coding", "travel", "utility"])


def everything() -> Iterator[Event]:
    yield from EVENTS


def test_modes(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()
        chat.app.chat.conversation.pin(mode="agent", domain="travel")
        await chat.pilot.press("f2")
        await chat.until(lambda: isinstance(chat.app.screen, ModesScreen) and "banking" in chat.app.export_screenshot())

    assert look(Snapped(), script)


def test_working(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held()

    def events() -> Iterator[Event]:
        yield from EVENTS[:8]
        list(held)

    play(monkeypatch, events)

    async def script(chat: Snapped) -> None:
        await chat.ready()
        chat.app.chat.conversation.pin(mode="agent")
        await chat.send("How far is the moon, in miles?")
        await chat.until(
            lambda: chat.app.chat.conversation.transcript.query(TraceView) and "python" in chat.app.export_screenshot()
        )

    assert look(Snapped(held), script)


@pytest.mark.parametrize("opened", [False, True], ids=["folded", "opened"])
def test_worked(look: Look, monkeypatch: pytest.MonkeyPatch, opened: bool) -> None:
    play(monkeypatch, everything)
    monkeypatch.setattr("router.session.decide", lambda *_, **__: DECISION)

    async def script(chat: Snapped) -> None:
        await chat.ready()
        await chat.ask("How far is the moon, in miles?")
        if opened:
            await chat.pilot.press("ctrl+o")
        await chat.pilot.pause()

    assert look(Snapped(), script)


@pytest.mark.parametrize("tainted", [False, True], ids=["first", "tainted"])
def test_approval(look: Look, monkeypatch: pytest.MonkeyPatch, tainted: bool) -> None:
    apps = []

    def events() -> Iterator[Event]:
        apps[0].session.approve(wish(arguments={"code": PROGRAM, "seconds": 5}, tainted=tainted))
        yield from EVENTS[-1:]

    play(monkeypatch, events)

    async def script(chat: Snapped) -> None:
        await chat.ready()
        apps.append(chat.app)
        await chat.send("How large are my notes?")
        await chat.until(lambda: isinstance(chat.app.screen, ApprovalScreen) and "Once" in chat.app.export_screenshot())
        await chat.until(lambda: chat.app.focused is not None)

    assert look(Snapped(), script)


def test_why(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()
        logged = inference(DECISION.to_dict(), mode="agent", domain="travel", model="echo/echo")
        await chat.app.push_screen(WhyScreen(logged, list))
        await chat.until(lambda: "propensity" in chat.app.export_screenshot() or chat.app.size.width < 80)

    assert look(Snapped(), script)


def test_wrong_route(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()
        await chat.app.push_screen(WrongRouteScreen(lambda: ["banking", "coding", "travel"], "travel", "agent"))
        await chat.until(lambda: "banking" in chat.app.export_screenshot())
        await chat.pilot.press(*"coding", "enter")
        await chat.until(lambda: "keeps" in chat.app.screen.query_one("#note").content)  # type: ignore[attr-defined]
        chat.app.screen.query_one("#filter").cursor_blink = False  # type: ignore[attr-defined]

    assert look(Snapped(), script)


def test_files(look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    (work / "notes").mkdir(parents=True)
    for name in ("notes.md", "my notes.txt", "agenda.md"):
        (work / name).write_text("")
    monkeypatch.chdir(work)

    async def script(chat: Snapped) -> None:
        await chat.ready()
        await chat.pilot.press(*"What is in @no")
        await chat.until(lambda: chat.app.chat.query_one("#files").display)

    assert look(Snapped(), script)


def test_steps(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()
        steps = [
            Step(1, "How far is the moon?", "done", "384400 km"),
            Step(2, "How long is a mile?", "failed", "the model said nothing"),
        ]
        await chat.app.push_screen(StepsScreen(steps))
        await chat.until(lambda: "384400" in chat.app.export_screenshot())

    assert look(Snapped(), script)


def test_two_answers(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()
        session = chat.app.session
        assert session is not None
        pairing = two(session, "Which is better?", ("echo/echo", "echo/other"), flip=lambda: False)
        await chat.app.push_screen(PairScreen("Which is better?", pairing))
        await chat.until(lambda: pairing.complete and "better?" in chat.app.export_screenshot())

    assert look(Snapped("A **short** answer.", "A longer answer:\n\n1. one\n2. two\n"), script)


def test_tree(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()
        await chat.ask("First?")
        await chat.ask("Second?")
        await chat.pilot.press("alt+up", "r")
        await chat.until(lambda: not chat.app.chat.conversation.busy and chat.echo.replies == [])
        await chat.pilot.press("alt+up", "t")
        await chat.until(lambda: isinstance(chat.app.screen, TreeScreen) and "Second" in chat.app.export_screenshot())
        chat.app.screen.query_one("#filter").cursor_blink = False  # type: ignore[attr-defined]

    assert look(Snapped("one", "two", "other two"), script)


def test_sources(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = tuple(f"Line {number} of the plan." for number in range(8, 30))
    monkeypatch.setattr("tui.sources.passage", lambda *_: Passage("/home/me/plan.md", 8, lines))

    async def script(chat: Snapped) -> None:
        await chat.ready()
        session = chat.app.session
        assert session is not None
        cited = [Citation(1, "plan.md", 10, 14), Citation(2, "README.md", 3, 3)]
        await chat.app.push_screen(SourcesScreen(session.store, "", cited))
        await chat.until(lambda: "Line" in chat.app.export_screenshot())

    assert look(Snapped(), script)


def test_line(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()
        await chat.app.push_screen(LineScreen("Tags of this chat", "#work"))
        await chat.until(lambda: "Tags" in chat.app.export_screenshot())
        chat.app.screen.query_one("#line").cursor_blink = False  # type: ignore[attr-defined]

    assert look(Snapped(), script)


def test_tour(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()
        chat.app.chat.action_tour()
        await chat.until(lambda: isinstance(chat.app.screen, TourScreen))

    assert look(Snapped(), script)


def test_commands_offered(look: Look) -> None:
    async def script(chat: Snapped) -> None:
        await chat.ready()
        await chat.pilot.press("slash", "c", "o")
        await chat.until(lambda: chat.app.chat.query_one("#files").display)

    assert look(Snapped(), script)
