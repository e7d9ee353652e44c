"""llama.cpp in this process: chat models and sentence encoders from GGUF files, no server needed.

A model stays loaded between requests, and its KV cache with it: the next question of a conversation computes only what is
new. Parts are in _llamacpp/. Not covered: downloading models, images, tool calls parsed from the answer.
"""

import atexit
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.chat import Chunk
from data.config import LlamaCppSettings, Settings
from data.errors import EngineInterrupted, ModelMissing
from router.engines._llamacpp.files import ENGINE, Found, listing, locate
from router.engines._llamacpp.header import Array, check
from router.engines.base import Capabilities, Engine, ModelInfo, Request

if TYPE_CHECKING:
    from router.engines._llamacpp.embed import Embedder
    from router.engines._llamacpp.model import LoadedModel

ENCODER = "minilm-l6"
"""The catalog name of the sentence encoder that `embed` uses unless told."""
MODELS = 2
"""Models in memory at once: most often the chat model and the encoder."""


class LlamaCpp(Engine):
    """Models from the catalog, from the folders of the settings, and by path."""

    name = ENGINE
    capabilities = Capabilities(embed=True, score=True, schema=True, think=True, adapters=True)

    def __init__(self, settings: LlamaCppSettings) -> None:
        self._settings = settings
        self._slots: OrderedDict[tuple[str, int, int], _Slot] = OrderedDict()
        self._lock = threading.Lock()
        atexit.register(_close_at_exit, weakref.ref(self))

    def stream(self, request: Request) -> Iterator[Chunk]:
        """The answer. Raises ModelMissing, ModelInvalid, ContextOverflow, EngineRejected before it, EngineInterrupted within.

        Asking a model anew ends an answer that it has not finished.
        """
        started = time.perf_counter()
        found = locate(request.model, self._settings.folders)
        slot = self._slot(found)
        if slot.model is None:
            yield Chunk(phase="loading")
        model = self._loaded(slot)
        load_s = time.perf_counter() - started
        self._admit(request, found)
        from router.engines._llamacpp.generate import answer

        yield from answer(model, request, started, load_s)

    def score(self, request: Request, continuations: Sequence[str]) -> list[tuple[float, ...]]:
        """Natural log-probability of each token of each continuation, given the rendered request."""
        found = locate(request.model, self._settings.folders)
        model = self._loaded(self._slot(found))
        self._admit(request, found)
        from router.engines._llamacpp.score import score

        return score(model, request, continuations)

    def embed(self, texts: Sequence[str], model: str = "") -> NDArray[np.float32]:
        """L2-normalised sentence vectors, shape (len(texts), dimensions); without `model`, those of the catalog's encoder."""
        slot = self._slot(locate(model or ENCODER, self._settings.folders))
        loaded = self._loaded(slot)
        with loaded.lock:
            loaded.alive()
            return slot.embedder(loaded).embed(texts)

    def models(self) -> list[ModelInfo]:
        """The models that are there; files that are no sound models are left out."""
        return listing(self._settings.folders)

    def show(self, model: str) -> dict[str, Any]:
        """The file and its metadata; long texts and arrays are described instead. Raises ModelMissing, ModelInvalid."""
        path = locate(model, self._settings.folders).path
        found = check(path)
        described = {
            key: f"{value.count} items" if isinstance(value, Array) else value[:2_000] if isinstance(value, str) else value
            for key, value in found.metadata.items()
        }
        return {
            "name": model,
            "path": str(path),
            "size_bytes": found.size_bytes,
            "tensors": len(found.tensors),
            "metadata": described,
        }

    def preload(self, model: str, system: str = "") -> None:
        """Load a model now, and compute what every prompt begins with, so that the first question waits less.

        For a thread beside the one that asks; raises as `stream`. `system` is the system message to expect.
        """
        slot = self._slot(locate(model, self._settings.folders))
        loaded = self._loaded(slot)
        with loaded.lock:
            if loaded.closed:
                return
            if loaded.is_encoder:
                slot.embedder(loaded)
                return
            from router.engines._llamacpp.generate import warm

            warm(loaded, system)

    def close(self) -> None:
        """Free every model; an answer under way raises EngineInterrupted. Safe to call twice."""
        with self._lock:
            slots = list(self._slots.values())
            self._slots.clear()
        for slot in slots:
            slot.close()

    def _slot(self, found: Found) -> "_Slot":
        """The place of a file's model, loaded or not. A file that was replaced is another one."""
        try:
            stat = found.path.stat()
        except OSError as error:
            raise ModelMissing(f"cannot read {found.path}: {error.strerror}", "see: pointsman models list") from error
        key = (str(found.path), stat.st_size, stat.st_mtime_ns)
        with self._lock:
            slot = self._slots.setdefault(key, _Slot(found, self._settings))
            self._slots.move_to_end(key)
            surplus = [self._slots.pop(old) for old in list(self._slots)[:-MODELS]]
        for old in surplus:
            old.close()
        return slot

    def _loaded(self, slot: "_Slot") -> "LoadedModel":
        try:
            return slot.load()
        except BaseException:
            with self._lock:
                for key in [key for key, other in self._slots.items() if other is slot]:
                    del self._slots[key]
            raise

    def _admit(self, request: Request, found: Found) -> None:
        """Let an adapter of unknown origin be tried in a child process first."""
        if request.adapter is not None and Path(request.adapter.path).is_file():
            from router.engines._llamacpp.probe import ensure

            ensure(found.path, Path(request.adapter.path))


class _Slot:
    """A file that is, will be or was a loaded model."""

    def __init__(self, found: Found, settings: LlamaCppSettings) -> None:
        self.model: LoadedModel | None = None
        self._found = found
        self._settings = settings
        self._lock = threading.Lock()
        self._embedder: Embedder | None = None
        self._closed = False

    def load(self) -> "LoadedModel":
        """The loaded model, at once or after loading it here or in the thread that began first."""
        with self._lock:
            if self._closed:
                raise EngineInterrupted("the model was closed", "ask again")
            if self.model is None:
                from router.engines._llamacpp.model import LoadedModel

                if not self._found.known:
                    from router.engines._llamacpp.probe import ensure

                    check(self._found.path)
                    ensure(self._found.path)
                self.model = LoadedModel(self._found.path, self._settings)
            return self.model

    def embedder(self, model: "LoadedModel") -> "Embedder":
        """The model's embedding context; call it with the model's lock held."""
        if self._embedder is None:
            from router.engines._llamacpp.embed import Embedder

            self._embedder = Embedder(model)
        return self._embedder

    def close(self) -> None:
        """Free the model, after a load or a computation that is under way."""
        with self._lock:
            self._closed = True
            model, self.model = self.model, None
        if model is not None:
            with model.lock:
                if self._embedder is not None:
                    self._embedder.close()
                model.close()


def build(settings: Settings) -> LlamaCpp:
    """The engine with the settings' table [llamacpp]."""
    return LlamaCpp(settings.llamacpp)


def _close_at_exit(engine: "weakref.ref[LlamaCpp]") -> None:
    """Free the models while Python still runs: later, a load in another thread would call into an interpreter that is gone."""
    found = engine()
    if found is not None:
        found.close()
