"""A checkpoint's configuration as GGUF keys, in the order of llama.cpp's converter, and what of it llama.cpp cannot compute.

Source: llama.cpp's conversion/base.py, llama.py, qwen.py, phi.py and gemma.py (set_gguf_parameters), gguf-py's metadata.py.
Not written are the keys that describe another model than the one at hand: the base's name, tags, languages, data sets and URLs
from its model card. Not covered: rope (`rope`), the vocabulary (`vocabulary`).
"""

import re
from collections.abc import Mapping
from typing import Any

from data.errors import ModelInvalid
from data.sanitise import one_line
from export._gguf.checkpoint import Folder
from export._gguf.rope import Rope, add, number
from export.families import Family

FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}  # llama.h, enum llama_ftype
_ACTIVATIONS = {
    "phi2": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"),
    "gemma2": ("gelu_pytorch_tanh", "gelu_new"),
}
_EPSILON = {"phi2": 1e-5, "phi3": 1e-5}  # where config.json names none: transformers' configuration classes
_SAMPLING = {  # keys of generation_config.json and the writer's methods
    "top_k": ("add_sampling_top_k", int),
    "top_p": ("add_sampling_top_p", float),
    "min_p": ("add_sampling_min_p", float),
    "temperature": ("add_sampling_temp", float),
    "repetition_penalty": ("add_sampling_penalty_repeat", float),
}
_27B_BLOCKS = 46  # by which llama.cpp knows Gemma 2 27B, src/models/gemma2.cpp
_LICENCE = re.compile(r"^license:\s*[\"']?([\w.+-]{1,60})", re.MULTILINE)


def require_computable(config: Mapping[str, Any], family: Family) -> None:
    """Raise ModelInvalid for what llama.cpp would compute otherwise than transformers, naming it."""
    kind = family.architecture
    activation = config.get("hidden_activation") if kind == "gemma2" else None
    activation = activation or config.get("hidden_act") or _ACTIVATIONS.get(kind, ("silu",))[0]
    if kind != "gemma2" and activation not in _ACTIVATIONS.get(kind, ("silu",)):
        raise ModelInvalid(
            f"the checkpoint's activation is {one_line(str(activation), 40)}, and llama.cpp's {kind} computes another"
        )
    if config.get("quantization_config"):
        raise ModelInvalid("the checkpoint is quantised already", "give the original one; the export quantises it")
    if kind == "gemma2":
        asked = number(config, "query_pre_attn_scalar", 256.0)
        computed = family.width / family.heads if family.blocks == _27B_BLOCKS else family.head_size
        if asked != computed:
            said = f"the checkpoint scales its queries by 1/sqrt({asked:g}), and llama.cpp's gemma2 by 1/sqrt({computed:g})"
            raise ModelInvalid(said, "set query_pre_attn_scalar to the size of a head and train it so")


def exact_context(config: Mapping[str, Any], family: Family, rope: Rope) -> tuple[int, str]:
    """Up to which n_ctx llama.cpp computes as transformers does, and why no further; (0, "") where there is no such limit."""
    most = int(number(config, "max_position_embeddings"))
    if rope.kind == "longrope" and rope.original < most:
        return rope.original, f"with a context above {rope.original} tokens llama.cpp uses the long rope factors for every text"
    used = config.get("use_sliding_window", family.architecture not in ("qwen2", "qwen3")) and family.architecture != "gemma2"
    window = config.get("sliding_window") if used else None
    if type(window) is int and 0 < window < most:
        return window, f"llama.cpp attends to all tokens, the checkpoint to the last {window}"
    return 0, ""


def add_general(writer: Any, folder: Folder, name: str) -> None:
    """What the file is; the tensors are known to the writer already."""
    from gguf import size_label

    writer.add_type("model")
    generation = folder.json_or_empty("generation_config.json")
    for key, (method, kind) in _SAMPLING.items():
        value = generation.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6:
            getattr(writer, method)(kind(value))
    writer.add_name(name)
    total, *parts = writer.get_total_parameter_count()
    writer.add_size_label(size_label(total, *parts))
    licence = _licence(folder)
    if licence:
        writer.add_license(licence)


def add_sizes(writer: Any, config: Mapping[str, Any], family: Family, rope: Rope, form: str) -> None:
    """The architecture's own keys."""
    from gguf import GGML_QUANT_VERSION

    kind = family.architecture
    writer.add_block_count(family.blocks)
    writer.add_context_length(int(number(config, "max_position_embeddings")))
    writer.add_embedding_length(family.width)
    writer.add_feed_forward_length(family.inner)
    writer.add_head_count(family.heads)
    writer.add_head_count_kv(family.kv_heads)
    if kind == "phi2":
        writer.add_layer_norm_eps(number(config, "layer_norm_eps", _EPSILON[kind]))
    else:
        writer.add_layer_norm_rms_eps(number(config, "rms_norm_eps", _EPSILON.get(kind, 1e-6)))
    if kind in ("llama", "qwen3", "gemma2"):
        writer.add_key_length(family.head_size)
        writer.add_value_length(family.head_size)
    if kind == "llama":
        writer.add_vocab_size(family.vocabulary)
    if kind == "gemma2":
        _add_gemma2(writer, config)
    if kind == "phi3":
        writer.add_sliding_window(int(config.get("sliding_window") or 0))
    add(writer, rope, family)
    writer.add_file_type(FILE_TYPES[form])
    writer.add_quantization_version(GGML_QUANT_VERSION)


def _add_gemma2(writer: Any, config: Mapping[str, Any]) -> None:
    writer.add_attn_logit_softcapping(number(config, "attn_logit_softcapping", 50.0))
    writer.add_final_logit_softcapping(number(config, "final_logit_softcapping", 30.0))
    writer.add_sliding_window(int(number(config, "sliding_window", 4096.0)))


def _licence(folder: Folder) -> str:
    """The licence that the model card's head names, "" where there is none."""
    if not folder.has("README.md") or (folder.path / "README.md").stat().st_size > 1 << 20:
        return ""
    parts = (folder.path / "README.md").read_text(encoding="utf-8", errors="replace").split("---", 2)
    found = _LICENCE.search(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    return found[1] if found else ""
