"""What the preference stages share: token rows for TRL, the frozen reference, and how many pairs a model has won.

The reference of KTO and DPO is the model as it stands when the stage begins: the base under a fresh adapter, the earlier adapter
under one that was trained before. Its log-probabilities are computed once, before the first step; TRL then keeps no copy of the
adapter and runs no second forward pass a step. TRL's own tokenising is left out: what reaches the model are the tokens of
`encode`, which are those of serving. Not covered: the losses (`kto`, `dpo`), who asks for a win rate (the gates).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from data.datasets.rows import Row
from data.domains import Domain
from data.errors import InputError
from trainer import encode, forward
from trainer.device import torch
from trainer.recipe import Recipe, StageTable
from trainer.stages import Done, Work

if TYPE_CHECKING:
    from trainer.base import Base

BATCH_TOKENS = 4_096
"""Padded tokens of a batch that is only scored."""
REFERENCE = "ref"
"""The adapter that TRL adds as a frozen copy."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A better and a worse answer to one prompt, as tokens; each answer ends with one end token."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer to a prompt and whether it was good, as tokens; the answer ends with one end token."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    good: bool
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Wins:
    """Shares of pairs. margin: the chosen answer gained more log-probability over the reference than the rejected one (a tie, as
    before training, counts half); likelier: its log-probability a token is the higher one; summed: that of the whole answer is."""

    pairs: int
    margin: float
    likelier: float
    summed: float

    @property
    def rate(self) -> float:
        """The smaller of margin and likelier: what a gate asks must hold for both."""
        return min(self.margin, self.likelier)


def pairs(recipe: Recipe, stage: StageTable, domain: Domain | None, base: "Base", rows: Sequence[Row]) -> list[Pair]:
    """The pairs among rows: corrections, preferences, judged labels. Raises InputError where too many are lost (`encode.check`)."""
    found = encode.pairs(recipe, stage, domain, base, rows)
    encode.check(recipe, found, len(found.lines) + len(found.lost), 0)
    return [
        Pair(tuple(one["prompt_ids"]), tuple(one["chosen_ids"]), tuple(one["rejected_ids"]), one["origin"]) for one in found.lines
    ]


def judged(recipe: Recipe, stage: StageTable, domain: Domain | None, base: "Base", rows: Sequence[Row]) -> list[Judged]:
    """The judged answers among rows: thumbs, and both sides of pairs; each judgement of an answer once. Raises as `pairs`."""
    found = encode.unpaired(recipe, stage, domain, base, rows)
    encode.check(recipe, found, len(found.lines) + len(found.lost), 0)
    once = {(tuple(one["prompt_ids"]), tuple(one["completion_ids"]), one["label"]): one["origin"] for one in found.lines}
    return [Judged(*key, origin) for key, origin in once.items()]


def win_rate(model: Any, base: "Base", pairs: Sequence[Pair]) -> float:
    """`Wins.rate` of a PEFT model beside its own base weights. Raises InputError without pairs or where a figure is no number."""
    return wins(model, base, pairs).rate


def wins(model: Any, base: "Base", pairs: Sequence[Pair], reference: Sequence[float] | None = None) -> Wins:
    """How many pairs a model wins. reference: `pair_log_probabilities` of another model; None: of this one, its adapter off.

    Raises InputError as `win_rate`.
    """
    if not pairs:
        raise InputError("there are no preference pairs to judge by", "add corrections or preferences to the validation rows")
    pad = pad_of(base)
    now = pair_log_probabilities(model, pairs, pad)
    if reference is None:
        with model.disable_adapter():
            reference = pair_log_probabilities(model, pairs, pad)
    gained = [mine - other for mine, other in zip(now, reference, strict=True)]
    margin = likelier = summed = 0.0
    for at, pair in enumerate(pairs):
        good, bad = now[2 * at], now[2 * at + 1]
        margin += _won(gained[2 * at], gained[2 * at + 1])
        likelier += _won(good / len(pair.chosen), bad / len(pair.rejected))
        summed += _won(good, bad)
    return Wins(len(pairs), margin / len(pairs), likelier / len(pairs), summed / len(pairs))


def pair_log_probabilities(model: Any, pairs: Sequence[Pair], pad: int) -> list[float]:
    """Of each pair in turn the chosen and the rejected answer's log-probability: two numbers a pair."""
    return log_probabilities(
        model, [one for pair in pairs for one in ((pair.prompt, pair.chosen), (pair.prompt, pair.rejected))], pad
    )


def log_probabilities(model: Any, answers: Sequence[tuple[Sequence[int], Sequence[int]]], pad: int) -> list[float]:
    """The log-probability, in nats, of each whole answer after its prompt. Nothing is trained, no dropout.

    What all prompts begin with is computed once a batch. Raises InputError where a figure is no number.
    """
    found = torch()
    prefix = encode.shared([tuple(prompt) for prompt, _ in answers])
    order = sorted(range(len(answers)), key=lambda at: len(answers[at][0]) + len(answers[at][1]))
    figures = [0.0] * len(answers)
    was_training = model.training
    model.train(False)
    try:
        with found.no_grad():
            for part in _batches(order, answers, len(prefix)):
                chosen = [answers[at] for at in part]
                batch = forward.batched(prefix, [prompt for prompt, _ in chosen], [answer for _, answer in chosen])
                scored = forward.scored(model, batch.to(next(model.parameters()).device))
                sums = found.zeros(len(part), device=scored.log_probs.device).index_add(0, scored.row, scored.log_probs)
                for at, figure in zip(part, sums.tolist(), strict=True):
                    figures[at] = figure
    finally:
        model.train(was_training)
    if not all(abs(figure) < float("inf") for figure in figures):
        raise InputError(
            "the model gives answers a probability that is no number", "its weights are damaged: start from the base again"
        )
    return figures


def pad_of(base: "Base") -> int:
    """A token to fill up rows with; it is masked, so any does."""
    found = base.tokenizer.pad_token_id
    return int(found) if found is not None else base.stop_ids[0]


def enough(work: Work, rows: Sequence[Any], what: str) -> None:
    """Raises InputError where there are fewer rows than the stage asks for."""
    if len(rows) < work.stage.min_rows:
        raise InputError(
            f"stage {work.name}: {len(rows)} {what}, and min_rows = {work.stage.min_rows}",
            "collect more feedback, or lower min_rows of the stage",
        )


def dataset(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as the datasets library holds them, or None where there are none."""
    from datasets import Dataset

    return Dataset.from_list([dict(row) for row in rows]) if rows else None


class OurTokens:
    """For TRL's preference trainers: rows come with their tokens, and checkpoints without a model card."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """A run has its own report."""


@contextmanager
def lent(model: Any) -> Iterator[None]:
    """While open, TRL may change the model; at the end its forward call, dropout and number formats are as before, and the adapter
    "default" is the only one and active."""
    inner = model.get_base_model()
    forward_before = vars(inner).get("forward")
    dropouts = [(module, module.p) for module in model.modules() if isinstance(module, torch().nn.Dropout)]
    try:
        yield
    finally:
        without_reference(model)
        if forward_before is None:
            vars(inner).pop("forward", None)
        else:
            inner.forward = forward_before
        for module, share in dropouts:
            module.p = share


def without_reference(model: Any) -> None:
    """Take away the copy that TRL made of the adapter."""
    if REFERENCE in model.peft_config:
        model.set_adapter("default")
        model.delete_adapter(REFERENCE)


def in_float32(model: Any) -> None:
    """Adapter weights back in float32, which TRL turns into bfloat16 where the base is quantised: small updates would be lost."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def with_wins(work: Work, done: Done, pairs: Sequence[Pair], before: Wins | None, reference: Sequence[float]) -> Done:
    """The stage's end with what it changed on the validation pairs, beside the model that it began with."""
    if before is None:
        return done
    after = wins(work.model, work.base, pairs, reference)
    values = {
        **done.values,
        "win_rate_margin": after.margin,
        "win_rate_likelier": after.likelier,
        "win_rate_likelier_before": before.likelier,
    }
    return replace(done, values=values)


def _won(one: float, other: float) -> float:
    return 0.5 if one == other else float(one > other)


def _batches(order: Sequence[int], answers: Sequence[tuple[Sequence[int], Sequence[int]]], shared: int) -> Iterator[list[int]]:
    """Rows in the order of their lengths, so many that their padded tokens stay below BATCH_TOKENS."""
    part: list[int] = []
    for at in order:
        length = len(answers[at][0]) + len(answers[at][1]) - shared
        if part and (len(part) + 1) * length > BATCH_TOKENS:
            yield part
            part = []
        part.append(at)
    if part:
        yield part
