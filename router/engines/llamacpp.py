"""llama.cpp in this process: chat models and sentence encoders from GGUF files, no server needed.

A model stays loaded between requests, and its KV cache with it: the next question of a conversation computes only what is
new. Adapters share one model: `<base>+<export>` names it with an export's adapter attached, and each has a cache of its own.
Parts are in _llamacpp/. Not covered: downloading models, images.
"""

import atexit
import re
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.chat import Chunk, Message
from data.config import LlamaCppSettings, Settings
from data.errors import EngineInterrupted, EngineRejected, ModelMissing
from router.engines._llamacpp.adapters import Stamp, stamp_of
from router.engines._llamacpp.files import ENGINE, Found, listing, locate
from router.engines._llamacpp.header import check
from router.engines._llamacpp.memory import available_bytes
from router.engines.base import Adapter, Capabilities, Engine, ModelInfo, Request, Standing
from router.engines.structure import Completion, Structure

if TYPE_CHECKING:
    from router.engines._llamacpp.embed import Embedder
    from router.engines._llamacpp.model import LoadedModel

ENCODER = "minilm-l6"
"""The catalog name of the sentence encoder that `embed` uses unless told."""
MODELS = 2
"""Models in memory at once: most often the chat model and the encoder."""
_KNOWS_TOOLS = re.compile(r"\btools\b")
_KNOWS_THINKING = re.compile(r"<think>|enable_thinking")


READ_BYTES_PER_S = 500e6
"""Bytes of a model file read in a second, about: a laptop's SSD."""


class LlamaCpp(Engine):
    """Models from the catalog, from the folders of the settings, and by path."""

    name = ENGINE
    capabilities = Capabilities(embed=True, score=True, schema=True, think=True, adapters=True)

    def __init__(self, settings: LlamaCppSettings) -> None:
        self._settings = settings
        self._slots: OrderedDict[tuple[str, int, int], _Slot] = OrderedDict()
        self._admitted: set[tuple[Stamp, Stamp]] = set()
        self._lock = threading.Lock()
        atexit.register(_close_at_exit, weakref.ref(self))

    def stream(self, request: Request) -> Iterator[Chunk]:
        """The answer. Raises ModelMissing, ModelInvalid, ContextOverflow, EngineRejected before it, EngineInterrupted within.

        Asking a model anew ends an answer that it has not finished.
        """
        started = time.perf_counter()
        found, adapter = self._named(request.model, request.adapter)
        slot = self._slot(found)
        if slot.model is None:
            yield Chunk(phase="loading")
        model = self._loaded(slot)
        load_s = time.perf_counter() - started
        self._admit(adapter, found)
        from router.engines._llamacpp.generate import answer

        yield from answer(model, replace(request, adapter=adapter), started, load_s)

    def score(self, request: Request, continuations: Sequence[str]) -> list[tuple[float, ...]]:
        """Natural log-probability of each token of each continuation, given the rendered request."""
        found, adapter = self._named(request.model, request.adapter)
        model = self._loaded(self._slot(found))
        self._admit(adapter, found)
        from router.engines._llamacpp.score import score

        return score(model, replace(request, adapter=adapter), continuations)

    def complete(self, requests: Iterable[Request], structure: Structure) -> Iterator[Completion]:
        """Completions, many at once, with the probabilities of all choices; raises as `stream` what concerns every row.

        A model whose state cannot be shared (recurrent ones) answers by JSON schema, one row after the other.
        """
        for (name, asked), rows in groupby(requests, key=lambda request: (request.model, request.adapter)):
            found, adapter = self._named(name, asked)
            model = self._loaded(self._slot(found))
            self._admit(adapter, found)
            if model.is_recurrent:
                yield from super().complete(rows, structure)
                continue
            from router.engines._llamacpp.complete import complete

            yield from complete(model, rows, structure, adapter, available_bytes())

    def embed(self, texts: Sequence[str], model: str = "") -> NDArray[np.float32]:
        """L2-normalised sentence vectors, shape (len(texts), dimensions); without `model`, those of the catalog's encoder."""
        slot = self._slot(self._alone(model or ENCODER))
        loaded = self._loaded(slot)
        with loaded.lock:
            loaded.alive()
            return slot.embedder(loaded).embed(texts)

    def can_call(self, model: str) -> bool:
        """Whether the model's chat template knows tools; raises ModelMissing, ModelInvalid."""
        return self._template_has(model, _KNOWS_TOOLS)

    def can_think(self, model: str) -> bool:
        """Whether the model's chat template knows thinking; raises ModelMissing, ModelInvalid."""
        return self._template_has(model, _KNOWS_THINKING)

    def standing(self, model: str) -> Standing:
        """Whether the model is in memory, and whether there is room for it; raises ModelMissing where there is no file."""
        found = locate(model, self._settings.folders)
        size_bytes = found.path.stat().st_size
        with self._lock:
            loaded = any(key[0] == str(found.path) and slot.model is not None for key, slot in self._slots.items())
        free = available_bytes()
        short = not loaded and free is not None and size_bytes > free
        return Standing(
            loaded,
            size_bytes / READ_BYTES_PER_S,
            self._settings.context,
            f"{model} needs {size_bytes / 1e9:.1f} GB of memory, and {(free or 0) / 1e9:.1f} GB are free" if short else "",
        )

    def count(self, model: str, messages: Sequence[Message]) -> int:
        """Tokens of the messages' texts where the model is loaded, else 0; the template's own few are not counted."""
        path = str(locate(model, self._settings.folders).path)
        with self._lock:
            slot = next((slot for key, slot in self._slots.items() if key[0] == path), None)
        loaded = slot.model if slot else None
        return sum(len(loaded.vocab.tokenise_text(message.content)) for message in messages) if loaded else 0

    def tokens(self, model: str, text: str) -> list[int]:
        """The tokens of plain text, in which nothing is a control token; raises ModelMissing, ModelInvalid."""
        loaded = self._loaded(self._slot(locate(model, self._settings.folders)))
        with loaded.lock:
            loaded.alive()
            return loaded.vocab.tokenise_text(text)

    def prompt_tokens(self, model: str, messages: Sequence[Message], think: bool | None = None) -> list[int]:
        """The tokens of a conversation's rendered prompt, whole; raises ModelMissing, ModelInvalid, EngineRejected."""
        loaded = self._loaded(self._slot(locate(model, self._settings.folders)))
        with loaded.lock:
            loaded.alive()
            from router.engines._llamacpp.prompt import spelled

            return spelled(messages, loaded.vocab, loaded.template, think)[1]

    def embed_layers(self, texts: Sequence[str], layers: int, model: str = "") -> NDArray[np.float32]:
        """As `embed`, each vector followed by the means of the `layers` layers before the last, each of length 1.

        Encoders whose layers cannot be read give the vector of `embed` alone.
        """
        slot = self._slot(self._alone(model or ENCODER))
        loaded = self._loaded(slot)
        with loaded.lock:
            loaded.alive()
            return slot.embedder(loaded, layers).embed(texts)

    def words(self, model: str = "") -> tuple[str, ...]:
        """The whole words of an encoder's vocabulary (WordPiece), in its order, which is about by falling frequency."""
        loaded = self._loaded(self._slot(locate(model or ENCODER, self._settings.folders)))
        with loaded.lock:
            loaded.alive()
            pieces = (loaded.vocab.text(token) for token in range(loaded.vocab.size))
            return tuple(piece[1:] for piece in pieces if piece.startswith("\u2581") and piece[1:].isalpha())

    def models(self) -> list[ModelInfo]:
        """The models that are there; files that are no sound models are left out."""
        return listing(self._settings.folders)

    def show(self, model: str) -> dict[str, Any]:
        """The file and its metadata; long texts and arrays are described instead. Raises ModelMissing, ModelInvalid.

        Of a base with an adapter: the adapter's, and the base's under "base". "export" tells where an exported model comes from.
        """
        from router.engines._llamacpp.describing import described

        return described(model, locate(model, self._settings.folders))

    def version(self, model: str) -> str:
        """The digests that an export promises, so that one exported again under its name is another; "" for other models."""
        return " ".join(promise.sha256 for promise in locate(model, self._settings.folders).promises)

    def preload(self, model: str, system: str = "") -> None:
        """Load a model now, and compute what every prompt begins with, so that the first question waits less.

        For a thread beside the one that asks; raises as `stream`. `system` is the system message to expect.
        """
        found, adapter = self._named(model)
        slot = self._slot(found)
        loaded = self._loaded(slot)
        self._admit(adapter, found)
        with loaded.lock:
            if loaded.closed:
                return
            if loaded.is_encoder:
                slot.embedder(loaded)
                return
            from router.engines._llamacpp.generate import warm

            warm(loaded, system, adapter)

    def close(self) -> None:
        """Free every model; an answer under way raises EngineInterrupted. Safe to call twice."""
        with self._lock:
            slots = list(self._slots.values())
            self._slots.clear()
        for slot in slots:
            slot.close()

    def _template_has(self, model: str, words: re.Pattern[str]) -> bool:
        header = check(locate(model, self._settings.folders).path)
        return words.search(header.text("tokenizer.chat_template")) is not None

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

    def _named(self, model: str, adapter: Adapter | None = None) -> tuple[Found, Adapter | None]:
        """The files of a model by its name, sound as far as an export tells, and the adapter to attach."""
        found = locate(model, self._settings.folders)
        if found.adapter is not None and adapter is not None:
            raise EngineRejected(f"{model} has an adapter already", "name the base alone, or give no other adapter")
        found.keep()
        return found, Adapter(str(found.adapter)) if found.adapter else adapter

    def _alone(self, model: str) -> Found:
        """The file of a model for sentence vectors, which adapters have no part in."""
        found, adapter = self._named(model)
        if adapter is not None:
            raise EngineRejected(f"{model} gives no sentence vectors: its adapter was made for answers", "name the base alone")
        return found

    def _admit(self, adapter: Adapter | None, found: Found) -> None:
        """Let an adapter of unknown origin be tried in a child process first."""
        if adapter is None:
            return
        files = stamp_of(str(found.path)), stamp_of(adapter.path)
        if files not in self._admitted:
            from router.engines._llamacpp.probe import ensure

            ensure(found.path, Path(adapter.path))
            self._admitted.add(files)


class _Slot:
    """A file that is, will be or was a loaded model."""

    def __init__(self, found: Found, settings: LlamaCppSettings) -> None:
        self.model: LoadedModel | None = None
        self._found = found
        self._settings = settings
        self._lock = threading.Lock()
        self._embedders: dict[int, Embedder] = {}
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

    def embedder(self, model: "LoadedModel", layers: int = 0) -> "Embedder":
        """The model's embedding context, one for each number of layers; call it with the model's lock held."""
        if layers not in self._embedders:
            from router.engines._llamacpp.embed import Embedder

            self._embedders[layers] = Embedder(model, layers)
        return self._embedders[layers]

    def close(self) -> None:
        """Free the model, after a load or a computation that is under way."""
        with self._lock:
            self._closed = True
            model, self.model = self.model, None
        if model is not None:
            with model.lock:
                for embedder in self._embedders.values():
                    embedder.close()
                model.close()


def build(settings: Settings) -> LlamaCpp:
    """The engine with the settings' table [llamacpp]."""
    return LlamaCpp(settings.llamacpp)


def _close_at_exit(engine: "weakref.ref[LlamaCpp]") -> None:
    """Free the models while Python still runs: later, a load in another thread would call into an interpreter that is gone."""
    found = engine()
    if found is not None:
        found.close()
