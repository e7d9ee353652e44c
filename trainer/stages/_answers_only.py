"""What TRL computes of each token, on processors for answers alone: TRL itself leaves prompts out of the head on some GPUs only.

The same figures from the same model, up to rounding, a chunk of positions at a time, so that the logits of a long batch are never
all in memory. Not covered: experts' balance losses (such models keep TRL's own way), GPUs.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType, SimpleNamespace
from typing import Any

from trainer import forward
from trainer.device import torch
from trainer.fused import fused
from trainer.stages import Work

CHUNK = 512
"""Positions whose logits are in memory at once."""


@contextmanager
def quick(work: Work) -> Iterator[None]:
    """While open, a trainer of TRL that was built around the work's model computes as a processor likes it; elsewhere as ever."""
    inner = work.model.get_base_model()
    if work.policy.device == "cuda" or hasattr(inner.config, "output_router_logits"):
        yield
        return
    before = inner.forward

    @functools.wraps(type(inner).forward)  # `generate` looks at the signature
    def answering(self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, **more: Any) -> Any:
        if not fused_lm_head:
            return before(*args, labels=labels, **more)
        return _figures(self, labels, *args, **more)

    inner.forward = MethodType(answering, inner)
    try:
        with fused(work.model):
            yield
    finally:
        inner.forward = before


def _figures(inner: Any, labels: Any, *args: Any, **more: Any) -> Any:
    """log_probs, entropy, mean_logits and is_top1 of each next token, shape (rows, longest - 1), zero where it is no answer's."""
    found = torch()
    hidden = inner.get_decoder()(*args, **{**more, "use_cache": False}).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    mask = targets != -100
    parts = [
        found.utils.checkpoint.checkpoint(_scored, inner, some, wanted, use_reentrant=False)
        for some, wanted in zip(hidden[mask].split(CHUNK), targets[mask].split(CHUNK), strict=True)
    ]
    whole = [found.cat(column) for column in zip(*parts, strict=True)]
    spread = [column.new_zeros(mask.shape).masked_scatter(mask, column) for column in whole]
    return SimpleNamespace(**dict(zip(("log_probs", "entropy", "mean_logits", "is_top1"), spread, strict=True)), aux_loss=None)


def _scored(inner: Any, hidden: Any, targets: Any) -> tuple[Any, Any, Any, Any]:
    logits = forward.logits_of(inner, hidden)
    log_probs = logits.log_softmax(-1)
    with torch().no_grad():
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        mean, best = logits.mean(-1), logits.argmax(-1) == targets
    return log_probs.gather(1, targets[:, None])[:, 0], entropy, mean, best
