"""A PEFT adapter on disk, checked, as the settings with which PEFT makes it again: what `export.adapter` refuses can be merged.

Which modules have a LoRA, and of which rank, is told by the weights and not by patterns of the file, which are only matched where
that cannot take long. rsLoRA, patterns of rank and alpha, DoRA, biases, whole layers trained beside it (modules_to_save), trained
token embeddings and LoRA on embeddings are taken; what takes its start out of the base's weights, or acts on some tokens only, is
refused. Source: PEFT 0.21, tuners/lora/config.py. Not covered: PEFT's other kinds of adapter.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data import paths
from data.errors import InputError, ModelInvalid
from data.sanitise import one_line
from export._adapter import patterns
from export.safetensors import Safetensors

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
AGAIN = "copy or train the adapter again"
EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out", "word_embeddings")
"""Last parts of the names of modules whose weights may be shared by input and output."""
_MOST_BYTES = 4 << 20
_MOST_MODULES = 1 << 15
_NAME = re.compile(r"base_model\.model\.([\w.]{1,200})\.lora_(?:A\.weight|embedding_A)", re.ASCII)
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva", "mica")
_REFUSED = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)


class _Settings(BaseModel):
    """The part of adapter_config.json that decides what the adapter computes."""

    model_config = ConfigDict(extra="allow", frozen=True)

    peft_type: str
    r: int = Field(gt=0, le=1 << 16)
    lora_alpha: float = Field(allow_inf_nan=False)
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    fan_in_fan_out: bool = False
    ensure_weight_tying: bool = False
    bias: str = Field("none", pattern="^(none|all|lora_only)$")
    init_lora_weights: bool | str | None = True
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    modules_to_save: list[str] | None = Field(None, max_length=64)
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None


@dataclass(frozen=True)
class PeftAdapter:
    """weights: the checked file; settings: what peft.LoraConfig takes; unties: whether the adapter changes an embedding or the
    output by itself, which a base whose two are one and the same cannot hold; notes: what it is beside a plain LoRA, in words."""

    weights: Safetensors
    settings: Mapping[str, Any]
    unties: bool
    notes: tuple[str, ...]


def look(folder: Path) -> PeftAdapter:
    """The adapter in a folder. Raises InputError where there is none, ModelInvalid where it is damaged or cannot be merged."""
    found = _settings(folder)
    weights = _weights(folder)
    ranks = _ranks(weights)
    modules = list(ranks)
    file = folder / CONFIG
    said = patterns.matched(found.rank_pattern or {}, modules, found.r, f"{file}: its rank_pattern")
    alphas = patterns.matched(found.alpha_pattern or {}, modules, found.lora_alpha, f"{file}: its alpha_pattern")
    wrong = next((module for module in modules if said[module] != ranks[module]), "")
    if wrong:
        raise ModelInvalid(f"{file} says rank {said[wrong]} for {wrong}, and its weights have {ranks[wrong]}", AGAIN)
    whole = list(found.modules_to_save or ())
    unties = any(name.rpartition(".")[2] in EMBEDDINGS for name in (*modules, *whole)) and not found.ensure_weight_tying
    settings: dict[str, Any] = {
        "r": found.r,
        "lora_alpha": found.lora_alpha,
        "target_modules": modules,
        "rank_pattern": {re.escape(module): rank for module, rank in ranks.items() if rank != found.r},
        "alpha_pattern": {re.escape(module): alpha for module, alpha in alphas.items() if alpha != found.lora_alpha},
        "modules_to_save": whole or None,
        "trainable_token_indices": found.trainable_token_indices,
    }
    same = ("use_rslora", "use_dora", "lora_bias", "fan_in_fan_out", "ensure_weight_tying", "bias")
    return PeftAdapter(weights, settings | {name: getattr(found, name) for name in same}, unties, _notes(found))


def _settings(folder: Path) -> _Settings:
    file = folder / CONFIG
    if not file.is_file():
        raise InputError(f"{folder} holds no adapter: it has no {CONFIG}", "name the adapter's folder, as PEFT saves it")
    try:
        found = _Settings.model_validate(json.loads(paths.read_text(file, _MOST_BYTES, "an adapter's configuration is smaller")))
    except ValidationError as error:
        first = error.errors()[0]
        where = one_line(".".join(str(part) for part in first["loc"]), 80)
        raise ModelInvalid(f"{file}: {where}: {one_line(first['msg'], 160)}", AGAIN) from error
    except (ValueError, RecursionError) as error:
        raise ModelInvalid(f"{file} is not sound JSON", AGAIN) from error
    if found.peft_type != "LORA":
        said = f"{file}: the adapter is {one_line(found.peft_type, 40)}, and LoRA alone can be merged"
        raise ModelInvalid(said, "convert it with PEFT (save_as_lora), or train a LoRA")
    for name in _REFUSED:
        if (found.model_extra or {}).get(name):
            raise ModelInvalid(f"{file}: the adapter has {name}, which cannot be merged", "train it as a plain LoRA")
    start = found.init_lora_weights
    if start not in _PLAIN_STARTS:
        said = f"{file}: its start {one_line(str(start), 30)!r} changed the base's weights"
        raise ModelInvalid(said, "save it with path_initial_model_for_weight_conversion, which makes a plain LoRA of it")
    return found


def _weights(folder: Path) -> Safetensors:
    file = folder / WEIGHTS
    if file.is_file():
        found = Safetensors(file)
        if sum(entry.end - entry.begin for entry in found.entries.values()) > file.stat().st_size:
            raise ModelInvalid(f"{file} has tensors that share their bytes", AGAIN)
        for name in found:  # each number must be finite
            found[name]
        return found
    if (folder / PICKLE).is_file():
        said = f"{folder} holds its weights as a pickle, which can run code when it is loaded"
        raise ModelInvalid(said, f"save them again as {WEIGHTS}: safe_serialization=True")
    raise InputError(f"{folder} holds no adapter: it has no {WEIGHTS}", "name the adapter's folder, as PEFT saves it")


def _ranks(weights: Safetensors) -> dict[str, int]:
    """Module -> rank, by the weights."""
    found = {}
    for name, entry in weights.entries.items():
        match = _NAME.fullmatch(name)
        if match is not None:
            if len(entry.shape) != 2 or not all(entry.shape):
                raise ModelInvalid(f"{weights.path}: {one_line(name, 100)} has the shape {entry.shape}", AGAIN)
            found[match[1]] = entry.shape[0]
    if not 0 < len(found) <= _MOST_MODULES:
        raise ModelInvalid(f"{weights.path} holds {len(found)} LoRA pairs, where 1 to {_MOST_MODULES} can be", AGAIN)
    return found


def _notes(found: _Settings) -> tuple[str, ...]:
    there = {
        "DoRA": found.use_dora,
        "rsLoRA": found.use_rslora,
        "ranks by module": bool(found.rank_pattern),
        "alphas by module": bool(found.alpha_pattern),
        f"whole layers ({one_line(', '.join(found.modules_to_save or ()), 100)})": bool(found.modules_to_save),
        "trained token embeddings": bool(found.trainable_token_indices),
        "biases": found.bias != "none" or found.lora_bias,
    }
    return tuple(f"the adapter has {name}, which the merged model keeps" for name, is_there in there.items() if is_there)
