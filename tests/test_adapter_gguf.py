"""PEFT adapters as GGUF: what llama.cpp computes with them is what PEFT computes; what it cannot compute is refused."""

import json
import os
import re
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

import tiny_adapters
import tiny_checkpoints
from peft.utils.other import get_pattern_key
from safetensors.numpy import load_file
from tiny_adapters import distance, llama_logits, pair, torch_logits, written

from data.errors import InputError, ModelInvalid, PointsmanError
from export import adapter, families
from export import gguf as checkpoint_gguf
from export._adapter import patterns
from router.engines._llamacpp import header

LIMIT = 1e-6  # nats; F32 on both sides gives 1e-12, where llama.cpp looks GELU up in a table of F16 (Phi-2, Gemma-2) 1e-7
CHANGES = {"phi": {"num_key_value_heads": 4, "intermediate_size": 128}, "gemma2": {"query_pre_attn_scalar": 8}}
Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function: a family's tiny checkpoint, its GGUF file and its Family, each made once."""
    folder, made = tmp_path_factory.mktemp("bases"), {}

    def base(family: str) -> tuple[Path, Path, families.Family]:
        if family not in made:
            checkpoint = tiny_checkpoints.checkpoint(folder / family, family, **CHANGES.get(family, {}))
            file = folder / f"{family}.gguf"
            checkpoint_gguf.write(checkpoint, file, "F32", name="tiny")
            made[family] = checkpoint, file, families.of_gguf(header.check(file))
        return made[family]

    return base


LLAMA = families.Family("llama", 2, 4, 2, 8, 32, 64, 271, True)
HAND = families.Family("llama", 2, 2, 2, 32, 64, 128, 300, False)


@pytest.mark.parametrize("family", tiny_checkpoints.CLASSES)
def test_every_family_answers_in_llama_cpp_as_with_peft(bases: Any, tmp_path: Path, family: str) -> None:
    checkpoint, base, known = bases(family)
    folder = tiny_adapters.adapter(tmp_path / "adapter", checkpoint)
    wanted = torch_logits(checkpoint, folder)
    assert distance(wanted, torch_logits(checkpoint))[0] > 0.1  # the adapter matters
    made = adapter.write(folder, known, tmp_path / "adapter.gguf")
    kl, same = distance(wanted, llama_logits(base, made))
    assert kl < LIMIT
    assert same == 1


@pytest.mark.parametrize("kind", tiny_adapters.SCALED)
def test_every_scale_is_right_at_run_time(bases: Any, tmp_path: Path, kind: str) -> None:
    checkpoint, base, known = bases("qwen2")
    folder = tiny_adapters.adapter(tmp_path / "adapter", checkpoint, kind)
    wanted = torch_logits(checkpoint, folder)
    assert (distance(wanted, torch_logits(checkpoint))[0] > 0.1) is (kind != "no_alpha")
    kl, same = distance(wanted, llama_logits(base, adapter.write(folder, known, tmp_path / "adapter.gguf")))
    assert kl < LIMIT
    assert same == 1


@pytest.mark.parametrize("kind", ["rslora", "alpha_pattern", "rank_pattern"])
def test_what_was_repaired_is_said_and_the_plain_formula_would_have_been_wrong(bases: Any, tmp_path: Path, kind: str) -> None:
    checkpoint = bases("llama")[0]
    found = adapter.look(tiny_adapters.adapter(tmp_path / "adapter", checkpoint, kind))
    assert len(found.repairs) == 1
    assert found.repairs[0] in found.notes[0]
    wrong = [pair for pair in found.pairs if pair.scale != pytest.approx(found.alpha / pair.rank)]
    assert bool(wrong) is (kind != "rank_pattern")
    computed = [found.runtime_alpha / pair.rank * found.factor(pair) for pair in found.pairs]
    assert computed == pytest.approx(list(found.scales.values()))


@pytest.mark.parametrize("family", ["qwen2", "phi3", "llama"])
def test_a_plain_adapter_keeps_every_bit_and_llamas_b_changes_its_rows_alone(bases: Any, tmp_path: Path, family: str) -> None:
    checkpoint, _, known = bases(family)
    folder = tiny_adapters.adapter(tmp_path / "adapter", checkpoint)
    was = load_file(folder / "adapter_model.safetensors")
    reader = gguf.GGUFReader(adapter.write(folder, known, tmp_path / "adapter.gguf", name="mine"))
    made = {tensor.name: tensor.data for tensor in reader.tensors}
    assert len(made) == len(was)
    for found in adapter.look(folder).pairs:
        place = known.linear(found.module)
        assert np.array_equal(made[f"{place.name}.lora_a"], was[found.a])
        assert np.array_equal(made[f"{place.name}.lora_b"], families.reordered(was[found.b], place.heads))
        assert bool(place.heads) is (family == "llama" and found.module.endswith(("q_proj", "k_proj")))
    said = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert said == {
        "general.architecture": known.architecture,
        "general.type": "adapter",
        "general.name": "mine",
        "adapter.type": "lora",
        "adapter.lora.alpha": 8.0,
        "general.quantization_version": 2,
    }


ORACLE = """
import os, runpy, sys
script, jobs = sys.argv[1], sys.argv[2:]
sys.path.insert(0, os.path.dirname(script))
for base, out, lora in zip(jobs[::3], jobs[1::3], jobs[2::3]):
    sys.argv = [script, "--base", base, "--outfile", out, lora]
    runpy.run_path(script, run_name="__main__")
"""


def oracle(tmp_path: Path) -> Path:
    """llama.cpp's own converter, where LLAMA_CPP_DIR names a folder or an sdist that has it."""
    place, script = Path(os.environ.get("LLAMA_CPP_DIR", "")), "convert_lora_to_gguf.py"
    if place.is_file():
        inside = re.compile(rf"[^/]+/vendor/llama\.cpp/({script}|conversion/|gguf-py/).*")
        with tarfile.open(place) as archive:
            archive.extractall(
                tmp_path, [one for one in archive if inside.match(one.name) or one.name.endswith(script)], filter="data"
            )
        place = next(tmp_path.glob("*/vendor/llama.cpp"))
    if not (place / script).is_file():
        pytest.skip(f"LLAMA_CPP_DIR names no llama.cpp with {script}")
    return place / script


def test_tensors_are_those_of_llama_cpps_own_converter_byte_for_byte(bases: Any, tmp_path: Path) -> None:
    script, jobs = oracle(tmp_path), []
    for family in tiny_checkpoints.CLASSES:
        checkpoint = bases(family)[0]
        folder = tiny_adapters.adapter(tmp_path / family, checkpoint)
        jobs += [checkpoint, tmp_path / f"{family}.gguf", folder]
    done = subprocess.run([sys.executable, "-c", ORACLE, script, *jobs], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for family in tiny_checkpoints.CLASSES:
        mine = gguf.GGUFReader(adapter.write(tmp_path / family, bases(family)[2], tmp_path / f"{family}-mine.gguf"))
        theirs = gguf.GGUFReader(tmp_path / f"{family}.gguf")
        both = [
            {one.name: (one.tensor_type, one.shape.tolist(), one.data.tobytes()) for one in file.tensors} for file in (mine, theirs)
        ]
        assert both[0] == both[1]
        keys = [key for key in mine.fields if not key.startswith("GGUF.")]
        assert [mine.fields[key].contents() for key in keys] == [theirs.fields[key].contents() for key in keys]


@pytest.mark.parametrize("kind", ["plain", *tiny_adapters.SCALED])
def test_q8_fills_the_ranks_up_and_is_near(bases: Any, tmp_path: Path, kind: str) -> None:
    checkpoint, base, known = bases("llama")
    folder = tiny_adapters.adapter(tmp_path / "adapter", checkpoint, kind)
    quick = adapter.write(folder, known, tmp_path / "quick.gguf", form="Q8_0")
    read = gguf.GGUFReader(quick)
    assert {tensor.tensor_type.name for tensor in read.tensors} == {"Q8_0"}
    assert {int(tensor.shape[0]) for tensor in read.tensors if tensor.name.endswith("lora_b")} == {32}
    far = distance(torch_logits(checkpoint, folder), llama_logits(base))[0]
    assert distance(torch_logits(checkpoint, folder), llama_logits(base, quick))[0] < 0.02 * far + 1e-9


def test_an_adapter_of_zeros_is_written_with_a_note(bases: Any, tmp_path: Path) -> None:
    checkpoint, base, known = bases("llama")
    folder = tiny_adapters.adapter(tmp_path / "adapter", checkpoint, strength=0)
    assert adapter.look(folder).notes == ("the adapter changes nothing: all of its weights are zero",)
    made = adapter.write(folder, known, tmp_path / "adapter.gguf")
    assert np.array_equal(llama_logits(base, made), llama_logits(base))


def test_modules_without_effect_are_counted(tmp_path: Path) -> None:
    idle = {name: values * 0 for name, values in pair("model.layers.1.mlp.up_proj").items()}
    assert adapter.look(written(tmp_path, pair(Q) | idle)).notes == ("1 of 2 modules change nothing: their weights are zero",)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("dora", "DoRA.*dora = false"),
        ("lora_bias", "lora_bias.*lora_bias = false"),
        ("bias", 'bias = "none"'),
        ("tokens", "token embeddings.*without trainable_token_indices"),
        ("pissa", "start pissa.*path_initial_model_for_weight_conversion"),
        ("norms", "modules_to_save.*merge it into the checkpoint"),
        ("head", "modules_to_save.*merge it into the checkpoint"),
        ("embedding", "LoRA on the embedding.*merge it into the checkpoint.*without embed_tokens"),
        ("lm_head", "output layer.*merge it into the checkpoint.*lm_head"),
        ("loha", "LOHA, and llama.cpp knows LoRA alone.*save_as_lora"),
        ("ia3", "IA3, and llama.cpp knows LoRA alone.*merge it"),
    ],
)
def test_what_llama_cpp_cannot_compute_is_refused_with_what_to_do(bases: Any, tmp_path: Path, kind: str, complaint: str) -> None:
    checkpoint, _, known = bases("qwen3")
    folder = tiny_adapters.adapter(tmp_path / "adapter", checkpoint, kind)
    with pytest.raises(ModelInvalid, match=complaint):
        adapter.look(folder)
    with pytest.raises(ModelInvalid, match=complaint):
        adapter.write(folder, known, tmp_path / "adapter.gguf")
    assert not (tmp_path / "adapter.gguf").exists()


@pytest.mark.parametrize("kind", ["dora", "lora_bias", "bias", "tokens", "norms", "head", "embedding", "lm_head"])
def test_a_configuration_that_hides_it_does_not_help(bases: Any, tmp_path: Path, kind: str) -> None:
    folder = tiny_adapters.adapter(tmp_path / "adapter", bases("qwen2" if kind == "bias" else "qwen3")[0], kind)
    plain = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8}
    (folder / "adapter_config.json").write_text(json.dumps(plain))
    with pytest.raises(ModelInvalid, match=r"adapter_model\.safetensors: the tensor .* is part of .*merge it into the checkpoint"):
        adapter.look(folder)


@pytest.mark.parametrize("kind", ["loha", "pissa"])
def test_the_advice_works(bases: Any, tmp_path: Path, kind: str) -> None:
    checkpoint, base, known = bases("llama")
    folder, wanted = tiny_adapters.converted(tmp_path / "plain", checkpoint, kind)
    kl, same = distance(wanted, llama_logits(base, adapter.write(folder, known, tmp_path / "adapter.gguf")))
    assert distance(wanted, torch_logits(checkpoint))[0] > 1000 * kl
    assert same == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"peft_type": None}, "of no kind that it names"),
        ({"peft_type": ["LORA"]}, "llama.cpp knows LoRA alone"),
        ({"peft_type": "LORA\x1b[2J"}, "LORA␛"),
        ({"task_type": "SEQ_CLS"}, "task SEQ_CLS"),
        ({"r": 0}, "r: Input should be greater"),
        ({"r": -4}, "r: Input should be greater"),
        ({"r": 1 << 40}, "r: Input should be less"),
        ({"r": "2"}, "r: Input should be a valid integer"),
        ({"r": True}, "r: Input should be a valid integer"),
        ({"r": 4}, "its rank is 4"),
        ({"lora_alpha": float("nan")}, "lora_alpha: "),
        ({"lora_alpha": float("inf")}, "lora_alpha: "),
        ({"lora_alpha": 1e300}, "lora_alpha: "),
        ({"lora_alpha": None}, "lora_alpha: "),
        ({"use_rslora": "yes"}, "use_rslora: "),
        ({"bias": "lora_only"}, "trained biases"),
        ({"bias": 3}, "bias: "),
        ({"init_lora_weights": "PiSSA_niter_16"}, "start pissa_niter_16"),
        ({"init_lora_weights": "loftq"}, "start loftq"),
        ({"init_lora_weights": "tomorrow's"}, 'start "tomorrow\'s", which is not known'),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern: "),
        ({"rank_pattern": {"q_proj": 3}}, "its rank is 3"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern: "),
        ({"alpha_pattern": {"q_proj": float("nan")}}, "alpha_pattern: "),
        ({"alpha_pattern": {"(q_proj": 3}}, "which is not taken from a file"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "which is not taken from a file"),
        ({"alpha_pattern": {"x" * 300: 3}}, "which is not taken from a file"),
        ({"alpha_pattern": {".*" * 30: 3}}, "take too long to match"),
        ({"target_modules": ["k_proj"]}, "which its configuration does not name"),
        ({"fan_in_fan_out": True}, "transposed layers"),
        ({"alora_invocation_tokens": [1, 2]}, "activated LoRA"),
        ({"layer_replication": [[0, 2]]}, "repeats"),
        ({"target_parameters": ["experts.up"]}, "outside linear layers"),
        ({"use_something_new": {"a": 1}}, "'use_something_new', which is not known.*upgrade"),
    ],
    ids=str,
)
def test_a_configuration_that_lies_or_says_too_much_is_refused(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    folder = written(tmp_path, pair(Q), **change)
    with pytest.raises(ModelInvalid, match=complaint) as caught:
        adapter.look(folder)
    assert "\x1b" not in str(caught.value)
    assert caught.value.fix


def test_a_configuration_of_training_alone_is_taken(tmp_path: Path) -> None:
    more = {
        "lora_dropout": 0.1,
        "eva_config": {"rho": 2},
        "megatron_core": "megatron.core",
        "target_modules": [Q],
        "use_dora": False,
    }
    found = adapter.look(written(tmp_path, pair(Q), rank_pattern=None, alpha_pattern=None, task_type=None, lora_alpha=3.5, **more))
    assert dict(found.scales) == {Q: 1.75}
    assert (found.rank, found.alpha, found.runtime_alpha, found.notes) == (2, 3.5, 3.5, ())


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "not sound JSON"),
        (b"[]", "not a table"),
        (b"[" * 100_000, "not sound JSON"),
        (b'{"a":' * 100_000, "not sound JSON"),
        (b'{"r": ' + b"9" * 10_000 + b"}", "not sound JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b" " * (5 << 20), "larger than 4 MB"),
        (b'{"peft_type": "LORA", "r": 2}', "lora_alpha: Field required"),
    ],
    ids=["empty", "a list", "deep lists", "deep tables", "a huge number", "UTF-16", "large", "a key missing"],
)
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, raw: bytes, complaint: str) -> None:
    written(tmp_path, pair(Q))
    (tmp_path / "adapter_config.json").write_bytes(raw)
    with pytest.raises((ModelInvalid, InputError), match=complaint):
        adapter.look(tmp_path)


def changed(**tensors: Any) -> dict[str, Any]:
    """A sound pair with its A or B replaced, or more tensors beside it; None leaves one out."""
    names = {"A": f"base_model.model.{Q}.lora_A.weight", "B": f"base_model.model.{Q}.lora_B.weight"}
    found = pair(Q) | {names.get(key, key): value for key, value in tensors.items()}
    return {key: value for key, value in found.items() if value is not None}


ONE = np.ones((2, 64), np.float32)


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        (changed(A=None), "has no lora_A"),
        (changed(B=None), "has no lora_B"),
        (changed(A=ONE[0]), r"shapes \(64,\)"),
        (changed(A=ONE[:, None]), r"shapes \(2, 1, 64\)"),
        (changed(A=ONE.T), "which no LoRA of a linear layer has"),
        (changed(A=ONE[:0], B=ONE.T[:, :0]), "which no LoRA of a linear layer has"),
        (changed(A=ONE[:1], B=ONE.T[:, :1]), "and its rank is 2"),
        (changed(A=ONE * np.nan), "not finite"),
        (changed(B=ONE.T * np.inf), "not finite"),
        (changed(A=ONE.astype(np.int32)), "I32 numbers"),
        (changed(extra=ONE), "'extra' is neither A nor B"),
        (changed(**{"base_model.model.model.norm.weight": ONE[0]}), "part of trained norms"),
        (changed(**{"base_model.model.lm_head.weight": ONE}), "part of a trained output layer"),
        (changed(**{f"base_model.model.{Q}.lora_A.default.weight": ONE}), "neither A nor B"),
        (changed(**{"base_model.model.../../etc/passwd.lora_A.weight": ONE}), "neither A nor B"),
        (changed(**{"base_model.model.a\x1b[2Jb.lora_A.weight": ONE}), "neither A nor B"),
        (changed(**pair("lm_head")), "LoRA on lm_head"),
        (changed(**pair("model.embed_tokens")), "LoRA on model.embed_tokens"),
        (changed(**pair("m" * 300)), "a module name of 300 characters"),
        ({"x": ONE}, "neither A nor B"),
        ({}, "0 LoRA pairs"),
    ],
)
def test_weights_that_are_no_pairs_are_refused(tmp_path: Path, tensors: dict[str, Any], complaint: str) -> None:
    folder = written(tmp_path, {name: np.ascontiguousarray(values) for name, values in tensors.items()})
    with pytest.raises(ModelInvalid, match=complaint) as caught:
        adapter.look(folder)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "module", ["lm_heads", "model.layers.9.mlp.up_proj", "model.layers.0.mlp.fc1", "model.layers.0.input_layernorm"]
)
def test_a_layer_that_the_family_does_not_have_is_refused(tmp_path: Path, module: str) -> None:
    with pytest.raises(ModelInvalid, match="no linear layer of a llama model"):
        adapter.write(written(tmp_path, pair(module)), HAND, tmp_path / "adapter.gguf")
    assert not (tmp_path / "adapter.gguf").exists()


def test_a_base_of_other_sizes_is_refused_naming_both(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match=r"q_proj of shape \(64, 64\), and the base's has \(32, 32\)") as caught:
        adapter.write(written(tmp_path, pair(Q)), LLAMA, tmp_path / "adapter.gguf")
    assert "the base that the adapter was trained on" in caught.value.fix


def test_tensors_that_share_bytes_are_refused(tmp_path: Path) -> None:
    place = {"dtype": "F32", "shape": [2, 64], "data_offsets": [0, 512]}
    back = place | {"shape": [64, 2]}
    names = {
        f"base_model.model.model.layers.{block}.mlp.up_proj.lora_{half}.weight": one
        for block in range(9)
        for half, one in (("A", place), ("B", back))
    }
    written(tmp_path, {})
    raw = json.dumps(names).encode()
    (tmp_path / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(512))
    with pytest.raises(ModelInvalid, match="share their bytes"):
        adapter.look(tmp_path)


def test_a_cut_file_is_refused_at_every_length(tmp_path: Path) -> None:
    written(tmp_path, pair(Q))
    file = tmp_path / "adapter_model.safetensors"
    raw = file.read_bytes()
    for length in (0, 4, 8, 60, len(raw) // 2, len(raw) - 1):
        file.write_bytes(raw[:length])
        with pytest.raises(ModelInvalid, match="cannot be read as safetensors"):
            adapter.look(tmp_path)


def test_missing_files_pickles_and_what_is_no_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it has no adapter_config.json"):
        adapter.look(tmp_path / "nowhere")
    written(tmp_path, pair(Q))
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match="it has no adapter_model.safetensors"):
        adapter.look(tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match="pickle.*safe_serialization"):
        adapter.look(tmp_path)
    os.mkfifo(tmp_path / "adapter_model.safetensors")
    with pytest.raises(InputError, match="pickle"):
        adapter.look(tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    os.mkfifo(tmp_path / "adapter_config.json")
    with pytest.raises(InputError, match="it has no adapter_config.json"):
        adapter.look(tmp_path)


NAMES = [f"model.layers.{block}.{part}" for block in range(12) for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj")]
KEYS = [
    "q_proj",
    "^model.layers.3.mlp.up_proj",
    r"layers\.1[01]\.mlp.*",
    "layers.(2|4).self_attn.(q_proj|v_proj)",
    r"\d+.mlp.up_proj",
]
KEYS += ["proj", "model.layers.0.self_attn.q_proj", ".*v_proj", "layers.[^0-8].*", "self_attn.._proj$", "", "nothing"]


@pytest.mark.parametrize("keys", [[key] for key in KEYS] + [KEYS, KEYS[::-1]], ids=str)
def test_patterns_are_found_as_peft_finds_them(keys: list[str]) -> None:
    found = patterns.matched(dict.fromkeys(keys, "") | {key: key for key in keys}, NAMES, None, "here")
    wanted = {name: get_pattern_key(keys, name) for name in NAMES}
    assert found == {name: key if key in keys else None for name, key in wanted.items()}


@pytest.mark.parametrize(
    "key", ["(a*)*", "(?=a)", "(?:a)", r"(a)\1", "a**", "a{1000}", "a b", "é", "(", "[z-a]", "x{9,1}", "(?i)a", "*"]
)
def test_expressions_that_could_take_for_ever_are_no_patterns(key: str) -> None:
    with pytest.raises(ModelInvalid, match="which is not taken from a file"):
        patterns.matched({key: 1}, ["a.b"], 0, "here")


def test_patterns_of_a_large_model_are_within_the_limit_and_those_of_an_attack_are_not() -> None:
    large = [f"model.layers.{block}.self_attn.{part}_proj" for block in range(126) for part in "qkvo"]
    assert patterns.matched({name: number for number, name in enumerate(large)}, large, -1, "here")[large[77]] == 77
    for keys in ({".*a.*a.*a.*a": 1}, {f"(a|b)(c|d).*{number}": number for number in range(1000)}):
        with pytest.raises(ModelInvalid, match="take too long to match"):
            patterns.matched(keys, [f"{'a.' * 90}{number}" for number in range(100)], 0, "here")


def test_one_alpha_suits_most_modules_and_the_rest_is_in_b(tmp_path: Path) -> None:
    modules = [f"model.layers.{block}.self_attn.{part}_proj" for block in (0, 1) for part in "qo"]
    tensors = {name: values for module in modules for name, values in pair(module).items()}
    found = adapter.look(written(tmp_path, tensors, lora_alpha=4, alpha_pattern={"layers.0.self_attn.q_proj": 6}))
    assert found.runtime_alpha == 4
    assert {one.module: found.factor(one) for one in found.pairs} == dict.fromkeys(modules, 1.0) | {modules[0]: 1.5}
    again = adapter.write(tmp_path, HAND, tmp_path / "a.gguf").read_bytes()
    assert adapter.write(tmp_path, HAND, tmp_path / "b.gguf").read_bytes() == again


def test_numbers_too_large_are_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    target = tmp_path / "adapter.gguf"
    target.write_bytes(b"old")
    pattern = {"q_proj": 1e9, "o_proj": 1.0, "k_proj": 1.0}
    more = {name: one for part in ("o", "k") for name, one in pair(f"model.layers.0.self_attn.{part}_proj").items()}
    folder = written(tmp_path / "huge", changed(B=ONE.T * np.float32(3e38)) | more, alpha_pattern=pattern)
    with pytest.raises(ModelInvalid, match="too large for float32"):
        adapter.write(folder, HAND, target)
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter.gguf", "huge"]
    folder = written(tmp_path / "large", changed(A=ONE * np.float32(1e7)))
    with pytest.raises(ModelInvalid, match="too large for Q8_0"):
        adapter.write(folder, HAND, target, form="Q8_0")
    assert target.read_bytes() == b"old"


def test_no_space_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path / "adapter", pair(Q))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    with pytest.raises(InputError, match="MB are needed"):
        adapter.write(folder, HAND, tmp_path / "out" / "adapter.gguf")
    assert list((tmp_path / "out").iterdir()) == []


def test_bytes_turned_over_are_a_clear_error_or_another_sound_adapter(tmp_path: Path) -> None:
    written(tmp_path, pair(Q))
    chance = np.random.default_rng(3)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        raw = (tmp_path / name).read_bytes()
        for _ in range(150):
            broken = bytearray(raw)
            broken[chance.integers(len(raw))] = chance.integers(256)
            (tmp_path / name).write_bytes(broken)
            try:
                adapter.look(tmp_path)
            except PointsmanError as error:
                assert str(error)
        (tmp_path / name).write_bytes(raw)


def test_looking_needs_neither_torch_nor_gguf() -> None:
    heavy = ["torch", "peft", "gguf", "safetensors", "llama_cpp"]
    code = f"import sys, export.adapter, export.join; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
