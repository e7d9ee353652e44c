"""Merging adapters into tiny checkpoints of every family: the merged model says what was trained, or there is none."""

import json
import struct
import warnings
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tiny_checkpoints import CLASSES, change, checkpoint, read, split_weights  # noqa: E402

from data.errors import InputError, ModelInvalid  # noqa: E402
from export import files, merge  # noqa: E402
from export.merge import Merged  # noqa: E402

ROWS = [[5, 9, 40, 77, 30, 31, 32, 200], [100, 3, 3, 60]]
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def model_of(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").train(False)


def adapter(base: Path, folder: Path, strength: float = 0.1, **settings: Any) -> Path:
    """An adapter as PEFT saves it, every trained number drawn anew."""
    torch.manual_seed(1)
    chosen = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of tied embeddings
        model = peft.get_peft_model(model_of(base), peft.LoraConfig(**chosen))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += strength * torch.randn_like(parameter)
        model.save_pretrained(folder, save_embedding_layers=False)
    return folder


def says(model: Any, row: list[int]) -> Any:
    with torch.inference_mode():
        return torch.log_softmax(model(input_ids=torch.tensor([row]), use_cache=False).logits[0], -1)


def trained(base: Path, folder: Path) -> Any:
    """Base and adapter as PEFT itself loads them, unmerged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.PeftModel.from_pretrained(model_of(base), folder).train(False)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("base") / "llama", tie_word_embeddings=False)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("base") / "tied", tie_word_embeddings=True)


@pytest.fixture
def plain(llama: Path, tmp_path: Path) -> Path:
    return adapter(llama, tmp_path / "adapter")


@pytest.mark.parametrize("family", CLASSES)
def test_every_family_says_merged_what_it_said_with_its_adapter(family: str, tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", family)
    lora = adapter(base, tmp_path / "adapter")
    found = merge.merge(base, lora, tmp_path / "out", rows=ROWS)
    assert found.difference < 2e-4
    assert found.chosen.saved.largest < 2e-4
    unmerged, bare, merged = trained(base, lora), model_of(base), model_of(found.folder)
    for row in ROWS:
        assert torch.allclose(says(merged, row), says(unmerged, row), atol=2e-4)
        assert not torch.allclose(says(merged, row), says(bare, row), atol=0.05)
    for name in (*TOKENIZER, "config.json", "generation_config.json"):
        assert (found.folder / name).read_bytes() == (base / name).read_bytes()
    assert set(load_file(found.folder / "model.safetensors")) == set(load_file(base / "model.safetensors"))
    assert (found.which, found.untied, found.form, found.notes) == ("original", False, "F32", ())


KINDS: dict[str, dict[str, Any]] = {
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {r"layers\.1\.mlp\.up_proj": 32}},
    "norms": {"modules_to_save": ["input_layernorm", "norm"]},
    "head": {"modules_to_save": ["lm_head"]},
    "embedding": {"modules_to_save": ["embed_tokens"]},
    "both": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "lora on embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "lora on the head": {"target_modules": ["v_proj", "lm_head"]},
    "dora on the head": {"target_modules": ["v_proj", "lm_head"], "use_dora": True},
    "tokens": {"trainable_token_indices": [7, 40]},
    "one layer": {"layers_to_transform": [1], "target_modules": ["q_proj", "down_proj"]},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", ["own head", "tied head"])
def test_every_kind_of_lora_is_merged_exactly_and_says_if_the_head_was_untied(
    kind: str, share: str, llama: Path, tied: Path, tmp_path: Path
) -> None:
    base = tied if share == "tied head" else llama
    lora = adapter(base, tmp_path / "adapter", **KINDS[kind])
    found = merge.merge(base, lora, tmp_path / "out", rows=ROWS)
    unmerged, merged, weights = trained(base, lora), model_of(found.folder), load_file(found.folder / "model.safetensors")
    for row in ROWS:
        assert torch.allclose(says(merged, row), says(unmerged, row), atol=2e-4)
    assert found.difference < 2e-4
    expected = share == "tied head" and kind.split()[-1] in ("head", "embedding", "both", "embeddings")
    assert found.untied is expected
    assert json.loads((found.folder / "config.json").read_text())["tie_word_embeddings"] is (share == "tied head" and not expected)
    assert ("lm_head.weight" in weights) is (share == "own head" or expected)
    assert bool(found.notes) is (kind not in ("lora on embeddings", "lora on the head", "one layer") or expected)


@pytest.mark.parametrize("settings", [{"bias": "all"}, {"lora_bias": True, "target_modules": ["q_proj"]}])
def test_biases_that_were_trained_are_merged_into_the_bases(settings: dict[str, Any], tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", "qwen2")
    lora = adapter(base, tmp_path / "adapter", **settings)
    found = merge.merge(base, lora, tmp_path / "out", rows=ROWS)
    assert torch.allclose(says(model_of(found.folder), ROWS[0]), says(trained(base, lora), ROWS[0]), atol=2e-4)
    assert found.notes == ("the adapter has biases, which the merged model keeps",)


def test_a_bias_that_the_base_has_no_place_for_is_refused(llama: Path, tmp_path: Path) -> None:
    lora = adapter(llama, tmp_path / "adapter", lora_bias=True)
    refused(lambda target: merge.merge(llama, lora, target), ModelInvalid, "the base layer has no bias", tmp_path / "out")


def test_weights_are_the_bases_plus_the_scaled_product_and_others_stay_to_the_bit(llama: Path, tmp_path: Path) -> None:
    lora = adapter(llama, tmp_path / "adapter", target_modules=["o_proj"])
    found = merge.merge(llama, lora, tmp_path / "out", rows=ROWS)
    before, after, added = (
        load_file(path)
        for path in (llama / "model.safetensors", found.folder / "model.safetensors", lora / "adapter_model.safetensors")
    )
    for name, values in before.items():
        if name.endswith("o_proj.weight"):
            a, b = (added[f"base_model.model.{name.removesuffix('weight')}lora_{half}.weight"] for half in "AB")
            assert torch.allclose(after[name], values + 2.0 * b @ a, atol=1e-6)
            assert not torch.equal(after[name], values)
        else:
            assert torch.equal(after[name], values)


def test_the_layout_of_the_files_and_the_number_format_are_the_bases(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", dtype="bfloat16")
    values = {name: tensor.bfloat16() for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(values, base / "model.safetensors", {"format": "pt"})
    split_weights(base)
    found = merge.merge(base, adapter(base, tmp_path / "adapter"), tmp_path / "out", rows=ROWS)
    parts = sorted(path.name for path in base.glob("*.safetensors"))
    assert sorted(path.name for path in found.folder.glob("*.safetensors")) == parts
    assert (
        json.loads((found.folder / "model.safetensors.index.json").read_text())["weight_map"]
        == json.loads((base / "model.safetensors.index.json").read_text())["weight_map"]
    )
    for part in parts:
        assert {name: (one.dtype, one.shape) for name, one in load_file(found.folder / part).items()} == {
            name: (one.dtype, one.shape) for name, one in load_file(base / part).items()
        }
    assert found.form == "BF16"
    assert found.difference < 2e-4 < found.chosen.saved.largest  # rounding to bfloat16 is told apart from merging
    assert model_of(found.folder).num_parameters() == model_of(base).num_parameters()


def test_another_number_format_can_be_asked_for_and_the_configuration_says_so(llama: Path, plain: Path, tmp_path: Path) -> None:
    found = merge.merge(llama, plain, tmp_path / "out", rows=ROWS, form="F16")
    assert {one.dtype for one in load_file(found.folder / "model.safetensors").values()} == {torch.float16}
    assert json.loads((found.folder / "config.json").read_text())["dtype"] == "float16"
    with pytest.raises(InputError, match="no form 'Q4_0'"):
        merge.merge(llama, plain, tmp_path / "again", form="Q4_0")
    with pytest.raises(InputError, match="trained in 'nf4'"):
        merge.merge(llama, plain, tmp_path / "again", trained_in="nf4")


def test_numbers_too_large_for_the_form_are_refused(llama: Path, tmp_path: Path) -> None:
    lora = adapter(llama, tmp_path / "adapter", strength=300.0)
    with pytest.raises(ModelInvalid, match=r"that F16 cannot.*F32"):
        merge.merge(llama, lora, tmp_path / "out", rows=ROWS, form="F16")
    assert not (tmp_path / "out").exists()


def test_the_same_input_gives_the_same_bytes(llama: Path, plain: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        merge.merge(llama, plain, tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_tokenizer_files_of_the_base_are_copied_and_code_and_pickles_are_not(llama: Path, plain: Path, tmp_path: Path) -> None:
    base = copied(llama, tmp_path / "base")
    kept = ("tokenizer.model", "added_tokens.json", "special_tokens_map.json", "chat_template.jinja", "LICENSE.txt")
    for name in (*kept, "modeling.py", "optimizer.pt"):
        (base / name).write_bytes(f"the bytes of {name}\r\n".encode())
    found = merge.merge(base, plain, tmp_path / "out")
    assert all((found.folder / name).read_bytes() == (base / name).read_bytes() for name in (*kept, *TOKENIZER))
    assert not {"modeling.py", "optimizer.pt", "original"} & {path.name for path in found.folder.iterdir()}


def test_a_merged_checkpoint_is_a_base_that_the_trainer_takes(llama: Path, plain: Path, tmp_path: Path) -> None:
    found = merge.merge(llama, plain, tmp_path / "out")
    base = read(found.folder)
    assert base.identity.template_sha256 == read(llama).identity.template_sha256
    assert torch.allclose(says(base.model, ROWS[0]), says(trained(llama, plain), ROWS[0]), atol=2e-4)


@pytest.fixture(scope="module")
def quantisable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pytest.importorskip("bitsandbytes")
    folder = tmp_path_factory.mktemp("nf4")
    base = checkpoint(folder / "base", hidden_size=64, intermediate_size=128)
    return base, adapter(base, folder / "adapter", 0.02)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_what_was_trained_on_a_quantised_base_is_merged_both_ways_and_the_closer_is_kept(
    kind: Any, quantisable: tuple[Path, Path], tmp_path: Path
) -> None:
    found = merge.merge(*quantisable, tmp_path / "out", quantised=kind, rows=ROWS)
    options = {one.which: one for one in found.options}
    assert set(options) == {"original", "dequantised"}
    assert found.which == "dequantised"
    assert options["dequantised"].exact.kl < 0.5 * options["original"].exact.kl
    assert any("into the original weights" in note for note in found.notes)
    if kind == "nf4":
        assert found.difference < 1e-3 < options["original"].exact.largest
    assert {path.name for path in found.folder.iterdir()} >= {"model.safetensors", "config.json", *TOKENIZER}
    assert not {"original", "dequantised"} & {path.name for path in found.folder.iterdir()}


def test_a_judge_decides_between_the_two_merges(quantisable: tuple[Path, Path], tmp_path: Path) -> None:
    asked = []

    def judge(folder: Path) -> float:
        asked.append(model_of(folder).num_parameters())
        return {"original": 0.9, "dequantised": 0.8}[folder.name]

    found = merge.merge(*quantisable, tmp_path / "out", quantised="nf4", judge=judge, rows=ROWS)
    assert found.which == "original"
    assert {one.which: one.score for one in found.options} == {"original": 0.9, "dequantised": 0.8}
    assert len(asked) == 2
    before, after = (load_file(path / "model.safetensors") for path in (quantisable[0], found.folder))
    assert torch.equal(before["model.norm.weight"], after["model.norm.weight"])
    equal = merge.merge(*quantisable, tmp_path / "equal", quantised="nf4", judge=lambda folder: 0.5, rows=ROWS)
    assert equal.which == "dequantised"
    broken = {"original": 0.1, "dequantised": float("nan")}
    odd = merge.merge(*quantisable, tmp_path / "odd", quantised="nf4", judge=lambda folder: broken[folder.name], rows=ROWS)
    assert odd.which == "original"


def test_a_base_trained_in_bfloat16_and_four_bits_is_quantised_as_it_was_then(
    quantisable: tuple[Path, Path], tmp_path: Path
) -> None:
    found = merge.merge(*quantisable, tmp_path / "out", quantised="nf4", rows=ROWS, trained_in="bfloat16")
    assert found.which == "dequantised"
    assert found.chosen.exact.kl < 0.3 * found.options[1].exact.kl


def test_a_judge_is_not_asked_where_there_is_nothing_to_choose(llama: Path, plain: Path, tmp_path: Path) -> None:
    def judge(folder: Path) -> float:
        raise AssertionError("asked")

    assert merge.merge(llama, plain, tmp_path / "out", judge=judge).chosen.score is None


def test_widths_that_bitsandbytes_computes_wrongly_are_refused(llama: Path, plain: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    with pytest.raises(InputError, match="no multiple of 64"):
        merge.merge(llama, plain, tmp_path / "out", quantised="nf4", rows=ROWS)


def copied(source: Path, target: Path) -> Path:
    target.mkdir(parents=True)
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def rewrite(name: str, edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        weights = load_file(folder / name)
        edit(weights)
        save_file(weights, folder / name, {"format": "pt"})

    return write


def only(folder: Path, old: str, new: str, content: bytes = b"x") -> None:
    (folder / old).unlink()
    (folder / new).write_bytes(content)


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def header(folder: Path, name: str, length: int) -> None:
    raw = (folder / name).read_bytes()
    (folder / name).write_bytes(struct.pack("<Q", length) + raw[8:])


W, A, C = "model.safetensors", "adapter_model.safetensors", "adapter_config.json"
EMBEDDED = "model.embed_tokens.weight"
BASES: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), InputError, r"no config\.json"),
    "broken config": (lambda folder: (folder / "config.json").write_text("{"), ModelInvalid, r"broken config\.json"),
    "pickle": (lambda folder: only(folder, W, "pytorch_model.bin"), ModelInvalid, "pickles, which can run code.*convert"),
    "no weights": (lambda folder: (folder / W).unlink(), ModelInvalid, r"has no model\.safetensors"),
    "cut off": (cut(W), ModelInvalid, "lies outside the file"),
    "long header": (lambda folder: header(folder, W, 1 << 62), ModelInvalid, "impossible length"),
    "code": (
        lambda folder: change(folder, "config.json", auto_map={"AutoModelForCausalLM": "evil.Evil"}),
        ModelInvalid,
        "never run",
    ),
    "unknown": (lambda folder: change(folder, "config.json", model_type="evil"), ModelInvalid, "'evil', which transformers"),
    "quantised": (
        lambda folder: change(folder, "config.json", quantization_config={"quant_method": "gptq"}),
        ModelInvalid,
        "original",
    ),
    "integers": (rewrite(W, lambda held: held.update({EMBEDDED: held[EMBEDDED].to(torch.int8)})), ModelInvalid, "as I8"),
    "layers": (lambda folder: change(folder, "config.json", num_hidden_layers=10**9), ModelInvalid, "1000000000 layers"),
    "wide": (lambda folder: change(folder, "config.json", hidden_size=1 << 20), ModelInvalid, "has the shape"),
    "nonsense": (lambda folder: change(folder, "config.json", hidden_size="much"), ModelInvalid, r"config\.json"),
    "shape": (rewrite(W, lambda held: held.update({EMBEDDED: held[EMBEDDED][:-1].clone()})), ModelInvalid, "has the shape"),
    "missing": (rewrite(W, lambda held: held.pop("model.norm.weight")), ModelInvalid, r"model\.norm\.weight"),
    "more": (rewrite(W, lambda held: held.update({"evil.weight": torch.ones(2)})), ModelInvalid, r"evil\.weight"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), ModelInvalid, r"neither tokenizer\.json"),
    "index": (
        lambda folder: (folder / f"{W}.index.json").write_text('{"weight_map": {"a": "../../etc/passwd.safetensors"}}'),
        ModelInvalid,
        "it names",
    ),
    "lacking part": (
        lambda folder: (folder / f"{W}.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}'),
        ModelInvalid,
        "lacks 1 of 1",
    ),
}
Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
ADAPTERS: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "no config": (lambda folder: (folder / C).unlink(), InputError, "holds no adapter"),
    "no weights": (lambda folder: (folder / A).unlink(), InputError, "holds no adapter"),
    "pickle": (lambda folder: only(folder, A, "adapter_model.bin"), ModelInvalid, "pickle, which can run code.*safe_serialization"),
    "cut off": (cut(A), ModelInvalid, "lies outside the file"),
    "not JSON": (lambda folder: (folder / C).write_text("[" * 100_000), ModelInvalid, "not sound JSON"),
    "nan": (rewrite(A, lambda held: held[Q].fill_(float("nan"))), ModelInvalid, "not finite"),
    "other kind": (lambda folder: change(folder, C, peft_type="IA3"), ModelInvalid, "LoRA alone"),
    "rank": (lambda folder: change(folder, C, r=60_000), ModelInvalid, "rank 60000 for .*, and its weights have 4"),
    "huge rank": (lambda folder: change(folder, C, r=10**9), ModelInvalid, r"adapter_config\.json: r"),
    "alpha": (lambda folder: change(folder, C, lora_alpha="much"), ModelInvalid, "lora_alpha"),
    "slow pattern": (lambda folder: change(folder, C, rank_pattern={"(a+)+$": 4}), ModelInvalid, "rank_pattern"),
    "activated": (lambda folder: change(folder, C, alora_invocation_tokens=[1]), ModelInvalid, "alora_invocation_tokens"),
    "pissa": (lambda folder: change(folder, C, init_lora_weights="pissa"), ModelInvalid, "path_initial_model"),
    "lacking": (rewrite(A, lambda held: held.pop(Q)), ModelInvalid, "does not fit this base"),
    "half": (rewrite(A, lambda held: held.pop(Q.replace("_A", "_B"))), ModelInvalid, "does not fit this base"),
    "strange": (rewrite(A, lambda held: held.update({"evil": torch.ones(2)})), ModelInvalid, "does not fit this base, at evil"),
    "vocabulary": (
        rewrite(A, lambda held: held.update({"base_model.model.model.embed_tokens.weight": torch.ones(900, 32)})),
        ModelInvalid,
        "does not fit this base",
    ),
    "whole layer": (lambda folder: change(folder, C, modules_to_save=["lm_head"]), ModelInvalid, "does not fit this base"),
}


@pytest.mark.parametrize("kind", BASES)
def test_a_base_that_cannot_be_merged_is_refused_with_what_to_do(kind: str, llama: Path, plain: Path, tmp_path: Path) -> None:
    damage, error, words = BASES[kind]
    base = copied(llama, tmp_path / "base")
    damage(base)
    refused(lambda target: merge.merge(base, plain, target, rows=ROWS), error, words, tmp_path / "out")


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_that_cannot_be_merged_is_refused_with_what_to_do(kind: str, llama: Path, plain: Path, tmp_path: Path) -> None:
    damage, error, words = ADAPTERS[kind]
    damage(plain)
    refused(lambda target: merge.merge(llama, plain, target, rows=ROWS), error, words, tmp_path / "out")


def test_an_adapter_of_another_base_is_refused(llama: Path, tmp_path: Path) -> None:
    for kind, size in (("llama", {"hidden_size": 64}), ("phi", {})):
        other = checkpoint(tmp_path / kind, kind, **size)
        lora = adapter(other, tmp_path / f"{kind} adapter")
        refused(
            lambda target, lora=lora: merge.merge(llama, lora, target), ModelInvalid, "does not fit this base", tmp_path / "out"
        )


def test_too_little_room_is_found_out_before_anything_is_loaded(
    llama: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(merge, "Models", None)
    with monkeypatch.context() as patch:
        patch.setattr(files.shutil, "disk_usage", lambda path: usage(1 << 40, 0, 1 << 20))
        refused(lambda target: merge.merge(llama, plain, target), InputError, "MB are needed", tmp_path / "out")
    monkeypatch.setattr(merge, "_free_bytes", lambda: 1000)
    refused(lambda target: merge.merge(llama, plain, target), InputError, r"GB of memory.*GGUF", tmp_path / "out")


def test_a_token_that_the_model_has_not_is_refused(llama: Path, plain: Path, tmp_path: Path) -> None:
    refused(lambda target: merge.merge(llama, plain, target, rows=[[1, 99_999]]), InputError, "99999 is not one", tmp_path / "out")


def test_a_merge_that_would_say_something_else_is_refused(
    llama: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = peft.tuners.lora.Linear.merge

    def half(self: Any, safe_merge: bool = False, adapter_names: Any = None) -> None:
        whole(self, safe_merge, adapter_names)
        self.get_base_layer().weight.data *= 0.5

    monkeypatch.setattr(peft.tuners.lora.Linear, "merge", half)
    refused(lambda target: merge.merge(llama, plain, target, rows=ROWS), ModelInvalid, "not what was trained", tmp_path / "out")


def refused(work: Callable[[Path], Merged], error: type[Exception], words: str, target: Path) -> None:
    """The work is refused in those words, and what was at its target is as it was."""
    target.mkdir(exist_ok=True)
    (target / "as.it.was").write_text("here")
    with pytest.raises(error, match=words) as caught:
        work(target)
    assert caught.value.fix
    assert [path.name for path in target.iterdir()] == ["as.it.was"]
    assert not [path for path in target.parent.iterdir() if path.name.startswith(".out")]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
