"""A checkpoint's folder before anything of it is loaded: what is in it, and whether it may be merged.

Nothing of it is run, and its sizes are checked against its weights' headers, so that a hostile config.json takes no memory. Not
covered: loading it (`export.merge`), and families that transformers does not have built in.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import paths
from data.errors import InputError, ModelInvalid
from data.sanitise import one_line
from export.safetensors import Entry, Safetensors

CONFIG, ONE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
AGAIN = "download it again"
FLOATS = ("F32", "F16", "BF16", "F64")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_JSON_BYTES, _INDEX_BYTES = 4 << 20, 64 << 20
_BUILT_IN = re.compile(r"[\w.]*?(\w+?)(?:Config|Model|ForCausalLM|For\w+Classification)")


@dataclass(frozen=True)
class Checkpoint:
    """A folder that was looked at. config: config.json; files: of the weights, in order; entries: name -> file and place."""

    folder: Path
    config: Mapping[str, Any]
    files: tuple[Path, ...]
    entries: Mapping[str, tuple[Path, Entry]]

    @property
    def numbers(self) -> int:
        """How many weights it has."""
        return sum(math.prod(entry.shape) for _, entry in self.entries.values())

    @property
    def form(self) -> str:
        """The number format of most of its weights: F32, F16, BF16 or F64."""
        counted: Counter[str] = Counter()
        for _, entry in self.entries.values():
            counted[entry.format] += math.prod(entry.shape)
        return counted.most_common(1)[0][0]


def look(folder: Path) -> Checkpoint:
    """Raises InputError where the folder holds no checkpoint; ModelInvalid for pickles, quantised weights, code of its own, missing
    and damaged files."""
    if not (folder / CONFIG).is_file():
        raise _without_config(folder)
    config = _table(folder / CONFIG, _JSON_BYTES)
    _judge(folder, config)
    files = _files(folder)
    entries: dict[str, tuple[Path, Entry]] = {}
    for file in files:
        for name, entry in Safetensors(file).entries.items():
            if name in entries:
                raise _invalid(folder, f"has the tensor {one_line(name, 80)!r} in two files", AGAIN)
            if entry.format not in FLOATS:
                said = f"holds {one_line(name, 80)} as {entry.format}: it is quantised"
                raise _invalid(folder, said, "give the original checkpoint, in F32, F16 or BF16")
            entries[name] = file, entry
    layers = config.get("num_hidden_layers", 0)
    if not entries or not isinstance(layers, int) or not 0 <= layers <= len(entries):
        raise _invalid(folder, f"says {one_line(str(layers), 20)} layers in its {CONFIG} and has {len(entries)} tensors", AGAIN)
    return Checkpoint(folder, config, files, entries)


def _judge(folder: Path, config: Mapping[str, Any]) -> None:
    if config.get("quantization_config"):
        raise _invalid(folder, "is quantised already, and rounding it again would lose the adapter", "give the original checkpoint")
    family = str(config.get("model_type", ""))
    for name in _names(config.get("auto_map")):
        match = _BUILT_IN.fullmatch(name)
        if match is None or match[1].lower() != family.replace("_", ""):  # Phi-3.5 brings copies of what transformers has
            said = f"needs code of its own ({one_line(name, 80)}), and foreign code is never run"
            raise _invalid(folder, said, "choose a base that transformers has built in")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise _invalid(
            folder, "has neither tokenizer.json nor tokenizer.model", f"put the model's own tokenizer files beside its {CONFIG}"
        )


def _files(folder: Path) -> tuple[Path, ...]:
    if (folder / INDEX).is_file():
        placed = _table(folder / INDEX, _INDEX_BYTES).get("weight_map")
        names = sorted({str(name) for name in placed.values()}) if isinstance(placed, Mapping) else []
        outside = [name for name in names if Path(name).name != name or "\\" in name or not name.endswith(".safetensors")]
        if outside or not names:
            raise _invalid(folder, f"has a broken {INDEX}{f': it names {one_line(outside[0], 80)!r}' if outside else ''}", AGAIN)
    elif (folder / ONE).is_file():
        names = [ONE]
    elif any(one.suffix.lower() in _PICKLES and one.name != "training_args.bin" for one in folder.iterdir()):
        raise _invalid(
            folder,
            "holds its weights as pickles, which can run code when they are loaded",
            "choose a revision with safetensors, or convert it: huggingface.co/docs/safetensors/convert-weights",
        )
    else:
        raise _invalid(folder, f"has no {ONE}", "name a folder with a checkpoint: config.json, *.safetensors")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise _invalid(folder, f"lacks {len(missing)} of {len(names)} weight files, the first {one_line(missing[0], 80)}", AGAIN)
    return tuple(folder / name for name in names)


def _without_config(folder: Path) -> InputError:
    if (folder / "adapter_config.json").is_file():
        return InputError(f"{folder} is an adapter, not a model", "name the checkpoint that it was trained on")
    if folder.is_dir() and any(folder.glob("*.gguf")):
        return InputError(f"{folder} holds GGUF files and no checkpoint", "join the adapter to the GGUF file instead of merging")
    return InputError(f"there is no {CONFIG} in {folder}", "name a folder with a checkpoint: config.json, *.safetensors")


def _table(file: Path, most_bytes: int) -> Mapping[str, Any]:
    try:
        found = json.loads(paths.read_text(file, most_bytes, f"it is no usual {file.name}"))
    except (ValueError, RecursionError) as error:
        raise _invalid(file.parent, f"has a broken {file.name}: {one_line(str(error), 160)}", AGAIN) from error
    if not isinstance(found, dict):
        raise _invalid(file.parent, f"has a broken {file.name}: it is no table", AGAIN)
    return found


def _names(value: Any) -> list[str]:
    """The class names of an auto_map, whose values are names or lists of them."""
    if isinstance(value, Mapping):
        return [name for one in value.values() for name in _names(one)]
    if isinstance(value, list | tuple):
        return [name for one in value for name in _names(one)]
    return [value] if isinstance(value, str) else []


def _invalid(folder: Path, said: str, fix: str) -> ModelInvalid:
    return ModelInvalid(f"{folder} {said}", fix)
