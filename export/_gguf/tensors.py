"""A checkpoint's tensors on their way into a GGUF file: checked before anything is written, then written a part at a time.

Source of the number formats: llama.cpp's conversion/base.py (prepare_tensors): norms and biases stay in F32, the rest gets the
file's form, where rows do not suit Q8_0 F16. Numbers too large for F16 are refused, not written as infinities. Not covered: other
quantisations (`export.quantise`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import ModelInvalid
from data.sanitise import one_line
from export._gguf.checkpoint import FIX, Weights
from export.families import Family, Placed, reordered

PART_BYTES = 64 << 20  # of float32 numbers that are held at a time; a tensor whose rows are reordered is held whole
_BLOCK = 32  # numbers that share a scale in Q8_0


@dataclass(frozen=True, slots=True)
class Planned:
    """A tensor to be written. source: its name in the checkpoint, "" for one that is computed (`values`)."""

    source: str
    placed: Placed
    shape: tuple[int, ...]
    form: str
    values: NDArray[np.float32] | None = None

    @property
    def bytes(self) -> int:
        """Its size in the file."""
        count = int(np.prod(self.shape, dtype=np.int64))
        return count // _BLOCK * (_BLOCK + 2) if self.form == "Q8_0" else count * {"F32": 4, "F16": 2, "BF16": 2}[self.form]


def plan(weights: Weights, family: Family, form: str, computed: Mapping[str, NDArray[np.float32]]) -> list[Planned]:
    """Every tensor of the file. Raises ModelInvalid for one that is unknown, doubled, of a wrong shape, or missing."""
    found = [Planned("", Placed(name, one_d=True), values.shape, "F32", values) for name, values in computed.items()]
    seen: set[str] = set()
    for source, entry in weights.items():
        placed = family.placed(source)
        if placed is None:
            continue
        if placed.name in seen:
            raise ModelInvalid(f"the checkpoint has the tensor {one_line(source, 80)!r} twice", FIX)
        seen.add(placed.name)
        if entry.shape != family.shape(placed.name):
            wanted = family.shape(placed.name)
            raise ModelInvalid(f"the checkpoint's {one_line(source, 80)!r} has the shape {entry.shape}, not {wanted}", FIX)
        used = "F32" if placed.one_d else "F16" if form == "Q8_0" and entry.shape[-1] % _BLOCK else form
        found.append(Planned(source, placed, entry.shape, used))
    missing = sorted(family.shapes().keys() - seen)
    if missing:
        raise ModelInvalid(f"the checkpoint lacks {len(missing)} tensors, the first of which becomes {missing[0]}", FIX)
    return found


def declare(writer: Any, planned: list[Planned]) -> None:
    """Tell a GGUFWriter of every tensor, in the order in which `parts` gives them."""
    from gguf import GGMLQuantizationType

    for one in planned:
        kind = GGMLQuantizationType[one.form]
        writer.add_tensor_info(one.placed.name, one.shape, np.dtype(np.float32), one.bytes, raw_dtype=kind)


def write(writer: Any, planned: list[Planned], weights: Weights) -> Iterator[Planned]:
    """Write the tensors behind the header, part by part; gives each one once it is written."""
    writer.write_ti_data_to_file()
    (file,) = writer.fout
    for one in planned:
        writer.write_padding(file, file.tell())
        begin = file.tell()
        for part in _parts(one, weights):
            part.tofile(file)
        if file.tell() - begin != one.bytes:
            raise ModelInvalid(f"{one.placed.name} has another size than its shape tells", FIX)
        writer.write_padding(file, one.bytes)
        yield one


def _parts(one: Planned, weights: Weights) -> Iterator[NDArray[Any]]:
    if one.values is not None:
        yield one.values
        return
    rows = one.shape[0]
    row_bytes = 4 * int(np.prod(one.shape[1:], dtype=np.int64))
    step = rows if one.placed.heads else max(PART_BYTES // row_bytes, 1)
    for begin in range(0, rows, step):
        values = weights.rows(one.source, begin, min(begin + step, rows))
        if one.placed.plus:
            values = values + np.float32(one.placed.plus)
        yield _formed(np.ascontiguousarray(reordered(values, one.placed.heads)), one)


def _formed(values: NDArray[np.float32], one: Planned) -> NDArray[Any]:
    """The numbers in the tensor's format."""
    if one.form == "F32":
        return values
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    with np.errstate(over="ignore"):  # found out in the next line
        formed: NDArray[Any] = quantize(values, GGMLQuantizationType[one.form])
    if one.form == "F16" and not np.isfinite(formed).all():
        raise ModelInvalid(
            f"the checkpoint's {one_line(one.source, 80)!r} holds numbers too large for F16", "write it as BF16 or F32"
        )
    return formed
