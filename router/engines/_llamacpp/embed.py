"""Sentence vectors: several texts a batch, each a sequence of its own, pooled as the model says and L2-normalised.

A model that does not say how it pools is averaged over its tokens. Not covered: rerankers, vectors of single tokens.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import EngineInterrupted, EngineRejected, ModelInvalid
from router.engines._llamacpp import bindings
from router.engines._llamacpp.model import LoadedModel

SEQUENCES = 16
BATCH_TOKENS = 2_048


class Embedder:
    """An embedding context of a loaded model. Encoders are small and get one thread, which is the fastest for one text."""

    def __init__(self, model: LoadedModel) -> None:
        """Raises ModelInvalid where llama.cpp cannot make the context, EngineRejected for a reranker."""
        self._api = api = model.api
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

        Raises ModelInvalid where the model computes no number, EngineInterrupted where the computation fails.
        """
        found = np.zeros((len(texts), self._dimensions), dtype=np.float32)
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
        lengths = np.linalg.norm(found.astype(np.float64), axis=1, keepdims=True)
        if texts and not (np.isfinite(lengths).all() and lengths.all()):
            raise ModelInvalid(f"{self._model.path} computes vectors that are not numbers", "download or convert it again")
        found /= np.maximum(lengths, np.finfo(np.float32).tiny)
        return found

    def close(self) -> None:
        """Free the context. Safe to call twice."""
        if self._pointer is not None:
            self._api.llama_free(self._pointer)
            self._pointer = None
            if hasattr(self, "_batch"):
                self._api.llama_batch_free(self._batch)

    def _made(self, pooling: int) -> Any:
        model, api = self._model, self._api
        params = api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.n_seq_max = SEQUENCES
        params.n_threads = params.n_threads_batch = 1 if model.is_encoder else model.threads
        params.embeddings = params.kv_unified = params.no_perf = True
        params.pooling_type = pooling
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
        if code:
            raise EngineInterrupted(f"llama.cpp failed to embed (code {code}): {bindings.last_complaint()}", "try again")
        for sequence, (index, _) in enumerate(waiting):
            found[index] = np.ctypeslib.as_array(api.llama_get_embeddings_seq(self._pointer, sequence), (self._dimensions,))
