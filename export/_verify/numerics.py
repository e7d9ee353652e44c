"""How far a file's predictions are from the trained model's, over rows of the run's own data.

The trained model is base and adapter, unmerged, in float32. A file in F16 rounds each weight to 11 bits and llama.cpp rounds what
goes into its products to F16 too: on SmolLM2-135M that is 5e-6 nats a token (3e-6 of it the weights; a file in F32: 4e-8). The F16
KV cache would add 2e-6, so the check uses F32. Divergence counts at every position. First choices count where the model writes,
which is where one is made: within the words of a question many tokens are as good as equally likely, and 2e-3 of the first choices
there lie within 0.01 nats of another and fall otherwise by the rounding of the weights alone.
Not covered: quantised forms (`export.choose`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.exports import Check
from export._exporting.source import Asked, Reference
from export._exporting.steps import Counting, Tell
from export._verify import computing
from export._verify.computing import Pair
from export.files import need_space

KL_LIMIT = 1e-4
"""Nats a token, on average, between the trained model and the same in F16; between adapter and merged model."""
TOP1_LIMIT = 0.999
"""Of the positions where an answer is written, the share with the trained model's first choice."""
POSITIONS = 2_000
LOGITS_BYTES = 1 << 30
"""Of the trained model's logits on disk at most; fewer positions where the vocabulary is large."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of tokens; the first is the beginning of `shared` tokens that all others have. spoken: tokens of each row's answer."""

    ids: tuple[tuple[int, ...], ...]
    shared: int
    spoken: tuple[int, ...] = ()

    @property
    def positions(self) -> int:
        """How many positions are compared."""
        return sum(len(row) - (self.shared if number else 0) for number, row in enumerate(self.ids))

    def some(self, positions: int = 600) -> "Rows":
        """The first rows, of at least so many positions."""
        count = next(
            (at for at in range(1, len(self.ids)) if Rows(self.ids[:at], self.shared).positions >= positions), len(self.ids)
        )
        return Rows(self.ids[:count], self.shared, self.spoken[:count])


def chosen(asked: Sequence[Asked], vocabulary: int, positions: int = POSITIONS) -> Rows:
    """Prompts with their right answers, spread over all rows, until there are enough positions."""
    most = min(positions, LOGITS_BYTES // (4 * max(vocabulary, 1)))
    order = _spread(asked)
    whole = [(*one.prompt, *one.answer) for one in order]
    shared = _common(whole)
    found: list[tuple[int, ...]] = [whole[0][:shared]] if whole else []
    count = shared
    for row in whole:
        if found[1:] and count + len(row) - shared > most:
            break
        found.append(row)
        count += len(row) - shared
    return Rows(tuple(found), shared, (0, *(len(one.answer) for one in order))[: len(found)])


def given(reference: Reference, rows: Rows, folder: Path, tell: Tell) -> Path:
    """The trained model's logits of the rows, written into the folder as N.npy. Raises InputError for a lack of space."""
    need_space(folder, 4 * rows.positions * reference.vocabulary)
    folder.mkdir(exist_ok=True)
    counting = Counting("the trained model reads validation rows", len(rows.ids), tell)
    for number, logits in enumerate(reference.logits_of(rows.ids, rows.shared)):
        np.save(folder / f"{number}.npy", logits, allow_pickle=False)
        counting.at(number + 1)
    return folder


def as_trained(file: Path, adapter: Path | None, rows: Rows, logits: Path, of: str) -> tuple[Check, Check]:
    """Whether the file says what the trained model says: divergence and first choices. Raises ModelInvalid."""
    (found,) = computing.compare([(file, adapter)], rows.ids, rows.shared, logits, rows.spoken)
    figures = found.figures
    told = f"{found.positions:,} positions, at most {figures.kl_max:.1e}"
    kl = Check(name="logits", of=of, passed=bool(figures.kl_mean < KL_LIMIT), value=figures.kl_mean, limit=KL_LIMIT, note=told)
    share = 1 - found.spoken_differ / max(found.spoken, 1)
    differ = f"where answers are written, {found.spoken:,} positions; of all {found.positions:,}, {found.differ} differ"
    if found.leads:
        differ += f", between tokens {max(found.leads):.1e} nats apart at most"
    passed = share >= TOP1_LIMIT if found.spoken else None
    top1 = Check(name="first choices", of=of, passed=passed, value=share, limit=TOP1_LIMIT, note=differ)
    return kl, top1


def as_merged(merged: Path, base: Path, adapter: Path, rows: Rows) -> Check:
    """Whether the base with the adapter attached says what the merged model says, both in the same form. Raises ModelInvalid."""
    files: list[Pair] = [(merged, None), (base, adapter)]
    found = computing.compare(files, rows.some().ids, rows.shared)[1]
    kl = found.figures.kl_mean
    note = f"{found.positions:,} positions, {found.differ} first choices differ; the base dequantised to F16"
    return Check(name="adapter", of=adapter.name, passed=bool(kl < KL_LIMIT), value=kl, limit=KL_LIMIT, note=note)


def _spread(asked: Sequence[Asked]) -> list[Asked]:
    """All of them, neighbours far apart, the same order every time."""
    step = max(1, round(len(asked) ** 0.5))
    return [one for first in range(step) for one in asked[first::step]]


def _common(rows: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all rows begin with, at least one of each left out; 0 for a single row."""
    if len(rows) < 2:
        return 0
    first, last = min(rows), max(rows)
    most = min(len(row) for row in rows) - 1
    return next((at for at in range(most) if first[at] != last[at]), most)
