"""adapter_config.json: whether llama.cpp can compute what it describes, and each module's scale.

llama.cpp adds alpha / rank(B) * B A x to a linear layer's output, with one alpha for the whole file, and nothing else; what its own
converter writes without a word for rsLoRA and alpha_pattern is wrong by that scale. So scales are told here module by module, and
what is no such sum is refused with what does work. Source: PEFT 0.21, tuners/lora/{config,layer,variants}.py; llama.cpp's
llama-adapter.h. Not covered: the weights (`weights`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from data import paths
from data.errors import InputError, ModelInvalid
from data.sanitise import one_line
from export._adapter import patterns

FILE = "adapter_config.json"
LARGEST_BYTES = 4 << 20  # EVA and AdaLoRA write a pattern a module: 100 kB for 1000
MOST_RANK = 1 << 16
MERGE = "merge it into the checkpoint that it was trained on and export the merged model"

_SUM = (True, False, None, "gaussian", "orthogonal", "eva", "mica")
"""init_lora_weights that leave the base as it is; the others take what the adapter begins with out of the base's weights."""
_RESIDUAL = ("pissa", "olora", "corda", "lora_ga", "loftq")
_MORE = {  # what makes another layer of it than llama.cpp's sum, and what to do
    "use_dora": ("DoRA, which scales the base's columns anew", f"{MERGE}, or train it with dora = false"),
    "modules_to_save": ("whole layers trained beside it (modules_to_save)", f"{MERGE}, or train without modules_to_save"),
    "trainable_token_indices": ("trained token embeddings", f"{MERGE}, or train without trainable_token_indices"),
    "lora_bias": ("biases of its own (lora_bias)", f"{MERGE}, or train with lora_bias = false"),
    "layer_replication": ("layers that it repeats (layer_replication)", MERGE),
    "target_parameters": ("parameters outside linear layers (target_parameters)", MERGE),
    "alora_invocation_tokens": ("an activated LoRA, which begins in the middle of a text", "train it as a plain LoRA"),
    "use_qalora": ("QALoRA", MERGE),
    "use_bdlora": ("block-diagonal factors (BD-LoRA)", MERGE),
    "arrow_config": ("several adapters chosen by token (Arrow)", "export one of them"),
    "kasa_config": ("KaSA, which cuts the base's weights", MERGE),
    "fan_in_fan_out": ("transposed layers (fan_in_fan_out)", MERGE),
}
_HARMLESS = frozenset(  # of training, or of where the adapter came from
    "auto_mapping base_model_name_or_path corda_config ensure_weight_tying eva_config exclude_modules inference_mode "
    "layers_pattern layers_to_transform loftq_config lora_dropout lora_ga_config megatron_config megatron_core monteclora_config "
    "peft_version qalora_group_size revision runtime_config target_modules velora_config".split()
)


class Settings(BaseModel):
    """What the file says. r, lora_alpha: of modules without a pattern of their own."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    peft_type: str
    task_type: str | None = None
    r: int = Field(ge=1, le=MOST_RANK)
    lora_alpha: float = Field(ge=-1e9, le=1e9, allow_inf_nan=False)
    use_rslora: bool = False
    bias: str = "none"
    init_lora_weights: bool | str | None = True
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}
    target_modules: str | list[str] | None = None

    @field_validator("rank_pattern", "alpha_pattern", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("rank_pattern")
    @classmethod
    def _ranks(cls, value: dict[str, int]) -> dict[str, int]:
        if not all(0 < rank <= MOST_RANK for rank in value.values()):
            raise ValueError(f"a rank is between 1 and {MOST_RANK}")
        return value

    @field_validator("alpha_pattern")
    @classmethod
    def _alphas(cls, value: dict[str, float]) -> dict[str, float]:
        if not all(math.isfinite(alpha) and abs(alpha) <= 1e9 for alpha in value.values()):
            raise ValueError("an alpha is a finite number")
        return value

    def ranks(self, modules: Sequence[str]) -> dict[str, int]:
        """The rank of each module, named as in the model. Raises ModelInvalid for patterns that are not taken from a file."""
        return patterns.matched(self.rank_pattern, modules, self.r, "its rank_pattern")

    def scales(self, modules: Sequence[str]) -> dict[str, float]:
        """By what B A x is multiplied in each module: alpha / rank, for rsLoRA alpha / sqrt(rank). Raises as `ranks`."""
        ranks = self.ranks(modules)
        alphas = patterns.matched(self.alpha_pattern, modules, self.lora_alpha, "its alpha_pattern")
        return {module: alphas[module] / (math.sqrt(rank) if self.use_rslora else rank) for module, rank in ranks.items()}

    def targets(self, module: str) -> bool:
        """Whether the file names the module, as far as a list of names says; PEFT leaves the weights of others out."""
        names = self.target_modules
        return not isinstance(names, list) or any(module == name or module.endswith(f".{name}") for name in names)

    @property
    def repairs(self) -> tuple[str, ...]:
        """What a runtime with one alpha would get wrong, in words; it is put right in the file that is written."""
        found = {
            "rsLoRA (alpha / sqrt(rank))": self.use_rslora,
            "alpha_pattern": bool(self.alpha_pattern),
            "rank_pattern": bool(self.rank_pattern),
        }
        return tuple(name for name, there in found.items() if there)


def read(folder: Path) -> Settings:
    """The folder's adapter_config.json. Raises InputError where it cannot be read; ModelInvalid where it is damaged, and where
    llama.cpp cannot compute what it describes, with what to do instead."""
    file = folder / FILE
    if not file.is_file():
        raise InputError(
            f"{folder} holds no adapter: it has no {FILE}", "name the adapter's folder, as PEFT or pointsman train saves it"
        )
    try:
        found = json.loads(paths.read_text(file, LARGEST_BYTES, "an adapter's configuration is smaller"))
    except (ValueError, RecursionError) as error:
        raise ModelInvalid(f"{file} is not sound JSON", "copy or save the adapter again") from error
    if not isinstance(found, dict):
        raise ModelInvalid(f"{file} is not a table", "copy or save the adapter again")
    _judge_kind(file, found)
    try:
        settings = Settings.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = one_line(".".join(str(part) for part in first["loc"]), 80)
        raise ModelInvalid(f"{file}: {where}: {one_line(first['msg'], 160)}", "copy or save the adapter again") from error
    _judge(file, settings)
    return settings


def _judge_kind(file: Path, found: Mapping[str, Any]) -> None:
    kind = found.get("peft_type")
    if kind != "LORA":
        said = one_line(str(kind), 40) if kind else "of no kind that it names"
        fix = f"convert it with PEFT (save_as_lora) where it can, or {MERGE}"
        raise ModelInvalid(f"{file}: the adapter is {said}, and llama.cpp knows LoRA alone", fix)


def _judge(file: Path, settings: Settings) -> None:
    """Refuse whatever is no plain sum of the base and scale * B A."""
    if settings.bias != "none":
        _refuse(file, f"trained biases (bias = {one_line(settings.bias, 20)!r})", f'{MERGE}, or train with bias = "none"')
    if settings.task_type not in ("CAUSAL_LM", None):
        _refuse(file, f"the task {one_line(settings.task_type, 40)}", "train it to write text (CAUSAL_LM)")
    _judge_start(file, settings.init_lora_weights)
    more = settings.model_extra or {}
    for key, (what, fix) in _MORE.items():
        if more.get(key):
            _refuse(file, what, fix)
    for key, value in more.items():
        if value and key not in _HARMLESS and key not in _MORE:
            _refuse(file, f"{one_line(key, 40)!r}, which is not known", f"upgrade pointsman, or {MERGE}")


def _judge_start(file: Path, start: bool | str | None) -> None:
    name = start.lower() if isinstance(start, str) else start
    if isinstance(name, str) and name.startswith(_RESIDUAL):
        fix = f"save it with path_initial_model_for_weight_conversion, which makes a plain LoRA of it, or {MERGE}"
        _refuse(file, f"the start {one_line(name, 30)}, which changed the base's weights", fix)
    if name not in _SUM:
        _refuse(file, f"the start {one_line(str(name), 30)!r}, which is not known", MERGE)


def _refuse(file: Path, what: str, fix: str) -> NoReturn:
    raise ModelInvalid(f"{file}: the adapter has {what}, which llama.cpp cannot compute", fix)
