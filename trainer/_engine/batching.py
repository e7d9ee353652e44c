"""The rows at work: what each needs next goes through the model together, as one sequence in which a mask keeps the rows apart.

A row's token sees what all rows share, its own row before it, and nothing else; the places of a choice's tree see the way to
them. So there is no padding, the shared beginning is computed once, and a choice costs one computation, whatever its options.
Logits are computed at the places that are asked about only. Numbers of rounding aside, nothing depends on the company.
Not covered: what to compute (`router.engines._llamacpp.answer`, `generate`, `score`), recurrent models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from router.engines._llamacpp.batching import common_beginning
from router.engines._llamacpp.choosing import Path
from router.engines._llamacpp.context import common_prefix
from trainer._engine.cells import Cells
from trainer._engine.weights import aside

STEP = {"cuda": 4096}
STEP_ELSEWHERE = 256
"""Tokens in one computation at most (on a processor 96 is a fifth slower, 512 the same)."""
LOGITS_BYTES = 64 << 20
"""Of the logits of one computation."""


class Asking(Protocol):
    """What goes through a batch: tokens of which the last is not computed yet, and places behind them that are asked about."""

    tokens: list[int]
    done: bool

    @property
    def branches(self) -> tuple[Path, ...]:
        """The longest paths to compute behind `tokens`; every place on the way to their ends is heard."""

    def hear(self, node: Path, logits: NDArray[np.float32]) -> None:
        """The logits after `tokens` and `node`, shape (vocabulary,)."""

    def settle(self) -> None:
        """Go on, after all was heard."""


@dataclass(eq=False, slots=True)
class Row:
    """One row at work. cells: of its first tokens, of which `shared` are everybody's; tree: cells of places behind all tokens."""

    asking: Asking
    cells: list[int]
    shared: int
    waiting: list[Path] = field(default_factory=list)
    tree: dict[Path, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Round:
    """One computation in the making. runs: (index of the first token, how many, the cells that all of them see)."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    runs: list[tuple[int, int, list[int]]] = field(default_factory=list)
    heard: list[tuple[int, Row, Path]] = field(default_factory=list)

    def add(self, tokens: Sequence[int], position: int, cells: Sequence[int], before: list[int]) -> None:
        """Tokens one after the other: each sees `before` and those in front of it."""
        self.runs.append((len(self.tokens), len(tokens), before))
        self.tokens += tokens
        self.positions += range(position, position + len(tokens))
        self.places += cells

    def sees(self, cells: int) -> NDArray[np.bool_]:
        """Which cell each token attends to, its own included; shape (tokens, cells)."""
        mask = np.zeros((len(self.tokens), cells), dtype=bool)
        for begin, count, before in self.runs:
            lines = mask[begin : begin + count]
            lines[:, before] = True
            lines[:, self.places[begin : begin + count]] = np.tri(count, dtype=bool)
        return mask


class Batch:
    """The rows at work on one model, oldest first."""

    def __init__(self, model: Any, base_alone: bool) -> None:
        """model: a causal language model of transformers, with or without PEFT around it; base_alone: without its adapter."""
        self.rows: list[Row] = []
        self._model, self._base_alone = model, base_alone
        self._causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._device = self._causal.get_input_embeddings().weight.device
        self.step = STEP.get(self._device.type, STEP_ELSEWHERE)
        self._most_heard = max(8, LOGITS_BYTES // (4 * self._causal.config.vocab_size))
        self._cells = Cells()
        self._shared: list[int] = []
        self._shared_cells: list[int] = []

    @property
    def used(self) -> int:
        """Tokens that are held."""
        return self._cells.used

    @property
    def queued(self) -> int:
        """Tokens of the rows at work that are not computed yet, without those of branches."""
        return sum(len(row.asking.tokens) - len(row.cells) for row in self.rows)

    def gain(self, prompts: Sequence[Sequence[int]]) -> int:
        """Tokens that half of the prompts begin with, beyond what is shared already."""
        common = common_beginning(prompts)
        return len(common) - common_prefix(self._shared, common)

    def share(self, prompts: Sequence[Sequence[int]]) -> None:
        """Compute what half of the prompts begin with. Only while no rows are at work."""
        common = common_beginning(prompts)
        kept = common_prefix(self._shared, common)
        self._cells.give_back(self._shared_cells[kept:])
        self._shared, cells = common, self._shared_cells[:kept]
        for begin in range(kept, len(common), self.step):
            tokens = common[begin : begin + self.step]
            taken = self._cells.take(len(tokens))
            found = _Round()
            found.add(tokens, begin, taken, cells.copy())
            self._compute(found)
            cells += taken
        self._shared_cells = cells

    def admit(self, asking: Asking) -> Row:
        """Let a row begin."""
        shared = common_prefix(self._shared, asking.tokens[:-1])
        row = Row(asking, self._shared_cells[:shared], shared, list(asking.branches))
        self.rows.append(row)
        return row

    def compute(self) -> list[Row]:
        """One round through the model; the rows that are complete."""
        found = _Round()
        taken = []
        for row in self.rows:
            if len(found.tokens) >= self.step or len(found.heard) >= self._most_heard:
                break
            taken.append(row)
            if self._read(row, found):
                self._branch(row, found)
        self._compute(found)
        return [row for row in taken if not row.waiting and self._went_on(row)]

    def _read(self, row: Row, found: _Round) -> bool:
        """Take what is not computed of a row's tokens into the round; whether that is all of them."""
        begin = len(row.cells)
        tokens = row.asking.tokens[begin : begin + max(1, self.step - len(found.tokens))]
        taken = self._cells.take(len(tokens))
        whole = begin + len(tokens) == len(row.asking.tokens)
        if tokens:
            found.add(tokens, begin, taken, row.cells.copy())
            row.cells += taken
            if whole:
                found.heard.append((len(found.tokens) - 1, row, ()))
        return whole

    def _branch(self, row: Row, found: _Round) -> None:
        """Take the places of a row's branches into the round, as many as there is room for, one branch at least."""
        last = len(row.asking.tokens) - 1
        fresh = True
        while row.waiting and (fresh or len(found.heard) + len(row.waiting[0]) <= self._most_heard):
            fresh = False
            leaf = row.waiting.pop(0)
            for size in range(1, len(leaf) + 1):
                node = leaf[:size]
                if node not in row.tree:
                    before = [*row.cells, *(row.tree[node[:depth]] for depth in range(1, size))]
                    (row.tree[node],) = self._cells.take(1)
                    found.heard.append((len(found.tokens), row, node))
                    found.add(node[-1:], last + size, [row.tree[node]], before)

    def _compute(self, found: _Round) -> None:
        """Let the model see the round, and hand out the logits."""
        if not found.tokens:
            return
        with aside(self._model, self._base_alone):
            logits = self._logits(found, found.sees(self._cells.high))
        for (_, row, node), values in zip(found.heard, logits, strict=True):
            row.asking.hear(node, values)

    def _logits(self, found: _Round, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Shape (places heard, vocabulary)."""
        device, dtype = self._device, self._causal.dtype
        hidden = torch.zeros(mask.shape, dtype=dtype).masked_fill_(torch.from_numpy(~mask), torch.finfo(dtype).min)
        self._cells.places = torch.tensor(found.places, device=device)
        kept = torch.tensor([at for at, _, _ in found.heard] or [0], device=device)
        told = self._causal(
            input_ids=torch.tensor([found.tokens], device=device),
            position_ids=torch.tensor([found.positions], device=device),
            attention_mask=hidden.to(device)[None, None],
            past_key_values=self._cells,
            use_cache=True,
            logits_to_keep=kept,
        ).logits[0, : len(found.heard)]
        return told.float().cpu().numpy()  # type: ignore[no-any-return]

    def _went_on(self, row: Row) -> bool:
        """Let a row that has heard everything settle, and keep the cells that are of use; whether it is complete."""
        before = row.asking.tokens.copy()
        row.asking.settle()
        tokens = row.asking.tokens
        held = common_prefix(before, tokens)
        if held == len(before):
            for size in range(1, len(tokens) - held + 1):
                node = tuple(tokens[held : held + size])
                if node not in row.tree:
                    break
                row.cells.append(row.tree.pop(node))
            held = len(row.cells)
        self._cells.give_back(row.tree.values())
        row.tree.clear()
        self._keep(row, 0 if row.asking.done else min(held, len(tokens) - 1))
        if row.asking.done:
            self.rows.remove(row)
            return True
        row.waiting = list(row.asking.branches)
        return False

    def _keep(self, row: Row, count: int) -> None:
        """Give back all cells of a row but the first `count`; those that are shared stay where they are."""
        self._cells.give_back(row.cells[max(count, row.shared) :])
        del row.cells[count:]
        row.shared = min(row.shared, count)
