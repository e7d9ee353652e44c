"""Why an answer took its route, and telling the router that it was the wrong one."""

from typing import Any

import pytest
from chatting import Chat, chat, scenario
from hypothesis import given
from hypothesis import strategies as st
from scripted_mode import unlearned
from test_hostile_text import SEQUENCES
from textual.content import Content
from transcript_app import answer

from data.errors import InputError
from data.store.rows import Inference
from router.session import Session
from tui.screens.why import WhyScreen, explained
from tui.screens.wrong_route import WrongRouteScreen

DECISION: dict[str, Any] = {
    "model": "llamacpp/coder",
    "mode": "chain_of_thought",
    "domain": "coding",
    "source": "adapter",
    "confidence": 0.61,
    "stages": [
        {"name": "rules", "outcome": "", "evidence": "no rule that sets anything still open", "ms": 0.02},
        {"name": "domain", "outcome": "coding", "evidence": "coding with 61% (by n-grams)", "ms": 0.91},
        {"name": "mode", "outcome": "chain_of_thought", "evidence": "chain of thought with 81%: why, prove", "ms": 0.4},
    ],
    "runner_up": {"field": "domain", "name": "travel", "probability": 0.22, "margin": 0.39},
    "domain_probabilities": {"coding": 0.61, "travel": 0.22, "banking": 0.1, "a": 0.03, "b": 0.02, "c": 0.01, "d": 0.01},
    "mode_probabilities": {"chain_of_thought": 0.81, "standard": 0.19},
    "thresholds": {"accept": 0.55, "tool_need": 0.5},
    "out_of_scope": 0.12,
    "tool_need": 0.031,
    "tools": [],
    "arm": "",
    "propensity": 1.0,
    "version": "v3",
}


def inference(decision: object, **fields: Any) -> Inference:
    found = answer(1, decision=decision, **({"domain": "coding", "mode": "chain_of_thought"} | fields)).inference
    assert found is not None
    return found


def text(decision: object, **fields: Any) -> str:
    return "\n\n".join(part.plain for part in explained(inference(decision, **fields)))


@pytest.fixture(autouse=True)
def router(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """A router without learned heads that knows two domains and notes its corrections."""
    corrected: list[tuple[str, str, str]] = []

    def correct(self: Session, inference: str, *, domain: str = "", mode: str = "") -> str:
        if domain == "refused":
            raise InputError("that cannot be learned", "say something else")
        corrected.append((inference, domain, mode))
        return "learned: questions like this go to travel"

    unlearned(monkeypatch)
    monkeypatch.setattr(Session, "domains", lambda self: ["coding", "travel"])
    monkeypatch.setattr(Session, "correct_route", correct)
    return corrected


# The panel


def test_the_panel_holds_choice_stages_probabilities_and_thresholds() -> None:
    shown = text(DECISION)
    for words in (
        "model        llamacpp/smollm2-135m",
        "mode         Chain-of-Thought",
        "domain       coding",
        "chosen by    adapter",
        "confidence   ━━━━━━━━━━━━──────── 61%",
        "runner-up    travel · 0.22 · behind by 0.39",
        "rules        nothing  0.0 ms",
        "domain       coding  0.9 ms",
        "             coding with 61% (by n-grams)",
        "and 2 more",
        "thresholds   accept 0.55 · tool_need 0.5",
        "propensity   1",
        "version      v3",
    ):
        assert words in shown, words
    assert shown.index("rules  ") < shown.index("coding with 61%") < shown.index("chain of thought with 81%")


@pytest.mark.parametrize("missing", list(DECISION))
def test_a_row_without_a_field_is_shown_without_it(missing: str) -> None:
    assert "model        llamacpp/smollm2-135m" in text({key: value for key, value in DECISION.items() if key != missing})


def test_a_row_of_the_first_version_is_shown() -> None:
    first = {"source": "default", "stages": [{"name": "default", "outcome": "auto", "evidence": "the default model is auto"}]}
    shown = text(first, domain="", mode="standard")
    assert "mode         Standard" in shown and "domain       none" in shown and "the default model is auto" in shown
    assert "confidence" not in shown and " ms" not in shown


@given(
    st.dictionaries(
        st.sampled_from(sorted(DECISION)),
        st.none()
        | st.integers()
        | st.floats()
        | st.text(max_size=5)
        | st.lists(st.text(max_size=3), max_size=2)
        | st.lists(
            st.dictionaries(st.sampled_from(["name", "outcome", "evidence", "ms"]), st.none() | st.floats(), max_size=3), max_size=2
        )
        | st.dictionaries(st.text(max_size=3), st.none() | st.floats() | st.text(max_size=3), max_size=3),
    )
)
def test_no_row_of_any_form_breaks_the_panel(decision: dict[str, Any]) -> None:
    assert all(isinstance(part, Content) for part in explained(inference(decision)))


def test_nothing_in_a_decision_acts_on_the_terminal() -> None:
    payload = "".join(SEQUENCES)
    decision = DECISION | {
        "source": payload,
        "stages": [{"name": payload, "outcome": payload, "evidence": payload, "ms": 1}],
        "runner_up": {"name": payload},
        "domain_probabilities": {payload: 0.5},
        "thresholds": {payload: 0.5},
        "tools": [payload],
        "arm": payload,
        "version": payload,
    }
    shown = text(decision, domain=payload, model=payload, mode=payload)
    assert not any((ord(one) < 0x20 and one != "\n") or 0x7F <= ord(one) < 0xA0 for one in shown)


# In the chat


async def opened(driven: Chat) -> None:
    await driven.press("alt+up", "w")
    await driven.until(lambda: isinstance(driven.app.screen, WhyScreen) and "chosen by" in driven.screen)


async def wrong(driven: Chat) -> None:
    await opened(driven)
    await driven.press("w")
    await driven.until(lambda: isinstance(driven.app.screen, WrongRouteScreen) and "travel" in driven.screen)


async def back(driven: Chat) -> None:
    await driven.until(lambda: driven.app.screen is driven.app.chat)


@scenario
async def test_the_key_of_an_answer_opens_the_panel_and_escape_closes_it() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        await opened(driven)
        for words in ("Why this route", "echo/echo", "Standard", "stages, in their order"):
            assert words in driven.screen
        await driven.press("escape")
        await back(driven)


@scenario
async def test_the_palette_explains_the_last_answer() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        driven.app.chat.conversation.action_why()
        await driven.until(lambda: isinstance(driven.app.screen, WhyScreen))
        await driven.press("q")
        await back(driven)


@scenario
async def test_there_is_nothing_to_explain_before_the_first_answer() -> None:
    async with chat() as driven:
        driven.app.chat.conversation.action_why()
        await driven.until(lambda: driven.notices)
        assert "that goes for answers" in driven.notices[0]


@scenario
async def test_a_wrong_route_is_corrected_by_domain_and_mode(router: list[tuple[str, str, str]]) -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        taught = driven.answers[0].inference  # another answer takes its place
        await wrong(driven)
        await driven.press(*"travel", "enter", *"agent", "enter")
        await driven.until(lambda: "travel · agent: ctrl+s keeps it" in driven.screen)
        assert "● travel" in driven.screen and "● Agent" in driven.screen
        await driven.press("ctrl+s")
        await back(driven)
        await driven.until(lambda: "learned: questions like this go to travel" in driven.notices)
        assert router == [(taught, "travel", "agent")]


@scenario
async def test_a_new_domain_is_typed(router: list[tuple[str, str, str]]) -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        taught = driven.answers[0].inference  # another answer takes its place
        await wrong(driven)
        await driven.press(*"model-railways")
        await driven.until(lambda: "new domain model-railways" in driven.screen)
        await driven.press("enter", "ctrl+s")
        await back(driven)
        await driven.until(lambda: router)
        assert router == [(taught, "model-railways", "")]


@scenario
async def test_nothing_marked_and_the_same_route_again_are_no_corrections(router: list[tuple[str, str, str]]) -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        await wrong(driven)
        await driven.press("ctrl+s")
        await driven.until(lambda: "nothing is marked yet" in driven.screen)
        await driven.press(*"standard", "enter", "ctrl+s")
        await driven.until(lambda: "that is the route it took" in driven.screen)
        await driven.press("escape")
        await driven.until(lambda: isinstance(driven.app.screen, WhyScreen))
        await driven.press("escape")
        await back(driven)
    assert router == []


@scenario
async def test_a_mark_is_taken_away_by_marking_again() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        await wrong(driven)
        await driven.press(*"travel", "enter", *"travel", "enter", "ctrl+s")
        await driven.until(lambda: "nothing is marked yet" in driven.screen)


@scenario
async def test_a_correction_that_the_router_refuses_is_told(router: list[tuple[str, str, str]]) -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        await wrong(driven)
        await driven.press(*"refused", "enter", "ctrl+s")
        await back(driven)
        await driven.until(lambda: driven.notices)
        assert driven.notices == ["that cannot be learned; say something else"]
