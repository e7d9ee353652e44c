"""The frozen lower layers of a model, computed once a row: what they give is kept on disk and training goes on from there.

With `lora.layers = "top:N"` the layers below have no adapter, so that what they make of a row never changes. Only for data that
stays the same over several epochs. The numbers are those of the whole model, bit for bit but for the order of additions. Not
covered: whether top-N adapters are good enough: the gates decide.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data import paths
from data.errors import InputError
from trainer.device import torch
from trainer.encode import Encoded

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3")
"""Whose decoder hands its input to the first layer as it is."""
TOGETHER = 16
"""Rows computed at once."""


class Trunk:
    """What the layers below `first` give for the rows of a stage, in a file of float32 numbers, shape (tokens, width).

    Raises InputError where the base's family cannot be cut, or the disk is full.
    """

    def __init__(self, model: Any, rows: Encoded, first: int, file: Path) -> None:
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        if inner.config.model_type not in FAMILIES:
            raise InputError(f"the lower layers of {inner.config.model_type} models cannot be kept", "set lora.cache_lower = false")
        self.first, width = first, int(inner.config.hidden_size)
        shared = len(rows.prefix)
        lengths = [len(row.prompt) - shared + len(row.completion) for row in rows.rows]
        self._begins = np.concatenate([[0], np.cumsum(lengths)])
        paths.ensure(file.parent)
        try:
            self._kept = np.lib.format.open_memmap(file, "w+", np.float32, (int(self._begins[-1]), width))
        except OSError as error:
            raise InputError(f"cannot keep the lower layers in {file}: {error.strerror or error}", "free space") from error
        self.prefix = self._fill(inner, rows)

    def hidden(self, places: Sequence[int]) -> Any:
        """Of the own tokens of these rows, one after the other: shape (own tokens, width)."""
        parts = [np.array(self._kept[self._begins[at] : self._begins[at + 1]]) for at in places]
        return torch().from_numpy(np.concatenate(parts))

    def _fill(self, inner: Any, rows: Encoded) -> Any:
        from trainer import forward

        found, shared, prefix = torch(), len(rows.prefix), None
        decoder = inner.get_decoder()
        with found.inference_mode(), only(decoder, 0, self.first):
            for at in range(0, len(rows.rows), TOGETHER):
                some = rows.rows[at : at + TOGETHER]
                batch = forward.batched(rows.prefix, [row.prompt for row in some], [row.completion for row in some])
                made = forward.hidden(decoder, batch.to(inner.device)).float().cpu()
                self._kept[self._begins[at] : self._begins[at + len(some)]] = made[shared:].numpy()
                prefix = made[:shared] if prefix is None else prefix
        return prefix.clone() if prefix is not None else None


@contextmanager
def only(decoder: Any, begin: int, end: int | None = None) -> Iterator[None]:
    """While open, the decoder has only those layers, and its last norm only with the last of them."""
    layers, norm, found = decoder.layers, decoder.norm, torch()
    kept = list(layers)[begin:end]
    decoder.layers = found.nn.ModuleList(kept)
    if end is not None:
        decoder.norm = found.nn.Identity()
    for at, layer in enumerate(kept):  # the cache of keys and values counts layers from 0
        layer.self_attn.layer_idx = at
    try:
        yield
    finally:
        decoder.layers, decoder.norm = layers, norm
        for at, layer in enumerate(layers):
            layer.self_attn.layer_idx = at
