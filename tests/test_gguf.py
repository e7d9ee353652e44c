"""Writing a checkpoint as GGUF: what is refused and why, and that nothing half-written stays behind."""

import json
import shutil
import struct
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import gguf as gguf_package
import tiny_checkpoints
from safetensors.numpy import load_file, save_file

from data.errors import EngineUnavailable, InputError, ModelInvalid, ModelMissing, PointsmanError
from export import converter, gguf
from export._gguf import pretokenizer, sentencepiece, special, tensors, vocabulary
from export._gguf.checkpoint import Folder
from export.families import of_config
from router.engines._llamacpp import header


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("checkpoints")
    return {
        "llama": tiny_checkpoints.checkpoint(home / "llama", "llama", tie_word_embeddings=True),
        "spm": tiny_checkpoints.checkpoint(home / "spm", "llama", spm=True),
        "gemma2": tiny_checkpoints.checkpoint(home / "gemma2", "gemma2", spm=True, query_pre_attn_scalar=8),
        "phi3": tiny_checkpoints.checkpoint(home / "phi3", "phi3", spm=True),
    }


@pytest.fixture
def llama(originals: dict[str, Path], tmp_path: Path) -> Path:
    return copied(originals, "llama", tmp_path)


@pytest.fixture
def spm(originals: dict[str, Path], tmp_path: Path) -> Path:
    return copied(originals, "spm", tmp_path)


def copied(originals: dict[str, Path], name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals[name], tmp_path / name))


def refused(checkpoint: Path, words: str, kind: type[PointsmanError] = ModelInvalid, form: str = "F16") -> PointsmanError:
    """The error with which writing is refused; neither the target nor a temporary file is left."""
    target = checkpoint.parent / "out" / "model.gguf"
    with pytest.raises(kind, match=words) as caught:
        gguf.write(checkpoint, target, form)
    assert not target.parent.exists() or not list(target.parent.iterdir())
    return caught.value


def metadata(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf_package.GGUFReader(path).fields.items()}


def weights(checkpoint: Path, **changes: np.ndarray | None) -> None:
    """Change tensors of the checkpoint; None removes one. Dots of names are written as __."""
    found = load_file(checkpoint / "model.safetensors")
    found |= {name.replace("__", "."): values for name, values in changes.items()}
    save_file({name: values for name, values in found.items() if values is not None}, checkpoint / "model.safetensors")


def test_a_written_file_says_what_it_is(llama: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    written = gguf.write(llama, tmp_path / "model.gguf", "F16", name="my own", tell=lines.append)
    found = header.check(written.path)
    assert (written.architecture, written.tensors, written.converted) == ("llama", len(found.tensors), False)
    assert written.size_bytes == found.size_bytes
    assert found.text("general.name") == "my own"
    assert len(lines) == written.tensors
    assert "token_embd.weight" in " ".join(lines)


def test_the_same_checkpoint_gives_the_same_bytes(llama: Path, tmp_path: Path) -> None:
    one, two = gguf.write(llama, tmp_path / "1.gguf").path, gguf.write(llama, tmp_path / "2.gguf").path
    assert one.read_bytes() == two.read_bytes()


def test_parts_of_a_tensor_make_the_whole(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gguf.write(llama, tmp_path / "whole.gguf", "Q8_0").path.read_bytes()
    monkeypatch.setattr(tensors, "PART_BYTES", 1000)  # some eight rows
    assert gguf.write(llama, tmp_path / "parts.gguf", "Q8_0").path.read_bytes() == whole


def test_a_checkpoint_in_parts_is_as_one_in_a_single_file(llama: Path, tmp_path: Path) -> None:
    single = gguf_package.GGUFReader(gguf.write(llama, tmp_path / "single.gguf").path)
    tiny_checkpoints.split_weights(llama)
    parts = gguf_package.GGUFReader(gguf.write(llama, tmp_path / "parts.gguf").path)
    assert {one.name: one.data.tobytes() for one in single.tensors} == {one.name: one.data.tobytes() for one in parts.tensors}


def test_rows_that_do_not_suit_q8_are_told(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoints.checkpoint(tmp_path / "odd", intermediate_size=48)
    written = gguf.write(checkpoint, tmp_path / "odd.gguf", "Q8_0")
    assert [(one.tensor, one.wanted, one.used) for one in written.fallbacks] == [
        (f"blk.{block}.ffn_down.weight", "Q8_0", "F16") for block in (0, 1)
    ]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", b"{", "config.json is not sound JSON"),
        ("config.json", b"[]", "config.json is no table"),
        ("config.json", b"[" * 100_000, "config.json is not sound JSON"),
        ("config.json", b"\xff\xfe", "config.json is not UTF-8"),
        ("tokenizer.json", b"{}", "tokenizer.model"),
        ("tokenizer.json", b'{"model": {"type": "BPE", "vocab": 7}, "pre_tokenizer": {"type": "ByteLevel"}}', "no vocabulary"),
        ("tokenizer.json", b'{"added_tokens": [{"id": -1, "content": "x"}], "model": {}}', "tokenizer"),
        ("tokenizer_config.json", b"nope", "tokenizer_config.json is not sound JSON"),
        ("tokenizer_config.json", b'{"chat_template": 7}', "no chat template"),
        ("generation_config.json", b"nope", "generation_config.json is not sound JSON"),
        ("model.safetensors", b"short", "impossible length"),
        ("model.safetensors", struct.pack("<Q", 1 << 40) + b"{}", "impossible length"),
    ],
)
def test_a_damaged_file_is_named(llama: Path, file: str, content: bytes, words: str) -> None:
    (llama / file).write_bytes(content)
    refused(llama, words)


def test_a_truncated_weights_file_is_refused(llama: Path) -> None:
    path = llama / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(llama, "lies outside the file")


def test_missing_files_are_named_with_what_to_do(llama: Path, tmp_path: Path) -> None:
    (llama / "tokenizer.json").unlink()
    assert "copy the base model's tokenizer.json" in refused(llama, "no tokenizer").fix
    (llama / "model.safetensors").unlink()
    refused(llama, "no weights", ModelMissing)
    (llama / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    refused(llama, "pickles", ModelInvalid)
    (llama / "config.json").unlink()
    refused(llama, "no config.json", ModelMissing)
    (llama / "adapter_config.json").write_text("{}")
    refused(llama, "is an adapter", ModelInvalid)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({}, "names no tensors"),
        ({"weight_map": {"a": "../secret.safetensors"}}, "cannot be parts"),
        ({"weight_map": {"a": "/etc/passwd"}}, "cannot be parts"),
        ({"weight_map": {"a": 7}}, "cannot be parts"),
        ({"weight_map": {"a": "model-00001-of-00002.safetensors"}}, "lacks model-00001-of-00002"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(llama: Path, index: dict[str, object], words: str) -> None:
    (llama / "model.safetensors").unlink()
    (llama / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(llama, words)


def test_tensors_that_do_not_make_the_model_are_refused(llama: Path) -> None:
    found = load_file(llama / "model.safetensors")
    norm = found["model.norm.weight"]
    weights(llama, model__norm__weight=None)
    refused(llama, "lacks 1 tensors.*output_norm.weight")
    weights(llama, model__norm__weight=norm[:-1])
    refused(llama, "shape")
    weights(llama, model__norm__weight=norm.astype(np.int32))
    refused(llama, "I32 numbers")
    weights(llama, model__norm__weight=norm * np.nan)
    refused(llama, "not finite")
    weights(llama, model__norm__weight=norm, model__extra__weight=norm)
    refused(llama, "model.extra.weight")


def test_numbers_too_large_for_f16_are_refused_and_fit_into_bf16(llama: Path, tmp_path: Path) -> None:
    found = load_file(llama / "model.safetensors")["model.embed_tokens.weight"].copy()
    found[3, 3] = 1e6
    weights(llama, model__embed_tokens__weight=found)
    assert "BF16" in refused(llama, "too large for F16").fix
    assert gguf.write(llama, tmp_path / "model.gguf", "BF16").form == "BF16"


def test_a_failure_leaves_the_earlier_file(llama: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    target.write_bytes(b"earlier")
    weights(llama, model__norm__weight=np.full(32, np.inf, np.float32))
    with pytest.raises(ModelInvalid):
        gguf.write(llama, target)
    assert target.read_bytes() == b"earlier"
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["model.gguf"]


def test_a_full_disk_is_told_before_anything_is_written(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1 << 30, 1 << 30, 1000))
    refused(llama, "MB are needed", InputError)


def test_an_unknown_form_is_an_input_error(llama: Path) -> None:
    assert "F32, F16, BF16, Q8_0" in refused(llama, "Q4_K_M", InputError, form="Q4_K_M").fix


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_act": "relu"}, "activation"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised already"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"rope_parameters": {"rope_type": "llama3", "low_freq_factor": 4.0}}, "low_freq_factor"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "not of one kind"),
        ({"rope_parameters": {"rope_theta": "large"}}, "rope_theta"),
        ({"rms_norm_eps": -1}, "rms_norm_eps"),
        ({"max_position_embeddings": None}, "max_position_embeddings"),
        ({"vocab_size": 100}, "shape"),
        ({"num_hidden_layers": 3}, "lacks 9 tensors"),
        ({"num_hidden_layers": 1}, "model.layers.1"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(llama: Path, changes: dict[str, Any], words: str) -> None:
    config = json.loads((llama / "config.json").read_text()) | changes
    (llama / "config.json").write_text(json.dumps(config))
    refused(llama, words)


def test_gemma_that_scales_its_queries_otherwise_is_refused(originals: dict[str, Path], tmp_path: Path) -> None:
    gemma = copied(originals, "gemma2", tmp_path)
    tiny_checkpoints.change(gemma, "config.json", query_pre_attn_scalar=256)
    refused(gemma, "query_pre_attn_scalar|scales its queries")


def test_old_and_new_names_of_rope_mean_the_same(llama: Path, tmp_path: Path) -> None:
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    new = {"rope_type": "llama3", "rope_theta": 5e5}
    tiny_checkpoints.change(llama, "config.json", rope_parameters=scaling | new)
    gguf.write(llama, tmp_path / "new.gguf")
    old = {"rope_theta": 5e5, "rope_scaling": scaling | {"type": "llama3"}}
    tiny_checkpoints.change(llama, "config.json", rope_parameters=None, **old)
    gguf.write(llama, tmp_path / "old.gguf")
    assert (tmp_path / "new.gguf").read_bytes() == (tmp_path / "old.gguf").read_bytes()


@pytest.mark.parametrize("name", ["spm", "gemma2", "phi3"])
def test_a_missing_tokenizer_model_is_refused_with_the_fix(originals: dict[str, Path], tmp_path: Path, name: str) -> None:
    checkpoint = copied(originals, name, tmp_path)
    (checkpoint / "tokenizer.model").unlink()
    assert "copy tokenizer.model of the base model" in refused(checkpoint, "lacks tokenizer.model").fix


def test_a_tokenizer_model_of_another_model_is_refused(spm: Path) -> None:
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("▁the", 0.0, 1), ("e", -1.0, 1)]
    (spm / "tokenizer.model").write_bytes(tiny_checkpoints.sentencepiece_model(pieces))
    refused(spm, "differ: '▁the' has two numbers")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\xff" * 40,
        b"\x0a\x05\x0a\x7fab",
        b"\x0a\x04\x0a\x02\xff\xfe",
        b"\x08\x01",
        b"\x0a\x03\x15\x00\x00",
        b"\x0a\x02\x18\x09",
        b"\x0a\x05\x15\x00\x00\xc0\x7f",
        b"\x0b\x0b\x0b",
        b"\x12\x02\x1a\x00",
    ],
)
def test_a_hostile_tokenizer_model_is_refused(spm: Path, content: bytes) -> None:
    (spm / "tokenizer.model").write_bytes(content)
    refused(spm, "no usable SentencePiece model")


def test_a_tokenizer_model_cut_anywhere_is_no_crash(spm: Path, tmp_path: Path) -> None:
    whole = (spm / "tokenizer.model").read_bytes()
    for end in range(0, len(whole) - 12, 7):  # behind the pieces stand twelve bytes of settings
        (tmp_path / "cut").write_bytes(whole[:end])
        with pytest.raises(ModelInvalid):
            sentencepiece.read(tmp_path / "cut")


def test_a_unigram_vocabulary_is_refused(spm: Path) -> None:
    (spm / "tokenizer.model").write_bytes(tiny_checkpoints.sentencepiece_model([("a", 0.0, 1)], kind=1))
    refused(spm, "no BPE model")


def test_too_many_pieces_and_too_large_files_are_refused(spm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentencepiece, "MOST_PIECES", 10)
    refused(spm, "more than 10 pieces")
    monkeypatch.setattr(sentencepiece, "LARGEST_BYTES", 10)
    refused(spm, "larger than")


def test_a_space_that_the_tokenizer_does_not_put_before_a_text_is_not_put_there(spm: Path, tmp_path: Path) -> None:
    tiny_checkpoints.write_sentencepiece(spm, prefix=False)
    gguf.write(spm, tmp_path / "model.gguf")
    assert metadata(tmp_path / "model.gguf")["tokenizer.ggml.add_space_prefix"] is False


def test_the_template_of_its_own_file_counts_and_another_can_be_given(llama: Path, tmp_path: Path) -> None:
    assert special.chat_template(Folder(llama)) == tiny_checkpoints.CHATML
    (llama / "chat_template.json").write_text(json.dumps({"chat_template": "from json"}))
    assert special.chat_template(Folder(llama)) == "from json"
    (llama / "chat_template.jinja").write_text("from jinja")
    assert special.chat_template(Folder(llama)) == "from jinja"
    gguf.write(llama, tmp_path / "given.gguf", template="given")
    gguf.write(llama, tmp_path / "none.gguf", template="")
    assert metadata(tmp_path / "given.gguf")["tokenizer.chat_template"] == "given"
    assert "tokenizer.chat_template" not in metadata(tmp_path / "none.gguf")


def test_the_default_of_several_templates_is_written(llama: Path) -> None:
    several = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    tiny_checkpoints.change(llama, "tokenizer_config.json", chat_template=several)
    assert special.chat_template(Folder(llama)) == "plain"


def test_a_start_token_is_added_as_the_tokenizer_adds_it(tmp_path: Path) -> None:
    for adds in (True, False):
        checkpoint = tiny_checkpoints.checkpoint(tmp_path / str(adds), adds_bos=adds)
        found = metadata(gguf.write(checkpoint, tmp_path / f"{adds}.gguf").path)
        assert found["tokenizer.ggml.add_bos_token"] is adds


def test_embeddings_beyond_the_vocabulary_are_unused_tokens(llama: Path, tmp_path: Path) -> None:
    found = metadata(gguf.write(llama, tmp_path / "model.gguf").path)
    size = len(found["tokenizer.ggml.tokens"])
    assert found["tokenizer.ggml.tokens"][-3:] == [f"[PAD{number}]" for number in range(size - 3, size)]
    assert found["tokenizer.ggml.token_type"][-3:] == [5, 5, 5]
    assert found["tokenizer.ggml.token_type"][:5] == [3] * 5


@pytest.mark.parametrize(
    ("name", "strips", "kept"),
    [
        ("Phi-3.5-mini", True, "Phi-3.5-mini"),
        ("triage", True, "triage (phi-3)"),
        ("triage", False, "triage"),
        ("phi3-triage", False, "phi 3-triage"),
    ],
)
def test_a_name_by_which_llama_cpp_would_tokenise_otherwise_is_changed(
    originals: dict[str, Path], tmp_path: Path, name: str, strips: bool, kept: str
) -> None:
    checkpoint = copied(originals, "phi3", tmp_path)
    more = [{"id": number, "content": text, "special": True, "rstrip": strips} for number, text in ((373, "<|endoftext|>"),)]
    found = json.loads((checkpoint / "tokenizer.json").read_text())["added_tokens"] + more
    tiny_checkpoints.change(checkpoint, "tokenizer.json", added_tokens=found)
    assert special.model_name(Folder(checkpoint), name) == kept


def test_a_pre_tokenizer_is_known_by_what_it_says() -> None:
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    assert structure(words, ignore_merges=True) == "llama-bpe"
    assert structure(words.replace("{1,3}", "")) == "qwen2"
    for wrong in (structure(words), structure(words.replace("{1,3}", ""), ignore_merges=True), structure(r"\s+"), structure(7)):
        assert wrong == ""
    plain = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    assert pretokenizer._by_structure({"model": {}, "pre_tokenizer": plain}) == "gpt-2"
    assert pretokenizer._by_structure({"model": {}, "pre_tokenizer": plain, "normalizer": {"type": "Lowercase"}}) == ""
    assert pretokenizer._by_structure({"model": {}, "pre_tokenizer": plain | {"add_prefix_space": True}}) == ""


def structure(pattern: object, **model: object) -> str:
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return pretokenizer._by_structure({"model": model, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [cut, level]}})


def test_a_pre_tokenizer_that_llama_cpp_lacks_is_refused(llama: Path) -> None:
    tokenizer = json.loads((llama / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = False
    (llama / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused(llama, "cuts text in a way")


def test_the_published_vocabulary_of_smollm_is_known_by_its_hash(embedded_gguf: Path, tmp_path: Path) -> None:
    found = metadata(embedded_gguf)
    tokens, kinds = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    added = [{"id": number, "content": tokens[number], "special": True} for number, kind in enumerate(kinds) if kind == 3]
    for one in added:
        one |= {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": {text: number for number, text in enumerate(tokens)}, "merges": found["tokenizer.ggml.merges"]}
    tokenizer = {
        "version": "1.0",
        "added_tokens": added,
        "model": model,
        "normalizer": None,
        "post_processor": None,
        "decoder": None,
    }
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, level]}
    digest = pretokenizer._digest(json.dumps(tokenizer))
    assert pretokenizer.KNOWN[digest] == "smollm"


def test_words_of_the_vocabulary_may_not_share_a_number(llama: Path) -> None:
    tokenizer = json.loads((llama / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["!"] = tokenizer["model"]["vocab"]["a"]
    (llama / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused(llama, "has tokens up to number")


@pytest.mark.parametrize("merges", [None, [["a"]], [7], {"a": "b"}])
def test_merges_that_are_none_are_refused(llama: Path, merges: object) -> None:
    tokenizer = json.loads((llama / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = merges
    with pytest.raises(ModelInvalid, match="merges"):
        vocabulary._byte_level(Folder(llama), of_config(Folder(llama).json("config.json")), tokenizer)


def test_another_architecture_asks_for_llama_cpps_converter(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CPP_DIR", raising=False)
    tiny_checkpoints.change(llama, "config.json", architectures=["StableLmForCausalLM"])
    assert f"pip download --no-deps --no-binary {converter.PACKAGE}" in refused(llama, "converter", EngineUnavailable).fix
