"""A recipe: what is trained, on what, in which stages, and what the result must prove. One TOML file, one pydantic model.

    pointsman train triage            the shipped recipe of that name (trainer/recipes/), or a path to your own
    pointsman train --schema          the JSON schema of this model

An unknown key is an error that offers the nearest known one. Not covered: what the keys do (`train`, `stages`, `base`).
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data import paths
from data.errors import InputError, NotFound
from data.sanitise import one_line

FOLDER = Path(__file__).parent / "recipes"
LARGEST_BYTES = 1 << 20
NAME = r"^[a-z0-9][a-z0-9_.-]{0,59}$"

Share = Annotated[float, Field(ge=0, le=1)]
Kind = Literal["sft", "kto", "dpo", "grpo", "rloo"]
Reward = Literal["json_valid", "label_right", "brief"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseTable(_Table):
    """The model that is tuned."""

    model: Annotated[str, Field(description="a catalog name, a hub id, a folder with a checkpoint, or a GGUF file")] = (
        "smollm2-135m"
    )
    revision: Annotated[str, Field(description="commit of a hub id; empty: the newest, written into the manifest")] = ""
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Field(description="of the weights; auto: the one that this machine multiplies fastest"),
    ] = "auto"
    quantisation: Annotated[
        Literal["none", "nf4", "int8"], Field(description="of the frozen weights in memory; nf4 is QLoRA; needs bitsandbytes")
    ] = "none"
    adapter: Annotated[str, Field(description="a finished run or adapter folder to go on from: the parent")] = ""


class LoraTable(_Table):
    """The adapter (PEFT LoraConfig)."""

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[int, Field(ge=1, le=4096)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[
        Literal["all-linear"] | tuple[str, ...], Field(description="names of linear layers, or all-linear (without the head)")
    ] = "all-linear"
    layers: Annotated[str, Field(pattern=r"^(all|top:[1-9][0-9]{0,3})$", description="all, or top:N, the N nearest the output")] = (
        "all"
    )
    cache_lower: Annotated[
        bool, Field(description="with top:N: compute the frozen lower layers once a row and keep them on disk")
    ] = False
    rslora: bool = False
    dora: bool = False


class DataTable(_Table):
    """The rows. Without `train` the examples of the domain's pack are the data."""

    train: Annotated[
        tuple[str, ...],
        Field(
            description="files (CSV, TSV, JSONL, Parquet) or a dataset folder; log: the user's log; approved: answers they approved"
        ),
    ] = ()
    validation: Annotated[
        tuple[str, ...],
        Field(description="the same for validation; pack: the pack's own validation examples; empty: a share of train is held out"),
    ] = ()
    pack: Annotated[bool, Field(description="add the pack's own examples to `train`")] = False
    text_column: str = ""
    label_column: str = ""
    labels: Annotated[dict[str, str], Field(description="label in the data = label of the domain, where they differ")] = {}
    validation_share: Annotated[float, Field(gt=0, lt=0.9)] = 0.1
    contract: Annotated[str, Field(description="the layout of the answer, where the domain has several")] = ""
    limit: Annotated[int, Field(ge=0, description="so many training rows at most, the same ones every time; 0: all")] = 0
    max_tokens: Annotated[int, Field(ge=32, le=1 << 20, description="of prompt and answer together")] = 1024
    overlong: Annotated[
        Literal["truncate", "drop"], Field(description="rows beyond max_tokens: their text is cut, never the answer; or dropped")
    ] = "drop"
    lost: Annotated[Share, Field(description="share of rows that may be truncated, dropped or masked before training fails")] = 0.01


class LossTable(_Table):
    """How much a row counts. `weights`: none, balanced (inverse of the label's frequency) or pack (the pack's label weights)."""

    weights: Literal["none", "balanced", "pack"] = "none"
    focal: Annotated[float, Field(ge=0, le=10, description="gamma of the focal loss; 0: cross entropy")] = 0.0
    label_share: Annotated[
        float, Field(ge=0, lt=1, description="share of a row's loss that its label decides; 0: every token alike")
    ] = 0.0
    own: Annotated[
        float, Field(gt=0, le=100, description="sft: how much a row of data.train counts beside one that data.pack adds")
    ] = 1.0


def _off(value: bool) -> bool:
    """Left out where it is off, so that recipes from before it was known stay the same recipes."""
    return not value


class StageTable(_Table):
    """One stage. Numbers left at 0 are the stage's own default, see the docs. A stage that fails its gate is discarded."""

    kind: Kind
    epochs: Annotated[float, Field(gt=0, le=1000)] = 1.0
    max_steps: Annotated[int, Field(ge=0, description="0: by epochs")] = 0
    learning_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    batch: Annotated[int, Field(ge=1, le=4096, description="rows of one optimiser step over all processes")] = 16
    micro_batch: Annotated[int, Field(ge=0, le=4096, description="rows computed at once by a process; 0: what fits")] = 0
    warmup: Annotated[Share, Field(description="share of the steps")] = 0.05
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    format: Annotated[
        Literal["", "answer", "reasoning", "joint"],
        Field(description="sft: the answer alone, the reasoning before it, or both kinds of rows; empty: the contract's own"),
    ] = ""
    loss: LossTable = LossTable()
    balance: Annotated[
        float,
        Field(
            ge=0,
            description="sft: an epoch sees so many times the rarest label's rows of any label at most; they take turns; 0: all",
        ),
    ] = 0.0
    rehearse: Annotated[
        float,
        Field(ge=0, le=100, description="sft: weight of staying at the base's predictions on general questions; 0: not asked"),
    ] = 0.0
    beta: Annotated[float, Field(ge=0, le=10, description="kto, dpo, grpo, rloo: how close to the reference")] = 0.0
    rewards: tuple[Reward, ...] = ()
    generations: Annotated[int, Field(ge=2, le=64, description="grpo, rloo: answers drawn for a prompt")] = 8
    max_new_tokens: Annotated[int, Field(ge=1, le=8192, description="grpo, rloo: of an answer drawn")] = 128
    min_rows: Annotated[int, Field(ge=1, description="fewer rows than this are refused")] = 2
    optional: Annotated[
        bool, Field(description="with fewer rows than min_rows the stage is left out, not refused", exclude_if=_off)
    ] = False
    evaluate_every: Annotated[float, Field(ge=0, description="share of the stage between two evaluations; 0: each epoch")] = 0.0
    evaluate_rows: Annotated[int, Field(ge=0, description="validation rows of an evaluation while training; 0: all")] = 200
    patience: Annotated[int, Field(ge=0, description="evaluations without a better one before it stops early; 0: never stops")] = 3
    best: Annotated[Literal["loss", "macro_f1"], Field(description="what is better; macro_f1 needs labels")] = "loss"
    packing: Annotated[bool, Field(description="several rows in one sequence; used with FlashAttention on a GPU only")] = True
    compile: Annotated[bool, Field(description="torch.compile: for long runs, the first step takes a minute or two")] = False


def _unasked(limit: float | None) -> bool:
    """Left out where it is not asked, so that recipes from before it was known stay the same recipes."""
    return limit is None


class GatesTable(_Table):
    """What the adapter must prove, beside the gates of the pack. None: as the pack says."""

    accuracy: Share | None = None
    macro_f1: Share | None = None
    json_valid: Share | None = None
    ece: Share | None = None
    adversarial: Share | None = None
    recall: dict[str, Share] = {}
    worse_by: Annotated[
        Share, Field(description="accuracy may be so much below base and parent at most, by the lower 95% bound of the pairs")
    ] = 0.01
    general_loss: Annotated[
        float, Field(ge=0, le=10, description="nats a token by which the general set's loss may rise at most")
    ] = 0.15
    general_answers: Annotated[Share, Field(description="share of the general answers the base got right that may be lost")] = 0.1
    win_rate: Annotated[Share | None, Field(description="kto and dpo: preference pairs of the validation rows that are won")] = None
    bias: Annotated[
        Share | None,
        Field(
            description="pairs of texts that differ in a name, gender or place alone: the upper 95% bound of those that change",
            exclude_if=_unasked,
        ),
    ] = None
    injections: Annotated[
        Share | None,
        Field(description="orders slipped into messages after which the answer keeps its contract", exclude_if=_unasked),
    ] = None
    hybrid: Annotated[bool, Field(description="judge the model weighed with the sentence encoder, as hybrid serving does")] = False
    rows: Annotated[int, Field(ge=0, description="validation rows that are answered; 0: all")] = 0


class DistributedTable(_Table):
    """Several processes, started by `--launch N` or by your own launcher (accelerate, torchrun)."""

    strategy: Literal["ddp", "fsdp", "deepspeed"] = "ddp"
    zero: Annotated[int, Field(ge=0, le=3, description="DeepSpeed's ZeRO stage")] = 2
    config: Annotated[str, Field(description="an accelerate or DeepSpeed configuration file of your own")] = ""


class TrackingTable(_Table):
    """Where metrics are sent beside the run folder (transformers' report_to)."""

    report_to: tuple[Literal["tensorboard", "mlflow", "wandb", "trackio"], ...] = ()


class Recipe(_Table):
    """A whole recipe."""

    name: Annotated[str, Field(pattern=NAME)]
    title: str = ""
    domain: Annotated[str, Field(description="the pack that is trained for; empty: chat without a domain")] = ""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    checkpoints: Annotated[int, Field(ge=1, description="optimiser steps between two checkpoints")] = 50
    base: BaseTable = BaseTable()
    lora: LoraTable = LoraTable()
    data: DataTable = DataTable()
    stages: Annotated[tuple[StageTable, ...], Field(min_length=1, max_length=20)] = (StageTable(kind="sft"),)
    gates: GatesTable = GatesTable()
    distributed: DistributedTable = DistributedTable()
    tracking: TrackingTable = TrackingTable()

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        if self.lora.cache_lower and self.lora.layers == "all":
            raise ValueError('cache_lower needs layers = "top:N": with all layers trained nothing stays the same')
        if not self.domain and not self.data.train:
            raise ValueError("without a domain there is no pack to take examples from: give data.train")
        for stage in self.stages:
            if stage.micro_batch and stage.batch % stage.micro_batch:
                raise ValueError(f"a batch of {stage.batch} cannot be made of micro batches of {stage.micro_batch}")
            if stage.rehearse and self.distributed.strategy != "ddp":
                raise ValueError("rehearse needs the whole model in every process: strategy ddp")
            if stage.kind in ("grpo", "rloo") and (not stage.rewards or stage.batch % stage.generations):
                raise ValueError(f"{stage.kind} needs rewards, and a batch that is a multiple of generations")
        return self


def names() -> list[str]:
    """The shipped recipes, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def load(given: str) -> Recipe:
    """The shipped recipe of that name, or the one in that file. Raises NotFound with near names, InputError naming the key."""
    file = FOLDER / f"{given}.toml"
    if Path(given).name != given or not file.is_file():
        file = Path(given).expanduser()
        if not file.is_file():
            near = difflib.get_close_matches(given, names(), 3, 0.4)
            raise NotFound(
                f"there is no recipe {one_line(given, 80)!r}",
                f"near: {', '.join(near)}" if near else f"there are: {', '.join(names())}",
            )
    try:
        found = tomllib.loads(paths.read_text(file, LARGEST_BYTES, "a recipe is a few lines"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not TOML: {one_line(str(error), 200)}", "correct it") from error
    return validated(found, str(file))


def validated(found: Mapping[str, Any], where: str) -> Recipe:
    """The recipe of a parsed file; where: how messages call it. Raises InputError naming the key and the nearest known one."""
    try:
        return Recipe.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"]) or "the file"
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(path.split(".")[-1], list(dict.fromkeys(_keys(Recipe.model_json_schema()))), 1, 0.5)
            raise InputError(
                f"{where}: unknown key {one_line(path, 80)!r}",
                f"did you mean {near[0]}?" if near else "see: pointsman train --schema",
            ) from error
        raise InputError(
            f"{where}: {one_line(path, 80)}: {one_line(first['msg'], 200)}", "see: pointsman train --schema"
        ) from error


def _keys(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(properties := schema.get("properties"), Mapping):
            yield from properties
        for part in schema.values():
            yield from _keys(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _keys(part)
