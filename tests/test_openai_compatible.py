"""The engine for OpenAI-style servers against a scripted server, and against `python -m llama_cpp.server` as a real peer."""

import json
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
from servers import CUT, DROP, HANG, PATIENCE_S, LlamaServer, Reply, Scripted, plain, sse

from data import errors
from data.chat import Chunk, Message, ToolCall
from data.config import OpenAICompatibleSettings, Sampling, Settings
from router.engines import _faults, _openai, _remote, openai_compatible
from router.engines.base import ModelInfo, Request

CHAT = "/v1/chat/completions"
HELLO = Request("m", (Message("user", "hi"),))
KEY = "sk-secret-1234567890"
Engine = openai_compatible.OpenAICompatible
Build = Callable[..., Engine]


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


HEL, LO, STOP = delta(role="assistant", content="Hel"), delta(content="lo"), delta("stop")


@pytest.fixture
def server() -> Iterator[Scripted]:
    """A scripted server with the model `m`."""
    scripted = Scripted()
    scripted.on("/v1/models", plain({"data": [{"id": "m"}, {"id": "m-large"}]})).on(CHAT, sse(HEL, LO, STOP))
    yield scripted
    scripted.close()


@pytest.fixture
def build(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Engines for the scripted server; no pauses between tries."""
    monkeypatch.setattr(_remote, "BACKOFF_S", (0.0, 0.0))
    made: list[Engine] = []

    def engine(**settings: Any) -> Engine:
        values = {"url": f"http://{server.host}/v1", "stall_s": 10.0} | settings
        made.append(openai_compatible.build(Settings(openai_compatible=OpenAICompatibleSettings(**values))))
        return made[-1]

    yield engine
    for each in made:
        each.close()


@pytest.fixture
def engine(build: Build) -> Engine:
    """The engine with default settings."""
    return build()


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def broken(engine: Engine, request: Request = HELLO) -> tuple[list[Chunk], errors.PointsmanError]:
    """What came before the error, and the error."""
    chunks: list[Chunk] = []
    with pytest.raises(errors.PointsmanError) as caught:
        chunks.extend(engine.stream(request))  # extend keeps what came before the error
    assert caught.value.what
    return chunks, caught.value


# Answers


def test_answer_comes_piece_by_piece_with_usage_last(engine: Engine, server: Scripted) -> None:
    counts = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}}
    server.on(CHAT, sse(delta(role="assistant"), HEL, LO, delta("length"), {"choices": [], "usage": counts}))
    chunks = list(engine.stream(HELLO))
    assert [chunk.text for chunk in chunks] == ["Hel", "lo", ""]
    usage = chunks[-1].usage
    assert usage and (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (9, 8, 2)
    assert (usage.finish, usage.context_tokens) == ("length", 4096) and 0 < usage.ttft_s <= usage.total_s
    assert server.asked(CHAT)[0].body["stream_options"] == {"include_usage": True}


def test_server_without_counts_leaves_them_at_zero(engine: Engine) -> None:
    usage = list(engine.stream(HELLO))[-1].usage
    assert usage and (usage.prompt_tokens, usage.completion_tokens, usage.finish) == (0, 0, "stop")


def test_everything_asked_for_is_sent(engine: Engine, server: Scripted) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    sampling = Sampling(
        temperature=0.5, top_k=3, top_p=0.8, min_p=0.1, repeat_penalty=1.2, presence_penalty=0.3, frequency_penalty=0.4, seed=7
    )
    list(engine.stream(Request("m", HELLO.messages, sampling, 5, ("x",), {"type": "object"}, (tool,), think=False)))
    body = server.asked(CHAT)[0].body
    expected = {
        "model": "m",
        "stream": True,
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.8,
        "min_p": 0.1,
        "repeat_penalty": 1.2,
        "seed": 7,
    }
    expected |= {"presence_penalty": 0.3, "frequency_penalty": 0.4, "max_tokens": 5, "stop": ["x"], "tools": [tool]}
    assert expected.items() <= body.items()
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    list(engine.stream(HELLO))
    assert not {"seed", "stop", "tools", "response_format", "chat_template_kwargs"} & server.asked(CHAT)[1].body.keys()


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_thinking(engine: Engine, server: Scripted, name: str) -> None:
    server.on(CHAT, sse(delta(**{name: "hm"}), HEL, LO, STOP))
    chunks = list(engine.stream(HELLO))
    assert chunks[0] == Chunk(thinking="hm") and text_of(chunks) == "Hello"


def test_tool_calls_in_pieces_are_put_together(engine: Engine, server: Scripted) -> None:
    def piece(index: int, **function: str) -> dict[str, Any]:
        return delta(tool_calls=[{"index": index, "function": function} | ({"id": f"c{index}"} if "name" in function else {})])

    server.on(
        CHAT,
        sse(
            piece(0, name="add", arguments=""),
            piece(0, arguments='{"a"'),
            piece(1, name="now"),
            piece(0, arguments=": 1}"),
            delta("tool_calls"),
        ),
    )
    chunks = list(engine.stream(HELLO))
    assert chunks[0].tool_calls == (ToolCall("add", {"a": 1}, "c0"), ToolCall("now", {}, "c1"))
    assert chunks[1].usage and chunks[1].usage.finish == "tool_calls"


def test_tool_results_name_the_call_they_answer(engine: Engine, server: Scripted) -> None:
    calls = (ToolCall("add", {"a": 1}), ToolCall("now", {}, "given"))
    results = (Message("tool", "noon", tool_name="now"), Message("tool", "2", tool_name="add"))
    list(engine.stream(Request("m", (Message("user", "?"), Message("assistant", "", tool_calls=calls), *results))))
    _, assistant, now, add = server.asked(CHAT)[0].body["messages"]
    made_up = assistant["tool_calls"][0]["id"]
    assert assistant["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert now["tool_call_id"] == "given" and add["tool_call_id"] == made_up != ""


@pytest.mark.parametrize(
    "steps",
    [
        (
            b": ping\n\n",
            b"event: message\r\ndata: ",
            json.dumps(HEL).encode(),
            b"\r\n\r\n",
            b"data:" + json.dumps(LO).encode() + b"\n\n",
        ),
        tuple(bytes([byte]) for byte in b"data: " + json.dumps(delta(content="Hello"), ensure_ascii=False).encode() + b"\n\n"),
        (b"id: 1\nretry: 5\ndata: " + json.dumps(delta(content="Hello"), indent=1).replace("\n", "\ndata: ").encode() + b"\n\n",),
    ],
    ids=["comments and CR", "byte by byte", "several data lines"],
)
def test_every_spelling_of_server_sent_events_is_read(engine: Engine, server: Scripted, steps: tuple[bytes, ...]) -> None:
    end = (b"data: " + json.dumps(STOP).encode() + b"\n\n", b"data: [DONE]\n\n")
    server.on(CHAT, Reply((*steps, *end), headers={"Content-Type": "text/event-stream"}))
    assert text_of(list(engine.stream(HELLO))) == "Hello"


def test_answer_that_is_not_streamed_is_taken_whole(engine: Engine, server: Scripted) -> None:
    message = {
        "role": "assistant",
        "content": "Hello",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    server.on(CHAT, plain({"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}}))
    chunks = list(engine.stream(HELLO))
    assert text_of(chunks) == "Hello" and chunks[1].tool_calls == (ToolCall("f", {}, "c"),)
    assert chunks[-1].usage and chunks[-1].usage.prompt_tokens == 3


def test_finished_answer_is_whole_even_where_done_is_never_said(engine: Engine, server: Scripted) -> None:
    server.on(CHAT, sse(HEL, LO, STOP, then=()))
    assert list(engine.stream(HELLO))[-1].usage


def test_what_follows_done_is_ignored(engine: Engine, server: Scripted) -> None:
    server.on(CHAT, sse(HEL, LO, STOP, then=[b"data: [DONE]\n\n", b"data: {\n\n", b"\xff"]))
    chunks = list(engine.stream(HELLO))
    assert text_of(chunks) == "Hello" and chunks[-1].usage


# Cancelling


def test_closing_within_an_answer_closes_the_connection(engine: Engine, server: Scripted) -> None:
    server.on(CHAT, sse(HEL, then=[HANG]), sse(HEL, LO, STOP))
    with closing(engine.stream(HELLO)) as chunks:
        assert next(chunks).text == "Hel"
    assert server.left.wait(PATIENCE_S)
    assert text_of(list(engine.stream(HELLO))) == "Hello"


def test_silent_server_leaves_the_caller_in_control(engine: Engine, server: Scripted) -> None:
    server.on(CHAT, Reply((HANG,)))
    with closing(engine.stream(HELLO)) as chunks:
        assert [next(chunks).phase for _ in range(2)] == ["reading", "reading"]
    assert server.left.wait(PATIENCE_S)


# Faults after the first token

LATE: dict[str, tuple[Any, ...]] = {
    "closed": (CUT,),
    "stalled": (HANG,),
    "ended": (),
    "done without a finish reason": (b"data: [DONE]\n\n",),
    "error object": (b'data: {"error":{"message":"CUDA out of memory","code":500}}\n\n',),
    "error as text": (b'data: {"error":"gone"}\n\n',),
    "bare error": (b'{"error":{"message":"gone"}}\n',),
    "error field": (b'error: {"message":"gone"}\n\n',),
    "half JSON": (b'data: {"choices":[{"del',),
    "no JSON": (b"data: <html>\n\n",),
    "no object": (b"data: [1]\n\n",),
    "no UTF-8": (b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',),
    "endless line": (b"data: " + b"x" * (100 * 2**20),),
    "endless event": (b"data: xxxxxxxxxxxxxxxx\n" * 2**20,),
    "deep": (b"data: " + b"[" * 100_000 + b"\n\n",),
    "content of a wrong type": (b'data: {"choices":[{"delta":{"content":5}}]}\n\n',),
    "choices of a wrong type": (b'data: {"choices":{"a":1}}\n\n',),
    "usage of a wrong type": (b'data: {"usage":[1]}\n\n',),
    "tool arguments that are no JSON": (
        b'data: {"choices":[{"finish_reason":"stop","delta":{"tool_calls":[{"function":{"arguments":"{"}}]}}]}\n\n',
    ),
}


@pytest.mark.parametrize("steps", LATE.values(), ids=LATE.keys())
def test_whatever_breaks_an_answer_ends_it_in_one_interruption(build: Build, server: Scripted, steps: tuple[Any, ...]) -> None:
    server.on(CHAT, sse(HEL, then=steps))
    chunks, error = broken(build(stall_s=1.0))
    assert isinstance(error, errors.EngineInterrupted) and "broke off" in error.what
    assert text_of(chunks) == "Hel" and not any(chunk.usage for chunk in chunks)
    assert len(server.asked(CHAT)) == 1, "an answer that had begun was asked for again"


# Faults before the first token


@pytest.mark.parametrize(
    "fault", [Reply((DROP,)), Reply((CUT,)), sse(delta(role="assistant"), then=[CUT])], ids=["reset", "closed", "cut"]
)
def test_connection_lost_before_the_first_token_is_tried_once_more(engine: Engine, server: Scripted, fault: Reply) -> None:
    server.on(CHAT, fault, sse(HEL, LO, STOP))
    assert text_of(list(engine.stream(HELLO))) == "Hello"
    server.on(CHAT, fault)
    server.seen.clear()
    assert isinstance(broken(engine)[1], errors.EngineUnavailable)
    assert len(server.asked(CHAT)) == 2


def test_reason_that_a_stream_lost_is_asked_for(engine: Engine, server: Scripted) -> None:
    server.on(CHAT, lambda body: sse(then=()) if body["stream"] else plain({"error": {"message": "the template fails"}}, 400))
    error = broken(engine)[1]
    assert isinstance(error, errors.EngineRejected) and "the template fails" in error.what
    assert server.asked(CHAT)[-1].body["max_tokens"] == 1


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"\xff\xfe", b"x" * (20 * 2**20)], ids=["page", "bytes", "endless"])
def test_server_of_another_kind_is_named(engine: Engine, server: Scripted, body: bytes) -> None:
    server.on(CHAT, plain(body)).on("/v1/models", plain(body[:100]))
    error = broken(engine)[1]
    assert (
        isinstance(error, errors.EngineUnavailable)
        and "no OpenAI-style server" in error.what
        and "openai_compatible.url" in error.fix
    )
    with pytest.raises(errors.EngineUnavailable, match="no OpenAI-style server"):
        engine.models()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}, errors.EngineRejected, "openai_compatible.api_key"),
        (403, {"detail": "forbidden"}, errors.EngineRejected, "forbidden"),
        (404, {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}, errors.ModelMissing, "it has: m"),
        (400, {"error": {"message": "no such model", "code": "model_not_found"}}, errors.ModelMissing, "it has: m"),
        (404, {"detail": "Not Found"}, errors.EngineUnavailable, "/v1"),
        (404, "404 page not found", errors.EngineUnavailable, "/v1"),
        (307, "", errors.EngineUnavailable, "redirects"),
        (422, {"detail": [{"loc": ["body", "messages"], "msg": "bad role"}]}, errors.EngineRejected, "bad role"),
        (500, {"error": {"message": "boom"}}, errors.EngineUnavailable, "boom"),
        (502, b"<html>Bad Gateway</html>", errors.EngineUnavailable, "502"),
        (429, {"error": {"message": "spent", "code": "insufficient_quota"}}, errors.EngineRejected, "spent"),
        (200, {"error": {"message": "no"}}, errors.EngineRejected, "no"),
    ],
)
def test_refusals_say_what_to_do(
    build: Build, server: Scripted, status: int, body: Any, kind: type[errors.PointsmanError], words: str
) -> None:
    server.on(CHAT, plain(body, status))
    chunks, error = broken(build(api_key=KEY))
    assert type(error) is kind and words in str(error) and not chunks
    assert len(server.asked(CHAT)) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_busy_server_is_tried_again_a_few_times(engine: Engine, server: Scripted, status: int) -> None:
    busy = plain({"error": {"message": "Loading model"}}, status, Retry_After="0")
    server.on(CHAT, busy, busy, sse(HEL, LO, STOP))
    assert text_of(list(engine.stream(HELLO))) == "Hello"
    server.on(CHAT, busy)
    server.seen.clear()
    error = broken(engine)[1]
    assert isinstance(error, errors.EngineBusy) and "Loading model" in error.what
    assert len(server.asked(CHAT)) == 1 + len(_remote.BACKOFF_S)


def test_server_that_knows_only_standard_fields_gets_only_those(engine: Engine, server: Scripted) -> None:
    def strict(body: Any) -> Reply:
        extra = {"top_k", "min_p", "repeat_penalty", "repetition_penalty", "max_tokens"} & body.keys()
        return (
            plain({"error": {"message": f"Unrecognized request arguments supplied: {sorted(extra)}"}}, 400)
            if extra
            else sse(HEL, LO, STOP)
        )

    server.on(CHAT, strict)
    assert text_of(list(engine.stream(HELLO))) == "Hello"
    assert server.asked(CHAT)[-1].body["max_completion_tokens"] == HELLO.max_tokens
    list(engine.stream(HELLO))
    assert len(server.asked(CHAT)) == 3, "what the server refused once was sent again"


@pytest.mark.parametrize("status", [400, 422, 500])
def test_server_that_knows_only_json_object_gets_the_schema_there(engine: Engine, server: Scripted, status: int) -> None:
    def old(body: Any) -> Reply:
        known = body["response_format"]["type"] == "json_object"
        return sse(HEL, STOP) if known else plain({"error": {"message": "Input should be 'text' or 'json_object'"}}, status)

    server.on(CHAT, old)
    assert text_of(list(engine.stream(Request("m", HELLO.messages, schema={"type": "object"})))) == "Hel"
    assert server.asked(CHAT)[-1].body["response_format"] == {"type": "json_object", "schema": {"type": "object"}}


# The key


def test_key_is_sent_and_never_shown(build: Build, server: Scripted) -> None:
    engine = build(api_key=KEY)
    assert text_of(list(engine.stream(HELLO))) == "Hello"
    assert server.asked(CHAT)[0].headers["Authorization"] == f"Bearer {KEY}"
    echoes = [
        plain({"error": {"message": f"bad key {KEY}"}}, 401),
        sse(then=[f'data: {{"error":"{KEY}"}}\n\n'.encode()]),
        plain(f"<{KEY}>".encode()),
    ]
    for echo in [*echoes, sse(HEL, then=[f"data: {KEY}\n\n".encode()])]:
        server.on(CHAT, echo)
        fault: BaseException | None = broken(engine)[1]
        while fault:
            assert KEY not in f"{fault} {fault!r} {vars(fault)}"
            fault = fault.__cause__ or fault.__context__


@pytest.mark.parametrize("key", ["a\nb", "schlüssel", "\x1b"])
def test_key_that_no_header_can_hold_is_a_settings_error_without_the_key(build: Build, key: str) -> None:
    error = broken(build(api_key=key))[1]
    assert isinstance(error, errors.SettingsError) and key not in str(error)


# Addresses


def test_no_url_says_how_to_set_one(build: Build) -> None:
    engine = build(url="")
    for ask in (lambda: list(engine.stream(HELLO)), engine.models, lambda: engine.embed(["a"], "m")):
        with pytest.raises(errors.EngineUnavailable) as caught:
            ask()
        assert "pointsman config set openai_compatible.url http" in caught.value.fix


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/v1/", "http://h:8000/v1"),
        ("https://h/api/v1/chat/completions", "https://h/api/v1"),
        (" http://[::1]:80/v1 ", "http://[::1]:80/v1"),
    ],
)
def test_url_is_completed(url: str, base: str) -> None:
    assert openai_compatible.endpoint(url) == base


@pytest.mark.parametrize(
    "url", ["h:8000", "ftp://h/v1", "http://", "http://[::1", "http://h:x/v1", "http://h:99999", "http://a b/v1", "//h"]
)
def test_url_that_is_none_is_a_settings_error(build: Build, url: str) -> None:
    assert isinstance(broken(build(url=url))[1], errors.SettingsError)


def test_password_in_the_url_is_not_shown(build: Build) -> None:
    assert "hunter2" not in str(broken(build(url="http://me:hunter2@127.0.0.1:9/v1"))[1])
    assert "hunter2" not in str(broken(build(url="ftp://me:hunter2@127.0.0.1:9/v1"))[1])


@pytest.mark.parametrize("url", ["http://a..b/v1", "http://127.0.0.1:9/v1", "http://127.0.0.1:1/v1"])
def test_nobody_at_the_url_is_unavailable(build: Build, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.delenv("POINTSMAN_OFFLINE")
    error = broken(build(url=url))[1]
    assert isinstance(error, errors.EngineUnavailable) and "nothing answers" in error.what


@pytest.mark.parametrize("url", ["https://api.example.com/v1", "http://192.0.2.1/v1"])
def test_server_elsewhere_is_not_touched_offline(build: Build, url: str) -> None:
    engine = build(url=url)
    for ask in (lambda: list(engine.stream(HELLO)), engine.models, lambda: engine.embed(["a"], "m")):
        with pytest.raises(errors.Offline):
            ask()


# Models


def test_models_are_listed_with_what_is_known(engine: Engine, server: Scripted) -> None:
    listed = [
        {"id": "vllm", "max_model_len": 2048},
        {"id": "llama", "meta": {"n_ctx": 512, "size": 99}},
        {"id": "bare", "meta": None},
    ]
    server.on("/v1/models", plain({"data": listed}))
    assert engine.models() == [
        ModelInfo("vllm", "openai_compatible", context_tokens=2048, source=server.host),
        ModelInfo("llama", "openai_compatible", context_tokens=512, size_bytes=99, source=server.host),
        ModelInfo("bare", "openai_compatible", source=server.host),
    ]


def test_unlisted_model_is_not_asked_for(engine: Engine, server: Scripted) -> None:
    error = broken(engine, Request("m-larg", HELLO.messages))[1]
    assert isinstance(error, errors.ModelMissing) and "m-large" in error.fix
    assert not server.asked(CHAT)


@pytest.mark.parametrize(
    "listing", [plain({"detail": "Not Found"}, 404), plain({"data": []}), plain({"data": [{"id": "openai/*"}]})]
)
def test_model_is_believed_where_the_list_cannot_tell(engine: Engine, server: Scripted, listing: Reply) -> None:
    server.on("/v1/models", listing)
    assert text_of(list(engine.stream(HELLO))) == "Hello"


def test_no_model_named_is_the_first_listed_and_the_list_is_asked_for_once_a_name(engine: Engine, server: Scripted) -> None:
    list(engine.stream(Request("", HELLO.messages)))
    assert server.asked(CHAT)[0].body["model"] == "m"
    list(engine.stream(HELLO))
    assert len(server.asked("/v1/models")) == 1
    server.on("/v1/models", plain({"data": []}))
    assert isinstance(broken(engine, Request("", HELLO.messages))[1], errors.ModelMissing)


# Conversations that are too long


def conversation(turns: int) -> tuple[Message, ...]:
    talk = [Message(role, f"{role} {turn} ".ljust(400, "x")) for turn in range(turns) for role in ("user", "assistant")]  # type: ignore[arg-type]
    return (Message("system", "be brief"), *talk, Message("user", "and now?"))


def openai_words(prompt: int, room: int) -> dict[str, Any]:
    asked = f"However, you requested {prompt + room} tokens ({prompt} in the messages, {room} in the completion)."
    text = f"This model's maximum context length is 1000 tokens. {asked}"
    return {"message": text, "code": "context_length_exceeded"}


def vllm_words(prompt: int, room: int) -> dict[str, Any]:
    known = (
        f"This model's maximum context length is 1000 tokens and your request has {prompt} input tokens ({room} > 1000 - {prompt})."
    )
    return {
        "message": f"'max_tokens' or 'max_completion_tokens' is too large: {room}. {known}",
        "type": "BadRequestError",
        "code": 400,
    }


@pytest.mark.parametrize("words", [openai_words, vllm_words])
def test_oldest_whole_turns_are_left_out_and_room_is_kept_for_the_answer(
    engine: Engine, server: Scripted, words: Callable[[int, int], Any]
) -> None:
    def limited(body: Any) -> Reply:
        prompt = sum(len(message["content"]) for message in body["messages"]) // 4
        return (
            sse(HEL, LO, STOP) if prompt + body["max_tokens"] <= 1000 else plain({"error": words(prompt, body["max_tokens"])}, 400)
        )

    server.on(CHAT, limited)
    chunks = list(engine.stream(Request("m", conversation(20), max_tokens=2000)))
    body = server.asked(CHAT)[-1].body
    usage = chunks[-1].usage
    assert usage and usage.dropped_turns > 0 and text_of(chunks) == "Hello"
    assert len(body["messages"]) == 42 - 2 * usage.dropped_turns > 2
    assert body["messages"][0]["role"] == "system" and body["max_tokens"] >= 250
    assert len(server.asked(CHAT)) <= 4
    server.seen.clear()
    short = list(engine.stream(Request("m", (Message("user", "x" * 2000),), max_tokens=2000)))
    assert short[-1].usage and not short[-1].usage.truncated and server.asked(CHAT)[-1].body["max_tokens"] == 500


def test_one_message_too_long_is_an_overflow(engine: Engine, server: Scripted) -> None:
    server.on(CHAT, plain({"error": openai_words(5000, 10)}, 400))
    error = broken(engine, Request("m", (Message("user", "x" * 20_000),)))[1]
    assert isinstance(error, errors.ContextOverflow) and "5000" in error.what and "1000" in error.what
    assert "start the server" in error.fix


# Embeddings


def test_embeddings_are_unit_vectors_in_the_order_of_the_texts(engine: Engine, server: Scripted) -> None:
    server.on("/v1/embeddings", plain({"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3, 4]}]}))
    np.testing.assert_allclose(engine.embed(["a", "b"], "m"), [[0.6, 0.8], [0, 1]], rtol=1e-6)
    assert engine.embed(["a", "b"], "m").dtype == np.float32 and engine.embed([], "m").shape == (0, 0)


@pytest.mark.parametrize(
    "data", [[], [{"embedding": [1]}, {"embedding": [1, 2]}], [{"embedding": [[1], [2]]}, {"embedding": [[1]]}], [{}, {}], "x"]
)
def test_embeddings_of_a_wrong_shape_are_refused(engine: Engine, server: Scripted, data: Any) -> None:
    server.on("/v1/embeddings", plain({"data": data}))
    with pytest.raises(errors.EngineRejected, match="does not embed"):
        engine.embed(["a", "b"], "m")


# Whatever a server may send


@hypothesis_settings(deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=30)
        | st.sampled_from(["data: {}", "data: []", "{}", "", ":", "data:"]),
        max_size=8,
    )
)
def test_no_lines_whatever_bring_a_foreign_exception(lines: list[str]) -> None:
    answer = _openai.Answer()
    try:
        for data in _openai.events(iter(lines)):
            if data is not None:
                answer.add(data)
        answer.tool_calls()
        answer.usage(0)
    except _faults.Fault as fault:
        assert str(fault)


# A real server


@pytest.fixture(scope="session")
def llama(embedded_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """`python -m llama_cpp.server` with the embedded model, a window of 512 tokens, and its default of cutting answers off."""
    server = LlamaServer(embedded_gguf, "smol", tmp_path_factory.mktemp("llama"), "--n_ctx", "512", "--n_threads", "2")
    yield server
    server.close()


@pytest.fixture
def real(llama: LlamaServer) -> Iterator[Engine]:
    """An engine for the real server."""
    engine = openai_compatible.build(Settings(openai_compatible=OpenAICompatibleSettings(url=llama.url, context=512)))
    yield engine
    engine.close()


def question(text: str, max_tokens: int, **fields: Any) -> Request:
    return Request(
        "smol", (Message("user", text),), Sampling(temperature=0, seed=1, repeat_penalty=1), max_tokens=max_tokens, **fields
    )


def test_real_server_streams_an_answer(real: Engine) -> None:
    assert [info.reference for info in real.models()] == ["openai_compatible/smol"]
    chunks = list(real.stream(question("What is 2+2?", 16)))
    assert "4" in text_of(chunks) and sum(bool(chunk.text) for chunk in chunks) > 2
    usage = chunks[-1].usage
    assert usage and usage.finish in ("stop", "length") and 0 < usage.ttft_s < usage.total_s
    assert usage.prompt_tokens == usage.completion_tokens == 0, "llama_cpp.server now counts in a stream: say so in the docs"


def test_real_server_is_fine_after_a_cancelled_answer(real: Engine) -> None:
    with closing(real.stream(question("Count from one to two hundred in words.", 400))) as chunks:
        assert next(chunk for chunk in chunks if chunk.text)
    chunks_again = list(real.stream(question("What is 2+2?", 16)))
    assert "4" in text_of(chunks_again) and chunks_again[-1].usage


def test_answer_that_another_request_cuts_off_is_an_interruption(real: Engine, llama: LlamaServer) -> None:
    other = openai_compatible.build(Settings(openai_compatible=OpenAICompatibleSettings(url=llama.url)))
    answers: list[list[Chunk]] = []
    second = threading.Thread(target=lambda: answers.append(list(other.stream(question("What is 2+2?", 16)))))
    chunks = real.stream(question("Count from one to two hundred in words.", 450))
    assert next(chunk for chunk in chunks if chunk.text)
    second.start()
    with pytest.raises(errors.EngineInterrupted, match="finish reason"):
        list(chunks)
    second.join(60)
    other.close()
    assert answers and "4" in text_of(answers[0])


def test_real_server_gets_whole_turns_of_a_long_conversation(real: Engine) -> None:
    talk = [Message(role, f"{turn} " + "word " * 40) for turn in range(12) for role in ("user", "assistant")]  # type: ignore[arg-type]
    chunks = list(real.stream(Request("smol", (*talk, Message("user", "Say hello.")), Sampling(temperature=0), max_tokens=4)))
    assert chunks[-1].usage and chunks[-1].usage.dropped_turns >= 6 and text_of(chunks)


def test_real_server_refuses_one_message_that_is_too_long(real: Engine) -> None:
    error = broken(real, question("word " * 1000, 4))[1]
    assert isinstance(error, errors.ContextOverflow) and "512" in error.what


def test_real_server_keeps_to_a_schema(real: Engine) -> None:
    schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
    chunks = list(real.stream(question("The capital of France, as JSON.", 32, schema=schema)))
    assert json.loads(text_of(chunks))["city"] in ("Paris", "Rome")


def test_real_server_without_embeddings_says_so(real: Engine) -> None:
    with pytest.raises(errors.EngineRejected, match="does not embed"):
        real.embed(["a"], "smol")


def test_real_server_would_answer_with_another_model_so_it_is_not_asked(real: Engine) -> None:
    error = broken(real, Request("nope", HELLO.messages))[1]
    assert isinstance(error, errors.ModelMissing) and "smol" in error.fix
