"""Exports on a real Ollama server: created, chatted with and compared with the same file here, for every family.

The server is the one that POINTSMAN_TEST_OLLAMA names (a loopback address such as 127.0.0.1:11434), else one of its own that an
`ollama` on PATH is started as, on a free port and with models of its own; without both the tests are skipped. Everything that
they make on the server they take away again.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import tiny_checkpoints
from safetensors.numpy import load_file, save_file

from data import errors
from data.chat import Message
from data.config import LlamaCppSettings, OllamaSettings, Sampling, Settings
from export import gguf, modelfile, ollama
from export._ollama import answers, greedy, models
from export.modelfile import Parts
from router.engines import llamacpp
from router.engines import ollama as ollama_engine
from router.engines._faults import Fault
from router.engines._ollama_connection import Connection
from router.engines.base import Request

HOST = os.environ.get("POINTSMAN_TEST_OLLAMA", "")
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "qwen2": {},
    "qwen3": {},
    "phi": {},
    "llama-spm": {"spm": True},
    "phi3": {"spm": True},
    "gemma2": {"spm": True, "query_pre_attn_scalar": 8},
}
EXACT = 0.01  # nats: weights in F16 and F32 leave nothing but the rounding of sums
SYSTEM = 'You are terse: "one" sentence.'
QUESTION = Message("user", "What is the capital of France?")
PARAMETERS = {"num_ctx": 512, "temperature": 0.0}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that runs."""
    if HOST:
        yield HOST
        return
    program = shutil.which("ollama")
    if program is None:
        pytest.skip("there is no Ollama: POINTSMAN_TEST_OLLAMA names no server, and PATH has no ollama")
    home = tmp_path_factory.mktemp("ollama")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    around = {"PATH": os.environ["PATH"], "HOME": str(home), "OLLAMA_HOST": address, "OLLAMA_MODELS": str(home / "models")}
    server = subprocess.Popen([program, "serve"], env=around | {"OLLAMA_NO_CLOUD": "1"}, stderr=subprocess.DEVNULL)
    try:
        yield address
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


@pytest.fixture(scope="module")
def connection(host: str) -> Iterator[Connection]:
    """The way to the server; afterwards it has no model of these tests."""
    found = Connection(host)
    for _ in range(100):
        try:
            found.version(5.0)
            break
        except Fault as fault:
            if HOST:
                pytest.skip(f"the server at {host} does not answer: {fault}")
            time.sleep(0.1)
    yield found
    for model in found.tags():
        if model.name.startswith("pointsman-e2e/"):
            models.remove(found, model.name)
    found.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random model of every family, written by the exporter."""
    home = tmp_path_factory.mktemp("families")
    for name, changes in FAMILIES.items():
        (home / name).mkdir()
        checkpoint = tiny_checkpoints.checkpoint(home / "checkpoints" / name, name.removesuffix("-spm"), **changes)
        gguf.write(checkpoint, home / name / "model-F16.gguf", "F16")
    return home


def asked(connection: Connection, path: str, model: str, **body: Any) -> dict[str, Any]:
    """A whole answer of the server with 16 greedy tokens."""
    options = {"temperature": 0, "seed": 1, "num_predict": 16}
    found = connection.server().json("POST", path, {"model": model, "stream": False, "options": options} | body, deadline_s=120)
    assert isinstance(found, dict)
    return found


def near(file: Path, prompt: list[Message], there: answers.Told, most: float) -> None:
    """The server's answer is the file's own, computed as the server does, word for word and to `most` nats."""
    (here,) = greedy.expected(file, [prompt], context=512)
    found = answers.apart(here.answers[0], there, ())
    assert there.prompt_tokens == here.prompt_tokens
    assert there.rendered.removeprefix(here.bos) == here.text.removeprefix(here.bos)
    assert found.tie == 0 and found.most < most and found.tokens > 0, (found, here.answers[0].text, there.text)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_as_the_file_does_here(host: str, connection: Connection, files: Path, family: str) -> None:
    file = files / family / "model-F16.gguf"
    name = f"pointsman-e2e/{family}"
    published = ollama.publish(file, Parts(parameters=PARAMETERS), name, host=host)
    assert published.name == f"{name}:latest" and all(check.passed is not False for check in published.checks)
    assert [check.passed for check in published.checks if check.name == "ollama answer"] == [True]
    for prompt in ([QUESTION], [Message("system", SYSTEM), QUESTION, Message("assistant", "Paris."), Message("user", "Sure?")]):
        near(file, prompt, answers.ask(connection, name, prompt), EXACT)
    said = asked(connection, "/api/chat", name, messages=[QUESTION.to_dict()])
    generated = asked(connection, "/api/generate", name, prompt=QUESTION.content)
    assert generated["response"] == said["message"]["content"]
    assert generated["prompt_eval_count"] == said["prompt_eval_count"]


def test_family_template_and_the_files_own_write_the_same(host: str, connection: Connection, files: Path) -> None:
    file = files / "qwen2" / "model-F16.gguf"
    template = next(family.template for family in modelfile.families() if family.name == "chatml")
    published = ollama.publish(
        file, Parts(parameters=PARAMETERS, template=template, system=SYSTEM), "pointsman-e2e/own:go", host=host
    )
    assert [check.passed for check in published.checks] == [True] * 5
    near(file, [Message("system", SYSTEM), QUESTION], answers.ask(connection, "pointsman-e2e/own:go", [QUESTION]), EXACT)
    mine = [Message("system", "mine"), QUESTION]
    near(file, mine, answers.ask(connection, "pointsman-e2e/own:go", mine), EXACT)


def test_embedded_model_answers_as_it_does_here(host: str, connection: Connection, embedded_gguf: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(embedded_gguf, tmp_path / "model-Q4_1.gguf"))
    stop = {"stop": ("<|im_end|>",)}
    parts = Parts(parameters=PARAMETERS | stop, system=SYSTEM)
    published = ollama.publish(file, parts, "pointsman-e2e/smollm2:q4", host=host)
    there = answers.ask(connection, published.name, [QUESTION])
    near(file, [Message("system", SYSTEM), QUESTION], there, answers.MOST_NATS)  # exact where the server has flash attention too
    engine = llamacpp.build(Settings(llamacpp=LlamaCppSettings(context=512)))
    served = ollama_engine.build(Settings(ollama=OllamaSettings(host=host, context=512)))
    sampling = Sampling(temperature=0, seed=1, repeat_penalty=1.0)
    prompt = (Message("system", SYSTEM), QUESTION)
    try:
        texts = [
            "".join(chunk.text for chunk in one.stream(Request(model, prompt, sampling, max_tokens=16)))
            for one, model in ((engine, str(file)), (served, published.name))
        ]
    finally:
        engine.close()
        served.close()
    assert texts[0] == texts[1] == there.text


def test_template_that_ollama_puts_in_the_files_place_is_found_out(
    host: str, connection: Connection, embedded_gguf: Path, tmp_path: Path
) -> None:
    file = Path(shutil.copy(embedded_gguf, tmp_path / "model-Q4_1.gguf"))
    with pytest.raises(errors.ModelInvalid, match="its prompt is another"):
        ollama.publish(file, Parts(parameters=PARAMETERS), "pointsman-e2e/default", host=host)
    assert not [model.name for model in connection.tags() if "default" in model.name or "unchecked" in model.name]


def test_other_weights_under_the_same_prompt_are_found_out(host: str, connection: Connection, files: Path, tmp_path: Path) -> None:
    other = tiny_checkpoints.checkpoint(tmp_path / "other", "llama")
    weights = load_file(other / "model.safetensors")
    key = "model.layers.1.self_attn.v_proj.weight"
    save_file(weights | {key: weights[key] * 1.5}, other / "model.safetensors", {"format": "pt"})
    gguf.write(other, tmp_path / "model-F16.gguf", "F16")

    def elsewhere(file: Path, *arguments: Any, **more: Any) -> Any:
        return greedy.expected(tmp_path / "model-F16.gguf", *arguments, **more)

    with pytest.raises(errors.ModelInvalid, match="does not answer as the exported file"):
        ollama.publish(
            files / "llama" / "model-F16.gguf", Parts(parameters=PARAMETERS), "pointsman-e2e/x", host=host, check=elsewhere
        )
    assert not [model.name for model in connection.tags() if model.name.startswith("pointsman-e2e/x")]


def test_model_is_replaced_when_asked_and_is_the_new_one_then(host: str, connection: Connection, files: Path) -> None:
    file, name = files / "mistral" / "model-F16.gguf", "pointsman-e2e/again:v1.0_x"
    ollama.publish(file, Parts(parameters=PARAMETERS, system="first"), name, host=host)
    with pytest.raises(errors.InputError, match="has a model 'pointsman-e2e/again:v1.0_x'"):
        ollama.publish(file, Parts(parameters=PARAMETERS, system="second"), name.upper(), host=host)
    again = ollama.publish(file, Parts(parameters=PARAMETERS | {"stop": ("q\nz",)}, system=SYSTEM), name, host=host, replaced=True)
    shown = connection.server().json("POST", "/api/show", {"model": name}, deadline_s=30)
    assert again.sent_bytes == 0 and shown["system"] == SYSTEM
    assert models.parameters_of(shown["parameters"])["stop"] == ["q\nz"]
    models.remove(connection, name)
    assert name not in [model.name for model in connection.tags()]
