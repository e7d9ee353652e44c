"""Merging a LoRA adapter into its checkpoint: a folder that says what base and adapter said, or an error.

    merge(checkpoint, adapter, target, ...)    the merged folder with what was measured of it

The base is loaded afresh in float32 for each thing that is computed, never merged after a quantised model has computed anything:
bitsandbytes repacks 4-bit weights in place at the first forward on processors with AVX512-BF16. What base and adapter say unmerged
is kept, and compared with the merged numbers in float32 and with the files as they were written, read again. An adapter trained on
a base in 4 or 8 bits is merged twice, into the original weights and into the quantised ones as they compute (QLoRA merged into the
original is another model: on SmolLM2-135M 0.24 nats from what was trained, into the dequantised ones 0.0003), and the better is
kept. Not covered: bases that are GGUF files (`export.join`), adapters that are not LoRA.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from data.errors import InputError, ModelInvalid, ModelMissing
from data.sanitise import one_line
from export import files
from export._merge import adapter as adapters
from export._merge import checkpoint as checkpoints
from export._merge import writing
from export._merge.adapter import PeftAdapter
from export._merge.checkpoint import Checkpoint
from export._merge.models import Closeness, Libraries, Models, Quantised, Rows, Which, closeness

MOST_DIFFERENCE = 0.01
"""Nats by which a log-probability may change when an adapter is merged in float32; more is a fault and no rounding."""
POSITIONS = 256  # at which the whole vocabulary is compared, spread over all rows
ROW_TOKENS = 1024  # of a row, at most

Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Option:
    """One merge. exact: as computed in float32; saved: as its files say when read again; score: by the judge, if there is one."""

    which: Which
    exact: Closeness
    saved: Closeness
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged folder. which: of the options, the one that was kept; form: of its weights; untied: whether the output got weights
    of its own because the adapter brings some."""

    folder: Path
    which: Which
    options: tuple[Option, ...]
    form: str
    untied: bool
    notes: tuple[str, ...]

    @property
    def difference(self) -> float:
        """The largest change of a log-probability by merging, in float32."""
        return self.chosen.exact.largest

    @property
    def chosen(self) -> Option:
        """The option that was kept."""
        return next(one for one in self.options if one.which == self.which)


def merge(
    checkpoint: Path,
    adapter: Path,
    target: Path,
    *,
    quantised: Quantised = "none",
    judge: Callable[[Path], float] | None = None,
    rows: Sequence[Sequence[int]] = (),
    form: str = "",
    trained_in: str = "float32",
    tell: Tell = lambda line: None,
) -> Merged:
    """Merge, measure, and write the checkpoint `target`, which is complete or not there.

    quantised: how the base was while the adapter was trained; judge: the task score of a merged folder, the higher the better,
    asked only where there are two; rows: tokens over which differences are taken, by default some drawn at random; form: F32, F16
    or BF16, by default each tensor as the base has it; trained_in: the number format of a quantised base's training.
    Raises InputError where something is not there or too large for disk or memory; ModelInvalid for pickles, code of its own,
    damaged files, an adapter that does not fit, and where the merged model is not what was trained; ModelMissing without PyTorch.
    """
    source, change = checkpoints.look(checkpoint), adapters.look(adapter)
    if form and form not in writing.SIZES:
        raise InputError(f"there is no form {one_line(form, 20)!r} of a checkpoint", f"choose one of {', '.join(writing.SIZES)}")
    if trained_in not in writing.NAMES.values():
        raise InputError(
            f"no base is trained in {one_line(trained_in, 20)!r}", f"choose one of {', '.join(writing.NAMES.values())}"
        )
    _require_room(source, target, form, 1 if quantised == "none" else 2)
    work = Models(source, change, _libraries(), trained_in)
    given = _rows(rows, work.vocabulary)
    tell("computing what base and adapter say")
    expected = work.says(work.attached(work.base() if quantised == "none" else work.quantised(quantised)), given)
    kinds: tuple[Which, ...] = ("original",) if quantised == "none" else ("dequantised", "original")
    with files.whole_folder(target) as folder:
        options = []
        for which in kinds:
            tell(f"merging into the {which} weights")
            place = folder / which
            place.mkdir()
            exact = work.merged(which, quantised, place, form, given, expected)
            saved = closeness(expected, work.says(work.loaded(checkpoints.look(place)), given))
            option = Option(which, exact, saved)
            _require_same(option, quantised, source, form)
            options.append(replace(option, score=judge(place)) if judge is not None and len(kinds) > 1 else option)
        best = _better(options)
        _settle(folder, best.which, kinds)
    return Merged(target, best.which, tuple(options), form or source.form, work.unties, _notes(change, work.unties, options, best))


def _rows(given: Sequence[Sequence[int]], vocabulary: int) -> Rows:
    """The rows with positions spread over all of them. Raises InputError for a token that the model has not."""
    drawn = np.random.default_rng(0).integers(0, vocabulary, size=(4, 32)).tolist()
    kept = [list(row[:ROW_TOKENS]) for row in given if len(row)] or drawn
    wrong = next((token for row in kept for token in row if not 0 <= token < vocabulary), None)
    if wrong is not None:
        raise InputError(
            f"the token {wrong} is not one of the model's {vocabulary}", "tokenise the rows with the base's own tokenizer"
        )
    kept = kept[:POSITIONS]
    share = max(1, POSITIONS // len(kept))
    return [(row, np.unique(np.linspace(0, len(row) - 1, min(share, len(row))).round().astype(int)).tolist()) for row in kept]


def _require_same(option: Option, quantised: Quantised, source: Checkpoint, form: str) -> None:
    """In float32 merging is exact but for rounding, unless other weights are merged into than were trained on."""
    exact = option.exact.largest <= MOST_DIFFERENCE  # so written, a NaN is refused too
    if quantised == "none" and not exact:
        said = f"the merged model is not what was trained: a log-probability changes by {option.exact.largest:.3g} nats"
        raise ModelInvalid(said, "train without what cannot be merged (see adapter_config.json), or serve the adapter unmerged")
    if quantised == "none" and (form or source.form) in ("F32", "F64") and not option.saved.largest <= MOST_DIFFERENCE:
        raise ModelInvalid(f"the files in {source.folder} are not what was merged when read again", "merge it again")
    if not math.isfinite(option.saved.kl):
        raise ModelInvalid(f"the model merged into the {option.which} weights computes no numbers", "train the adapter again")


def _better(options: Sequence[Option]) -> Option:
    """The one with the higher score; of equal ones, and without scores, the one closer to what was trained."""
    scores = [one.score if one.score is not None and math.isfinite(one.score) else -math.inf for one in options]
    return min((one for one, score in zip(options, scores, strict=True) if score == max(scores)), key=lambda one: one.saved.kl)


def _settle(folder: Path, best: Which, kinds: Sequence[Which]) -> None:
    """The chosen merge's files in the folder itself, the others gone."""
    for which in kinds:
        if which != best:
            shutil.rmtree(folder / which)
    for file in sorted((folder / best).iterdir()):
        file.rename(folder / file.name)
    (folder / best).rmdir()


def _notes(change: PeftAdapter, untied: bool, options: Sequence[Option], best: Option) -> tuple[str, ...]:
    found = list(change.notes)
    if untied:
        found.append("the adapter changes one of two matrices that the base shares: the merged model has both")
    for one in options:
        if one is not best:
            score = f", score {one.score:.4g} against {best.score:.4g}" if one.score is not None and best.score is not None else ""
            found.append(
                f"merged into the {one.which} weights it is {one.saved.kl:.3g} nats from what was trained, into the {best.which} "
                f"{best.saved.kl:.3g}{score}"
            )
    return tuple(found)


def _require_room(source: Checkpoint, target: Path, form: str, merges: int) -> None:
    """Raises InputError where disk or memory is too small for it."""
    size = source.numbers * writing.SIZES[form or source.form] + (64 << 20)
    files.need_space(target.parent, merges * size)
    needed, free = source.numbers * (4 if merges == 1 else 5), _free_bytes()
    if free is not None and needed > free:
        raise InputError(
            f"merging needs {needed / 1e9:.1f} GB of memory for float32 weights, and {free / 1e9:.1f} GB are free",
            "merge on a larger machine, or join the adapter to a GGUF file of the base, which takes little memory",
        )


def _free_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _libraries() -> Libraries:
    lacking = [name for name in ("torch", "transformers", "peft") if find_spec(name) is None]
    if lacking:
        raise ModelMissing(f"merging needs {', '.join(lacking)}, which is not installed", 'pip install "pointsman[train]"')
    import peft
    import torch
    import transformers

    return Libraries(torch, transformers, peft)
