"""The contexts of one loaded model: one without an adapter, one for each adapter and scale, each with a KV cache of its own.

llama.cpp attaches adapters to whole contexts, and to set others it builds the context's graphs anew (10 to 20 ms for
SmolLM2-135M): sequences of one context cannot serve several adapters in turn. Contexts side by side can, at no cost for a switch.
One with an adapter begins small and grows with its conversation. When memory for them runs out, the least recently used one goes
that nobody waits for, and the adapters stay. Not covered: what is in a cache (`context`), loading adapters (`adapters`).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from router.engines._llamacpp.adapters import Adapters, Loaded, Stamp, current, stamp_of
from router.engines._llamacpp.context import Context
from router.engines._llamacpp.memory import available_bytes
from router.engines.base import Adapter

UNKNOWN_BYTES = 2 << 30  # the share of memory where the system does not tell how much is free
_Key = tuple[Stamp, float]


@dataclass(frozen=True, slots=True)
class Attached:
    """An adapter as a new context needs it."""

    pointer: Any
    scale: float


Make = Callable[[Attached | None, int, bool], Context]
"""Makes a context: the adapter, the sequences (0: as a conversation needs them), with flash attention. Raises ModelInvalid."""


class Caches:
    """Everything here is called with the model's lock held. limit_bytes: for adapters and contexts; 0: half of what is free."""

    def __init__(self, adapters: Adapters, make: Make, limit_bytes: int = 0) -> None:
        self._adapters, self._make, self._limit_bytes = adapters, make, limit_bytes
        self._kept: OrderedDict[_Key | None, tuple[Context, Loaded | None]] = OrderedDict()
        self._batches: dict[Context, Loaded | None] = {}

    def __len__(self) -> int:
        """How many contexts are kept for conversations."""
        return len(self._kept)

    def get(self, adapter: Adapter | None) -> Context:
        """The context for answers with that adapter. Raises ModelMissing, ModelInvalid for the adapter's file."""
        key = None if adapter is None else (stamp_of(adapter.path), adapter.scale)
        if key not in self._kept:
            self._sweep()
            self._kept[key] = self._made(adapter, key, 0, False)
            self._make_room(self._kept[key][0])
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def batch(self, adapter: Adapter | None, sequences: int, flash: bool) -> Context:
        """A context of its own; `release` it. Raises as `get`."""
        key = None if adapter is None else (stamp_of(adapter.path), adapter.scale)
        context, lora = self._made(adapter, key, sequences, flash)
        self._batches[context] = lora
        self._make_room(context)
        return context

    def release(self, context: Context) -> None:
        """Free a context of `batch`. Safe to call twice, and after `close`."""
        if context in self._batches:
            self._free(context, self._batches.pop(context))

    def reserve(self, context: Context, tokens: int) -> None:
        """Let a context hold that many tokens. Raises ModelInvalid where it cannot be had."""
        if tokens > context.cells:
            context.reserve(tokens)
            self._make_room(context)

    def close(self) -> None:
        """Free every context, then the adapters."""
        for context, lora in [*self._kept.values(), *self._batches.items()]:
            self._free(context, lora)
        self._kept.clear()
        self._batches.clear()
        self._adapters.close()

    @property
    def size_bytes(self) -> int:
        """What contexts and adapters take."""
        contexts = [*(context for context, _ in self._kept.values()), *self._batches]
        return self._adapters.size_bytes + sum(context.size_bytes for context in contexts)

    def _made(self, adapter: Adapter | None, key: _Key | None, sequences: int, flash: bool) -> tuple[Context, Loaded | None]:
        if adapter is None or key is None:
            return self._make(None, sequences, flash), None
        lora = self._adapters.take(key[0])  # before the context that uses it
        try:
            return self._make(Attached(lora.pointer, adapter.scale), sequences, flash), lora
        except BaseException:
            self._adapters.give_back(lora)
            raise

    def _make_room(self, but: Context) -> None:
        """Free what is not in use, least recently used first, until all fits the limit: contexts, then adapters without one."""
        free = available_bytes()
        held = self.size_bytes
        limit = self._limit_bytes or (UNKNOWN_BYTES if free is None else (free + held) // 2)
        while self.size_bytes > limit:
            idle = [key for key, (one, _) in self._kept.items() if one is not but and one.user is None]
            if idle:
                self._free(*self._kept.pop(idle[0]))
            elif not self._adapters.free_one():
                return

    def _sweep(self) -> None:
        """Free contexts and adapters whose files were replaced or removed, but none that an answer is using."""
        for key, (context, lora) in list(self._kept.items()):
            if key is not None and context.user is None and not current(key[0]):
                del self._kept[key]
                self._free(context, lora)
        self._adapters.sweep()

    def _free(self, context: Context, lora: Loaded | None) -> None:
        context.close()
        if lora is not None:
            self._adapters.give_back(lora)
