"""REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024, arXiv:2402.14740) and programmatic rewards: TRL's RLOOTrainer."""

from trl import RLOOConfig, RLOOTrainer

from trainer.stages import Done, Work, _rl

BETA = 0.05
"""TRL's own; here the divergence is taken off the reward."""


def run(work: Work) -> Done:
    """See `_rl.run`."""
    return _rl.run(work, RLOOConfig, _Trainer, BETA)


class _Trainer(_rl.OurPrompts, RLOOTrainer):  # type: ignore[misc]
    """RLOO on rows that hold tokens."""
