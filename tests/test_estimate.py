"""The estimate before a run: shapes and what autograd keeps counted on real models, and what is said where a run does not fit."""

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from data.errors import InputError
from trainer import estimate, recipe
from trainer._estimate import machine, memory, shapes, sizes, work
from trainer.device import Policy
from trainer.recipe import LoraTable, Recipe, StageTable

torch = pytest.importorskip("torch", reason="estimates of a loaded model need torch")
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it
TINY = {"hidden": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 16, "ff": 192, "vocab": 300, "tied": False}
GB = 10**9


@dataclass(frozen=True)
class Row:
    prompt: tuple[int, ...]
    completion: tuple[int, ...]


@dataclass(frozen=True)
class Rows:
    rows: tuple[Row, ...]
    prefix: tuple[int, ...] = ()


def _config(shape):
    from transformers import AutoConfig

    return AutoConfig.for_model(
        shape.family,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.ff,
        vocab_size=shape.vocab,
        tie_word_embeddings=shape.tied,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def _tuned(shape, dtype="float32"):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(_config(shape), dtype=getattr(torch, dtype))
    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, adapter)


def _rows(count=40, prompt=60, answer=20, prefix=30):
    return Rows(tuple(Row(tuple(range(prompt)), tuple(range(answer))) for _ in range(count)), tuple(range(prefix)))


def _policy(**changes):
    return Policy(
        **{"device": "cpu", "dtype": "float32", "optimizer": "adamw_torch_fused", "attention": "sdpa", **changes},
        packing=False,
        threads=1,
    )


def _recipe(**changes):
    return Recipe.model_validate({"name": "r", "domain": "triage", **changes})


def _small(tmp_path, monkeypatch, available, table=None, **more):
    """An estimate of a 135M model on a machine with so much memory."""
    monkeypatch.setattr(machine, "available_bytes", lambda device: available)
    config = _config(shapes.known()["smollm2-135m"])
    rows = _rows(400, 500, 60, 300)
    return estimate.estimate(table or _recipe(), _policy(), config, [rows], tmp_path, **more)


@pytest.mark.parametrize("name", shapes.known())
def test_published_shape_counts_the_parameters_of_the_real_architecture(name):
    from transformers import AutoModelForCausalLM

    shape = shapes.known()[name]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(_config(shape))
    assert shape.parameters == sum(weight.numel() for weight in model.parameters())
    assert shapes.of(model.config) == shape


def test_shape_of_the_embedded_base_is_that_of_its_file(embedded_gguf):
    from gguf import GGUFReader

    reader = GGUFReader(embedded_gguf)
    field = {
        name: reader.get_field(f"llama.{name}").contents() for name in ("embedding_length", "block_count", "feed_forward_length")
    }
    shape = shapes.known()["smollm2-135m"]
    assert (shape.hidden, shape.layers, shape.ff) == tuple(field.values())
    assert shape.parameters == sum(int(tensor.n_elements) for tensor in reader.tensors)


@pytest.mark.parametrize("family", ["llama", "phi", "phi3"])
def test_adapter_parameters_are_those_that_peft_makes(family):
    shape = shapes.Shape(family, **TINY)
    model = _tuned(shape)
    assert shapes.adapter_parameters(shape, LoraTable()) == sum(one.numel() for one in model.parameters() if one.requires_grad)


def test_top_layers_share_of_the_adapter():
    shape = shapes.known()["smollm2-135m"]
    whole, top = (shapes.adapter_parameters(shape, LoraTable(layers=layers)) for layers in ("all", "top:10"))
    assert whole == 3 * top


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "gemma2", "phi", "phi3"])
@pytest.mark.parametrize("prefix", [0, 200])
def test_activations_are_what_autograd_keeps(family, dtype, prefix):
    shape = shapes.Shape(family, **TINY)
    rows, own, answer = 4, 30, 5
    kept = _kept(_tuned(shape, dtype), prefix, rows, own, answer)
    size = sizes.Sizes(rows, prefix, own, own, own, own, answer, answer)
    stage, setup = StageTable(kind="sft"), memory.Setup("cpu", dtype)
    found = memory.activations(stage, shape, LoraTable(), size, setup, rows) + 4 * rows * answer * shape.vocab
    assert found == pytest.approx(kept, rel=0.1)


def _kept(model, prefix, rows, own, answer):
    from trainer import forward

    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor keeps the address from being given again
        return tensor

    shared = [5] * prefix
    batch = forward.batched(shared, [[*shared, *[7] * (own - answer)]] * rows, [[9] * answer] * rows)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward.scored(model, batch)
    return sum(size for size, _ in kept.values())


def test_quantised_weights_take_a_quarter_of_bfloat16_ones():
    shape = shapes.known()["mistralai/Mistral-7B-Instruct-v0.3"]
    plain, nf4 = (memory.weights(shape, memory.Setup("cuda", "bfloat16", kind)) for kind in ("none", "nf4"))
    assert plain == 2 * shape.parameters
    assert 0.25 < nf4 / plain < 0.31


def test_sizes_leave_the_shared_prefix_out_of_each_row():
    found = sizes.measured(Rows((Row((1,) * 50, (2,) * 10), Row((1,) * 70, (2,) * 20)), (1,) * 40))
    assert (found.rows, found.prefix, found.p50, found.longest, found.answer) == (2, 40, 50, 50, 15)
    assert sizes.measured(Rows(())).rows == 0


@pytest.mark.parametrize(
    ("stage", "steps"),
    [
        ({"kind": "sft", "epochs": 3, "batch": 16}, 3 * 7),
        ({"kind": "sft", "epochs": 0.5, "batch": 16}, 4),
        ({"kind": "sft", "max_steps": 5}, 5),
        ({"kind": "grpo", "batch": 16, "generations": 8, "rewards": ("brief",)}, 50),
    ],
)
def test_steps_of_a_stage_over_a_hundred_rows(stage, steps):
    assert work.steps_of(StageTable.model_validate(stage), 100) == steps


def test_run_that_fits_says_how_much_of_everything_it_takes(tmp_path, monkeypatch):
    found = _small(tmp_path, monkeypatch, 64 * GB, held_out=50)
    assert found.fits and not found.measured and not found.alternatives
    assert found.total_bytes == sum(found.memory.values())
    assert found.memory["weights"] == 4 * 134_515_008
    assert found.disk_bytes > 2 * (found.memory["adapter"] + found.memory["optimiser"])
    assert (found.steps, found.tokens) == (25, 400 * 560)
    text = "\n".join(found.lines())
    assert "fits" in text and "by formula" in text and "activations" in text and "25 steps" in text


def test_micro_batch_is_the_largest_share_that_leaves_room(tmp_path, monkeypatch):
    roomy, tight = (_small(tmp_path, monkeypatch, size * GB).micro_batch for size in (64, 10))
    assert roomy == 16 and 1 <= tight < 16 and 16 % tight == 0
    assert _small(tmp_path, monkeypatch, 64 * GB, processes=4).micro_batch == 4


def test_run_that_does_not_fit_offers_settings_with_their_numbers(tmp_path, monkeypatch):
    table = _recipe(stages=[{"kind": "sft", "micro_batch": 16}])
    found = _small(tmp_path, monkeypatch, 12 * GB, table)
    assert not found.fits
    first = found.alternatives[0]
    assert first.startswith("micro_batch = ") and first.endswith(" GB")
    assert any(one.startswith('lora.layers = "top:8"') for one in found.alternatives)
    with pytest.raises(InputError, match=r"GB of memory.*micro_batch"):
        estimate.require(found)


def test_every_alternative_really_fits(tmp_path, monkeypatch):
    table = _recipe(stages=[{"kind": "sft", "micro_batch": 16}])
    found = _small(tmp_path, monkeypatch, 12 * GB, table)
    assert found.alternatives and all(
        float(one.rsplit(": ", 1)[1].removesuffix(" GB")) <= 0.9 * 12.05 for one in found.alternatives
    )


def test_where_nothing_helps_the_fix_says_so(tmp_path, monkeypatch):
    found = _small(tmp_path, monkeypatch, GB // 2)
    assert not found.fits and found.alternatives == ()
    with pytest.raises(InputError, match="larger machine"):
        estimate.require(found)


def test_smaller_base_is_offered_for_a_large_one(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "available_bytes", lambda device: 8 * GB)
    config = _config(shapes.known()["mistralai/Mistral-7B-Instruct-v0.3"])
    found = estimate.estimate(_recipe(), _policy(device="cuda", dtype="bfloat16"), config, [_rows()], tmp_path)
    assert any(one.startswith("base.model = ") for one in found.alternatives)


def test_disk_too_small_is_refused_with_both_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "free_disk_bytes", lambda folder: 1_000_000)
    with pytest.raises(InputError, match=r"needs .* GB of disk .* 0\.00 GB are free"):
        _small(tmp_path, monkeypatch, 64 * GB)


def test_free_disk_of_a_folder_that_is_not_there_yet(tmp_path):
    assert machine.free_disk_bytes(tmp_path / "not" / "yet") > 0


def test_probe_replaces_the_formula_by_what_was_seen(tmp_path, monkeypatch):
    clock = iter(range(0, 100, 2))
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(machine, "peak_bytes", lambda device: 20 * GB)
    lengths = []
    found = _small(tmp_path, monkeypatch, 64 * GB, step=lengths.append)
    assert lengths == [560, 560, 560]
    assert found.measured and found.total_bytes == 20 * GB == sum(found.memory.values())
    assert found.seconds == pytest.approx(25 * 2)  # a step is one micro batch of 16 here, each took 2 s
    assert "measured" in found.lines()[0]


def test_probe_that_shows_too_much_memory_offers_alternatives(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "peak_bytes", lambda device: 63 * GB)
    found = _small(tmp_path, monkeypatch, 64 * GB, step=lambda length: None)
    assert found.measured and not found.fits


def test_nothing_is_probed_where_the_formula_says_it_cannot_fit(tmp_path, monkeypatch):
    found = _small(tmp_path, monkeypatch, GB, step=lambda length: pytest.fail("probed"))
    assert not found.measured


def test_fault_of_a_probe_is_raised(tmp_path, monkeypatch):
    def broken(length):
        raise InputError("the loss is not finite")

    with pytest.raises(InputError, match="not finite"):
        _small(tmp_path, monkeypatch, 64 * GB, step=broken)


def test_probe_that_runs_out_of_memory_becomes_an_answer(tmp_path, monkeypatch):
    def exhausted(length):
        raise torch.OutOfMemoryError("CUDA out of memory")

    found = _small(tmp_path, monkeypatch, 64 * GB, step=exhausted)
    assert found.measured and not found.fits and found.total_bytes >= found.available_bytes
    with pytest.raises(InputError, match="GB of memory"):
        estimate.require(found)


def test_processes_on_one_machine_share_its_memory(monkeypatch):
    whole = machine.available_bytes("cpu")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert machine.available_bytes("cpu") < 0.5 * whole


def test_seconds_between_the_probed_lengths_lie_on_the_line():
    seen = estimate.Probe(100, 1.0, 200, 3.0, 0)
    assert [seen.seconds(length) for length in (100, 150, 10)] == [1.0, 2.0, 0.5]
    assert estimate.Probe(100, 3.0, 200, 1.0, 0).seconds(200) == 3.0  # noise: never faster for being longer


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux to forget an earlier peak")
def test_peak_of_memory_is_of_the_steps_and_not_of_what_came_before():
    large = bytearray(300_000_000)
    large[::4096] = b"x" * len(large[::4096])
    del large
    before = machine.available_bytes("cpu")
    found = estimate.probe(lambda length: bytearray(length * 1_000_000).find(b"x"), "cpu", 1, 60)
    assert 60_000_000 < found.peak_bytes < before
    machine.forget_peak("cpu")
    assert machine.peak_bytes("cpu") < found.peak_bytes + 200_000_000


def test_control_group_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    unlimited = machine.available_bytes("cpu")
    (tmp_path / "memory.max").write_text("2000000\n")
    (tmp_path / "memory.current").write_text("1500000\n")
    limited = machine.available_bytes("cpu")
    assert limited < unlimited
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.available_bytes("cpu") > limited


def test_configuration_without_sizes_is_refused():
    with pytest.raises(InputError, match="num_attention_heads"):
        shapes.of(SimpleNamespace(hidden_size=8))


def test_unknown_base_cannot_be_planned():
    with pytest.raises(InputError, match="someone/else"):
        estimate.planned(_recipe(base={"model": "someone/else"}))


def test_preference_stages_take_more_than_sft_for_the_same_rows():
    shape, size = shapes.known()["smollm2-135m"], sizes.Sizes(100, 50, 100, 100, 100, 100, 40, 40)
    bytes_of = {
        kind: sum(memory.parts(StageTable(kind=kind), shape, LoraTable(), size, memory.Setup(), 4).values())
        for kind in ("sft", "kto", "dpo")
    }
    flops = {kind: work.of(StageTable(kind=kind), shape, LoraTable(), size, 0, 4).flops for kind in ("sft", "kto", "dpo")}
    assert bytes_of["sft"] < bytes_of["kto"] and bytes_of["sft"] < bytes_of["dpo"]
    assert flops["sft"] < flops["kto"] < flops["dpo"]


def test_data_that_was_not_read_is_assumed_and_limited():
    stage = StageTable(kind="kto", min_rows=20)
    assert sizes.planned(_recipe(domain="", data={"train": ["log"]}), stage, None).rows == sizes.LOG_ROWS
    assert sizes.planned(_recipe(domain="", data={"train": ["log"], "limit": 7}), stage, None).rows == 7


def test_joint_rows_count_twice_and_reasoning_is_longer():
    from data import domains

    domain = domains.load("gtm")
    found = {
        form: sizes.planned(recipe.load("gtm"), StageTable(kind="sft", format=form), domain)
        for form in ("answer", "reasoning", "joint")
    }
    assert found["joint"].rows == 2 * found["answer"].rows
    assert found["reasoning"].answer > found["answer"].answer


@pytest.mark.parametrize(("seconds", "said"), [(0, "1 s"), (42, "42 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_read_as_people_say_them(seconds, said):
    assert estimate.duration(seconds) == said


def test_estimate_is_plain_json(tmp_path, monkeypatch):
    import json

    found = _small(tmp_path, monkeypatch, 64 * GB).to_dict()
    assert json.loads(json.dumps(found))["memory"]["weights"] > 0
    assert Path(tmp_path).is_dir()
