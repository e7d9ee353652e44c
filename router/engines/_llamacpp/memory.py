"""Memory: how much is free, and how much the KV cache of a context takes.

The size of a cache is that of F16 keys and values for every cell, as llama.cpp allocates and clears it (llama-kv-cache.cpp); where
layers differ in their heads, all are taken to be like the first. Not covered: what a graph takes while it computes.
"""

from pathlib import Path
from typing import Any

from router.engines._llamacpp.header import Header

CELLS = 256  # llama.cpp rounds contexts up to a multiple of it (llama-context.cpp, GGML_PAD)
_BYTES = 2  # of an F16 number


def available_bytes() -> int | None:
    """Memory that can be had without swapping, by Linux's own estimate; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def cache_bytes(api: Any, model: int, header: Header, tokens: int) -> int:
    """The KV cache of a context of that many tokens."""
    layers, heads = int(api.llama_model_n_layer(model)), int(api.llama_model_n_head_kv(model))
    width = int(api.llama_model_n_embd(model)) // max(1, int(api.llama_model_n_head(model)))
    sizes = [header.metadata.get(f"{header.architecture}.attention.{part}_length", width) for part in ("key", "value")]
    return _BYTES * layers * heads * sum(size for size in sizes if isinstance(size, int)) * padded(tokens)


def padded(tokens: int) -> int:
    """The cells that llama.cpp makes for a context of that many tokens."""
    return -(-tokens // CELLS) * CELLS
