"""Tiny PEFT adapters of every kind for tests of export, and the logits of torch and of llama.cpp with them.

`adapter` and `torch_logits` need torch and peft: call them after `pytest.importorskip("torch")`.
"""

import json
import warnings
from collections.abc import Sequence
from ctypes import c_float
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.engines._llamacpp import bindings

IDS = (7, 40, 99, 12, 200, 55, 3, 81, 150, 230, 64, 9, 177, 33, 120, 18)
"""Tokens that every tiny model has."""

SCALED: dict[str, dict[str, Any]] = {
    "rslora": {"use_rslora": True},
    "alpha_pattern": {"alpha_pattern": {"q_proj": 32, "layers.1.self_attn.o_proj": 1.5, "down_proj": 0.1}},
    "rank_pattern": {"rank_pattern": {r"layers\.0\..*": 2, "v_proj": 8}},
    "rslora_with_patterns": {"use_rslora": True, "rank_pattern": {"layers.1.*": 3}, "alpha_pattern": {".*(v_proj|gate_proj)": 5}},
    "odd_alpha": {"r": 3, "lora_alpha": 10},
    "negative_alpha": {"lora_alpha": -6},
    "no_alpha": {"lora_alpha": 0},
    "orthogonal": {"init_lora_weights": "orthogonal"},
}
"""Kinds of LoRA that are plain sums with some scale, as changes to a LoRA of rank 4 and alpha 8 on all linear layers."""

REFUSED: dict[str, dict[str, Any]] = {
    "dora": {"use_dora": True},
    "lora_bias": {"lora_bias": True},
    "bias": {"bias": "all"},
    "tokens": {"trainable_token_indices": [3, 5]},
    "pissa": {"init_lora_weights": "pissa"},
    "norms": {"modules_to_save": ["input_layernorm"]},
    "head": {"modules_to_save": ["lm_head"]},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "lm_head": {"target_modules": ["lm_head", "q_proj"]},
}
"""Kinds that are something else; and "loha" and "ia3", which are no LoRA."""


def adapter(folder: Path, checkpoint: Path, kind: str = "plain", *, strength: float = 0.2, **changes: Any) -> Path:
    """A folder as PEFT saves it, its A and B random; strength: of B, 0 makes an adapter that does nothing."""
    import torch
    from peft import get_peft_model

    torch.manual_seed(11)
    with calm():
        tuned = get_peft_model(model(checkpoint), _config(kind, changes))
        _shake(tuned, strength)
        tuned.save_pretrained(folder)
    return folder


def converted(folder: Path, checkpoint: Path, kind: str) -> tuple[Path, NDArray[np.float32]]:
    """An adapter of a refused kind put right as PEFT can: saved as a plain LoRA; with the logits that it had before."""
    import torch
    from peft import get_peft_model

    torch.manual_seed(11)
    with calm():
        tuned = get_peft_model(model(checkpoint), _config(kind, {}))
        if kind == "pissa":
            tuned.peft_config["default"].init_lora_weights = True  # as PEFT's documentation says
            tuned.save_pretrained(folder.with_name("first"))
            tuned.peft_config["default"].init_lora_weights = "pissa"
        _shake(tuned, 0.2)
        with torch.no_grad():
            logits = tuned.train(False)(torch.tensor([IDS])).logits[0].numpy()
        if kind == "pissa":
            tuned.save_pretrained(folder, path_initial_model_for_weight_conversion=str(folder.with_name("first")))
        else:
            from peft import save_as_lora

            save_as_lora(folder, tuned, rank=1.0)  # as high as it must be
    return folder, logits


def torch_logits(checkpoint: Path, folder: Path | None = None, ids: Sequence[int] = IDS) -> NDArray[np.float32]:
    """Of the checkpoint with the adapter as PEFT computes it: (tokens, vocabulary)."""
    import torch
    from peft import PeftModel

    with calm(), torch.no_grad():
        found = model(checkpoint)
        if folder is not None:
            found = PeftModel.from_pretrained(found, str(folder))
        return found.train(False)(torch.tensor([list(ids)])).logits[0].float().numpy()


def llama_logits(base: Path, adapter: Path | None = None, ids: Sequence[int] = IDS) -> NDArray[np.float32]:
    """Of a GGUF file in llama.cpp, with an adapter attached: (tokens, vocabulary). Its KV cache is in F32 and rounds nothing."""
    api = bindings.api()
    found = api.llama_model_load_from_file(str(base).encode(), api.llama_model_default_params())
    assert found, bindings.last_complaint()
    lora = api.llama_adapter_lora_init(found, str(adapter).encode()) if adapter else None
    assert lora or not adapter, bindings.last_complaint()
    params = api.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = len(ids)
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = 0  # GGML_TYPE_F32
    params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = api.llama_init_from_model(found, params)
    batch = api.llama_batch_init(len(ids), 0, 1)
    try:
        if lora:
            assert api.llama_set_adapters_lora(context, (api.llama_adapter_lora_p_ctypes * 1)(lora), 1, (c_float * 1)(1.0)) == 0
        batch.n_tokens = len(ids)
        for at, token in enumerate(ids):
            batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.logits[at] = token, at, 1, True
            batch.seq_id[at][0] = 0
        assert api.llama_decode(context, batch) == 0
        size = api.llama_vocab_n_tokens(api.llama_model_get_vocab(found))
        return np.ctypeslib.as_array(api.llama_get_logits(context), (len(ids), size)).copy()
    finally:
        api.llama_batch_free(batch)
        api.llama_free(context)
        if lora:
            api.llama_adapter_lora_free(lora)
        api.llama_model_free(found)


def distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[float, float]:
    """The mean KL divergence of the second from the first in nats, and the share of positions with the same first choice."""
    first, second = (values.astype(np.float64) - values.max(-1, keepdims=True) for values in (one, other))
    first, second = (values - np.log(np.exp(values).sum(-1, keepdims=True)) for values in (first, second))
    kl = (np.exp(first) * (first - second)).sum(-1)
    return float(np.maximum(kl, 0).mean()), float((one.argmax(-1) == other.argmax(-1)).mean())


def written(folder: Path, tensors: dict[str, NDArray[Any]], **config: Any) -> Path:
    """An adapter's folder by hand: `tensors` under their full names, `config` as PEFT's with a rank of 2 and an alpha of 4."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    said = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4} | config
    (folder / "adapter_config.json").write_text(json.dumps(said), encoding="utf-8")
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def pair(module: str, outputs: int = 64, inputs: int = 64, rank: int = 2, seed: int = 0) -> dict[str, NDArray[Any]]:
    """A random A and B for a module, by the names that PEFT gives them."""
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=(rank, inputs)), draw.normal(size=(outputs, rank))
    begin = f"base_model.model.{module}.lora_"
    return {f"{begin}A.weight": a.astype(np.float32), f"{begin}B.weight": b.astype(np.float32)}


def model(checkpoint: Path) -> Any:
    """The checkpoint in float32."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")


def calm() -> Any:
    """PEFT and transformers warn of each other; what they warn of is theirs."""
    return warnings.catch_warnings(action="ignore")


def _config(kind: str, changes: dict[str, Any]) -> Any:
    from peft import IA3Config, LoHaConfig, LoraConfig

    if kind == "loha":
        return LoHaConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_weights=False, **changes)
    if kind == "ia3":
        return IA3Config(task_type="CAUSAL_LM", target_modules=["q_proj"], feedforward_modules=[], **changes)
    usual = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    return LoraConfig(**usual | SCALED.get(kind, {}) | REFUSED.get(kind, {}) | changes)


def _shake(tuned: Any, strength: float) -> None:
    """B is zero when it is new."""
    import torch

    with torch.no_grad():
        for name, values in tuned.named_parameters():
            if "lora_B" in name or "lora_embedding_A" in name:
                values.copy_(strength * torch.randn_like(values))
