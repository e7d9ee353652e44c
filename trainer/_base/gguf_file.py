"""A GGUF file as training reads it: all metadata at hand, numbers of the family by their names, whole tensors.

Not covered: what is in the file and where (router/engines/_llamacpp/content.py).
"""

import hashlib
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import ModelInvalid
from router.engines._llamacpp.content import FIX, Content

__all__ = ["FIX", "GgufFile"]


class GgufFile(Content):
    """One model's file. metadata: every value, arrays as lists."""

    def __init__(self, path: Path) -> None:
        """Raises ModelMissing, and ModelInvalid naming the file and what is wrong."""
        super().__init__(path)
        if self.header.is_adapter:
            raise ModelInvalid(f"{path} is a LoRA adapter, not a model", "name the model, and this file as base.adapter")
        self.metadata = {key: self.value(key) for key in self.pairs}

    @property
    def architecture(self) -> str:
        """The model family as llama.cpp names it."""
        return self.header.architecture

    @property
    def tokenizer_sha256(self) -> str:
        """Of the bytes of all metadata about the tokenizer but the chat template."""
        digest = hashlib.sha256()
        for key in self.pairs:
            if key.startswith("tokenizer.") and "chat_template" not in key:
                digest.update(key.encode() + self.typed(key))
        return digest.hexdigest()

    @cached_property
    def parameters(self) -> int:
        """How many numbers the tensors hold."""
        return sum(prod(tensor.shape) for tensor in self.tensors.values())

    def number(self, name: str, default: float | None = None) -> float:
        """A number of the family's own metadata, `name` without the family, above 0; raises ModelInvalid where there is none."""
        found = self.metadata.get(f"{self.architecture}.{name}", default)
        if not isinstance(found, int | float) or not 0 < found < 1e15:
            raise ModelInvalid(f"{self.path} does not say its {name}", FIX)
        return found

    def size(self, name: str, default: int | None = None) -> int:
        """As `number`, a whole one."""
        found = self.number(name, default)
        if not isinstance(found, int):
            raise ModelInvalid(f"{self.path} does not say its {name}", FIX)
        return found

    @property
    def embeddings(self) -> int:
        """Rows of the embedding; raises ModelInvalid where there is none."""
        found = self.tensors.get("token_embd.weight")
        if found is None or len(found.shape) != 2:
            raise ModelInvalid(f"{self.path} holds no embedding: it is a vocabulary or a part of a model", FIX)
        return found.shape[0]

    def texts(self, key: str) -> list[str]:
        """An array of strings; raises ModelInvalid where there is none."""
        found = self.metadata.get(key)
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            raise ModelInvalid(f"{self.path} has no {key}", FIX)
        return found

    def tensor(self, name: str) -> NDArray[np.float32]:
        """The numbers of a tensor as float32, shape as in `tensors`; raises ModelInvalid for formats that cannot be read and for
        numbers that are not finite."""
        tensor = self.tensors[name]
        return self.matrix(tensor).reshape(tensor.shape)
