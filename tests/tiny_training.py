"""A tiny random model with an adapter, rows that can be learned, and the work of a stage around them, for tests of training."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer

from trainer import arguments
from trainer.device import Policy
from trainer.events import Event
from trainer.recipe import Recipe, StageTable
from trainer.stages import Work

VOCABULARY = 48
CPU = Policy("cpu", "float32", "adamw_torch_fused", "sdpa", False, 1)


def rows(count: int, seed: int = 0) -> list[dict[str, list[int]]]:
    """Rows of different lengths in which each token tells the next one."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        ids = [chance.randrange(1, VOCABULARY)]
        for _ in range(chance.randrange(4, 14)):
            ids.append((ids[-1] * 5 + 7) % (VOCABULARY - 1) + 1)
        found.append({"input_ids": ids, "labels": ids})
    return found


def model(dropout: float = 0.1) -> Any:
    """The same random weights each time; the adapter is named "default"."""
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.2,  # with the usual 0.02 the frozen head says nothing, and nothing can be learned
    )
    lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(LlamaForCausalLM(config), lora)


def padded(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Rows as tensors, padded at the end."""
    longest = max(len(row["input_ids"]) for row in batch)

    def column(name: str, filler: int) -> torch.Tensor:
        return torch.tensor([row[name] + [filler] * (longest - len(row[name])) for row in batch])

    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in batch])
    return {"input_ids": column("input_ids", 0), "labels": column("labels", -100), "attention_mask": mask}


def work(
    folder: Path,
    tell: Callable[[Event], object] | None = None,
    judge: Callable[[], Mapping[str, float]] | None = None,
    checkpoints: int = 3,
    dropout: float = 0.1,
    **stage: Any,
) -> Work:
    """A stage on the tiny model; `stage` are the stage's own fields."""
    table = {"kind": "sft", "batch": 8, "epochs": 2, "learning_rate": 1e-2, "schedule": "linear", **stage}
    recipe = Recipe(name="tiny", domain="triage", checkpoints=checkpoints, stages=(StageTable.model_validate(table),))
    return Work(
        recipe=recipe,
        stage=recipe.stages[0],
        index=1,
        domain=None,
        base=SimpleNamespace(context=64),
        model=model(dropout),
        policy=CPU,
        material=SimpleNamespace(),
        folder=folder,
        tell=tell or (lambda event: None),
        judge=judge,
    )


def trainer(work: Work, train: int = 40, held: int = 0, **more: Any) -> Trainer:
    """transformers' own trainer for it."""
    return Trainer(
        model=work.model,
        args=arguments.of(work, **more),
        data_collator=padded,
        train_dataset=rows(train),
        eval_dataset=rows(held, seed=9) if held else None,
    )
