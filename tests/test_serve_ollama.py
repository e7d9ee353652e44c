"""Ollama's API as Ollama's own Python client speaks it."""

import asyncio
import json
from collections.abc import Iterator

import httpx
import ollama
import pytest
from serving import Served, serving

from data.chat import Chunk, ToolCall
from data.errors import EngineInterrupted, EngineUnavailable
from router.engines.base import Capabilities
from router.engines.echo import Echo


@pytest.fixture
def engine() -> Echo:
    return Echo(capabilities=Capabilities(schema=True, tools=True, think=True))


@pytest.fixture
def served(engine: Echo) -> Iterator[Served]:
    with serving({"echo": engine}) as running:
        yield running


@pytest.fixture
def client(served: Served) -> Iterator[ollama.Client]:
    with ollama.Client(host=served.url) as made:
        yield made


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_client_chats_whole_and_streamed(client: ollama.Client) -> None:
    whole = client.chat("echo/echo", say("a b c"))
    assert whole.message.content == "a b c"
    assert (whole.done, whole.done_reason, whole.eval_count, whole.prompt_eval_count) == (True, "stop", 3, 3)
    assert whole.total_duration > 0
    pieces = list(client.chat("echo/echo", say("a b c"), stream=True))
    assert [piece.message.content for piece in pieces] == ["a ", "b ", "c", ""]
    assert [piece.done for piece in pieces] == [False, False, False, True]


def test_a_stream_is_the_default_and_tells_the_route(served: Served) -> None:
    answer = served.client.post("/api/chat", json={"model": "echo/echo", "messages": say("a b")})
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[-1]["pointsman"] == json.loads(answer.headers["x-pointsman-decision"])
    assert lines[-1]["model"] == "echo/echo"


def test_the_client_generates(client: ollama.Client, engine: Echo) -> None:
    assert client.generate("echo/echo", "a b", system="Be brief.").response == "a b"
    assert [piece.response for piece in client.generate("echo/echo", "a b", stream=True)] == ["a ", "b", ""]
    assert [message.role for message in engine.requests[0].messages] == ["system", "user"]


def test_options_are_mapped_and_those_of_loading_change_nothing(client: ollama.Client, engine: Echo) -> None:
    options = {
        "temperature": 0.1,
        "top_k": 5,
        "top_p": 0.0,
        "min_p": 0.2,
        "repeat_penalty": 1.5,
        "repeat_last_n": -1,
        "seed": 7,
        "num_predict": 2,
        "num_ctx": 64,
        "stop": ["X"],
        "mirostat": 1,
    }
    answer = client.chat("echo/echo", say("a b c d"), options=options, keep_alive="5m", format="json", think=True)
    request = engine.requests[0]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_k, sampling.min_p, sampling.seed) == (0.1, 5, 0.2, 7)
    assert (sampling.repeat_penalty, sampling.repeat_last_n) == (1.5, 4096)
    assert 0 < sampling.top_p < 0.001
    assert (request.max_tokens, request.stop, request.schema, request.think) == (2, ("X",), {"type": "object"}, True)
    assert answer.done_reason == "length"


def test_tools_and_reasoning_pass_through(client: ollama.Client, engine: Echo) -> None:
    def weather(place: str) -> str:
        """The weather.

        Args:
            place: where
        """
        return f"rain in {place}"

    engine.replies = [[Chunk(thinking="hm"), Chunk(tool_calls=(ToolCall("weather", {"place": "Oslo"}),))], "It rains."]
    first = client.chat("echo/echo", say("?"), tools=[weather])
    assert (first.message.thinking, first.message.tool_calls[0].function.arguments) == ("hm", {"place": "Oslo"})
    history = [*say("?"), first.message, {"role": "tool", "tool_name": "weather", "content": weather("Oslo")}]
    assert client.chat("echo/echo", history, tools=[weather]).message.content == "It rains."
    assert [message.role for message in engine.requests[1].messages] == ["user", "assistant", "tool"]


def test_models_are_listed_shown_and_never_changed(client: ollama.Client, served: Served) -> None:
    names = [model.model for model in client.list().models]
    assert names[0] == "auto"
    assert "llamacpp/smollm2-135m" in names
    shown = client.show("smollm2-135m")
    assert shown.capabilities == ["completion"]
    assert shown.details.family
    assert "im_start" in shown.template
    assert client.show("auto").capabilities == ["completion"]
    assert str(served.store.database.path.parent) not in shown.model_dump_json()
    assert ".gguf" not in shown.model_dump_json()
    assert client.ps().models == []
    for change in (client.delete, client.pull, lambda name: client.create(name, from_="x"), lambda name: client.copy(name, "y")):
        with pytest.raises(ollama.ResponseError, match="not changed over HTTP"):
            change("x")


def test_a_model_is_found_by_its_bare_name_and_none_by_a_path(client: ollama.Client, served: Served, tmp_path) -> None:
    file = tmp_path / "mine.gguf"
    file.write_bytes(b"GGUF")
    for name in ("nothing", str(file), f"llamacpp/{file}", "llamacpp//etc/passwd", "../x.gguf", "nothing/at:all"):
        with pytest.raises(ollama.ResponseError, match="there is no model") as caught:
            client.chat(name, say("x"))
        assert caught.value.status_code == 404
    assert served.client.post("/api/show", json={"name": "smollm2-135m"}).status_code == 200
    assert client.chat("smollm2-135m", [], stream=False).done_reason == "load"
    assert client.generate("smollm2-135m").done_reason == "load"


def test_the_version_is_the_level_of_the_api(served: Served) -> None:
    told = served.client.get("/api/version").json()
    assert told["version"].split(".")[0] == "0"
    assert told["pointsman"]
    assert "Ollama is running" in served.client.get("/").text


def test_faults_look_as_ollamas(client: ollama.Client, engine: Echo) -> None:
    engine.replies = [[EngineUnavailable("gone")], ["well", EngineInterrupted("died")]]
    with pytest.raises(ollama.ResponseError, match="gone") as caught:
        client.chat("echo/echo", say("?"))
    assert caught.value.status_code == 503
    stream = client.chat("echo/echo", say("?"), stream=True)
    assert next(stream).message.content == "well"
    with pytest.raises(ollama.ResponseError, match="died"):
        list(stream)


@pytest.mark.parametrize(
    "fields",
    [
        {"options": {"temperature": "hot"}},
        {"options": {"stop": 5}},
        {"format": "yaml"},
        {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]},
        {"messages": [{"role": "assistant", "content": "x"}]},
        {"messages": "x"},
        {"model": ""},
        {"logprobs": True},
    ],
)
def test_what_cannot_be_given_is_refused_plainly(served: Served, fields: dict) -> None:
    answer = served.client.post("/api/chat", json={"model": "echo/echo", "messages": say("x")} | fields)
    assert answer.status_code == 400
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize("fields", [{"suffix": "x"}, {"raw": True}, {"template": "x"}, {"images": ["x"]}])
def test_prompts_that_are_no_questions_are_refused(served: Served, fields: dict) -> None:
    answer = served.client.post("/api/generate", json={"model": "echo/echo", "prompt": "x"} | fields)
    assert answer.status_code == 400
    assert "does not support" in answer.json()["error"]


def test_the_async_client_works(served: Served) -> None:
    async def ask() -> str:
        client = ollama.AsyncClient(host=served.url)
        text = ""
        async for piece in await client.chat("echo/echo", say("a b"), stream=True):
            text += piece.message.content
        await client.close()
        return text

    assert asyncio.run(ask()) == "a b"


def test_the_embedded_encoder_embeds(home) -> None:
    from export import embedded

    embedded.prepare("minilm-l6", lambda line: None)
    with serving() as served, ollama.Client(host=served.url) as client:
        names = [model.model for model in client.list().models]
        assert "llamacpp/minilm-l6" in names
        assert client.show("minilm-l6").capabilities == ["embedding"]
        rows = client.embed("minilm-l6", ["The train is late.", "The train has a delay.", "I like cheese."]).embeddings
        near, far = (sum(a * b for a, b in zip(rows[0], row, strict=True)) for row in rows[1:])
        assert near > far + 0.2
        assert client.embeddings("auto", "The train is late.").embedding == pytest.approx(rows[0], abs=1e-3)
        usage = httpx.post(f"{served.url}/v1/embeddings", json={"model": "minilm-l6", "input": "The train is late."}).json()[
            "usage"
        ]
        assert usage["prompt_tokens"] > 4
