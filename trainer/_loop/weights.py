"""The adapter's weights alone, as safetensors: into a checkpoint, aside as the best so far, and back into the model."""

import copy
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from data import paths
from data.errors import InputError

ADAPTER = "default"
FILE = "adapter_model.safetensors"
"""PEFT's name."""


def of(trainer: Any) -> dict[str, Any]:
    """The adapter's tensors on the CPU by PEFT's names; where the weights are sharded every process has to call this."""
    from peft import get_peft_model_state_dict

    accelerator = trainer.accelerator
    whole = None
    if sharded(trainer):
        whole = accelerator.get_state_dict(trainer.deepspeed if trainer.is_deepspeed_enabled else trainer.model)
    model = accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    found = get_peft_model_state_dict(model, state_dict=whole, adapter_name=ADAPTER, save_embedding_layers=False)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}


def sharded(trainer: Any) -> bool:
    """Whether no process holds the whole adapter by itself (FSDP, DeepSpeed)."""
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)


def write(tensors: dict[str, Any], file: Path) -> None:
    """Write a whole safetensors file or nothing. Raises InputError where the disk does not take it."""
    from safetensors.torch import save

    with paths.replacing(file) as out:
        out.write(save(tensors, metadata={"format": "pt"}))


def write_folder(tensors: dict[str, Any], model: Any, folder: Path) -> None:
    """adapter_config.json and then the weights, as PEFT reads them; where the weights are, all is."""
    paths.ensure(folder)
    config = copy.copy(model.peft_config[ADAPTER])
    config.inference_mode = True
    config.save_pretrained(str(folder))
    write(tensors, folder / FILE)


def load(model: Any, file: Path) -> None:
    """Put the weights of a file into the model's adapter. Raises InputError where they are missing or of another adapter."""
    from peft import set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"the adapter's weights {file} cannot be read: {error}", "start the run anew, without --resume") from error
    found: Any = set_peft_model_state_dict(model, tensors, adapter_name=ADAPTER)
    missing = [name for name in found.missing_keys if f".{ADAPTER}." in name]
    if missing or found.unexpected_keys:
        raise InputError(f"{file} holds the weights of another adapter", "start the run anew, without --resume")


def folder_of(folder: Path, step: int) -> Path:
    """Where the best adapter of a step is kept, as PEFT reads it."""
    return folder / f"step-{step}"


def prune(folder: Path, steps: Collection[int]) -> None:
    """Remove the best ones of other steps: no checkpoint speaks of them any more."""
    kept = {folder_of(folder, step) for step in steps}
    for one in folder.glob("step-*"):
        if one not in kept:
            shutil.rmtree(one, ignore_errors=True)
