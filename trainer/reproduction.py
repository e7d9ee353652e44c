"""A run again: from its own recipe, on the same rows and base or not at all, and how far the two runs are apart.

On the same machine with the same versions a run on a processor repeats to the last bit. Elsewhere sums differ in their last digits,
and training lets that grow; within the limits below two runs are the same result. Not covered: training (`train`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.errors import InputError, ModelInvalid
from data.sanitise import one_line
from trainer import manifest, run_folder
from trainer.events import Tell, silent
from trainer.manifest import Manifest
from trainer.recipe import Recipe
from trainer.run_folder import number

LOSS_LIMIT = 0.02
"""Nats a token between two losses of the same step."""
SHARE_LIMIT = 0.01
"""Between two accuracies or other shares: one row of a hundred."""
WEIGHT_LIMIT = 0.01
"""Between two numbers of the adapter's weights."""
SHARES = ("accuracy", "macro_f1", "json_valid", "ece", "adversarial")
ADAPTER = Path("adapter") / "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Beside:
    """One measure of both runs. difference: the largest, over all steps for a curve, None where the two cannot be compared;
    note: why, or of how many."""

    name: str
    first: float | None
    second: float | None
    difference: float | None
    limit: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether it lies within the limit."""
        return self.difference is not None and self.difference <= self.limit


@dataclass(frozen=True, slots=True)
class Reproduced:
    """How far two runs are apart. identical: the adapter's files are equal to the last bit; around: what differs beside the run."""

    first: str
    second: str
    measures: tuple[Beside, ...]
    identical: bool
    differences: tuple[str, ...] = ()
    around: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether it is the same run, and everything lies within its limit."""
        return not self.differences and bool(self.measures) and all(one.passed for one in self.measures)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        measures = [asdict(one) | {"passed": one.passed} for one in self.measures]
        return asdict(self) | {"passed": self.passed, "measures": measures}


def ready(folder: Path) -> Recipe:
    """The recipe of a run, all that it is made of being there and the same.

    Raises InputError with the first differences: files of the run changed since, other rows, another base; and what reading the
    rows and looking at the base raise.
    """
    from trainer import train

    old = manifest.read(folder)
    if faults := manifest.check(folder):
        raise InputError(f"{folder.name} is not as it was left: {_first(faults)}", "copy the run again, or train it again")
    recipe = train.recipe_of(folder)
    if found := manifest.differences(old, begun(recipe)):
        raise InputError(f"{folder.name} cannot be reproduced: {_first(found)}", "bring back what it was trained on")
    return recipe


def begun(recipe: Recipe) -> Manifest:
    """The manifest that a run of this recipe would begin with here and now. Raises as reading the rows and the base do."""
    from trainer import train

    return train.beginning(recipe)[3]


def reproduce(folder: Path, *, out: Path | None = None, tell: Tell = silent) -> Reproduced:
    """Run it again and compare. out: the folder that gets the new run folder. Raises as `ready` and `trainer.train.run`."""
    from trainer import train

    recipe = ready(folder)
    again = train.run(recipe, out=out, tell=tell)
    if again.folder is None:
        raise InputError(f"the repetition of {folder.name} left no run", "train it by hand: pointsman train")
    return compare_runs(folder, again.folder)


def compare_runs(a: Path, b: Path) -> Reproduced:
    """How far two finished runs are apart. Raises NotFound and InputError where one is no sound run, ModelInvalid for weights."""
    first, second = run_folder.read(a), run_folder.read(b)
    identical, weights = _adapters(a, b)
    measures = (*_curves(first.curve, second.curve), *_figures(first.metrics, second.metrics), weights)
    return Reproduced(
        a.name,
        b.name,
        tuple(measures),
        identical,
        tuple(manifest.differences(first.manifest, second.manifest)),
        tuple(manifest.surroundings(first.manifest, second.manifest)),
    )


def _curves(first: tuple[Mapping[str, Any], ...], second: tuple[Mapping[str, Any], ...]) -> Iterator[Beside]:
    """A measure for every curve of either run; a curve with other steps cannot be compared."""
    ours, theirs = _points(first), _points(second)
    for name in dict.fromkeys((*ours, *theirs)):
        mine, other = ours.get(name, {}), theirs.get(name, {})
        ends = (mine[max(mine)] if mine else None, other[max(other)] if other else None)
        if mine.keys() != other.keys():
            yield Beside(name, *ends, None, LOSS_LIMIT, f"{len(mine)} steps and {len(other)}")
        else:
            largest = max(abs(mine[step] - other[step]) for step in mine)
            yield Beside(name, *ends, largest, LOSS_LIMIT, f"last values; largest difference of {len(mine)} steps")


def _points(events: tuple[Mapping[str, Any], ...]) -> dict[str, dict[float, float]]:
    found: dict[str, dict[float, float]] = {}
    for event in events:
        values, step = event.get("values"), number(event.get("done"))
        if step is None or not isinstance(values, Mapping):
            continue
        for key, what in (("loss", "training loss"), ("eval_loss", "validation loss")):
            if (value := number(values.get(key))) is not None:
                found.setdefault(f"{what} of {one_line(str(event.get('stage', '')), 40)}".strip(), {})[step] = value
    return found


def _figures(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Beside]:
    for name in SHARES:
        was, now = number(first.get(name)), number(second.get(name))
        if was is not None or now is not None:
            yield Beside(name, was, now, None if was is None or now is None else abs(was - now), SHARE_LIMIT)
    was, now = _general_loss(first), _general_loss(second)
    if was is not None or now is not None:
        yield Beside("general loss", was, now, None if was is None or now is None else abs(was - now), LOSS_LIMIT)


def _general_loss(metrics: Mapping[str, Any]) -> float | None:
    found: Any = metrics
    for key in ("proof", "general", "mine", "loss"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return number(found)


def _adapters(a: Path, b: Path) -> tuple[bool, Beside]:
    """Whether the adapters' files are equal, and the largest difference of two numbers in them."""
    import numpy as np

    ours, theirs = _weights(a / ADAPTER), _weights(b / ADAPTER)
    identical = (a / ADAPTER).read_bytes() == (b / ADAPTER).read_bytes()
    shapes = [{name: one.shape for name, one in side.items()} for side in (ours, theirs)]
    if shapes[0] != shapes[1]:
        return False, Beside("adapter weights", None, None, None, WEIGHT_LIMIT, "other layers, or other ranks")
    apart = [float(np.abs(ours[name].astype(np.float64) - theirs[name]).max(initial=0.0)) for name in ours]
    count = sum(one.size for one in ours.values())
    norms = [float(np.sqrt(sum(float((one.astype(np.float64) ** 2).sum()) for one in side.values()))) for side in (ours, theirs)]
    return identical, Beside(
        "adapter weights", norms[0], norms[1], max(apart, default=0.0), WEIGHT_LIMIT, f"norms of {count:,} numbers"
    )


def _weights(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(file))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelInvalid(f"{file} holds no adapter that can be read: {error}", "train the run again") from error


def _first(faults: list[str]) -> str:
    more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
    return "; ".join(faults[:3]) + more
