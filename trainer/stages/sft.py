"""Supervised fine-tuning: the answers of the rows, word for word, prompts left out of the loss.

The loss is the mean over a batch's answer tokens of weight * (1 - p)^gamma * -log p, with a row's weight by its label and gamma of
the focal loss (Lin et al. 2017, "Focal Loss for Dense Object Detection") on the tokens of the label alone; with weights of 1 and
gamma 0 it is plain cross entropy. `label_share` is the share of a row's loss that its label decides: its tokens would otherwise
drown in the fixed parts of a JSON answer. The prompts' common beginning is computed once a batch (`forward`). On a GPU with
FlashAttention rows are packed and TRL's SFTTrainer does the rest, where the loss is the plain one.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from transformers import Trainer

from data import paths
from data.errors import InputError
from trainer import arguments, encode, estimate, loop
from trainer._loop.order import turns
from trainer._run.together import Together
from trainer.encode import Encoded, Tokens
from trainer.forward import Batch, Scored, scored, scoring
from trainer.fused import fused
from trainer.recipe import LossTable
from trainer.rehearsal import Rehearsal
from trainer.stages import Done, Work
from trainer.trunk import Trunk

MICRO_BATCH = "micro_batch"
REHEARSED = 4
"""Rows of a step to one that is rehearsed."""


def run(work: Work) -> Done:
    """Train on the material's rows. Raises InputError where too few rows are left or the loss is not finite."""
    train = encode.sft(work.recipe, work.stage, work.domain, work.base, work.material.train)
    validation = encode.sft(work.recipe, work.stage, work.domain, work.base, work.material.validation)
    if len(train.rows) < work.stage.min_rows:
        raise InputError(
            f"{len(train.rows)} rows are left to train on, and the stage asks for {work.stage.min_rows}", "give more data"
        )
    if work.policy.packing and work.stage.packing and not work.stage.rehearse and _plain(work.stage.loss):
        return loop.fit(_packed(work, train, validation), work)
    rehearsal = (
        Rehearsal(work.model, work.base, max(2, work.stage.batch // REHEARSED), work.recipe.seed) if work.stage.rehearse else None
    )
    with fused(work.model) if work.policy.device == "cpu" else nullcontext(), scoring(work.model):
        return loop.fit(Tuner(work, train, validation, rehearsal), work)


class Tuner(Trainer):
    """transformers' Trainer with the loss above. Rows of one optimiser step are weighed together, however they are split up."""

    def __init__(self, work: Work, train: Encoded, validation: Encoded, rehearsal: Rehearsal | None = None) -> None:
        micro = _micro_batch(work, train)
        self._collators = [
            Collator(rows.prefix, work.stage.loss.label_share, _trunk(work, rows, name))
            for rows, name in ((train, "train"), (validation, "validation"))
        ]
        super().__init__(
            model=work.model,
            args=arguments.of(work, per_device_train_batch_size=micro),
            data_collator=self._collators[0],
            train_dataset=Rows(train.rows, work.stage.balance),
            eval_dataset=Rows(validation.rows) if validation.rows else None,
            processing_class=work.base.tokenizer,
        )
        self.loss_is_scaled_for_ga = True
        self._work, self._micro = work, micro
        self._rehearsal, self._rehearsed = rehearsal, -1
        own = sorted(length - len(train.prefix) for length in train.lengths)
        self._most_tokens = micro * own[int(0.95 * (len(own) - 1))]

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The micro batches of one step, and the sum of their answer tokens over all processes."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        count = sum((batch["lengths"] - batch["starts"]).sum() for batch in batches) if batches else torch.tensor(0)
        if self.args.world_size > 1:
            count = self.accelerator.gather(torch.as_tensor(count, device=device)[None]).sum() / self.args.world_size
        return batches, count

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """The weighed loss of a micro batch as its part of the step's mean. Rows longer than nearly all others are computed in
        parts, each with its own backward pass, so that they take no more memory."""
        items = num_items_in_batch if num_items_in_batch is not None else (inputs["lengths"] - inputs["starts"]).sum()
        parts = list(_parts(inputs, self._most_tokens))
        before = 0.0
        for part in parts[:-1]:
            with model.no_sync() if hasattr(model, "no_sync") else nullcontext():
                loss = self._loss(model, part) / items
                self.accelerator.backward(loss)
            before = before + loss.detach()
        loss = self._loss(model, parts[-1]) / items + before
        if self._rehearsal is not None and self._rehearsed != self.state.global_step:  # once a step
            self._rehearsed = self.state.global_step
            loss = loss + self._work.stage.rehearse * self._rehearsal.loss(self.accelerator.unwrap_model(model), self._rehearsed)
        return (loss, None) if return_outputs else loss

    def _loss(self, model: Any, inputs: Any) -> Any:
        found = model(batch=self._collators[0].batch(inputs))
        return _losses(found, inputs, self._work.stage.loss).sum()

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """The plain mean of -log p over the answer tokens of the validation rows, as eval_loss."""
        rows: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        model: Any = self.model
        was, total = model.training, torch.zeros(2, dtype=torch.float64)
        model.train(False)
        batches = [range(at, min(at + self._micro, len(rows))) for at in range(0, len(rows), self._micro)]
        with torch.inference_mode():
            for places in batches[self.args.process_index :: self.args.world_size]:
                inputs = self._prepare_inputs(self._collators[1]([rows[at] for at in places]))
                for part in _parts(inputs, self._most_tokens):
                    found = scored(self.accelerator.unwrap_model(model), self._collators[1].batch(part))
                    total += torch.tensor([-float(found.log_probs.double().sum()), found.row.numel()], dtype=torch.float64)
        model.train(was)
        if self.args.world_size > 1:
            total = self.accelerator.gather(total[None].to(self.args.device)).sum(0)
        metrics = {f"{metric_key_prefix}_loss": float(total[0] / total[1])}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Token rows with their numbers. turns: see `trainer._loop.order`; None without a balance.

    balance: how many times the rarest label's rows an epoch sees of any label at most. A row that is seen more seldom weighs as
    much more, so that what is learnt of how frequent labels are stays right.
    """

    def __init__(self, rows: Sequence[Tokens], balance: float = 0.0) -> None:
        self.turns = turns([row.label for row in rows], balance)
        if self.turns is not None:
            counted = {rows[group[0]].label: len(group) / count for group, count in self.turns}
            rows = [replace(row, weight=row.weight * counted[row.label]) for row in rows]
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: int) -> tuple[int, Tokens]:
        return at, self._rows[at]


class Collator:
    """Rows made one batch without padding: their own tokens one after the other, and the weight of each answer token by its place.

    prefix: what all prompts begin with; trunk: what the lower layers gave for these rows, where that is kept.
    """

    def __init__(self, prefix: Sequence[int], label_share: float, trunk: Trunk | None = None) -> None:
        self._prefix, self._share, self._trunk = torch.tensor(list(prefix), dtype=torch.long), label_share, trunk

    def __call__(self, numbered: Sequence[tuple[int, Tokens]]) -> dict[str, Any]:
        rows, shared = [row for _, row in numbered], len(self._prefix)
        answers = max(len(row.completion) for row in rows)
        lower = {"lower": self._trunk.hidden([at for at, _ in numbered])} if self._trunk else {}
        return {
            "ids": torch.tensor([token for row in rows for token in (*row.prompt[shared:], *row.completion)]),
            "lengths": torch.tensor([len(row.prompt) - shared + len(row.completion) for row in rows]),
            "starts": torch.tensor([len(row.prompt) - shared for row in rows]),
            "weights": torch.tensor([self._weights(row) + [0.0] * (answers - len(row.completion)) for row in rows]),
            "is_label": torch.tensor([[row.label_at[0] <= at < row.label_at[1] for at in range(answers)] for row in rows]),
            **lower,
        }

    def batch(self, inputs: Any) -> Batch:
        """What a collated batch, or a part of one, is to the forward pass."""
        trunk = self._trunk
        lower = (trunk.first, trunk.prefix, inputs["lower"]) if trunk else ()
        return Batch(self._prefix.to(inputs["ids"].device), inputs["ids"], inputs["lengths"], inputs["starts"], *lower)

    def _weights(self, row: Tokens) -> list[float]:
        """Each of the label's tokens weighs the label's whole share: the first ones decide, and what follows is soon certain. Were
        the share divided, labels of one token would count more than labels of three."""
        count, (begin, end) = len(row.completion), row.label_at
        own = end - begin
        if not self._share or not own or own == count:
            return [row.weight] * count
        label, other = self._share * count, (1 - self._share) * count / (count - own)
        return [row.weight * (label if begin <= at < end else other) for at in range(count)]


def probe(work: Work, rows: Encoded) -> Callable[[int], None]:
    """A function that computes one micro batch of rows of about so many tokens, forward and backward, and changes no weight."""
    micro = estimate.micro_batch(work.recipe, work.stage, work.policy, work.base.model.config, rows, arguments.processes())
    collator = Collator(rows.prefix, work.stage.loss.label_share)

    def step(length: int) -> None:
        near = sorted(rows.rows, key=lambda row: abs(len(row.prompt) + len(row.completion) - length))[:micro]
        inputs = {name: value.to(work.model.device) for name, value in collator(list(enumerate(near))).items()}
        with fused(work.model) if work.policy.device == "cpu" else nullcontext():
            found = scored(work.model, collator.batch(inputs))
            _losses(found, inputs, work.stage.loss).mean().backward()
        work.model.zero_grad(set_to_none=True)

    return step


def _micro_batch(work: Work, rows: Encoded) -> int:
    """How many rows are computed at once, kept in the stage's folder: a run that goes on adds up its sums in the same order."""
    file = work.folder / MICRO_BATCH
    if file.is_file():  # every process waited for the others when it was written
        return int(paths.read_text(file, 64, "train anew"))
    micro = work.stage.micro_batch or estimate.micro_batch(
        work.recipe, work.stage, work.policy, work.base.model.config, rows, arguments.processes()
    )
    together = Together()
    micro = together.agreed(micro)  # each process counts its own free memory
    if together.first:
        with paths.replacing(file) as out:
            out.write(str(micro).encode())
    together.wait()
    return micro


def _parts(inputs: Any, most_tokens: int) -> Iterator[dict[str, Any]]:
    """The batch in parts of so many own tokens at most, one row at least."""
    lengths = inputs["lengths"].tolist()
    begin = at = 0
    while begin < len(lengths):
        end, tokens = begin + 1, lengths[begin]
        while end < len(lengths) and tokens + lengths[end] <= most_tokens:
            tokens, end = tokens + lengths[end], end + 1
        flat = {name: inputs[name][at : at + tokens] for name in ("ids", "lower") if name in inputs}
        yield {name: value[begin:end] for name, value in inputs.items() if name not in flat} | flat
        begin, at = end, at + tokens


def _trunk(work: Work, rows: Encoded, name: str) -> Trunk | None:
    """The lower layers' work on the rows, where the recipe asks to keep it; made anew by every process."""
    table, layers = work.recipe.lora, int(work.base.model.config.num_hidden_layers)
    if not table.cache_lower or not rows.rows:
        return None
    first = layers - int(table.layers.removeprefix("top:"))
    process = os.environ.get("RANK", "0")
    return Trunk(work.model, rows, first, work.folder / "trunk" / f"{name}-{process}.npy") if first > 0 else None


def _losses(found: Scored, inputs: Any, table: LossTable) -> Any:
    """Of each answer token, shape (answer tokens,)."""
    weights = inputs["weights"][found.row, found.place]
    if table.focal:
        sure = found.log_probs.exp()
        focus = torch.where(
            inputs["is_label"][found.row, found.place], (1 - sure).clamp(min=0) ** table.focal, torch.ones_like(sure)
        )
        weights = weights * focus
    return -found.log_probs * weights


def _plain(table: LossTable) -> bool:
    return table == LossTable()


def _packed(work: Work, train: Encoded, validation: Encoded) -> Any:
    """TRL's SFTTrainer on our tokens, several rows in one sequence; attention stays inside a row (padding-free FlashAttention)."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    def table(rows: Sequence[Tokens]) -> Dataset:
        return Dataset.from_list(
            [
                {
                    "input_ids": [*row.prompt, *row.completion],
                    "completion_mask": [0] * len(row.prompt) + [1] * len(row.completion),
                }
                for row in rows
            ]
        )

    args = arguments.of(
        work,
        SFTConfig,
        packing=True,
        packing_strategy="bfd",
        eval_packing=False,
        max_length=work.recipe.data.max_tokens,
        completion_only_loss=True,
        per_device_train_batch_size=work.stage.micro_batch or 1,
    )
    rows = table(validation.rows) if validation.rows else None
    return SFTTrainer(
        model=work.model, args=args, train_dataset=table(train.rows), eval_dataset=rows, processing_class=work.base.tokenizer
    )
