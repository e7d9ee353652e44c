"""`pointsman ask` with steps, tools and citations: what is shown where, the JSON, and the question before a side effect."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import ROOT, in_terminal, run, spawn
from scripted_mode import EVENTS, play

from router.modes.base import Event, Phase, Started, Text, Thought
from tui import answers

PROGRAM = (str(ROOT / "tests" / "asking_program.py"),)


@pytest.fixture
def jotted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the tool writes to."""
    file = tmp_path / "jotted.txt"
    monkeypatch.setenv("JOTTED", str(file))
    return file


def everything() -> Iterator[Event]:
    yield from EVENTS


def test_json_carries_steps_calls_and_citations(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, everything)
    ran = run("ask", "-m", "echo", "--json", "How far is the moon?")
    found = json.loads(ran.out)
    assert found["text"] == "About 238,855 miles [1]."
    assert found["steps"] == [
        {"number": 1, "title": "Find the distance", "state": "done", "text": "The distance is 384400 km."},
        {"number": 2, "title": "Convert it to miles", "state": "failed", "text": "no result fitted"},
    ]
    assert [call["name"] for call in found["tool_calls"]] == ["search_files", "python", "convert"]
    assert found["tool_calls"][1] == {
        "name": "python",
        "arguments": {"code": "print(384400\n  / 1.609)"},
        "result": "the user did not allow python; go on without it",
        "failed": True,
        "untrusted": False,
    }
    assert found["citations"][0] == {"number": 1, "source": "notes/plan.md", "first_line": 10, "last_line": 24, "page": 0}


def test_a_plain_answer_has_empty_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, lambda: iter([Text("Hello")]))
    found = json.loads(run("ask", "-m", "echo", "--json", "Hi").out)
    assert (found["steps"], found["tool_calls"], found["citations"]) == ([], [], [])


def test_the_stream_has_a_line_for_each_event(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, everything)
    lines = [json.loads(line) for line in run("ask", "-m", "echo", "--json-stream", "How far?").out.splitlines()]
    kinds = [line["event"] for line in lines]
    assert kinds == [
        "started",
        "cited",
        "cited",
        "step",
        "tool_call",
        "tool_result",
        "step",
        "step",
        "tool_call",
        "tool_result",
        "tool_call",
        "tool_result",
        "step",
        "text",
        "done",
    ]
    assert lines[1] == {"event": "cited", "number": 1, "source": "notes/plan.md", "first_line": 10, "last_line": 24, "page": 0}
    assert lines[4]["arguments"] == {"pattern": "distance", "folder": "notes"}
    assert lines[5]["untrusted"] is True and lines[9]["failed"] is True
    assert len(lines[-1]["tool_calls"]) == 3


def test_a_pipe_gets_the_answer_and_stderr_what_it_cites(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, everything)
    ran = run("ask", "-m", "echo", "How far?")
    assert ran.out == "About 238,855 miles [1].\n"
    assert ran.err == "[1] notes/plan.md:10-24\n[2] README.md:3\n"


def test_problems_with_the_question_are_remarks() -> None:
    answer = answers.Answer()
    answer.take(Started("c", "q", "a", "i", "m", "standard", "", ("because",), ("there is no file x.md",)))
    assert answers.remarks(answer) == ["there is no file x.md"]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (EVENTS[2], "step 1: Find the distance"),
        (EVENTS[5], "step 1: Find the distance · done"),
        (EVENTS[11], "step 2: Convert it to miles · failed: no result fitted"),
        (EVENTS[3], "search_files(pattern: distance, folder: notes)"),
        (EVENTS[4], "  → untrusted: plan.md:12: The distance is 384400 km. plan.md:19: and back"),
        (EVENTS[8], "  → failed: the user did not allow python; go on without it"),
        (EVENTS[10], "  → 238855 miles"),
        (Thought("x"), ""),
        (Phase("loading"), ""),
    ],
)
def test_deeds_on_one_line(event: Event, line: str) -> None:
    assert answers.deed(event) == line


# The question before a side effect


def test_in_a_terminal_yes_allows_one_call(jotted: Path) -> None:
    code, sent = in_terminal(
        "ask", "--mode", "agent", "-m", "echo", "remember me", typed=[b"y\n", b"n\n"], after=b"[y/N]", program=PROGRAM
    )
    assert code == 0
    assert "jot wants to change files" in sent and "text: remember me 1" in sent and "text: remember me 2" in sent
    assert "strangers" not in sent and "has asked" not in sent
    assert sent.count("allow it? [y/N]") == 2
    assert "The end." in sent


@pytest.mark.parametrize("typed", [b"\n", b"n\n", b"no\n", b"maybe\n", b"\x04"])
def test_in_a_terminal_everything_but_yes_is_no(jotted: Path, typed: bytes) -> None:
    code, sent = in_terminal("ask", "--mode", "agent", "-m", "echo", "x", typed=[typed, typed], after=b"[y/N]", program=PROGRAM)
    assert code == 0 and "The end." in sent
    assert not jotted.exists()


def test_after_text_of_strangers_the_question_says_so_in_red(jotted: Path) -> None:
    _, sent = in_terminal(
        "ask", "--mode", "agent", "-m", "echo", "strangers: x", typed=[b"n\n", b"n\n"], after=b"[y/N]", program=PROGRAM
    )
    assert "\x1b[31mtext from a file or a server is in this conversation and may have asked for this\x1b[39m" in sent


def test_control_characters_of_an_argument_are_shown_as_symbols(jotted: Path) -> None:
    _, sent = in_terminal(
        "ask", "--mode", "agent", "-m", "echo", "a\x1b[2Jb\u200b", typed=[b"n\n", b"n\n"], after=b"[y/N]", program=PROGRAM
    )
    assert "text: a⟦U+001B⟧[2Jb⟦U+200B⟧ 1" in sent and "\x1b[2J" not in sent


def test_ctrl_c_at_the_question_stops_the_answer(jotted: Path) -> None:
    code, sent = in_terminal("ask", "--mode", "agent", "-m", "echo", "x", typed=b"\x03", after=b"[y/N]", program=PROGRAM)
    assert code == 130 and "stopped" in sent and "Traceback" not in sent
    assert not jotted.exists()


@pytest.mark.parametrize("flag", ["--json", "--json-stream", "--no-log"])
def test_without_a_terminal_it_is_refused_with_one_note(jotted: Path, flag: str) -> None:
    script = f"import runpy, sys; sys.argv[0] = {PROGRAM[0]!r}; runpy.run_path({PROGRAM[0]!r}, run_name='__main__')"
    ran = spawn("ask", "--mode", "agent", "-m", "echo", flag, stdin=b"y\ny\n", script=script)
    assert ran.code == 0, ran.err
    assert ran.err.count("refused, because there is no terminal to ask on") == 1
    assert not jotted.exists()
    if flag == "--json":
        assert [call["failed"] for call in json.loads(ran.out)["tool_calls"]] == [True, True]
