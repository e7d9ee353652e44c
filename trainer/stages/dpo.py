"""Direct preference optimisation from corrections and pairs (Rafailov et al. 2023, arXiv:2305.18290), with TRL's DPOTrainer.

Beside the preference loss stands the likelihood of the chosen answer (Pang et al. 2024, arXiv:2404.19733): without it both answers
of a pair may become unlikely, the chosen one only less so. Not covered: which rows are pairs (`encode`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from trl import DPOConfig, DPOTrainer

from trainer import arguments, loop
from trainer.stages import Done, Work, _preference
from trainer.stages._answers_only import quick
from trainer.stages._preference import OurTokens, Pair

BETA = 0.1
CHOSEN_WEIGHT = 0.2
"""Of the chosen answer's likelihood (a token) beside the preference loss."""


def run(work: Work) -> Done:
    """Run the stage. Raises InputError for too few pairs and where the loss is no number."""
    shared = (work.recipe, work.stage, work.domain, work.base)
    pairs, held_out = _preference.pairs(*shared, work.material.train), _preference.pairs(*shared, work.material.validation)
    _preference.enough(work, pairs, "corrections and pairs")
    pad = _preference.pad_of(work.base)
    reference = _preference.pair_log_probabilities(work.model, pairs, pad)
    held_out_reference = _preference.pair_log_probabilities(work.model, held_out, pad)
    before = _preference.wins(work.model, work.base, held_out, held_out_reference) if held_out else None
    with _preference.lent(work.model):
        trainer = _trainer(work, list(_rows(pairs, reference)), list(_rows(held_out, held_out_reference)))
        with quick(work):
            done = loop.fit(trainer, work)
    return _preference.with_wins(work, done, held_out, before, held_out_reference)


class _Trainer(OurTokens, DPOTrainer):  # type: ignore[misc]
    """DPO on rows that hold tokens and the reference's log-probabilities."""


def _trainer(work: Work, rows: Sequence[dict[str, Any]], held_out: Sequence[dict[str, Any]]) -> Any:
    settings = arguments.of(
        work,
        DPOConfig,
        beta=work.stage.beta or BETA,
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, CHOSEN_WEIGHT],
        max_length=None,
    )
    trainer = _Trainer(
        model=work.model,
        args=settings,
        train_dataset=_preference.dataset(rows),
        eval_dataset=_preference.dataset(held_out),
        processing_class=work.base.tokenizer,
    )
    _preference.without_reference(work.model)
    _preference.in_float32(work.model)
    trainer.precompute_ref_logps = True  # the rows have them
    return trainer


def _rows(pairs: Sequence[Pair], reference: Sequence[float]) -> Iterator[dict[str, Any]]:
    for at, pair in enumerate(pairs):
        yield {
            "prompt_ids": list(pair.prompt),
            "chosen_ids": list(pair.chosen),
            "rejected_ids": list(pair.rejected),
            "ref_chosen_logps": reference[2 * at],
            "ref_rejected_logps": reference[2 * at + 1],
        }
