"""The texts in a weights file: metadata of safetensors and GGUF, what is no tensor of torch's. Numbers are not read.

Not covered: arrays of texts in a GGUF file, which are the base's vocabulary. Such files may come from elsewhere: sizes are checked
before anything is read. Sources: https://github.com/huggingface/safetensors#format, ggml/docs/gguf.md.
"""

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

LARGEST_BYTES = 64 << 20
MOST_KEYS = 100_000
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a value by its type
_STRING, _ARRAY = 8, 9


class Unreadable(Exception):
    """The head is not as its format says; never leaves this package."""


def texts(path: Path) -> Iterator[str]:
    """Every text in the head. Raises Unreadable, OSError."""
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic == b"PK\x03\x04":
            yield from _torch(file)
        else:
            yield from _gguf(file) if magic == b"GGUF" else _safetensors(file)


def _torch(file: IO[bytes]) -> Iterator[str]:
    """Names and small members of torch's archive, whose tensors lie in its folder data; nothing is unpickled."""
    try:
        with zipfile.ZipFile(file) as archive:
            for one in archive.infolist():
                yield one.filename
                if "/data/" not in one.filename and one.file_size <= LARGEST_BYTES:
                    yield archive.read(one).decode("utf-8", "replace")
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise Unreadable("it is no archive of torch") from error


def _safetensors(file: IO[bytes]) -> Iterator[str]:
    (size,) = struct.unpack("<Q", _read(file, 8))
    try:
        found = json.loads(_read(file, size))
    except (ValueError, RecursionError) as error:
        raise Unreadable("its head is no JSON") from error
    if not isinstance(found, dict):
        raise Unreadable("its head is no JSON object")
    for name, value in found.items():
        yield str(name)
        if name == "__metadata__":
            yield json.dumps(value, ensure_ascii=False)


def _gguf(file: IO[bytes]) -> Iterator[str]:
    _, version, tensors, keys = struct.unpack("<IIQQ", _read(file, 24))
    if version not in (2, 3) or keys > MOST_KEYS or tensors > MOST_KEYS:
        raise Unreadable("its head is damaged, or of another version")
    for _ in range(keys):
        yield _text(file)
        (kind,) = struct.unpack("<I", _read(file, 4))
        if kind == _STRING:
            yield _text(file)
        else:
            _pass_over(file, kind)


def _text(file: IO[bytes]) -> str:
    (size,) = struct.unpack("<Q", _read(file, 8))
    return _read(file, size).decode("utf-8", "replace")


def _pass_over(file: IO[bytes], kind: int) -> None:
    if kind != _ARRAY:
        _read(file, _width(kind))
        return
    inner, count = struct.unpack("<IQ", _read(file, 12))
    if inner == _STRING:
        for _ in range(_bounded(count)):
            (size,) = struct.unpack("<Q", _read(file, 8))
            file.seek(_bounded(size), 1)
        return
    file.seek(_bounded(count) * _width(inner), 1)


def _width(kind: int) -> int:
    if kind not in _SIZES:
        raise Unreadable(f"its head has a value of the unknown type {kind}")
    return _SIZES[kind]


def _bounded(count: int) -> int:
    if count > LARGEST_BYTES:
        raise Unreadable("its head is larger than any real one")
    return count


def _read(file: IO[bytes], size: int) -> bytes:
    found = file.read(_bounded(size))
    if len(found) != size:
        raise Unreadable("it ends within its head")
    return found
