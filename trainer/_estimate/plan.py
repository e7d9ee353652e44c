"""A run as the formula sees it: its stages' peaks, work and disk, and the settings that would make it smaller.

Not covered: what is measured (`estimate.probe`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from trainer._estimate import memory, shapes, sizes, work
from trainer._estimate.memory import Setup
from trainer._estimate.shapes import Shape
from trainer._estimate.sizes import Sizes
from trainer.recipe import Recipe, StageTable

MICRO_SHARE = 0.5
"""Of the memory, that a micro batch may fill when its size is chosen (`stages.sft` leaves as much)."""
KEPT_CHECKPOINTS = 3
"""Two are kept, and the next one is written before the older is removed."""
REPORT_BYTES = 5_000_000
ROW_BYTES = 4_000
"""Of a judged row in the predictions of adapter and base."""
TOP_LAYERS = 8
OFFERED = 2
"""Values of one setting that are offered, the gentlest ones."""
ORDER = ("program", "weights", "adapter", "gradients", "optimiser", "activations", "logits")


@dataclass(frozen=True)
class Plan:
    """All that the formula needs. processes: how many train together."""

    recipe: Recipe
    shape: Shape
    setup: Setup
    lengths: Sequence[Sizes]
    available: int
    held_out: int
    processes: int

    def peak(self) -> tuple[int, Mapping[str, int]]:
        """Of the stage that needs the most: its rows at once, and the bytes by part."""
        found = [self._stage_peak(stage, size) for stage, size in zip(self.recipe.stages, self.lengths, strict=True)]
        return max(found, key=lambda one: sum(one[1].values()))

    def micro(self, stage: StageTable, size: Sizes) -> int:
        """Rows at once: the recipe's, else the largest divisor of a process's share that leaves the rest of MICRO_SHARE free."""
        share = max(1, stage.batch // self.processes)
        if stage.micro_batch:
            return min(stage.micro_batch, share)
        fitting = [
            rows
            for rows in range(1, share + 1)
            if share % rows == 0 and sum(self.parts(stage, size, rows).values()) <= MICRO_SHARE * self.available
        ]
        return max(fitting, default=1)

    def load(self) -> list[work.Work]:
        """Of each stage."""
        pairs = zip(self.recipe.stages, self.lengths, strict=True)
        return [self._work(stage, size) for stage, size in pairs]

    def disk(self) -> int:
        """Checkpoints (weights, optimiser state), the adapter of each stage and the final one, predictions and reports, and the
        kept lower layers' states where the recipe asks for them."""
        trained = shapes.adapter_parameters(self.shape, self.recipe.lora)
        checkpoints = KEPT_CHECKPOINTS * (4 + 8) * trained
        adapters = 4 * trained * (len(self.recipe.stages) + 2)
        lower = 0
        if self.recipe.lora.cache_lower:
            lower = round(sum(one.rows * (one.prefix + one.mean) for one in self.lengths) * self.shape.hidden * 4)
        return checkpoints + adapters + REPORT_BYTES + ROW_BYTES * self.held_out + lower

    def alternatives(self, more: int = 0) -> tuple[str, ...]:
        """Settings whose peak fits, gentlest first, each with its peak; more: bytes that a probe saw beyond the formula."""
        found: dict[str, list[str]] = {}
        for said, plan in (*_variants(self), *self._smaller()):
            total = sum(plan.peak()[1].values()) + more
            if memory.fits_in(total, self.available):
                found.setdefault(said.partition(" ")[0], []).append(f"{said}: {gigabytes(total)}")
        return tuple(line for lines in found.values() for line in lines[:OFFERED])

    def _smaller(self) -> list[tuple[str, "Plan"]]:
        """The largest smaller base that fits."""
        ranked = sorted(shapes.known().items(), key=lambda one: -one[1].parameters)
        plans = [
            (f'base.model = "{name}"', replace(self, shape=one)) for name, one in ranked if one.parameters < self.shape.parameters
        ]
        fitting = [one for one in plans if memory.fits_in(sum(one[1].peak()[1].values()), self.available)]
        return fitting[:1]

    def _stage_peak(self, stage: StageTable, size: Sizes) -> tuple[int, Mapping[str, int]]:
        rows = self.micro(stage, size)
        return rows, self.parts(stage, size, rows)

    def parts(self, stage: StageTable, size: Sizes, rows: int) -> Mapping[str, int]:
        """Bytes by part of a stage with so many rows at once."""
        found = memory.parts(stage, self.shape, self.recipe.lora, size, self.setup, rows)
        return {name: found[name] for name in ORDER}

    def _work(self, stage: StageTable, size: Sizes) -> work.Work:
        rows = self.micro(stage, size)
        return work.of(stage, self.shape, self.recipe.lora, size, self.held_out, rows, self.processes)

    def evaluation_flops(self, at: int) -> float:
        stage, size = self.recipe.stages[at], self.lengths[at]
        rows = self.micro(stage, size)
        lora = self.recipe.lora
        none = work.of(stage, self.shape, lora, size, 0, rows, self.processes)
        return work.of(stage, self.shape, lora, size, self.held_out, rows, self.processes).flops - none.flops


def _variants(plan: Plan) -> list[tuple[str, Plan]]:
    """What could be changed, gentlest first."""
    recipe = plan.recipe
    found: list[tuple[str, Plan]] = []
    micro = plan.peak()[0]
    while micro > 1:
        micro = max(rows for rows in range(1, micro) if micro % rows == 0)
        stages = tuple(stage.model_copy(update={"micro_batch": micro}) for stage in recipe.stages if stage.batch % micro == 0)
        if len(stages) == len(recipe.stages):
            found.append((f"micro_batch = {micro}", _with(plan, recipe.model_copy(update={"stages": stages}))))
    if plan.setup.dtype == "float32" and plan.setup.quantisation == "none":
        found.append(('base.dtype = "bfloat16"', replace(plan, setup=replace(plan.setup, dtype="bfloat16"))))
    if plan.setup.quantisation == "none" and plan.setup.device != "mps":
        found.append(('base.quantisation = "nf4"', replace(plan, setup=replace(plan.setup, quantisation="nf4"))))
    if shapes.trained_layers(plan.shape, recipe.lora) > TOP_LAYERS:
        lora = recipe.lora.model_copy(update={"layers": f"top:{TOP_LAYERS}"})
        found.append((f'lora.layers = "top:{TOP_LAYERS}"', _with(plan, recipe.model_copy(update={"lora": lora}))))
    for tokens in (1024, 512, 256):
        if any(one.prefix + one.p95 > tokens > one.prefix + one.answer_p95 for one in plan.lengths):
            found.append((f"data.max_tokens = {tokens}", replace(plan, lengths=[sizes.cut(one, tokens) for one in plan.lengths])))
    return found


def _with(plan: Plan, recipe: Recipe) -> Plan:
    return replace(plan, recipe=recipe)


def gigabytes(size: float) -> str:
    """With one decimal, two below a tenth."""
    return f"{size / 1e9:.1f} GB" if size >= 95e6 else f"{size / 1e9:.2f} GB"
