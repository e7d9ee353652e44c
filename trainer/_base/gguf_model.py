"""From a GGUF file to a model of transformers: the same numbers, where that is exact.

Exact are llama without rope scaling (Llama 2, Mistral, SmolLM2, TinyLlama: all of llama.cpp's family `llama`) and qwen2. Others are
refused with the reason: their GGUF form drops what training needs (the rope factors of Llama 3 and of Phi's longrope, Gemma's
norms, Phi-2's layout), and their checkpoint is as easy to get. Tensors are dequantised one at a time as transformers asks for them.
Source of names and of the row order of q and k: llama.cpp's convert_hf_to_gguf.py, LlamaModel and Qwen2Model.
Not covered: the tokenizer (`gguf_tokenizer`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import ModelInvalid
from data.sanitise import one_line
from trainer._base.gguf_file import FIX, GgufFile
from trainer._base.quantised import quiet
from trainer.device import torch

CHECKPOINT = "give the checkpoint (hub id or folder) instead"
FAMILIES = ("llama", "qwen2")
_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NAME = re.compile(r"(?:blk\.(\d+)\.)?([a-z_]+)\.(weight|bias)")


@dataclass(frozen=True, slots=True)
class _Lazy:
    """A tensor that is read when transformers takes it (`[...]`), as it takes those of safetensors."""

    file: GgufFile
    name: str
    heads: int  # whose rows llama.cpp reordered; 0: none

    def __getitem__(self, _: Any) -> Any:
        values = self.file.tensor(self.name)
        ordered = _ordered(values, self.heads) if self.heads else values
        return torch().from_numpy(ordered)


def admit(file: GgufFile) -> None:
    """Whether the model can be made exactly; raises ModelInvalid with the reason and what to give instead."""
    family, found = file.architecture, file.metadata
    if family not in FAMILIES:
        said = f"{file.path} is of the family {one_line(family, 40)!r}, whose GGUF form is not exactly the checkpoint's"
        raise ModelInvalid(said, f"{CHECKPOINT}; as GGUF: {', '.join(FAMILIES)}")
    scaling = found.get(f"{family}.rope.scaling.type", "none")
    if (
        scaling != "none"
        or "rope_freqs.weight" in file.tensors
        or found.get(f"{family}.rope.scaling.factor", 1.0) not in (0.0, 1.0)
    ):
        raise ModelInvalid(f"{file.path} scales its rope (as Llama 3 does), which a GGUF file does not hold exactly", CHECKPOINT)
    if found.get(f"{family}.expert_count", 0):
        raise ModelInvalid(f"{file.path} is a mixture of experts, which is not supported", "choose another base")
    for name in file.tensors:
        _translated(name, file)
    head = file.size("embedding_length") // file.size("attention.head_count")
    sizes = {file.size(f"attention.{kind}_length", head) for kind in ("key", "value")}
    if len(sizes) > 1 or sizes != {file.size("rope.dimension_count", *sizes)} or head % 2:
        raise ModelInvalid(f"{file.path} turns only a part of its heads by rope, which is not supported", CHECKPOINT)


def config(file: GgufFile) -> Any:
    """The configuration of transformers. Raises ModelInvalid where the file contradicts itself."""
    from transformers import LlamaConfig, Qwen2Config

    heads = file.size("attention.head_count")
    values: dict[str, Any] = {
        "vocab_size": file.embeddings,
        "hidden_size": file.size("embedding_length"),
        "intermediate_size": file.size("feed_forward_length"),
        "num_hidden_layers": file.size("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": file.size("attention.head_count_kv", heads),
        "head_dim": file.size("attention.key_length", file.size("embedding_length") // heads),
        "max_position_embeddings": file.size("context_length"),
        "rms_norm_eps": float(f"{file.number('attention.layer_norm_rms_epsilon'):.6g}"),  # 1e-5, written as float32
        "rope_parameters": {"rope_type": "default", "rope_theta": float(file.number("rope.freq_base", 10_000.0))},
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "bos_token_id": file.metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": file.metadata.get("tokenizer.ggml.eos_token_id"),
    }
    if file.architecture == "qwen2":
        return Qwen2Config(**values)
    return LlamaConfig(**values, attention_bias="blk.0.attn_q.bias" in file.tensors)


def model(file: GgufFile, **how: Any) -> Any:
    """The model of transformers, of `how` its from_pretrained takes. Raises ModelInvalid where tensors are missing or misshapen."""
    from transformers import LlamaForCausalLM, Qwen2ForCausalLM

    kind: Any = Qwen2ForCausalLM if file.architecture == "qwen2" else LlamaForCausalLM
    try:
        with quiet():
            built, told = kind.from_pretrained(None, config=config(file), state_dict=_state(file), output_loading_info=True, **how)
    except (ValueError, RuntimeError, KeyError, ZeroDivisionError) as error:
        raise ModelInvalid(f"{file.path} does not make a model: {one_line(str(error), 200)}", FIX) from error
    wrong = sorted(str(name) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in told[key])
    if wrong:
        raise ModelInvalid(f"{file.path} does not fit its own description, at {one_line(', '.join(wrong), 160)}", FIX)
    return built


def _state(file: GgufFile) -> Mapping[str, _Lazy]:
    heads = {"attn_q": file.size("attention.head_count")}
    heads["attn_k"] = file.size("attention.head_count_kv", heads["attn_q"])
    turned = heads if file.architecture == "llama" else {}
    found = {}
    for name in file.tensors:
        part = name.split(".")[-2]
        found[_translated(name, file)] = _Lazy(file, name, turned.get(part, 0))
    return found


def _translated(name: str, file: GgufFile) -> str:
    """The tensor's name in transformers; raises ModelInvalid for one that these families do not have."""
    parts = _NAME.fullmatch(name)
    where = "" if parts is None else (_INNER if parts[1] else _OUTER).get(parts[2], "")
    if parts is None or not where:
        raise ModelInvalid(f"{file.path} has the tensor {one_line(name, 60)!r}, which is not supported", CHECKPOINT)
    return f"{f'model.layers.{parts[1]}.' if parts[1] else ''}{where}.{parts[3]}"


def _ordered(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """The rows of q or k in transformers' order: halves of a head one after the other, where llama.cpp has them interleaved."""
    size = values.shape[0] // heads
    return values.reshape(heads, size // 2, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
