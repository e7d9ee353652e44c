"""The registry of engines and the echo engine."""

import pytest

from data.chat import Chunk, Message, Usage
from data.config import Settings
from data.errors import EngineInterrupted, ModelMissing
from router.engines import Engines
from router.engines.base import Engine, ModelInfo, Request
from router.engines.echo import Echo


def ask(engine: Engine, text: str, max_tokens: int = 100) -> tuple[str, Usage]:
    chunks = list(engine.stream(Request("echo", (Message("user", text),), max_tokens=max_tokens)))
    usage = chunks[-1].usage
    assert usage is not None
    return "".join(chunk.text for chunk in chunks), usage


def test_echo_says_the_question_back_and_counts() -> None:
    text, usage = ask(Echo(), "one two  three")
    assert text == "one two  three"
    assert (usage.prompt_tokens, usage.finish) == (3, "stop")
    assert ask(Echo(), "one two three", max_tokens=2)[1].finish == "length"


def test_a_script_may_break_off_where_it_says() -> None:
    engine = Echo([["half", Chunk(thinking="hm"), EngineInterrupted("gone")]])
    stream = engine.stream(Request("echo", (Message("user", "x"),)))
    assert next(stream).text == "half"
    assert next(stream).thinking == "hm"
    with pytest.raises(EngineInterrupted):
        next(stream)


def test_every_file_of_the_folder_is_an_engine() -> None:
    assert Engines(Settings()).names() == ["echo", "llamacpp", "ollama", "openai_compatible"]


class Shelf(Echo):
    def __init__(self, *names: str) -> None:
        super().__init__()
        self.found = names

    def models(self) -> list[ModelInfo]:
        return [ModelInfo(name, self.name) for name in self.found]


def engines() -> Engines:
    local, server = Shelf("my-file"), Shelf("llama3.2:latest", "qwen2.5:3b")
    local.name, server.name = "llamacpp", "ollama"  # type: ignore[misc]
    return Engines(Settings(), {"llamacpp": local, "ollama": server})


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("auto", "llamacpp/smollm2-135m"),
        ("", "llamacpp/smollm2-135m"),
        ("smollm2-135m", "llamacpp/smollm2-135m"),
        ("my-file", "llamacpp/my-file"),
        ("llama3.2", "ollama/llama3.2:latest"),
        ("qwen2.5:3b", "ollama/qwen2.5:3b"),
        ("ollama/anything/at:all", "ollama/anything/at:all"),
        ("echo", "echo/echo"),
        ("/models/x.gguf", "llamacpp//models/x.gguf"),
    ],
)
def test_references_resolve(reference: str, found: str) -> None:
    assert engines().resolve(reference).reference == found


def test_an_unknown_model_is_an_error_with_the_nearest_names() -> None:
    with pytest.raises(ModelMissing, match=r"qwen2\.5:3b"):
        engines().resolve("qwen2.5")
