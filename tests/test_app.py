"""The chat, driven by its keys: what is asked, stopped, said about answers, found again, and what happens when things fail."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chatting import Chat, Held, chat, scenario
from textual import events
from textual.widgets import Input, OptionList, Static, TextArea

from data import config, paths
from data.chat import Chunk, Message, Usage
from data.errors import EngineInterrupted, EngineRejected, StoreReadOnly
from data.store import open_store
from router.engines import Engines
from router.engines.echo import Echo
from router.session import Session
from tui import keys
from tui.app import PointsmanApp
from tui.screens.correct import CorrectScreen
from tui.screens.help import HelpScreen
from tui.screens.models import ModelsScreen
from tui.screens.sessions import SessionsScreen
from tui.widgets.prompt import PASTE_LIMIT

HEAVY = ("torch", "transformers", "sqlalchemy", "llama_cpp", "httpx", "ollama", "pandas", "jinja2", "numpy")


def banner(driven: Chat) -> str:
    return str(driven.app.chat.query_one("#banner", Static).content)


def status(driven: Chat) -> str:
    return str(driven.app.chat.query_one("#status-text", Static).content)


def title(driven: Chat) -> str:
    return str(driven.app.chat.query_one("#title-text", Static).content)


def model(driven: Chat) -> str:
    return str(driven.app.chat.query_one("#title-model", Static).content)


def said(driven: Chat) -> list[tuple[str, float | None, str]]:
    return [(item.kind, item.value, item.text) for item in driven.store.feedback.of(driven.answers[-1].inference)]


# Opening


def test_the_app_imports_nothing_heavy() -> None:
    code = f"import sys, tui.app; print([name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@scenario
async def test_the_prompt_is_usable_before_the_log_is_open() -> None:
    gate = Held()

    def slow(settings: config.Settings) -> Session:
        list(gate)
        return Session(settings, open_store(), Engines(settings, {"echo": Echo(["Hello"])}))

    async with chat(gate, opening=slow, wait=False) as driven:
        assert driven.app.focused is driven.app.chat.prompt
        await driven.press("H", "i", "enter")
        await driven.until(lambda: driven.questions)
        assert driven.questions[0].queued and driven.app.session is None
        gate.released.set()
        await driven.until(lambda: driven.answers and driven.answers[0].answer.status == "complete" and driven.answers[0].text)
        assert [turn.message.content for turn in driven.store.log.turns(driven.app.chat.conversation.conversation)] == [
            "Hi",
            "Hello",
        ]


@scenario
async def test_a_log_that_cannot_be_opened_is_said_and_nothing_is_lost() -> None:
    faults = [StoreReadOnly("the log /x.db cannot be written", "make it writable"), StoreReadOnly("still not", "try again")]

    def fails(settings: config.Settings) -> Session:
        if faults:
            raise faults.pop(0)
        return Session(settings, open_store(), Engines(settings, {"echo": Echo(["Hello"])}))

    async with chat(opening=fails, wait=False) as driven:
        await driven.until(lambda: banner(driven))
        assert banner(driven) == "the log /x.db cannot be written; make it writable (f5 tries again)"
        await driven.type("Hi")
        await driven.press("enter")
        await driven.pilot.pause()
        assert driven.app.chat.prompt.text == "Hi" and not driven.questions
        assert driven.notices == ["nothing is sent until the log can be written; f5 tries again"]
        await driven.press("f5")
        await driven.until(lambda: banner(driven).startswith("still not"))
        await driven.press("f5")
        await driven.until(lambda: driven.app.session is not None and not banner(driven))
        await driven.press("enter")
        await driven.until(lambda: driven.answers and driven.answers[0].text == "Hello")


@scenario
async def test_a_damaged_log_is_named_with_its_fix_inside_the_app() -> None:
    file = paths.ensure(paths.data_dir()) / "pointsman.db"
    file.write_bytes(b"this is no database, " * 500)
    async with chat(wait=False) as driven:
        await driven.until(lambda: banner(driven))
        assert str(file) in banner(driven) and "f5 tries again" in banner(driven)
    assert file.read_bytes().startswith(b"this is no database")


@scenario
async def test_a_home_that_cannot_be_written_is_named_inside_the_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("POINTSMAN_HOME", str(tmp_path / "file" / "home"))
    async with chat(wait=False) as driven:
        await driven.until(lambda: banner(driven))
        assert str(tmp_path / "file") in banner(driven)


@scenario
async def test_an_unforeseen_fault_while_opening_is_told_and_can_be_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("threading.excepthook", seen.append)

    def broken(settings: config.Settings) -> Session:
        return Session(settings, open_store(), Engines(settings)) if seen else 1 / 0  # type: ignore[return-value]

    async with chat(opening=broken, wait=False) as driven:
        await driven.until(lambda: "unforeseen fault" in banner(driven))
        await driven.press("f5")
        await driven.until(lambda: driven.app.chat.conversation.ready and not banner(driven))


@scenario
async def test_a_conversation_is_resumed_with_its_model_and_history() -> None:
    async with chat("one", "two") as driven:
        await driven.ask("First question")
        where = driven.app.chat.conversation.conversation
    async with chat("three", conversation=where) as driven:
        await driven.until(lambda: driven.answers)
        assert [view.text for view in driven.questions] == ["First question"]
        assert (title(driven), model(driven)) == ("First question", "echo/echo")
        await driven.press("up")
        assert driven.app.chat.prompt.text == "First question"
        await driven.press("enter")
        await driven.until(lambda: len(driven.answers) == 2 and driven.answers[1].text == "three")
        assert len(driven.store.log.turns(where)) == 4
        assert [m.content for m in driven.echo.requests[-1].messages] == ["First question", "one", "First question"]


@scenario
async def test_what_a_crash_left_is_shown_as_interrupted() -> None:
    with open_store() as store:
        begun = store.log.begin(Message("user", "Hi"), model="echo/echo", mode="standard", config={})
        store.log.save_partial(begun.inference, "half an ans")
        with store.database.write() as connection:  # as if another process had written it, and died
            connection.exec_driver_sql("UPDATE inference SET writer = replace(writer, '\t' || ?, '\t999999')", (str(os.getpid()),))
    async with chat(conversation=begun.conversation) as driven:
        await driven.until(lambda: driven.answers)
        assert driven.answers[0].text == "half an ans" and driven.answers[0].answer.status == "interrupted"
        assert "interrupted" in driven.screen


@scenario
async def test_a_conversation_that_does_not_exist_is_said() -> None:
    async with chat(conversation="0" * 32) as driven:
        await driven.until(lambda: driven.notices)
        assert "no conversation" in driven.notices[0]
        assert driven.app.chat.has_class("-empty")


# Asking


@scenario
async def test_an_answer_streams_and_ends_in_the_log_with_its_measures() -> None:
    held = Held(
        [Chunk(phase="loading", progress=0.5), "Hello ", "**you**"],
        [" there", Chunk(usage=Usage(5, 0, 3, 0.1, 0.2, context_tokens=100))],
    )
    async with chat(held) as driven:
        await driven.type("Hi")
        await driven.press("enter")
        await driven.until(lambda: driven.answers and driven.answers[0].text == "Hello **you**")
        await driven.until(lambda: status(driven).startswith("answering"))
        assert driven.app.chat.prompt.text == ""
        held.released.set()
        await driven.until(lambda: not driven.app.chat.conversation.busy)
        answer = driven.answers[0]
        kept = driven.store.log.inference(answer.inference)
        assert (answer.text, kept.status) == ("Hello **you** there", "complete")
        assert driven.questions[0].turn_id and title(driven) == "Hi"
        assert "context 8%" in status(driven)


@scenario
async def test_phases_are_told_before_the_first_token() -> None:
    held = Held([Chunk(phase="loading", progress=0.5)], [Chunk(phase="reading", progress=0.5), "x"])
    async with chat(held) as driven:
        await driven.type("Hi")
        await driven.press("enter")
        await driven.until(lambda: status(driven) == "loading the model")
        held.released.set()
        await driven.until(lambda: not driven.app.chat.conversation.busy)


@scenario
async def test_thinking_is_told_apart_and_can_be_hidden() -> None:
    held = Held([Chunk(thinking="let me see")], ["The answer"])
    async with chat(held) as driven:
        await driven.type("Hi")
        await driven.press("enter")
        await driven.until(lambda: status(driven).startswith("thinking"))
        await driven.until(lambda: "let me see" in driven.screen)
        await driven.press("ctrl+t")
        await driven.pilot.pause()
        assert "let me see" not in driven.screen
        held.released.set()
        await driven.until(lambda: not driven.app.chat.conversation.busy)
        await driven.press("ctrl+t", "ctrl+o")
        await driven.pilot.pause()
        assert "let me see" in driven.screen
        assert (driven.answers[0].text, driven.answers[0].thinking) == ("The answer", "let me see")


@scenario
async def test_escape_stops_the_answer_and_keeps_its_text() -> None:
    held = Held(["one ", "two "], ["three ", "four"])
    async with chat(held) as driven:
        await driven.type("Count")
        await driven.press("enter")
        await driven.until(lambda: driven.answers and driven.answers[0].text == "one two ")
        await driven.press("escape")
        await driven.until(lambda: status(driven).startswith("stopping"))
        held.released.set()
        await driven.until(lambda: not driven.app.chat.conversation.busy)
        kept = driven.store.log.turns(driven.app.chat.conversation.conversation)[1]
        assert kept.inference and kept.inference.status == "cancelled"
        assert kept.message.content == driven.answers[0].text == "one two three "
        await driven.until(lambda: "cancelled" in driven.screen)


@scenario
async def test_ctrl_c_stops_the_answer_and_twice_leaves() -> None:
    held = Held(["one "], ["two "])
    async with chat(held) as driven:
        await driven.type("Count")
        await driven.press("enter")
        await driven.until(lambda: driven.answers and driven.answers[0].text)
        await driven.press("ctrl+c")
        held.released.set()
        await driven.until(lambda: not driven.app.chat.conversation.busy)
        assert driven.app.is_running and driven.notices == ["stopped; ctrl+c again leaves"]
        await driven.press("ctrl+c")
        await driven.until(lambda: driven.app._exit)


@scenario
async def test_leaving_in_the_middle_of_an_answer_logs_it_as_cancelled() -> None:
    held = Held(["one "], ["two ", "three"])
    async with chat(held) as driven:
        await driven.type("Count")
        await driven.press("enter")
        await driven.until(lambda: driven.answers and driven.answers[0].text)
        where = driven.app.chat.conversation.conversation
        await driven.press("ctrl+q")
        held.released.set()
    with open_store() as store:
        answer = store.log.turns(where)[1]
        assert answer.inference and (answer.inference.status, answer.message.content) == ("cancelled", "one two ")


@scenario
async def test_questions_wait_in_line_while_an_answer_comes() -> None:
    held = Held(["first "], ["answer"])
    async with chat(held, "second answer", "third answer") as driven:
        await driven.type("one")
        await driven.press("enter")
        await driven.until(lambda: driven.answers and driven.answers[0].text)
        for text in ("two", "three"):
            await driven.type(text)
            await driven.press("enter")
        await driven.until(lambda: "2 queued" in status(driven))
        assert [view.queued for view in driven.questions] == [False, True, True]
        held.released.set()
        await driven.until(lambda: len(driven.answers) == 3 and not driven.app.chat.conversation.busy)
        log = driven.store.log.turns(driven.app.chat.conversation.conversation)
        expected = ["one", "first answer", "two", "second answer", "three", "third answer"]
        assert [turn.message.content for turn in log] == expected
        shown = [block.text for block in driven.app.chat.conversation.transcript.blocks]
        assert shown == expected and not any(view.queued for view in driven.questions)


@scenario
async def test_cancelling_hands_the_queue_back_to_the_prompt() -> None:
    held = Held(["first "], ["answer"])
    async with chat(held) as driven:
        await driven.type("one")
        await driven.press("enter")
        await driven.until(lambda: driven.answers and driven.answers[0].text)
        for text in ("two", "three"):
            await driven.type(text)
            await driven.press("enter")
        await driven.type("four")
        await driven.press("escape")
        held.released.set()
        await driven.until(lambda: not driven.app.chat.conversation.busy and len(driven.questions) == 1)
        assert driven.app.chat.prompt.text == "two\n\nthree\n\nfour"


@scenario
async def test_a_new_chat_during_an_answer_stops_it_and_asks_on() -> None:
    held = Held(["old "], ["more "])
    async with chat(held, "new answer") as driven:
        await driven.type("old question")
        await driven.press("enter")
        await driven.until(lambda: driven.answers and driven.answers[0].text)
        old = driven.app.chat.conversation.conversation
        await driven.press("ctrl+n")
        await driven.until(lambda: not driven.questions)
        await driven.type("new question")
        await driven.press("enter")
        await driven.until(lambda: [view.queued for view in driven.questions] == [True])
        held.released.set()
        await driven.until(lambda: driven.answers and driven.answers[0].text == "new answer")
        assert driven.app.chat.prompt.text == "" and title(driven) == "new question"
        stopped = driven.store.log.turns(old)[1]
        assert stopped.inference and (stopped.inference.status, stopped.message.content) == ("cancelled", "old more ")


@scenario
async def test_an_edited_question_and_the_line_behind_it_keep_their_order() -> None:
    held = Held(["second "], [])
    async with chat("first", held, "edited", "last") as driven:
        await driven.ask("one")
        await driven.type("two")
        await driven.press("enter")
        await driven.until(lambda: len(driven.answers) == 2 and driven.answers[1].text)
        await driven.press("alt+up", "up", "up", "up", "e")
        await driven.until(lambda: driven.app.chat.prompt.text == "one")
        await driven.type(" again")
        await driven.press("enter")
        await driven.type("three")
        await driven.press("enter")
        held.released.set()
        await driven.until(lambda: driven.answers[-1].text == "last" and not driven.app.chat.conversation.busy)
        assert [block.text for block in driven.app.chat.conversation.transcript.blocks] == ["one again", "edited", "three", "last"]


@scenario
async def test_an_engine_fault_stands_in_the_answers_place_and_r_tries_again() -> None:
    async with chat([EngineRejected("the model refuses", "choose another")], "now it works") as driven:
        await driven.ask("Hi")
        assert driven.answers[0].answer.status == "error"
        assert "the model refuses; choose another · alt+up, then r, tries again" in " ".join(driven.screen.split())
        await driven.press("alt+up", "r")
        await driven.until(lambda: driven.answers[-1].text == "now it works" and not driven.app.chat.conversation.busy)
        assert len(driven.answers) == 1 and len(driven.questions) == 1


@scenario
async def test_a_broken_stream_keeps_what_had_arrived() -> None:
    async with chat(["half ", EngineInterrupted("the server went away", "")]) as driven:
        await driven.ask("Hi")
        assert (driven.answers[0].text, driven.answers[0].answer.status) == ("half ", "interrupted")
        assert "the server went away" in driven.screen


@scenario
async def test_a_question_that_was_not_logged_goes_back_into_the_prompt() -> None:
    async with chat("works", model="no-such-model") as driven:
        await driven.type("Precious words")
        await driven.press("enter")
        await driven.until(lambda: driven.app.chat.prompt.text == "Precious words")
        await driven.until(lambda: "no-such-model" in driven.screen)
        assert driven.store.log.conversations() == []
        driven.app.chat.conversation.pin("echo/echo")
        await driven.press("enter")
        await driven.until(lambda: driven.answers and driven.answers[-1].text == "works")
        assert len(driven.questions) == len(driven.answers) == 1


@scenario
async def test_an_unforeseen_fault_ends_the_answer_and_not_the_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("threading.excepthook", seen.append)
    async with chat([ZeroDivisionError("a bug")], "fine") as driven:
        await driven.ask("Hi")
        await driven.until(lambda: "unforeseen fault" in driven.screen)
        assert seen and seen[0].exc_type is ZeroDivisionError
        await driven.ask("Again")
        assert driven.answers[-1].text == "fine"


@scenario
async def test_nothing_untrusted_reaches_the_terminal_as_a_control_character() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J[/oops] \u202e"
    async with chat([f"answer {evil}"]) as driven:
        await driven.ask(f"question {evil}")
        await driven.press("up")
        assert driven.app.chat.prompt.text.startswith("question ")
        assert not {"\x1b", "\x07", "\u202e"} & set(driven.screen)
        await driven.press("ctrl+s")
        await driven.until(lambda: isinstance(driven.app.screen, SessionsScreen) and "question" in driven.screen)
        assert not {"\x1b", "\x07", "\u202e"} & set(driven.screen)


# The prompt


@scenario
async def test_three_keys_break_the_line_and_the_box_grows_to_ten_rows() -> None:
    async with chat() as driven:
        prompt = driven.app.chat.prompt
        assert prompt.size.height == 1
        await driven.press("a", "ctrl+j", "b", "alt+enter", "c", "shift+enter", "d")
        assert prompt.text == "a\nb\nc\nd" and prompt.size.height == 4
        await driven.type("\n" * 20)
        assert prompt.size.height == 10


@scenario
async def test_the_arrows_at_the_edges_walk_through_earlier_questions_and_keep_the_draft() -> None:
    async with chat("1", "2") as driven:
        await driven.ask("first")
        await driven.ask("second\nwith two lines")
        await driven.type("draft")
        prompt = driven.app.chat.prompt
        seen = []
        for key in ("up", "up", "up", "down", "down", "down", "down"):
            await driven.press(key)
            seen.append(prompt.text)
        two = "second\nwith two lines"
        assert seen == [two, "first", "first", two, "draft", "draft", "draft"]


@scenario
async def test_a_huge_paste_is_refused_with_both_sizes_and_what_was_typed_stays() -> None:
    async with chat() as driven:
        await driven.type("before ")
        driven.app.chat.prompt.take("x" * 10_000_000)
        await driven.until(lambda: driven.notices)
        assert f"{10_000_000:,}" in driven.notices[0] and f"{PASTE_LIMIT:,}" in driven.notices[0]
        assert driven.app.chat.prompt.text == "before "
        driven.app.chat.prompt.take("pasted\r\ntext\rwith \x1b[31mcolour")
        assert driven.app.chat.prompt.text == "before pasted\ntext\nwith ␛[31mcolour"


@scenario
async def test_keys_act_in_the_order_in_which_they_were_typed_however_fast() -> None:
    async with chat("Hello", "model") as driven:

        def burst(*typed: str) -> None:
            for key in typed:
                driven.app.post_message(events.Key(key, key if len(key) == 1 else None))

        burst(*"Quickly asked", "enter", *"next")
        await driven.until(lambda: driven.answers and driven.answers[0].text and not driven.app.chat.conversation.busy)
        assert (driven.questions[0].text, driven.app.chat.prompt.text) == ("Quickly asked", "next")
        burst(*" words", "alt+up", "plus")
        await driven.until(lambda: said(driven) == [("thumb", 1.0, "")])
        assert driven.app.chat.prompt.text == "next words"
        await driven.press("ctrl+l")
        await driven.until(lambda: isinstance(driven.app.screen, ModelsScreen) and "Ollama" in driven.screen)
        burst(*"echo/quick", "enter")
        await driven.until(lambda: model(driven) == "echo/quick")


@scenario
async def test_an_empty_question_is_not_sent() -> None:
    async with chat() as driven:
        await driven.type("  \n ")
        await driven.press("enter")
        await driven.pilot.pause()
        assert not driven.questions and driven.app.chat.prompt.text == "  \n "


@scenario
async def test_ctrl_c_copies_what_is_selected_before_it_interrupts() -> None:
    async with chat("The answer") as driven:
        await driven.ask("Hi")
        await driven.type("some words")
        await driven.press("ctrl+shift+left", "ctrl+c")
        assert driven.app.clipboard == "words" and driven.notices == []
        await driven.pilot.click(driven.answers[0], offset=(4, 0), times=2)
        await driven.press("ctrl+c")
        assert driven.app.clipboard.startswith("The answer") and driven.notices == []
        await driven.press("escape", "ctrl+c")
        assert driven.notices == ["ctrl+c again leaves"]


@scenario
async def test_the_question_can_be_written_in_an_editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "editor.py"
    script.write_text("import sys; f = open(sys.argv[1], 'r+'); t = f.read(); f.write(' and more\\n')")
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")
    async with chat() as driven:
        monkeypatch.setattr(driven.app._driver.__class__, "can_suspend", True)
        for method in ("suspend_application_mode", "resume_application_mode"):
            monkeypatch.setattr(driven.app._driver.__class__, method, lambda self: None)
        await driven.type("some text")
        await driven.press("ctrl+g")
        await driven.until(lambda: driven.app.chat.prompt.text == "some text and more")
        monkeypatch.setenv("VISUAL", "no-such-editor-at-all")
        await driven.press("ctrl+g")
        await driven.until(lambda: driven.notices)
        assert "no-such-editor-at-all" in driven.notices[-1] and driven.app.chat.prompt.text == "some text and more"


# What is said about answers


@scenario
async def test_a_selected_answer_is_rated_and_the_rating_taken_back() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        await driven.press("alt+up", "+")
        await driven.until(lambda: said(driven) == [("thumb", 1.0, "")])
        await driven.until(lambda: "rated good" in driven.screen)
        await driven.press("-")
        await driven.until(lambda: said(driven) == [("thumb", -1.0, "")])
        await driven.press("4")
        await driven.until(lambda: ("rating", 4.0, "") in said(driven))
        await driven.until(lambda: "★★★★☆" in driven.screen)
        await driven.press("u")
        await driven.until(lambda: said(driven) == [("thumb", -1.0, "")])
        await driven.press("u")
        await driven.until(lambda: said(driven) == [])
        await driven.until(lambda: "rated" not in driven.screen)
        await driven.press("u")
        await driven.until(lambda: "nothing was said about this answer" in driven.notices)


@scenario
async def test_letters_are_text_while_nothing_is_selected() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        await driven.press("plus", "r", "e", "minus", "1")
        assert driven.app.chat.prompt.text == "+re-1" and said(driven) == []
        await driven.press("alt+up", "+", "z")
        assert driven.app.chat.prompt.text == "+re-1z" and driven.app.chat.prompt.has_focus
        await driven.until(lambda: said(driven) == [("thumb", 1.0, "")])


@scenario
async def test_walking_past_the_end_and_escape_both_lead_back_to_the_prompt() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        transcript = driven.app.chat.conversation.transcript
        await driven.press("alt+up")
        assert transcript.selected is driven.answers[0]
        await driven.press("alt+up")
        assert transcript.selected is driven.questions[0]
        await driven.press("alt+down", "alt+down")
        assert transcript.selected is None and driven.app.chat.prompt.has_focus
        await driven.press("alt+up", "escape")
        assert transcript.selected is None and driven.app.chat.prompt.has_focus


@scenario
async def test_a_message_is_copied() -> None:
    async with chat("Hello \x1b[31myou") as driven:
        await driven.ask("Hi")
        await driven.press("alt+up", "c")
        await driven.until(lambda: driven.notices)
        assert driven.app.clipboard == "Hello ␛[31myou" and driven.notices == ["copied 14 characters"]
        await driven.press("alt+up", "c")
        await driven.until(lambda: driven.app.clipboard == "Hi")


@scenario
async def test_an_answer_is_corrected_and_the_correction_kept() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        await driven.press("alt+up", "e")
        await driven.until(lambda: isinstance(driven.app.screen, CorrectScreen))
        await driven.press("ctrl+s")
        await driven.until(lambda: "nothing was changed" in driven.screen)
        driven.app.screen.query_one(TextArea).text = "Good day"
        await driven.press("ctrl+s")
        await driven.until(lambda: said(driven) == [("correction", None, "Good day")])
        await driven.until(lambda: "corrected" in driven.screen and driven.answers[0].text == "Hello")
        await driven.press("e")
        await driven.until(lambda: isinstance(driven.app.screen, CorrectScreen))
        assert driven.app.screen.query_one(TextArea).text == "Good day"
        driven.app.screen.query_one(TextArea).text = "lost?"
        await driven.press("escape")
        await driven.until(lambda: "escape again drops it" in driven.screen)
        await driven.press("escape")
        await driven.until(lambda: driven.app.screen is driven.app.chat)
        assert said(driven) == [("correction", None, "Good day")]


@scenario
async def test_regenerating_makes_a_sibling_and_versions_can_be_switched() -> None:
    async with chat("first", "follow-up", "second") as driven:
        await driven.ask("Hi")
        await driven.ask("More")
        first = driven.answers[0].turn_id
        await driven.press("alt+up", "up", "up", "r")
        await driven.until(lambda: [view.text for view in driven.answers] == ["second"] and not driven.app.chat.conversation.busy)
        await driven.until(lambda: "2/2" in driven.screen)
        assert [turn.message.content for turn in driven.store.log.siblings(first)] == ["first", "second"]
        await driven.press("alt+up", "<")
        await driven.until(lambda: [view.text for view in driven.answers] == ["first", "follow-up"])
        await driven.until(lambda: driven.app.chat.conversation.transcript.selected is driven.answers[0])
        await driven.press(">")
        await driven.until(lambda: [view.text for view in driven.answers] == ["second"])
        await driven.until(lambda: driven.app.chat.conversation.transcript.selected is driven.answers[0])
        await driven.press(">")
        await driven.until(lambda: driven.notices)
        assert driven.notices[-1] == "there is no other version that way"


@scenario
async def test_a_question_is_asked_again_in_other_words_as_a_sibling() -> None:
    async with chat("a", "b", "c", "d") as driven:
        await driven.ask("first")
        await driven.ask("second")
        where = driven.app.chat.conversation.conversation
        await driven.press("alt+up", "up", "e")
        await driven.until(lambda: driven.app.chat.prompt.text == "second")
        assert "asking again in other words" in driven.screen
        await driven.type(", but better")
        await driven.press("enter")
        await driven.until(lambda: driven.answers[-1].text == "c" and not driven.app.chat.conversation.busy)
        assert [view.text for view in driven.questions] == ["first", "second, but better"]
        log = driven.store.log
        assert [turn.message.content for turn in log.turns(where)] == ["first", "a", "second, but better", "c"]
        await driven.press("alt+up", "up", "up", "up", "e")
        await driven.until(lambda: driven.app.chat.prompt.text == "first")
        await driven.press("enter")
        await driven.until(lambda: driven.answers[-1].text == "d" and not driven.app.chat.conversation.busy)
        assert [turn.message.content for turn in log.turns(where)] == ["first", "d"]
        assert [message.content for message in driven.echo.requests[-1].messages] == ["first"]
        assert [turn.message.content for turn in log.siblings(log.turns(where)[0].id)] == ["first", "first"]


@scenario
async def test_asking_in_other_words_is_given_up_with_escape() -> None:
    async with chat("a", "b") as driven:
        await driven.ask("first")
        await driven.press("alt+up", "up", "e")
        await driven.until(lambda: driven.app.chat.prompt.text == "first")
        await driven.press("escape")
        await driven.until(lambda: driven.app.chat.prompt.text == "" and "in other words" not in driven.screen)
        await driven.ask("second")
        assert len(driven.store.log.turns(driven.app.chat.conversation.conversation)) == 4


@scenario
async def test_the_palette_acts_on_the_last_answer() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        await driven.press("ctrl+p")
        await driven.press(*"rate bad")
        await driven.until(lambda: "The last answer is bad" in driven.screen)
        await driven.press("enter")
        await driven.until(lambda: said(driven) == [("thumb", -1.0, "")])


# Other screens


@scenario
async def test_chats_are_listed_searched_and_resumed() -> None:
    async with chat("About apples", "About pears") as driven:
        await driven.ask("What are apples?")
        first = driven.app.chat.conversation.conversation
        await driven.press("ctrl+n")
        await driven.until(lambda: not driven.app.chat.conversation.conversation and not driven.questions)
        assert driven.app.chat.has_class("-empty") and title(driven) == "New chat"
        await driven.ask("What are pears?")
        await driven.press("ctrl+s")
        await driven.until(lambda: isinstance(driven.app.screen, SessionsScreen) and "apples" in driven.screen)
        rows = driven.app.screen.query_one(OptionList)
        assert rows.option_count == 2 and driven.screen.index("pears") < driven.screen.index("apples")
        await driven.press(*"about app")
        await driven.until(lambda: rows.option_count == 1 and "answer" in driven.screen)
        await driven.press("enter")
        await driven.until(lambda: driven.app.screen is driven.app.chat and driven.app.chat.conversation.conversation == first)
        await driven.until(lambda: [view.text for view in driven.answers] == ["About apples"])
        assert title(driven) == "What are apples?"


@scenario
async def test_what_was_found_far_above_or_on_another_branch_is_selected() -> None:
    async with chat("a needle in the hay", "straw") as driven:
        await driven.ask("first")
        where = driven.app.chat.conversation.conversation
        needle = driven.answers[0].turn_id
        await driven.press("alt+up", "r")
        await driven.until(lambda: driven.answers[-1].text == "straw" and not driven.app.chat.conversation.busy)
        for number in range(30):
            begun = driven.store.log.begin(
                Message("user", f"q{number}"), conversation=where, model="echo/echo", mode="standard", config={}
            )
            driven.store.log.finish(begun.inference, status="complete", text=f"haystack {number}")
        transcript = driven.app.chat.conversation.transcript
        for wanted, turns in (("haystack 0", 62), ("needle", 2)):
            await driven.press("ctrl+n", "ctrl+s")
            await driven.until(lambda: isinstance(driven.app.screen, SessionsScreen))
            driven.app.screen.query_one(Input).value = f'"{wanted}"'
            await driven.until(lambda wanted=wanted: "answer" in driven.screen and wanted in driven.screen)
            await driven.press("enter")
            await driven.until(lambda: transcript.selected is not None)
            assert wanted in transcript.selected.text and wanted in driven.screen
            assert len(driven.store.log.turns(where)) == turns
            assert driven.app.chat.prompt.has_focus
        assert transcript.selected.turn_id == needle


@scenario
async def test_a_search_that_finds_nothing_and_odd_search_words_are_harmless() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        await driven.press("ctrl+r")
        await driven.until(lambda: isinstance(driven.app.screen, SessionsScreen))
        for text in ("zzz", '"', "* OR ) NEAR", "[/b] \\"):
            driven.app.screen.query_one(Input).value = text
            await driven.until(lambda: "nothing was ever said about" in driven.screen or "just now" in driven.screen)
        await driven.press("enter", "escape", "escape")
        await driven.until(lambda: driven.app.screen is driven.app.chat)


@scenario
async def test_a_chat_is_renamed_and_deleted_after_being_asked_twice() -> None:
    async with chat("Hello", "Again") as driven:
        await driven.ask("Old name")
        where = driven.app.chat.conversation.conversation
        await driven.press("ctrl+s")
        await driven.until(lambda: isinstance(driven.app.screen, SessionsScreen) and "turns" in driven.screen)
        await driven.press("f2")
        driven.app.screen.query_one(Input).value = "New name"
        await driven.press("enter")
        await driven.until(lambda: driven.store.log.conversation(where).title == "New name")
        await driven.until(lambda: "New name" in driven.screen and driven.app.screen.query_one(Input).value == "")
        await driven.press("ctrl+d")
        await driven.until(lambda: "delete 'New name' for good?" in driven.screen)
        await driven.press("escape")
        await driven.until(lambda: "for good" not in driven.screen)
        assert driven.store.log.conversation(where)
        await driven.press("escape")
        await driven.until(lambda: driven.app.screen is driven.app.chat and title(driven) == "New name")
        await driven.press("ctrl+s")
        await driven.until(lambda: isinstance(driven.app.screen, SessionsScreen) and "turns" in driven.screen)
        await driven.press("ctrl+d", "ctrl+d")
        await driven.until(lambda: "there are no chats yet" in driven.screen)
        await driven.press("escape")
        await driven.until(lambda: driven.app.chat.has_class("-empty") and not driven.questions)
        await driven.ask("Goes on")
        assert len(driven.store.log.conversations()) == 1


@scenario
async def test_a_model_is_chosen_for_this_chat() -> None:
    async with chat("Hello") as driven:
        await driven.press("ctrl+l")
        await driven.until(lambda: isinstance(driven.app.screen, ModelsScreen) and "Ollama" in driven.screen)
        await driven.press(*"echo/other")
        await driven.until(lambda: "no model matches; enter tries 'echo/other' as it is" in driven.screen)
        await driven.press("enter")
        await driven.until(lambda: driven.app.screen is driven.app.chat and model(driven) == "echo/other")
        await driven.ask("Hi")
        assert driven.answers[0].model == "echo/other"


@scenario
async def test_an_unreachable_engine_is_one_line_with_its_fix_and_cannot_be_chosen() -> None:
    async with chat() as driven:
        await driven.press("ctrl+l")
        await driven.until(lambda: isinstance(driven.app.screen, ModelsScreen) and "Ollama is not" in driven.screen)
        rows = driven.app.screen.query_one(OptionList)
        assert [option.disabled for option in rows.options][-1]
        await driven.press("escape")
        await driven.until(lambda: driven.app.screen is driven.app.chat)
        assert model(driven) == "echo/echo"


@scenario
async def test_help_lists_the_keys_of_the_context_as_they_are_set() -> None:
    async with chat(**{"tui.keymap": {"new_chat": "ctrl+f12"}}) as driven:
        await driven.press("f1")
        await driven.until(lambda: isinstance(driven.app.screen, HelpScreen))
        lines = "\n".join(str(table.content) for table in driven.app.screen.query(Static))
        assert "ctrl+f12" in lines and "A selected message" in lines and "ctrl+f12" in driven.screen
        await driven.press("escape", "ctrl+s")
        await driven.until(lambda: isinstance(driven.app.screen, SessionsScreen))
        await driven.press("f1")
        await driven.until(lambda: isinstance(driven.app.screen, HelpScreen))
        assert "Sessions" in driven.screen and "A selected message" not in driven.screen


# Settings


@scenario
async def test_keys_follow_the_keymap() -> None:
    async with chat("Hello", **{"tui.keymap": {"send": "ctrl+y"}}) as driven:
        await driven.press("H", "i", "enter", "!")
        assert driven.app.chat.prompt.text == "Hi\n!" and not driven.questions
        await driven.press("ctrl+y")
        await driven.until(lambda: driven.answers and driven.answers[0].text == "Hello")


@scenario
async def test_an_unknown_binding_is_told_with_the_nearest_and_the_rest_works() -> None:
    async with chat("Hello", **{"tui.keymap": {"sned": "ctrl+y", "new_chat": "ctrl+f12"}}) as driven:
        assert driven.notices == ["tui.keymap: there is no key named 'sned'; did you mean 'send'?"]
        await driven.ask("Hi")
        await driven.press("ctrl+f12")
        await driven.until(lambda: not driven.questions)


@scenario
async def test_a_key_given_to_two_bindings_is_told() -> None:
    async with chat("Hello", **{"tui.keymap": {"new_chat": "ctrl+l"}}) as driven:
        await driven.ask("Hi")
        assert driven.notices == ["tui.keymap: 'ctrl+l' is the key of new_chat and of models; one of them will not work"]
        await driven.press("ctrl+l")
        await driven.until(lambda: not driven.questions)


@scenario
async def test_an_unknown_theme_is_told_and_a_chosen_one_is_kept() -> None:
    async with chat(**{"tui.theme": "no-such-theme"}) as driven:
        assert "no-such-theme" in driven.notices[0] and driven.app.theme == "textual-dark"
        driven.app.theme = "nord"
        await driven.until(lambda: config.load().tui.theme == "nord")
    async with chat(**{"tui.theme": "gruvbox", "tui.text_width": 40}) as driven:
        assert driven.app.theme == "gruvbox" and driven.app.chat.conversation.transcript.text_width == 40


def test_every_binding_has_an_id_and_no_id_has_two_meanings() -> None:
    ids = keys.ids()
    assert len(ids) == len(set(ids))
    assert all(binding.id and binding.description for bindings in keys.CONTEXTS.values() for binding in bindings)


# Ollama


@pytest.fixture
def ollama_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An `ollama` on the PATH, so that a server that does not answer counts as not running."""
    file = tmp_path / "bin" / "ollama"
    file.parent.mkdir()
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")
    yield file


@scenario
async def test_ollama_away_is_a_chip_and_the_chat_goes_on(ollama_command: Path) -> None:
    async with chat("Hello") as driven:
        chip = driven.app.chat.query_one("#status-chip", Static)
        await driven.until(lambda: str(chip.content).startswith("ollama: offline"))
        assert "127.0.0.1:9" in str(chip.content) and chip.has_class("-away")
        await driven.ask("Hi")
        assert driven.answers[0].text == "Hello" and "ollama: offline" in driven.screen


@scenario
async def test_a_question_to_an_ollama_that_is_away_is_answered_by_the_embedded_model(ollama_command: Path) -> None:
    class Embedded(Echo):
        name = "llamacpp"

    def opening(settings: config.Settings) -> Session:
        return Session(settings, open_store(), Engines(settings, {"llamacpp": Embedded(["Still here"])}))

    async with chat(opening=opening, model="ollama/llama3.2") as driven:
        await driven.ask("Hi")
        answer = driven.answers[0]
        assert (answer.text, answer.model) == ("Still here", "llamacpp/smollm2-135m")
        assert driven.store.log.inference(answer.inference).model == "llamacpp/smollm2-135m"
        assert "the embedded model answers" in driven.notices[0]


@scenario
async def test_no_ollama_at_all_is_said_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    async with chat() as driven:
        chip = driven.app.chat.query_one("#status-chip", Static)
        await driven.until(lambda: str(chip.content) == "ollama: not installed")
        assert not chip.has_class("-away")


# End to end


@scenario
async def test_the_embedded_model_answers_through_the_app(embedded_gguf: Path) -> None:
    def real(settings: config.Settings) -> Session:
        return Session(settings, open_store(), Engines(settings))

    async with chat(opening=real, model=f"llamacpp/{embedded_gguf}", max_tokens=12, **{"llamacpp.context": 512}) as driven:
        await driven.type("Say hello.")
        await driven.press("enter")
        await asyncio.wait_for(driven.until(lambda: driven.answers and driven.answers[0].text), 60)
        await driven.until(lambda: not driven.app.chat.conversation.busy)
        answer = driven.answers[0]
        kept = driven.store.log.inference(answer.inference)
        assert kept.status == "complete" and kept.usage.completion_tokens > 0 and answer.text
        assert driven.store.log.turns(kept.conversation)[1].message.content == answer.text
        assert "tokens/s" in status(driven) and "context" in status(driven)


def test_nothing_is_printed_and_faults_go_to_the_log_file() -> None:
    code = (
        "import logging, warnings, threading\n"
        "from tui.app import _logging_to_file\n"
        "with _logging_to_file():\n"
        "    logging.getLogger('x').warning('a record'); warnings.warn('a warning')\n"
        "    t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")
    written = (paths.log_dir() / "tui.log").read_text()
    assert all(words in written for words in ("a record", "a warning", "ZeroDivisionError"))


def test_the_app_is_built_from_settings_alone() -> None:
    app = PointsmanApp(config.load(), lambda: pytest.fail("opened too early"))
    assert json.dumps(app.title) == '"Pointsman"' and app.session is None
