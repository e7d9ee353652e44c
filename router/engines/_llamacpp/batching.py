"""Many answers in one context: what they share is computed once, and what each needs next goes through the model together.

Sequence 0 holds the shared beginning; each answer has a sequence of its own that begins with a copy of it (copies cost no memory:
the cache is unified), and the branches of a choice are further sequences for one round. An answer that the cache has no room for
is put back, the youngest first, and computed again later. Numbers of rounding aside, nothing depends on the company: a batch
never has a single token, which llama.cpp computes with other kernels (see `context`). Not covered: what to compute (`answer`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data.errors import ContextOverflow
from router.engines._llamacpp.answer import Answer
from router.engines._llamacpp.choosing import Path
from router.engines._llamacpp.context import Context, common_prefix
from router.engines._llamacpp.model import LoadedModel

SPARE = 1  # the sequence of a token computed for the sake of company
BRANCHES = 8  # sequences that should be free for the choices of a row that begins


@dataclass(frozen=True, slots=True)
class _Entry:
    """One token to compute, for one sequence or several; `heard` takes the logits after it, where they matter."""

    token: int
    position: int
    sequences: Sequence[int]
    heard: Callable[[NDArray[np.float32]], None] | None = None


@dataclass(eq=False, slots=True)
class Row:
    """One answer at work. held: how many of its tokens its sequence holds, of which `shared` belong to sequence 0 as well."""

    answer: Answer
    sequence: int = -1
    shared: int = 0
    held: int = 0
    entries: list[_Entry] = field(default_factory=list)
    at: int = 0
    waiting: list[Path] = field(default_factory=list)
    branches: dict[int, Path] = field(default_factory=dict)
    cells: int = 0
    fault: ContextOverflow | None = None


class Batch:
    """The rows at work in one context, oldest first."""

    def __init__(self, model: LoadedModel, context: Context) -> None:
        self.rows: list[Row] = []
        self.put_back: list[Row] = []
        self._api, self._context = model.api, context
        self._vocab_size = model.vocab.size
        self._free = list(range(context.sequences - 1, SPARE, -1))
        self._shared: list[int] = []
        self._step = min(context.batch, context.size)
        self._buffer = model.api.llama_batch_init(self._step, 0, context.sequences)

    def close(self) -> None:
        """Free the batch; the context is another's."""
        self._api.llama_batch_free(self._buffer)

    def gain(self, prompts: Sequence[Sequence[int]]) -> int:
        """Tokens that half of the prompts begin with, beyond what is shared already."""
        common = common_beginning(prompts)
        return len(common) - common_prefix(self._shared, common)

    def share(self, prompts: Sequence[Sequence[int]]) -> None:
        """Compute what half of the prompts begin with. Only while no rows are at work."""
        common = common_beginning(prompts)
        kept = common_prefix(self._shared, common)
        self._forget(0, kept)
        self._shared = []
        entries = [_Entry(common[at], at, (0,)) for at in range(kept, len(common))]
        for begin in range(0, len(entries), self._step):
            self._decode(entries[begin : begin + self._step])
        self._shared = common

    def admit(self, answer: Answer, least: int, likely: int) -> Row | None:
        """Let an answer begin; None where it must wait for others: for lack of room for its `likely` tokens more.

        Alone, it begins where `least` more have room.
        """
        shared = common_prefix(self._shared, answer.tokens[:-1])
        own = len(answer.tokens) - shared
        if self.rows and (own + likely > self._room or len(self._free) < BRANCHES):
            return None
        if own + least > self._room:
            self._unshare()
            shared = 0
        row = Row(answer, self._free.pop(), shared, shared)
        if shared:
            self._api.llama_memory_seq_cp(self._context.memory, 0, row.sequence, 0, shared)
        self._ask(row)
        self.rows.append(row)
        return row

    @property
    def queued(self) -> int:
        """Tokens of the rows at work that are not computed yet, without those of branches."""
        return sum(len(row.answer.tokens) - row.held for row in self.rows)

    def compute(self) -> list[Row]:
        """One round through the model; the rows that are complete, or have no room even alone and are a fault."""
        faults = []
        taken: list[tuple[Row, list[_Entry]]] = []
        tokens = logits = 0
        for row in list(self.rows):
            if row not in self.rows:
                continue
            if not row.entries and not self._prepare(row):
                faults += [row] if row.fault else []
                continue
            part: list[_Entry] = []
            for entry in row.entries[row.at :]:
                if tokens == self._step or (entry.heard is not None and logits == self._context.rows):
                    break
                part.append(entry)
                tokens += 1
                logits += entry.heard is not None
            taken.append((row, part))
        self._decode([entry for _, part in taken for entry in part])
        return faults + [row for row, part in taken if self._went_on(row, len(part))]

    def remove(self, row: Row) -> None:
        """Free what a row holds."""
        self.rows.remove(row)
        for sequence in {row.sequence, *row.branches}:
            self._forget(sequence, 0)
            self._free.append(sequence)

    @property
    def _room(self) -> int:
        """Cells of the cache that are free."""
        return self._context.size - 1 - len(self._shared) - sum(row.cells for row in self.rows)  # 1: for SPARE

    def _went_on(self, row: Row, count: int) -> bool:
        """Note what was computed; whether the row's answer is complete."""
        row.at += count
        if row.at < len(row.entries):
            return False
        before = row.answer.tokens.copy()
        if row.waiting:
            self._gather(row, before)
            return False
        row.answer.settle()
        if row.answer.done:
            self.remove(row)
            return True
        self._gather(row, before)
        self._ask(row)
        return False

    def _ask(self, row: Row) -> None:
        row.waiting = list(row.answer.branches)
        row.entries, row.at = [], 0
        row.cells = row.held - row.shared

    def _gather(self, row: Row, before: Sequence[int]) -> None:
        """Keep of a row's sequences the one that holds most of its tokens, and of that what it shares with them."""
        tokens = row.answer.tokens[:-1]
        held = {sequence: common_prefix([*before, *path], tokens) for sequence, path in row.branches.items()}
        best = max(held, key=lambda sequence: held[sequence])
        for sequence in held:
            if sequence != best:
                self._forget(sequence, 0)
                self._free.append(sequence)
        row.sequence, row.held, row.branches = best, held[best], {}
        self._forget(best, row.held)
        row.shared = min(row.shared, row.held)
        row.entries, row.at = [], 0
        row.cells = row.held - row.shared

    def _prepare(self, row: Row) -> bool:
        """Make the next entries of a row; False where there is no room for them: it was put back, or has a fault."""
        leaves = row.waiting[: 1 + len(self._free)]
        while self._wanted(row, leaves) > self._room:
            if len(self.rows) > 1:
                youngest = self.rows[-1]
                self.remove(youngest)
                self.put_back.append(youngest)
                if youngest is row:
                    return False
            elif self._shared:
                self._unshare()
                row.shared, row.cells = 0, row.held
            elif len(leaves) > 1:
                leaves = leaves[:1]
            else:
                self.remove(row)
                row.fault = ContextOverflow(
                    f"the answer does not fit the context of {self._context.size} tokens",
                    "shorten the text, or raise llamacpp.context",
                )
                return False
        row.cells += self._wanted(row, leaves)
        self._fill(row, leaves)
        return True

    def _wanted(self, row: Row, leaves: Sequence[Path]) -> int:
        """Cells that the next entries of a row take."""
        return len(row.answer.tokens) - row.held + len(_nodes(leaves))

    def _unshare(self) -> None:
        self._forget(0, 0)
        self._shared = []

    def _fill(self, row: Row, leaves: Sequence[Path]) -> None:
        """The entries of one wave: what is not yet computed of the row's tokens, then the places of the branches."""
        answer = row.answer
        row.branches = {row.sequence: leaves[0]}
        for leaf in leaves[1:]:
            sequence = self._free.pop()
            self._api.llama_memory_seq_cp(self._context.memory, row.sequence, sequence, -1, -1)
            row.branches[sequence] = leaf
        everyone = tuple(row.branches)
        last = len(answer.tokens) - 1
        row.entries = [
            _Entry(answer.tokens[at], at, everyone, _hearing(answer, ()) if at == last else None)
            for at in range(row.held, last + 1)
        ]
        for node in _nodes(leaves):
            inside = tuple(sequence for sequence, leaf in row.branches.items() if leaf[: len(node)] == node)
            row.entries.append(_Entry(node[-1], last + len(node), inside, _hearing(answer, node)))
        del row.waiting[: len(leaves)]

    def _decode(self, entries: Sequence[_Entry]) -> None:
        """Compute at most `_step` tokens, and hand out the logits."""
        if not entries:
            return
        batch = self._buffer
        alone = len(entries) == 1
        if alone:
            entries = [*entries, _Entry(entries[0].token, 0, (SPARE,))]
        batch.n_tokens = len(entries)
        for index, entry in enumerate(entries):
            batch.token[index], batch.pos[index] = entry.token, entry.position
            batch.n_seq_id[index], batch.logits[index] = len(entry.sequences), entry.heard is not None
            for at, sequence in enumerate(entry.sequences):
                batch.seq_id[index][at] = sequence
        self._context.check(self._api.llama_decode(self._context.pointer, batch))
        hearers = [entry.heard for entry in entries if entry.heard is not None]
        if hearers:
            found = self._api.llama_get_logits(self._context.pointer)
            for hear, row in zip(hearers, np.ctypeslib.as_array(found, (len(hearers), self._vocab_size)), strict=True):
                hear(row)
        if alone:
            self._forget(SPARE, 0)

    def _forget(self, sequence: int, begin: int) -> None:
        self._api.llama_memory_seq_rm(self._context.memory, sequence, begin, -1)


def common_beginning(prompts: Sequence[Sequence[int]]) -> list[int]:
    """What the middle half of the prompts, sorted, begin with: a stranger among them does not count. None for a single one."""
    if len(prompts) < 2:
        return []
    ordered = sorted(prompts, key=tuple)
    quarter = len(ordered) // 4
    first, last = ordered[quarter], ordered[-1 - quarter]
    return list(first[: common_prefix(first, last)])


def _hearing(answer: Answer, node: Path) -> Callable[[NDArray[np.float32]], None]:
    return lambda logits: answer.hear(node, logits)


def _nodes(leaves: Sequence[Path]) -> list[Path]:
    """Every place on the way to the leaves, each after the one that it goes on from."""
    return sorted({leaf[:size] for leaf in leaves for size in range(1, len(leaf) + 1)})
