"""The model families that are written as GGUF: where each tensor of a Hugging Face checkpoint goes, and how it changes.

llama (Llama 3, SmolLM2, TinyLlama, Mistral), qwen2, qwen3, phi3, phi2 and gemma2. llama.cpp rotates neighbouring rows of a head in
`llama`, Hugging Face the two halves of it, so that the rows of q and k change places there (`reordered`); Gemma's norms are stored
less one. Source: llama.cpp's conversion/llama.py, qwen.py, phi.py, gemma.py and gguf-py's tensor_mapping.py, whose output tests
compare. Not covered: metadata and vocabularies (`export._gguf`), other architectures (`export.converter`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from data.errors import ModelInvalid
from data.sanitise import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from router.engines._llamacpp.header import Header

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Phi3ForCausalLM": "phi3",
    "PhiForCausalLM": "phi2",
    "Gemma2ForCausalLM": "gemma2",
}
"""The class in config.json -> the architecture in a GGUF file."""
MODEL_TYPES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "phi": "PhiForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
}
"""model_type in config.json -> its class that writes text."""
LARGEST = 1 << 24  # of a size in config.json; a vocabulary has some 2^18
MOST_BLOCKS = 1024

_EMBEDDING, _HEAD, _NORM = "model.embed_tokens", "lm_head", "model.norm"
_ATTENTION = {f"self_attn.{hf}": to for hf, to in zip(("q_proj", "k_proj", "v_proj"), ("attn_q", "attn_k", "attn_v"), strict=True)}
_GATED = {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
_LLAMA = _ATTENTION | {"self_attn.o_proj": "attn_output"} | _GATED
_LINEAR = {  # of a block, by architecture
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _LLAMA,
    "phi3": {
        "self_attn.qkv_proj": "attn_qkv",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    },
    "phi2": _ATTENTION | {"self_attn.dense": "attn_output", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down"},
}
_TWO_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
_NORMS = {  # of a block, by architecture
    "llama": _TWO_NORMS,
    "qwen2": _TWO_NORMS,
    "qwen3": _TWO_NORMS | {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"},
    "phi3": _TWO_NORMS,
    "phi2": {"input_layernorm": "attn_norm"},
    "gemma2": {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
}
_LAST_NORM = {"phi2": "model.final_layernorm"}
_QKV_BIAS = frozenset(("attn_q", "attn_k", "attn_v"))
_BIASES: dict[str, frozenset[str]] = {  # the matrices that may have one
    "llama": frozenset(_LLAMA.values()),  # attention_bias and mlp_bias of its configuration
    "qwen2": _QKV_BIAS,
    "phi2": frozenset((*_LINEAR["phi2"].values(), "output", "attn_norm", "output_norm")),
}
_OWN_HEAD_SIZE = ("llama", "qwen3", "gemma2")  # the others' heads share the width evenly; src/models/qwen2.cpp, phi2.cpp, phi3.cpp
_TIED = {"phi2": False, "gemma2": True}  # what llama.cpp can, where it cannot both
_DEFAULTS: dict[str, dict[str, Any]] = {  # of transformers' configuration classes, where a config.json leaves something out
    "MistralForCausalLM": {"num_key_value_heads": 8},
    "Qwen2ForCausalLM": {"num_key_value_heads": 32},
    "Qwen3ForCausalLM": {"num_key_value_heads": 32, "head_dim": 128},
    "Gemma2ForCausalLM": {"num_key_value_heads": 4, "head_dim": 256, "tie_word_embeddings": True},
}
_UNUSED = re.compile(r"(rotary_emb\.inv_freq|\.attention\.(masked_)?bias)$")  # follow from the configuration
_BLOCK = re.compile(r"model\.layers\.(0|[1-9]\d{0,3})\.([a-z_0-9.]+)")
_Values = TypeVar("_Values", bound="np.generic")


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a tensor goes.

    name: in the GGUF file, with its suffix. heads: its rows are reordered in as many heads (`reordered`), 0: they are not.
    plus: added to every number. one_d: a norm or a bias, which stays in F32 whatever the form of the file.
    """

    name: str
    heads: int = 0
    plus: float = 0.0
    one_d: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """A model's architecture, as a GGUF file names it, and its sizes.

    width: of the embedding; inner: of the feed-forward part; vocabulary: rows of the embedding; head_size: of one head.
    tied: whether the output matrix is the embedding and no tensor of its own.
    """

    architecture: str
    blocks: int
    heads: int
    kv_heads: int
    head_size: int
    width: int
    inner: int
    vocabulary: int
    tied: bool

    def placed(self, hf_name: str) -> Placed | None:
        """The place of a tensor of the checkpoint; None: it is left out on purpose (a tied output matrix, rotary buffers).

        Raises ModelInvalid for a tensor that the family does not have.
        """
        module, _, suffix = hf_name.rpartition(".")
        if _UNUSED.search(hf_name):
            return None
        found = self._module(module) if suffix in ("weight", "bias") else ""
        if not found or (suffix == "bias" and _part(found) not in _BIASES.get(self.architecture, ())):
            raise ModelInvalid(
                f"the checkpoint has a tensor {one_line(hf_name, 80)!r}, which no {self.architecture} model has",
                "give the original checkpoint of the model",
            )
        if found == "output" and self.tied:
            return None
        return self._placed(found, suffix)

    def linear(self, hf_module: str) -> Placed:
        """The place of the weight of a linear layer, named as in the model: "model.layers.0.self_attn.q_proj".

        Raises ModelInvalid for anything else: a norm, an embedding, a tied output matrix, a layer the family does not have.
        """
        found = self._module(hf_module)
        if _part(found) not in (*_LINEAR[self.architecture].values(), "output") or (found == "output" and self.tied):
            raise ModelInvalid(
                f"{one_line(hf_module, 80)!r} is no linear layer of a {self.architecture} model with its own weights"
            )
        return self._placed(found, "weight")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that the file must have: name -> shape (rows, columns); biases that it may have are not among them."""
        kind, width = self.architecture, self.width
        found: dict[str, tuple[int, ...]] = {"token_embd.weight": (self.vocabulary, width), "output_norm.weight": (width,)}
        if not self.tied:
            found["output.weight"] = (self.vocabulary, width)
        for block in range(self.blocks):
            for part in _LINEAR[kind].values():
                found[f"blk.{block}.{part}.weight"] = self._matrix(part)
            for part in _NORMS[kind].values():
                found[f"blk.{block}.{part}.weight"] = (self.head_size if part in ("attn_q_norm", "attn_k_norm") else width,)
        with_bias = _BIASES["phi2"] if kind == "phi2" else _QKV_BIAS if kind == "qwen2" else frozenset[str]()
        found |= {
            name.replace(".weight", ".bias"): shape[:1]
            for name, shape in found.items()
            if _part(name.removesuffix(".weight")) in with_bias
        }
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor that `placed` gave, required or not."""
        part = _part(name.rpartition(".")[0])
        whole = (self.vocabulary, self.width) if part in ("token_embd", "output") else (self.width,)
        if part in ("attn_q_norm", "attn_k_norm"):
            whole = (self.head_size,)
        elif part in _LINEAR[self.architecture].values():
            whole = self._matrix(part)
        return whole[:1] if name.endswith(".bias") else whole

    def _module(self, module: str) -> str:
        """The GGUF name of a module without suffix, "" for one that the family does not have."""
        outer = {_EMBEDDING: "token_embd", _HEAD: "output", _LAST_NORM.get(self.architecture, _NORM): "output_norm"}
        if module in outer:
            return outer[module]
        match = _BLOCK.fullmatch(module)
        if match is None or int(match[1]) >= self.blocks:
            return ""
        part = (_LINEAR[self.architecture] | _NORMS[self.architecture]).get(match[2], "")
        return f"blk.{match[1]}.{part}" if part else ""

    def _placed(self, found: str, suffix: str) -> Placed:
        part = _part(found)
        norm = part.endswith("_norm")
        turned = {"attn_q": self.heads, "attn_k": self.kv_heads} if self.architecture == "llama" else {}
        plus = 1.0 if norm and self.architecture == "gemma2" else 0.0
        return Placed(f"{found}.{suffix}", turned.get(part, 0), plus, norm or suffix == "bias")

    def _matrix(self, part: str) -> tuple[int, int]:
        """(rows, columns) of a block's matrix."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        inner = 2 * self.inner if self.architecture == "phi3" else self.inner
        return {
            "attn_q": (queries, self.width),
            "attn_k": (keys, self.width),
            "attn_v": (keys, self.width),
            "attn_qkv": (queries + 2 * keys, self.width),
            "attn_output": (self.width, queries),
            "ffn_gate": (self.inner, self.width),
            "ffn_up": (inner, self.width),
            "ffn_down": (self.width, self.inner),
        }[part]


def is_known(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's config.json is of a family that this module knows."""
    return _class(config) in ARCHITECTURES


def of_config(config: Mapping[str, Any]) -> Family:
    """The family of a checkpoint's config.json. Raises ModelInvalid naming the known families, or the size that is wrong."""
    name = _class(config)
    if name not in ARCHITECTURES:
        raise ModelInvalid(
            f"the checkpoint is a {one_line(name, 60) or 'model of an unnamed kind'}, whose GGUF form is not known here",
            f"known are: {', '.join(ARCHITECTURES)}",
        )
    kind = ARCHITECTURES[name]
    values = _DEFAULTS.get(name, {}) | dict(config)
    heads, width = _size(values, "num_attention_heads"), _size(values, "hidden_size")
    explicit = values.get("head_dim") is not None and kind in _OWN_HEAD_SIZE
    if not explicit and width % heads:
        raise ModelInvalid(f"the config.json's hidden_size {width} is no multiple of its {heads} heads")
    head_size, kv_heads = _size(values, "head_dim") if explicit else width // heads, _size(values, "num_key_value_heads", heads)
    if heads % kv_heads or head_size % 2:
        raise ModelInvalid(f"the config.json's {heads} heads of {head_size} numbers do not fit {kv_heads} key heads")
    tied = values.get("tie_word_embeddings", False) is True
    if tied != _TIED.get(kind, tied):
        said = "shares its output matrix with the embedding" if tied else "has an output matrix of its own"
        raise ModelInvalid(f"the checkpoint {said}, which llama.cpp's {kind} cannot")
    return Family(
        architecture=kind,
        blocks=_size(values, "num_hidden_layers", most=MOST_BLOCKS),
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        width=width,
        inner=_size(values, "intermediate_size"),
        vocabulary=_size(values, "vocab_size"),
        tied=tied,
    )


def of_gguf(header: "Header") -> Family:
    """The family of a base GGUF file, as `header.check` read it. Raises ModelInvalid as `of_config` does."""
    kind = header.architecture
    if kind not in ARCHITECTURES.values():
        known = ", ".join(dict.fromkeys(ARCHITECTURES.values()))
        raise ModelInvalid(f"{header.path} is of the family {one_line(kind, 40)!r}, which is not known here", f"known are: {known}")
    found = {key.removeprefix(f"{kind}."): value for key, value in header.metadata.items() if key.startswith(f"{kind}.")}
    embedding = header.tensors.get("token_embd.weight", ())
    if len(embedding) != 2:
        raise ModelInvalid(f"{header.path} holds no embedding: it is a vocabulary or a part of a model")
    heads, width = _size(found, "attention.head_count"), _size(found, "embedding_length")
    return Family(
        architecture=kind,
        blocks=_size(found, "block_count", most=MOST_BLOCKS),
        heads=heads,
        kv_heads=_size(found, "attention.head_count_kv", heads),
        head_size=_size(found, "attention.key_length", max(width // heads, 1)),
        width=width,
        inner=_size(found, "feed_forward_length"),
        vocabulary=embedding[1],
        tied="output.weight" not in header.tensors,
    )


def reordered(values: "NDArray[_Values]", heads: int) -> "NDArray[_Values]":
    """Rows of q or k (or their biases) in Hugging Face's order -> in llama.cpp's, head by head; heads 0: as they are.

    Of the halves a and b of a head: a0 a1 .. b0 b1 .. -> a0 b0 a1 b1 ... Source: LlamaModel.permute in conversion/llama.py.
    """
    if not heads:
        return values
    rows = values.shape[0]
    if rows % (2 * heads):
        raise ModelInvalid(f"{rows} rows cannot be divided into {heads} heads of two halves")
    return values.reshape(heads, 2, rows // heads // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def _part(found: str) -> str:
    return found.rpartition(".")[2]


def _class(config: Mapping[str, Any]) -> str:
    """The class that config.json names; where it names none, the one of its model_type that writes text."""
    named = config.get("architectures")
    if isinstance(named, list) and named:
        return str(named[0])
    return MODEL_TYPES.get(str(config.get("model_type")), str(config.get("model_type") or ""))


def _size(found: Mapping[str, Any], key: str, default: int | None = None, most: int = LARGEST) -> int:
    value = found.get(key)
    value = default if value is None else value
    if type(value) is not int or not 0 < value <= most:
        raise ModelInvalid(f"the model's {key} is {one_line(str(value), 40)}, which cannot be", "download or convert it again")
    return value
