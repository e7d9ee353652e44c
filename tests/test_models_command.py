"""`pointsman models`: what there is over all engines, and pulling and removing on an Ollama server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import in_terminal, prepared_as_packaged, run
from servers import DROP, Reply, Scripted, ndjson, plain

TAGS = {
    "models": [
        {
            "model": "llama3.2:1b",
            "size": 1_300_000_000,
            "details": {"parameter_size": "1.2B", "quantization_level": "Q8_0", "family": "llama\x1b[31m"},
        }
    ]
}


@pytest.fixture
def ollama(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """An Ollama server with one model."""
    server = Scripted()
    server.on("/api/version", plain({"version": "0.33.0"})).on("/api/tags", plain(TAGS)).on("/api/delete", plain({}))
    details = {"family": "llama\x1b[31m"}
    server.on("/api/show", plain({"template": "{{ .Prompt }}", "details": details, "license": "x" * 5000, "model_info": {}}))
    monkeypatch.setenv("OLLAMA_HOST", f"http://{server.host}")
    yield server
    server.close()


def test_list_tells_of_every_engine_also_of_those_away() -> None:
    ran = run("models", "list", "--json")
    listed = json.loads(ran.out)
    assert "llamacpp/smollm2-135m" in [model["reference"] for model in listed["models"]]
    assert listed["default"] == "llamacpp/smollm2-135m"
    states = {engine["name"]: engine for engine in listed["engines"]}
    assert states["llamacpp"]["state"] == "ready"
    assert states["ollama"]["state"] in ("not installed", "not running")
    assert states["ollama"]["fix"]
    assert states["openai_compatible"]["fix"] == "pointsman config set openai_compatible.url http://HOST:PORT/v1"
    assert "echo" not in states
    human = run("models", "list")
    assert "llamacpp/smollm2-135m (default)" in human.out
    assert [line.split(":")[0] for line in human.err.splitlines()] == ["ollama", "openai_compatible"]


def test_list_shows_the_models_of_a_server(ollama: Scripted) -> None:
    ran = run("models", "list")
    assert "ollama/llama3.2:1b" in ran.out
    assert "1.3 GB" in ran.out
    assert "\x1b" not in ran.out


def test_show_is_harmless_and_short_and_whole_in_json(ollama: Scripted) -> None:
    ran = run("models", "show", "ollama/llama3.2:1b")
    assert "details.family: llama␛[31m" in ran.out
    assert max(len(line) for line in ran.out.splitlines()) < 300
    assert len(json.loads(run("models", "show", "--json", "ollama/llama3.2:1b").out)["license"]) == 5000


def test_a_model_that_is_not_there_is_refused_with_the_nearest(ollama: Scripted) -> None:
    for arguments in (("models", "show"), ("models", "rm", "--yes"), ("ask", "hello", "-m")):
        run(*arguments, "llama3.2:1c").refused("no model 'llama3.2:1c'", "did you mean", "llama3.2:1b")


def test_pull_follows_the_download(ollama: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POINTSMAN_OFFLINE")
    layer = {"status": "pulling abc", "digest": "abc", "total": 1000}
    ollama.on("/api/pull", ndjson({"status": "pulling manifest"}, layer, layer | {"completed": 500}, {"status": "success"}))
    ran = run("models", "pull", "llama3.2:1b")
    assert (ran.code, ran.out) == (0, "ollama/llama3.2:1b is ready\n")
    assert ran.err.splitlines()[0] == "pulling llama3.2:1b: pulling manifest"
    assert ollama.asked("/api/pull")[0].body["model"] == "llama3.2:1b"
    code, sent = in_terminal("models", "pull", "ollama/llama3.2:1b")
    assert code == 0
    assert "ollama/llama3.2:1b is ready" in sent


def test_pull_that_breaks_off_is_one_line(ollama: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POINTSMAN_OFFLINE")
    ollama.on("/api/pull", ndjson({"status": "pulling manifest"}, then=[DROP]))
    ran = run("models", "pull", "llama3.2:1b")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines()[-1].startswith("pointsman: ")
    ollama.on("/api/pull", ndjson({"error": "pull model manifest: file does not exist"}))
    assert run("models", "pull", "nosuch").code == 1


def test_pull_is_refused_offline(ollama: Scripted) -> None:
    run("models", "pull", "llama3.2:1b").refused("POINTSMAN_OFFLINE")
    assert not ollama.asked("/api/pull")


def test_rm_asks_first(ollama: Scripted) -> None:
    assert run("models", "rm", "ollama/llama3.2:1b").code == 2
    assert in_terminal("models", "rm", "ollama/llama3.2:1b", typed=b"n\n")[0] == 130
    assert not ollama.asked("/api/delete")
    assert run("models", "rm", "--yes", "ollama/llama3.2:1b").out == "ollama/llama3.2:1b is removed\n"
    assert ollama.asked("/api/delete")[0].body["model"] == "llama3.2:1b"


def test_rm_of_a_missing_model_does_not_ask(ollama: Scripted) -> None:
    ollama.on("/api/show", Reply((b'{"error":"model not found"}',), status=404))
    run("models", "rm", "ollama/nosuch").refused("nosuch")


def test_pull_and_rm_say_what_engine_can_do_it() -> None:
    run("models", "pull", "llamacpp/smollm2-135m").refused("ollama does: pointsman models pull ollama/NAME")
    run("models", "rm", "--yes", "echo/echo").refused("echo")


def test_a_gguf_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    run("models", "show", str(tmp_path / "none.gguf")).refused("none.gguf")


def test_prepare_says_which_form_runs_and_why() -> None:
    prepared_as_packaged()
    assert run("models", "prepare", "smollm2-135m").out == "smollm2-135m: packaged runs; a test says so\n"
    assert json.loads(run("models", "prepare", "--json", "smollm2-135m").out)[0]["form"] == "packaged"
    run("models", "prepare", "nosuch").refused("nosuch", "smollm2-135m")
