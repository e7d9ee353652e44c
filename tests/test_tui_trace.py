"""What happens before an answer, in the chat: live, folded, opened, and as it comes back from the log."""

from collections.abc import Iterator
from typing import Any

import pytest
from chatting import Held, chat
from chatting import scenario as in_chat
from hypothesis import given
from hypothesis import strategies as st
from scripted_mode import EVENTS, play
from test_hostile_text import SEQUENCES
from transcript_app import TranscriptApp, answer, question, scenario

from data.chat import Usage
from router import trace as routed
from router.modes.base import Event, Step, Text, ToolCalled, ToolResult
from tui.trace import Call, Citation, Trace
from tui.trace import Step as Done
from tui.widgets.answer import AnswerView
from tui.widgets.trace import TraceView, summary

ENTRIES = tuple(entry for event in EVENTS if (entry := routed.entry(event)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "step",
                    "call",
                    "result",
                    "cited",
                    "number",
                    "title",
                    "state",
                    "name",
                    "arguments",
                    "text",
                    "source",
                    "first_line",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
)


# What it is


def test_steps_are_one_item_each_and_results_meet_their_calls() -> None:
    trace = Trace.of(ENTRIES)
    assert [type(item) for item in trace.items] == [Done, Call, Done, Call, Call]
    assert [(step.number, step.state, step.text) for step in trace.steps] == [
        (1, "done", "The distance is 384400 km."),
        (2, "failed", "no result fitted"),
    ]
    assert [(call.name, call.failed, call.untrusted) for call in trace.calls] == [
        ("search_files", False, True),
        ("python", True, False),
        ("convert", False, False),
    ]
    assert trace.cited == [Citation(1, "notes/plan.md", 10, 24), Citation(2, "README.md", 3, 3)]
    assert [str(one) for one in trace.cited] == ["[1] notes/plan.md:10-24", "[2] README.md:3"]


def test_a_step_that_is_tried_again_stays_one_step_and_says_so() -> None:
    events = (
        Step(1, "Look", "started"),
        Step(1, "Look", "failed", "no"),
        Step(1, "Look", "started"),
        Step(1, "Look", "done", "yes"),
    )
    trace = Trace.of(routed.entry(event) or {} for event in events)
    assert trace.items == [Done(1, "Look", "done", "yes", 2)]


def test_calls_of_one_name_take_their_results_in_order() -> None:
    events = (ToolCalled("f", {"a": 1}), ToolCalled("f", {"a": 2}), ToolResult("f", "one"), ToolResult("f", "two"))
    trace = Trace.of(routed.entry(event) or {} for event in events)
    assert [(call.arguments, call.result) for call in trace.calls] == [({"a": 1}, "one"), ({"a": 2}, "two")]


def test_the_page_of_a_pdf_is_named() -> None:
    assert str(Citation(3, "book.pdf", 10, 24, 7)) == "[3] book.pdf:10-24 (page 7)"


def test_a_result_without_a_call_is_kept() -> None:
    assert Trace.of([{"result": {"name": "f", "text": "x"}}]).calls == [Call("f", {}, "x")]


@given(JSON)
def test_no_row_of_any_form_breaks_the_trace(value: Any) -> None:
    entries = value if isinstance(value, list) else [value]
    trace = Trace.of(entry for entry in entries if isinstance(entry, dict))
    assert isinstance(summary(trace), str)
    assert set(trace.to_dict()) == {"steps", "tool_calls", "citations"}


# How it looks


@scenario
async def test_a_logged_answer_shows_one_line_and_all_of_it_when_opened() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(100, 40)) as pilot:
        await app.transcript.show([question(1), answer(1, "About 238,855 miles [1].", trace=ENTRIES)])
        await pilot.pause()
        assert "▸ 2 steps, 1 failed · 3 tool calls, 1 failed" in app.shown
        assert "Find the distance" not in app.shown
        assert app.shown.index("238,855") < app.shown.index("[1] notes/plan.md:10-24") < app.shown.index("[2] README.md:3")
        app.transcript.toggle_details()
        await pilot.pause()
        for words in (
            "✓ 1. Find the distance",
            "✓ search_files(pattern: distance, folder: notes) → untrusted",
            "✗ python(code: print(384400 / 1.609))",
            "print(384400",
            "failed",
            "the user did not allow python",
            "✗ 2. Convert it to miles",
            "no result fitted",
            "✓ convert(value: 384400, unit: km) → 238855 miles",
            "untrusted: text of a file or a server",
        ):
            assert words in app.shown, words
        app.transcript.toggle_details()
        await pilot.pause()
        assert "Find the distance" not in app.shown


@scenario
async def test_a_click_opens_the_lines_and_another_one_what_a_line_holds() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(100, 40)) as pilot:
        await app.transcript.show([question(1), answer(1, "x", trace=ENTRIES)])
        await pilot.pause()
        await pilot.click(TraceView, offset=(2, 0))
        assert "Find the distance" in app.shown and "and back" not in app.shown
        await pilot.click(TraceView, offset=(6, 2))
        assert "and back" in app.shown and "no result fitted" not in app.shown
        await pilot.click(TraceView, offset=(6, 2))
        assert "and back" not in app.shown
        await pilot.click(TraceView, offset=(2, 0))
        assert "Find the distance" not in app.shown


@scenario
async def test_an_answer_without_a_trace_has_no_widget_for_it() -> None:
    app = TranscriptApp()
    async with app.run_test() as pilot:
        await app.transcript.show([question(1), answer(1)])
        live = await app.transcript.begin_answer("")
        live.write("text")
        await live.finish("complete", Usage())
        await pilot.pause()
        assert not app.transcript.query(TraceView)


@scenario
async def test_thinking_and_steps_open_and_fold_together() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(100, 40)) as pilot:
        await app.transcript.show([question(1), answer(1, "x", thinking="pondering", trace=ENTRIES)])
        app.transcript.toggle_details()
        await pilot.pause()
        assert "pondering" in app.shown and "Find the distance" in app.shown
        app.transcript.toggle_details()
        await pilot.pause()
        assert "pondering" not in app.shown and "Find the distance" not in app.shown


@scenario
async def test_a_long_trace_shows_its_newest_lines_while_it_grows() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 30)) as pilot:
        live = await app.transcript.begin_answer("")
        for number in range(1, 31):
            live.note({"step": {"number": number, "title": f"step number {number}", "state": "done"}})
        live._flush()
        await pilot.pause()
        assert "step number 30" in app.shown and "step number 22" not in app.shown
        live.write("The answer.")
        live._flush()
        await pilot.pause()
        assert "step number 30" not in app.shown and "▸ 30 steps" in app.shown


@scenario
async def test_everything_in_a_trace_is_harmless_on_the_screen() -> None:
    payload = "".join(SEQUENCES)
    entries = (
        {"step": {"number": 1, "title": payload, "state": "done", "text": payload}},
        {"call": {"name": payload, "arguments": {payload: payload, "more": {payload: [payload]}}}},
        {"result": {"name": payload, "text": payload, "failed": True, "untrusted": True}},
        {"cited": {"number": 1, "source": payload, "first_line": 1, "last_line": 2}},
    )
    app = TranscriptApp()
    async with app.run_test(size=(90, 60)) as pilot:
        await app.transcript.show([question(1), answer(1, "x", trace=entries, domain=payload, mode=payload)])
        app.transcript.toggle_details()
        await pilot.pause()
        assert app.shown and all(one.isprintable() or one in "\n\u200d\u200b\ufeff" or not _acts(one) for one in app.shown)


def _acts(character: str) -> bool:
    return (
        ord(character) < 0x20
        or 0x7F <= ord(character) < 0xA0
        or character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )


@scenario
async def test_a_huge_result_is_cut_and_says_so() -> None:
    entries = ({"call": {"name": "read", "arguments": {}}}, {"result": {"name": "read", "text": "line\n" * 100_000}})
    app = TranscriptApp()
    async with app.run_test(size=(90, 30)) as pilot:
        await app.transcript.show([question(1), answer(1, "x", trace=entries)])
        app.transcript.toggle_details()
        await pilot.pause()
        assert app.transcript.query_one(TraceView).size.height < 500
        app.transcript.jump_to_end()
        await pilot.pause()
        assert "more lines" in app.shown


# In the chat


@in_chat
async def test_steps_calls_and_citations_are_shown_live_and_again_from_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Held()

    def script() -> Iterator[Event]:
        yield from EVENTS[:-2]
        list(gate)
        yield from EVENTS[-2:]

    play(monkeypatch, script)
    async with chat(gate) as driven:
        await driven.type("How far is the moon?")
        await driven.press("enter")
        await driven.until(lambda: "… 2. Convert it to miles" in driven.screen)
        assert "✗ python" in driven.screen and "[1] notes" not in driven.screen
        gate.released.set()
        await driven.until(lambda: not driven.app.chat.conversation.busy)
        live = driven.screen
        assert "▸ 2 steps, 1 failed · 3 tool calls, 1 failed" in live
        assert "[1] notes/plan.md:10-24" in live and "[2] README.md:3" in live
        conversation = driven.app.chat.conversation.conversation
        await driven.press("ctrl+n")
        await driven.until(lambda: not driven.answers)
        driven.app.chat.conversation.show(conversation)
        await driven.until(lambda: driven.answers)
        await driven.pilot.pause()
        again = driven.screen
        for words in ("▸ 2 steps, 1 failed · 3 tool calls, 1 failed", "[1] notes/plan.md:10-24", "[2] README.md:3"):
            assert words in again


@in_chat
async def test_the_status_line_tells_which_step_or_tool_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Held(), Held()

    def script() -> Iterator[Event]:
        yield Step(1, "Look", "started")
        list(first)
        yield ToolCalled("calculator", {"expression": "1+1"})
        list(second)
        yield Text("2")

    play(monkeypatch, script)
    async with chat(first, second) as driven:
        await driven.type("1+1?")
        await driven.press("enter")
        await driven.until(lambda: "step 1" in driven.screen.splitlines()[-2])
        first.released.set()
        await driven.until(lambda: "calling calculator" in driven.screen.splitlines()[-2])
        second.released.set()
        await driven.until(lambda: not driven.app.chat.conversation.busy)


@in_chat
async def test_a_file_that_could_not_be_attached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chat("Hello") as driven:
        await driven.ask("@/no/such/file.md what?")
        assert any("/no/such/file.md" in notice for notice in driven.notices)
        assert isinstance(driven.answers[0], AnswerView)
