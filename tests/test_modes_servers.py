"""The modes behind servers: native calls and thinking where Ollama says so, and what is done where a server refuses them."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import Reply, Scripted, ndjson, plain, sse

from data.chat import Message
from data.config import ModesSettings, OllamaSettings, OpenAICompatibleSettings, Settings
from data.errors import EngineUnavailable
from router import modes
from router.engines import ollama, openai_compatible
from router.engines.base import Engine, Request
from router.modes.base import Done, Event, Means, Text, Thought, ToolResult
from router.tools import Toolbox
from router.tools.base import tool

ASKED = Request("m", (Message("user", "What is 6 times 7?"),))
CHAT = "/v1/chat/completions"
CALL = {"function": {"name": "multiply", "arguments": {"first": 6, "second": 7}}}


@tool("none")
def multiply(first: int, second: int) -> str:
    """Multiply two numbers. first: one. second: the other."""
    return str(first * second)


def told(content: str = "", **message: Any) -> Reply:
    """A whole answer of Ollama."""
    end = {
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 9,
        "eval_count": 2,
    }
    return ndjson({"message": {"role": "assistant", "content": content, **message}}, end)


def streamed(**delta: Any) -> Reply:
    """A whole answer of an OpenAI-style server."""
    finish = "tool_calls" if "tool_calls" in delta else "stop"
    return sse({"choices": [{"index": 0, "delta": delta}]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    scripted.on("/api/ps", plain({"models": [{"name": "m:latest"}]})).on("/api/version", plain({"version": "0.33.0"}))
    scripted.on("/v1/models", plain({"data": [{"id": "m"}]}))
    yield scripted
    scripted.close()


@pytest.fixture
def local(server: Scripted) -> Iterator[Callable[..., Engine]]:
    """Ollama whose model can do what is given; None for a server that does not say."""
    made: list[Engine] = []

    def build(*abilities: str, says: bool = True) -> Engine:
        server.on("/api/show", plain({"capabilities": ["completion", *abilities]} if says else {}))
        made.append(ollama.build(Settings(ollama=OllamaSettings(host=server.host, stall_s=10.0))))
        return made[-1]

    yield build
    for engine in made:
        engine.close()


@pytest.fixture
def remote(server: Scripted) -> Iterator[Engine]:
    engine = openai_compatible.build(
        Settings(openai_compatible=OpenAICompatibleSettings(url=f"http://{server.host}/v1", stall_s=10.0))
    )
    yield engine
    engine.close()


def ran(mode: str, engine: Engine, request: Request = ASKED) -> list[Event]:
    return list(modes.load(mode)(engine, request, Means(ModesSettings(), Toolbox([multiply]))))


def said(events: list[Event], kind: type = Text) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


def results(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, ToolResult)]


def test_ollama_calls_natively_where_it_says_that_the_model_can(local, server: Scripted) -> None:
    server.on("/api/chat", told(tool_calls=[CALL]), told("It is 42."))
    events = ran("agent", local("tools"))
    assert (results(events), said(events)) == (["42"], "It is 42.")
    first, second = (seen.body for seen in server.asked("/api/chat"))
    assert first["tools"][0]["function"]["name"] == "multiply"
    assert second["messages"][-1] == {"role": "tool", "content": "42", "tool_name": "multiply"}


def test_ollama_calls_by_format_where_the_model_cannot(local, server: Scripted) -> None:
    server.on(
        "/api/chat", told('{"tool": "multiply"}'), told('{"first": 6, "second": 7}'), told('{"tool": "none"}'), told("It is 42.")
    )
    events = ran("agent", local())
    assert (results(events), said(events)) == (["42"], "It is 42.")
    bodies = [seen.body for seen in server.asked("/api/chat")]
    assert not any("tools" in body for body in bodies)
    assert [("format" in body) for body in bodies] == [True, True, True, False]
    assert not any("think" in body for body in bodies)


def test_an_old_ollama_that_does_not_say_is_tried_and_its_refusal_taken(local, server: Scripted) -> None:
    refusal = plain({"error": '"m" does not support tools'}, 400)
    server.on("/api/chat", refusal, told('{"tool": "none"}'), told("Forty-two."))
    assert said(ran("agent", local(says=False))) == "Forty-two."
    assert [("tools" in seen.body) for seen in server.asked("/api/chat")] == [True, False, False]


def test_ollama_thinks_natively_where_it_says_that_the_model_can(local, server: Scripted) -> None:
    server.on("/api/chat", told("42", thinking="Six sevens."))
    events = ran("chain_of_thought", local("thinking"))
    assert (said(events, Thought), said(events)) == ("Six sevens.", "42")
    assert server.asked("/api/chat")[0].body["think"] is True


def test_ollama_without_thinking_gets_the_contract(local, server: Scripted) -> None:
    server.on("/api/chat", told("Six sevens are needed.\nANSWER: 42"))
    events = ran("chain_of_thought", local())
    assert (said(events, Thought), said(events)) == ("Six sevens are needed.\n", "42")
    assert "think" not in server.asked("/api/chat")[0].body


@pytest.mark.parametrize("mode", ["agent", "chain_of_thought", "multi_step", "ensemble"])
def test_a_server_that_is_not_there_is_said_by_every_mode_before_anything_else(mode: str) -> None:
    engine = ollama.build(Settings(ollama=OllamaSettings(host="127.0.0.1:9")))
    seen: list[Event] = []
    with pytest.raises(EngineUnavailable):
        for event in modes.load(mode)(engine, ASKED, Means(tools=Toolbox([multiply]))):
            seen.append(event)
    assert not any(isinstance(event, Text | Thought) for event in seen)
    engine.close()


def test_an_openai_style_server_calls_natively(remote: Engine, server: Scripted) -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "multiply", "arguments": '{"first": 6, "second": 7}'}}
    server.on(CHAT, streamed(tool_calls=[call]), streamed(content="It is 42."))
    events = ran("agent", remote)
    assert (results(events), said(events)) == (["42"], "It is 42.")
    assert server.asked(CHAT)[1].body["messages"][-1] == {"role": "tool", "content": "42", "tool_call_id": "c1"}


def test_an_openai_style_server_that_refuses_tools_and_schemas_gets_text(remote: Engine, server: Scripted) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        if "tools" in body or "response_format" in body:
            return plain({"error": {"message": "auto tool choice requires --enable-auto-tool-choice", "code": 400}}, 400)
        asked = body["messages"][-1]["content"]
        return streamed(
            content="It is 42." if "42" in asked else json.dumps({"tool": "multiply", "arguments": {"first": 6, "second": 7}})
        )

    server.on(CHAT, reply)
    events = ran("agent", remote)
    assert (results(events), said(events)) == (["42"], "It is 42.")


@pytest.mark.parametrize("spoken", ["", "Let me see. "])
def test_arguments_that_the_model_wrote_wrongly_are_asked_for_by_schema(remote: Engine, server: Scripted, spoken: str) -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "multiply", "arguments": '{"first": 6, "sec'}}
    server.on(
        CHAT,
        streamed(tool_calls=[call], **({"content": spoken} if spoken else {})),
        streamed(content='{"tool": "multiply"}'),
        streamed(content='{"first": 6, "second": 7}'),
        streamed(content="It is 42."),
    )
    events = ran("agent", remote)
    assert (results(events), said(events)) == (["42"], "It is 42.")
    assert isinstance(events[-1], Done)
