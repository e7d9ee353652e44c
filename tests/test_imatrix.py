"""Importance matrices: what is summed while a model reads, how it is named for a GGUF file, and files from elsewhere."""

import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

import transformers  # noqa: E402
from tiny_checkpoints import CLASSES, checkpoint, read  # noqa: E402

from data import domains  # noqa: E402
from data.errors import InputError, ModelInvalid  # noqa: E402
from export import families, imatrix, quantise  # noqa: E402
from export.imatrix import Sums  # noqa: E402
from router.engines._llamacpp import header  # noqa: E402

ROWS = [[5, 9, 40, 77, 30, 31, 32, 200], [100, 3, 3]]


def model_of(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("base") / "llama", tie_word_embeddings=False)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def expected(model: Any, rows: list[list[int]]) -> dict[str, np.ndarray]:
    """The mean of squares by a tool of its own: inputs kept whole, then averaged."""
    kept: dict[str, list[Any]] = {}
    hooks = [
        part.register_forward_hook(lambda _, inputs, __, name=name: kept.setdefault(name, []).append(inputs[0][0].double()))
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear)
    ]
    with torch.no_grad():
        for row in rows:
            model(input_ids=torch.tensor([row]))
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(parts).square().mean(0).numpy() for name, parts in kept.items()}


@pytest.mark.parametrize("family", CLASSES)
def test_each_linear_layer_of_every_family_has_the_mean_of_its_squared_inputs(family: str, tmp_path: Path) -> None:
    own = family != "gemma2"  # whose output llama.cpp takes from the embedding
    folder = checkpoint(tmp_path / "base", family, tie_word_embeddings=not own)
    model = model_of(folder)
    found, wanted = imatrix.collect(model, ROWS), expected(model, ROWS)
    assert set(found) == set(wanted) - (set() if own else {"lm_head"})
    for name, one in found.items():
        assert one.count == sum(map(len, ROWS))
        assert one.values.dtype == np.float32
        assert one.values == pytest.approx(wanted[name], rel=1e-4)
    known = families.of_config(json.loads((folder / "config.json").read_text()))
    named = imatrix.named(found, known)
    shapes = known.shapes()
    assert {name for name in named if name.startswith("blk")} == {
        name for name, shape in shapes.items() if len(shape) == 2 and name.startswith("blk")
    }
    assert all(len(values) == shapes[name][1] for name, values in named.items())
    assert "token_embd.weight" not in named
    assert ("output.weight" in named) is own
    if family == "phi3":
        assert {"blk.0.attn_qkv.weight", "blk.1.ffn_up.weight"} <= set(named)


def test_a_tied_output_has_none_and_is_not_computed_at_every_token(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "base", tie_word_embeddings=True)
    model = model_of(folder)
    outputs = []
    model.lm_head.register_forward_hook(lambda _, __, out: outputs.append(out.shape[1]))
    found = imatrix.collect(model, ROWS)
    assert "lm_head" not in found
    assert outputs == [1, 1]
    assert len(imatrix.named(found, families.of_config(json.loads((folder / "config.json").read_text())))) == 14


def test_long_rows_are_cut_into_chunks_and_empty_ones_count_nothing(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(llama)
    monkeypatch.setattr(imatrix, "CHUNK", 3)
    cut = imatrix.collect(model, [[5, 9, 40, 77, 30], []])
    apart = imatrix.collect(model, [[5, 9, 40], [77, 30]])
    assert {name: one.values.tolist() for name, one in cut.items()} == {name: one.values.tolist() for name, one in apart.items()}
    assert {one.count for one in cut.values()} == {5}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj", "lm_head"]},
    ],
    ids=str,
)
def test_an_adapter_changes_what_flows_and_not_the_names(settings: dict[str, Any], llama: Path) -> None:
    torch.manual_seed(3)
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 64, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT 0.21 asks transformers for something by its old name
        model = peft.get_peft_model(model_of(llama), config)
    bare = imatrix.collect(model_of(llama), ROWS)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.2 * torch.randn_like(parameter)
    with_it = imatrix.collect(model, ROWS)
    assert set(with_it) == set(bare)
    merged = imatrix.collect(model.merge_and_unload(), ROWS)
    for name, one in with_it.items():
        assert one.values == pytest.approx(merged[name].values, rel=1e-3)
    last = "model.layers.1.mlp.down_proj"
    assert with_it[last].values != pytest.approx(bare[last].values, rel=1e-2)


def test_layers_in_four_bits_are_counted_too(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    folder = checkpoint(tmp_path / "base", hidden_size=64, intermediate_size=128, tie_word_embeddings=False)
    settings = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=settings)
    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False
    found = imatrix.collect(model, ROWS)
    assert {name: len(one.values) for name, one in found.items()} == {
        name: len(one.values) for name, one in imatrix.collect(model_of(folder), ROWS).items()
    }


def test_the_model_is_left_as_it_was(llama: Path) -> None:
    model = model_of(llama)
    model.train(True)
    before = {name: values.clone() for name, values in model.state_dict().items()}
    imatrix.collect(model, ROWS)
    assert model.training
    assert not any(part._forward_pre_hooks for part in model.modules())
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("rows", "words"), [([], "rows of tokens"), ([[]], "rows of tokens"), ([[1, 10**6]], "1000000"), ([[-1]], "-1")]
)
def test_rows_that_cannot_be_read_are_refused_and_no_hook_stays(llama: Path, rows: list[list[int]], words: str) -> None:
    model = model_of(llama)
    with pytest.raises(InputError, match=words):
        imatrix.collect(model, rows)
    assert not any(part._forward_pre_hooks for part in model.modules())


def test_a_model_that_computes_no_numbers_is_invalid(llama: Path) -> None:
    model = model_of(llama)
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelInvalid, match=r"layers\.1\.mlp\.down_proj"):
        imatrix.collect(model, ROWS)


def test_a_layer_that_the_family_has_not_is_refused(llama: Path) -> None:
    known = families.of_config(json.loads((llama / "config.json").read_text()))
    with pytest.raises(ModelInvalid):
        imatrix.named({"model.layers.0.evil": Sums(np.ones(4, np.float32), 1)}, known)


MATRIX = {"blk.0.attn_q.weight": np.arange(4, dtype=np.float32), "file": np.ones(3, np.float32)}


def test_what_is_saved_is_read_again_and_the_bytes_depend_on_the_numbers_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        imatrix.save(MATRIX, tmp_path / name / "imatrix.npz")
    assert (tmp_path / "a" / "imatrix.npz").read_bytes() == (tmp_path / "b" / "imatrix.npz").read_bytes()
    found = imatrix.read(tmp_path / "a" / "imatrix.npz")
    assert {name: values.tolist() for name, values in found.items()} == {name: one.tolist() for name, one in MATRIX.items()}
    with np.load(tmp_path / "a" / "imatrix.npz", allow_pickle=False) as plain:
        assert set(plain) == set(MATRIX)


def stored(values: Any, head: bytes = b"") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, values, allow_pickle=True)
    raw = out.getvalue()
    return raw.replace(b"(4,)", head) if head else raw


def entry(content: bytes, names: tuple[str, ...] = ("a.npy",), method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as opened:
        for name in names:
            opened.writestr(name, content)
    return out.getvalue()


GOOD = np.ones(4, np.float32)
HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"hello",
    "no entries": lambda: entry(b"", ()),
    "no array": lambda: entry(b"hello"),
    "pickle": lambda: entry(stored(np.array([{"a": 1}], dtype=object))),
    "negative": lambda: entry(stored(-GOOD)),
    "nan": lambda: entry(stored(GOOD * np.nan)),
    "float64": lambda: entry(stored(GOOD.astype(np.float64))),
    "matrix": lambda: entry(stored(np.ones((2, 2), np.float32))),
    "nothing": lambda: entry(stored(np.ones(0, np.float32))),
    "huge": lambda: entry(stored(GOOD, b"(99999999999999,)")),
    "more than it holds": lambda: entry(stored(GOOD, b"(99999,)")),
    "code as a header": lambda: entry(stored(GOOD, b"(__import__('os').getpid(),)")),
    "cut off": lambda: entry(stored(GOOD))[:-30],
    "unknown packing": lambda: entry(stored(GOOD)).replace(b"\x14\x00\x00\x00\x00\x00", b"\x14\x00\x00\x00\x63\x00"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_is_no_importance_matrix_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.npz"
    path.write_bytes(HOSTILE[kind]())
    with pytest.raises(ModelInvalid, match=r"hostile\.npz is no importance matrix") as caught:
        imatrix.read(path)
    assert "\n" not in caught.value.what


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match="No such file"):
        imatrix.read(tmp_path / "none.npz")


def test_a_matrix_of_the_users_own_prompts_brings_the_embedded_model_closer_to_itself(embedded_gguf: Path, tmp_path: Path) -> None:
    pack = domains.load("triage")
    base = read("smollm2-135m")
    rows = {
        split: [base.prompt_ids(pack.prompt(one.text)) for one in pack.examples if one.split == split][:count]
        for split, count in (("train", 4), ("validation", 1))
    }
    named = imatrix.named(imatrix.collect(base.model, rows["train"]), families.of_gguf(header.check(embedded_gguf)))
    assert len(named) == 30 * 7  # no embedding, and the output is tied to it
    matrix = imatrix.save(named, tmp_path / "imatrix.npz")
    made = [tmp_path / f"{name}.gguf" for name in ("F16", "plain", "weighted")]
    quantise.quantise(embedded_gguf, made[0], "F16")
    quantise.quantise(made[0], made[1], "Q4_0")
    quantise.quantise(made[0], made[2], "Q4_0", imatrix=matrix)
    _, plain, weighted = (figures.kl_mean for figures, _ in quantise.measure(made, rows["validation"], rounds=0))
    assert weighted < 0.8 * plain  # 0.19 and 0.32 with a larger matrix
    assert weighted < 0.3
