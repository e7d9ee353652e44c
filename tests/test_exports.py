"""Exported models by name: what is listed, what answers, and what is refused."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import exported
import pytest
import tiny_gguf
from command_line import run

from data import exports
from data.chat import Message
from data.config import LlamaCppSettings, Sampling, Settings
from data.errors import EngineRejected, InputError, ModelInvalid, ModelMissing, NotFound
from router.engines import Engines
from router.engines._llamacpp import digests
from router.engines.base import Adapter, Request
from router.engines.llamacpp import LlamaCpp
from router.engines.structure import Literal, Select, Series, Structure

GREEDY = Sampling(temperature=0, repeat_penalty=1.0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.bpe_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf", context=1024)


@pytest.fixture(scope="module")
def lora(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.adapter(tmp_path_factory.mktemp("lora") / "lora.gguf", tiny, strength=1.0)


@pytest.fixture
def triage(tiny: Path, lora: Path) -> Path:
    """An export of an adapter for the model `tiny`, with another model of random weights for its merged one."""
    other = tiny_gguf.bpe_model(lora.with_name("merged.gguf"), context=1024, seed=5)
    return exported.folder("triage", base=tiny, reference="llamacpp/tiny", adapter=lora, model=other)


@pytest.fixture
def engine(tiny: Path) -> Iterator[LlamaCpp]:
    engine = LlamaCpp(LlamaCppSettings(context=1024, threads=1, batch=64, folders=(str(tiny.parent),)))
    yield engine
    engine.close()


@pytest.fixture(autouse=True)
def trials(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is tried in a child process before its first use, without the child."""
    tried: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "router.engines._llamacpp.probe.ensure",
        lambda path, adapter=None: tried.append((path.name, adapter.name if adapter else "")),
    )
    return tried


def request(model: str, text: str = "hello", **more) -> Request:
    return Request(model, (Message("user", text),), sampling=GREEDY, max_tokens=12, **more)


def said(engine: LlamaCpp, wanted: Request) -> str:
    return "".join(chunk.text for chunk in engine.stream(wanted))


def change(place: Path, **changes) -> None:
    file = place / exports.FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_an_export_is_offered_as_its_merged_model_and_as_its_base_with_the_adapter(triage: Path, engine: LlamaCpp) -> None:
    listed = {info.reference: info for info in engine.models()}
    merged, attached, base = (listed[f"llamacpp/{name}"] for name in ("triage", "tiny+triage", "tiny"))
    assert merged.source == str(triage / "model-F32.gguf")
    assert attached.source == str(triage / "adapter.gguf")
    assert attached.size_bytes == base.size_bytes + (triage / "adapter.gguf").stat().st_size
    assert (attached.context_tokens, attached.quantisation) == (base.context_tokens, "F32")


def test_both_names_answer_with_every_method_of_the_engine(tiny: Path, triage: Path, lora: Path, engine: LlamaCpp) -> None:
    by_hand = request("tiny", adapter=Adapter(str(lora)))
    wanted = request("tiny+triage")
    assert said(engine, wanted) == said(engine, by_hand) != said(engine, request("tiny"))
    assert said(engine, request("triage")) == said(engine, request(str(triage / "model-F32.gguf")))
    assert (
        engine.score(wanted, ["yes", "no"]) == engine.score(by_hand, ["yes", "no"]) != engine.score(request("tiny"), ["yes", "no"])
    )
    structure = Structure(Series((Literal("it is "), Select("said", ("yes", "no", "later"), ("yes", "no", "later")))), {})
    rows = [request("tiny+triage", f"row {n}") for n in range(3)]
    by_hands = [replace(row, model="tiny", adapter=by_hand.adapter) for row in rows]
    plain = [replace(row, model="tiny") for row in rows]
    found, same, other = (list(engine.complete(asked, structure)) for asked in (rows, by_hands, plain))
    assert [one.choices[0].log_probabilities for one in found] == [one.choices[0].log_probabilities for one in same]
    assert [one.choices[0].log_probabilities for one in found] != [one.choices[0].log_probabilities for one in other]
    assert engine.tokens("tiny+triage", "hello") == engine.tokens("tiny", "hello")
    assert engine.prompt_tokens("tiny+triage", wanted.messages) == engine.prompt_tokens("tiny", wanted.messages)
    assert engine.count("tiny+triage", wanted.messages) == engine.count("tiny", wanted.messages) > 0
    assert engine.standing("tiny+triage").loaded
    assert not engine.can_call("tiny+triage")


def test_preloading_a_base_with_an_adapter_computes_the_beginning_with_the_adapter(
    triage: Path, lora: Path, engine: LlamaCpp
) -> None:
    engine.preload("tiny+triage", "You are a clerk who sorts the post.")
    talk = (Message("system", "You are a clerk who sorts the post."), Message("user", "hello"))
    usage = list(engine.stream(replace(request("tiny+triage"), messages=talk)))[-1].usage
    assert usage.cached_tokens > 30
    engine.close()
    fresh = said(engine, replace(request("tiny", adapter=Adapter(str(lora))), messages=talk))
    engine.close()
    engine.preload("tiny+triage", "You are a clerk who sorts the post.")
    assert said(engine, replace(request("tiny+triage"), messages=talk)) == fresh


def test_an_export_is_there_as_soon_as_its_folder_is_and_gone_with_it(tiny: Path, lora: Path, engine: LlamaCpp) -> None:
    with pytest.raises(ModelMissing, match="knows no model"):
        said(engine, request("tiny+later"))
    before = said(engine, request("tiny"))
    place = exported.folder("later", base=tiny, reference="llamacpp/tiny", adapter=lora)
    assert said(engine, request("tiny+later")) != before
    assert "tiny+later" in [info.name for info in engine.models()]
    stronger = tiny_gguf.adapter(place / "new.gguf", tiny, strength=2.0, seed=3)
    first, version = said(engine, request("tiny+later")), engine.version("tiny+later")
    exported.folder("later", base=tiny, reference="llamacpp/tiny", adapter=stronger)
    assert said(engine, request("tiny+later")) != first
    assert engine.version("tiny+later") != version != ""
    shutil.rmtree(place)
    with pytest.raises(ModelMissing):
        said(engine, request("tiny+later"))
    assert said(engine, request("tiny")) == before


def test_an_export_json_is_read_once_for_each_of_its_states(
    triage: Path, engine: LlamaCpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.models()
    read = []
    real = exports.paths.read_text
    monkeypatch.setattr(exports.paths, "read_text", lambda path, *more: read.append(path) or real(path, *more))
    engine.models()
    said(engine, request("tiny+triage"))
    assert not read
    change(triage, domain="another")
    assert engine.show("triage")["export"]["domain"] == "another"
    assert len(read) == 1


def test_a_changed_adapter_file_is_refused_and_read_once_for_each_of_its_states(
    triage: Path, engine: LlamaCpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    real = digests._computed
    monkeypatch.setattr(digests, "_computed", lambda path, mark: computed.append(path.name) or real(path, mark))
    digests._known.clear()
    said(engine, request("tiny+triage"))
    said(engine, request("tiny+triage", "again"))
    assert sorted(computed) == ["adapter.gguf", "tiny.gguf"]
    digests._known.clear()  # another process finds them in the cache folder
    said(engine, request("tiny+triage"))
    assert len(computed) == 2
    file = triage / "adapter.gguf"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(ModelInvalid, match="adapter.gguf of the export triage was changed"):
        said(engine, request("tiny+triage"))


def test_a_changed_model_file_is_refused(triage: Path, engine: LlamaCpp) -> None:
    file = triage / "model-F32.gguf"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(ModelInvalid, match="was changed"):
        said(engine, request("triage"))
    file.write_bytes(raw[:-8])
    with pytest.raises(ModelInvalid, match="bytes, and the export wrote"):
        said(engine, request("triage"))
    file.unlink()
    with pytest.raises(ModelMissing, match="lacks its file"):
        said(engine, request("triage"))
    assert "triage" not in [info.name for info in engine.models()]


def test_an_adapter_is_attached_to_no_other_base_than_its_own(tiny: Path, triage: Path, engine: LlamaCpp, tmp_path: Path) -> None:
    other = tiny_gguf.bpe_model(tmp_path / "other.gguf", context=1024, seed=8)
    with pytest.raises(ModelInvalid, match="made for the base, and .* is another model: .*other.gguf has sha256"):
        said(engine, request(f"{other}+triage"))
    with pytest.raises(ModelInvalid, match="smollm2-135m is another model"):
        said(engine, request("smollm2-135m+triage"))
    with pytest.raises(ModelMissing):
        said(engine, request("nobody+triage"))
    with pytest.raises(ModelInvalid, match="has an adapter already"):
        said(engine, request("tiny+triage+triage"))
    assert said(engine, request(f"{tiny}+triage")) == said(engine, request("tiny+triage"))


def test_a_second_adapter_and_sentence_vectors_are_refused_for_a_name_with_an_adapter(triage: Path, engine: LlamaCpp) -> None:
    with pytest.raises(EngineRejected, match="has an adapter already"):
        said(engine, request("tiny+triage", adapter=Adapter(str(triage / "adapter.gguf"), 0.5)))
    with pytest.raises(EngineRejected, match="no sentence vectors"):
        engine.embed(["hello"], "tiny+triage")


def test_the_adapter_of_the_embedded_model_is_known_by_the_digest_of_its_source(embedded_gguf: Path, tmp_path: Path) -> None:
    lora = tiny_gguf.adapter(tmp_path / "small.gguf", embedded_gguf, strength=0.05)
    exported.folder("small", base=embedded_gguf, reference="llamacpp/smollm2-135m", adapter=lora)
    engine = LlamaCpp(LlamaCppSettings(context=512, threads=1))
    assert engine.standing("smollm2-135m+small").load_s > 0
    listed = next(info for info in engine.models() if info.name == "smollm2-135m+small")
    assert (listed.family, listed.parameters) == ("llama", "135M")
    assert "export" in engine.show("smollm2-135m+small")
    engine.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / exports.FILE).write_text("{"),
        lambda place: (place / exports.FILE).write_bytes(b"\xff\xfe\x00"),
        lambda place: (place / exports.FILE).write_text("[" * 100_000),
        lambda place: change(place, files=[{"name": "../../etc/passwd", "kind": "model", "bytes": 1, "sha256": ""}]),
        lambda place: change(place, surprise=True),
        lambda place: change(place, version=2),
    ],
)
def test_a_damaged_export_breaks_no_listing_and_says_what_is_wrong(triage: Path, engine: LlamaCpp, damage) -> None:
    damage(triage)
    assert "tiny" in [info.name for info in engine.models()]
    assert not [info.name for info in engine.models() if "triage" in info.name]
    assert list(exports.found()) == []
    with pytest.raises(InputError, match=r"export\.json"):
        exports.read(triage)
    for name in ("triage", "tiny+triage"):
        with pytest.raises(ModelInvalid, match=r"export\.json"):
            said(engine, request(name))


def test_an_export_that_failed_a_check_of_the_file_is_not_used(triage: Path, engine: LlamaCpp) -> None:
    change(triage, checks=[{"name": "ends by itself", "of": "model-F32.gguf", "passed": False}])
    with pytest.raises(ModelInvalid, match="failed its check 'ends by itself'"):
        said(engine, request("triage"))
    assert said(engine, request("tiny+triage"))
    assert [info.name for info in engine.models() if "triage" in info.name] == ["tiny+triage"]
    change(triage, checks=[{"name": "tokens", "passed": False}])
    assert not [info.name for info in engine.models() if "triage" in info.name]
    assert not exports.read(triage).passed


def test_an_export_without_a_model_or_without_an_adapter_offers_the_other(tiny: Path, lora: Path, engine: LlamaCpp) -> None:
    exported.folder("only-adapter", base=tiny, reference="llamacpp/tiny", adapter=lora)
    exported.folder("only-model", base=tiny, model=tiny)
    assert [info.name for info in engine.models() if "only" in info.name] == ["tiny+only-adapter", "only-model"]
    with pytest.raises(ModelMissing, match="no model of the form"):
        said(engine, request("only-adapter"))
    with pytest.raises(ModelMissing, match="no adapter"):
        said(engine, request("tiny+only-model"))


@pytest.mark.parametrize(
    "name", ["../triage", "tiny+../triage", "triage/", "tiny+", "+triage", "+", "tri\0age", "\x1b[31m+x", "." * 300]
)
def test_hostile_names_are_no_models(triage: Path, engine: LlamaCpp, name: str) -> None:
    with pytest.raises(ModelMissing) as caught:
        said(engine, request(name))
    assert "\x1b" not in caught.value.what


def test_a_file_by_the_name_of_an_export_and_a_path_with_a_plus_are_told_apart(
    tiny: Path, triage: Path, engine: LlamaCpp, tmp_path: Path
) -> None:
    path = tmp_path / "a+triage.gguf"
    shutil.copyfile(tiny, path)
    assert said(engine, request(str(path))) == said(engine, request("tiny"))


def test_what_is_no_export_is_told_apart_from_a_damaged_one(triage: Path) -> None:
    (triage / exports.FILE).unlink()
    with pytest.raises(NotFound, match="is no export"):
        exports.read(triage)
    assert list(exports.found()) == []
    assert list(exports.found(triage / "nowhere")) == []


def test_a_stranger_s_export_is_tried_before_it_is_used(triage: Path, engine: LlamaCpp, trials: list[tuple[str, str]]) -> None:
    said(engine, request("triage"))
    assert trials == [("model-F32.gguf", "")]
    said(engine, request("tiny+triage"))
    said(engine, request("tiny+triage", "again"))
    assert trials[1:] == [("tiny.gguf", ""), ("tiny.gguf", "adapter.gguf")]


def test_a_name_without_its_engine_is_found(tiny: Path, triage: Path) -> None:
    engines = Engines(Settings(llamacpp=LlamaCppSettings(folders=(str(tiny.parent),))))
    assert engines.resolve("triage").reference == "llamacpp/triage"
    assert engines.resolve("tiny+triage").reference == "llamacpp/tiny+triage"
    assert engines.resolve("llamacpp/tiny+triage").model == "tiny+triage"
    engines.close()


def test_models_list_and_show_tell_of_exports(tiny: Path, triage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_LLAMACPP__FOLDERS", f"['{tiny.parent}']")
    listed = json.loads(run("models", "list", "--json").out)["models"]
    assert {"llamacpp/triage", "llamacpp/tiny+triage"} <= {model["reference"] for model in listed}
    assert "llamacpp/tiny+triage" in run("models", "list").out
    told = json.loads(run("models", "show", "tiny+triage", "--json").out)
    assert told["export"]["checks"] == {"merge": "passed", "ollama": "not checked"}
    assert (told["path"], told["base"]["path"]) == (str(triage / "adapter.gguf"), str(tiny))
    assert "export.checks.merge: passed" in run("models", "show", "triage").out


def test_a_question_can_name_an_adapter_on_the_command_line(tiny: Path, triage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_LLAMACPP__FOLDERS", f"['{tiny.parent}']")
    ran = run("ask", "--model", "tiny+triage", "--temperature", "0", "--json", "hello")
    assert json.loads(ran.out)["model"] == "llamacpp/tiny+triage"
