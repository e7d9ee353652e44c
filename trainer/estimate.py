"""What a run will take, before it starts: memory part by part, disk and time, and what to change where it does not fit.

    by formula      from the model's shape and the rows' lengths: for shipped recipes' comments, and before a model is loaded
    by a probe      one real micro batch at the median length and one at the 95th percentile, timed, with the peak of memory

Time is that of training and of the losses between; figures taken by generation come on top. Not covered: choosing the number format
(`device`), sharding over GPUs (each process is taken to hold the whole model).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import InputError
from trainer._estimate import machine, memory, shapes, sizes
from trainer._estimate.memory import Setup
from trainer._estimate.plan import Plan, gigabytes
from trainer._estimate.sizes import Encoded, Sizes
from trainer.device import torch
from trainer.recipe import Recipe, StageTable

if TYPE_CHECKING:
    from data.domains import Domain
    from trainer.device import Policy

MEASURED = ("activations", "logits")
"""Parts that a probe sees together, shown under the first name."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Two micro batches as they really went, forward, backward and all. Lengths in tokens of a row; peak_bytes: of the process."""

    short: int
    short_s: float
    long: int
    long_s: float
    peak_bytes: int

    def seconds(self, length: float) -> float:
        """Of a micro batch of rows so long, on the line through both; never below half the short one's."""
        if self.long <= self.short:
            return self.short_s
        slope = max(0.0, (self.long_s - self.short_s) / (self.long - self.short))
        return max(0.5 * self.short_s, self.short_s + slope * (length - self.short))


@dataclass(frozen=True, slots=True)
class Estimate:
    """memory: bytes by part at the peak, of one process; alternatives: settings that fit, each with its peak, where this does not;
    measured: whether a probe stands behind it; micro_batch: rows at once, of the stage that needs the most memory."""

    memory: Mapping[str, int]
    total_bytes: int
    available_bytes: int
    disk_bytes: int
    free_disk_bytes: int
    seconds: float
    steps: int
    tokens: int
    fits: bool
    alternatives: tuple[str, ...] = ()
    measured: bool = False
    micro_batch: int = 1

    def lines(self) -> list[str]:
        """The table that `--dry-run` prints."""
        parts = [f"  {name:<12} {gigabytes(size):>9}" for name, size in self.memory.items()]
        verdict = "fits" if self.fits else "does not fit"
        how = "measured on two micro batches" if self.measured else "by formula, not measured"
        total, available = gigabytes(self.total_bytes), gigabytes(self.available_bytes)
        found = [
            f"memory {total} of {available} available, {verdict} ({how}; {self.micro_batch} rows at once)",
            *parts,
            f"disk {gigabytes(self.disk_bytes)} of {gigabytes(self.free_disk_bytes)} free",
            f"time {duration(self.seconds)} for {self.steps} steps over {self.tokens:,} tokens",
        ]
        return found + (["what fits:", *(f"  {one}" for one in self.alternatives)] if self.alternatives else [])

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__} | {"memory": dict(self.memory)}


def estimate(
    recipe: Recipe,
    policy: "Policy",
    config: Any,
    encoded: Sequence[Encoded | Sizes],
    folder: Path,
    *,
    held_out: int = 0,
    processes: int = 1,
    step: Callable[[int], None] | None = None,
) -> Estimate:
    """The estimate of a run on this machine.

    config: the base model's configuration (transformers); encoded: one for each stage, its rows or their sizes; folder: where runs
    are written; held_out: validation rows; step(length): trains one real micro batch of the first stage with rows of about that
    many tokens, without changing any weight that is kept; absent, or where the formula says that it would not fit: not measured.
    Raises InputError where the disk is too small.
    """
    shape = shapes.of(config)
    setup = Setup(policy.device, policy.dtype, recipe.base.quantisation, policy.optimizer)
    lengths = [
        one if isinstance(one, Sizes) else sizes.measured(one, stage.balance)
        for one, stage in zip(encoded, recipe.stages, strict=False)
    ]
    available = machine.available_bytes(policy.device)
    plan = Plan(recipe, shape, setup, lengths, available, held_out, processes)
    found = _computed(plan, machine.flops(policy.device), machine.free_disk_bytes(folder))
    if found.disk_bytes > found.free_disk_bytes:
        raise InputError(
            f"the run needs {gigabytes(found.disk_bytes)} of disk at {folder} and {gigabytes(found.free_disk_bytes)} are free",
            "make room, give another folder with --out, or lower lora.rank",
        )
    if step is None or not found.fits or not lengths[0].rows:
        return found
    first = lengths[0]
    try:
        seen = probe(step, policy.device, first.prefix + first.p50, first.prefix + first.p95)
    except (MemoryError, torch().OutOfMemoryError):  # more than the formula thought, and more than there is
        more = max(0, available - found.total_bytes)
        return replace(found, total_bytes=found.total_bytes + more, fits=False, alternatives=plan.alternatives(more), measured=True)
    return _corrected(plan, found, seen)


def micro_batch(
    recipe: Recipe, stage: StageTable, policy: "Policy", config: Any, encoded: Encoded | Sizes, processes: int = 1
) -> int:
    """Rows that a process computes at once in a stage: the recipe's, else the largest share of a batch that leaves memory free."""
    setup = Setup(policy.device, policy.dtype, recipe.base.quantisation, policy.optimizer)
    size = encoded if isinstance(encoded, Sizes) else sizes.measured(encoded)
    return Plan(recipe, shapes.of(config), setup, [size], machine.available_bytes(policy.device), 0, processes).micro(stage, size)


def probe(step: Callable[[int], None], device: memory.Device, short: int, long: int) -> Probe:
    """Run step at both lengths and measure; the first call, which warms up, does not count. Raises what step raises."""
    step(short)
    machine.forget_peak(device)
    return Probe(short, _timed(step, short, device), long, _timed(step, long, device), machine.peak_bytes(device))


def require(found: Estimate) -> None:
    """Raises InputError where a run does not fit into memory, with what would fit."""
    if not found.fits:
        raise InputError(
            f"the run needs {gigabytes(found.total_bytes)} of memory and {gigabytes(found.available_bytes)} are available",
            "; or ".join(found.alternatives) or "take a larger machine, or a smaller base",
        )


def planned(recipe: Recipe, domain: "Domain | None" = None) -> Estimate:
    """The estimate of a recipe on the usual machine for its base, from published numbers alone. Raises InputError for a base that
    shapes.toml does not have."""
    shape = shapes.known().get(recipe.base.model)
    if shape is None:
        raise InputError(
            f"the shape of {recipe.base.model} is not known before it is loaded", f"known: {', '.join(shapes.known())}"
        )
    where = machine.usual(shape)
    lengths = [sizes.planned(recipe, stage, domain) for stage in recipe.stages]
    held_out = len([one for one in domain.examples if one.split == "validation"]) if domain else 0
    plan = Plan(recipe, shape, _usual_setup(recipe, where), lengths, where.memory_bytes, held_out, 1)
    return _computed(plan, where.flops, where.memory_bytes)


def header(recipe: Recipe, domain: "Domain | None" = None) -> str:
    """The line about memory and time in a shipped recipe's head; a test makes it anew and compares."""
    found = planned(recipe, domain)
    where = machine.usual(shapes.known()[recipe.base.model])
    return (
        f"# Estimate, {where.name}: {_rough_gb(found.total_bytes)} of memory, {_rough_time(found.seconds)} of training, "
        f"{_rough_gb(found.disk_bytes)} of disk."
    )


def duration(seconds: float) -> str:
    """As people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def _computed(plan: Plan, flops: float, free_disk: int) -> Estimate:
    """By formula."""
    micro, parts = plan.peak()
    total = sum(parts.values())
    load = plan.load()
    fits = memory.fits_in(total, plan.available)
    return Estimate(
        memory=parts,
        total_bytes=total,
        available_bytes=plan.available,
        disk_bytes=plan.disk(),
        free_disk_bytes=free_disk,
        seconds=sum(one.flops for one in load) / (flops * plan.processes),
        steps=sum(one.steps for one in load),
        tokens=sum(one.tokens for one in load),
        fits=fits,
        alternatives=() if fits else plan.alternatives(),
        micro_batch=micro,
    )


def _corrected(plan: Plan, found: Estimate, seen: Probe) -> Estimate:
    """With what a probe saw of the first stage: the others are scaled alike, in time and in memory."""
    load, first = plan.load(), plan.lengths[0]
    own = load[0].micro_batches * seen.seconds(first.prefix + first.mean)
    scale = own / max(1.0, load[0].flops - plan.evaluation_flops(0))
    expected = sum(plan.parts(plan.recipe.stages[0], first, plan.micro(plan.recipe.stages[0], first)).values())
    more = seen.peak_bytes - expected
    total = max(seen.peak_bytes, found.total_bytes + more)
    fixed = {name: size for name, size in found.memory.items() if name not in MEASURED}
    fits = memory.fits_in(total, plan.available)
    return replace(
        found,
        memory=fixed | {MEASURED[0]: max(0, total - sum(fixed.values()))},
        total_bytes=total,
        seconds=sum(one.flops for one in load) * scale,
        fits=fits,
        alternatives=() if fits else plan.alternatives(more),
        measured=True,
    )


def _usual_setup(recipe: Recipe, where: machine.Machine) -> Setup:
    """As `device.policy` would choose there."""
    quantised = recipe.base.quantisation != "none"
    usual = "float32" if where.device == "cpu" else "bfloat16"
    dtype = usual if recipe.base.dtype == "auto" else recipe.base.dtype
    optimizer = "paged_adamw_8bit" if quantised and where.device == "cuda" else "adamw_torch_fused"
    return Setup(where.device, dtype, recipe.base.quantisation, optimizer)


def _timed(step: Callable[[int], None], length: int, device: memory.Device) -> float:
    started = time.perf_counter()
    step(length)
    if device == "cuda":
        torch().cuda.synchronize()
    return time.perf_counter() - started


def _rough_gb(size: float) -> str:
    """To one figure below 1 GB, to half a GB above: so that a few examples more change no comment."""
    return f"{max(0.1, round(size / 1e9, 1)):g} GB" if size < 1e9 else f"{round(size / 5e8) / 2:g} GB"


def _rough_time(seconds: float) -> str:
    """To two figures at most, in steps that a few examples more do not cross often."""
    minutes = seconds / 60
    for limit, step in ((10, 1), (60, 5), (180, 15)):
        if minutes < limit:
            return f"{max(step, round(minutes / step) * step)} min"
    return f"{round(minutes / 60):g} h"
