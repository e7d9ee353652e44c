"""A GGUF file as rewriting it needs it: the bytes of each metadata entry, and the rows of each tensor as float32.

The capped parser of llama.cpp's engine looks at the file first (`header.check`), so that every length is known to lie within it;
entries are then copied as bytes, because gguf's own reader and writer take seconds for a vocabulary and would write it anew.
Dequantising is gguf's, exact by ggml's definition, a few rows at a time. Source: ggml's docs/gguf.md. Not covered: files split
into several, and big-endian ones.
"""

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import ModelInvalid
from router.engines._llamacpp import header

FIX = "download or convert it again"
F32, F16 = 0, 1  # ggml.h, enum ggml_type
PIECE_BYTES = 32 << 20  # of float32 numbers that are held at a time

_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a metadata value by its type


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


class GgufFile:
    """One file, mapped into memory; a context manager. metadata: as the header has it; pairs: the bytes of each entry by key."""

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
            self._data.close()
            raise ModelInvalid(f"{path} is no usable GGUF file: {error}", FIX) from error

    def __enter__(self) -> "GgufFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()

    @property
    def alignment(self) -> int:
        """Of the tensors' bytes within the file."""
        found = self.header.metadata.get("general.alignment", 32)
        return found if isinstance(found, int) else 32

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
        """The whole tensor as one matrix of rows; for small ones. Raises as `pieces`."""
        return np.concatenate([values for _, values in self.pieces(tensor)])

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
        count, entries = struct.unpack_from("<QQ", self._data, 8)
        at, pairs = 24, {}
        for _ in range(entries):
            begin = at
            key, at = self._text(at)
            at = self._skipped(at + 4, int(self._number("I", at)))
            pairs[key] = self._data[begin:at]
        found = []
        for _ in range(count):
            name, at = self._text(at)
            dimensions = self._number("I", at)
            shape = struct.unpack_from(f"<{dimensions}Q", self._data, at + 4)
            kind, offset = struct.unpack_from("<IQ", self._data, at + 4 + 8 * dimensions)
            at += 16 + 8 * dimensions
            found.append(Tensor(name, tuple(reversed(shape)) or (0,), kind, offset))
        start = -(-at // self.alignment) * self.alignment
        return pairs, {one.name: Tensor(one.name, one.shape, one.kind, start + one.begin) for one in found}

    def _skipped(self, at: int, kind: int) -> int:
        """Where a metadata value of that type ends."""
        if kind == _STRING:
            return self._text_end(at)
        if kind != _ARRAY:
            return at + _SIZES[kind]
        inner, count = int(self._number("I", at)), int(self._number("Q", at + 4))
        at += 12
        if inner != _STRING:
            return at + count * _SIZES[inner]
        read, data = struct.Struct("<Q").unpack_from, self._data
        for _ in range(count):  # a tight loop: vocabularies have 300000
            at += 8 + read(data, at)[0]
        return at

    def _text(self, at: int) -> tuple[str, int]:
        end = self._text_end(at)
        return self._data[at + 8 : end].decode("utf-8"), end

    def _text_end(self, at: int) -> int:
        return at + 8 + int(self._number("Q", at))

    def _number(self, form: str, at: int) -> Any:
        return struct.unpack_from(f"<{form}", self._data, at)[0]
