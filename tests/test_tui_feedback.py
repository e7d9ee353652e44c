"""What is said about answers: remarks, corrections with their differences, two answers side by side, and the count of it all."""

import pytest
from chatting import Chat, Held, chat, scenario
from textual.widgets import Input, Static, TextArea

from data.store import open_store
from router.engines.base import ModelInfo
from router.engines.echo import Echo
from tui.diff import Change, words
from tui.lessons import count
from tui.screens.correct import CorrectScreen
from tui.screens.line import LineScreen
from tui.screens.models import ModelsScreen
from tui.screens.pair import PairScreen
from tui.widgets.differences import drawn


@pytest.fixture
def two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine with a second model, and a coin that always leaves the order as it is."""
    listed = [ModelInfo("echo", "echo"), ModelInfo("other", "echo")]
    monkeypatch.setattr(Echo, "models", lambda self: listed)
    monkeypatch.setattr("tui.survey.HIDDEN", ())
    monkeypatch.setattr("router.pairing.secrets.randbelow", lambda most: 0)


async def paired(driven: Chat, question: str = "Which is better?") -> PairScreen:
    """Ask a second model too, until the screen of both is there."""
    await driven.type(question)
    await driven.press("ctrl+b")
    await driven.until(lambda: isinstance(driven.app.screen, ModelsScreen) and "echo/other" in driven.screen)
    await driven.press(*"other", "enter")
    await driven.until(lambda: isinstance(driven.app.screen, PairScreen))
    assert isinstance(driven.app.screen, PairScreen)
    return driven.app.screen


async def both(driven: Chat) -> None:
    await driven.until(lambda: "which one is better?" in driven.screen)


# The differences


def test_words_that_changed_are_told_apart_from_words_that_stayed() -> None:
    assert words("a red house", "a blue house") == (
        Change("same", "a "),
        Change("old", "red"),
        Change("new", "blue"),
        Change("same", " house"),
    )
    assert words("same", "same") == (Change("same", "same"),)
    assert words("", "new") == (Change("new", "new"),)


def test_neighbouring_changes_are_one() -> None:
    assert words("x one two y", "x three four y") == (
        Change("same", "x "),
        Change("old", "one two"),
        Change("new", "three four"),
        Change("same", " y"),
    )


@pytest.mark.parametrize("old", ["", "a b", "one two three", "\n\n", "ä ö\tü", "word " * 7_000])
def test_the_pieces_make_up_both_texts(old: str) -> None:
    new = old.replace("o", "0") + " more"
    changes = words(old, new)
    assert "".join(change.text for change in changes if change.kind != "new") == old
    assert "".join(change.text for change in changes if change.kind != "old") == new


def test_a_difference_shows_no_control_characters_and_cuts_what_stayed() -> None:
    shown = drawn([Change("same", "a" * 500), Change("old", "\x1b[31m"), Change("new", "[bold]")])
    assert "\x1b" not in shown.plain and "[bold]" in shown.plain and len(shown.plain) < 200


@scenario
async def test_a_correction_shows_what_it_changes() -> None:
    async with chat("The sky is green today") as driven:
        await driven.ask("Hi")
        await driven.press("alt+up", "e")
        await driven.until(lambda: isinstance(driven.app.screen, CorrectScreen))
        assert not driven.app.screen.query_one("#changes").display
        driven.app.screen.query_one(TextArea).text = "The sky is blue today"
        differences = driven.app.screen.query_one("#differences", Static)
        await driven.until(lambda: str(differences.content) == "The sky is greenblue today")
        assert driven.app.screen.query_one("#changes").display
        await driven.press("ctrl+s")
        await driven.until(lambda: "corrected" in driven.screen)


# Remarks and the count


@scenario
async def test_a_remark_is_kept_and_taken_back() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        await driven.press("alt+up", "m")
        await driven.until(lambda: isinstance(driven.app.screen, LineScreen))
        await driven.press(*"too short", "enter")
        await driven.until(lambda: "commented" in driven.screen)
        answer = driven.answers[0]
        assert [(one.kind, one.text) for one in driven.store.feedback.of(answer.inference)] == [("comment", "too short")]
        await driven.press("u")
        await driven.until(lambda: "commented" not in driven.screen)


@scenario
async def test_a_remark_without_words_is_none() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        await driven.press("alt+up", "m")
        await driven.until(lambda: isinstance(driven.app.screen, LineScreen))
        await driven.press("enter")
        assert isinstance(driven.app.screen, LineScreen)
        driven.app.screen.query_one(Input).value = "  "
        await driven.press("enter", "escape")
        await driven.until(lambda: driven.app.screen is driven.app.chat)
        assert not driven.store.feedback.of(driven.answers[0].inference)


@scenario
async def test_the_line_below_says_how_many_ratings_the_next_training_wants() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        assert "to the next training" not in driven.screen
        await driven.press("alt+up", "+")
        await driven.until(lambda: "rated 1 · 49 to the next training" in driven.screen)
        await driven.press("-")
        await driven.until(lambda: "rated 1 · 50 to the next training" in driven.screen)
        await driven.press("u")
        await driven.until(lambda: "to the next training" not in driven.screen)


def test_an_empty_log_has_no_ratings() -> None:
    with open_store() as store:
        assert (count(store).answers, count(store).wanted) == (0, 50)


# Two answers


@scenario
async def test_two_answers_are_picked_blind_and_told_afterwards(two_models: None) -> None:
    async with chat("short", "long and good") as driven:
        screen = await paired(driven)
        await both(driven)
        assert "echo/echo" not in driven.screen and "echo/other" not in driven.screen and "tokens" not in driven.screen
        assert driven.screen.index("short") < driven.screen.index("long and good")
        await driven.press("right")
        await driven.until(lambda: "left: echo/echo · right: echo/other" in driven.screen)
        await driven.press("left", "enter")
        await driven.until(lambda: driven.app.screen is driven.app.chat and driven.answers)
        assert [view.text for view in driven.answers] == ["long and good"] and screen._said == "right"
        await driven.until(lambda: "2/2" in driven.screen)
        [said] = driven.store.feedback.of(driven.answers[0].inference)
        assert (said.kind, said.value, said.blind, said.chosen_left) == ("preference", 1.0, True, False)
        assert driven.app.chat.prompt.text == ""


@scenario
async def test_answers_as_good_as_each_other_are_a_tie(two_models: None) -> None:
    async with chat("a", "b") as driven:
        await paired(driven)
        await both(driven)
        await driven.press("t")
        await driven.until(lambda: "you found them as good" in driven.screen)
        await driven.press("enter")
        await driven.until(lambda: driven.app.screen is driven.app.chat and driven.answers)
        [said] = driven.store.feedback.of(driven.answers[0].inference)
        assert (said.kind, said.value, said.chosen_left) == ("preference", 0.0, True)


@scenario
async def test_nothing_is_picked_before_both_answers_are_there(two_models: None) -> None:
    held = Held(["half "], ["and whole"])
    async with chat("left", held) as driven:
        screen = await paired(driven)
        await driven.until(lambda: "half" in driven.screen)
        await driven.press("left", "t")
        assert screen._said == ""
        await driven.press("escape")
        held.released.set()
        await driven.until(lambda: driven.app.screen is driven.app.chat)
        await driven.until(lambda: driven.answers)
        assert not driven.store.feedback.of(driven.answers[0].inference)


@scenario
async def test_an_answer_that_breaks_off_leaves_nothing_to_compare(two_models: None) -> None:
    from data.errors import EngineRejected

    async with chat("left", EngineRejected("no more")) as driven:
        await paired(driven)
        await driven.until(lambda: "nothing to compare" in driven.screen and "no more" in driven.screen)
        await driven.press("escape")
        await driven.until(lambda: driven.app.screen is driven.app.chat)


@scenario
async def test_a_narrow_terminal_has_the_answers_below_one_another(two_models: None) -> None:
    async with chat("one", "two", size=(60, 30)) as driven:
        screen = await paired(driven)
        await both(driven)
        left, right = screen.query_one("#left").region, screen.query_one("#right").region
        assert left.x == right.x and left.bottom <= right.y


@scenario
async def test_comparing_needs_a_question_and_another_model(two_models: None) -> None:
    async with chat() as driven:
        await driven.press("ctrl+b")
        await driven.until(lambda: any("type the question first" in notice for notice in driven.notices))
        await driven.type("Which?")
        await driven.press("ctrl+b")
        await driven.until(lambda: isinstance(driven.app.screen, ModelsScreen) and "echo/other" in driven.screen)
        await driven.press(*"echo/echo", "enter")
        await driven.until(lambda: any("choose another" in notice for notice in driven.notices))
        assert driven.app.chat.prompt.text == "Which?" and driven.echo.requests == []


@scenario
async def test_a_paired_experiment_says_itself_which_models_answer_and_counts_the_pick() -> None:
    async with chat("one", "two") as driven:
        begun = driven.store.experiments.start("triage", "echo/a", "echo/b", paired=True, who="tester")
        await driven.type("Which?")
        await driven.press("ctrl+b")
        await driven.until(lambda: isinstance(driven.app.screen, PairScreen))
        await both(driven)
        await driven.press("left")
        await driven.until(lambda: "left: echo/" in driven.screen)
        pairs = driven.store.experiments.status(begun.id).pairs
        assert pairs.wins + pairs.losses == 1
        await driven.press("enter")
        await driven.until(lambda: [view.text for view in driven.answers] == ["one"])


@scenario
async def test_several_experiments_need_a_domain() -> None:
    async with chat() as driven:
        for domain in ("triage", "fraud"):
            driven.store.experiments.start(domain, "echo/a", "echo/b", paired=True, who="tester")
        await driven.type("Which?")
        await driven.press("ctrl+b")
        await driven.until(lambda: any("none is of this question's domain" in notice for notice in driven.notices))
        assert driven.app.chat.prompt.text == "Which?"
