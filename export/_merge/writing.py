"""A merged checkpoint on disk: weights as safetensors laid out as the base's are, and the base's other files byte for byte.

Tensors are written one at a time. The format is eight bytes of header length, a JSON header, and the tensors' bytes
(huggingface/safetensors, README). Not covered: where the numbers come from (`export.merge`).
"""

import json
import math
import shutil
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import paths
from data.errors import InputError
from export._merge.checkpoint import CONFIG, INDEX, ONE, Checkpoint

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""As PyTorch and config.json call them."""
_KEPT = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "LICENSE*",
    "NOTICE*",
)
_MOST_BYTES = 256 << 20  # of a file that is copied; Gemma's tokenizer.json has 34 MB


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor to write: its name, its format, its shape, and the file of the base that it stood in, "" for a new one."""

    name: str
    form: str
    shape: tuple[int, ...]
    file: str

    @property
    def bytes(self) -> int:
        """What it takes on disk."""
        return math.prod(self.shape) * SIZES[self.form]


def weights(folder: Path, parts: Iterable[Part], values: Callable[[Part], Any]) -> None:
    """Write the files; values: a tensor's bytes, little-endian. Raises InputError where the folder cannot be written."""
    files: dict[str, list[Part]] = {}
    for part in parts:
        files.setdefault(part.file, []).append(part)
    for part in files.pop("", ()):  # a head that was tied has no place of its own yet
        files.setdefault(max(files, default=ONE), []).append(part)
    for name, held in files.items():
        with paths.replacing(folder / name) as out:
            out.write(_header(held))
            for part in held:
                out.write(values(part))
    if list(files) != [ONE]:
        placed = {part.name: name for name, held in files.items() for part in held}
        index = {"metadata": {"total_size": sum(part.bytes for held in files.values() for part in held)}, "weight_map": placed}
        with paths.replacing(folder / INDEX) as out:
            out.write(json.dumps(index, indent=2, sort_keys=True).encode() + b"\n")


def rest(checkpoint: Checkpoint, folder: Path, changes: Mapping[str, Any]) -> None:
    """Copy what is not weights; config.json too, byte for byte unless something in it changes. Raises InputError."""
    for pattern in _KEPT:
        for file in sorted(checkpoint.folder.glob(pattern)):
            if file.is_file():
                _copy(file, folder / file.relative_to(checkpoint.folder))
    if not changes:
        return _copy(checkpoint.folder / CONFIG, folder / CONFIG)
    with paths.replacing(folder / CONFIG) as out:
        out.write(json.dumps({**checkpoint.config, **changes}, indent=2).encode() + b"\n")
    return None


def _header(parts: Iterable[Part]) -> bytes:
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for part in parts:
        table[part.name] = {"dtype": part.form, "shape": list(part.shape), "data_offsets": [at, at + part.bytes]}
        at += part.bytes
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers are aligned
    return struct.pack("<Q", len(text)) + text


def _copy(source: Path, target: Path) -> None:
    try:
        if source.stat().st_size > _MOST_BYTES:
            raise InputError(f"{source} is larger than {_MOST_BYTES >> 20} MB", "put the model's own file in its place")
        with source.open("rb") as file, paths.replacing(target) as out:
            shutil.copyfileobj(file, out)
    except OSError as error:
        raise InputError(f"cannot copy {source}: {error.strerror or error}", "make it readable") from error
