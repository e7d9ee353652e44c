"""A base in GGUF and an adapter in GGUF -> one merged model in GGUF, for those who have no checkpoint to merge into.

Each tensor that the adapter names becomes base + alpha / rank * B A; the others are dequantised. All metadata, tokenizer and chat
template among it, is copied byte for byte but for general.file_type and general.quantization_version. Tensors pass through
memory some rows at a time. What is merged is exact: a quantised base gives its numbers back as they are, and only F16 rounds
(to 11 bits; SmolLM2-135M with trained adapters: a KL of 1e-5). To have it smaller, quantise the result (`export.quantise`).
Not covered: split files; whether the base is the one that the adapter was trained on, where family, names and shapes agree.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from data.errors import InputError, ModelInvalid
from export._adapter import rewriting
from export._adapter.attached import Change, changes
from export._adapter.rewriting import Planned
from export.files import need_space, whole_file
from router.engines._llamacpp.content import F16, F32, Content, Tensor

Form = Literal["F32", "F16"]
Tell = Callable[[str], object]

_KINDS = {"F32": F32, "F16": F16}  # ggml.h, enum ggml_type
_FILE_TYPES = {"F32": 0, "F16": 1}  # llama.h, enum llama_ftype: LLAMA_FTYPE_ALL_F32, LLAMA_FTYPE_MOSTLY_F16
_WHOLE_NUMBERS = frozenset((24, 25, 26, 27))  # I8 to I64
_TOLD = 10  # times, from the first tensor to the last


def join(base: Path, adapter: Path, target: Path, form: Form = "F16", tell: Tell = lambda line: None) -> Path:
    """Write the merged model to `target`, which is whole or not there; tell: gets lines of progress.

    The same input gives the same bytes. Raises ModelInvalid where a file is damaged or the two do not belong together, naming what
    differs, and where F16 cannot hold a number; ModelMissing; InputError for a lack of space and a target that is one of the two.
    """
    if form not in _KINDS:
        raise InputError(
            f"there is no form {form!r} to join in", f"choose one of {', '.join(_KINDS)}; quantise the result for others"
        )
    if target.exists() and any(target.samefile(one) for one in (base, adapter) if one.exists()):
        raise InputError(f"{target} is one of the files that are joined", "choose another name")
    with Content(base) as model, Content(adapter) as lora:
        changed = changes(model, lora)
        plan = [_planned(model, tensor, form, tensor.name in changed) for tensor in model.tensors.values()]
        pairs = _pairs(model, form)
        need_space(target.parent, rewriting.total_bytes(pairs, plan, model.alignment))
        with whole_file(target) as temporary, temporary.open("wb") as out:
            rewriting.write(out, pairs, plan, _tensors(model, lora, plan, changed, tell), model.alignment)
    return target


def _pairs(model: Content, form: Form) -> dict[str, bytes]:
    """The base's metadata with the two entries that say how numbers are stored."""
    from gguf import GGML_QUANT_VERSION

    said = {"general.file_type": _FILE_TYPES[form], "general.quantization_version": GGML_QUANT_VERSION}
    return {**model.pairs, **{key: rewriting.number(key, value) for key, value in said.items()}}


def _planned(model: Content, tensor: Tensor, form: Form, changed: bool) -> Planned:
    """How a tensor is written: vectors, whole numbers and what is in F32 among smaller formats stay as they are."""
    kept = len(tensor.shape) < 2 or tensor.kind in _WHOLE_NUMBERS or tensor.kind == _KINDS[form]
    if not changed and (kept or (tensor.kind == F32 and _mixed(model))):
        return Planned(tensor.name, tensor.shape, tensor.kind, model.size_bytes(tensor))
    kind = _KINDS[form]
    return Planned(tensor.name, tensor.shape, kind, tensor.rows * tensor.columns * (2 if kind == F16 else 4))


def _mixed(model: Content) -> bool:
    """Whether the base has matrices in other formats than F32: those in F32 are then meant to be (a router of experts)."""
    return any(len(tensor.shape) > 1 and tensor.kind != F32 for tensor in model.tensors.values())


def _tensors(
    model: Content, lora: Content, plan: list[Planned], changed: Mapping[str, Change], tell: Tell
) -> Iterator[Iterator[bytes]]:
    for number, (tensor, planned) in enumerate(zip(model.tensors.values(), plan, strict=True), 1):
        yield _data(model, lora, tensor, planned, changed.get(tensor.name))
        if number * _TOLD // len(plan) > (number - 1) * _TOLD // len(plan):
            tell(f"joined {number} of {len(plan)} tensors")


def _data(model: Content, lora: Content, tensor: Tensor, planned: Planned, change: Change | None) -> Iterator[bytes]:
    """A tensor's bytes, some rows at a time."""
    if change is None and planned.kind == tensor.kind:
        yield from model.raw(tensor)
        return
    b, a = change.matrices(lora) if change is not None else (None, None)
    wanted = np.dtype("<f2" if planned.kind == F16 else "<f4")
    for first, rows in model.pieces(tensor):
        values = rows if a is None or b is None else rows + b[first : first + len(rows)] @ a
        with np.errstate(over="ignore"):  # found out in the next line
            found = np.ascontiguousarray(values, dtype=wanted)
        if not np.isfinite(found).all():
            raise ModelInvalid(f"{model.path}: {tensor.name} with the adapter holds numbers too large for its form", "join in F32")
        yield found.tobytes()
