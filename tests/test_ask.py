"""`pointsman ask`: what is read, what is printed where, and what an answer that fails leaves behind."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import ROOT, in_terminal, prepared_as_packaged, run, spawn
from servers import DROP, Scripted, ndjson, plain

from data import paths
from data.chat import Usage
from data.errors import InputError
from export import embedded
from router.modes.base import Done, Started, Text
from tui import answers
from tui.reading import MAX_BYTES


@pytest.fixture(autouse=True)
def prepared(home: Path) -> None:
    """The embedded model needs no preparation in this home."""
    prepared_as_packaged()


@pytest.fixture
def ollama(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """An Ollama server with the model `m`."""
    server = Scripted()
    server.on("/api/version", plain({"version": "0.33.0"})).on("/api/tags", plain({"models": [{"model": "m:latest"}]}))
    server.on("/api/ps", plain({"models": [{"name": "m:latest"}]}))
    monkeypatch.setenv("OLLAMA_HOST", f"http://{server.host}")
    yield server
    server.close()


def said(content: str = "", thinking: str = "", **more) -> dict:
    message = {"role": "assistant", "content": content, **({"thinking": thinking} if thinking else {})}
    return {"message": message, "done": False} | more


END = said(done=True, done_reason="stop", prompt_eval_count=9, eval_count=2)


def echo(*arguments: str, stdin: bytes | None = None) -> str:
    ran = run("ask", "-m", "echo", *arguments, stdin=stdin)
    assert ran.code == 0, ran
    assert ran.err == ""
    return ran.out


def test_the_question_comes_from_arguments_stdin_and_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.md"
    one.write_text("x = 1\n")
    two.write_text("```\ncode\n```\n")
    assert echo("what", "is", "this") == "what is this\n"
    assert echo(stdin=b"from a pipe\n") == "from a pipe\n"
    assert echo("explain", stdin=b"piped") == "explain\n\npiped\n"
    assert echo("-f", str(one)) == "x = 1\n"
    assert echo("why?", "-f", str(one)) == "why?\n\none.py:\n```\nx = 1\n```\n"
    assert echo("-f", str(one), "-f", str(two)) == "one.py:\n```\nx = 1\n```\n\ntwo.md:\n````\n```\ncode\n```\n````\n"
    assert echo("why?", "-f", str(one), stdin=b"piped") == "why?\n\npiped\n\none.py:\n```\nx = 1\n```\n"
    assert echo("--", "-m", "is an option") == "-m is an option\n"


def test_a_byte_order_mark_is_no_part_of_the_question() -> None:
    assert echo(stdin=b"\xef\xbb\xbfhello") == "hello\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"abc\xff\xfe", ("is not UTF-8: byte 3 is 0xff", "iconv")),
        ("grün".encode("latin-1"), ("is not UTF-8: byte 2 is 0xfc", "iconv")),
        ("hello".encode("utf-16"), ("UTF-16", "iconv -f UTF-16")),
        (b"\x7fELF\x02\x00\x00", ("byte 5 is NUL",)),
        (b"x" * (MAX_BYTES + 1), ("larger than 16 MB",)),
    ],
    ids=["broken", "latin1", "utf16", "binary", "huge"],
)
def test_text_that_is_none_is_refused_with_the_place(data: bytes, words: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "wrong.txt"
    file.write_bytes(data)
    run("ask", "-m", "echo", stdin=data).refused("stdin", *words)
    run("ask", "-m", "echo", "-f", str(file)).refused("wrong.txt", *words)
    assert json.loads(run("log", "list", "--json").out) == []


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for name in (str(tmp_path / "none"), str(tmp_path), "/proc/self/mem", "a\0b", "x" * 5000):
        run("ask", "-m", "echo", "why?", "-f", name).refused("cannot read")


@pytest.mark.parametrize("stdin", [b"", b" \n\t\n"])
def test_an_empty_question_is_refused(stdin: bytes) -> None:
    run("ask", "-m", "echo", stdin=stdin).refused("there is no question", "pipe it in")
    run("ask", "-m", "echo", "  ", stdin=stdin).refused("there is no question")


def test_ten_megabytes_of_stdin_pass_through_the_echo() -> None:
    data = b"many words " * 900_000
    ran = run("ask", "-m", "echo", "--max-tokens", "3", stdin=data)
    assert ran.code == 0
    assert ran.out == "many words many \n"
    assert ran.err == "the answer was cut after 3 tokens; --max-tokens allows more\n"


def test_an_argument_that_is_no_utf8_is_refused() -> None:
    run("ask", "-m", "echo", "caf\udce9").refused("the argument is not UTF-8")


def test_json_is_one_value_with_the_documented_fields() -> None:
    ran = run("ask", "-m", "echo", "--json", "two words")
    assert ran.err == ""
    (line,) = ran.out.splitlines()
    answer = json.loads(line)
    documented = {"text", "thinking", "model", "mode", "domain", "conversation", "inference", "truncated", "reasons", "usage"}
    assert set(answer) >= documented
    assert (answer["text"], answer["model"], answer["mode"], answer["truncated"]) == ("two words", "echo/echo", "standard", False)
    assert set(answer["usage"]) >= {"prompt_tokens", "cached_tokens", "completion_tokens", "ttft_s", "total_s", "finish"}
    assert (answer["usage"]["completion_tokens"], answer["usage"]["finish"]) == (2, "stop")


def test_json_of_a_failure_is_nothing_on_stdout() -> None:
    run("ask", "-m", "nosuchmodel", "--json", "hello").refused("no model 'nosuchmodel'")


def test_the_stream_has_an_object_a_line() -> None:
    events = [json.loads(line) for line in run("ask", "-m", "echo", "--json-stream", "two words").out.splitlines()]
    assert [event["event"] for event in events] == ["started", "text", "text", "done"]
    assert events[0]["conversation"] == events[-1]["conversation"] != ""
    assert "".join(event["text"] for event in events if event["event"] == "text") == events[-1]["text"] == "two words"


def test_a_conversation_goes_on() -> None:
    first = json.loads(run("ask", "-m", "echo", "--json", "one").out)
    second = json.loads(run("ask", "--json", "-c", "two").out)
    assert (second["conversation"], second["model"]) == (first["conversation"], "echo/echo")
    assert second["usage"]["prompt_tokens"] == 3
    other = json.loads(run("ask", "-m", "echo", "--json", "new").out)
    assert other["conversation"] != first["conversation"]
    third = json.loads(run("ask", "--json", "--conversation", first["conversation"][-8:], "three").out)
    assert third["conversation"] == first["conversation"]


def test_going_on_needs_a_conversation() -> None:
    run("ask", "-c", "and?").refused("no conversation to go on with")
    run("ask", "--conversation", "ffffffff", "and?").refused("ffffffff")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--temperature", "9"), "sampling.temperature = 9.0 (from the command line) is not allowed"),
        (("--temperature", "nan"), "sampling.temperature"),
        (("--seed", str(2**32)), "sampling.seed"),
        (("--mode", "../../evil"), "there is no mode"),
        (("--mode", "base"), "modes: auto"),
        (("-m", "llamacpp/"), "pointsman models list"),
        (("-m", "/nowhere/model.gguf"), "/nowhere/model.gguf"),
    ],
)
def test_wrong_flags_are_refused(flags: tuple[str, ...], words: str) -> None:
    run("ask", *flags, "hello").refused(words)


def test_nothing_is_kept_where_the_log_is_not_wanted() -> None:
    assert echo("--no-log", "a secret") == "a secret\n"
    assert not paths.data_dir().exists()


def test_hostile_text_reaches_a_pipe_harmless() -> None:
    assert echo("\x1b]0;owned\x07\x9b31m red\r\nnext") == "␛]0;owned␇�31m red\nnext\n"


def test_reasoning_is_no_part_of_the_answer(ollama: Scripted) -> None:
    ollama.on("/api/chat", ndjson(said(thinking="hm"), said("Hel"), said("lo"), END))
    ran = run("ask", "-m", "ollama/m", "hi")
    assert (ran.out, ran.err) == ("Hello\n", "")
    answer = json.loads(run("ask", "-m", "ollama/m", "--json", "hi").out)
    assert (answer["text"], answer["thinking"]) == ("Hello", "hm")
    events = [json.loads(line)["event"] for line in run("ask", "-m", "ollama/m", "--json-stream", "hi").out.splitlines()]
    assert "thinking" in events
    code, sent = in_terminal("ask", "-m", "ollama/m", "hi")
    assert code == 0
    assert "\x1b[2mhm\x1b[22m" in sent
    assert sent.index("hm") < sent.index("Hel")


def test_an_answer_that_breaks_off_is_shown_and_kept(ollama: Scripted) -> None:
    ollama.on("/api/chat", ndjson(said("Half an ans"), then=[DROP]))
    ran = run("ask", "-m", "ollama/m", "hi")
    assert (ran.code, ran.out) == (1, "Half an ans\n")
    assert ran.err.count("\n") == 1
    kept = json.loads(run("log", "show", "last", "--json").out)["turns"][1]
    assert (kept["message"]["content"], kept["inference"]["status"]) == ("Half an ans", "interrupted")


def test_a_model_that_was_pinned_has_no_stand_in() -> None:
    run("ask", "-m", "ollama/m", "hi").refused("Ollama")
    assert json.loads(run("log", "show", "last", "--json").out)["turns"][1]["inference"]["status"] == "error"


def test_remarks_tell_what_the_model_did_not_see_and_who_answered() -> None:
    answer = answers.Answer()
    for event in (
        Started("c", "q", "a", "i", "ollama/m", "standard", "", ("the default model is ollama/m",)),
        Started("c", "q", "a", "i", "llamacpp/x", "standard", "", ("the default model is ollama/m", "Ollama is away: x answers")),
        Text("hello"),
        Done(Usage(completion_tokens=7, finish="length", dropped_turns=3, context_tokens=2048), "i"),
    ):
        answer.take(event)
    assert answers.remarks(answer) == [
        "Ollama is away: x answers",
        "the 3 oldest turns were left out: the conversation does not fit the context of 2048 tokens",
        "the answer was cut after 7 tokens; --max-tokens allows more",
    ]
    assert answer.to_dict()["model"] == "llamacpp/x"
    assert answer.to_dict()["truncated"] is True


def test_a_carriage_return_cut_from_its_line_feed_is_one_line_end(ollama: Scripted) -> None:
    ollama.on("/api/chat", ndjson(said("one\r"), said("\ntwo\r"), END))
    assert run("ask", "-m", "ollama/m", "hi").out == "one\ntwo␍\n"


@pytest.mark.parametrize("place", ["file", "proc"])
def test_a_home_that_cannot_be_written_is_one_line(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("POINTSMAN_HOME", {"file": str(file), "proc": "/proc/pointsman"}[place])
    run("ask", "-m", "echo", "hello").refused("POINTSMAN_HOME")


def test_a_full_disk_is_one_line_and_the_question_survives() -> None:
    echo("first")
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); from tui.cli import main; sys.exit(main())"
    )
    ran = spawn("ask", "-m", "echo", "word " * 20_000, script=script)
    ran.refused("no space for the log")
    assert [row["title"] for row in json.loads(run("log", "list", "--json").out)] == ["first"]


def test_the_embedded_model_answers_without_a_network() -> None:
    answer = json.loads(run("ask", "--json", "--temperature", "0", "--max-tokens", "8", "Say hello.").out)
    assert answer["model"] == "llamacpp/smollm2-135m"
    assert answer["text"].strip()
    assert answer["usage"]["completion_tokens"] <= 8
    again = json.loads(run("ask", "--json", "--temperature", "0", "--max-tokens", "8", "Say hello.").out)
    assert again["text"] == answer["text"]


def test_first_use_prepares_the_embedded_model_with_a_line_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(paths.cache_dir())

    def prepare(name: str, progress) -> None:
        progress(f"preparing {name}: measuring")
        prepared_as_packaged(name)

    monkeypatch.setattr(embedded, "prepare", prepare)
    first = run("ask", "--max-tokens", "2", "Say hello.")
    assert (first.code, first.err.splitlines()[1]) == (0, "preparing smollm2-135m: measuring")
    assert "prepar" not in run("ask", "--max-tokens", "2", "Say hello.").err


def test_where_preparing_fails_the_packaged_file_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(paths.cache_dir())

    def prepare(name: str, progress) -> None:
        raise InputError("cannot write the cache", "free some space")

    monkeypatch.setattr(embedded, "prepare", prepare)
    ran = run("ask", "--max-tokens", "2", "Say hello.")
    assert ran.code == 0
    assert ran.out.strip()
    assert "smollm2-135m could not be prepared and runs as it was packaged: cannot write the cache; free some space" in ran.err


def test_nothing_is_prepared_for_a_question_to_another_engine(ollama: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(paths.cache_dir())
    ollama.on("/api/chat", ndjson(said("Hello"), END))
    monkeypatch.setattr(embedded, "prepare", lambda *_: pytest.fail("prepared"))
    assert run("ask", "-m", "ollama/m", "hi").out == "Hello\n"
    assert run("ask", "-m", "echo", "hi").out == "hi\n"


def test_ctrl_c_stops_the_answer_and_keeps_what_had_come() -> None:
    arguments = [sys.executable, "-m", "tui.cli", "ask", "--temperature", "0", "Tell a long story about a lighthouse."]
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    begun = process.stdout.read(12)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"stopped; what had come is kept" in err
    assert b"Traceback" not in err
    turn = json.loads(run("log", "show", "last", "--json").out)["turns"][1]
    assert turn["inference"]["status"] == "cancelled"
    assert turn["message"]["content"].encode().startswith((begun + rest).strip())  # the last token may be kept but not printed


def test_an_unreachable_default_is_answered_by_the_embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_MODEL", "ollama/m")
    ran = run("ask", "--max-tokens", "4", "Say hello.")
    assert ran.code == 0
    assert ran.out.strip()
    assert "the embedded model answers" in ran.err


def test_ten_megabytes_are_too_much_for_a_model_and_it_says_so() -> None:
    run("ask", stdin=b"many words " * 900_000).refused("context")
