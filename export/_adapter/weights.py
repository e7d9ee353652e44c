"""adapter_model.safetensors: the pairs of A and B in it, and nothing else.

Names are those that PEFT saves: base_model.model.<module>.lora_A.weight. Any other tensor is something that llama.cpp would leave
out (a trained norm) or die of (a LoRA on a tied embedding), so that it is refused with what to do. Not covered: what the pairs
are multiplied by (`settings`).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from data.errors import InputError, ModelInvalid
from data.sanitise import one_line
from export._adapter.settings import MERGE, Settings
from export.safetensors import Safetensors

FILE = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
MOST_MODULES = 1 << 15  # llama.cpp's files hold 65536 tensors at most

_NAME = re.compile(r"base_model\.model\.([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)\.lora_([AB])\.weight")
_LONGEST = 200  # characters of a module's name
_OUTSIDE = ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out", "word_embeddings")
_OTHERS = (  # a mark of the name, what the tensor is part of, what to train instead
    ("lora_embedding_", "a LoRA on the embedding", "train without embed_tokens among the targets"),
    ("lora_magnitude_vector", "DoRA", "train with dora = false"),
    ("bias", "trained biases", 'train with bias = "none" and without lora_bias'),
    ("base_layer", "a LoRA on the embedding or the output layer", "train without embed_tokens and lm_head among the targets"),
    ("trainable_tokens", "trained token embeddings", "train without trainable_token_indices"),
    ("embed_tokens", "a trained embedding", "train without new tokens and without modules_to_save"),
    ("lm_head", "a trained output layer", "train without modules_to_save"),
    ("norm", "trained norms", "train without modules_to_save"),
)
_AGAIN = "copy or save the adapter again"


@dataclass(frozen=True, slots=True)
class Pair:
    """The low-rank change of one linear layer's weight: scale * B A, A of shape (rank, inputs), B of (outputs, rank).

    module: the layer as the model names it; a, b: the tensors' names in the file; zero: B A is nothing but zeros.
    """

    module: str
    rank: int
    inputs: int
    outputs: int
    scale: float
    a: str
    b: str
    zero: bool = False


def opened(folder: Path) -> Safetensors:
    """The folder's weights, their header checked. Raises InputError where there are none, ModelInvalid for a damaged file."""
    file = folder / FILE
    if file.is_file():
        found = Safetensors(file)
        if sum(entry.end - entry.begin for entry in found.entries.values()) > file.stat().st_size:
            raise ModelInvalid(f"{file} has tensors that share their bytes", _AGAIN)
        return found
    if (folder / PICKLE).is_file():
        raise InputError(
            f"{folder} holds its weights as a pickle, which can run code", f"save them again as {FILE}: safe_serialization=True"
        )
    raise InputError(
        f"{folder} holds no adapter: it has no {FILE}", "name the adapter's folder, as PEFT or pointsman train saves it"
    )


def pairs(weights: Safetensors, settings: Settings) -> tuple[Pair, ...]:
    """All of them, in the order of the file. Every number is read, and must be finite.

    Raises ModelInvalid naming the tensor that has no partner, has the wrong shape or rank, or is of no kind that llama.cpp adds.
    """
    found = _modules(weights)
    unnamed = next((module for module in found if not settings.targets(module)), "")
    if unnamed:
        raise ModelInvalid(f"{weights.path} has weights for {unnamed}, which its configuration does not name", _AGAIN)
    ranks, scales = settings.ranks(list(found)), settings.scales(list(found))
    return tuple(_pair(weights, module, names, ranks[module], scales[module]) for module, names in found.items())


def _modules(weights: Safetensors) -> dict[str, dict[str, str]]:
    """The names of A and B by module."""
    found: dict[str, dict[str, str]] = {}
    for name in weights:
        match = _NAME.fullmatch(name)
        if match is None:
            _refuse(weights, name)
        if len(match[1]) > _LONGEST:
            raise ModelInvalid(f"{weights.path} has a module name of {len(match[1])} characters", _AGAIN)
        if match[1].rpartition(".")[2] in _OUTSIDE:
            fix = f"{MERGE}, or train without it among the targets"
            raise ModelInvalid(
                f"{weights.path}: the adapter has a LoRA on {match[1]}, which llama.cpp cannot add to every model", fix
            )
        found.setdefault(match[1], {})[match[2]] = name
    if not 0 < len(found) <= MOST_MODULES:
        raise ModelInvalid(f"{weights.path} holds {len(found)} LoRA pairs, where 1 to {MOST_MODULES} can be", _AGAIN)
    return found


def _refuse(weights: Safetensors, name: str) -> NoReturn:
    what, fix = next(
        ((f"part of {what}", f"{MERGE}, or {fix}") for mark, what, fix in _OTHERS if mark in name),
        ("neither A nor B of a LoRA", MERGE),
    )
    raise ModelInvalid(f"{weights.path}: the tensor {one_line(name, 100)!r} is {what}, which llama.cpp cannot add", fix)


def _pair(weights: Safetensors, module: str, names: dict[str, str], rank: int, scale: float) -> Pair:
    for half in "AB":
        if half not in names:
            raise ModelInvalid(f"{weights.path} has no lora_{half} for {module}", _AGAIN)
    shapes = [weights.entries[names[half]].shape for half in "AB"]
    said = " and ".join(str(shape) for shape in shapes)
    if not all(len(shape) == 2 and all(shape) for shape in shapes) or shapes[0][0] != shapes[1][1]:
        raise ModelInvalid(
            f"{weights.path}: A and B of {module} have the shapes {said}, which no LoRA of a linear layer has", _AGAIN
        )
    if shapes[0][0] != rank:
        raise ModelInvalid(f"{weights.path}: A and B of {module} have the shapes {said}, and its rank is {rank}", _AGAIN)
    a, b = weights[names["A"]], weights[names["B"]]
    return Pair(module, rank, shapes[0][1], shapes[1][0], scale, names["A"], names["B"], not (scale and a.any() and b.any()))
