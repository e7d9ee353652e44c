"""The LoRA adapters of one loaded model: each file loaded once, counted by the contexts that use it, freed when none does.

A file that was replaced is another adapter: it is told by its size and time of change. llama.cpp keeps bare pointers to a context's
adapters, and counts the nodes of every adapter of the model when it makes room for a context's graph (llama-context.cpp,
set_adapters_lora and graph_max_nodes): so an adapter is loaded before the context that uses it and freed after it, and one that
comes later leaves the contexts that live as they are. Not covered: which contexts there are (`caches`).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import ModelInvalid, ModelMissing
from router.engines._llamacpp import bindings, header


@dataclass(frozen=True, slots=True)
class Stamp:
    """A file in one of its states."""

    path: str
    size_bytes: int
    changed_ns: int


@dataclass(eq=False, slots=True)
class Loaded:
    """An adapter in memory. users: contexts that have it."""

    stamp: Stamp
    pointer: Any
    users: int = 0


class Adapters:
    """The adapters of a model, least recently taken first."""

    def __init__(self, api: Any, model: Any, model_name: str) -> None:
        self._api, self._model, self._model_name = api, model, model_name
        self._loaded: dict[Stamp, Loaded] = {}

    def take(self, stamp: Stamp) -> Loaded:
        """The adapter, loaded now where it is not yet, with one user more; raises ModelMissing, ModelInvalid."""
        one = self._loaded.pop(stamp, None) or self._load(stamp)
        self._loaded[stamp] = one
        one.users += 1
        return one

    def give_back(self, one: Loaded) -> None:
        """One user less; an adapter whose file was replaced or removed goes with its last user."""
        one.users -= 1
        if not current(one.stamp):
            self._free(one)

    @property
    def size_bytes(self) -> int:
        """What all of them take, about as much as their files."""
        return sum(stamp.size_bytes for stamp in self._loaded)

    def free_one(self) -> bool:
        """Free the least recently taken adapter that no context uses; whether there was one."""
        idle = next((one for one in self._loaded.values() if not one.users), None)
        return idle is not None and self._free(idle)

    def sweep(self) -> None:
        """Free the adapters without a user whose files were replaced or removed."""
        for one in [one for one in self._loaded.values() if not one.users and not current(one.stamp)]:
            self._free(one)

    def close(self) -> None:
        """Free all that have no user."""
        while self.free_one():
            pass

    def _free(self, one: Loaded) -> bool:
        """Free an adapter, never one that a context still points to; whether it was freed."""
        if one.users or self._loaded.get(one.stamp) is not one:
            return False
        del self._loaded[one.stamp]
        self._api.llama_adapter_lora_free(one.pointer)
        return True

    def _load(self, stamp: Stamp) -> Loaded:
        path = Path(stamp.path)
        if not header.check(path).is_adapter:
            raise ModelInvalid(f"{path} is no LoRA adapter", "give an adapter made by: pointsman export")
        bindings.forget_log()
        pointer = self._api.llama_adapter_lora_init(self._model, os.fsencode(path))
        if not pointer:
            reason = bindings.last_complaint() or "llama.cpp does not say why"
            raise ModelInvalid(
                f"the adapter {path} does not fit the model {self._model_name}: {reason}", "use the base it was made for"
            )
        if not current(stamp):
            self._api.llama_adapter_lora_free(pointer)
            raise ModelInvalid(f"the adapter {path} changed while it was loaded", "ask again")
        return Loaded(stamp, pointer)


def stamp_of(path: str) -> Stamp:
    """The file as it is now; raises ModelMissing where there is none."""
    try:
        found = Path(path).stat()
    except OSError as error:
        raise ModelMissing(f"there is no adapter {path}: {error.strerror}", "export it again: pointsman export") from error
    return Stamp(path, found.st_size, found.st_mtime_ns)


def current(stamp: Stamp) -> bool:
    """Whether the file is still in that state."""
    try:
        return stamp_of(stamp.path) == stamp
    except ModelMissing:
        return False
