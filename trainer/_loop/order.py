"""The order in which a stage sees its rows: by seed and epoch alone, so that a resumed run sees the same rows again.

transformers' own samplers draw from the global generator, whose state in the middle of a run is not known when one resumes.
Rows of about the same length share a step, which saves padding; the steps themselves come in random order, so that the loss
has no saw teeth, but the longest rows come first: what does not fit into memory fails at once.
"""

import math
from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any

import torch

Turns = Sequence[tuple[Sequence[int], int]]
"""Groups of row numbers, and how many of each group an epoch sees."""
WINDOW = 50
"""Steps whose rows are sorted together at most; a quarter of the rows where that is less (as transformers groups by length)."""


def turns(labels: Sequence[str], balance: float) -> "Turns | None":
    """The rows by label, of each at most `balance` times the rarest label's count an epoch; None where that leaves out none."""
    groups: dict[str, list[int]] = {}
    for at, label in enumerate(labels):
        groups.setdefault(label, []).append(at)
    most = math.ceil(balance * min((len(group) for group in groups.values()), default=0))
    if not balance or all(len(group) <= most for group in groups.values()):
        return None
    return [(group, min(len(group), max(1, most))) for group in groups.values()]


class Order(torch.utils.data.Sampler[int]):
    """Row numbers of an epoch. lengths: tokens of each row, None where unknown; batch: rows of a step over all processes.

    turns: groups of rows with how many of each an epoch sees; those of a group take turns over the epochs. None: all, always.
    """

    def __init__(self, rows: int, lengths: Sequence[int] | None, batch: int, seed: int, turns: "Turns | None" = None) -> None:
        self._turns = turns
        self._rows = rows if turns is None else sum(count for _, count in turns)
        self._lengths = lengths
        self._batch = batch
        self._seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Whose order is asked for next, from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[int]:
        chance = torch.Generator().manual_seed(mixed(self._seed, self.epoch))
        drawn: list[int] = torch.randperm(self._rows, generator=chance).tolist()
        if self._turns is not None:
            seen = list(_seen(self._turns, self._seed, self.epoch))
            drawn = [seen[at] for at in drawn]
        return iter(drawn if self._lengths is None else self._grouped(drawn, self._lengths, chance))

    def _grouped(self, drawn: list[int], lengths: Sequence[int], chance: torch.Generator) -> list[int]:
        batch = self._batch
        window = batch * max(min(self._rows // (batch * 4), WINDOW), 1)
        ordered: list[int] = []
        for start in range(0, self._rows, window):
            ordered += sorted(drawn[start : start + window], key=lambda row: lengths[row], reverse=True)
        steps = [ordered[start : start + batch] for start in range(0, self._rows, batch)]
        rest = [steps.pop()] if len(steps[-1]) < batch else []
        steps = [steps[place] for place in torch.randperm(len(steps), generator=chance).tolist()]
        if steps:
            longest = max(range(len(steps)), key=lambda place: max(lengths[row] for row in steps[place]))
            steps[0], steps[longest] = steps[longest], steps[0]
        return [row for step in [*steps, *rest] for row in step]


def _seen(turns: "Turns", seed: int, epoch: int) -> Iterator[int]:
    """The rows of an epoch, group by group: each group in an order of its own, gone through again and again."""
    for number, (rows, count) in enumerate(turns):
        chance = torch.Generator().manual_seed(mixed(seed + 1 + number, 0))
        order = torch.randperm(len(rows), generator=chance).tolist()
        yield from (rows[order[at % len(rows)]] for at in range(epoch * count, (epoch + 1) * count))


class Installed:
    """This order in a trainer's place of its own. One whose order has a meaning (GRPO repeats prompts) keeps it, drawn by seed
    and epoch too. Rows that are evaluated come sorted by length. batch: rows of a step over all processes."""

    def __init__(self, trainer: Any, batch: int, seed: int) -> None:
        self._trainer = trainer
        self._batch = batch
        self._seed = seed
        self._usual = trainer._get_train_sampler
        self._usual_held_out = trainer._get_eval_sampler
        self._made: list[Any] = []
        trainer._get_train_sampler = self._train
        trainer._get_eval_sampler = self._held_out

    def begin(self, epoch: int) -> None:
        """Say which epoch's order is asked for next, however deep accelerate has wrapped the sampler."""
        for one in self._made:
            one.set_epoch(epoch)

    def remove(self) -> None:
        """Give the trainer its own samplers back."""
        del self._trainer._get_train_sampler
        del self._trainer._get_eval_sampler

    def _train(self, dataset: Any = None) -> Any:
        from transformers.trainer_pt_utils import LengthGroupedSampler

        usual = self._usual(dataset)
        rows = self._trainer.train_dataset if dataset is None else dataset
        if isinstance(usual, torch.utils.data.RandomSampler | LengthGroupedSampler):
            usual = Order(len(rows), lengths_of(rows), self._batch, self._seed, getattr(rows, "turns", None))
        elif isinstance(generator := getattr(usual, "generator", None), torch.Generator):
            usual.set_epoch = lambda epoch: generator.manual_seed(mixed(self._seed, epoch))
        if hasattr(usual, "set_epoch"):
            self._made.append(usual)
        return usual

    def _held_out(self, dataset: Any) -> Any:
        usual = self._usual_held_out(dataset)
        lengths = lengths_of(dataset)
        if lengths is None or not isinstance(usual, torch.utils.data.SequentialSampler):
            return usual
        return sorted(range(len(lengths)), key=lambda row: lengths[row], reverse=True)


def lengths_of(dataset: Any) -> list[int] | None:
    """Tokens of each row, padding not counted: the dataset's own `lengths`, else the sum of the row's lists of token ids.

    None where the rows hold no token ids, or where there are none.
    """
    if not isinstance(dataset, Sized) or not len(dataset):
        return None
    if (given := getattr(dataset, "lengths", None)) is not None:
        return [int(length) for length in given]
    rows: Any = dataset
    names = [name for name in rows[0] if name.endswith("_ids")] if _is_row(rows[0]) else []
    names = [name for name in names if isinstance(rows[0][name], list | tuple | torch.Tensor)]
    if not names:
        return None
    return [sum(len(row[name]) for name in names) for row in rows]


def mixed(seed: int, epoch: int) -> int:
    """One seed of two numbers: neighbouring runs and epochs share no order."""
    return (seed * 1_000_003 + epoch * 7_919 + 17) % (1 << 63)


def _is_row(row: object) -> bool:
    return isinstance(row, Mapping)
