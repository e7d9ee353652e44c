"""The Ollama engine against a scripted server, byte by byte, and against a real one where POINTSMAN_TEST_OLLAMA names it.

POINTSMAN_TEST_OLLAMA=127.0.0.1:11434 (a loopback host) and, optionally, POINTSMAN_TEST_OLLAMA_MODEL=llama3.2:1b.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from servers import CUT, DROP, HANG, PATIENCE_S, Reply, Scripted, ndjson, plain

from data import errors
from data.chat import Chunk, Message, ToolCall
from data.config import OllamaSettings, Sampling, Settings
from router.engines import _faults, _ollama, _remote, ollama
from router.engines.base import Adapter, ModelInfo, PullProgress, Request

REAL = os.environ.get("POINTSMAN_TEST_OLLAMA", "")
REAL_MODEL = os.environ.get("POINTSMAN_TEST_OLLAMA_MODEL", "")
HEL = {"message": {"role": "assistant", "content": "Hel"}, "done": False}
LO = {"message": {"role": "assistant", "content": "lo"}, "done": False}
DONE = {
    "message": {"role": "assistant", "content": ""},
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 9,
    "eval_count": 2,
}
HELLO = Request("m", (Message("user", "hi"),))
Build = Callable[..., ollama.Ollama]


@pytest.fixture
def server() -> Iterator[Scripted]:
    """A scripted server with the model `m` installed and loaded."""
    scripted = Scripted()
    scripted.on("/api/ps", plain({"models": [{"name": "m:latest"}]})).on("/api/tags", plain({"models": [{"model": "m:latest"}]}))
    scripted.on("/api/version", plain({"version": "0.33.0"})).on("/api/chat", ndjson(HEL, LO, DONE))
    yield scripted
    scripted.close()


@pytest.fixture
def build(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Engines for the scripted server; no pauses between tries."""
    monkeypatch.setattr(_remote, "BACKOFF_S", (0.0, 0.0))
    made: list[ollama.Ollama] = []

    def engine(**settings: Any) -> ollama.Ollama:
        made.append(ollama.build(Settings(ollama=OllamaSettings(**{"host": server.host, "stall_s": 10.0} | settings))))
        return made[-1]

    yield engine
    for each in made:
        each.close()


@pytest.fixture
def engine(build: Build) -> ollama.Ollama:
    """The engine with default settings."""
    return build()


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def broken(engine: ollama.Ollama, request: Request = HELLO) -> tuple[list[Chunk], errors.EngineError]:
    """What came before the error, and the error."""
    chunks: list[Chunk] = []
    with pytest.raises(errors.PointsmanError) as caught:
        chunks.extend(engine.stream(request))  # extend keeps what came before the error
    assert caught.value.what
    return chunks, caught.value


# Answers


def test_answer_comes_piece_by_piece_with_usage_last(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/chat", ndjson(HEL, LO, DONE | {"load_duration": 250_000_000, "done_reason": "length"}))
    chunks = list(engine.stream(HELLO))
    assert [chunk.text for chunk in chunks] == ["Hel", "lo", ""]
    usage = chunks[-1].usage
    assert usage and all(chunk.usage is None for chunk in chunks[:-1])
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.load_s) == (9, 2, 0, 0.25)
    assert (usage.finish, usage.context_tokens, usage.dropped_turns) == ("length", 4096, 0)
    assert 0 < usage.ttft_s <= usage.total_s


def test_options_have_the_same_keys_in_every_call(build: Build, server: Scripted) -> None:
    engine = build(context=2048, keep_alive="10m")
    list(engine.stream(HELLO))
    list(engine.stream(Request("m", HELLO.messages, Sampling(temperature=0, seed=7, top_k=1, min_p=0), max_tokens=3, stop=("x",))))
    first, second = (seen.body for seen in server.asked("/api/chat"))
    assert first["options"].keys() == second["options"].keys()
    assert first["options"]["num_ctx"] == second["options"]["num_ctx"] == 2048
    assert (first["options"]["seed"], second["options"]["seed"]) == (-1, 7)
    assert (second["options"]["num_predict"], second["options"]["stop"], second["options"]["temperature"]) == (3, ["x"], 0)
    for body in (first, second):
        assert (body["truncate"], body["shift"], body["keep_alive"], body["stream"]) == (False, False, "10m", True)
        assert not {"think", "tools", "format"} & body.keys()


def test_schema_tools_and_thinking_are_asked_for_and_understood(engine: ollama.Ollama, server: Scripted) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    call = {"function": {"name": "add", "arguments": {"a": 1}}, "id": "c1"}
    server.on(
        "/api/chat",
        ndjson({"message": {"content": "", "thinking": "hm"}}, {"message": {"content": "", "tool_calls": [call]}}, DONE),
    )
    schema = {"type": "object"}
    chunks = list(engine.stream(Request("m", HELLO.messages, schema=schema, tools=(tool,), think=True)))
    assert [chunk.thinking for chunk in chunks] == ["hm", "", ""]
    assert chunks[1].tool_calls == (ToolCall("add", {"a": 1}, "c1"),)
    assert chunks[2].usage and chunks[2].usage.finish == "tool_calls"
    body = server.asked("/api/chat")[0].body
    assert (body["format"], body["tools"], body["think"]) == (schema, [tool], True)


def test_tool_results_and_past_calls_are_sent_back(engine: ollama.Ollama, server: Scripted) -> None:
    past = Message("assistant", "", thinking="hm", tool_calls=(ToolCall("add", {"a": 1}),))
    list(engine.stream(Request("m", (Message("user", "?"), past, Message("tool", "2", tool_name="add")), think=False)))
    body = server.asked("/api/chat")[0].body
    assert body["messages"][1] == {
        "role": "assistant",
        "content": "",
        "thinking": "hm",
        "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}],
    }
    assert body["messages"][2] == {"role": "tool", "content": "2", "tool_name": "add"}
    assert body["think"] is False


def test_loading_is_announced_for_a_model_that_is_not_in_memory(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/ps", plain({"models": [{"name": "other:latest"}]}))
    assert next(iter(engine.stream(HELLO))).phase == "loading"


@pytest.mark.parametrize(
    "peek", [plain({"error": "no"}, 500), plain(b"<html>"), plain([1]), plain({"models": [{"name": 3}]}), Reply((DROP,))]
)
def test_failing_peek_at_loaded_models_does_no_harm(engine: ollama.Ollama, server: Scripted, peek: Reply) -> None:
    server.on("/api/ps", peek)
    assert text_of(list(engine.stream(HELLO))) == "Hello"


def test_characters_that_other_clients_split_lines_at_stay_whole(engine: ollama.Ollama, server: Scripted) -> None:
    odd = "a\u0085b\u2028c\u2029d\x0be\x1cf\ud800"
    raw = json.dumps({"message": {"content": "a\u0085b\u2028c\u2029d"}}, ensure_ascii=False).encode()
    escaped = json.dumps({"message": {"content": odd}}).encode()
    middle = len(raw) // 2
    done = json.dumps(DONE).encode()
    server.on("/api/chat", Reply((raw[:middle], raw[middle:] + b"\r\n\n", escaped + b"\n" + done), headers={"A": "b"}))
    chunks = list(engine.stream(HELLO))
    assert [chunk.text for chunk in chunks[:2]] == ["a\u0085b\u2028c\u2029d", odd]
    assert chunks[2].usage


def test_character_cut_in_two_by_the_network_arrives_whole(engine: ollama.Ollama, server: Scripted) -> None:
    raw = json.dumps({"message": {"content": "grün 🦙"}}, ensure_ascii=False).encode() + b"\n" + json.dumps(DONE).encode() + b"\n"
    server.on("/api/chat", Reply(tuple(bytes([byte]) for byte in raw), headers={"A": "b"}))
    assert text_of(list(engine.stream(HELLO))) == "grün 🦙"


def test_lone_surrogate_in_a_question_does_not_stop_it(engine: ollama.Ollama, server: Scripted) -> None:
    list(engine.stream(Request("m", (Message("user", "a\ud800b"),))))
    assert server.asked("/api/chat")[0].body["messages"][0]["content"] == "a?b"


def test_what_follows_the_end_is_ignored(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/chat", ndjson(HEL, DONE, LO, DONE, {"error": "late"}, then=[b"\xff\xff"]))
    chunks = list(engine.stream(HELLO))
    assert text_of(chunks) == "Hel" and sum(chunk.usage is not None for chunk in chunks) == 1


def test_proxy_in_the_environment_does_not_stand_before_this_machine(
    engine: ollama.Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert text_of(list(engine.stream(HELLO))) == "Hello"


def test_empty_conversation_and_adapter_files_are_refused_before_anything_is_sent(engine: ollama.Ollama, server: Scripted) -> None:
    broken_empty = broken(engine, Request("m", ()))[1]
    broken_adapter = broken(engine, Request("m", HELLO.messages, adapter=Adapter("a.gguf")))[1]
    assert isinstance(broken_empty, errors.EngineRejected) and isinstance(broken_adapter, errors.EngineRejected)
    assert not server.seen


# Cancelling


def test_closing_within_an_answer_closes_the_connection(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/chat", ndjson(HEL, then=[HANG]), ndjson(HEL, LO, DONE))
    with closing(engine.stream(HELLO)) as chunks:
        assert next(chunk for chunk in chunks if chunk.text).text == "Hel"
    assert server.left.wait(PATIENCE_S)
    assert text_of(list(engine.stream(HELLO))) == "Hello"


def test_silent_server_leaves_the_caller_in_control(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/ps", plain({"models": []})).on("/api/chat", Reply((HANG,)))
    with closing(engine.stream(HELLO)) as chunks:
        assert [next(chunks).phase for _ in range(3)] == ["loading"] * 3
    assert server.left.wait(PATIENCE_S)


def test_silence_within_an_answer_leaves_the_caller_in_control(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/chat", ndjson(HEL, then=[HANG]))
    with closing(engine.stream(HELLO)) as chunks:
        assert [chunk.text or chunk.phase for chunk, _ in zip(chunks, range(2), strict=False)] == ["Hel", "reading"]
    assert server.left.wait(PATIENCE_S)


def test_closing_the_engine_ends_an_answer_and_it_works_again_afterwards(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/chat", ndjson(HEL, then=[HANG]), ndjson(HEL, LO, DONE))
    chunks = engine.stream(HELLO)
    assert next(chunks).text == "Hel"
    engine.close()
    engine.close()
    with pytest.raises(errors.EngineInterrupted, match="closed"):
        list(chunks)
    assert text_of(list(engine.stream(HELLO))) == "Hello"


def test_two_threads_can_ask_at_once(engine: ollama.Ollama) -> None:
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(text_of(list(engine.stream(HELLO))))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert answers == ["Hello"] * 4


# Faults after the first token

DEEP = b'{"message":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
LATE = {
    "closed": (CUT,),
    "stalled": (HANG,),
    "ended": (),
    "error line": (b'{"error":"an error was encountered while running the model"}\n',),
    "half JSON": (b'{"message":{"cont',),
    "no JSON": (b"<html>\n",),
    "no object": (b"[1,2]\n",),
    "no UTF-8": (b'{"message":{"content":"\xff\xfe"}}\n',),
    "endless line": (b"x" * (100 * 2**20),),
    "deep": (DEEP,),
    "text of a wrong type": (b'{"message":{"content":5}}\n',),
    "message of a wrong type": (b'{"message":"hi"}\n',),
    "calls of a wrong type": (b'{"message":{"tool_calls":{"a":1}}}\n',),
    "call without a function": (b'{"message":{"tool_calls":[{}]}}\n',),
    "arguments that are no object": (b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":"[1]"}}]}}\n',),
}


@pytest.mark.parametrize("steps", LATE.values(), ids=LATE.keys())
def test_whatever_breaks_an_answer_ends_it_in_one_interruption(build: Build, server: Scripted, steps: tuple[Any, ...]) -> None:
    server.on("/api/chat", ndjson(HEL, then=steps))
    chunks, error = broken(build(stall_s=1.0))
    assert isinstance(error, errors.EngineInterrupted) and "broke off" in error.what
    assert text_of(chunks) == "Hel" and not any(chunk.usage for chunk in chunks)
    assert len(server.asked("/api/chat")) == 1, "an answer that had begun was asked for again"


def test_reset_connection_is_an_interruption(engine: ollama.Ollama, server: Scripted) -> None:
    read = threading.Event()
    server.on("/api/chat", ndjson(HEL, then=[read, DROP]))
    chunks = engine.stream(HELLO)
    assert next(chunks).text == "Hel"
    read.set()
    with pytest.raises(errors.EngineInterrupted):
        list(chunks)


# Faults before the first token


@pytest.mark.parametrize(
    "fault", [Reply((DROP,)), Reply((CUT,)), ndjson(), ndjson(then=[CUT])], ids=["reset", "closed", "empty", "cut"]
)
def test_connection_lost_before_the_first_token_is_tried_once_more(engine: ollama.Ollama, server: Scripted, fault: Reply) -> None:
    server.on("/api/chat", fault, ndjson(HEL, LO, DONE))
    assert text_of(list(engine.stream(HELLO))) == "Hello"
    server.on("/api/chat", fault)
    server.seen.clear()
    assert isinstance(broken(engine)[1], errors.EngineUnavailable)
    assert len(server.asked("/api/chat")) == 2


@pytest.mark.parametrize("steps", [(b"<html></html>",), (b'{"mess',), (b"\xff\n",), (b"x" * (20 * 2**20),), (b"5\n",)])
def test_server_that_is_not_ollama_is_named_and_not_asked_again(
    engine: ollama.Ollama, server: Scripted, steps: tuple[Any, ...]
) -> None:
    server.on("/api/chat", Reply(steps, headers={"A": "b"}))
    error = broken(engine)[1]
    assert isinstance(error, errors.EngineUnavailable) and "does not speak" in error.what and server.host in error.what
    assert len(server.asked("/api/chat")) == 1


def test_server_that_stays_silent_is_given_up(build: Build, server: Scripted) -> None:
    server.on("/api/chat", Reply((HANG,)))
    error = broken(build(stall_s=0.5))[1]
    assert isinstance(error, errors.EngineUnavailable) and "stall_s" in error.fix


def test_busy_server_is_tried_again_a_few_times(engine: ollama.Ollama, server: Scripted) -> None:
    busy = plain({"error": "server busy, please try again.  maximum pending requests exceeded"}, 503)
    server.on("/api/chat", busy, busy, ndjson(HEL, LO, DONE))
    assert text_of(list(engine.stream(HELLO))) == "Hello"
    server.on("/api/chat", busy)
    server.seen.clear()
    error = broken(engine)[1]
    assert isinstance(error, errors.EngineBusy) and "maximum pending" in error.what
    assert len(server.asked("/api/chat")) == 1 + len(_remote.BACKOFF_S)


def test_busy_server_that_asks_for_a_long_pause_is_believed(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/chat", plain({"error": "busy"}, 503, Retry_After="3600"))
    assert isinstance(broken(engine)[1], errors.EngineBusy)
    assert len(server.asked("/api/chat")) == 1


@pytest.mark.parametrize(
    ("status", "said", "kind", "words"),
    [
        (400, '"m" does not support thinking', errors.EngineRejected, "without thinking"),
        (400, "registry.ollama.ai/library/m:latest does not support tools", errors.EngineRejected, "tools"),
        (400, "option num_ctx must be of type integer", errors.EngineRejected, "num_ctx"),
        (401, "unauthorized", errors.EngineRejected, "signin"),
        (403, "forbidden", errors.EngineRejected, "access"),
        (500, "unable to load model: /var/lib/ollama/blobs/sha256-x", errors.ModelInvalid, "pull it again"),
        (500, "model requires more system memory (9.0 GiB) than is available (2.0 GiB)", errors.EngineRejected, "smaller"),
        (500, "llama runner process has terminated: exit status 2", errors.EngineUnavailable, "crashed"),
        (500, "something else", errors.EngineUnavailable, "something else"),
        (200, "error loading model: unknown model architecture: 'x'", errors.ModelInvalid, "update"),
        (200, "whatever", errors.EngineRejected, "whatever"),
    ],
)
def test_refusals_say_what_to_do(
    engine: ollama.Ollama, server: Scripted, status: int, said: str, kind: type[errors.PointsmanError], words: str
) -> None:
    server.on("/api/chat", plain({"error": said}, status))
    chunks, error = broken(engine)
    assert type(error) is kind and words in str(error) and not chunks
    assert len(server.asked("/api/chat")) == 1


def test_words_of_the_server_cannot_steer_the_terminal(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/chat", plain({"error": "\x1b[2J\x9b31m" + "x" * 10_000}, 400))
    error = broken(engine)[1]
    assert "\x1b" not in str(error) and "\x9b" not in str(error) and len(error.what) < 400


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"oops"', b"null", b"5", b"\xff", b"{", b"[" * 60_000, b'{"error":' * 5000 + b"1" + b"}" * 5000]
)
def test_error_body_of_any_shape_is_an_error_of_ours(engine: ollama.Ollama, server: Scripted, body: bytes) -> None:
    server.on("/api/chat", plain(body, 500)).on("/api/delete", plain(body, 500)).on("/api/show", plain(body))
    assert isinstance(broken(engine)[1], errors.EngineUnavailable)
    with pytest.raises(errors.EngineError):
        engine.delete("m")
    with pytest.raises(errors.EngineError):
        engine.show("m")


def test_redirect_is_not_followed(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/chat", Reply((), 302, {"Location": "http://example.com/"}))
    error = broken(engine)[1]
    assert isinstance(error, errors.EngineUnavailable) and "example.com" in error.what


KEYS = ["message", "content", "thinking", "tool_calls", "function", "name", "arguments", "done", "error", "eval_count"]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4), max_leaves=12
)


@hypothesis_settings(deadline=None)
@given(JSON)
def test_no_json_whatever_brings_a_foreign_exception(value: Any) -> None:
    line = json.dumps(value)
    try:
        event = _ollama.event(line)
        if event:
            _ollama.piece(event)
            _faults.count_of(event, "eval_count")
    except _faults.Fault as fault:
        assert str(fault)


# Four ways of not being there


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, *commands: str) -> None:
    folder.mkdir(exist_ok=True)
    for command in commands:
        (folder / command).write_text("#!/bin/sh\n")
        (folder / command).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_not_installed_says_where_to_get_it_and_that_it_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    put_on_path(tmp_path / "bin", monkeypatch)
    engine = build(host="127.0.0.1:9")
    error = broken(engine)[1]
    assert isinstance(error, errors.EngineUnavailable) and "not installed" in error.what
    assert "ollama.com/download" in error.fix and "embedded" in error.fix
    assert engine.status().state == "not installed" and engine.status().fix == error.fix


def test_not_running_says_how_to_start_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Build) -> None:
    put_on_path(tmp_path / "bin", monkeypatch, "ollama")
    engine = build(host="127.0.0.1:9")
    for ask in (lambda: list(engine.stream(HELLO)), engine.models, lambda: engine.embed(["a"], "m"), lambda: engine.show("m")):
        with pytest.raises(errors.EngineUnavailable, match="installed but not running") as caught:
            ask()
        assert "ollama serve" in caught.value.fix
    status = engine.status()
    assert (status.state, status.host, status.models) == ("not running", "127.0.0.1:9", 0) and "ollama serve" in status.fix


def test_running_without_models_says_which_to_pull(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/tags", plain({"models": []})).on("/api/chat", plain({"error": "model 'm' not found"}, 404))
    error = broken(engine)[1]
    assert isinstance(error, errors.ModelMissing)
    assert "ollama pull llama3.2" in error.fix and "pointsman models pull ollama/llama3.2:1b" in error.fix
    assert engine.status().state == "no models" and engine.models() == []


def test_missing_model_names_the_nearest_and_the_pull_command(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/tags", plain({"models": [{"model": "llama3.2:1b"}, {"model": "qwen3:8b"}]}))
    server.on("/api/chat", plain({"error": "model 'llama3.2:2b' not found"}, 404))
    error = broken(engine, Request("llama3.2:2b", HELLO.messages))[1]
    assert isinstance(error, errors.ModelMissing) and "llama3.2:2b" in error.what
    assert "pointsman models pull ollama/llama3.2:2b" in error.fix and "llama3.2:1b" in error.fix


def test_something_else_at_the_port_is_not_taken_for_ollama(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/chat", Reply((b"404 page not found",), 404)).on("/api/version", plain(b"<html>"))
    error = broken(engine)[1]
    assert isinstance(error, errors.EngineUnavailable) and "not Ollama" in error.what
    assert engine.status().state == "not running"


def test_status_of_a_running_server(engine: ollama.Ollama, server: Scripted) -> None:
    assert engine.status() == ollama.Status("ready", server.host, "0.33.0", 1)


@pytest.mark.parametrize("path", ["/api/version", "/api/tags"])
def test_status_does_not_wait_for_a_server_that_hangs(engine: ollama.Ollama, server: Scripted, path: str) -> None:
    server.on(path, Reply((HANG,)))
    status = engine.status()
    assert status.state == "not running" and "does not answer" in status.detail


# Conversations that are too long


def limited(
    chars: int, window: int = 0, wording: str = "the prompt is longer than the context length currently available"
) -> Callable[[Any], Reply]:
    """A server that refuses more than so many characters; with a window it tells token counts, 4 characters each."""

    def reply(body: Any) -> Reply:
        length = sum(len(message["content"]) for message in body["messages"])
        if length <= chars:
            return ndjson(HEL, LO, DONE)
        inner = {
            "code": 400,
            "message": f"request ({length // 4} tokens) exceeds the available context size ({window} tokens), try increasing it",
        }
        return plain({"error": json.dumps({"error": inner | {"type": "exceed_context_size_error"}}) if window else wording}, 400)

    return reply


def conversation(turns: int, size: int = 400) -> tuple[Message, ...]:
    talk = [Message(role, f"{role} {turn} ".ljust(size, "x")) for turn in range(turns) for role in ("user", "assistant")]  # type: ignore[arg-type]
    return (Message("system", "be brief"), *talk, Message("user", "and now?"))


@pytest.mark.parametrize("window", [0, 1000], ids=["without counts", "with counts"])
def test_oldest_whole_turns_are_left_out_until_it_fits(build: Build, server: Scripted, window: int) -> None:
    server.on("/api/chat", limited(4000, window))
    messages = conversation(20)
    chunks = list(build(context=1000).stream(Request("m", messages)))
    sent = server.asked("/api/chat")[-1].body["messages"]
    usage = chunks[-1].usage
    assert usage and usage.truncated and text_of(chunks) == "Hello"
    assert sent[0]["content"] == "be brief" and sent[1]["role"] == "user" and sent[-1]["content"] == "and now?"
    assert len(sent) == len(messages) - 2 * usage.dropped_turns, "a turn went in part, or was not counted"
    assert len(sent) > 2, "turns that fit were dropped"
    assert len(server.asked("/api/chat")) <= 7


@pytest.mark.parametrize("wording", ["the input length exceeds the context length", "request exceeds the available context size"])
def test_bounded_number_of_tries_even_when_the_guess_is_far_off(build: Build, server: Scripted, wording: str) -> None:
    server.on("/api/chat", limited(900, wording=wording))
    chunks = list(build(context=100_000).stream(Request("m", conversation(200))))
    assert chunks[-1].usage and chunks[-1].usage.dropped_turns >= 199
    assert len(server.asked("/api/chat")) <= 12


def test_one_message_too_long_is_an_overflow_not_a_guess(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/chat", limited(100, 4096))
    error = broken(engine, Request("m", (*conversation(3), Message("user", "x" * 20_000))))[1]
    assert isinstance(error, errors.ContextOverflow) and "4096" in error.what and "ollama.context 8192" in error.fix


def test_tool_loop_of_the_last_turn_stays_whole(engine: ollama.Ollama, server: Scripted) -> None:
    loop = (
        Message("user", "add"),
        Message("assistant", "", tool_calls=(ToolCall("add", {"a": 1}),)),
        Message("tool", "2", tool_name="add"),
    )
    server.on("/api/chat", limited(500))
    list(engine.stream(Request("m", (*conversation(3)[:-1], *loop))))
    assert [message["role"] for message in server.asked("/api/chat")[-1].body["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]


@pytest.mark.parametrize(
    ("version", "counted", "cut"),
    [
        ("0.9.0", 4095, True),
        ("0.9.0", 2500, True),
        ("0.9.0", 900, False),
        ("0.33.0", 4095, False),
        ("0.0.0", 4095, False),
        ("?", 4095, True),
    ],
)
def test_old_server_that_probably_cut_the_conversation_is_caught(
    engine: ollama.Ollama, server: Scripted, version: str, counted: int, cut: bool
) -> None:
    server.on("/api/version", plain({"version": version})).on("/api/chat", ndjson(HEL, DONE | {"prompt_eval_count": counted}))
    usage = list(engine.stream(Request("m", conversation(50))))[-1].usage
    assert usage and usage.truncated is cut


def test_old_server_is_not_asked_for_its_version_where_nothing_is_suspicious(engine: ollama.Ollama, server: Scripted) -> None:
    list(engine.stream(HELLO))
    assert not server.asked("/api/version")


# Models, embeddings, downloads


def test_models_are_listed_with_what_is_known(engine: ollama.Ollama, server: Scripted) -> None:
    details = {"family": "llama", "parameter_size": "1.2B", "quantization_level": "Q8_0", "context_length": 131072}
    server.on(
        "/api/tags", plain({"models": [{"name": "a:1b", "model": "a:1b", "size": 1321098329, "details": details}, {"name": "b"}]})
    )
    full, bare = engine.models()
    assert full == ModelInfo("a:1b", "ollama", 1321098329, 131072, "1.2B", "Q8_0", "llama", "Ollama")
    assert full.reference == "ollama/a:1b" and bare == ModelInfo("b", "ollama", source="Ollama")


def test_show_and_delete_go_to_the_server(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/show", plain({"template": "{{ .Prompt }}", "model_info": {"a.b": 1}, "capabilities": ["tools"]})).on(
        "/api/delete", plain(b"")
    )
    shown = engine.show("m")
    assert (shown["template"], shown["model_info"], shown["capabilities"]) == ("{{ .Prompt }}", {"a.b": 1}, ["tools"])
    engine.delete("m")
    assert server.asked("/api/delete")[0].body["model"] == "m"


def test_show_and_delete_of_a_missing_model(engine: ollama.Ollama, server: Scripted) -> None:
    missing = plain({"error": "model 'x' not found"}, 404)
    server.on("/api/show", missing).on("/api/delete", missing)
    for ask in (engine.show, engine.delete):
        with pytest.raises(errors.ModelMissing, match="'x'"):
            ask("x")


def test_embeddings_are_unit_vectors_in_order(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/embed", plain({"model": "e", "embeddings": [[3, 4], [0, 2], [0, 0]]}))
    vectors = engine.embed(["a", "b", "c"], "e")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 1], [0, 0]], rtol=1e-6)
    assert server.asked("/api/embed")[0].body["options"] == {"num_ctx": 4096}
    assert engine.embed([], "e").shape == (0, 0)


@pytest.mark.parametrize("rows", [[[1, 2]], [[1], [1, 2]], [], [[float("nan"), 1], [1, 1]], "x", None])
def test_embeddings_of_a_wrong_shape_are_refused(engine: ollama.Ollama, server: Scripted, rows: Any) -> None:
    server.on("/api/embed", plain({"model": "e", "embeddings": rows}))
    with pytest.raises(errors.EngineUnavailable):
        engine.embed(["a", "b"], "e")


def test_embedding_needs_a_model_that_is_there(engine: ollama.Ollama, server: Scripted) -> None:
    server.on("/api/embed", plain({"error": 'model "e" not found, try pulling it first'}, 404))
    with pytest.raises(errors.ModelMissing):
        engine.embed(["a"], "e")
    with pytest.raises(errors.EngineRejected, match="no embedding model"):
        engine.embed(["a"])


def layer(name: str, total: int, completed: int = 0) -> dict[str, Any]:
    return {"status": f"pulling {name}", "digest": f"sha256:{name}", "total": total} | (
        {"completed": completed} if completed else {}
    )


def test_pull_counts_the_bytes_of_all_layers(engine: ollama.Ollama, server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POINTSMAN_OFFLINE")
    events = [
        {"status": "pulling manifest"},
        layer("a", 100),
        layer("a", 100, 60),
        layer("a", 100, 100),
        layer("b", 10, 5),
        {"status": "success"},
    ]
    server.on("/api/pull", ndjson(*events))
    assert list(engine.pull("m")) == [
        PullProgress("pulling manifest"),
        PullProgress("pulling a", 0, 100),
        PullProgress("pulling a", 60, 100),
        PullProgress("pulling a", 100, 100),
        PullProgress("pulling b", 105, 110),
        PullProgress("success", 105, 110),
    ]


def test_pull_is_forbidden_offline(engine: ollama.Ollama, server: Scripted) -> None:
    with pytest.raises(errors.Offline, match="pulling m"):
        list(engine.pull("m"))
    assert not server.seen


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (
            ndjson({"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}),
            errors.ModelMissing,
            "library",
        ),
        (ndjson({"error": "max retries exceeded: no such host"}), errors.EngineUnavailable, "no such host"),
        (ndjson(layer("a", 100, 50), {"error": "no space left on device"}), errors.EngineInterrupted, "no space left"),
        (ndjson(layer("a", 100, 50)), errors.EngineInterrupted, "resumes"),
        (ndjson(layer("a", 100, 50), then=[CUT]), errors.EngineInterrupted, "resumes"),
        (plain({"error": "invalid model name"}, 400), errors.EngineRejected, "invalid model name"),
        (plain(b"<html>"), errors.EngineUnavailable, "does not speak"),
    ],
)
def test_pull_that_fails_says_why(
    engine: ollama.Ollama, server: Scripted, monkeypatch: pytest.MonkeyPatch, reply: Reply, kind: type[Exception], words: str
) -> None:
    monkeypatch.delenv("POINTSMAN_OFFLINE")
    server.on("/api/pull", reply)
    with pytest.raises(kind, match=words):
        list(engine.pull("m"))


def test_closing_a_pull_stops_it(engine: ollama.Ollama, server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POINTSMAN_OFFLINE")
    server.on("/api/pull", ndjson(layer("a", 100, 50), then=[HANG]))
    with closing(engine.pull("m")) as progress:
        assert next(progress) == next(progress) == PullProgress("pulling a", 50, 100)  # the second says: still silent
    assert server.left.wait(PATIENCE_S)


# Addresses


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        (":56789", "http://127.0.0.1:56789"),
        ("1.2.3.4:56789", "http://1.2.3.4:56789"),
        ("http://h", "http://h:80"),
        ("https://h", "https://h:443"),
        ("https://h:8443/ollama/", "https://h:8443/ollama"),
        ("h/path", "http://h:11434/path"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("http://0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("[::]:1234", "http://[::1]:1234"),
        ("::1", "http://[::1]:11434"),
        ("[fe80::1]", "http://[fe80::1]:11434"),
        (" localhost ", "http://localhost:11434"),
    ],
)
def test_host_is_read_as_ollama_reads_it(host: str, url: str) -> None:
    assert _ollama.address(host).url == url


@pytest.mark.parametrize("host", ["h:x", "h:70000", "ftp://h", "a b", "http://[::1", "h:1:2x"])
def test_host_that_is_none_is_a_settings_error(host: str) -> None:
    with pytest.raises(errors.SettingsError, match="not an address"):
        _ollama.address(host)


def test_environment_names_the_host_and_settings_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", ' "127.0.0.1:5555" ')
    assert ollama.build(Settings()).host == "127.0.0.1:5555"
    assert ollama.build(Settings(ollama=OllamaSettings(host="127.0.0.1:6666"))).host == "127.0.0.1:6666"


def test_password_in_the_address_is_not_shown() -> None:
    found = _ollama.address("http://me:secret@h:1")
    assert found.shown == "h:1" and found.url == "http://me:secret@h:1"


@pytest.mark.parametrize("host", ["192.0.2.7", "example.com", "10.0.0.1:80"])
def test_server_elsewhere_is_not_touched_offline(build: Build, host: str) -> None:
    engine = build(host=host)
    for ask in (lambda: list(engine.stream(HELLO)), engine.models, lambda: engine.show("m"), lambda: engine.embed(["a"], "m")):
        with pytest.raises(errors.Offline):
            ask()
    assert engine.status().state == "not running" and "POINTSMAN_OFFLINE" in engine.status().detail


def test_nothing_heavy_is_imported_before_the_first_use() -> None:
    code = "import sys, router.engines.ollama, router.engines.openai_compatible; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"httpx", "ollama", "anyio", "textual", "llama_cpp"} & set(ran.stdout.split())


# A real server


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ollama.Ollama, str]]:
    """An engine for the server at POINTSMAN_TEST_OLLAMA, and a chat model there."""
    if not REAL:
        pytest.skip("POINTSMAN_TEST_OLLAMA names no server")
    engine = ollama.build(Settings(ollama=OllamaSettings(host=REAL, context=512, keep_alive="1m")))
    status = engine.status()
    if status.state != "ready":
        pytest.skip(f"the server at {REAL} cannot be used: {status.detail}")
    yield engine, REAL_MODEL or engine.models()[0].name
    engine.close()


def test_real_server_answers_with_usage(real: tuple[ollama.Ollama, str]) -> None:
    engine, model = real
    chunks = list(engine.stream(Request(model, (Message("user", "Say hello."),), Sampling(temperature=0), max_tokens=12)))
    usage = chunks[-1].usage
    assert text_of(chunks) or any(chunk.thinking for chunk in chunks)
    assert usage and usage.prompt_tokens > 0 and 0 < usage.completion_tokens <= 12 and usage.context_tokens == 512


def test_real_server_is_fine_after_a_cancelled_answer(real: tuple[ollama.Ollama, str]) -> None:
    engine, model = real
    with closing(engine.stream(Request(model, (Message("user", "Count to one hundred."),), max_tokens=300))) as chunks:
        assert any(chunk.text or chunk.thinking for chunk in chunks)
    again = list(engine.stream(Request(model, (Message("user", "Say hello."),), max_tokens=8)))
    assert again[-1].usage


def test_real_server_gets_whole_turns_of_a_long_conversation(real: tuple[ollama.Ollama, str]) -> None:
    engine, model = real
    talk = [Message(role, f"{turn} " + "word " * 40) for turn in range(20) for role in ("user", "assistant")]  # type: ignore[arg-type]
    chunks = list(engine.stream(Request(model, (*talk, Message("user", "Say hello.")), max_tokens=8)))
    assert chunks[-1].usage and chunks[-1].usage.truncated


def test_real_server_refuses_one_message_that_is_too_long(real: tuple[ollama.Ollama, str]) -> None:
    engine, model = real
    with pytest.raises(errors.ContextOverflow):
        list(engine.stream(Request(model, (Message("user", "word " * 3000),), max_tokens=8)))


def test_real_server_names_what_it_has_when_a_model_is_missing(real: tuple[ollama.Ollama, str]) -> None:
    engine, _ = real
    with pytest.raises(errors.ModelMissing, match="no-such-model"):
        list(engine.stream(Request("no-such-model:1b", HELLO.messages)))
    assert isinstance(engine.show(engine.models()[0].name)["capabilities"], list)
