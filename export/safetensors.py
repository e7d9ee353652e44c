"""Reading .safetensors files: a checked header and memory-mapped tensors, without torch and without pickles.

The format is eight bytes of header length, a JSON header, and the tensors' bytes (huggingface/safetensors, README). Only
floating-point tensors are given out. Not covered: writing, and checkpoints in several parts.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import ModelInvalid

HEADER_BYTES = 16 << 20  # at most; 100 tensors take 11 kB
DIMENSIONS = 8  # at most; weights have one or two
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_FLOATS: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor's place: its number format, its shape, and its bytes from `begin` to `end` of the file."""

    format: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Safetensors(Mapping[str, NDArray[np.float32]]):
    """The tensors of one file by name, each read when asked for, as float32."""

    def __init__(self, path: Path) -> None:
        """Raises ModelInvalid naming the file and what is wrong with its header."""
        self.path = path
        self.entries = _entries(path)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """The tensor; raises KeyError for an unknown name, ModelInvalid for integers and for values that are not finite."""
        return self.rows(name)

    def rows(self, name: str, begin: int = 0, end: int | None = None) -> NDArray[np.float32]:
        """The rows from `begin` to `end` of a tensor, as float32; only they are read. Raises as indexing does."""
        entry = self.entries[name]
        if entry.format not in _FLOATS:
            raise _invalid(self.path, f"{name} holds {entry.format} numbers where floating-point ones are needed")
        if not math.prod(entry.shape):
            return np.zeros(entry.shape, dtype=np.float32)
        try:
            raw = np.memmap(self.path, dtype=_FLOATS[entry.format], mode="r", offset=entry.begin, shape=entry.shape)
        except (OSError, ValueError) as error:
            raise _invalid(self.path, f"{name} cannot be read: {error}") from error
        part = raw[begin:end] if entry.shape else raw
        if entry.format == "BF16":  # the upper half of a float32
            values: NDArray[np.float32] = (part.astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.asarray(part, dtype=np.float32)
        if not np.isfinite(values).all():
            raise _invalid(self.path, f"{name} holds values that are not finite numbers")
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def _entries(path: Path) -> dict[str, Entry]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
            if not 2 <= length <= min(HEADER_BYTES, size - 8):
                raise _invalid(path, "its header has an impossible length")
            header = json.loads(file.read(length), object_pairs_hook=_unique)
    except OSError as error:
        raise _invalid(path, error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise _invalid(path, f"its header is not sound JSON ({error})") from error
    if not isinstance(header, dict):
        raise _invalid(path, "its header is not a table")
    data = 8 + length
    return {name: _entry(path, name, value, data, size) for name, value in header.items() if name != "__metadata__"}


def _entry(path: Path, name: str, value: Any, data: int, size: int) -> Entry:
    """One tensor of the header; its bytes must lie within the file and be as many as its shape needs."""
    match value:
        case {"dtype": str(form), "shape": list(shape), "data_offsets": [int(begin), int(end)]} if form in _SIZES:
            counts = len(shape) <= DIMENSIONS and all(type(count) is int and 0 <= count < 1 << 40 for count in shape)
            if counts and 0 <= begin <= end <= size - data and end - begin == math.prod(shape) * _SIZES[form]:
                return Entry(form, tuple(shape), data + begin, data + end)
    raise _invalid(path, f"the place of the tensor {name[:80]!r} is wrong or lies outside the file")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _invalid(path: Path, reason: str) -> ModelInvalid:
    return ModelInvalid(f"{path} cannot be read as safetensors: {reason}", "download or install it again")
