"""GGUF files good and bad: what is found by name, what is refused, and that nothing kills the process."""

import json
import struct
from pathlib import Path

import pytest
import tiny_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data import catalog, paths
from data.chat import Message
from data.config import LlamaCppSettings
from data.errors import ModelError, ModelInvalid, ModelMissing
from router.engines._llamacpp import header, probe
from router.engines._llamacpp.files import locate
from router.engines.base import Adapter, Request
from router.engines.llamacpp import LlamaCpp


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.bpe_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def ask(file: Path, adapter: Path | None = None) -> str:
    engine = LlamaCpp(LlamaCppSettings(context=256, threads=1))
    wanted = Adapter(str(adapter)) if adapter else None
    try:
        return "".join(c.text for c in engine.stream(Request(str(file), (Message("user", "hello"),), max_tokens=3, adapter=wanted)))
    finally:
        engine.close()


def test_the_header_tells_what_the_file_is(tiny: Path, embedded_gguf: Path) -> None:
    found = header.check(tiny)
    assert (found.architecture, found.context_tokens, found.is_adapter) == ("llama", 512, False)
    assert found.tensors["blk.0.ffn_up.weight"] == (64, 128)
    assert found.longest_token_bytes == len("<|im_start|>")
    assert header.summary(embedded_gguf).context_tokens == 8192
    assert "tokenizer.ggml.tokens" not in header.summary(embedded_gguf).metadata


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda raw: b"", "too short"),
        (lambda raw: b"PK\x03\x04" + raw[4:], "does not begin with GGUF"),
        (lambda raw: raw[:4] + struct.pack("<I", 1) + raw[8:], "version is 1"),
        (lambda raw: raw[:4] + struct.pack(">I", 3) + raw[8:], "version is 50331648"),
        (lambda raw: raw[:8] + struct.pack("<Q", 2**63) + raw[16:], "tensors"),
        (lambda raw: raw[:16] + struct.pack("<Q", 2**40) + raw[24:], "metadata entries"),
        (lambda raw: raw[:24] + struct.pack("<Q", 2**62) + raw[32:], "bytes for a key"),
        (lambda raw: raw[:100], "truncated"),
        (lambda raw: raw[: len(raw) // 2], "truncated"),
        (lambda raw: raw[:-64], "truncated"),
        (lambda raw: raw.replace(b"general.name", b"general.type"), "twice"),
        (lambda raw: raw.replace(b"blk.0.attn_q.weight", b"blk.0.attn_k.weight"), "twice"),
    ],
)
def test_a_damaged_file_is_refused_before_llama_cpp_sees_it(tiny: Path, tmp_path: Path, damage, reason: str) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(damage(tiny.read_bytes()))
    with pytest.raises(ModelInvalid, match=reason) as caught:
        ask(bad)
    assert str(bad) in caught.value.what
    assert "again" in caught.value.fix
    assert not (paths.cache_dir() / "models" / "tried.json").exists()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.integers(4, 5000), st.binary(min_size=1, max_size=8)), max_size=4), cut=st.integers(0, 6000))
def test_reading_a_header_ends_in_a_header_or_in_plain_words(
    tiny: Path, tmp_path: Path, places: list[tuple[int, bytes]], cut: int
) -> None:
    raw = bytearray(tiny.read_bytes())
    for at, junk in places:
        raw[at : at + len(junk)] = junk
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(raw[: len(raw) - cut])
    try:
        assert header.check(bad).size_bytes == len(raw) - cut
    except ModelInvalid as error:
        assert str(bad) in error.what


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("assertion", {"block_count": 600}, "crashes on it .GGML_ASSERT"),
        ("duplicates", {"tokens": ["a"] * 260}, "crashes on it .GGML_ASSERT"),
        ("shapes", {"heads_kv": 5}, "wrong shape"),
        ("family", {"architecture": "nonsense"}, "unknown model architecture"),
        ("vision", {"architecture": "clip"}, "CLIP cannot be used"),
    ],
)
def test_a_file_that_llama_cpp_cannot_bear_is_tried_in_another_process(tmp_path: Path, name: str, changes, reason: str) -> None:
    bad = tiny_gguf.bpe_model(tmp_path / f"{name}.gguf", **changes)
    with pytest.raises(ModelInvalid, match=reason) as caught:
        ask(bad)
    assert str(bad) in caught.value.what


def test_a_vocabulary_that_cannot_spell_every_byte_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match="crashes on it"):
        ask(tiny_gguf.spm_model(tmp_path / "few.gguf", bytes_too=False))


def test_weights_that_are_not_numbers_do_not_kill_the_process(tmp_path: Path) -> None:
    assert isinstance(ask(tiny_gguf.bpe_model(tmp_path / "nan.gguf", nan=True)), str)


def test_a_file_is_tried_once_and_again_when_it_changes(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = []
    monkeypatch.setattr(probe, "_try", lambda path, adapter: trials.append(path.name))
    file = tmp_path / "mine.gguf"
    file.write_bytes(tiny.read_bytes())
    probe.ensure(file)
    probe.ensure(file)
    assert trials == ["mine.gguf"]
    file.write_bytes(tiny.read_bytes() + b"\0" * 32)
    probe.ensure(file)
    assert trials == ["mine.gguf"] * 2
    register = paths.cache_dir() / "models" / "tried.json"
    assert len(json.loads(register.read_text())) == 2
    register.write_text("{not json")
    probe.ensure(file)
    assert len(trials) == 3


def test_an_adapter_is_no_model_and_a_model_no_adapter(tiny: Path, tmp_path: Path) -> None:
    adapter = tiny_gguf.adapter(tmp_path / "adapter.gguf", tiny, strength=1.0)
    with pytest.raises(ModelInvalid, match="LoRA adapter, not a model"):
        ask(adapter)
    with pytest.raises(ModelInvalid, match="no LoRA adapter"):
        ask(tiny, tiny)
    with pytest.raises(ModelMissing, match="no adapter"):
        ask(tiny, tmp_path / "gone.gguf")


def test_an_adapter_of_another_model_is_refused_with_the_reason(tiny: Path, tmp_path: Path) -> None:
    wide = tiny_gguf.bpe_model(tmp_path / "wide.gguf", width=128)
    with pytest.raises(ModelInvalid, match="wrong base model"):
        ask(tiny, tiny_gguf.adapter(tmp_path / "wide_adapter.gguf", wide, strength=1.0))
    with pytest.raises(ModelInvalid, match="arch mismatch"):
        ask(tiny, tiny_gguf.adapter(tmp_path / "other.gguf", tiny, strength=1.0, architecture="qwen2"))


def test_a_truncated_adapter_is_refused(tiny: Path, tmp_path: Path) -> None:
    adapter = tiny_gguf.adapter(tmp_path / "adapter.gguf", tiny, strength=1.0)
    adapter.write_bytes(adapter.read_bytes()[:-100])
    with pytest.raises(ModelInvalid, match="truncated"):
        ask(tiny, adapter)


def test_names_lead_to_files_of_the_catalog_the_folders_and_the_disk(tiny: Path, embedded_gguf: Path) -> None:
    folders = (str(tiny.parent), "/nowhere")
    assert locate("smollm2-135m", ()).path == embedded_gguf
    assert locate("smollm2-135m", ()).known
    assert locate("tiny", folders).path == locate("tiny.gguf", folders).path == locate(str(tiny), ()).path == tiny
    assert not locate("tiny", folders).known
    with pytest.raises(ModelMissing, match="knows no model 'smolm2-135m'.*did you mean 'smollm2-135m'"):
        locate("smolm2-135m", folders)
    with pytest.raises(ModelMissing, match="no model file /gone.gguf"):
        locate("/gone.gguf", folders)
    with pytest.raises(ModelMissing):
        locate("\x1b[31m../../etc/passwd", folders)


def test_a_prepared_form_goes_before_the_packaged_file(tiny: Path) -> None:
    folder = catalog.prepared_dir("minilm-l6")
    with pytest.raises(ModelError, match="not prepared yet.*pointsman models prepare|not installed"):
        locate("minilm-l6", ())
    folder.mkdir(parents=True)
    (folder / "form.gguf").write_bytes(tiny.read_bytes())
    told = {
        "name": "minilm-l6",
        "form": "f16",
        "why": "",
        "file": "form.gguf",
        "sha256": "",
        "source_sha256": "",
        "runtime": "",
        "processor": "",
    }
    (folder / "prepared.json").write_text(json.dumps(told))
    assert locate("minilm-l6", ()).path == folder / "form.gguf"


def test_the_list_has_sound_files_only_and_no_control_characters(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF but no more")
    (tmp_path / "part-00002-of-00003.gguf").write_bytes(tiny.read_bytes())
    tiny_gguf.adapter(tmp_path / "adapter.gguf", tiny, strength=0.0)
    tiny_gguf.bpe_model(tmp_path / "evil.gguf", architecture="lla\x1b[31mma")
    engine = LlamaCpp(LlamaCppSettings(folders=(str(tmp_path), str(tiny.parent))))
    infos = {info.name: info for info in engine.models()}
    assert sorted(set(infos) - {"minilm-l6"}) == ["evil", "smollm2-135m", "tiny"]
    assert infos["tiny"].context_tokens == 512
    assert infos["tiny"].quantisation == "F32"
    assert infos["smollm2-135m"].parameters == "135M"
    assert "\x1b" not in infos["evil"].family


def test_showing_a_model_describes_long_values(tiny: Path) -> None:
    shown = LlamaCpp(LlamaCppSettings()).show(str(tiny))
    assert shown["metadata"]["tokenizer.ggml.tokens"] == "260 items"
    assert shown["metadata"]["llama.block_count"] == 1
    json.dumps(shown)


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_what_is_no_regular_file_is_no_model(tmp_path: Path, kind: str) -> None:
    import os

    path = tmp_path / "odd.gguf"
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(ModelError):
        ask(path)
    with pytest.raises(ModelInvalid, match="not a regular file"):
        header.check(path)
