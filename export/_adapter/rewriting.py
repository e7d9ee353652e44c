"""Writing a GGUF file from metadata entries that are bytes already and tensors that come piece by piece.

The header is written first, as every size is known beforehand; memory holds one piece at a time. Source: ggml's docs/gguf.md,
version 3. Not covered: making metadata (the `gguf` package does).
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

UINT32 = 4  # type of a metadata value
_VERSION = 3


@dataclass(frozen=True, slots=True)
class Planned:
    """A tensor to write: its name, its shape (rows first), ggml's number format and how many bytes its data will have."""

    name: str
    shape: tuple[int, ...]
    kind: int
    size_bytes: int


def number(key: str, value: int) -> bytes:
    """A metadata entry with an unsigned number of 32 bits."""
    name = key.encode()
    return struct.pack("<Q", len(name)) + name + struct.pack("<II", UINT32, value)


def total_bytes(pairs: Mapping[str, bytes], plan: Sequence[Planned], alignment: int) -> int:
    """The size of the file that `write` makes."""
    return len(_head(pairs, plan, alignment)) + sum(_padded(one.size_bytes, alignment) for one in plan)


def write(
    out: IO[bytes], pairs: Mapping[str, bytes], plan: Sequence[Planned], data: Iterable[Iterator[bytes]], alignment: int
) -> None:
    """Write the file. data: for each planned tensor its bytes in pieces, as many as planned (else AssertionError)."""
    out.write(_head(pairs, plan, alignment))
    for one, pieces in zip(plan, data, strict=True):
        written = sum(out.write(piece) for piece in pieces)
        assert written == one.size_bytes, one.name  # noqa: S101 else every later tensor would lie elsewhere
        out.write(bytes(_padded(written, alignment) - written))


def _head(pairs: Mapping[str, bytes], plan: Sequence[Planned], alignment: int) -> bytes:
    found = bytearray(b"GGUF" + struct.pack("<IQQ", _VERSION, len(plan), len(pairs)))
    found += b"".join(pairs.values())
    offset = 0
    for one in plan:
        name = one.name.encode()
        found += struct.pack("<Q", len(name)) + name + struct.pack("<I", len(one.shape))
        found += struct.pack(f"<{len(one.shape)}Q", *reversed(one.shape)) + struct.pack("<IQ", one.kind, offset)
        offset += _padded(one.size_bytes, alignment)
    return bytes(found) + bytes(_padded(len(found), alignment) - len(found))


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
