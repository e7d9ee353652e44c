"""`pointsman log`: past answers found again, rated, corrected, exported and forgotten."""

import json
import stat
from pathlib import Path

import pytest
from command_line import in_terminal, run

from data import paths


def asked(text: str, *options: str) -> dict:
    """Ask the echo and return the answer's JSON."""
    ran = run("ask", "-m", "echo", "--json", *options, text)
    assert ran.code == 0, ran
    return json.loads(ran.out)


def test_an_empty_log_says_how_to_begin() -> None:
    ran = run("log", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "pointsman ask" in ran.err
    assert run("log", "list", "--json").out == "[]\n"
    run("log", "show", "last").refused("no answer yet")


def test_list_has_the_last_used_conversation_first() -> None:
    first = asked("about cats")
    asked("about dogs")
    asked("and kittens", "--conversation", first["conversation"][-8:])
    rows = json.loads(run("log", "list", "--json").out)
    assert [(row["title"], row["turns"]) for row in rows] == [("about cats", 4), ("about dogs", 2)]
    assert [line.split()[0] for line in run("log", "list", "-n", "1").out.splitlines()] == ["id", first["conversation"][-8:]]


def test_show_takes_a_conversation_an_answer_or_last() -> None:
    first = asked("about cats")
    second = asked("and kittens", "-c")
    assert second["conversation"] == first["conversation"]
    whole = json.loads(run("log", "show", first["conversation"], "--json").out)
    assert [turn["message"]["content"] for turn in whole["turns"]] == ["about cats", "about cats", "and kittens", "and kittens"]
    one = json.loads(run("log", "show", first["inference"][-8:], "--json").out)
    assert [turn["message"]["content"] for turn in one["turns"]] == ["about cats", "about cats"]
    assert one["turns"][1]["inference"]["model"] == "echo/echo"
    last = json.loads(run("log", "show", "last", "--json").out)
    assert last["turns"][1]["id"] == whole["turns"][3]["id"]
    assert "── echo/echo · 2 tokens" in run("log", "show", "last").out


@pytest.mark.parametrize("key", ["ffffffff", "abc", "not-an-id", "", "\x1b[31m", "%"])
def test_an_id_that_is_not_there_is_refused(key: str) -> None:
    asked("about cats")
    for arguments in (("show", key), ("rate", key, "up"), ("correct", key, "text"), ("forget", "--yes", key)):
        run("log", *arguments).refused()


def test_rating_replaces_and_clears() -> None:
    answer = asked("about cats")
    assert run("log", "rate", "last", "up").out.endswith("rated up\n")
    assert run("log", "rate", answer["inference"], "down", "--comment", "too short").out.endswith(
        "rated down, comment: too short\n"
    )
    assert "rated 4 of 5" in run("log", "rate", answer["conversation"], "4").out
    cleared = run("log", "rate", "last", "clear").out
    assert "rated" not in cleared
    assert "too short" in cleared


def test_a_question_cannot_be_rated() -> None:
    asked("about cats")
    question = json.loads(run("log", "show", "last", "--json").out)["turns"][0]["id"]
    run("log", "rate", question, "up").refused("names no answer")


@pytest.mark.parametrize("source", ["argument", "stdin", "file"])
def test_a_correction_comes_from_anywhere(source: str, tmp_path: Path) -> None:
    asked("the capital of France")
    file = tmp_path / "correct.txt"
    file.write_text("Paris")
    given = {"argument": ["Paris"], "stdin": [], "file": ["-f", str(file)]}[source]
    ran = run("log", "correct", "last", *given, stdin=b"Paris" if source == "stdin" else None)
    assert ran.code == 0
    turn = json.loads(run("log", "show", "last", "--json").out)["turns"][1]
    assert [(item["kind"], item["text"]) for item in turn["feedback"]] == [("correction", "Paris")]


def test_a_correction_is_written_in_the_editor(tmp_path: Path) -> None:
    asked("the capital of France")
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/France/Texas/ "$1"\n')
    editor.chmod(editor.stat().st_mode | stat.S_IXUSR)
    code, sent = in_terminal("log", "correct", "last", env={"EDITOR": str(editor), "VISUAL": ""})
    assert code == 0, sent
    assert "corrected to: the capital of Texas" in run("log", "show", "last").out


def test_an_empty_or_unchanged_correction_is_not_kept() -> None:
    asked("the capital of France")
    run("log", "correct", "last").refused("empty")
    assert "unchanged" in run("log", "correct", "last", "the capital of France").err
    assert json.loads(run("log", "show", "last", "--json").out)["turns"][1]["feedback"] == []


def test_a_corrected_answer_is_what_the_model_sees_next() -> None:
    asked("one")
    run("log", "correct", "last", "two three four")
    assert asked("five", "-c")["usage"]["prompt_tokens"] == len("one two three four five".split())


def test_search_finds_words_and_shows_hostile_text_harmless() -> None:
    asked("the borrow \x1b]0;x\x07 checker")
    asked("something else")
    ran = run("log", "search", "borrow", "checker")
    assert ran.code == 0
    assert "«borrow»" in ran.out
    assert "\x1b" not in ran.out
    hits = json.loads(run("log", "search", "--json", "borrow").out)
    assert {hit["role"] for hit in hits} >= {"user", "assistant"}
    assert json.loads(run("log", "search", "--json", "--model", "ollama/x", "borrow").out) == []
    assert run("log", "search", "nowhere").err == "nothing was found\n"
    run("log", "search", " ").refused("nothing to search")


@pytest.mark.parametrize("text", ['"', "a AND", "NEAR(", "*", "title:x", "'; drop table turn; --", "日本"])
def test_no_search_text_is_a_syntax_error(text: str) -> None:
    asked("about cats")
    assert run("log", "search", "--", text).code == 0


def test_export_writes_json_lines_whole_or_not_at_all(tmp_path: Path) -> None:
    asked("about cats")
    asked("about dogs")
    rows = [json.loads(line) for line in run("log", "export").out.splitlines()]
    assert [row["messages"][0]["content"] for row in rows] == ["about cats", "about dogs"]
    out = tmp_path / "log.jsonl"
    assert run("log", "export", "-o", str(out)).err == f"2 branches are in {out}\n"
    assert [json.loads(line) for line in out.read_text().splitlines()] == rows
    run("log", "export", "-o", "/proc/nothing/log.jsonl").refused("/proc/nothing")


def test_forgetting_leaves_no_byte_behind() -> None:
    asked("my address is 12 Foxglove Lane")
    asked("about dogs")
    ran = run("log", "forget", "--matching", "foxglove lane", "--yes")
    assert ran.out == "forgotten: 1 conversations with 2 turns and 0 pieces of feedback\n"
    assert [row["title"] for row in json.loads(run("log", "list", "--json").out)] == ["about dogs"]
    for file in paths.data_dir().iterdir():
        assert b"Foxglove" not in file.read_bytes(), file


def test_forgetting_asks_first() -> None:
    asked("about cats")
    ran = run("log", "forget", "last")
    assert ran.code == 2
    assert "--yes" in ran.err
    code, sent = in_terminal("log", "forget", "last", typed=b"n\n")
    assert code == 130
    assert "1 conversations with 2 turns" in sent
    assert len(json.loads(run("log", "list", "--json").out)) == 1
    assert in_terminal("log", "forget", "last", typed=b"y\n")[0] == 0
    assert run("log", "list", "--json").out == "[]\n"
    assert "matches" in run("log", "forget", "--matching", "nothing", "--yes").err


def test_a_damaged_log_is_refused_and_kept() -> None:
    asked("about cats")
    file = paths.data_dir() / "pointsman.db"
    file.write_bytes(b"this is no database, whatever its name says" * 100)
    before = file.read_bytes()
    for arguments in (("log", "list"), ("ask", "-m", "echo", "hello"), ("log", "forget", "--matching", "x", "--yes")):
        run(*arguments).refused("damaged")
    assert file.read_bytes() == before
