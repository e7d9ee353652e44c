"""Reading a SentencePiece model, the file tokenizer.model: its pieces with scores and kinds, without the sentencepiece package.

The file is a protocol buffer (google/sentencepiece, src/sentencepiece_model.proto; the wire format is described at
protobuf.dev/programming-guides/encoding). It may come from anywhere: every length is checked against what is left of the file,
and counts are capped. Not covered: tokenising, and the normaliser's table of characters.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.errors import ModelInvalid

LARGEST_BYTES = 64 << 20
MOST_PIECES = 1 << 20
LONGEST_PIECE = 1 << 16  # bytes
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # SentencePiece.Type
_UNIGRAM, _BPE = 1, 2  # TrainerSpec.ModelType
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Piece:
    """One token: its text with ▁ for a space, its score (higher merges first), and its kind."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True, slots=True)
class Model:
    """The pieces by id; dummy_prefix: whether a space is put before a text; squeezes: whether repeated spaces become one."""

    pieces: tuple[Piece, ...]
    dummy_prefix: bool
    squeezes: bool


class _Damaged(Exception):
    """What is wrong with the file, in words."""


def read(path: Path) -> Model:
    """Raises ModelInvalid naming the file: damaged, too large, or of a kind that llama.cpp does not merge as it does (unigram)."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise _Damaged(f"it is larger than {LARGEST_BYTES >> 20} MB")
        return _model(path.read_bytes())
    except OSError as error:
        raise ModelInvalid(f"{path} cannot be read: {error.strerror or error}", "make it readable") from error
    except (_Damaged, UnicodeDecodeError) as error:
        raise ModelInvalid(f"{path} is no usable SentencePiece model: {error}", "copy it from the base model again") from error


def _model(data: bytes) -> Model:
    pieces: list[Piece] = []
    kind, dummy_prefix, squeezes = _UNIGRAM, True, True  # the defaults of the .proto file
    for field, value in _fields(data):
        if field == 1:
            if len(pieces) == MOST_PIECES:
                raise _Damaged(f"it has more than {MOST_PIECES} pieces")
            pieces.append(_piece(_bytes(value)))
        elif field == 2:  # TrainerSpec
            kind = next((_number(inner) for number, inner in _fields(_bytes(value)) if number == 3), kind)
        elif field == 3:  # NormalizerSpec
            for number, inner in _fields(_bytes(value)):
                dummy_prefix = bool(_number(inner)) if number == 3 else dummy_prefix
                squeezes = bool(_number(inner)) if number == 4 else squeezes
    if not pieces:
        raise _Damaged("it has no pieces")
    if kind != _BPE:
        raise _Damaged("it is no BPE model, and llama.cpp would tokenise otherwise than it")
    return Model(tuple(pieces), dummy_prefix, squeezes)


def _piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, NORMAL
    for field, value in _fields(data):
        if field == 1:
            raw = _bytes(value)
            if len(raw) > LONGEST_PIECE:
                raise _Damaged(f"it has a piece of {len(raw)} bytes")
            text = raw.decode("utf-8")
        elif field == 2:
            score = struct.unpack("<f", _four(value))[0]
        elif field == 3:
            kind = _number(value)
    if not NORMAL <= kind <= BYTE or not math.isfinite(score):
        raise _Damaged(f"it has a piece of the kind {kind} with the score {score}")
    return Piece(text, score, kind)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Every field of a message: its number, and an integer, or the bytes of anything else."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield field, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(wire, -1)
        if wire == _BYTES:
            size, at = _varint(data, at)
        if not 0 <= size <= len(data) - at:
            raise _Damaged("a field of it leaves the file")
        yield field, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _Damaged("it ends in the middle of a number: the file is truncated")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
    raise _Damaged("a number of it is too long")


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise _Damaged("a field of it is of the wrong type")
    return value


def _four(value: int | bytes) -> bytes:
    if len(_bytes(value)) != 4:
        raise _Damaged("a score of it is no number of four bytes")
    return _bytes(value)


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise _Damaged("a field of it is of the wrong type")
    return value
