"""A stage's table as the training arguments of transformers 5.23 or of TRL's trainers, whose configurations are subclasses of them.

Every number of a run that transformers needs is decided here, once for all kinds of stages. TRL's own defaults (bfloat16 and
gradient checkpointing on, logging each tenth step) are always overruled. Not covered: what a kind of stage alone knows (beta,
rewards, lengths: given as `more`), evaluations, early stopping and the order of the rows (`loop`).
"""

import os
from typing import Any

from data.errors import InputError
from trainer.device import Policy
from trainer.recipe import Recipe, StageTable
from trainer.stages import Work

LEARNING_RATES = {"sft": 2e-4, "kto": 1e-5, "dpo": 1e-5, "grpo": 1e-5, "rloo": 1e-5}
"""Of LoRA weights where the recipe gives none: about ten times what full fine-tuning takes (TRL's documentation on PEFT)."""
MICRO_BATCH = 16
"""Rows that a process computes at once where neither recipe nor caller says: enough to keep the products large."""
KEPT = 2
"""Checkpoints that are kept: the newest, and the one before it for the case that the disk spoils the newest."""
WAIT_S = 6 * 3600
"""Seconds a process waits for the others: the first one may judge alone for that long."""


def of(work: Work, kind: Any = None, **more: Any) -> Any:
    """The arguments of a stage as an instance of `kind` (transformers.TrainingArguments, SFTConfig, DPOConfig, ...).

    more: fields of `kind` that overrule these; per_device_train_batch_size may be one, then the accumulation follows from it.
    Raises InputError where the batch cannot be shared out evenly.
    """
    if kind is None:
        from transformers import TrainingArguments

        kind = TrainingArguments
    micro, accumulated = shares(work.stage, processes(), int(more.pop("per_device_train_batch_size", 0)))
    fields = {
        "output_dir": str(work.folder / "checkpoints"),
        "per_device_train_batch_size": micro,
        "per_device_eval_batch_size": micro,
        "gradient_accumulation_steps": accumulated,
        **_schedule(work.stage),
        **_device(work.policy, work.stage),
        **_keeping(work.recipe),
    }
    return kind(**{**fields, **more})


def processes() -> int:
    """How many processes train together, as their launcher says."""
    return max(int(os.environ.get("WORLD_SIZE", "1")), 1)


def shares(stage: StageTable, among: int, micro: int = 0) -> tuple[int, int]:
    """Rows a process computes at once, and how often before a step, so that all processes together make up the stage's batch.

    micro: the rows at once, 0 for the recipe's, else the largest share up to MICRO_BATCH. Raises InputError.
    """
    if stage.batch % among:
        raise InputError(
            f"a batch of {stage.batch} cannot be shared evenly by {among} processes", f"make batch a multiple of {among}"
        )
    own = stage.batch // among
    rows = micro or stage.micro_batch or max(size for size in range(1, min(own, MICRO_BATCH) + 1) if own % size == 0)
    if own % rows:
        raise InputError(
            f"a batch of {stage.batch} over {among} processes cannot be made of micro batches of {rows}",
            f"make batch a multiple of {among * rows}",
        )
    return rows, own // rows


def learning_rate(stage: StageTable) -> float:
    """The recipe's, else the default of the kind."""
    return stage.learning_rate or LEARNING_RATES[stage.kind]


def _schedule(stage: StageTable) -> dict[str, Any]:
    schedule = "constant_with_warmup" if stage.schedule == "constant" else stage.schedule
    return {
        "num_train_epochs": stage.epochs,
        "max_steps": stage.max_steps or -1,
        "learning_rate": learning_rate(stage),
        "lr_scheduler_type": schedule,
        "warmup_steps": min(stage.warmup, 0.999),  # below 1 it is a share of the steps, from 1 on a number of them
        "weight_decay": stage.weight_decay,
        "max_grad_norm": stage.max_grad_norm,
    }


def _device(policy: Policy, stage: StageTable) -> dict[str, Any]:
    """Autocast only on CUDA: elsewhere the weights' own format is what is computed in, and the adapter's is float32."""
    autocast = policy.device == "cuda"
    fields: dict[str, Any] = {
        "use_cpu": policy.device == "cpu",
        "bf16": autocast and policy.dtype == "bfloat16",
        "fp16": autocast and policy.dtype == "float16",
        "optim": policy.optimizer,
        "activation_checkpointing": False,  # TRL's default is on: 28% more time where memory is not short
        "torch_compile": stage.compile,
        "dataloader_num_workers": 0,  # the rows are token ids in memory
        "dataloader_pin_memory": policy.device == "cuda",
    }
    if processes() > 1:
        fields |= {"ddp_timeout": WAIT_S, "ddp_find_unused_parameters": False}
        if policy.device == "cpu":
            fields["ddp_backend"] = "gloo"
    return fields


def _keeping(recipe: Recipe) -> dict[str, Any]:
    return {
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "run_name": recipe.name,
        "report_to": list(recipe.tracking.report_to) or "none",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is not a number stops the run, it is not averaged away
        "disable_tqdm": True,
        "eval_strategy": "no",  # the loop asks for evaluations itself
        "prediction_loss_only": True,
        "save_strategy": "steps",
        "save_steps": recipe.checkpoints,
        "save_total_limit": KEPT,
        "remove_unused_columns": False,  # our collators read columns that no model's forward knows
        "train_sampling_strategy": "random",  # the loop orders the rows, by length where it knows the lengths
    }
