"""The device policy: which machine part trains, in which number format, with which optimiser. Everything in one place, to be read.

    CPU     weights in the format that this processor multiplies fastest, measured: AVX512-BF16 without AMX may be slower than
            float32; no gradient checkpointing, which costs time; fused AdamW; rows without padding (`forward`)
    CUDA    bfloat16 (float16 before Ampere); NF4 with paged 8-bit AdamW where asked for; packing with FlashAttention only
    MPS     bfloat16, without bitsandbytes
Not covered: memory (`estimate`), several processes (`launch`).
"""

import os
import time
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from data.errors import InputError, ModelMissing
from trainer.recipe import Recipe

PROBE = (512, 576, 1536)
"""Rows, inputs and outputs of the matrix product that is timed."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a run uses this machine. dtype: of the weights; optimizer: transformers' name; why: one line a choice."""

    device: Literal["cpu", "cuda", "mps"]
    dtype: Literal["float32", "bfloat16", "float16"]
    optimizer: str
    attention: Literal["sdpa", "flash_attention_2"]
    packing: bool
    threads: int
    why: tuple[str, ...] = ()

    @property
    def torch_dtype(self) -> Any:
        """As torch calls it."""
        return getattr(torch(), self.dtype)


def torch() -> Any:
    """The torch module. Raises ModelMissing with the command that installs it."""
    try:
        import torch as found
    except ImportError as error:
        raise ModelMissing(
            "training needs PyTorch and its companions, which are not installed", 'pip install "pointsman[train]"'
        ) from error
    return found


def policy(recipe: Recipe) -> Policy:
    """The policy for a recipe on this machine. Raises InputError for what it cannot do, ModelMissing without torch."""
    found = torch()
    if found.cuda.is_available():
        return _cuda(recipe, found)
    if found.backends.mps.is_available():
        if recipe.base.quantisation != "none":
            raise InputError("quantised training needs bitsandbytes, which does not run on MPS", 'set base.quantisation = "none"')
        dtype, why = _asked(recipe, "bfloat16", "MPS: bfloat16")
        return Policy("mps", dtype, "adamw_torch", "sdpa", False, os.cpu_count() or 1, (why,))
    return _cpu(recipe)


def _cpu(recipe: Recipe) -> Policy:
    if recipe.base.dtype == "float16":
        raise InputError("float16 does not train on a processor: its range is too small there", 'set base.dtype = "auto"')
    dtype, why = recipe.base.dtype, "as the recipe says"
    if dtype == "auto":
        ratio = bfloat16_speed()
        dtype = "bfloat16" if ratio > 1.0 else "float32"
        why = f"bfloat16 products take {1 / ratio:.2f} times as long as float32 ones here"
    threads = torch().get_num_threads()
    lines = (f"weights in {dtype}: {why}", f"{threads} threads", "rows without padding, fused AdamW, no gradient checkpointing")
    return Policy("cpu", dtype, "adamw_torch_fused", "sdpa", False, threads, lines)


def _cuda(recipe: Recipe, found: Any) -> Policy:
    modern = found.cuda.is_bf16_supported(including_emulation=False)
    dtype, why = _asked(recipe, "bfloat16" if modern else "float16", "bfloat16" if modern else "float16: older than Ampere")
    flash = _has("flash_attn")
    quantised = recipe.base.quantisation != "none"
    optimizer = "paged_adamw_8bit" if quantised and _has("bitsandbytes") else "adamw_torch_fused"
    lines = (
        f"weights in {why}",
        f"optimiser {optimizer}",
        "packing with FlashAttention" if flash else "no packing: without FlashAttention rows could see each other",
    )
    attention: Literal["sdpa", "flash_attention_2"] = "flash_attention_2" if flash else "sdpa"
    return Policy("cuda", dtype, optimizer, attention, flash, os.cpu_count() or 1, lines)


def _asked(recipe: Recipe, usual: Literal["bfloat16", "float16"], why: str) -> tuple[Any, str]:
    asked = recipe.base.dtype
    return (usual, why) if asked == "auto" else (asked, f"{asked}, as the recipe says")


@cache
def bfloat16_speed() -> float:
    """How many times as fast as in float32 this processor multiplies in bfloat16: the best of some products of each."""
    found = torch()
    rows, inputs, outputs = PROBE
    best = {}
    for dtype in (found.float32, found.bfloat16):
        left, right = found.ones(rows, inputs, dtype=dtype), found.ones(inputs, outputs, dtype=dtype)
        spent = []
        for _ in range(8):
            started = time.perf_counter()
            left @ right
            spent.append(time.perf_counter() - started)
        best[dtype] = min(spent)
    return float(best[found.float32] / best[found.bfloat16])


def _has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None
