"""The sentence encoder as the router asks it: one text, one vector, one thread, with the last thousand answers kept.

A vector is the encoder's own sentence vector (length 1), followed, where the engine can give them, by the means of the two
layers before the last, each of length 1: intents are easier told apart there than in the last layer, whose job is
similarity (docs/experiments.md). Long texts are cut to what is about 64 tokens. Where the encoder is missing it raises once
and remembers; the heads then say so and go on with the sparse head. Not covered: llama.cpp itself (`engines`).
"""

import hashlib
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data import catalog, paths
from data.errors import EngineError, ModelError
from router.engines import Engines

Floats = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Floats]

REMEMBERED = 1_000
"""Texts whose vectors are kept."""
TOKENS = 64
"""Tokens of a text that are read at most, counted as one a word and one more for every six letters beyond six."""
TAIL_TOKENS = 16
RETRY = 50
"""Questions after which a missing encoder is looked for again."""
BATCH = 32
"""Texts embedded in one go when there are many; a question waits for one batch at most."""
SHELVED = 150_000
"""Vectors kept on disk, the newest; 350 MB of MiniLM's."""
OWN_DIMENSIONS = 384
"""Of its own vector, before those of layers."""
ENCODER = "minilm-l6"
"""The catalog's name of the encoder."""
LAYERS = 2
"""Layers before the last whose means are part of a vector."""


class Encoder:
    """Calls `embed` for texts that are new. Safe to share between threads: one computes at a time."""

    def __init__(self, embed: Embed, name: str = "encoder") -> None:
        """name: of the file that keeps the vectors of `many`, one for each encoder."""
        self.name = name
        self._embed = embed
        self._shelf = _Shelf(paths.cache_dir() / "vectors" / f"{name}.npz")
        self._lock, self._shelf_lock = threading.Lock(), threading.Lock()
        self._kept: OrderedDict[str, Floats] = OrderedDict()
        self._fault: EngineError | ModelError | None = None
        self._asked = 0

    def __call__(self, text: str) -> Floats:
        """The vector of one text; raises ModelError or EngineError where there is no encoder."""
        key = shortened(text)
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
            self._asked += 1
            if self._fault is not None and self._asked % RETRY:
                raise self._fault
            try:
                found = np.asarray(self._embed([key])[0], np.float32)
            except (EngineError, ModelError) as fault:
                self._fault = fault
                raise
            self._fault = None
            self._kept[key] = found
            if len(self._kept) > REMEMBERED:
                self._kept.popitem(last=False)
            return found

    def many(self, texts: Sequence[str], progress: Callable[[int, int], object] = lambda done, of: None) -> Floats:
        """The vectors of many texts, shape (len(texts), dimensions), from and into the cache folder; raises as a call does."""
        keys = [shortened(text) for text in texts]
        with self._shelf_lock:  # not the other: questions are answered meanwhile, between two batches
            return self._shelf.fill(keys, self._embed, progress)

    def fresh(self, texts: Sequence[str]) -> Floats:
        """The vectors of texts that nobody asks for twice: nothing is kept. Shape and faults as in `many`."""
        keys = [shortened(text) for text in texts]
        order = sorted(range(len(keys)), key=lambda at: len(keys[at]))  # texts of one length share a batch
        made = [self._embed([keys[at] for at in order[begin : begin + BATCH]]) for begin in range(0, len(order), BATCH)]
        found = np.concatenate(made) if made else np.zeros((0, 0), np.float32)
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return np.asarray(found[back], np.float16).astype(np.float32)  # as precise as those that are kept


def encoder(engines: Engines) -> Encoder:
    """The encoder of the catalog behind the engine llamacpp."""

    def embed(texts: Sequence[str]) -> Floats:
        engine = engines.get("llamacpp")
        in_layers = getattr(engine, "embed_layers", None)  # of the engine itself, or of what a server puts before it
        found: Floats = in_layers(texts, LAYERS) if in_layers else engine.embed(texts)
        return found

    prepared = catalog.prepared(ENCODER)
    return Encoder(embed, f"{ENCODER}-{prepared.sha256[:12] if prepared else 'absent'}-{LAYERS}")


def shortened(mended: str) -> str:
    """The words of a normalised text that fit into TOKENS, from its begin and its end."""
    words = mended.split()
    costs = [1 + max(0, len(word) - 1) // 6 for word in words]
    if sum(costs) <= TOKENS:
        return mended
    head, left = 0, TOKENS - TAIL_TOKENS
    while head < len(words) and costs[head] <= left:
        left -= costs[head]
        head += 1
    tail, left = len(words), TAIL_TOKENS
    while tail > head and costs[tail - 1] <= left:
        left -= costs[tail - 1]
        tail -= 1
    return " ".join(words[:head] + words[tail:]) or words[0][: 6 * TOKENS]


class _Shelf:
    """Vectors of texts on disk by the texts' hashes: one file for each encoder, written anew when texts were added.

    Half precision; no text is in it. A damaged file is made anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def fill(self, keys: Sequence[str], embed: Embed, progress: Callable[[int, int], object]) -> Floats:
        known, vectors = self._read()
        hashes = np.array([_hash(key) for key in keys], np.uint64)
        place = {int(one): at for at, one in enumerate(known)}
        missing = sorted(
            {int(one): key for one, key in zip(hashes, keys, strict=True) if int(one) not in place}.items(),
            key=lambda one: len(one[1]),  # texts of one length share a batch
        )
        made = []
        for begin in range(0, len(missing), BATCH):
            progress(begin, len(missing))
            made.append(embed([key for _, key in missing[begin : begin + BATCH]]).astype(np.float16))
        if made:
            fresh, added = np.concatenate(made), np.array([one for one, _ in missing], np.uint64)
            if len(known):
                fresh, added = np.concatenate([vectors, fresh]), np.concatenate([known, added])
            known, vectors = added, fresh
            self._write(known[-SHELVED:], vectors[-SHELVED:])
            place = {int(one): at for at, one in enumerate(known)}
        if not len(keys):
            return np.zeros((0, 0), np.float32)
        found: Floats = vectors[[place[int(one)] for one in hashes]].astype(np.float32)
        return found

    def _read(self) -> tuple[NDArray[np.uint64], NDArray[np.float16]]:
        try:
            with self._path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                known, vectors = file["hashes"], file["vectors"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):  # absent or damaged
            known, vectors = np.zeros(0, np.uint64), np.zeros((0, 0), np.float16)
        if known.dtype != np.uint64 or vectors.dtype != np.float16 or vectors.ndim != 2 or len(known) != len(vectors):
            return np.zeros(0, np.uint64), np.zeros((0, 0), np.float16)
        return known, vectors

    def _write(self, known: NDArray[np.uint64], vectors: NDArray[np.float16]) -> None:
        with paths.replacing(self._path) as file:
            np.savez(file, hashes=known, vectors=vectors)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "little")
