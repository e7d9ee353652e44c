"""The transcript's behaviour: what stands where, what follows what, and what happens to an answer on its way."""

from collections.abc import Callable
from typing import Any

import pytest
from pilot import wait_until
from rich.segment import Segment
from textual import events
from textual.containers import VerticalScroll
from textual.pilot import Pilot
from textual.theme import BUILTIN_THEMES
from textual.widget import Widget
from textual.widgets import Static
from transcript_app import TranscriptApp, answer, question, said, scenario, turns

from data.chat import Usage
from data.errors import NotFound
from tui.widgets import answer as answer_module
from tui.widgets.answer import AnswerView
from tui.widgets.edges import Earlier, NewLines
from tui.widgets.question import QuestionView
from tui.widgets.safe_screen import SafeScreen
from tui.widgets.thoughts import Thoughts
from tui.widgets.transcript import MOUNTED, WINDOW

USAGE = Usage(20, 0, 81, 0.5, 2.5)
LONG = "\n\n".join(f"paragraph {number}" for number in range(60))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Time as the answers see it; the returned function lets seconds pass."""
    now = [100.0]
    monkeypatch.setattr(answer_module, "monotonic", lambda: now[0])

    def pass_(seconds: float) -> None:
        now[0] += seconds

    return pass_


def shows(app: TranscriptApp, *texts: str) -> bool:
    return all(text in app.shown for text in texts)


async def asked(app: TranscriptApp, text: str = "why?") -> AnswerView:
    await app.transcript.add_question("", text)
    return await app.transcript.begin_answer("")


# the life of an answer


@scenario
async def test_until_the_first_token_the_phase_is_shown() -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        view = await asked(app)
        await wait_until(pilot, lambda: shows(app, "waiting for the model…"))
        view.phase("loading")
        await wait_until(pilot, lambda: shows(app, "loading the model…"))
        view.phase("reading", 0.4)
        await wait_until(pilot, lambda: shows(app, "reading the prompt 40%…"))
        view.write("Because")
        await wait_until(pilot, lambda: shows(app, "Because") and not shows(app, "reading"))


@scenario
async def test_thinking_is_shown_while_it_happens_and_folds_when_the_answer_begins(clock: Callable[[float], None]) -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        view = await asked(app)
        view.think("a first idea\n")
        clock(2)
        view.think("a second one")
        await wait_until(pilot, lambda: shows(app, "thinking… 2 s", "a second one"))
        clock(4)
        view.write("Because")
        await wait_until(pilot, lambda: shows(app, "▸ thought for 6 s", "Because"))
        assert "a second one" not in app.shown
        await view.finish("complete", USAGE)
        await wait_until(pilot, lambda: shows(app, "81 tokens"))
        await pilot.click(Thoughts)
        await wait_until(pilot, lambda: shows(app, "▾ thought for 6 s", "a first idea", "a second one"))
        app.transcript.toggle_details()
        await wait_until(pilot, lambda: not shows(app, "a first idea"))
        assert not app.transcript.toggle_thinking()
        await wait_until(pilot, lambda: not shows(app, "thought"))


@scenario
async def test_live_measures_count_tokens_of_thinking_and_text(clock: Callable[[float], None]) -> None:
    app = TranscriptApp()
    async with app.run_test():
        view = await asked(app)
        assert (view.tokens, view.ttft_s, view.tokens_per_s) == (0, 0.0, 0.0)
        clock(1.5)
        view.think("a")
        clock(1.0)
        view.write("b c d", tokens=3)
        view.write("")
        view.think("")
        assert (view.tokens, view.ttft_s, view.tokens_per_s) == (4, 1.5, 3.0)


@scenario
async def test_a_finished_answer_is_one_text_and_a_footer() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(100, 40)) as pilot:
        view = await asked(app)
        view.begin("a1", "i1", "echo/echo")
        for line in LONG.splitlines(keepends=True):
            view.write(line)
        await wait_until(pilot, lambda: shows(app, "paragraph 59"))
        await view.finish("complete", USAGE)
        await pilot.pause()
        assert (view.turn_id, view.inference, view.model) == ("a1", "i1", "echo/echo")
        assert len(view.children) == 2
        assert shows(app, "echo/echo · 81 tokens · 40.0 tokens/s · first token 0.50 s")
        assert view.text == LONG and not view.live


@scenario
async def test_text_that_was_not_drawn_yet_is_there_when_the_answer_ends() -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        view = await asked(app)
        view.write("all of it")
        await view.finish("complete", USAGE)
        view.write("too late")
        await pilot.pause()
        assert shows(app, "all of it") and not shows(app, "too late")
        assert view.text == "all of it"


@scenario
async def test_links_whose_address_comes_late_are_resolved_at_the_end() -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        view = await asked(app)
        view.write("see [there]\n\nmore\n\n")
        await wait_until(pilot, lambda: shows(app, "[there]"))
        view.write("[there]: http://example.org/x\n")
        await view.finish("complete", USAGE)
        await wait_until(pilot, lambda: shows(app, "see there (http://example.org/x)"))


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        ("interrupted", "the stream ended", "interrupted: the stream ended"),
        ("cancelled", "", "cancelled"),
        ("error", "no model [b]x[/b]\x1b[31m", "failed: no model [b]x[/b]␛[31m"),
    ],
)
@scenario
async def test_how_an_answer_ended_is_told_and_its_text_kept(status: str, error: str, expected: str) -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        view = await asked(app)
        view.write("half an ans")
        await view.finish(status, None, error)
        await wait_until(pilot, lambda: shows(app, "half an ans", expected))


@scenario
async def test_an_answer_that_never_began_shows_only_what_failed() -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        view = await asked(app)
        await view.finish("error", None, "no server at http://127.0.0.1:9")
        await wait_until(pilot, lambda: shows(app, "failed: no server at http://127.0.0.1:9"))
        assert not shows(app, "waiting")


@scenario
async def test_limits_versions_and_feedback_stand_in_the_footer() -> None:
    app = TranscriptApp()
    usage = Usage(20, 0, 81, 0.5, 2.5, "length", dropped_turns=3)
    feedback = (said("thumb", 1), said("rating", 4), said("comment", text="well"))
    async with app.run_test(size=(200, 24)) as pilot:
        app.transcript.text_width = 200
        await app.transcript.show([question(1), answer(1, usage=usage, siblings=3, sibling_index=1, feedback=feedback)])
        await wait_until(pilot, lambda: shows(app, "cut at the token limit · context full: 3 oldest turns left out · 2/3"))
        assert shows(app, "rated good · ★★★★☆ · commented")
        view = app.transcript.blocks[-1]
        assert isinstance(view, AnswerView)
        view.set_feedback(-1, True, None, False)
        view.set_siblings(0, 2)
        await wait_until(pilot, lambda: shows(app, "1/2 · rated bad · corrected") and not shows(app, "★"))


@scenario
async def test_an_answer_may_end_after_its_conversation_was_left() -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        view = await asked(app)
        view.write("half")
        await app.transcript.show(turns(2))
        view.write(" more")
        await view.finish("complete", USAGE)
        await wait_until(pilot, lambda: shows(app, "answer 0"))
        assert view.text == "half more" and not shows(app, "half")


# a conversation from the log


@scenario
async def test_a_long_conversation_opens_at_its_end_with_few_widgets() -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        await app.transcript.show(turns(500))
        await wait_until(pilot, lambda: shows(app, "answer 249"))
        assert len(app.transcript.blocks) == WINDOW
        assert app.transcript.following


@pytest.mark.parametrize("way", ["click", "enter"])
@scenario
async def test_earlier_messages_come_on_request(way: str) -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 60)) as pilot:
        await app.transcript.show(turns(50))
        await wait_until(pilot, lambda: shows(app, "↑ 30 earlier messages", "answer 24"))
        if way == "click":
            await pilot.click(Earlier)
        else:
            app.screen.query_one(Earlier).focus()
            await pilot.press("enter")
        await wait_until(pilot, lambda: len(app.transcript.blocks) == 2 * WINDOW and not app.transcript.loading_earlier)
        assert shows(app, "question 24") and app.transcript.following


@scenario
async def test_earlier_messages_come_at_the_top_and_the_place_is_kept() -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        transcript = app.transcript
        await transcript.show(turns(50))
        await wait_until(pilot, lambda: shows(app, "answer 24"))
        transcript.scroll_home(animate=False)
        await wait_until(pilot, lambda: len(transcript.blocks) == 2 * WINDOW and not transcript.loading_earlier)
        assert shows(app, "question 15") and not shows(app, "question 14")
        assert not transcript.following


@scenario
async def test_all_messages_can_be_reached() -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        transcript = app.transcript
        await transcript.show(turns(50))
        for expected in (40, 50):
            await transcript.load_earlier()
            await wait_until(pilot, lambda expected=expected: len(transcript.blocks) == expected and not transcript.loading_earlier)
        await transcript.load_earlier()
        assert [block.turn_id for block in transcript.blocks] == [turn.id for turn in turns(50)]
        assert not app.screen.query_one(Earlier).display


@scenario
async def test_old_messages_go_when_new_ones_come_and_come_back_unchanged() -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        transcript = app.transcript
        await transcript.show(turns(MOUNTED))
        await transcript.load_earlier()
        await wait_until(pilot, lambda: len(transcript.blocks) == MOUNTED and not transcript.loading_earlier)
        transcript.jump_to_end()
        for number in range(3):
            view = await asked(app, f"new question {number}")
            view.write(f"new answer {number}")
            view.set_feedback(1)
            await view.finish("cancelled")
            await pilot.pause()
        assert len(transcript.blocks) <= WINDOW + 4
        await transcript.load_earlier()
        await wait_until(pilot, lambda: not transcript.loading_earlier)
        expected = [turn.message.content for turn in turns(MOUNTED)] + [
            f"new {kind} {number}" for number in range(3) for kind in ("question", "answer")
        ]
        assert [block.text for block in transcript.blocks] == expected[-len(transcript.blocks) :]
        assert len(transcript.blocks) > 2 * WINDOW


@scenario
async def test_another_conversation_takes_the_place_of_the_first() -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        await app.transcript.show(turns(50))
        app.transcript.move(-1)
        await app.transcript.show([question(7, "other")])
        await wait_until(pilot, lambda: shows(app, "other"))
        assert [block.text for block in app.transcript.blocks] == ["other"]
        assert app.transcript.selected is None


# questions


@scenario
async def test_a_question_is_shown_as_written() -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        await app.transcript.add_question("q", "# not a *title* [@click=app.act]x[/]\n  second")
        await wait_until(pilot, lambda: shows(app, "▌ # not a *title* [@click=app.act]x[/]", "▌   second"))


@scenario
async def test_questions_wait_in_line_below_the_running_answer() -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        transcript = app.transcript
        first = await asked(app, "one")
        second = await transcript.add_question("", "two", queued=True)
        third = await transcript.add_question("", "three", queued=True)
        await wait_until(pilot, lambda: shows(app, "two", "queued"))
        assert second.queued and second.has_class("-queued")
        await first.finish("complete", USAGE)
        second.confirm("q2")
        answer_2 = await transcript.begin_answer("")
        assert not second.queued and not second.has_class("-queued")
        assert transcript.blocks[-3:] == [second, answer_2, third]
        await transcript.drop_queued(third)
        assert transcript.blocks[-1] is answer_2


@scenario
async def test_a_very_long_question_is_folded_until_it_is_clicked() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 60)) as pilot:
        view = await app.transcript.add_question("q", "\n".join(f"line {number}" for number in range(200)))
        await wait_until(pilot, lambda: shows(app, "more characters") and not shows(app, "line 199"))
        await pilot.click(QuestionView, offset=(5, 2))
        await wait_until(pilot, lambda: shows(app, "line 199"))
        assert len(view.text.splitlines()) == 200


# regeneration and versions


@scenario
async def test_a_new_version_stands_in_place_and_what_followed_the_old_one_goes() -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        transcript = app.transcript
        await transcript.show(turns(6))
        waiting = await transcript.add_question("", "later", queued=True)
        new = await transcript.begin_answer("echo/echo", replace="a1")
        await pilot.pause()
        assert [block.turn_id for block in transcript.blocks] == ["q0", "a0", "q1", "", ""]
        assert transcript.blocks[-2:] == [new, waiting]


@scenario
async def test_replacing_an_answer_that_is_not_there_is_said() -> None:
    app = TranscriptApp()
    async with app.run_test():
        await app.transcript.show(turns(4))
        for wrong in ("a77", "q1"):
            with pytest.raises(NotFound, match=wrong):
                await app.transcript.begin_answer("echo/echo", replace=wrong)


# following


@scenario
async def test_it_follows_until_the_user_scrolls_up_and_again_at_the_bottom() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(60, 20)) as pilot:
        transcript = app.transcript
        view = await asked(app)
        view.write(LONG)
        await wait_until(pilot, lambda: shows(app, "paragraph 59"))
        assert transcript.following
        transcript.scroll_relative(y=-10, animate=False)
        await wait_until(pilot, lambda: not transcript.following)
        top = transcript.scroll_y
        view.write("\n\n" + "\n\n".join(f"news {number}" for number in range(10)))
        note = app.screen.query_one(NewLines)
        await wait_until(pilot, lambda: note.display and shows(app, "↓ 20 new lines below"))
        assert transcript.scroll_y == top and not shows(app, "news 9")
        await pilot.click(NewLines)
        await wait_until(pilot, lambda: transcript.following and shows(app, "news 9") and not note.display)
        transcript.scroll_relative(y=-10, animate=False)
        await wait_until(pilot, lambda: not transcript.following)
        transcript.scroll_relative(y=10, animate=False)
        await wait_until(pilot, lambda: transcript.following)
        await view.finish("complete", USAGE)


@scenario
async def test_scrolling_where_all_fits_does_not_stop_following() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(60, 30)) as pilot:
        view = await asked(app)
        view.write("short")
        await wait_until(pilot, lambda: shows(app, "short"))
        app.transcript.scroll_page_up(animate=False)
        await pilot.pause()
        assert app.transcript.following


# selection


@scenario
async def test_walking_selects_messages_and_leaves_at_the_bottom() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(60, 30)) as pilot:
        transcript = app.transcript
        transcript.move(-1)
        assert transcript.selected is None
        await transcript.show(turns(4))
        transcript.move(-1)
        assert transcript.selected is transcript.blocks[-1]
        transcript.move(-1)
        transcript.move(-1)
        assert transcript.selected is transcript.blocks[1]
        assert [block.has_class("-selected") for block in transcript.blocks] == [False, True, False, False]
        for _ in range(3):
            transcript.move(1)
        assert transcript.selected is None
        transcript.move(-1)
        transcript.deselect()
        await pilot.pause()
        assert not any(block.has_class("-selected") for block in transcript.blocks)


@scenario
async def test_walking_beyond_the_top_brings_earlier_messages() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(60, 30)) as pilot:
        transcript = app.transcript
        await transcript.show(turns(30))
        await wait_until(pilot, lambda: shows(app, "answer 14"))
        for _ in range(WINDOW + 1):
            transcript.move(-1)
        await wait_until(pilot, lambda: len(transcript.blocks) == 30)
        assert transcript.selected is not None and transcript.selected.turn_id == "q5"


@scenario
async def test_dragging_copies_text_with_the_breaks_of_its_source() -> None:
    app = TranscriptApp()
    text = "- a list item that is so long that the terminal has to break its line somewhere\n- two"
    async with app.run_test(size=(40, 20)) as pilot:
        await app.transcript.show([question(1), answer(1, text)])
        await wait_until(pilot, lambda: shows(app, "two"))
        prose = app.screen.query_one("AnswerView > Prose")
        await pilot.mouse_down(prose, offset=(0, 0))
        await pilot.hover(prose, offset=(5, 3))
        await pilot.mouse_up(prose, offset=(5, 3))
        await wait_until(pilot, lambda: app.screen.get_selected_text())
        selected = app.screen.get_selected_text() or ""
        assert selected.startswith("• a list item that is so long that the terminal has to break its line somewhere\n• tw")


# sizes and themes


@scenario
async def test_lines_are_broken_anew_when_the_width_changes() -> None:
    app = TranscriptApp()
    text = "- " + "word " * 30
    async with app.run_test(size=(120, 30)) as pilot:
        await app.transcript.show([question(1), answer(1, text)])
        await wait_until(pilot, lambda: shows(app, "• word"))
        await pilot.resize_terminal(40, 30)
        view = app.transcript.blocks[-1]
        assert isinstance(view, AnswerView)
        await wait_until(pilot, lambda: view.size.width < 60 and not view.stale)
        assert any(line.startswith("    word word word word word") for line in app.lines)


@scenario
async def test_answers_far_from_the_screen_are_set_anew_only_when_they_come_near() -> None:
    app = TranscriptApp()
    text = "- " + "word " * 200
    async with app.run_test(size=(120, 20)) as pilot:
        transcript = app.transcript
        await transcript.show([turn for number in range(10) for turn in (question(number), answer(number, text))])
        await wait_until(pilot, lambda: transcript.max_scroll_y > 0)
        views = [block for block in transcript.blocks if isinstance(block, AnswerView)]
        await pilot.resize_terminal(50, 20)
        await wait_until(pilot, lambda: not views[-1].stale)
        assert views[0].stale
        transcript.scroll_home(animate=False)
        await wait_until(pilot, lambda: not views[0].stale)


@scenario
async def test_text_is_no_wider_than_its_limit() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(200, 30)) as pilot:
        await app.transcript.show([question(1, "w " * 200), answer(1, "w " * 200)])
        await wait_until(pilot, lambda: shows(app, "w w"))
        assert max(map(len, app.lines)) in range(90, 101)
        app.transcript.text_width = 60
        await wait_until(pilot, lambda: max(map(len, app.lines)) in range(50, 61))


EVERYTHING = "# Title\n\n`x` **b**\n\n```python\ndef f(): return 'text' # c\n```\n\n| a |\n|---|\n| b |"


async def look(app: TranscriptApp, pilot: Pilot[None]) -> list[Segment]:
    """Everything that a transcript may show, as segments of the screen."""
    await app.transcript.show([question(1), answer(1, EVERYTHING, status="interrupted", thinking="hm")])
    app.transcript.move(-1)
    await wait_until(pilot, lambda: shows(app, "Title", "x b", "def f(): return 'text' # c", "interrupted", "thought"))
    return [segment for strip in app.screen._compositor.render_strips() for segment in strip]


@pytest.mark.parametrize("theme", BUILTIN_THEMES)
@scenario
async def test_it_is_readable_in_every_theme(theme: str) -> None:
    app = TranscriptApp()
    app.theme = theme
    async with app.run_test(size=(60, 40)) as pilot:
        for text, style, _ in await look(app, pilot):
            if text.strip() and style is not None and style.color and style.bgcolor and not style.bgcolor.is_default:
                assert style.color != style.bgcolor or text.strip() in "▁▂▃▄▅▆▇", text


@scenario
async def test_without_colours_everything_is_grey() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_COLOR", "1")
        app = TranscriptApp()
    app.theme = "nord"
    async with app.run_test(size=(60, 40)) as pilot:
        for text, style, _ in await look(app, pilot):
            for colour in (style.color, style.bgcolor) if style is not None else ():
                red, green, blue = colour.get_truecolor() if colour is not None else (0, 0, 0)
                assert red == green == blue, text


# what must never crash


@scenario
async def test_clicks_and_resizes_while_text_streams_do_no_harm() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        view = await asked(app)
        parts = ["para *graph*\n\n", "- item\n", "```python\nx = 1\n", "y = 2\n```\n\n", "| a | b |\n|---|---|\n| 1 | 2 |\n\n"]
        for number in range(24):
            view.write(parts[number % len(parts)] * 3)
            if number % 6 == 0:
                await pilot.resize_terminal(40 + number, 20 + number % 7)
            await pilot.mouse_down(offset=(number % 38, number % 19))
            await pilot.hover(offset=((number * 7) % 38, (number * 5) % 19))
            await pilot.mouse_up(offset=((number * 3) % 38, (number * 11) % 19))
        await view.finish("complete", USAGE)
        await pilot.click(offset=(5, 5))
        await wait_until(pilot, lambda: len(view.children) == 2)
        assert app.is_running and app.return_code in (None, 0)


@scenario
async def test_a_widget_that_was_just_removed_is_not_hit() -> None:
    class Gone(SafeScreen):
        def compose(self) -> Any:
            with VerticalScroll():
                yield Static("here", id="here")

    app = TranscriptApp()
    async with app.run_test(size=(40, 10)) as pilot:
        await app.push_screen(Gone())
        await pilot.pause()
        screen = app.screen
        here: Widget = screen.query_one("#here")
        assert screen.get_widget_and_offset_at(1, 0)[0] is here
        with app.batch_update():
            await here.remove()
            assert screen.get_widget_and_offset_at(1, 0) == (None, None)
            for kind in (events.MouseDown, events.MouseMove, events.MouseUp):
                screen._forward_event(kind(None, 1, 0, 0, 0, 1, False, False, False, 1, 0))
        await pilot.pause()
        assert app.is_running
