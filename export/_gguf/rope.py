"""The rotary positions of a checkpoint: which scaling it uses, and the factors that a GGUF file holds as tensors.

Sources: llama.cpp's conversion/base.py (TextModel), llama.py and phi.py (generate_extra_tensors), transformers'
modeling_rope_utils.py. Scalings that llama.cpp computes otherwise (dynamic) or that no family here uses are refused.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import ModelInvalid
from data.sanitise import one_line
from export.families import Family

THETA = 10_000.0  # transformers' and llama.cpp's default of the base
_KINDS = {
    "llama": ("default", "linear", "yarn", "llama3"),
    "qwen2": ("default", "linear", "yarn"),
    "qwen3": ("default", "linear", "yarn"),
    "phi3": ("default", "longrope"),
    "phi2": ("default",),
    "gemma2": ("default",),
}
_YARN = {  # the optional keys of YaRN and the writer's methods
    "extrapolation_factor": "add_rope_scaling_yarn_ext_factor",
    "attention_factor": "add_rope_scaling_yarn_attn_factor",
    "beta_fast": "add_rope_scaling_yarn_beta_fast",
    "beta_slow": "add_rope_scaling_yarn_beta_slow",
}


@dataclass(frozen=True, slots=True)
class Rope:
    """kind: of the scaling; dimensions: how many numbers of a head are rotated; original: tokens of context before scaling.

    attention: what longrope multiplies attention with; tensors: factors by name, shape (dimensions / 2,), float32.
    """

    kind: str
    theta: float
    dimensions: int
    original: int
    values: Mapping[str, Any]
    attention: float | None
    tensors: Mapping[str, NDArray[np.float32]]


def of_config(config: Mapping[str, Any], family: Family) -> Rope:
    """What config.json says, in its old form (rope_theta, rope_scaling) or the new one (rope_parameters). Raises ModelInvalid."""
    values = _parameters(config)
    kind = str(values.get("rope_type") or values.get("type") or "default")
    kind = "longrope" if kind == "su" else kind
    if kind not in _KINDS[family.architecture]:
        said = f"the checkpoint scales its rope by {one_line(kind, 40)!r}, which llama.cpp's {family.architecture} does not"
        raise ModelInvalid(said, "convert a version of the model without it")
    theta = number(values, "rope_theta", THETA)
    share = number(values, "partial_rotary_factor", 0.5 if family.architecture == "phi2" else 1.0)
    if share > 1:
        raise ModelInvalid(f"the config.json's partial_rotary_factor {share} is above 1")
    dimensions = family.head_size
    if family.architecture in ("phi2", "phi3"):
        dimensions = int(share * family.head_size)
    original = int(number(values, "original_max_position_embeddings", 4096.0)) if family.architecture == "phi3" else 0
    attention, tensors = None, {}
    if kind == "llama3":
        tensors["rope_freqs.weight"] = _llama3(values, theta, dimensions)
    elif kind == "longrope":
        tensors = {f"rope_factors_{one}.weight": _factors(values, f"{one}_factor", dimensions // 2) for one in ("long", "short")}
        attention = _attention(values, number(values, "factor", number(config, "max_position_embeddings") / original), original)
    return Rope(kind, theta, dimensions, original, values, attention, tensors)


def add(writer: Any, rope: Rope, family: Family) -> None:
    """The keys about rope, in llama.cpp's words."""
    from gguf import RopeScalingType

    kind = family.architecture
    if kind in ("llama", "phi2", "phi3"):
        writer.add_rope_dimension_count(rope.dimensions)
    if kind not in ("phi2", "gemma2") or rope.theta != THETA:  # of these two the reference takes the default for granted
        writer.add_rope_freq_base(rope.theta)
    if kind == "phi3":
        writer.add_rope_scaling_orig_ctx_len(rope.original)
    if rope.attention is not None:
        writer.add_rope_scaling_attn_factors(rope.attention)
    if rope.kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(RopeScalingType(rope.kind))
        writer.add_rope_scaling_factor(number(rope.values, "factor"))
    if rope.kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(int(number(rope.values, "original_max_position_embeddings")))
        for key, method in _YARN.items():
            if rope.values.get(key) is not None:
                getattr(writer, method)(number(rope.values, key))


def number(values: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """A number above 0; raises ModelInvalid for anything else."""
    found = values.get(key)
    found = default if found is None else found
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < 1e15:
        raise ModelInvalid(f"the config.json's {key} is {one_line(str(found), 40)}, which cannot be", "download it again")
    return float(found)


def _parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(found, dict) or any(isinstance(value, dict) for value in found.values()):
        raise ModelInvalid("the config.json's rope parameters are not of one kind for all layers, which no family here has")
    beside = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")
    return {key: config[key] for key in beside if config.get(key) is not None} | found


def _llama3(values: Mapping[str, Any], theta: float, dimensions: int) -> NDArray[np.float32]:
    """By how much Llama 3 slows each frequency down: nothing, `factor`, or in between by wavelength."""
    factor, low, high = (
        number(values, "factor", 8.0),
        number(values, "low_freq_factor", 1.0),
        number(values, "high_freq_factor", 4.0),
    )
    original = number(values, "original_max_position_embeddings", 8192.0)
    if low >= high:
        raise ModelInvalid("the config.json's low_freq_factor is not below its high_freq_factor")
    one = np.float32(1)
    exponents = np.arange(0, dimensions, 2, dtype=np.float32) / np.float32(dimensions)
    frequencies = one / (theta ** exponents.astype(np.float64)).astype(np.float32)
    waves = (one / frequencies) * np.float32(2 * math.pi)  # the order of torch, whose division by a tensor is a multiplication
    smooth = ((one / waves) * np.float32(original) - np.float32(low)) / np.float32(high - low)
    between = one / ((one - smooth) / np.float32(factor) + smooth)
    found = np.where(
        waves < np.float32(original / high), one, np.where(waves > np.float32(original / low), np.float32(factor), between)
    )
    return found.astype(np.float32)


def _factors(values: Mapping[str, Any], key: str, count: int) -> NDArray[np.float32]:
    found = values.get(key)
    if not isinstance(found, list) or len(found) != count or not all(type(one) in (int, float) and 0 < one < 1e6 for one in found):
        raise ModelInvalid(f"the config.json's {key} is no list of {count} numbers", "download it again")
    return np.asarray(found, dtype=np.float32)


def _attention(values: Mapping[str, Any], scale: float, original: int) -> float:
    if values.get("attention_factor") is not None:
        return number(values, "attention_factor")
    return math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 and original > 1 else 1.0
