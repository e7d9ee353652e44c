"""Where each tensor of each family goes, and what is no model of any family."""

from pathlib import Path

import numpy as np
import pytest

from data.errors import ModelInvalid
from export import families
from export.families import Family, Placed
from router.engines._llamacpp.header import Array, Header

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}
NAMES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Phi3ForCausalLM": "phi3",
    "PhiForCausalLM": "phi",
    "Gemma2ForCausalLM": "gemma2",
}


def family(name: str = "LlamaForCausalLM", **changes: object) -> Family:
    return families.of_config(CONFIG | {"architectures": [name], "model_type": NAMES[name]} | changes)


def header(**changes: object) -> Header:
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
    }
    return Header(Path("base.gguf"), 1, metadata | changes, {"token_embd.weight": (32, 100)})


def test_queries_and_keys_of_llama_are_reordered_by_their_own_heads() -> None:
    found = family()
    assert found.placed("model.layers.1.self_attn.q_proj.weight") == Placed("blk.1.attn_q.weight", heads=4)
    assert found.placed("model.layers.1.self_attn.k_proj.weight") == Placed("blk.1.attn_k.weight", heads=2)
    assert found.placed("model.layers.1.self_attn.k_proj.bias") == Placed("blk.1.attn_k.bias", heads=2, one_d=True)
    assert found.placed("model.layers.1.self_attn.v_proj.weight") == Placed("blk.1.attn_v.weight")
    assert family("Qwen2ForCausalLM").placed("model.layers.1.self_attn.q_proj.weight") == Placed("blk.1.attn_q.weight")


def test_norms_stay_in_f32_and_gemmas_gain_the_one_that_transformers_adds() -> None:
    assert family().placed("model.norm.weight") == Placed("output_norm.weight", one_d=True)
    gemma = family("Gemma2ForCausalLM", head_dim=8)
    assert gemma.placed("model.layers.0.post_attention_layernorm.weight") == Placed(
        "blk.0.post_attention_norm.weight", plus=1.0, one_d=True
    )
    assert gemma.placed("model.layers.0.mlp.up_proj.weight") == Placed("blk.0.ffn_up.weight")


def test_tied_output_matrices_and_rotary_buffers_are_left_out() -> None:
    assert family(tie_word_embeddings=True).placed("lm_head.weight") is None
    assert family().placed("lm_head.weight") == Placed("output.weight")
    assert family().placed("model.layers.0.self_attn.rotary_emb.inv_freq") is None


@pytest.mark.parametrize(
    ("name", "hf", "to"),
    [
        ("Phi3ForCausalLM", "model.layers.0.self_attn.qkv_proj", "blk.0.attn_qkv.weight"),
        ("Phi3ForCausalLM", "model.layers.1.mlp.gate_up_proj", "blk.1.ffn_up.weight"),
        ("PhiForCausalLM", "model.layers.0.self_attn.dense", "blk.0.attn_output.weight"),
        ("PhiForCausalLM", "model.layers.0.mlp.fc2", "blk.0.ffn_down.weight"),
        ("Qwen3ForCausalLM", "model.layers.0.self_attn.o_proj", "blk.0.attn_output.weight"),
        ("MistralForCausalLM", "lm_head", "output.weight"),
    ],
)
def test_a_linear_layer_is_found_by_its_modules_name(name: str, hf: str, to: str) -> None:
    assert family(name, head_dim=8).linear(hf).name == to


@pytest.mark.parametrize(
    "module",
    [
        "model.embed_tokens",
        "model.norm",
        "model.layers.0.input_layernorm",
        "model.layers.2.mlp.up_proj",
        "model.layers.00.mlp.up_proj",
        "model.layers.0.mlp.fc1",
        "self_attn.q_proj",
        "",
    ],
)
def test_what_is_no_linear_layer_is_refused(module: str) -> None:
    with pytest.raises(ModelInvalid, match="no linear layer"):
        family().linear(module)


def test_a_tied_output_matrix_is_no_linear_layer() -> None:
    with pytest.raises(ModelInvalid, match="lm_head"):
        family(tie_word_embeddings=True).linear("lm_head")


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.2.mlp.up_proj.weight",
        "model.layers.0.mlp.up_proj.scale",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.-1.mlp.up_proj.weight",
        "transformer.h.0.attn.weight",
        "model.norm.bias",
        "weight",
        "\x1b[2J",
    ],
)
def test_a_tensor_that_the_family_lacks_is_refused_without_its_control_characters(name: str) -> None:
    with pytest.raises(ModelInvalid) as caught:
        family().placed(name)
    assert "\x1b" not in caught.value.what


def test_biases_are_taken_only_where_llama_cpp_computes_with_them() -> None:
    assert family("Qwen2ForCausalLM").placed("model.layers.0.self_attn.q_proj.bias") == Placed("blk.0.attn_q.bias", one_d=True)
    for name, module in (("Qwen2ForCausalLM", "o_proj"), ("Qwen3ForCausalLM", "q_proj"), ("Gemma2ForCausalLM", "q_proj")):
        with pytest.raises(ModelInvalid, match="bias"):
            family(name, head_dim=8).placed(f"model.layers.0.self_attn.{module}.bias")


def test_shapes_name_every_tensor_that_the_file_must_have() -> None:
    found = family("PhiForCausalLM", num_key_value_heads=4).shapes()
    assert found["output.bias"] == (100,)
    assert found["blk.1.ffn_up.weight"] == (64, 32)
    assert found["blk.1.attn_norm.bias"] == (32,)
    fused = family("Phi3ForCausalLM").shapes()
    assert (fused["blk.0.attn_qkv.weight"], fused["blk.0.ffn_up.weight"]) == ((64, 32), (128, 32))
    assert "output.weight" not in family(tie_word_embeddings=True).shapes()
    assert family("Qwen3ForCausalLM", head_dim=16).shapes()["blk.0.attn_q.weight"] == (64, 32)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "MambaForCausalLM.*known are: LlamaForCausalLM"),
        ({"architectures": None, "model_type": "bert"}, "bert"),
        ({"architectures": [], "model_type": None}, "unnamed kind"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"hidden_size": 33}, "no multiple"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_hidden_layers": 1 << 40}, "num_hidden_layers"),
        ({"num_key_value_heads": 3}, "do not fit"),
        ({"head_dim": 7}, "do not fit"),
        ({"vocab_size": None}, "vocab_size"),
        ({"architectures": ["PhiForCausalLM"], "tie_word_embeddings": True}, "shares its output matrix"),
        ({"architectures": ["Gemma2ForCausalLM"], "tie_word_embeddings": False}, "of its own"),
    ],
)
def test_a_configuration_that_makes_no_model_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ModelInvalid, match=complaint):
        families.of_config(CONFIG | changes)


def test_what_a_configuration_leaves_out_is_as_transformers_has_it() -> None:
    assert family(num_key_value_heads=None).kv_heads == 4
    config = {key: value for key, value in CONFIG.items() if key != "num_key_value_heads"}
    gemma = families.of_config(config | {"architectures": ["Gemma2ForCausalLM"], "num_attention_heads": 8})
    assert (gemma.kv_heads, gemma.head_size, gemma.tied) == (4, 256, True)
    assert families.of_config(config | {"architectures": None}).architecture == "llama"


def test_a_gguf_file_tells_the_family_that_its_checkpoint_does() -> None:
    assert families.of_gguf(header()) == family(tie_word_embeddings=True)
    assert families.of_gguf(header(**{"llama.attention.key_length": 16})).head_size == 16


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"general.architecture": "mamba"}, "mamba.*known are: llama, qwen2"),
        ({"llama.attention.head_count": Array("I", 2)}, "head_count"),
        ({"llama.block_count": -1}, "block_count"),
        ({"llama.embedding_length": 2.5}, "embedding_length"),
    ],
)
def test_a_gguf_file_that_makes_no_model_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ModelInvalid, match=complaint):
        families.of_gguf(header(**changes))


def test_a_gguf_file_without_an_embedding_is_refused() -> None:
    found = header()
    found.tensors.clear()
    with pytest.raises(ModelInvalid, match="no embedding"):
        families.of_gguf(found)


def test_rows_are_reordered_from_halves_to_neighbours() -> None:
    rows = np.arange(8)
    assert families.reordered(rows, 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    matrix = np.stack([rows, -rows], axis=1)
    assert families.reordered(matrix, 1)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert families.reordered(rows, 0) is rows
    with pytest.raises(ModelInvalid, match="8 rows"):
        families.reordered(rows, 3)
