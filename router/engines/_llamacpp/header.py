"""What a GGUF file says of itself, read with caps and checked before llama.cpp sees the file.

`summary` reads only the general metadata, `check` everything up to the tensor data: magic, version, counts, types, and that
every tensor lies inside the file. Source: the GGUF specification in ggml's docs/gguf.md. Not covered: what only building the
model can show (`probe` does that), and files split into several.
"""

import mmap
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path

from data.errors import ModelInvalid, ModelMissing

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_PAIRS = 65_536
MAX_TENSORS = 65_536
MAX_KEY_BYTES = 4_096
MAX_STRING_BYTES = 16 << 20
MAX_ITEMS = 1 << 24
MAX_NAME_BYTES = 63  # GGML_MAX_NAME - 1
KEPT_CHARS = 1 << 20  # of one string: the longest that is kept is a chat template

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_INTEGERS = frozenset("BbHhIiQq")

_BLOCKS = {  # ggml type: elements in a block, bytes of a block; ggml.c, type_traits
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18), 42: (64, 18),
}  # fmt: skip
_REMOVED = frozenset((4, 5, 31, 32, 33, 36, 37, 38))  # types that GGUF files once had

_TYPED = {  # keys whose type llama.cpp asserts instead of checking
    "general.architecture": "string",
    "general.type": "string",
    "adapter.type": "string",
    "adapter.lora.alpha": "f",
    "split.no": "H",
    "split.count": "H",
}


@dataclass(frozen=True, slots=True)
class Array:
    """An array in the metadata: what it holds and how many; only the tokens' longest text is remembered, in bytes."""

    kind: str
    count: int
    longest_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """The metadata of one file. `tensors` maps names to shapes and is empty in a summary."""

    path: Path
    size_bytes: int
    metadata: dict[str, int | float | bool | str | Array] = field(default_factory=dict)
    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """The model family as llama.cpp names it, "" where the file does not tell."""
        return self.text("general.architecture")

    @property
    def is_adapter(self) -> bool:
        """Whether the file is a LoRA adapter and no model."""
        return self.text("general.type") == "adapter"

    @property
    def context_tokens(self) -> int:
        """The context the model was trained for, 0 where the file does not tell."""
        found = self.metadata.get(f"{self.architecture}.context_length", 0)
        return found if isinstance(found, int) else 0

    @property
    def longest_token_bytes(self) -> int:
        """The length of the longest token's text: no text of n bytes has fewer than n / this tokens. 0: unknown."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return tokens.longest_bytes if isinstance(tokens, Array) else 0

    def text(self, key: str) -> str:
        """A string of the metadata, "" where there is none of that name."""
        found = self.metadata.get(key, "")
        return found if isinstance(found, str) else ""


def summary(path: Path) -> Header:
    """The metadata in front of the tokenizer's; raises ModelInvalid or ModelMissing naming the file."""
    return _read(path, whole=False)


def check(path: Path) -> Header:
    """All metadata and tensors; raises ModelInvalid naming the file and what is wrong, ModelMissing where it is gone."""
    return _read(path, whole=True)


class _Damaged(Exception):
    """What is wrong with the file, in words."""


class _Reader:
    """A cursor over the file's bytes that never leaves them."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0
        self.end = len(data)

    def take(self, size: int) -> int:
        """Step over `size` bytes and return where they began."""
        begin = self.at
        if size > self.end - begin:
            raise _Damaged("it ends in the middle of its header: the file is truncated")
        self.at = begin + size
        return begin

    def number(self, form: str) -> int | float | bool:
        """One scalar of struct format `form`, little-endian."""
        form = f"<{form}"
        value: int | float | bool = struct.unpack_from(form, self.data, self.take(struct.calcsize(form)))[0]
        return value

    def count(self, form: str, most: int, what: str) -> int:
        """An unsigned number that may not exceed `most`."""
        value = int(self.number(form))
        if value > most:
            raise _Damaged(f"it claims {value} {what}, more than {most}")
        return value

    def string(self, most: int, what: str) -> bytes:
        """A string prefixed by its length."""
        size = self.count("Q", most, f"bytes for {what}")
        begin = self.take(size)
        return self.data[begin : begin + size]


def _read(path: Path, whole: bool) -> Header:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise _Damaged("it is not a regular file")
        with path.open("rb") as file:
            if found.st_size < 24:
                raise _Damaged("it is too short to be a GGUF file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(path, _Reader(data), whole)
    except FileNotFoundError as error:
        raise ModelMissing(f"there is no model file {path}", "see: pointsman models list") from error
    except OSError as error:
        raise ModelInvalid(
            f"cannot read the model file {path}: {error.strerror or error}", "give the path of a GGUF file"
        ) from error
    except (_Damaged, struct.error) as error:
        raise ModelInvalid(f"{path} is no usable GGUF file: {error}", "download or convert it again") from error


def _parse(path: Path, reader: _Reader, whole: bool) -> Header:
    if reader.data[reader.take(4) : reader.at] != MAGIC:
        raise _Damaged("it does not begin with GGUF")
    version = int(reader.number("I"))
    if version not in VERSIONS:
        raise _Damaged(f"its version is {version}, and only 2 and 3 are known")
    tensors = reader.count("Q", MAX_TENSORS, "tensors")
    pairs = reader.count("Q", MAX_PAIRS, "metadata entries")
    header = Header(path, reader.end)
    for _ in range(pairs):
        key = reader.string(MAX_KEY_BYTES, "a key").decode("utf-8", "replace")
        if not whole and key.startswith("tokenizer."):
            return header
        if not key or key in header.metadata:
            raise _Damaged(f"its metadata has {key!r} twice" if key else "its metadata has an empty key")
        header.metadata[key] = _value(reader, key)
    if whole:
        _tensors(reader, header, tensors)
    return header


def _value(reader: _Reader, key: str) -> int | float | bool | str | Array:
    kind = int(reader.number("I"))
    wanted = _TYPED.get(key, "")
    if wanted and ("string" if kind == _STRING else _SCALARS.get(kind, "array")) != wanted:
        raise _Damaged(f"its {key} is of the wrong type")
    if kind == _STRING:
        return reader.string(MAX_STRING_BYTES, key)[:KEPT_CHARS].decode("utf-8", "replace")
    if kind == _ARRAY:
        return _array(reader, key)
    if kind not in _SCALARS:
        raise _Damaged(f"its {key} is of the unknown type {kind}")
    return reader.number(_SCALARS[kind])


def _array(reader: _Reader, key: str) -> Array:
    kind = int(reader.number("I"))
    count = reader.count("Q", MAX_ITEMS, f"items in {key}")
    if kind in _SCALARS:
        reader.take(count * struct.calcsize(f"<{_SCALARS[kind]}"))
        return Array(_SCALARS[kind], count)
    if kind != _STRING:
        raise _Damaged(f"its {key} is an array of the unknown type {kind}")
    return Array("string", count, _strings(reader, count))


def _strings(reader: _Reader, count: int) -> int:
    """Step over `count` strings and return the length of the longest. A tight loop: vocabularies have 300000 of them."""
    unpack = struct.Struct("<Q").unpack_from
    data, at, last, longest = reader.data, reader.at, reader.end - 8, 0
    for _ in range(count):
        if at > last:
            raise _Damaged("it ends in the middle of its vocabulary: the file is truncated")
        (size,) = unpack(data, at)
        at += 8 + size
        if size > longest:
            longest = size
    if longest > MAX_STRING_BYTES or at > reader.end:
        raise _Damaged("a string of its vocabulary leaves the file")
    reader.at = at
    return int(longest)


def _tensors(reader: _Reader, header: Header, count: int) -> None:
    alignment = header.metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1) or alignment > 1 << 20:
        raise _Damaged(f"its alignment {alignment} is no power of two")
    ends = 0
    for _ in range(count):
        name = reader.string(MAX_NAME_BYTES, "a tensor's name").decode("utf-8", "replace")
        if name in header.tensors:
            raise _Damaged(f"it has the tensor {name!r} twice")
        dimensions = reader.count("I", 4, f"dimensions of {name}")
        shape = tuple(int(reader.number("Q")) for _ in range(dimensions)) or (0,)
        kind = int(reader.number("I"))
        offset = int(reader.number("Q"))
        header.tensors[name] = shape
        if offset % alignment:
            raise _Damaged(f"its tensor {name!r} is not aligned")
        ends = max(ends, offset + _tensor_bytes(name, shape, kind))
    begin = -(-reader.at // alignment) * alignment
    if count and begin + ends > reader.end:
        raise _Damaged(f"it is truncated: {reader.end} bytes of {begin + ends}")


def _tensor_bytes(name: str, shape: tuple[int, ...], kind: int) -> int:
    elements = 1
    for size in shape:
        elements *= size
    if not 0 < elements < 1 << 48:
        raise _Damaged(f"its tensor {name!r} has the impossible shape {shape}")
    if kind in _REMOVED:
        raise _Damaged(f"its tensor {name!r} has type {kind}, which llama.cpp no longer reads")
    if kind not in _BLOCKS:
        return 0  # a newer type: llama.cpp says itself whether it knows it
    block, size_bytes = _BLOCKS[kind]
    if shape[0] % block:
        raise _Damaged(f"the rows of its tensor {name!r} are no multiple of {block}")
    return elements // block * size_bytes
