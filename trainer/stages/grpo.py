"""Group relative policy optimisation (Shao et al. 2024, arXiv:2402.03300) with programmatic rewards, with TRL's GRPOTrainer."""

from trl import GRPOConfig, GRPOTrainer

from trainer.stages import Done, Work, _rl

BETA = 0.04
"""As in the paper."""


def run(work: Work) -> Done:
    """See `_rl.run`."""
    return _rl.run(work, GRPOConfig, _Trainer, BETA)


class _Trainer(_rl.OurPrompts, GRPOTrainer):  # type: ignore[misc]
    """GRPO on rows that hold tokens."""
