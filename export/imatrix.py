"""Importance matrices: how much each input of a linear layer weighs on the user's own data, for rounding by llama.cpp.

    collect(model, rows)    mean of the squared inputs of every linear layer while a torch model reads rows of tokens
    named(sums, family)     the same under the names of a GGUF file's tensors
    save, read              a .npz file of them, which `export.quantise.quantise` takes

What llama.cpp's own tool collects and `llama_model_quantize` takes through params.imatrix: one number a column of a weight, the
mean of x^2 over all tokens (tools/imatrix/imatrix.cpp; struct llama_model_imatrix_data of llama.h). Token embeddings are looked up
and not multiplied, so they have none, nor has an output that is tied to them. Not covered: layers of experts, whose weights are no
linear layers in transformers.
"""

import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data import paths
from data.errors import InputError, ModelInvalid, ModelMissing
from data.sanitise import one_line

if TYPE_CHECKING:
    from export.families import Family

CHUNK = 512  # tokens read at once, as llama.cpp's tool reads them
MOST_ENTRIES = 1 << 16
MOST_NUMBERS = 1 << 28  # in all; a model of 70 billion weights has 15 million
_PARTS = ("lora_", "ranknum", "modules_to_save", "original_module")  # of PEFT's wrappers, which are not the base's layers
_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class Sums:
    """values: mean of the squared inputs of a layer, shape (in_features,); count: of how many tokens."""

    values: NDArray[np.float32]
    count: int


def collect(model: Any, rows: Iterable[Sequence[int]]) -> dict[str, Sums]:
    """The sums of each linear layer by its name in the base, LoRA's own layers left out; rows longer than CHUNK are cut.

    Nothing is padded: only the tokens of the rows count. The model's weights and its mode stay as they are. Raises InputError
    without rows or with a token that the model has not, ModelInvalid where it computes numbers that are not finite.
    """
    torch = _torch()
    layers = dict(_layers(model))
    size = model.get_input_embeddings().num_embeddings
    means = {name: _Running() for name in layers}
    training, read = model.training, 0
    with ExitStack() as stack:
        for name, layer in layers.items():
            hook = layer.register_forward_pre_hook(means[name].add)
            stack.callback(hook.remove)
        model.train(False)
        stack.callback(model.train, training)
        stack.enter_context(torch.inference_mode())
        for chunk in _chunks(rows, size):
            model(
                input_ids=torch.tensor([chunk], device=model.device), use_cache=False, logits_to_keep=0 if _own_head(model) else 1
            )
            read += len(chunk)
    if not read:
        raise InputError("an importance matrix needs rows of tokens, and there are none", "give the training prompts of the domain")
    return {name: one.sums(name) for name, one in means.items() if one.count}


def named(sums: Mapping[str, Sums], family: "Family") -> dict[str, NDArray[np.float32]]:
    """The sums by the tensors that a GGUF file of the family has, by name. Raises ModelInvalid as the family does."""
    found = {}
    for name, one in sums.items():
        placed = family.placed(f"{name}.weight")
        if placed is not None:
            found[placed.name] = one.values
    return dict(sorted(found.items()))


def save(matrix: Mapping[str, NDArray[np.float32]], path: Path) -> Path:
    """Write it; the same numbers give the same bytes. Raises InputError where the path cannot be written."""
    with paths.replacing(path) as out, zipfile.ZipFile(out, "w") as opened:
        for name, values in matrix.items():
            with opened.open(zipfile.ZipInfo(f"{name}.npy"), "w") as file:
                np.lib.format.write_array(file, values.astype("<f4"), version=(1, 0), allow_pickle=False)
    return path


def read(path: Path) -> dict[str, NDArray[np.float32]]:
    """What `save` wrote; a file may come from elsewhere. Raises ModelInvalid for anything else than rows of finite numbers >= 0."""
    try:
        with zipfile.ZipFile(path) as opened:
            return dict(_entries(opened, path))
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, EOFError, RuntimeError, NotImplementedError) as error:
        raise _invalid(path, one_line(str(error), 160) or "it ends too early") from error


class _Running:
    """The mean that grows token by token, in float64."""

    def __init__(self) -> None:
        self.total: Any = None
        self.count = 0

    def add(self, layer: Any, inputs: tuple[Any, ...]) -> None:
        """A forward pre-hook of a linear layer."""
        rows = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).float()
        squares = rows.square_().sum(0) if rows.dtype != inputs[0].dtype else rows.square().sum(0)
        self.total = squares.double() if self.total is None else self.total + squares
        self.count += len(rows)

    def sums(self, name: str) -> Sums:
        """The mean. Raises ModelInvalid where a number is not finite."""
        values = (self.total / self.count).float().cpu().numpy()
        if not np.isfinite(values).all():
            raise ModelInvalid(f"the model computes numbers that are not finite, at {one_line(name, 80)}", "train or load it again")
        return Sums(values, self.count)


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    """The linear layers of the base by their names in the base; of a tied output none."""
    tied = None if _own_head(model) else model.get_output_embeddings()
    for name, layer in model.named_modules():
        plain = name.removeprefix(_PREFIX)
        if ".modules_to_save." in plain:  # what stands in for a layer of the base, one an adapter
            plain, _, adapter = plain.partition(".modules_to_save.")
            if adapter not in getattr(model, "active_adapters", ()):
                continue
        plain = plain.removesuffix(".base_layer")
        foreign = any(part.startswith(_PARTS) for part in plain.split("."))
        if isinstance(layer, _torch().nn.Linear) and layer is not tied and not foreign:
            yield plain, layer


def _own_head(model: Any) -> bool:
    """Whether the output has weights of its own."""
    head = model.get_output_embeddings()
    if head is None:
        return False
    weight = getattr(head, "weight", None)
    return weight is None or weight is not model.get_input_embeddings().weight


def _chunks(rows: Iterable[Sequence[int]], size: int) -> Iterator[list[int]]:
    for row in rows:
        wrong = [token for token in row if not 0 <= token < size]
        if wrong:
            raise InputError(
                f"the token {wrong[0]} is not one of the model's {size}", "tokenise the rows with the model's own tokenizer"
            )
        for at in range(0, len(row), CHUNK):
            yield [int(token) for token in row[at : at + CHUNK]]


def _entries(opened: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    members = opened.infolist()
    if not 0 < len(members) <= MOST_ENTRIES or len({one.filename for one in members}) != len(members):
        raise _invalid(path, f"it has {len(members)} entries, or one twice")
    left = MOST_NUMBERS
    for member in members:
        with opened.open(member) as file:
            values = _values(file, left, path)
        left -= len(values)
        yield member.filename.removesuffix(".npy"), values


def _values(file: IO[bytes], most: int, path: Path) -> NDArray[np.float32]:
    """One array of the .npy format, its size checked before memory is taken; raises ModelInvalid, ValueError."""
    if np.lib.format.read_magic(file) != (1, 0):
        raise _invalid(path, "it has an array of an unusual version")
    shape, _, kind = np.lib.format.read_array_header_1_0(file)
    count = math.prod(shape)
    if len(shape) != 1 or not 0 < count <= most or kind != np.dtype("<f4"):
        raise _invalid(path, f"it has an array of {one_line(str(kind), 20)} and the shape {one_line(str(shape), 60)}")
    values = np.frombuffer(file.read(4 * count), dtype="<f4")
    if len(values) != count or not np.isfinite(values).all() or (values < 0).any():
        raise _invalid(path, "it has numbers that are negative or not finite, or too few")
    return values


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        said = "an importance matrix is collected with PyTorch, which is not installed"
        raise ModelMissing(said, 'pip install "pointsman[train]"') from error
    return torch


def _invalid(path: Path, reason: str) -> ModelInvalid:
    return ModelInvalid(f"{path} is no importance matrix: {reason}", "collect it again")
