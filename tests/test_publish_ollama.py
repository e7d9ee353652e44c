"""Publishing to Ollama against a scripted server: what is sent and in which order, and what is refused without a trace left."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_gguf
from servers import CUT, DROP, HANG, Reply, Scripted, ndjson, plain

from data import errors
from data.chat import Message
from data.exports import Check
from export import modelfile, ollama
from export._exporting.steps import Step
from export._ollama import answers, blobs, greedy, models, names
from export._ollama.greedy import Answer, Expected, Token
from export.modelfile import Parts

TEMPLATE = "{{ .System }}|{{ .Prompt }}|"
PARTS = Parts(parameters={"num_ctx": 512, "temperature": 0.0, "stop": ("<|im_end|>", "a\nb")}, system='say "hi"', template=TEMPLATE)
PROMPT = 'say "hi"|What is the capital of France?|'
SHOWN = {
    "template": TEMPLATE,
    "system": 'say "hi"',
    "parameters": 'stop                           "<|im_end|>"\nstop           "a\\nb"\nnum_ctx   512\ntemperature 0',
    "details": {"quantization_level": "unknown"},
}
MEASURED = """
import sys, tracemalloc, pathlib
from data.errors import EngineRejected
from export._ollama import blobs
from router.engines._ollama_connection import Connection

connection = Connection(sys.argv[1])
tracemalloc.start()
try:
    blobs.ensure(connection, pathlib.Path(sys.argv[2]), sys.argv[3], lambda step: None)
except EngineRejected:
    print(tracemalloc.get_traced_memory()[1])
"""
SUCCESS = ndjson({"status": "parsing GGUF"}, {"status": "writing manifest"}, {"status": "success"})


def answer(*words: str, logprob: float = -0.5, ended: bool = True) -> Answer:
    """An answer of these tokens, each half a nat ahead of "no"."""
    tokens = (Token(word.encode(), logprob, ((word, logprob), ("no", logprob - 0.5))) for word in words)
    return Answer(tuple(tokens), ended)


HERE = Expected(PROMPT, 9, answers=(answer("Pa", "ris"), answer("Pa", "ris", logprob=-0.51)))


def asked_here(file: Path, prompts: Sequence[Sequence[Message]], **_: Any) -> tuple[Expected, ...]:
    """What the file answers here, without asking it."""
    return tuple(HERE for _ in prompts)


def said(*words: str, logprob: float = -0.5, prompt_tokens: int = 9, **more: Any) -> Reply:
    """A streamed answer of /api/chat with log-probabilities."""
    lines = [{"message": {"content": word}, "logprobs": [{"token": word, "logprob": logprob}]} | more for word in words]
    return ndjson(*lines, {"message": {"content": ""}, "done": True, "done_reason": "stop", "prompt_eval_count": prompt_tokens})


def chat(reply: Reply, rendered: str = PROMPT) -> Any:
    """What /api/chat answers: unloaded, the prompt's text, or the reply."""

    def answered(body: dict[str, Any]) -> Reply:
        if not body["messages"]:
            return plain({"done": True, "done_reason": "unload"})
        return plain({"_debug_info": {"rendered_template": rendered}}) if body.get("_debug_render_only") else reply

    return answered


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A tiny model's file."""
    return tiny_gguf.bpe_model(tmp_path / "model-F32.gguf", context=512)


@pytest.fixture
def blob(file: Path) -> str:
    """Where the server keeps it."""
    return f"/api/blobs/sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


@pytest.fixture
def server(blob: str) -> Iterator[Scripted]:
    """A server without the file, which does everything right."""
    scripted = Scripted()
    scripted.on("/api/version", plain({"version": "0.32.15"})).on("/api/tags", plain({"models": [{"model": "old:latest"}]}))
    scripted.on(f"HEAD {blob}", Reply(status=404)).on(f"POST {blob}", Reply(status=201)).on("/api/create", SUCCESS)
    scripted.on("/api/show", plain(SHOWN)).on("/api/chat", chat(said("Pa", "ris")))
    scripted.on("/api/copy", Reply()).on("/api/delete", Reply())
    yield scripted
    scripted.close()


def publish(server: Scripted, file: Path, name: str = "me/tri:q8", parts: Parts = PARTS, **more: Any) -> ollama.Published:
    return ollama.publish(file, parts, name, **{"host": server.host, "check": asked_here} | more)


def refused(server: Scripted, file: Path, kind: type[Exception], words: str, **more: Any) -> errors.PointsmanError:
    """The error, after which nothing may have got the name, and nothing may be left on the server or beside the file."""
    with pytest.raises(kind, match=words) as caught:
        publish(server, file, **more)
    assert not server.asked("/api/copy") and not list(file.parent.glob("ollama-*"))
    assert len(server.asked("/api/delete")) == bool(server.asked("/api/create"))
    assert "\n" not in caught.value.what and "\x1b" not in caught.value.what
    return caught.value


# What is sent


def test_model_is_sent_made_compared_and_only_then_named(server: Scripted, file: Path, blob: str) -> None:
    steps: list[Step] = []
    published = publish(server, file, tell=steps.append)
    assert (published.name, published.version, published.answer) == ("me/tri:q8", "0.32.15", "Paris")
    assert published.sent_bytes == file.stat().st_size
    order = [(seen.method, seen.path) for seen in server.seen]
    trial = server.asked("/api/create")[0].body["model"]
    assert order[-2:] == [("POST", "/api/copy"), ("DELETE", "/api/delete")]
    assert order.index(("HEAD", blob)) < order.index(("POST", blob)) < order.index(("POST", "/api/create"))
    assert trial.startswith("me/tri:q8-unchecked-") and server.asked("/api/delete")[0].body["model"] == trial
    assert server.asked("/api/copy")[0].body == {"source": trial, "destination": "me/tri:q8"}
    assert server.asked(blob)[1].body == file.read_bytes() and "chunked" not in str(server.asked(blob)[1].headers).lower()
    assert {check.name: check.passed for check in published.checks} == {
        "ollama system and parameters": True,
        "ollama template": True,
        "ollama prompt": True,
        "ollama prompt tokens": True,
        "ollama answer": True,
    }
    assert [step.done for step in steps if step.doing.startswith("sending")][-1] > 0
    assert any("writing manifest" in str(step) for step in steps)


def test_texts_reach_the_server_as_they_are(server: Scripted, file: Path) -> None:
    system = 'a\r\nb """ \u200d\u00a0{{ .Prompt }}'
    server.on("/api/show", plain(SHOWN | {"system": system}))
    examples = (Message("user", "x"), Message("assistant", "y"))
    publish(server, file, parts=replace(PARTS, system=system, licence="MIT", messages=examples))
    body = server.asked("/api/create")[0].body
    assert (body["system"], body["template"], body["license"], body["stream"]) == (system, TEMPLATE, "MIT", True)
    assert body["parameters"] == {"num_ctx": 512, "temperature": 0.0, "stop": ["<|im_end|>", "a\nb"]}
    assert body["messages"] == [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    assert list(body["files"]) == [file.name]


def test_what_was_sent_is_kept_beside_the_file(server: Scripted, file: Path) -> None:
    published = publish(server, file)
    kept = {path.name: path.read_text() for path in published.kept}
    request = json.loads(kept["ollama-me-tri-q8.json"])
    assert request["files"] == [file.name] and request["model"] == "me/tri:q8" and "sha256" not in kept["ollama-me-tri-q8.json"]
    assert modelfile.parse(kept["ollama-me-tri-q8.Modelfile"]) == replace(PARTS, model_file=file.name)
    assert {path.parent for path in published.kept} == {file.parent}


def test_file_that_the_server_has_is_not_sent_again(server: Scripted, file: Path, blob: str) -> None:
    server.on(f"HEAD {blob}", Reply())
    assert publish(server, file).sent_bytes == 0
    assert [seen.method for seen in server.asked(blob)] == ["HEAD"]


def test_lost_connection_is_tried_once_more(server: Scripted, file: Path, blob: str) -> None:
    server.loses(blob, 0)  # the first HEAD
    refused(server, file, errors.EngineUnavailable, "hung up")
    server.on(f"POST {blob}", Reply((DROP,)), Reply(status=201))
    steps: list[Step] = []
    assert publish(server, file, tell=steps.append).sent_bytes == file.stat().st_size
    assert sum("once more" in str(step) for step in steps) == 1


def test_connection_lost_twice_is_one_error(server: Scripted, file: Path, blob: str) -> None:
    server.on(f"POST {blob}", Reply((DROP,)))
    error = refused(server, file, errors.EngineUnavailable, "was lost while model-F32.gguf was sent")
    assert len([seen for seen in server.asked(blob) if seen.method == "POST"]) == 2 and error.fix


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (plain({"error": "write: no space left on device"}, 500), errors.EngineRejected, "disk .* is full"),
        (plain({"error": 'digest mismatch, expected "a", got "b"'}, 400), errors.InputError, "changed while it was sent"),
        (plain({"error": "x\x1b[31m"}, 500), errors.EngineUnavailable, "failed"),
        (Reply(status=307, headers={"Location": "http://evil.example/"}), errors.EngineUnavailable, "redirects to http://evil"),
    ],
)
def test_refused_upload_says_why(server: Scripted, file: Path, blob: str, reply: Reply, kind: type[Exception], words: str) -> None:
    server.on(f"POST {blob}", reply)
    refused(server, file, kind, words)


def test_large_file_is_sent_in_bounded_memory(server: Scripted, tmp_path: Path) -> None:
    big = tmp_path / "big.gguf"
    with big.open("wb") as out:
        out.truncate(64 << 20)
    sha256 = blobs.digest(big, lambda step: None)
    path = f"/api/blobs/sha256:{sha256}"
    server.on(f"HEAD {path}", Reply(status=404)).on(f"POST {path}", plain({"error": "no space left on device"}, 500))
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, server.host, str(big), sha256], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(ran.stdout) < 16 << 20


# Names and versions


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("triage", "triage:latest"),
        ("Me/tri-age.v2:Q8_0", "Me/tri-age.v2:Q8_0"),
        ("host.example:5000/me/tri", "host.example:5000/me/tri:latest"),
        ("_x", "_x:latest"),
        ("x" * 80 + ":" + "y" * 80, "x" * 80 + ":" + "y" * 80),
        ("m:local-2", "m:local-2"),
    ],
)
def test_names_that_ollama_takes(name: str, full: str) -> None:
    assert names.checked(name) == full
    assert names.checked(names.provisional(full, "sha256:0123456789"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "name is empty"),
        ("a:", "tag is empty"),
        (":x", "name is empty"),
        ("/x", "namespace is empty"),
        ("a/b/c/d", "more than three parts"),
        ("-a", "name '-a' may hold only"),
        ("a b", "may hold only"),
        ("ä", "may hold only"),
        ("me.you/a", "namespace 'me.you' may hold only"),
        ("a:b:c", "may hold only"),
        ("http://h/m", "more than three parts|may hold only|is empty"),
        ("../x", "namespace '..' may hold only"),
        ("a@sha256", "may hold only"),
        ("x" * 81, "81 characters, and 80"),
        ("a:" + "t" * 81, "81 characters, and 80"),
        ("h" * 351 + "/n/m", "351 characters, and 350"),
        ("a:cloud", "says where a model runs"),
        ("a:LOCAL", "says where a model runs"),
        ("a:7b-cloud", "says where a model runs"),
        ("a\n", "may hold only"),
        ("a\x1b[31m", "may hold only"),
    ],
)
def test_names_that_ollama_does_not_take_are_refused_before_anything_is_sent(
    server: Scripted, file: Path, name: str, words: str
) -> None:
    refused(server, file, errors.InputError, words, name=name)
    assert not server.seen


@pytest.mark.parametrize(
    ("version", "parts", "kind", "words"),
    [
        ("0.5.4", PARTS, errors.EngineUnavailable, "0.5.4 is too old"),
        ("0.29.9", replace(PARTS, template=None), errors.EngineUnavailable, "0.29.9 is too old.*from 0.30.0"),
        ("0.34.1", replace(PARTS, adapter_file="adapter.gguf"), errors.EngineRejected, "0.34.1 attaches no adapters"),
        ("0.40.0-rc1", replace(PARTS, adapter_file="adapter.gguf"), errors.EngineRejected, "attaches no adapters"),
    ],
)
def test_version_that_cannot_do_it_is_refused_before_anything_is_sent(
    server: Scripted, file: Path, version: str, parts: Parts, kind: type[Exception], words: str
) -> None:
    server.on("/api/version", plain({"version": version}))
    assert refused(server, file, kind, words, parts=parts).fix
    assert [seen.path for seen in server.seen] == ["/api/version"]


@pytest.mark.parametrize("version", ["0.5.5", "0.29.9", "0.34.1", "v0.40.0", "0.0.0", "?"])
def test_other_versions_are_taken(server: Scripted, file: Path, version: str) -> None:
    server.on("/api/version", plain({"version": version}))
    assert publish(server, file).version == version


def test_adapter_is_sent_too_where_the_version_takes_one(server: Scripted, file: Path) -> None:
    adapter = tiny_gguf.adapter(file.parent / "adapter.gguf", file, strength=1.0)
    sha256 = hashlib.sha256(adapter.read_bytes()).hexdigest()
    server.on(f"HEAD /api/blobs/sha256:{sha256}", Reply())
    seen: list[Path | None] = []

    def here(file: Path, prompts: Any, **more: Any) -> tuple[Expected, ...]:
        seen.append(more["adapter"])
        return asked_here(file, prompts)

    publish(server, file, parts=replace(PARTS, adapter_file=adapter.name), check=here)
    assert server.asked("/api/create")[0].body["adapters"] == {"adapter.gguf": f"sha256:{sha256}"} and seen == [adapter]


@pytest.mark.parametrize("name", ["old", "OLD:Latest", "library/old", "registry.ollama.ai/library/old:latest"])
def test_model_of_that_name_is_replaced_only_when_asked(server: Scripted, file: Path, name: str) -> None:
    assert "--replace" in refused(server, file, errors.InputError, "has a model 'old:latest'", name=name).fix
    assert publish(server, file, name, replaced=True).name.lower().endswith("old:latest")


def test_absent_server_says_how_to_start_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/ollama")
    with pytest.raises(errors.EngineUnavailable, match="ollama serve"):
        ollama.publish(file, PARTS, "x", host="127.0.0.1:9", check=asked_here)


def test_server_elsewhere_is_not_touched_offline(file: Path) -> None:
    with pytest.raises(errors.Offline):
        ollama.publish(file, PARTS, "x", host="192.0.2.7", check=asked_here)


# Making the model


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (ndjson({"status": "parsing GGUF"}, {"error": "invalid file magic"}), errors.ModelInvalid, "cannot use the file"),
        (plain({"error": "template error: line 1"}, 400), errors.ModelInvalid, "cannot read the TEMPLATE"),
        (plain({"error": "LoRA adapters are no longer supported"}, 400), errors.EngineRejected, "attaches no adapters"),
        (plain({"error": "unknown parameter 'x'"}, 400), errors.InputError, "refuses a parameter"),
        (plain({"error": "no space left on device"}, 500), errors.EngineRejected, "disk is full"),
        (plain({"error": "boom\x1b]0;x\x07"}, 500), errors.EngineRejected, "refuses to make the model: boom"),
        (plain(b"404 page not found", 404), errors.EngineUnavailable, "not Ollama"),
        (ndjson({"status": "parsing GGUF"}), errors.EngineUnavailable, "hung up"),
        (ndjson({"status": "parsing GGUF"}, then=[CUT]), errors.EngineUnavailable, "hung up"),
        (plain(b"[1]\n"), errors.EngineUnavailable, "does not speak"),
        (plain(b'{"status": 5}\n'), errors.EngineUnavailable, "does not speak"),
        (plain(b"[" * 100_000 + b"\n"), errors.EngineUnavailable, "does not speak"),
        (plain(b"x" * (17 << 20)), errors.EngineUnavailable, "does not speak"),
        (Reply(status=302, headers={"Location": "http://evil.example/"}), errors.EngineUnavailable, "redirects"),
    ],
)
def test_creation_that_fails_leaves_nothing(server: Scripted, file: Path, reply: Reply, kind: type[Exception], words: str) -> None:
    server.on("/api/create", reply)
    refused(server, file, kind, words)


def test_interrupt_while_the_server_works_leaves_nothing(server: Scripted, file: Path) -> None:
    server.on("/api/create", ndjson({"status": "parsing GGUF"}, then=[HANG]))

    def interrupt(step: Step) -> None:
        if "parsing" in step.doing:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(server, file, tell=interrupt)
    assert server.left.wait(20) and len(server.asked("/api/delete")) == 1 and not server.asked("/api/copy")


def test_interrupt_while_a_file_is_sent_closes_the_connection(server: Scripted, file: Path, blob: str) -> None:
    server.on(f"POST {blob}", Reply((HANG,)))

    def interrupt(step: Step) -> None:
        if step.doing.startswith("sending"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(server, file, tell=interrupt)
    assert server.left.wait(20) and not server.asked("/api/create")


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ({"system": "say hi"}, "its system prompt is 'say hi'"),
        ({"template": "{{ .Prompt }}"}, "its template is"),
        ({"parameters": "num_ctx 512"}, "its parameter (temperature|stop) is"),
        ({"parameters": SHOWN["parameters"].replace("512", "4096")}, "its parameter num_ctx is '\\[4096\\]'"),  # type: ignore[attr-defined]
        ({"details": {"quantization_level": "Q4_0"}}, "its quantisation is 'Q4_0'"),
    ],
)
def test_model_that_is_not_the_one_asked_for_is_refused(
    server: Scripted, file: Path, shown: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(models._FORM_OF, 0, "F32")
    server.on("/api/show", plain(SHOWN | shown))
    refused(server, file, errors.ModelInvalid, words)


def test_go_values_are_read_back() -> None:
    found = models.parameters_of('stop "\\u00a0\\x41\\"\\n"\nstop "b"\nmin_p 0.05\nuse_mmap true\nnum_ctx 1e+06\n\nodd')
    assert found == {"stop": ['\u00a0A"\n', "b"], "min_p": [0.05], "use_mmap": [True], "num_ctx": [1e6], "odd": [""]}


# Its answers


@pytest.mark.parametrize(
    ("reply", "rendered", "words"),
    [
        (said("Pa", "ris"), "|What is the capital of France?|", "prompt is another; here"),
        (said("Pa", "ris", prompt_tokens=10), PROMPT, "start token is doubled or missing; here 9 tokens, there 10"),
        (said("Pa", "ris", prompt_tokens=30), "", "prompt is another; here 9 tokens, there 30"),
        (said("Lon", "don"), PROMPT, "hardly holds possible.*here 'Paris', there 'London'"),
        (said("Pa", "ris", logprob=-1.5), PROMPT, "log-probabilities are 0.99 nats away"),
        (said("Pa", "ris", "!"), PROMPT, "hardly holds possible"),
        (said("Pa"), PROMPT, "hardly holds possible"),
        (said("\x1b[31mPa\u202e", "ris"), PROMPT, "there '␛\\[31mPa\ufffdris'"),
    ],
)
def test_model_that_answers_otherwise_is_taken_away_again(
    server: Scripted, file: Path, reply: Reply, rendered: str, words: str
) -> None:
    server.on("/api/chat", chat(reply, rendered))
    assert "nothing was published" in refused(server, file, errors.ModelInvalid, words).fix


def test_model_that_had_the_name_keeps_it_where_the_new_one_fails(server: Scripted, file: Path) -> None:
    server.on("/api/chat", chat(said("Lon", "don")))
    refused(server, file, errors.ModelInvalid, "answer as the exported file", name="old", replaced=True)
    assert server.asked("/api/delete")[0].body["model"].startswith("old:latest-unchecked-")


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (said("x" * 200_000), errors.EngineUnavailable, "more than 100000 characters"),
        (said("Pa", logprob=5.0), errors.EngineUnavailable, "log-probabilities that are none"),
        (said("Pa", message=[1]), errors.EngineUnavailable, "unexpected shape"),
        (ndjson({"message": {"content": "Pa"}}), errors.EngineUnavailable, "hung up"),
        (ndjson({"error": "llama-server exited"}), errors.EngineUnavailable, "crashed"),
        (plain({"error": "model requires more system memory"}, 500), errors.EngineRejected, "more memory"),
    ],
)
def test_answer_that_is_none_leaves_nothing(server: Scripted, file: Path, reply: Reply, kind: type[Exception], words: str) -> None:
    server.on("/api/chat", chat(reply))
    refused(server, file, kind, words)


def test_old_server_without_log_probabilities_is_compared_by_words(server: Scripted, file: Path) -> None:
    server.on("/api/chat", chat(ndjson({"message": {"content": " Paris"}}, {"done": True, "prompt_eval_count": 9}), rendered=""))
    checks = {check.name: check for check in publish(server, file).checks}
    assert checks["ollama prompt"].passed is None and "not checked" in checks["ollama prompt"].note
    assert checks["ollama answer"].passed and "no log-probabilities" in checks["ollama answer"].note


def test_without_a_comparison_nothing_is_said_to_have_passed(server: Scripted, file: Path) -> None:
    checks = publish(server, file, check=None).checks
    assert [check.passed for check in checks if "answer" in check.name or "prompt" in check.name] == [None]
    assert not server.asked("/api/chat")


def test_prompt_that_spells_a_control_token_is_not_compared(server: Scripted, file: Path) -> None:
    def here(file: Path, prompts: Any, **_: Any) -> tuple[Expected, ...]:
        return tuple(replace(HERE, plain="<|im_end|>" not in prompt[-1].content) for prompt in prompts)

    publish(server, file, prompts=[(Message("user", "hi <|im_end|>"),)], check=here)
    asked = [seen.body["messages"] for seen in server.asked("/api/chat")]
    assert asked.count([{"role": "user", "content": "What is the capital of France?"}]) == 2 and "im_end" not in str(asked)


def test_system_prompt_and_examples_are_put_together_as_ollama_does(server: Scripted, file: Path) -> None:
    given: list[Any] = []

    def here(file: Path, prompts: Any, **_: Any) -> tuple[Expected, ...]:
        given.extend([message.role for message in prompt] for prompt in prompts)
        return asked_here(file, prompts)

    examples = (Message("user", "x"), Message("assistant", "y"))
    own = [(Message("system", "mine"), Message("user", "q"))]
    publish(server, file, parts=replace(PARTS, messages=examples), prompts=own, check=here)
    assert given == [["user", "assistant", "system", "user"], ["system", "user", "assistant", "user"]]


# How near is near enough


def told(*pairs: tuple[str, float], text: str | None = None) -> answers.Told:
    return answers.Told("".join(word for word, _ in pairs) if text is None else text, pairs, 9, PROMPT)


def passes(here: Expected, there: answers.Told, stops: Sequence[str] = ()) -> Check:
    return answers.compared("m", here, there, stops)[-1]


def test_nearer_one_of_the_two_computations_counts() -> None:
    here = replace(HERE, answers=(answer("a", logprob=-0.1), answer("a", logprob=-2.0)))
    assert passes(here, told(("a", -2.0))).value == 0 and passes(here, told(("a", -0.1))).value == 0


def test_noise_of_the_file_itself_widens_the_limits_but_not_without_end() -> None:
    assert answers.limits(HERE).most == answers.MOST_NATS
    wide = replace(HERE, answers=(answer("a", logprob=-0.1), answer("a", logprob=-0.3)))
    assert answers.limits(wide).most == pytest.approx(0.6)
    wild = replace(HERE, answers=(answer("a", logprob=-0.1), answer("b", logprob=-9.0)))
    assert answers.limits(wild).most == answers.CAP * answers.MOST_NATS


def test_near_tie_may_fall_otherwise_and_a_clear_choice_may_not() -> None:
    near = Answer((Token(b"yes", -0.7, (("yes", -0.7), ("no", -0.8))),), ended=False)
    clear = Answer((Token(b"yes", -0.1, (("yes", -0.1), ("no", -3.0))),), ended=False)
    assert passes(replace(HERE, answers=(near, near)), told(("no", -0.75))).value == pytest.approx(0.1)
    with pytest.raises(errors.ModelInvalid, match="2.90 nats behind"):
        passes(replace(HERE, answers=(clear, clear)), told(("no", -3.0)))


def test_mean_counts_only_over_several_tokens() -> None:
    many = replace(HERE, answers=(answer(*"abcd"), answer(*"abcd")))
    assert passes(HERE, told(("Pa", -0.6), ("ris", -0.6))).passed
    with pytest.raises(errors.ModelInvalid, match="0.10 nats away"):
        passes(many, told(*((letter, -0.6) for letter in "abcd")))


def test_same_words_of_other_weights_are_found_out() -> None:
    sure = replace(HERE, answers=(answer("a", logprob=-0.01), answer("a", logprob=-0.01)))
    with pytest.raises(errors.ModelInvalid, match="nats away"):
        passes(sure, told(("a", -0.9)))


def test_stops_white_space_and_parts_of_characters_make_no_difference() -> None:
    emoji = "🦊".encode()
    parts = Answer(tuple(Token(raw, -0.1, ()) for raw in (b" a", emoji[:2], emoji[2:], b"END", b"more")), ended=False)
    here = replace(HERE, answers=(parts, parts))
    assert passes(here, told((" a", -0.1), ("🦊", -0.3), text="a🦊"), ["END"]).passed


def test_answer_that_no_prompt_can_be_made_for_says_not_checked() -> None:
    checks = answers.compared("m", Expected(refused="too long"), told(("a", 0.0)), ())
    assert {check.passed for check in checks} == {None} and "too long" in checks[-1].note


# The file's own answers


def test_file_is_asked_both_ways_and_adds_up(file: Path) -> None:
    chatml = (Message("user", "hello"),)
    (found, again) = greedy.expected(file, [chatml, (Message("user", "x" * 2000),)], context=512)
    assert found.text.startswith("<|im_start|>user\nhello<|im_end|>") and found.plain and found.prompt_tokens > 5
    assert len(found.answers) == 2 and "too long" in again.refused and again.answers == ()
    for one in found.answers:
        assert 0 < len(one.tokens) <= greedy.TOKENS and all(token.logprob == token.listed[0][1] for token in one.tokens)
    assert passes(found, answers.Told("", tuple((t.text, t.logprob) for t in found.answers[0].tokens), found.prompt_tokens)).passed


def test_control_tokens_in_a_message_are_told(file: Path) -> None:
    assert not greedy.expected(file, [(Message("user", "a<|im_end|>b"),)])[0].plain


def test_damaged_file_is_an_error_and_nothing_is_sent(server: Scripted, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])
    refused(server, file, errors.ModelInvalid, "model-F32.gguf", check=greedy.expected)
    assert not server.asked("/api/create")


def test_model_of_no_numbers_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(errors.ModelInvalid, match="no numbers"):
        greedy.expected(tiny_gguf.bpe_model(tmp_path / "nan.gguf", nan=True), [(Message("user", "hi"),)])
