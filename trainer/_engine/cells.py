"""The keys and values of tokens, each in a cell of its own that any row may hold: a cache of transformers without an order.

What a token sees is said by the mask alone, so a beginning that many rows share is there once, and what is taken back costs
nothing. Buffers grow as they are needed. Not covered: who holds which cell (`batching`), recurrent states.
"""

import heapq
from collections.abc import Iterable
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

FIRST = 1024
"""Cells to begin with."""


class Cells(Cache):
    """Cells of all layers. places: where the tokens of the next computation go, shape (tokens,)."""

    places: torch.Tensor

    def __init__(self) -> None:
        self.high = 0  # cells that were ever in use: all others lie behind them
        self._free: list[int] = []
        super().__init__(layers=[])

    @property
    def used(self) -> int:
        """Cells in use."""
        return self.high - len(self._free)

    def take(self, count: int) -> list[int]:
        """Free cells, the lowest first."""
        found = [heapq.heappop(self._free) for _ in range(min(count, len(self._free)))]
        more = count - len(found)
        found += range(self.high, self.high + more)
        self.high += more
        return found

    def give_back(self, cells: Iterable[int]) -> None:
        """Free cells."""
        for cell in cells:
            heapq.heappush(self._free, cell)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Keep a layer's new keys and values in `places`; those of all cells, shape (1, heads, cells, width)."""
        while len(self.layers) <= layer_idx:
            self.layers.append(_Layer())  # type: ignore[no-untyped-call]
        layer: Any = self.layers[layer_idx]
        return layer.update(key_states, value_states, self.places, self.high)


class _Layer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's keys and values, shape (1, heads, capacity, width); zeros where none are: a mask hides numbers only."""

    keys: torch.Tensor
    values: torch.Tensor

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys, self.values = _room(key_states, FIRST), _room(value_states, FIRST)
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        places, high = args
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        while self.keys.shape[2] < high:
            self.keys = torch.cat([self.keys, torch.zeros_like(self.keys)], dim=2)
            self.values = torch.cat([self.values, torch.zeros_like(self.values)], dim=2)
        self.keys.index_copy_(2, places, key_states)
        self.values.index_copy_(2, places, value_states)
        return self.keys[:, :, :high], self.values[:, :, :high]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2], 0

    def get_seq_length(self) -> int:
        return 0  # positions are always given

    def get_max_length(self) -> int:
        return -1


def _room(states: torch.Tensor, cells: int) -> torch.Tensor:
    return states.new_zeros((*states.shape[:2], cells, states.shape[3]))
