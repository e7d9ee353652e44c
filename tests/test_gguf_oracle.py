"""What export.gguf writes beside llama.cpp's own converter, family by family, and what both compute beside transformers.

Tensors are equal byte for byte and so is every key, but for those that a test names with the reason.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import oracle
import tiny_checkpoints
import torch
import transformers

from data import catalog
from export import child, encoder, fidelity, gguf
from router.engines._llamacpp import bindings

LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 512}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.0, 2.0, 4.0, 8.0],
    "original_max_position_embeddings": 256,
}
GEMMA = {"query_pre_attn_scalar": 8, "sliding_window": 64, "spm": True}
PHI = {"num_key_value_heads": 4, "intermediate_size": 128}  # the converter takes both for granted
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-3": ("llama", {"rope_parameters": LLAMA_3, "head_dim": 64, "tie_word_embeddings": True}),
    "smollm": ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e5}, "tie_word_embeddings": True}),
    "tinyllama": ("llama", {"spm": True}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}),
    "mistral": ("mistral", {"spm": True, "head_dim": 16, "sliding_window": None}),
    "qwen2": ("qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen2-yarn": ("qwen2", {"rope_parameters": YARN}),
    "qwen3": ("qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "phi-plain": ("phi3", {"spm": True}),
    "phi-long": ("phi3", {"spm": True, "original_max_position_embeddings": 256, "rope_parameters": LONG}),
    "phi": ("phi", PHI),
    "gemma2": ("gemma2", GEMMA),
}
FORMED = (("qwen2", "F16"), ("gemma2", "F16"), ("tinyllama", "BF16"), ("llama-3", "Q8_0"), ("phi", "Q8_0"))
TYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16", "Q8_0": "q8_0"}


@dataclass(frozen=True)
class Made:
    """Checkpoints by name, and the files that both writers made of them, by name and form."""

    checkpoints: dict[str, Path]
    ours: dict[tuple[str, str], Path]
    theirs: dict[tuple[str, str], Path]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("oracle")
    made = {}
    for name, (family, changes) in CASES.items():
        made[name] = tiny_checkpoints.checkpoint(home / name, family, **{"initializer_range": 0.2} | changes)
        if not changes.get("spm"):
            as_published(made[name])
    (made["smollm"] / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    tiny_checkpoints.change(made["smollm"], "generation_config.json", temperature=0.25, top_k=40, top_p=0.5, repetition_penalty=1.5)
    in_bfloat16(made["tinyllama"])
    tiny_checkpoints.split_weights(made["qwen2"])
    return made


@pytest.fixture(scope="module")
def made(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Made:
    oracle.needs_sentencepiece()
    home = tmp_path_factory.mktemp("files")
    wanted = [*((name, "F32") for name in CASES), *FORMED]
    theirs = {key: home / f"{'-'.join(key)}.theirs.gguf" for key in wanted}
    oracle.convert(((checkpoints[name], theirs[name, form], TYPES[form]) for name, form in wanted), pre="smollm")
    ours = {(name, form): home / f"{name}-{form}.gguf" for name, form in wanted}
    for (name, form), path in ours.items():
        gguf.write(checkpoints[name], path, form)
    return Made(checkpoints, ours, theirs)


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_and_every_key_equals_the_converters(made: Made, name: str) -> None:
    metadata, tensors = oracle.read(made.ours[name, "F32"])
    their_metadata, their_tensors = oracle.read(made.theirs[name, "F32"])
    assert tensors == their_tensors
    assert metadata == oracle.without_guesses(their_metadata)


@pytest.mark.parametrize(("name", "form"), FORMED)
def test_every_form_equals_the_converters(made: Made, name: str, form: str) -> None:
    metadata, tensors = oracle.read(made.theirs[name, form])
    assert oracle.read(made.ours[name, form]) == (oracle.without_guesses(metadata), tensors)


def test_what_v5_of_transformers_saves_keeps_its_special_tokens(made: Made, tmp_path: Path) -> None:
    """Without added_tokens_decoder the converter takes control tokens for text, as tokenizer.json says they are not."""
    copy = tmp_path / "tinyllama"
    copy.mkdir()
    for file in made.checkpoints["tinyllama"].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    tiny_checkpoints.change(copy, "tokenizer_config.json", added_tokens_decoder=None)
    gguf.write(copy, tmp_path / "v5.gguf", "BF16")
    assert oracle.read(tmp_path / "v5.gguf") == oracle.read(made.ours["tinyllama", "BF16"])


def test_a_vocabulary_whose_tokenizer_adds_nothing_says_so(made: Made, tmp_path: Path) -> None:
    """The converter leaves the key out then, and llama.cpp's own default for Llama 3's pre-tokenizer adds a token."""
    checkpoint = tiny_checkpoints.checkpoint(tmp_path / "plain", "qwen2")
    gguf.write(checkpoint, tmp_path / "plain.gguf")
    metadata, _ = oracle.read(tmp_path / "plain.gguf")
    assert metadata["tokenizer.ggml.add_bos_token"][1] is False


def test_the_sentence_encoder_equals_the_converters(tmp_path: Path) -> None:
    """It differs in what tells of the model card, and in the pre-tokenizer's name, which a WordPiece vocabulary has no use for."""
    source = catalog.source_file(catalog.specs()["minilm-l6"])
    oracle.convert([(source.parent, tmp_path / "theirs.gguf", "f16")])
    encoder.convert(source, tmp_path / "ours.gguf", "all-MiniLM-L6-v2", "apache-2.0")
    (metadata, tensors), (their_metadata, their_tensors) = (
        oracle.read(tmp_path / "ours.gguf"),
        oracle.read(tmp_path / "theirs.gguf"),
    )
    assert tensors == their_tensors
    different = {key for key in metadata.keys() | their_metadata.keys() if metadata.get(key) != their_metadata.get(key)}
    assert {key for key in different if not key.startswith("general.")} == {"tokenizer.ggml.pre"}
    assert metadata["general.license"] == their_metadata["general.license"]


@pytest.mark.parametrize("name", CASES)
def test_llama_cpp_computes_what_transformers_does(
    checkpoints: dict[str, Path], tmp_path: Path, difference: Callable[..., float], name: str
) -> None:
    gguf.write(checkpoints[name], tmp_path / "model.gguf", "F32")
    assert difference(checkpoints[name], tmp_path / "model.gguf") < 3e-3


def test_a_long_rope_beyond_its_exact_context_is_told(
    checkpoints: dict[str, Path], tmp_path: Path, difference: Callable[..., float]
) -> None:
    written = gguf.write(checkpoints["phi-long"], tmp_path / "model.gguf", "F32")
    assert written.exact_context == 256
    assert "long rope factors" in written.notes[0]
    assert difference(checkpoints["phi-long"], tmp_path / "model.gguf", context=512) > 0.1


@pytest.fixture
def difference(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., float]]:
    """The largest difference of log-probabilities over random tokens, llama.cpp's cache in F32 so that it adds no rounding."""
    api = bindings.api()
    defaults = api.llama_context_default_params

    def exact() -> Any:
        params = defaults()
        params.type_k = params.type_v = 0  # ggml.h, GGML_TYPE_F32
        return params

    monkeypatch.setattr(api, "llama_context_default_params", exact)
    monkeypatch.setattr(api, "LLAMA_FLASH_ATTN_TYPE_ENABLED", api.LLAMA_FLASH_ATTN_TYPE_DISABLED)

    def measured(checkpoint: Path, file: Path, context: int = 256) -> float:
        model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")
        tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, 96).tolist()
        with torch.no_grad():
            wanted = fidelity.log_softmax(model.train(False)(torch.tensor([tokens])).logits[0].numpy())
        loaded = api.llama_model_load_from_file(str(file).encode(), api.llama_model_default_params())
        assert loaded
        runner = child._Context(api, loaded, size=context, threads=1)
        found = fidelity.log_softmax(runner.logits(tokens))
        runner.close()
        api.llama_model_free(loaded)
        return float(np.abs(wanted - found).max())

    yield measured


def as_published(folder: Path) -> None:
    """The tokenizer's files as published models have them: transformers' own class reads them."""
    tiny_checkpoints.change(folder, "tokenizer_config.json", eos_token="<|im_end|>", tokenizer_class="PreTrainedTokenizerFast")
    added = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    tiny_checkpoints.change(folder, "tokenizer.json", post_processor=added)


def in_bfloat16(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = {name: tensor.bfloat16() for name, tensor in tiny_checkpoints.load_file(path).items()}
    tiny_checkpoints.save_file(weights, path, {"format": "pt"})
