"""The LoRA adapter on a base: attached fresh or on the weights of a parent, saved as PEFT saves it, its size told.

An adapter that goes on from a parent keeps the parent's rank, targets and scale, so that the result is one adapter, which serving
attaches like any other. Not covered: merging and GGUF (export).
"""

import json
import warnings
from pathlib import Path
from typing import Any

from data import paths
from data.errors import InputError, ModelInvalid
from trainer.base import Base
from trainer.recipe import LoraTable

NAME = "default"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def attach(base: Base, table: LoraTable, parent: str = "", seed: int = 0) -> Any:
    """A PEFT model around the base, the adapter in float32 and trainable, the base frozen. parent: a run or an adapter folder.

    Raises InputError where a layer or target is not there or the parent was trained with other LoRA settings, ModelInvalid where
    the parent's files are damaged.
    """
    from peft import LoraConfig, TaskType, get_peft_model, set_peft_model_state_dict

    from trainer.device import torch

    torch().manual_seed(seed)  # A of a fresh adapter is drawn
    layers = list(_layers(base, table))
    targets = "all-linear" if table.targets == "all-linear" and not layers else _targets(base, table)
    config = LoraConfig(
        r=table.rank,
        lora_alpha=table.alpha,
        lora_dropout=table.dropout,
        target_modules=targets,
        layers_to_transform=layers or None,
        use_rslora=table.rslora,
        use_dora=table.dora,
        bias="none",
        task_type=TaskType.CAUSAL_LM,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)  # PEFT 0.21 asks for it
        model = get_peft_model(base.model, config, adapter_name=NAME)
    if parent:
        found = _parent(Path(parent).expanduser(), table)
        state = _weights(found / WEIGHTS)
        loaded: Any = set_peft_model_state_dict(model, state, adapter_name=NAME)
        if loaded.unexpected_keys:
            raise InputError(
                f"the parent adapter in {found} does not fit this base or its targets", "use its own base and lora table"
            )
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def save(model: Any, folder: Path) -> None:
    """Write the adapter's weights and configuration into the folder, which is made. Raises InputError where that fails."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save as serialised

    found = get_peft_model_state_dict(model, adapter_name=NAME, save_embedding_layers=False)  # "auto" would ask the hub
    state = {name: value.detach().cpu().contiguous() for name, value in found.items()}
    config = model.peft_config[NAME].to_dict()
    config["inference_mode"] = True
    config["base_model_name_or_path"] = ""  # the manifest says which base it is, and paths of this machine say nothing elsewhere
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    with paths.replacing(folder / WEIGHTS) as out:
        out.write(serialised(state, metadata={"format": "pt"}))
    with paths.replacing(folder / CONFIG) as out:
        out.write(json.dumps(plain, indent=1, sort_keys=True, default=str).encode() + b"\n")


def restore(model: Any, folder: Path) -> None:
    """Put saved weights back into the adapter they were saved from. Raises ModelInvalid where they are damaged."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, _weights(folder / WEIGHTS), adapter_name=NAME)


def parameters(model: Any) -> int:
    """How many weights are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _layers(base: Base, table: LoraTable) -> range:
    """The layers that get an adapter; empty: all."""
    if table.layers == "all":
        return range(0)
    count = int(base.model.config.num_hidden_layers)
    top = int(table.layers.removeprefix("top:"))
    if top > count:
        raise InputError(f"lora.layers = {table.layers!r}, and the base has {count} layers", "choose fewer, or all")
    return range(count - top, count) if top < count else range(0)


def _targets(base: Base, table: LoraTable) -> list[str]:
    """Names of linear layers. PEFT wants a list where only some layers are transformed."""
    from torch.nn import Linear

    model: Any = base.model
    head = model.get_output_embeddings()
    there = {name.split(".")[-1] for name, layer in model.named_modules() if isinstance(layer, Linear) and layer is not head}
    if table.targets == "all-linear":
        return sorted(there)
    missing = [name for name in table.targets if name not in there]
    if missing:
        raise InputError(f"the base has no linear layer {missing[0]!r}", f"it has: {', '.join(sorted(there))}")
    return list(table.targets)


def _parent(folder: Path, table: LoraTable) -> Path:
    found = folder / "adapter" if (folder / "adapter" / CONFIG).is_file() else folder
    try:
        config = json.loads(paths.read_text(found / CONFIG, 1 << 20, "an adapter's configuration is small"))
    except (ValueError, RecursionError) as error:
        raise ModelInvalid(f"{found / CONFIG} is not JSON", "train or copy the parent again") from error
    said = (config.get("r"), config.get("lora_alpha"), bool(config.get("use_rslora")), bool(config.get("use_dora")))
    asked = (table.rank, table.alpha, table.rslora, table.dora)
    if said != asked:
        raise InputError(
            f"the parent adapter has (rank, alpha, rslora, dora) = {said}, the recipe {asked}",
            "take the parent's in the lora table",
        )
    return found


def _weights(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(file))
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelInvalid(f"{file} is no sound safetensors file: {error}", "train or copy the adapter again") from error
