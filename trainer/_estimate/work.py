"""The work of a stage: optimiser steps, tokens that are computed, and floating point operations.

Not covered: seconds of a real machine (`estimate.probe`), and the answers drawn when figures are taken (`judging`), whose cost
depends on how soon a model stops.
"""

import math
from dataclasses import dataclass

from trainer._estimate.shapes import Shape, trained_layers
from trainer._estimate.sizes import Sizes
from trainer.recipe import LoraTable, StageTable

PASSES = {"sft": 0, "kto": 3, "dpo": 2, "grpo": 2, "rloo": 2}
"""Forward passes beside those that are trained: of the reference model, and for kto of the mismatched answers."""
SEQUENCES = {"sft": 1, "kto": 1, "dpo": 2, "grpo": 1, "rloo": 1}
"""Sequences that are trained on for one row."""


@dataclass(frozen=True, slots=True)
class Work:
    """steps: of the optimiser; micro_batches: over all steps, of one process; tokens: of rows, prompts included, over all epochs,
    each prompt counted whole; flops: of all processes, evaluations included."""

    steps: int
    micro_batches: int
    tokens: int
    flops: float


def of(stage: StageTable, shape: Shape, lora: LoraTable, sizes: Sizes, held_out: int, micro: int, processes: int = 1) -> Work:
    """The work of a stage. held_out: validation rows; micro: rows that a process computes at once."""
    steps = steps_of(stage, sizes.rows)
    rows = steps * stage.batch
    batches = math.ceil(rows / (micro * processes))
    computed = _computed(stage, sizes, rows, batches * processes)
    trained = computed * SEQUENCES[stage.kind] * _training(shape, lora)
    reference = computed * PASSES[stage.kind] * 2.0 * shape.linear_parameters
    drawn = rows * stage.max_new_tokens * 2.0 * shape.parameters if stage.kind in ("grpo", "rloo") else 0.0
    evaluated = evaluations(stage) * min(held_out, stage.evaluate_rows or held_out) * (sizes.prefix / micro + sizes.mean)
    tokens = round(rows * SEQUENCES[stage.kind] * (sizes.prefix + sizes.mean))
    return Work(steps, batches, tokens, trained + reference + drawn + evaluated * 2.0 * shape.linear_parameters)


def steps_of(stage: StageTable, rows: int) -> int:
    """Optimiser steps of a stage over so many rows; for grpo and rloo a row is a prompt, and a batch counts its answers."""
    if stage.max_steps:
        return stage.max_steps
    each = stage.batch // stage.generations if stage.kind in ("grpo", "rloo") else stage.batch
    return max(1, math.ceil(stage.epochs * math.ceil(rows / each)))


def evaluations(stage: StageTable) -> int:
    """How often a stage evaluates, when it does not stop early."""
    return math.floor(1 / stage.evaluate_every) if stage.evaluate_every else max(1, math.floor(stage.epochs))


def _computed(stage: StageTable, sizes: Sizes, rows: int, batches: int) -> float:
    """Tokens that go through the blocks: in sft the shared prefix once a micro batch, with TRL once a row."""
    prefixes = batches if stage.kind == "sft" else rows
    return rows * sizes.mean + prefixes * sizes.prefix


def _training(shape: Shape, lora: LoraTable) -> float:
    """Operations a token: 2 a weight forward, 2 more backward through the layers above the lowest adapter; frozen weights need no
    gradient (Kaplan et al. 2020 count 6 with one)."""
    share = trained_layers(shape, lora) / shape.layers
    return (2.0 + 2.0 * share) * shape.linear_parameters
