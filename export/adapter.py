"""A PEFT LoRA adapter -> an adapter in GGUF, which llama.cpp attaches to a base in memory and which `export.join` merges into one.

    look(folder)                    what the adapter is, or why llama.cpp cannot compute it and what to do instead
    write(folder, family, target)   the GGUF file

The runtime adds alpha / rank(B) * B A x, with one alpha for the whole file: it is the one that suits most modules, and what another
module's scale differs by (rsLoRA, alpha_pattern, rank_pattern) is multiplied into its B. Rows of q and k are reordered as the
base's are, in B alone. Numbers are written in F32, as trained, or for serving in Q8_0, which is smaller and faster: llama.cpp
multiplies a rank that is no multiple of its block (32) number by number, so that the rank is filled up with zeros, and alpha grows
with it. F16 halves the file too, and is slower than both. Source of names and keys: llama.cpp's convert_lora_to_gguf.py, whose
output tests compare; of the scale: get_scale in llama-adapter.h. Not covered: Ollama from 0.34.1 on, which takes no adapters.
"""

import math
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from data.errors import ModelInvalid
from export._adapter import settings, weights
from export._adapter.weights import Pair
from export.files import need_space, whole_file
from export.safetensors import Safetensors

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType

    from export.families import Family

Form = Literal["F32", "Q8_0"]

_SAME = 1e-7  # scales that differ by less are one: float32, in which the runtime computes them, knows 6e-8
_HEADER_BYTES = 1 << 20
_BLOCK = 32  # numbers of a row that Q8_0 rounds together
_Q8_MOST = 127 * 65504  # 127 steps of the largest float16


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """A checked adapter.

    rank, alpha: as its configuration has them for modules without a pattern; repairs: what a runtime with one alpha would compute
    wrong and `write` puts right; notes: what the user should know.
    """

    folder: Path
    rank: int
    alpha: float
    pairs: tuple[Pair, ...]
    repairs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def scales(self) -> Mapping[str, float]:
        """By what B A x is multiplied, by module."""
        return {pair.module: pair.scale for pair in self.pairs}

    @property
    def runtime_alpha(self) -> float:
        """The alpha of the file: a float32 with which most modules need no change, and never 0, which llama.cpp takes for none."""
        wanted = Counter(float(np.float32(pair.scale * pair.rank)) for pair in self.pairs)
        return next((alpha for alpha, _ in wanted.most_common() if alpha), 1.0)

    def factor(self, pair: Pair) -> float:
        """By what the pair's B is multiplied, so that runtime_alpha / rank gives its scale; 1.0: by nothing."""
        factor = pair.scale * pair.rank / self.runtime_alpha
        return 1.0 if abs(factor - 1) < _SAME else factor


def look(folder: Path) -> PeftAdapter:
    """The adapter in the folder, every number of it read. Both files may come from anywhere.

    Raises InputError where a file is missing or a pickle; ModelInvalid where one is damaged, and where the adapter is no plain LoRA
    on linear layers (DoRA, modules_to_save, embeddings, biases, other kinds): llama.cpp would leave that out or die of it.
    """
    said = settings.read(folder)
    found = weights.pairs(weights.opened(folder), said)
    idle = sum(pair.zero for pair in found)
    notes = []
    if idle == len(found):
        notes.append("the adapter changes nothing: all of its weights are zero")
    elif idle:
        notes.append(f"{idle} of {len(found)} modules change nothing: their weights are zero")
    if said.repairs:
        notes.append(f"{' and '.join(said.repairs)}: the scales are worked into the weights of the GGUF file")
    return PeftAdapter(folder, said.r, said.lora_alpha, found, said.repairs, tuple(notes))


def write(folder: Path, family: "Family", target: Path, *, name: str = "", form: Form = "F32") -> Path:
    """Write the folder's adapter for bases of that family to `target`, which is whole or not there; name: general.name.

    The same input gives the same bytes. Raises as `look`, ModelInvalid also for a layer that the family does not have or has in
    another shape, and for numbers too large for the form; InputError where `target` cannot be written.
    """
    from gguf import GGML_QUANT_VERSION, GGUF_DEFAULT_ALIGNMENT, GGUFWriter
    from gguf.quants import quant_shape_to_byte_shape, quantize

    adapter = _filled(look(folder)) if form == "Q8_0" else look(folder)
    placed = _placed(adapter, family)
    kinds = {tensor: [_kind(columns, form) for columns in (pair.inputs, pair.rank)] for tensor, (pair, _) in placed.items()}
    size = sum((pair.inputs + pair.outputs) * pair.rank * 4 + 2 * GGUF_DEFAULT_ALIGNMENT for pair, _ in placed.values())
    need_space(target.parent, size + _HEADER_BYTES)
    numbers = weights.opened(folder)
    with whole_file(target) as temporary, closing(GGUFWriter(temporary, family.architecture)) as writer:
        writer.add_type("adapter")
        if name:
            writer.add_name(name)
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", adapter.runtime_alpha)
        writer.add_quantization_version(GGML_QUANT_VERSION)
        for tensor, (pair, _) in placed.items():
            shapes = (pair.rank, pair.inputs), (pair.outputs, pair.rank)
            for half, shape, kind in zip("ab", shapes, kinds[tensor], strict=True):
                held = quant_shape_to_byte_shape(shape, kind) if kind == kind.Q8_0 else shape
                as_held = np.dtype(np.uint8 if kind == kind.Q8_0 else np.float32)
                writer.add_tensor_info(f"{tensor}.lora_{half}", held, as_held, math.prod(held) * as_held.itemsize, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor, (pair, heads) in placed.items():
            for values, kind in zip(_halves(adapter, pair, heads, numbers), kinds[tensor], strict=True):
                if kind == kind.Q8_0 and np.abs(values).max(initial=0) > _Q8_MOST:
                    raise ModelInvalid(f"{numbers.path}: the weights of {pair.module} are too large for Q8_0", "train it again")
                writer.write_tensor_data(quantize(values, kind))
    return target


def _filled(adapter: PeftAdapter) -> PeftAdapter:
    """The adapter with every rank a multiple of the block; `_halves` fills its numbers up."""
    return replace(adapter, pairs=tuple(replace(pair, rank=-(-pair.rank // _BLOCK) * _BLOCK) for pair in adapter.pairs))


def _kind(columns: int, form: Form) -> "GGMLQuantizationType":
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType.Q8_0 if form == "Q8_0" and columns % _BLOCK == 0 else GGMLQuantizationType.F32


def _placed(adapter: PeftAdapter, family: "Family") -> dict[str, tuple[Pair, int]]:
    """The pairs by the name of the base's tensor, with the heads in which B's rows are reordered."""
    found: dict[str, tuple[Pair, int]] = {}
    for pair in adapter.pairs:
        place = family.linear(pair.module)
        shape, wanted = (pair.outputs, pair.inputs), family.shape(place.name)
        if shape != wanted:
            raise ModelInvalid(
                f"the adapter in {adapter.folder} changes {pair.module} of shape {shape}, and the base's has {wanted}",
                "use the base that the adapter was trained on",
            )
        if place.name in found:
            raise ModelInvalid(f"the adapter in {adapter.folder} changes {place.name} twice", "save the adapter again")
        found[place.name] = (pair, place.heads)
    return found


def _halves(adapter: PeftAdapter, pair: Pair, heads: int, numbers: Safetensors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A as it is, and B with the scale worked in and its rows as llama.cpp has them; both filled up with zeros to the pair's rank.

    Raises ModelInvalid where a scale makes B too large for float32.
    """
    from export.families import reordered

    a, b = numbers[pair.a], numbers[pair.b]
    factor = adapter.factor(pair)
    if factor != 1.0:
        with np.errstate(over="ignore"):  # found out in the next line but one
            b = (b * np.float64(factor)).astype(np.float32)
        if not np.isfinite(b).all():
            raise ModelInvalid(f"{numbers.path}: the weights of {pair.module} are too large for float32", "train the adapter again")
    more = pair.rank - a.shape[0]
    return np.pad(a, ((0, more), (0, 0))), np.pad(reordered(b, heads), ((0, 0), (0, more)))
