"""OpenAI's API as OpenAI's own client speaks it, and as clients that get it wrong do."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import openai
import pytest
from serving import Served, serving

from data.chat import Chunk, ToolCall, Usage
from data.errors import ContextOverflow, EngineBusy, EngineInterrupted, EngineRejected, EngineUnavailable
from router.engines.base import Capabilities
from router.engines.echo import Echo

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}},
}


class Able(Echo):
    """An echo that claims schemas and tools, and embeds by length."""

    def __init__(self, replies: Sequence[Any] = ()) -> None:
        super().__init__(replies, capabilities=Capabilities(embed=True, schema=True, tools=True, think=True))

    def embed(self, texts: Sequence[str], model: str = "") -> np.ndarray:
        return np.array([[1.0, len(text)] for text in texts], dtype=np.float32)


@pytest.fixture
def engine() -> Able:
    return Able()


@pytest.fixture
def served(engine: Able) -> Iterator[Served]:
    with serving({"echo": engine}) as running:
        yield running


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def say(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_the_client_gets_an_answer_with_its_usage_and_its_route(client: openai.OpenAI, served: Served) -> None:
    raw = client.chat.completions.with_raw_response.create(model="echo/echo", messages=say("one two three"))
    answer = raw.parse()
    assert answer.choices[0].message.content == "one two three"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 3)
    route = json.loads(raw.headers["x-pointsman-decision"])
    assert route == answer.model_extra["pointsman"]
    assert (route["model"], route["mode"]) == ("echo/echo", "standard")
    assert served.store.log.inference(route["inference"]).status == "complete"
    assert served.store.log.turns(route["conversation"])[1].message.content == "one two three"


def test_the_clients_stream_arrives_in_pieces_and_ends_with_usage(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="echo/echo", messages=say("a b c"), stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert [chunk.choices[0].delta.content for chunk in chunks[:3]] == ["a ", "b ", "c"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-2].model_extra["pointsman"]["model"] == "echo/echo"
    assert chunks[-1].usage.total_tokens == 6
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_the_async_client_streams_several_answers_at_once(served: Served) -> None:
    import asyncio

    async def one(client: openai.AsyncOpenAI, word: str) -> str:
        stream = await client.chat.completions.create(model="echo/echo", messages=say(f"{word} {word} {word}"), stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(one(client, f"w{number}") for number in range(12)))

    assert asyncio.run(all_of_them()) == [f"w{number} w{number} w{number}" for number in range(12)]


def test_sampling_stop_and_limits_reach_the_engine(client: openai.OpenAI, engine: Able) -> None:
    answer = client.chat.completions.create(
        model="echo/echo",
        messages=[{"role": "developer", "content": "Be brief."}, *say("a b c d e")],
        temperature=0.25,
        top_p=0.5,
        seed=-1,
        max_completion_tokens=2,
        stop=["END"],
        frequency_penalty=0.5,
    )
    request = engine.requests[0]
    assert answer.choices[0].finish_reason == "length"
    assert (request.sampling.temperature, request.sampling.top_p, request.sampling.seed) == (0.25, 0.5, 2**32 - 1)
    assert (request.max_tokens, request.stop, request.sampling.frequency_penalty) == (2, ("END",), 0.5)
    assert [message.role for message in request.messages] == ["system", "user"]


def test_a_schema_reaches_the_engine_and_needs_one_that_keeps_to_it(client: openai.OpenAI, engine: Able) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    client.chat.completions.create(model="echo/echo", messages=say("x"), response_format=form)
    client.chat.completions.create(model="echo/echo", messages=say("x"), response_format={"type": "json_object"})
    assert [request.schema for request in engine.requests] == [schema, {"type": "object"}]
    engine.capabilities = Capabilities()
    with pytest.raises(openai.BadRequestError, match="cannot be held to a JSON schema"):
        client.chat.completions.create(model="echo/echo", messages=say("x"), response_format=form)


def test_tools_go_round(client: openai.OpenAI, engine: Able, served: Served) -> None:
    engine.replies = [[Chunk(tool_calls=(ToolCall("weather", {"place": "Łódź"}),))], "It rains."]
    question = say("What is the weather in Łódź?")
    first = client.chat.completions.create(model="echo/echo", messages=question, tools=[WEATHER])
    call = first.choices[0].message.tool_calls[0]
    assert first.choices[0].finish_reason == "tool_calls"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"place": "Łódź"})
    history = [*question, first.choices[0].message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    second = client.chat.completions.create(model="echo/echo", messages=history, tools=[WEATHER])
    assert second.choices[0].message.content == "It rains."
    seen = engine.requests[1].messages
    assert [message.role for message in seen] == ["user", "assistant", "tool"]
    assert (seen[2].tool_name, seen[2].content) == ("weather", "rain")
    both = [answer.model_extra["pointsman"] for answer in (first, second)]
    assert both[0]["conversation"] == both[1]["conversation"]
    assert not served.store.log.inference(both[1]["inference"]).trainable


def test_streamed_tool_calls_come_whole(client: openai.OpenAI, engine: Able) -> None:
    engine.replies = [["Let me see.", Chunk(tool_calls=(ToolCall("weather", {}), ToolCall("weather", {"place": "x"})))]]
    chunks = list(client.chat.completions.create(model="echo/echo", messages=say("?"), tools=[WEATHER], stream=True))
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert [(call.index, call.function.arguments) for call in calls] == [(0, "{}"), (1, '{"place": "x"}')]
    assert len({call.id for call in calls}) == 2
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_reasoning_stays_apart(client: openai.OpenAI, engine: Able) -> None:
    engine.replies = [[Chunk(thinking="hm"), "yes"]] * 2
    whole = client.chat.completions.create(model="echo/echo", messages=say("?"))
    assert whole.choices[0].message.content == "yes"
    assert whole.choices[0].message.model_extra["reasoning_content"] == "hm"
    chunks = list(client.chat.completions.create(model="echo/echo", messages=say("?"), stream=True))
    assert chunks[0].choices[0].delta.model_extra["reasoning_content"] == "hm"


def test_the_models_are_listed_and_shown(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names[0] == "auto"
    assert "llamacpp/smollm2-135m" in names
    assert client.models.retrieve("llamacpp/smollm2-135m").owned_by == "llamacpp"
    assert client.models.retrieve("auto").id == "auto"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("llamacpp/none-of-that-name")


def test_vectors_come_as_floats_and_as_base64(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="echo/echo", input=["a", "bb"] * 20)
    assert [row.embedding for row in answer.data[:2]] == [[1.0, 1.0], [1.0, 2.0]]
    assert len(answer.data) == 40
    plain = client.embeddings.create(model="echo/echo", input="abc", encoding_format="float")
    assert plain.data[0].embedding == [1.0, 3.0]
    with pytest.raises(openai.BadRequestError, match="2 dimensions"):
        client.embeddings.create(model="echo/echo", input="abc", dimensions=7)
    with pytest.raises(openai.BadRequestError, match="none of them empty"):
        client.embeddings.create(model="echo/echo", input=[" "])
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="echo/echo", input=[1, 2, 3])


def test_old_completions_work(client: openai.OpenAI) -> None:
    assert client.completions.create(model="echo/echo", prompt="a b").choices[0].text == "a b"
    chunks = list(client.completions.create(model="echo/echo", prompt=["a b"], stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "a b"
    with pytest.raises(openai.BadRequestError, match="one prompt"):
        client.completions.create(model="echo/echo", prompt=["a", "b"])


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"n": 2}, "one answer"),
        ({"logprobs": True}, "log-probabilities"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [""]}, "stop"),
        ({"tool_choice": "required"}, "forced"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "images"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "not a question"),
        ({"messages": [{"role": "user", "content": "  "}]}, "empty"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": "{"}}]}]}, "tool call"),
        ({"pointsman": {"mode": "sorcery"}}, "no mode"),
        ({"pointsman": {"domain": "sorcery"}}, "no domain"),
        ({"pointsman": {"mode": "agent"}, "stop": "x"}, "stop strings"),
        ({"model": 5}, "model"),
    ],
)
def test_what_cannot_be_given_is_refused_plainly(served: Served, fields: dict[str, Any], word: str) -> None:
    answer = served.chat("x", **fields)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert word in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (EngineUnavailable("gone"), 503, "unavailable"),
        (EngineBusy("full"), 503, "busy"),
        (EngineRejected("no"), 400, None),
        (ContextOverflow("long"), 400, "context_length_exceeded"),
        (EngineInterrupted("broke"), 502, "interrupted"),
    ],
)
def test_a_fault_before_the_first_piece_has_its_status(
    served: Served, engine: Able, fault: Exception, status: int, code: str | None
) -> None:
    for stream in (False, True):
        engine.replies = [[fault]]
        answer = served.chat("x", stream=stream)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert ("retry-after" in answer.headers) == (status == 503)


def test_a_fault_within_a_stream_is_an_event_that_the_client_raises(client: openai.OpenAI, engine: Able) -> None:
    engine.replies = [["well", EngineInterrupted("the engine \x1b[31mdied")]]
    stream = client.chat.completions.create(model="echo/echo", messages=say("?"), stream=True)
    assert next(iter(stream)).choices[0].delta.content == "well"
    with pytest.raises(openai.APIError, match="␛"):
        list(stream)


def test_control_characters_of_a_model_never_stand_bare_on_the_wire(served: Served, engine: Able) -> None:
    evil = "\x1b]0;owned\x07 \u009b31m \u202e \u2028 data: x\n\n"
    engine.replies = [evil, [evil]]
    whole, stream = served.chat("x"), served.chat("y", stream=True)
    assert whole.json()["choices"][0]["message"]["content"] == evil
    for raw in (whole.content, stream.content):
        assert raw.isascii()
        assert b"\x1b" not in raw
    assert stream.content.count(b"\n\n") == 3  # the piece, the end, the mark


def test_an_answer_of_nothing_is_an_answer(client: openai.OpenAI, engine: Able) -> None:
    engine.replies = [[Chunk(usage=Usage(finish="stop"))]] * 2
    assert client.chat.completions.create(model="echo/echo", messages=say("?")).choices[0].message.content == ""
    chunks = list(client.chat.completions.create(model="echo/echo", messages=say("?"), stream=True))
    assert [chunk.choices[0].finish_reason for chunk in chunks] == ["stop"]


def test_auto_goes_through_the_router_and_falls_back(client: openai.OpenAI) -> None:
    with (
        serving({"echo": Able()}, model="ollama/none-there", max_tokens=3) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as other,
    ):
        answer = other.chat.completions.create(model="auto", messages=say("Hello"), temperature=0)
        assert answer.model == "llamacpp/smollm2-135m"
        assert answer.choices[0].message.content.strip()
        route = answer.model_extra["pointsman"]
        assert served.store.log.inference(route["inference"]).decision["source"] == "fallback"
