"""Merging an adapter in GGUF into a base in GGUF: the same answers as with the adapter attached, and all else as in the base."""

import os
import shutil
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tiny_adapters
import tiny_gguf
from gguf.quants import dequantize
from tiny_adapters import distance, llama_logits

from data.errors import InputError, ModelInvalid, ModelMissing, PointsmanError
from export import join as joining
from export._adapter import rewriting
from export.join import join
from export.quantise import quantise
from router.engines._llamacpp import content, header
from router.engines._llamacpp.content import Content

WIDTH = 256  # rows that suit K-quants
Q = "blk.0.attn_q.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("base") / "F32.gguf"
    return tiny_gguf.bpe_model(file, width=WIDTH, scale=0.1, template="{{ messages }} é \N{GRINNING FACE}")


@pytest.fixture(scope="module")
def lora(base: Path) -> Path:
    return tiny_gguf.adapter(base.with_name("lora.gguf"), base, strength=0.2, rank=4)


def tensors(file: Path) -> dict[str, np.ndarray[Any, Any]]:
    return {one.name: dequantize(one.data, one.tensor_type) for one in gguf.GGUFReader(file).tensors}


def kinds(file: Path) -> dict[str, str]:
    return {one.name: one.tensor_type.name for one in gguf.GGUFReader(file).tensors}


def wanted(base: Path, lora: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The numbers that must come out, by the definition."""
    found, added = tensors(base), tensors(lora)
    for name in found:
        if f"{name}.lora_a" in added:
            b, a = added[f"{name}.lora_b"], added[f"{name}.lora_a"]
            found[name] = found[name] + 2.0 / b.shape[1] * (b.astype(np.float64) @ a)
    return found


@pytest.mark.parametrize("form", ["F32", "F16"])
def test_the_joined_model_answers_as_the_base_with_its_adapter(base: Path, lora: Path, tmp_path: Path, form: str) -> None:
    attached = llama_logits(base, lora)
    assert distance(attached, llama_logits(base))[0] > 0.01
    made = join(base, lora, tmp_path / "joined.gguf", form)
    kl, same = distance(attached, llama_logits(made))
    assert kl < {"F32": 1e-10, "F16": 1e-5}[form]
    assert same == 1


@pytest.mark.parametrize("quantised", ["F16", "Q8_0", "Q4_0", "IQ4_NL", "Q4_K_M", "Q5_K_M", "Q6_K"])
def test_every_quantised_base_is_merged_with_the_numbers_it_stands_for(
    base: Path, lora: Path, tmp_path: Path, quantised: str
) -> None:
    source = tmp_path / "base.gguf"
    quantise(base, source, quantised)
    made = join(source, lora, tmp_path / "joined.gguf", "F32")
    found = tensors(made)
    for name, values in wanted(source, lora).items():
        assert np.allclose(found[name], values, rtol=1e-6, atol=1e-6), name
        assert np.array_equal(found[name], values) or name == Q
    half = join(source, lora, tmp_path / "half.gguf")
    assert {kind for name, kind in kinds(half).items() if not name.endswith("norm.weight")} == {"F16"}
    assert distance(llama_logits(made), llama_logits(half))[0] < 1e-5


def test_metadata_and_tokenizer_are_copied_byte_for_byte(base: Path, lora: Path, tmp_path: Path) -> None:
    source, made = tmp_path / "base.gguf", tmp_path / "joined.gguf"
    quantise(base, source, "Q4_K_M")
    join(source, lora, made)
    with Content(source) as before, Content(made) as after:
        assert list(after.pairs) == list(before.pairs)
        changed = {key for key in before.pairs if before.pairs[key] != after.pairs[key]}
        assert changed == {"general.file_type"}
        assert after.header.metadata["general.file_type"] == gguf.LlamaFileType.MOSTLY_F16
        assert after.header.metadata["general.quantization_version"] == gguf.GGML_QUANT_VERSION
        assert {name: tensor.shape for name, tensor in after.tensors.items()} == {n: t.shape for n, t in before.tensors.items()}
    assert gguf.GGUFReader(made).fields["tokenizer.chat_template"].contents() == "{{ messages }} é \N{GRINNING FACE}"
    assert header.check(made).tensors == header.check(source).tensors


def test_what_the_base_does_not_say_of_its_numbers_is_added(base: Path, lora: Path, tmp_path: Path) -> None:
    assert "general.quantization_version" not in header.check(base).metadata
    found = header.check(join(base, lora, tmp_path / "joined.gguf", "F32")).metadata
    assert found["general.file_type"] == gguf.LlamaFileType.ALL_F32
    assert found["general.quantization_version"] == gguf.GGML_QUANT_VERSION


def test_the_same_input_gives_the_same_bytes_however_small_the_pieces(
    base: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "base.gguf"
    quantise(base, source, "Q8_0")
    whole = join(source, lora, tmp_path / "a.gguf").read_bytes()
    rows: set[int] = set()
    pieces = Content.pieces

    def counted(self: Content, tensor: content.Tensor) -> Any:
        for first, values in pieces(self, tensor):
            rows.add(len(values) if tensor.columns == WIDTH else 0)
            yield first, values

    monkeypatch.setattr(content, "PIECE_BYTES", 4 * WIDTH * 7)
    monkeypatch.setattr(Content, "pieces", counted)
    assert join(source, lora, tmp_path / "b.gguf").read_bytes() == whole
    assert max(rows) == 7


def test_progress_is_told(base: Path, lora: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    join(base, lora, tmp_path / "joined.gguf", tell=lines.append)
    assert lines[-1] == "joined 12 of 12 tensors"
    assert len(lines) == 10


def built(path: Path, base: Path, **changes: Any) -> Path:
    """An adapter for `base` with changes: tensors (name -> array, None drops one), strings, alpha, architecture, and types."""
    plain = tiny_gguf.adapter(path.with_suffix(".plain"), base, strength=0.2)
    added = tensors(plain) | changes.get("tensors", {})
    plain.unlink()
    writer = gguf.GGUFWriter(path, changes.get("architecture", "llama"))
    writer.add_type(changes.get("type", "adapter"))
    writer.add_string("adapter.type", changes.get("kind", "lora"))
    if changes.get("alpha", 2.0) is not None:
        writer.add_float32("adapter.lora.alpha", changes.get("alpha", 2.0))
    if "alora" in changes:
        writer.add_array("adapter.alora.invocation_tokens", changes["alora"])
    for name, values in added.items():
        if values is not None:
            writer.add_tensor(name, np.ascontiguousarray(values))
    return tiny_gguf._finish(writer, path)


A, B = f"{Q}.lora_a", f"{Q}.lora_b"
ONE = np.ones((2, WIDTH), np.float32)


@pytest.mark.parametrize("alpha", [None, 0.0, -3.0, 7.5])
def test_any_alpha_means_what_it_means_at_run_time(base: Path, tmp_path: Path, alpha: float | None) -> None:
    lora = built(tmp_path / "lora.gguf", base, alpha=alpha)
    made = join(base, lora, tmp_path / "joined.gguf", "F32")
    assert distance(llama_logits(base, lora), llama_logits(made))[0] < 1e-10


def test_an_adapter_in_f16_and_one_in_q8_0_are_merged(base: Path, tmp_path: Path) -> None:
    half = {name: values.astype(np.float16) for name, values in tensors(built(tmp_path / "x.gguf", base)).items()}
    lora = built(tmp_path / "lora.gguf", base, tensors=half)
    assert set(kinds(lora).values()) == {"F16"}
    made = join(base, lora, tmp_path / "joined.gguf", "F32")
    assert distance(llama_logits(base, lora), llama_logits(made))[0] < 1e-6


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"architecture": "qwen2"}, "for the family 'qwen2', and .*base.gguf is of 'llama'"),
        ({"architecture": "x\x1b[2J"}, "for the family 'x␛"),
        ({"type": "model"}, "is no LoRA adapter"),
        ({"kind": "other"}, "is no LoRA adapter"),
        ({"alpha": float("nan")}, "alpha that is no number"),
        ({"alpha": float("inf")}, "alpha that is no number"),
        ({"alora": [1, 2]}, "activated LoRA"),
        ({"tensors": {A: None}}, f"has no lora_a for {Q}"),
        ({"tensors": {B: None}}, f"has no lora_b for {Q}"),
        ({"tensors": {A: None, B: None}}, "it has no tensors"),
        ({"tensors": {A: ONE[:, :32]}}, r"of shape \(256, 32\), and in .*base.gguf it has \(256, 256\)"),
        ({"tensors": {B: ONE.T[:64]}}, r"of shape \(64, 256\), and in .*base.gguf it has \(256, 256\)"),
        ({"tensors": {A: ONE[:1]}}, r"shapes \(1, 256\) and \(256, 2\)"),
        ({"tensors": {A: ONE[0]}}, r"shapes \(256,\)"),
        ({"tensors": {A: np.stack([ONE, ONE])}}, r"shapes \(2, 2, 256\)"),
        (
            {"tensors": {"blk.7.attn_q.weight.lora_a": ONE, "blk.7.attn_q.weight.lora_b": ONE.T}},
            "changes blk.7.attn_q.weight, which",
        ),
        ({"tensors": {"output_norm.weight": ONE[0]}}, "output_norm.weight, which llama.cpp leaves out"),
        ({"tensors": {"token_embd.weight.lora_a": ONE, "token_embd.weight.lora_b": ONE.T}}, "changes the embedding"),
        ({"tensors": {A: ONE * np.nan}}, "not finite"),
        ({"tensors": {B: ONE.T * np.inf}}, "not finite"),
        ({"tensors": {B: ONE.T * np.float32(1e30)}}, "numbers too large for its form"),
        ({"tensors": {A: ONE.astype(np.int32)}}, "number format that cannot be read"),
    ],
    ids=str,
)
def test_what_does_not_belong_together_is_refused_naming_it(
    base: Path, tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    source, target = shutil.copy(base, tmp_path / "base.gguf"), tmp_path / "joined.gguf"
    target.write_bytes(b"old")
    lora = built(tmp_path / "lora.gguf", source, **changes)
    with pytest.raises(ModelInvalid, match=complaint) as caught:
        join(source, lora, target)
    assert caught.value.fix
    assert "\x1b" not in str(caught.value)
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.gguf", "joined.gguf", "lora.gguf"]


def test_files_in_the_wrong_order_missing_or_no_gguf_are_told(base: Path, lora: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match="is no model.*name the base first"):
        join(lora, base, tmp_path / "x.gguf")
    with pytest.raises(ModelInvalid, match="is no LoRA adapter"):
        join(base, base, tmp_path / "x.gguf")
    with pytest.raises(ModelMissing):
        join(tmp_path / "none.gguf", lora, tmp_path / "x.gguf")
    with pytest.raises(ModelMissing):
        join(base, tmp_path / "none.gguf", tmp_path / "x.gguf")
    (tmp_path / "text.gguf").write_bytes(b"I am a model, believe me, please do")
    with pytest.raises(ModelInvalid, match="does not begin with GGUF"):
        join(base, tmp_path / "text.gguf", tmp_path / "x.gguf")
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelInvalid, match="not a regular file"):
        join(base, tmp_path / "pipe.gguf", tmp_path / "x.gguf")
    with pytest.raises(InputError, match="no form 'Q8_0' to join in.*quantise the result"):
        join(base, lora, tmp_path / "x.gguf", "Q8_0")  # type: ignore[arg-type]
    assert not (tmp_path / "x.gguf").exists()


def test_one_of_several_files_is_refused(base: Path, lora: Path, tmp_path: Path) -> None:
    source = tmp_path / "base-00001-of-00002.gguf"
    with Content(base) as file:
        key = b"split.count"
        pairs = dict(file.pairs) | {"split.count": struct.pack("<Q", len(key)) + key + struct.pack("<IH", 2, 2)}
        plan = [rewriting.Planned(one.name, one.shape, one.kind, file.size_bytes(one)) for one in file.tensors.values()]
        with source.open("wb") as out:
            rewriting.write(out, pairs, plan, [file.raw(one) for one in file.tensors.values()], 32)
    with pytest.raises(ModelInvalid, match="one of several files.*llama-gguf-split"):
        join(source, lora, tmp_path / "x.gguf")


def test_another_alignment_is_kept(base: Path, lora: Path, tmp_path: Path) -> None:
    source, key = tmp_path / "base.gguf", "general.alignment"
    with Content(base) as file, source.open("wb") as out:
        plan = [rewriting.Planned(one.name, one.shape, one.kind, file.size_bytes(one)) for one in file.tensors.values()]
        data = [file.raw(one) for one in file.tensors.values()]
        rewriting.write(out, {**file.pairs, key: rewriting.number(key, 256)}, plan, data, 256)
    made = join(source, lora, tmp_path / "joined.gguf", "F32")
    with Content(made) as file:
        assert file.alignment == 256
        assert {one.begin % 256 for one in file.tensors.values()} == {0}
    assert distance(llama_logits(base, lora), llama_logits(made))[0] < 1e-10


def test_a_base_with_damaged_numbers_is_refused(lora: Path, tmp_path: Path) -> None:
    sick = tiny_gguf.bpe_model(tmp_path / "sick.gguf", width=WIDTH, nan=True)
    with pytest.raises(ModelInvalid, match="output.weight holds values that are not finite"):
        join(sick, lora, tmp_path / "x.gguf")
    large = tiny_gguf.bpe_model(tmp_path / "large.gguf", width=WIDTH, scale=1e5)
    with pytest.raises(ModelInvalid, match="too large for its form; join in F32"):
        join(large, lora, tmp_path / "x.gguf")
    assert join(large, lora, tmp_path / "x.gguf", "F32").is_file()


def test_a_truncated_file_is_refused_at_every_length(base: Path, lora: Path, tmp_path: Path) -> None:
    for source in (base, lora):
        raw = source.read_bytes()
        for length in (0, 3, 24, 100, len(raw) // 50, len(raw) // 2, len(raw) - 40):
            (tmp_path / "cut.gguf").write_bytes(raw[:length])
            pair = (tmp_path / "cut.gguf", lora) if source == base else (base, tmp_path / "cut.gguf")
            with pytest.raises(ModelInvalid, match=r"cut\.gguf"):
                join(*pair, tmp_path / "x.gguf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.gguf"]


def test_bytes_turned_over_in_a_header_are_a_clear_error_or_a_whole_file(tmp_path: Path) -> None:
    base = tiny_gguf.bpe_model(tmp_path / "base.gguf")
    lora = tiny_gguf.adapter(tmp_path / "lora.gguf", base, strength=0.1)
    chance = np.random.default_rng(5)
    for source, head in ((base, 700), (lora, 400)):
        raw = source.read_bytes()
        for _ in range(80):
            broken = bytearray(raw)
            broken[chance.integers(head)] = chance.integers(256)
            source.write_bytes(broken)
            try:
                header.check(join(base, lora, tmp_path / "x.gguf"))
            except PointsmanError as error:
                assert str(error)
            assert {path.name for path in tmp_path.iterdir()} <= {"base.gguf", "lora.gguf", "x.gguf"}
        source.write_bytes(raw)


def test_a_target_that_is_one_of_the_two_is_refused(base: Path, lora: Path, tmp_path: Path) -> None:
    os.link(base, tmp_path / "same.gguf")
    with pytest.raises(InputError, match="one of the files that are joined"):
        join(base, lora, tmp_path / "same.gguf")
    with pytest.raises(InputError, match="one of the files that are joined"):
        join(base, lora, lora)


def test_no_space_is_told_with_the_exact_size_before_anything_is_written(
    base: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(joining, "need_space", lambda folder, size: asked.append(size))
    made = join(base, lora, tmp_path / "joined.gguf")
    assert asked == [made.stat().st_size]
    monkeypatch.undo()
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": asked[0] - 1})())
    with pytest.raises(InputError, match="MB are needed"):
        join(base, lora, tmp_path / "other.gguf")
    assert list(tmp_path.iterdir()) == [made]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_join_leaves_the_old_file_and_nothing_else(
    base: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    target = tmp_path / "joined.gguf"
    target.write_bytes(b"old")

    def half(line: str) -> None:
        raise fault

    with pytest.raises((KeyboardInterrupt, InputError)):
        join(base, lora, target, tell=half)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_vectors_and_matrices_that_are_meant_to_be_f32_stay_so(base: Path, lora: Path, tmp_path: Path) -> None:
    source = tmp_path / "mixed.gguf"
    reader = gguf.GGUFReader(base)
    with Content(base) as file, source.open("wb") as out:
        kept = {"blk.0.ffn_gate.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", Q}
        plan, data = [], []
        for one in reader.tensors:
            values = one.data if one.name in kept else one.data.astype(np.float16)
            plan.append(rewriting.Planned(one.name, values.shape, int(one.name not in kept), values.nbytes))
            data.append(iter([values.tobytes()]))
        rewriting.write(out, file.pairs, plan, data, 32)
    found = kinds(join(source, lora, tmp_path / "joined.gguf"))
    assert {name for name, kind in found.items() if kind == "F32"} == kept - {Q}


def test_the_embedded_model_with_an_adapter_answers_as_torch_does(embedded_gguf: Path, tmp_path: Path) -> None:
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    import tiny_checkpoints

    from data.chat import Message
    from export import adapter, families

    loaded = tiny_checkpoints.read("smollm2-135m")
    ids = loaded.prompt_ids([Message("user", "Which river runs through Paris, and how long is it?")])
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", use_rslora=True)
    torch.manual_seed(0)
    with tiny_adapters.calm(), torch.no_grad():
        plain = loaded.model(torch.tensor([ids])).logits[0].numpy()
        tuned = peft.get_peft_model(loaded.model, config)
        tiny_adapters._shake(tuned, 0.03)
        tuned.peft_config["default"].base_model_name_or_path = ""
        tuned.save_pretrained(tmp_path / "adapter")
        exact = tuned.train(False)(torch.tensor([ids])).logits[0].numpy()
    assert distance(exact, plain)[0] > 0.05
    lora = adapter.write(tmp_path / "adapter", families.of_gguf(header.check(embedded_gguf)), tmp_path / "lora.gguf")
    made = join(embedded_gguf, lora, tmp_path / "joined.gguf")
    kl, same = distance(exact, llama_logits(made, ids=ids))
    assert kl < 1e-4
    assert same == 1
    attached = distance(exact, llama_logits(embedded_gguf, lora, ids=ids))[0]
    assert kl < attached < 0.05  # Q4_1 as it is: llama.cpp rounds activations to 8 bits there
