"""Doing a step of an answer again, changing one, and taking another route in place."""

import pytest
from chatting import Chat, chat, scenario

from data.chat import Message
from router.modes.base import Planned
from router.session import Session
from router.terms import GO_ON
from tui.screens.steps import StepsScreen
from tui.screens.why import WhyScreen
from tui.screens.wrong_route import WrongRouteScreen
from tui.widgets.evidence import took_ms

PLAN = "1. How far is the moon?\n2. How long is a mile?"


async def answered(driven: Chat) -> None:
    """Ask a question that takes two steps."""
    driven.app.chat.conversation.pin(mode="multi_step")
    await driven.ask("How far is the moon, in miles?")
    await driven.press("alt+up", "s")
    await driven.until(lambda: isinstance(driven.app.screen, StepsScreen))


@scenario
async def test_one_step_is_done_again_and_the_others_are_kept() -> None:
    async with chat(PLAN, "384400 km", "1.6 km", "240,250 miles", "1.609 km", "238,906 miles") as driven:
        await answered(driven)
        assert "✓ 1. How far is the moon?" in driven.screen and "1.6 km" in driven.screen
        await driven.press("down", "r")
        await driven.until(lambda: [view.text for view in driven.answers] == ["238,906 miles"])
        await driven.until(lambda: not driven.app.chat.conversation.busy)
        assert [step.text for step in driven.answers[0].answer.trace.steps] == ["384400 km", "1.609 km"]
        assert len(driven.echo.requests) == 6 and "384400 km" in driven.echo.requests[-1].messages[-1].content
        assert len(driven.store.log.siblings(driven.answers[0].turn_id)) == 2


@scenario
async def test_a_changed_step_and_those_after_it_are_done_anew() -> None:
    async with chat(PLAN, "384400 km", "1.6 km", "wrong", "356500 km", "1.609 km", "221,500 miles") as driven:
        await answered(driven)
        await driven.press("e", "end", *" at its nearest", "enter")
        await driven.until(lambda: [view.text for view in driven.answers] == ["221,500 miles"])
        steps = driven.answers[0].answer.trace.steps
        assert [step.title for step in steps] == ["How far is the moon? at its nearest", "How long is a mile?"]
        assert [step.text for step in steps] == ["356500 km", "1.609 km"]


@scenario
async def test_changing_a_step_is_given_up_with_escape() -> None:
    async with chat(PLAN, "384400 km", "1.6 km", "240,250 miles") as driven:
        await answered(driven)
        await driven.press("e", "x", "escape", "escape")
        await driven.until(lambda: driven.app.screen is driven.app.chat)
        assert len(driven.echo.requests) == 4


@scenario
async def test_an_answer_without_steps_says_so() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        await driven.press("alt+up", "s")
        await driven.until(lambda: driven.notices)
        assert "was not made in steps" in driven.notices[0]


@scenario
async def test_a_wrong_route_is_answered_again_in_place_on_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "domains", lambda self: ["travel"])
    async with chat("wrong", PLAN, "a", "b", "right") as driven:
        await driven.ask("Hi")
        await driven.press("alt+up", "w")
        await driven.until(lambda: isinstance(driven.app.screen, WhyScreen))
        await driven.press("w")
        await driven.until(lambda: isinstance(driven.app.screen, WrongRouteScreen) and "travel" in driven.screen)
        await driven.press(*"multi-step", "enter", "ctrl+s")
        await driven.until(lambda: [view.text for view in driven.answers] == ["right"])
        await driven.until(lambda: any("questions like this go to multi step" in notice for notice in driven.notices))
        assert driven.answers[0].answer.mode == "multi_step"
        assert [one.mode for one in driven.store.routing.exemplars()] == ["multi_step"]
        assert driven.app.chat.conversation.pins.mode == ""


@scenario
async def test_another_model_answers_in_place_and_the_router_learns_nothing_of_it() -> None:
    async with chat("first", "second") as driven:
        await driven.ask("Hi")
        await driven.press("alt+up", "w")
        await driven.until(lambda: isinstance(driven.app.screen, WhyScreen))
        await driven.press("w")
        screen = WrongRouteScreen(list, "", "standard", lambda: ["echo/other"], "echo/echo")
        await driven.until(lambda: isinstance(driven.app.screen, WrongRouteScreen))
        await driven.press("escape", "escape")
        found = []
        await driven.app.push_screen(screen, found.append)
        await driven.until(lambda: "echo/other" in driven.screen)
        await driven.press(*"echo/other", "enter", "ctrl+s")
        await driven.until(lambda: found)
        assert found == ["\n\necho/other"] and not driven.store.routing.exemplars()


@scenario
async def test_ctrl_o_opens_all_evidence_of_the_route_below_the_answer() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        await driven.until(lambda: driven.answers[0].answer.decision)
        assert "chosen by" not in driven.screen
        await driven.press("ctrl+o")
        await driven.until(lambda: "chosen by" in driven.screen and "stages, in their order" in driven.screen)
        await driven.press("ctrl+o")
        await driven.until(lambda: "chosen by" not in driven.screen)


def test_the_milliseconds_of_a_decision_are_those_of_its_stages() -> None:
    assert took_ms({"stages": [{"ms": 1.5}, {"ms": "x"}, {}, {"ms": 2}]}) == 3.5
    assert took_ms({"stages": "?"}) == 0.0


@scenario
async def test_the_rest_of_an_answer_is_asked_for_behind_its_beginning() -> None:
    from router.terms import Terms

    async with chat("One two", " three") as driven:
        await driven.ask("Count")
        session = driven.app.session
        assert session is not None
        question = driven.store.log.turn(driven.answers[0].turn_id).parent or ""
        list(session.again(question, terms=Terms(said="One two")))
        asked = driven.echo.requests[-1].messages
        assert asked == (Message("user", "Count"), Message("assistant", "One two"), Message("user", GO_ON))
        newest = driven.store.log.siblings(driven.answers[0].turn_id)[-1]
        assert newest.message.content == "One two three"


def test_a_plan_keeps_what_is_done() -> None:
    from tui.trace import Step

    screen = StepsScreen([Step(1, "a", "done", "A"), Step(2, "b", "failed", "no"), Step(3, "c", "done", "C")])
    assert screen._plan(2, None) == (Planned("a", "A"), Planned("b"), Planned("c"))
    assert screen._plan(0, "x") == (Planned("x"), Planned("b"), Planned("c"))
