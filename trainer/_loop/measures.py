"""What a step or an evaluation comes to in numbers, and the block in which nothing is drawn that counts."""

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

LEFT_OUT = ("runtime", "_per_second", "num_tokens", "num_input_tokens_seen", "_time", "total_flos")
"""Ends of names that transformers and TRL log beside what was learned: clocks and totals."""


def points(every: float, steps: int, per_epoch: int) -> tuple[int, ...]:
    """The steps after which is evaluated: each share of all steps, each epoch for 0, and always the last."""
    if every:
        found = {min(math.ceil(count * every * steps - 1e-9), steps) for count in range(1, math.ceil(1 / every) + 1)}
    else:
        found = set(range(per_epoch, steps + 1, per_epoch))
    return tuple(sorted({max(step, 1) for step in found} | {steps}))


def figures(found: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of what was logged, without clocks and totals."""
    numbers = {name: value for name, value in found.items() if isinstance(value, int | float) and not name.endswith(LEFT_OUT)}
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def size(inputs: Any) -> tuple[Any, int]:
    """Tokens without padding and rows of a micro batch; 0 tokens where its shape does not tell (prompts still to be answered).

    `ends` of a batch, where it has them, are its rows' lengths.
    """
    if not isinstance(inputs, Mapping):
        return 0, len(inputs) if isinstance(inputs, list) else 0
    if isinstance(ends := inputs.get("ends"), torch.Tensor):
        return ends.sum(), len(ends)
    masks = [value for name, value in inputs.items() if name.endswith("attention_mask")]
    tensors = masks or [value for name, value in inputs.items() if name.endswith("input_ids")]
    tensors = [one for one in tensors if isinstance(one, torch.Tensor)]
    if not tensors:
        return 0, 0
    return sum((one != 0).sum() if masks else one.numel() for one in tensors), len(tensors[0])


@contextmanager
def unchanged_chance() -> Iterator[None]:
    """What is drawn in this block changes nothing for what is drawn after it."""
    python, numbers = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
