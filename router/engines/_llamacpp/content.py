"""What is in a GGUF file beyond its header: metadata with its arrays, and the numbers of each tensor, for training and export.

The capped parser looks at the file first (`header.check`), so that every length is known to lie within it. Metadata is kept as
bytes, to be copied as they are or read when asked for: gguf's own reader takes 2 s for the embedded model's vocabulary, this one
0.1 s. Dequantising is gguf's, exact by ggml's definition, a few rows at a time. Source: ggml's docs/gguf.md. Not covered: writing,
files split into several, big-endian ones.
"""

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from data.errors import ModelInvalid
from router.engines._llamacpp import header

FIX = "download or convert it again"
F32, F16 = 0, 1  # ggml.h, enum ggml_type
PIECE_BYTES = 32 << 20  # of float32 numbers that are held at a time

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's place. shape: as numpy has it, rows first (the file has it the other way round); kind: ggml's number format."""

    name: str
    shape: tuple[int, ...]
    kind: int
    begin: int

    @property
    def columns(self) -> int:
        """Numbers in a row."""
        return self.shape[-1]

    @property
    def rows(self) -> int:
        """Rows of all matrices that the tensor holds."""
        return prod(self.shape[:-1])


class Content:
    """One file, mapped into memory; a context manager. pairs: the bytes of each metadata entry by key."""

    def __init__(self, path: Path) -> None:
        """Raises ModelMissing, and ModelInvalid naming the file and what is wrong."""
        self.path = path
        self.header = header.check(path)
        if self.header.metadata.get("split.count", 0) not in (0, 1):
            raise ModelInvalid(f"{path} is one of several files of a model", "join them: llama-gguf-split --merge")
        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self.pairs, self.tensors = self._parsed()
        except (UnicodeDecodeError, struct.error, KeyError) as error:
            self.close()
            raise ModelInvalid(f"{path} is no usable GGUF file: {error}", FIX) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. Safe to call twice; what was read stays."""
        self._data.close()

    @property
    def alignment(self) -> int:
        """Of the tensors' bytes within the file."""
        found = self.header.metadata.get("general.alignment", 32)
        return found if isinstance(found, int) else 32

    def typed(self, key: str) -> bytes:
        """The bytes of a metadata value with its type before it; raises KeyError."""
        return self.pairs[key][8 + len(key.encode()) :]

    def value(self, key: str) -> Any:
        """A metadata value, arrays as lists; raises KeyError, and ModelInvalid for a text that is not UTF-8."""
        typed = self.typed(key)
        try:
            return _value(typed, 4, _number(typed, "I", 0))
        except UnicodeDecodeError as error:
            raise ModelInvalid(f"{self.path} is no usable GGUF file: {error}", FIX) from error

    def raw(self, tensor: Tensor) -> Iterator[bytes]:
        """The tensor's bytes as they are, in pieces. Raises ModelInvalid for a number format that gguf does not know."""
        end = tensor.begin + self.size_bytes(tensor)
        for begin in range(tensor.begin, end, PIECE_BYTES):
            yield self._data[begin : min(begin + PIECE_BYTES, end)]

    def size_bytes(self, tensor: Tensor) -> int:
        """How many bytes `raw` gives."""
        return tensor.rows * self._row_bytes(tensor)

    def pieces(self, tensor: Tensor) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The tensor's rows as float32, so many at a time as fit PIECE_BYTES: the first row's number, and a matrix.

        Raises ModelInvalid for a number format that cannot be read and for numbers that are not finite.
        """
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        row_bytes = self._row_bytes(tensor)
        step = max(1, PIECE_BYTES // (4 * tensor.columns))
        for first in range(0, tensor.rows, step):
            count = min(step, tensor.rows - first)
            begin = tensor.begin + first * row_bytes
            raw = np.frombuffer(self._data[begin : begin + count * row_bytes], np.uint8).reshape(count, row_bytes)
            try:
                values: NDArray[np.float32] = dequantize(raw, GGMLQuantizationType(tensor.kind)).reshape(count, tensor.columns)
            except (ValueError, KeyError, NotImplementedError) as error:
                raise ModelInvalid(f"{self.path}: {tensor.name} is of a number format that cannot be read: {error}", FIX) from error
            if not np.isfinite(values).all():
                raise ModelInvalid(f"{self.path}: {tensor.name} holds values that are not finite numbers", FIX)
            yield first, values

    def matrix(self, tensor: Tensor) -> NDArray[np.float32]:
        """The whole tensor as one matrix of rows. Raises as `pieces`."""
        found = np.empty((tensor.rows, tensor.columns), np.float32)
        for first, values in self.pieces(tensor):
            found[first : first + len(values)] = values
        return found

    def _row_bytes(self, tensor: Tensor) -> int:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        try:
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)]
        except (ValueError, KeyError) as error:
            raise ModelInvalid(f"{self.path}: {tensor.name} is of the unknown number format {tensor.kind}", FIX) from error
        found: int = tensor.columns // block * size
        if tensor.columns % block or tensor.begin + tensor.rows * found > len(self._data):
            raise ModelInvalid(f"{self.path}: {tensor.name} leaves the file", FIX)
        return found

    def _parsed(self) -> tuple[Mapping[str, bytes], Mapping[str, Tensor]]:
        data = self._data
        count, entries = struct.unpack_from("<QQ", data, 8)
        at, pairs = 24, {}
        for _ in range(entries):
            begin = at
            key, at = _text(data, at)
            at = _end(data, at + 4, _number(data, "I", at))
            pairs[key] = data[begin:at]
        found = []
        for _ in range(count):
            name, at = _text(data, at)
            dimensions = _number(data, "I", at)
            shape = struct.unpack_from(f"<{dimensions}Q", data, at + 4)
            kind, offset = struct.unpack_from("<IQ", data, at + 4 + 8 * dimensions)
            at += 16 + 8 * dimensions
            found.append(Tensor(name, shape[::-1] or (0,), kind, offset))
        start = -(-at // self.alignment) * self.alignment
        return pairs, {one.name: Tensor(one.name, one.shape, one.kind, start + one.begin) for one in found}


_Bytes = bytes | mmap.mmap


def _end(data: _Bytes, at: int, kind: int) -> int:
    """Where a metadata value of that type ends."""
    if kind == _STRING:
        return at + 8 + _number(data, "Q", at)
    if kind != _ARRAY:
        return at + struct.calcsize(f"<{_SCALARS[kind]}")
    inner, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner != _STRING:
        return int(at + count * struct.calcsize(f"<{_SCALARS[inner]}"))
    read = struct.Struct("<Q").unpack_from
    for _ in range(count):  # a tight loop: vocabularies have 300000
        at += 8 + read(data, at)[0]
    return at


def _value(data: bytes, at: int, kind: int) -> Any:
    if kind == _STRING:
        return _text(data, at)[0]
    if kind != _ARRAY:
        return struct.unpack_from(f"<{_SCALARS[kind]}", data, at)[0]
    inner, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner != _STRING:
        return list(struct.unpack_from(f"<{count}{_SCALARS[inner]}", data, at))
    found = []
    for _ in range(count):
        text, at = _text(data, at)
        found.append(text)
    return found


def _text(data: _Bytes, at: int) -> tuple[str, int]:
    end = at + 8 + _number(data, "Q", at)
    return data[at + 8 : end].decode("utf-8"), end


def _number(data: _Bytes, form: str, at: int) -> int:
    return int(struct.unpack_from(f"<{form}", data, at)[0])
