"""Sentence vectors: several texts a batch, each a sequence of its own, pooled as the model says and L2-normalised.

A model that does not say how it pools is averaged over its tokens. On request the means of the layers before the last follow,
read from llama.cpp's computation while it runs. Not covered: rerankers, vectors of single tokens.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import Cancelled, EngineInterrupted, EngineRejected, ModelInvalid
from router.cancelling import current
from router.engines._llamacpp import bindings
from router.engines._llamacpp.aborting import heed, was_aborted
from router.engines._llamacpp.model import LoadedModel

SEQUENCES = 16
BATCH_TOKENS = 2_048


class Embedder:
    """An embedding context of a loaded model. Encoders are small and get one thread, which is the fastest for one text."""

    def __init__(self, model: LoadedModel, layers: int = 0) -> None:
        """layers: how many layers before the last are averaged over a text's tokens too; none where their output has no name.

        Raises ModelInvalid where llama.cpp cannot make the context, EngineRejected for a reranker.
        """
        self._api = api = model.api
        found = model.header.metadata.get(f"{model.header.architecture}.block_count", 0)
        blocks = found if isinstance(found, int) else 0
        self._watch = Watch(api, range(blocks - 1 - layers, blocks - 1)) if layers and blocks > layers else None
        self._model = model
        self._limit = min(model.context_tokens, BATCH_TOKENS)
        self._dimensions: int = api.llama_model_n_embd_out(model.pointer)
        self._pointer = self._made(api.LLAMA_POOLING_TYPE_UNSPECIFIED)
        if api.llama_pooling_type(self._pointer) == api.LLAMA_POOLING_TYPE_NONE:
            api.llama_free(self._pointer)
            self._pointer = self._made(api.LLAMA_POOLING_TYPE_MEAN)
        if api.llama_pooling_type(self._pointer) == api.LLAMA_POOLING_TYPE_RANK:
            self.close()
            raise EngineRejected(f"{model.path} is a reranker and gives no sentence vectors", "choose an encoder")
        self._memory = api.llama_get_memory(self._pointer)
        self._batch = api.llama_batch_init(BATCH_TOKENS, 0, 1)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1, shape (len(texts), dimensions). Texts are cut to the context; an empty one has a vector too.

        With `layers`, each text's vector is followed by those of the layers, the lowest first, each of length 1.

        Raises ModelInvalid where the model computes no number, EngineInterrupted where the computation fails, Cancelled.
        """
        heed(self._api, self._pointer, current())
        try:
            return self._embedded(texts)
        finally:
            heed(self._api, self._pointer, None)

    def close(self) -> None:
        """Free the context. Safe to call twice."""
        if self._pointer is not None:
            self._api.llama_free(self._pointer)
            self._pointer = None
            if hasattr(self, "_batch"):
                self._api.llama_batch_free(self._batch)

    def _embedded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self._watch:  # training embeds thousands, and nobody waits for one of them
            many = self._model.threads if len(texts) > SEQUENCES else 1
            self._api.llama_set_n_threads(self._pointer, many, many)
        parts = 1 + (len(self._watch.layers) if self._watch else 0)
        found = np.zeros((len(texts), parts, self._dimensions), dtype=np.float32)
        waiting: list[tuple[int, list[int]]] = []
        room = BATCH_TOKENS
        for index, text in enumerate(texts):
            tokens = self._tokens(text)
            if waiting and (len(tokens) > room or len(waiting) == SEQUENCES):
                self._compute(waiting, found)
                waiting, room = [], BATCH_TOKENS
            waiting.append((index, tokens))
            room -= len(tokens)
        if waiting:
            self._compute(waiting, found)
        if self._watch and texts and not found[:, 1:].any(axis=2).all():
            found = found[:, :1]  # not this architecture's names: the model's own vector alone
        lengths = np.linalg.norm(found.astype(np.float64), axis=2, keepdims=True)
        if texts and not (np.isfinite(lengths).all() and lengths.all()):
            raise ModelInvalid(f"{self._model.path} computes vectors that are not numbers", "download or convert it again")
        found /= np.maximum(lengths, np.finfo(np.float32).tiny)
        return found.reshape(len(texts), found.shape[1] * found.shape[2])

    def _made(self, pooling: int) -> Any:
        model, api = self._model, self._api
        params = api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.n_seq_max = SEQUENCES
        params.n_threads = params.n_threads_batch = 1 if model.is_encoder else model.threads
        params.embeddings = params.kv_unified = params.no_perf = True
        params.pooling_type = pooling
        if self._watch:
            params.cb_eval = self._watch.callback
        bindings.forget_log()
        pointer = api.llama_init_from_model(model.pointer, params)
        if not pointer:
            reason = bindings.last_complaint() or "llama.cpp does not say why"
            raise ModelInvalid(f"{model.path} cannot embed: {reason}", "choose an encoder: pointsman models list")
        return pointer

    def _tokens(self, text: str) -> list[int]:
        vocab = self._model.vocab
        shortened = text[: self._limit * (self._model.header.longest_token_bytes or 1024)]
        tokens = vocab.tokenise_document(shortened) or [max(vocab.bos, vocab.eos, 0)]
        return tokens if len(tokens) <= self._limit else [*tokens[: self._limit - 1], tokens[-1]]  # the last may be an end token

    def _compute(self, waiting: Sequence[tuple[int, list[int]]], found: NDArray[np.float32]) -> None:
        api, batch = self._api, self._batch
        at = 0
        for sequence, (_, tokens) in enumerate(waiting):
            for position, token in enumerate(tokens):
                batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.logits[at] = token, position, 1, 1
                batch.seq_id[at][0] = sequence
                at += 1
        batch.n_tokens = at
        if self._memory:
            api.llama_memory_clear(self._memory, False)
        code = api.llama_decode(self._pointer, batch) if self._memory else api.llama_encode(self._pointer, batch)
        if was_aborted(code, current()):
            raise Cancelled("nobody waits for these vectors any more", "ask again")
        if code:
            raise EngineInterrupted(f"llama.cpp failed to embed (code {code}): {bindings.last_complaint()}", "try again")
        for sequence, (index, _) in enumerate(waiting):
            found[index, 0] = np.ctypeslib.as_array(api.llama_get_embeddings_seq(self._pointer, sequence), (self._dimensions,))
        if self._watch:
            self._average(waiting, found)

    def _average(self, waiting: Sequence[tuple[int, list[int]]], found: NDArray[np.float32]) -> None:
        lengths = [len(tokens) for _, tokens in waiting]
        begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        for part, layer in enumerate(self._watch.take(sum(lengths), self._dimensions) if self._watch else (), start=1):
            for (index, _), begin, length in zip(waiting, begins, lengths, strict=True):
                found[index, part] = layer[begin : begin + length].mean(axis=0)


class Watch:
    """Reads the outputs of some layers out of a computation, through llama.cpp's evaluation callback.

    The output of a BERT layer is its last normalised and weighted value, named norm_w-<layer>, plus a constant bias, which
    is left out here: whoever standardises features removes it anyway (llama.cpp, src/models/bert.cpp).
    """

    def __init__(self, api: Any, layers: Sequence[int]) -> None:
        self.layers = list(layers)
        self._names = {f"norm_w-{layer}".encode(): layer for layer in self.layers}
        self._found: dict[int, NDArray[np.float32]] = {}
        ggml = bindings.part("_ggml").libggml
        self._name, self._data, self._count = (
            _function(ggml, "ggml_get_name", ctypes.c_char_p),
            _function(ggml, "ggml_get_data_f32", ctypes.POINTER(ctypes.c_float)),
            _function(ggml, "ggml_nelements", ctypes.c_int64),
        )
        self.callback = api.ggml_backend_sched_eval_callback(self._see)

    def take(self, tokens: int, dimensions: int) -> list[NDArray[np.float32]]:
        """What the last computation showed, shape (tokens, dimensions) a layer; nothing where it showed something else."""
        found, self._found = self._found, {}
        right = [found[layer] for layer in self.layers if layer in found and found[layer].size == tokens * dimensions]
        return [one.reshape(tokens, dimensions) for one in right] if len(right) == len(self.layers) else []

    def _see(self, tensor: int, asked: bool, _: Any) -> bool:
        layer = self._names.get(self._name(tensor))
        if layer is None:
            return not asked
        if not asked:  # of two values of that name, the layer's output is the later one
            self._found[layer] = np.ctypeslib.as_array(self._data(tensor), (self._count(tensor),)).copy()
        return True


def _function(library: Any, name: str, result: Any) -> Any:
    function = getattr(library, name)
    function.restype, function.argtypes = result, [ctypes.c_void_p]
    return function
