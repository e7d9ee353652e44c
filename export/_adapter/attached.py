"""An adapter in GGUF beside the base it is to change: whether they belong together, and each changed tensor's A, B and scale.

The checks are those of llama.cpp's loader (src/llama-adapter.cpp) and a few that it leaves out: tensors that it ignores, and those
with which it computes something else than a sum. Not covered: a base of the same family and shapes that is another model; which
base an adapter was trained on stands in the export's notes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from data.errors import ModelInvalid
from data.sanitise import one_line
from router.engines._llamacpp.content import Content, Tensor

_WRONG_BASE = "use the base that the adapter was trained on"
_AGAIN = "export the adapter again"


@dataclass(frozen=True, slots=True)
class Change:
    """What is added to a tensor of the base: scale * B A; a and b are tensors of the adapter's file."""

    a: Tensor
    b: Tensor
    scale: float

    def matrices(self, adapter: Content) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """scale * B of shape (outputs, rank), and A of (rank, inputs). Raises ModelInvalid for numbers that are not finite."""
        scaled = (adapter.matrix(self.b) * np.float64(self.scale)).astype(np.float32)
        return scaled, adapter.matrix(self.a)


def changes(base: Content, adapter: Content) -> Mapping[str, Change]:
    """The change of each of the base's tensors that the adapter names. Raises ModelInvalid naming what does not fit."""
    alpha = _alpha(base, adapter)
    found = {}
    for name, halves in _halves(adapter).items():
        if set(halves) != {"a", "b"}:
            _refuse(adapter, f"has no lora_{'b' if 'a' in halves else 'a'} for {one_line(name, 80)}", _AGAIN)
        a, b = halves["a"], halves["b"]
        there = base.tensors.get(name)
        if there is None:
            _refuse(adapter, f"changes {one_line(name, 80)}, which {base.path} does not have", _WRONG_BASE)
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
            _refuse(adapter, f"has A and B of the shapes {a.shape} and {b.shape} for {name}", _AGAIN)
        if there.shape != (b.shape[0], a.shape[1]):
            said = f"changes {name} of shape {(b.shape[0], a.shape[1])}, and in {base.path} it has {there.shape}"
            _refuse(adapter, said, _WRONG_BASE)
        found[name] = Change(a, b, alpha / b.shape[1] if alpha else 1.0)
    if not found:
        _refuse(adapter, "changes nothing: it has no tensors", _AGAIN)
    return found


def _alpha(base: Content, adapter: Content) -> float:
    """The file's alpha, 0 where it has none: B A counts as it is then. Both files must be what they are taken for."""
    if base.header.is_adapter or base.header.text("general.type") not in ("", "model"):
        raise ModelInvalid(f"{base.path} is no model", "name the base first, then the adapter")
    if not adapter.header.is_adapter or adapter.header.text("adapter.type") != "lora":
        raise ModelInvalid(f"{adapter.path} is no LoRA adapter", "give an adapter made by: pointsman export")
    mine, theirs = base.header.architecture, adapter.header.architecture
    if mine != theirs:
        said = f"is for the family {one_line(theirs, 40)!r}, and {base.path} is of {one_line(mine, 40)!r}"
        _refuse(adapter, said, _WRONG_BASE)
    if "adapter.alora.invocation_tokens" in adapter.pairs:
        _refuse(adapter, "is an activated LoRA, which begins in the middle of a text and cannot be merged", "attach it instead")
    alpha = adapter.header.metadata.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float) or not math.isfinite(alpha):
        _refuse(adapter, "has an alpha that is no number", _AGAIN)
    return alpha


def _halves(adapter: Content) -> Mapping[str, Mapping[str, Tensor]]:
    """The tensors a and b by the name of what they change."""
    found: dict[str, dict[str, Tensor]] = {}
    for full, tensor in adapter.tensors.items():
        name, _, half = full.rpartition(".lora_")
        if half not in ("a", "b") or not name:
            _refuse(
                adapter, f"has the tensor {one_line(full, 80)}, which llama.cpp leaves out", "merge it into its checkpoint instead"
            )
        if name.startswith("token_embd."):
            _refuse(adapter, "changes the embedding, which is read and not multiplied", "merge it into its checkpoint instead")
        found.setdefault(name, {})[half] = tensor
    return found


def _refuse(adapter: Content, what: str, fix: str) -> NoReturn:
    raise ModelInvalid(f"the adapter {adapter.path} {what}", fix)
