"""What training reads of a GGUF file: all metadata with its arrays, and each tensor's numbers when asked for.

The capped parser that llama.cpp's engine uses looks at the file first (`header.check`), so that here every length is known to lie
within it; gguf's own reader takes 2 s for the embedded model's vocabulary, this one 0.1 s. Dequantising is gguf's, exact by
ggml's definition. Source: ggml's docs/gguf.md. Not covered: writing, files split into several.
"""

import hashlib
import mmap
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import ModelInvalid
from router.engines._llamacpp import header

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
FIX = "download or convert it again"


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor's place. shape: as numpy has it, rows first (GGUF writes it the other way round); kind: ggml's number format."""

    shape: tuple[int, ...]
    kind: int
    begin: int


class GgufFile:
    """One file, mapped into memory."""

    def __init__(self, path: Path) -> None:
        """Raises ModelMissing, and ModelInvalid naming the file and what is wrong."""
        self.path = path
        self.header = header.check(path)
        if self.header.is_adapter:
            raise ModelInvalid(f"{path} is a LoRA adapter, not a model", "name the model, and this file as base.adapter")
        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._tokenizer = hashlib.sha256()
        try:
            self.metadata, self.tensors = self._parsed()
        except (UnicodeDecodeError, struct.error) as error:
            raise ModelInvalid(f"{path} is no usable GGUF file: {error}", FIX) from error

    @property
    def architecture(self) -> str:
        """The model family as llama.cpp names it."""
        return self.header.architecture

    @property
    def tokenizer_sha256(self) -> str:
        """Of the bytes of all metadata about the tokenizer but the chat template."""
        return self._tokenizer.hexdigest()

    @cached_property
    def parameters(self) -> int:
        """How many numbers the tensors hold."""
        return sum(int(np.prod(entry.shape)) for entry in self.tensors.values())

    def number(self, name: str, default: float | None = None) -> float:
        """A number of the family's own metadata, `name` without the family, above 0; raises ModelInvalid where there is none."""
        found = self.metadata.get(f"{self.architecture}.{name}", default)
        if not isinstance(found, int | float) or not 0 < found < 1e15:
            raise ModelInvalid(f"{self.path} does not say its {name}", FIX)
        return found

    def size(self, name: str, default: int | None = None) -> int:
        """As `number`, a whole one."""
        found = self.number(name, default)
        if not isinstance(found, int):
            raise ModelInvalid(f"{self.path} does not say its {name}", FIX)
        return found

    @property
    def embeddings(self) -> int:
        """Rows of the embedding; raises ModelInvalid where there is none."""
        found = self.tensors.get("token_embd.weight")
        if found is None or len(found.shape) != 2:
            raise ModelInvalid(f"{self.path} holds no embedding: it is a vocabulary or a part of a model", FIX)
        return found.shape[0]

    def texts(self, key: str) -> list[str]:
        """An array of strings; raises ModelInvalid where there is none."""
        found = self.metadata.get(key)
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            raise ModelInvalid(f"{self.path} has no {key}", FIX)
        return found

    def tensor(self, name: str) -> NDArray[np.float32]:
        """The numbers of a tensor as float32, shape as in `tensors`; raises ModelInvalid for formats that cannot be read and for
        numbers that are not finite."""
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize, quant_shape_to_byte_shape

        entry = self.tensors[name]
        try:
            kind = GGMLQuantizationType(entry.kind)
            shape = quant_shape_to_byte_shape(entry.shape, kind)
            raw = np.frombuffer(self._data, np.uint8, int(np.prod(shape)), entry.begin).reshape(shape)
            values: NDArray[np.float32] = dequantize(raw, kind)
        except (ValueError, KeyError, NotImplementedError) as error:
            raise ModelInvalid(f"{self.path}: {name} is of a number format that cannot be read: {error}", FIX) from error
        if not np.isfinite(values).all():
            raise ModelInvalid(f"{self.path}: {name} holds values that are not finite numbers", FIX)
        return values.reshape(entry.shape)

    def _parsed(self) -> tuple[dict[str, Any], dict[str, Entry]]:
        tensors, pairs = struct.unpack_from("<QQ", self._data, 8)
        at, metadata = 24, {}
        for _ in range(pairs):
            key, at = self._text(at)
            begin = at
            metadata[key], at = self._value(at + 4, self._number("I", at))
            if key.startswith("tokenizer.") and "chat_template" not in key:
                self._tokenizer.update(key.encode() + self._data[begin:at])
        places = {}
        for _ in range(tensors):
            name, at = self._text(at)
            dimensions = self._number("I", at)
            shape = struct.unpack_from(f"<{dimensions}Q", self._data, at + 4)
            kind, offset = struct.unpack_from("<IQ", self._data, at + 4 + 8 * dimensions)
            at += 16 + 8 * dimensions
            places[name] = (shape[::-1], kind, offset)
        alignment = metadata.get("general.alignment", 32)
        start = -(-at // alignment) * alignment
        return metadata, {name: Entry(shape, kind, start + offset) for name, (shape, kind, offset) in places.items()}

    def _value(self, at: int, kind: int) -> tuple[Any, int]:
        if kind == _STRING:
            return self._text(at)
        if kind != _ARRAY:
            return self._number(_SCALARS[kind], at), at + struct.calcsize(f"<{_SCALARS[kind]}")
        (inner, count), at = struct.unpack_from("<IQ", self._data, at), at + 12
        if inner in _SCALARS:
            form = f"<{count}{_SCALARS[inner]}"
            return list(struct.unpack_from(form, self._data, at)), at + struct.calcsize(form)
        found = []
        for _ in range(count):
            text, at = self._text(at)
            found.append(text)
        return found, at

    def _text(self, at: int) -> tuple[str, int]:
        end = at + 8 + self._number("Q", at)
        return self._data[at + 8 : end].decode("utf-8"), end

    def _number(self, form: str, at: int) -> Any:
        return struct.unpack_from(f"<{form}", self._data, at)[0]
