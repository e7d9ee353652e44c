"""Kahneman-Tversky optimisation from thumbs (Ethayarajh et al. 2024, arXiv:2402.01306), with TRL's KTOTrainer.

Every judged answer counts by itself: no pair is needed. The loss compares an answer's gain over the reference with that of answers
under the wrong prompt, so a micro batch has two rows at least and the rows keep the order in which they were shuffled once.
Not covered: which rows are judged (`encode`).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from trl import KTOConfig, KTOTrainer

from data.datasets.rows import Row
from data.errors import InputError
from trainer import arguments, loop
from trainer.stages import Done, Work, _preference
from trainer.stages._answers_only import quick
from trainer.stages._preference import Judged, OurTokens

BETA = 0.1
BALANCE = 7 / 6
"""Weight of all good answers beside that of all bad ones; the paper's equation 8 asks for 1 to 4/3."""


def run(work: Work) -> Done:
    """Run the stage. Raises InputError for too few answers, for only good or only bad ones, and where the loss is no number."""
    shared = (work.recipe, work.stage, work.domain, work.base)
    judged = _preference.judged(*shared, own(work, work.material.train))
    _preference.enough(work, judged, "judged answers")
    weights = balanced(sum(one.good for one in judged), sum(not one.good for one in judged))
    random.Random(work.recipe.seed).shuffle(judged)  # noqa: S311 - an order, no secret
    held_out = _preference.judged(*shared, own(work, work.material.validation))
    pairs = _preference.pairs(*shared, work.material.validation)
    pad = _preference.pad_of(work.base)
    pairs_reference = _preference.pair_log_probabilities(work.model, pairs, pad)
    before = _preference.wins(work.model, work.base, pairs, pairs_reference) if pairs else None
    with _preference.lent(work.model):
        trainer = _trainer(work, judged, held_out if len(held_out) > 1 else (), weights, pad)
        with quick(work):
            done = loop.fit(trainer, work)
    return _preference.with_wins(work, done, pairs, before, pairs_reference)


def own(work: Work, rows: Sequence[Row]) -> list[Row]:
    """The rows for this stage: what holds a pair is left to the recipe's dpo stage, where it has one."""
    paired = ("correction", "preference") if any(stage.kind == "dpo" for stage in work.recipe.stages) else ()
    return [row for row in rows if row.shape not in paired]


def balanced(good: int, bad: int) -> tuple[float, float]:
    """(desirable_weight, undesirable_weight) for so many good and bad answers. Raises InputError where there are none of a kind."""
    if not good or not bad:
        raise InputError(
            f"all judged answers are {'good' if good else 'bad'}: from one side alone KTO learns to say anything else, or the same",
            "judge some answers the other way, correct them, or use sft on the good ones",
        )
    if 1 <= good / bad <= 4 / 3:
        return 1.0, 1.0
    return (BALANCE * bad / good, 1.0) if good < bad else (1.0, good / (BALANCE * bad))


class _Trainer(OurTokens, KTOTrainer):  # type: ignore[misc]
    """KTO on rows that hold tokens and the reference's log-probabilities."""


def _trainer(work: Work, judged: Sequence[Judged], held_out: Sequence[Judged], weights: tuple[float, float], pad: int) -> Any:
    settings = _settings(work, weights)
    rows = _rows(work.model, judged, settings.per_device_train_batch_size, pad)
    held_out_rows = _rows(work.model, held_out, settings.per_device_eval_batch_size, pad)
    trainer = _Trainer(
        model=work.model,
        args=settings,
        train_dataset=_preference.dataset(list(rows)),
        eval_dataset=_preference.dataset(list(held_out_rows)),
        processing_class=work.base.tokenizer,
    )
    _preference.without_reference(work.model)
    _preference.in_float32(work.model)
    trainer.precompute_ref_logps = True  # the rows have them
    return trainer


def _settings(work: Work, weights: tuple[float, float]) -> Any:
    def made(asked: Work) -> Any:
        return arguments.of(
            asked,
            KTOConfig,
            beta=work.stage.beta or BETA,
            desirable_weight=weights[0],
            undesirable_weight=weights[1],
            max_length=None,
            train_sampling_strategy="sequential",
        )

    found = made(work)
    if found.per_device_train_batch_size > 1:
        return found
    batch = max(2, work.stage.batch)
    micro = 2 if batch % 2 == 0 else batch
    return made(replace(work, stage=work.stage.model_copy(update={"batch": batch, "micro_batch": micro})))


def _rows(model: Any, judged: Sequence[Judged], window: int, pad: int) -> Iterator[dict[str, Any]]:
    """The rows in their order, each with the answer of another row of its micro batch, for the reference point of the loss."""
    mates = [judged[at] for at in _mates(len(judged), window)]
    own = _preference.log_probabilities(model, [(one.prompt, one.completion) for one in judged], pad)
    crossed = _preference.log_probabilities(
        model, [(one.prompt, mate.completion) for one, mate in zip(judged, mates, strict=True)], pad
    )
    for one, mate, figure, other in zip(judged, mates, own, crossed, strict=True):
        yield {
            "prompt_ids": list(one.prompt),
            "completion_ids": list(one.completion),
            "KL_completion_ids": list(mate.completion),
            "label": one.good,
            "ref_logps": figure,
            "ref_KL_logps": other,
        }


def _mates(rows: int, window: int) -> Iterator[int]:
    """For each row the one before it in its window, the last one for the first; one alone in the last takes the one before."""
    for start in range(0, rows, window):
        size = min(window, rows - start)
        yield from (start + (at - 1) % size if size > 1 else max(0, start - 1) for at in range(size))
