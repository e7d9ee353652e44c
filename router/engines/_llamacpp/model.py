"""One loaded GGUF file: its vocabulary, template, adapters and contexts, and the lock under which they are used.

Contexts are made on first use, one for each adapter and one without (`caches`). Not covered: finding the file (`files`), trying a
stranger's file first (`probe`).
"""

import math
import os
import threading
from ctypes import c_float
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from data.config import LlamaCppSettings
from data.errors import EngineInterrupted, ModelInvalid
from router.engines._llamacpp import bindings, header
from router.engines._llamacpp.adapters import Adapters
from router.engines._llamacpp.caches import Attached, Caches
from router.engines._llamacpp.context import SEQUENCES, Context
from router.engines._llamacpp.masks import Alphabet
from router.engines._llamacpp.memory import cache_bytes
from router.engines._llamacpp.template import ChatTemplate
from router.engines._llamacpp.vocab import Vocab
from router.engines.base import Adapter

ADAPTER_CELLS = 512  # that a conversation with an adapter begins with
ADAPTER_SEQUENCES = 9  # of its context: continuations scored at once, beside the conversation and one for company
ADAPTER_BATCH = 64  # tokens read at once on a processor, where more are no faster and each takes memory in every context
PROCESSOR_BATCH = 128  # the same without an adapter: 32 to 512 differ by 5 % in processor time, 512 is slowest (SmolLM2-135M)
LEAST_BATCH = 32
NODE_FLOP = 2e9  # of one product of matrices while a conversation is read, after which llama.cpp asks whether to go on


class LoadedModel:
    """A model in memory. Everything that computes, and everything that frees, holds `lock`."""

    def __init__(self, path: Path, settings: LlamaCppSettings, trial: bool = False) -> None:
        """Load the file; raises ModelInvalid naming it and what is wrong. trial: a load that will be thrown away."""
        self.header = header.check(path)
        if self.header.is_adapter:
            raise ModelInvalid(f"{path} is a LoRA adapter, not a model", "name the model and give this file as its adapter")
        self.path = path
        self.settings = settings
        self.lock = threading.RLock()
        self.api = bindings.api()
        self.pointer: Any = self._load(trial)
        self.vocab_pointer: Any = self.api.llama_model_get_vocab(self.pointer)
        self._caches = Caches(Adapters(self.api, self.pointer, path.name), self._context, settings.caches_mb << 20)
        self.dequantised: LoadedModel | None = None
        if self.api.llama_vocab_type(self.vocab_pointer) == 0:  # LLAMA_VOCAB_TYPE_NONE
            self.close()
            raise ModelInvalid(f"{path} has no vocabulary", "download or convert it again")
        self.vocab = Vocab(self.api, self.vocab_pointer)
        self.trained_context = int(self.api.llama_model_n_ctx_train(self.pointer)) or settings.context
        self.context_tokens = min(settings.context, self.trained_context)
        self.threads = settings.threads or cores()

    @property
    def closed(self) -> bool:
        """Whether the model was freed."""
        return self.pointer is None

    @cached_property
    def is_encoder(self) -> bool:
        """Whether the model reads whole texts, both ways, and writes none."""
        causal = self.header.metadata.get(f"{self.header.architecture}.attention.causal", True)
        return causal is False or bool(self.api.llama_model_has_encoder(self.pointer))

    @cached_property
    def is_recurrent(self) -> bool:
        """Whether the model has a state that sequences cannot share and that cannot go back."""
        return bool(self.api.llama_model_is_recurrent(self.pointer) or self.api.llama_model_is_hybrid(self.pointer))

    @cached_property
    def alphabet(self) -> Alphabet:
        """What the tokens spell, for answers of a given structure."""
        return Alphabet(self.vocab)

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat template; raises ModelInvalid where it does not compile."""
        raw = self.api.llama_model_chat_template(self.pointer, None)
        source = raw.decode("utf-8", "replace") if raw else ""
        vocab = self.vocab
        return ChatTemplate(source, vocab.specials, vocab.text(vocab.bos), vocab.text(vocab.eos), str(self.path))

    @cached_property
    def grows(self) -> bool:
        """Whether a context may begin small: not where the positions' turning depends on its size (Phi's long-rope)."""
        return not self.is_recurrent and not any(name.startswith("rope_factors_") for name in self.header.tensors)

    def context(self, adapter: Adapter | None = None) -> Context:
        """The context for answers with that adapter; raises ModelMissing or ModelInvalid for the adapter's file."""
        self._writes()
        return self._caches.get(adapter)

    def batch_context(self, adapter: Adapter | None, sequences: int, flash: bool) -> Context:
        """A context of its own for many answers at once; `release` it. Raises as `context` does. flash: with flash attention."""
        self._writes()
        return self._caches.batch(adapter, sequences, flash)

    def reserve(self, context: Context, tokens: int) -> None:
        """Let a context hold that many tokens, its size at most. Raises ModelInvalid where there is no memory for them."""
        self._caches.reserve(context, min(tokens, context.size))

    def release(self, context: Context) -> None:
        """Free a context of `batch_context`. Safe to call twice, and after the model was closed."""
        self._caches.release(context)

    def cache_bytes(self, tokens: int) -> int:
        """What the KV cache of a context of that many tokens takes."""
        return cache_bytes(self.api, self.pointer, self.header, tokens)

    def alive(self) -> None:
        """Raise EngineInterrupted where the model was freed in the meantime."""
        if self.closed:
            raise EngineInterrupted("the model was closed", "ask again")

    def close(self) -> None:
        """Free everything; a generator that still runs raises EngineInterrupted. Safe to call twice."""
        with self.lock:
            bindings.hear()
            self._caches.close()
            if self.dequantised is not None:
                self.dequantised.close()
            if self.pointer is not None:
                self.api.llama_model_free(self.pointer)
                self.pointer = None

    @cached_property
    def _quick_batch(self) -> int:
        """Tokens that a processor reads at once so that a cancelled answer ends within a fraction of 0.2 s, large models too."""
        layers = (shape for name, shape in self.header.tensors.items() if name.startswith("blk.") and len(shape) > 1)
        largest = max((shape[0] * shape[1] for shape in layers), default=1)
        return max(LEAST_BATCH, min(PROCESSOR_BATCH, int(NODE_FLOP / (2 * largest))))

    def _writes(self) -> None:
        self.alive()
        if self.is_encoder:
            raise ModelInvalid(f"{self.path} is an encoder and writes no answers", "choose a chat model: pointsman models list")

    def _context(self, adapter: Attached | None, sequences: int, flash: bool) -> Context:
        """A new context; sequences: 0 for one that holds a conversation."""
        on_gpu = bool(self.settings.gpu_layers != 0 and self.api.llama_supports_gpu_offload())
        small = adapter is not None and not sequences
        batch = self.settings.batch if on_gpu or sequences else min(self.settings.batch, self._quick_batch)
        return Context(
            self.api,
            self.pointer,
            size=self.context_tokens,
            batch=min(batch, ADAPTER_BATCH) if small and not on_gpu else batch,
            threads=self.threads,
            vocab_size=self.vocab.size,
            on_gpu=on_gpu,
            sequences=sequences or (ADAPTER_SEQUENCES if small else SEQUENCES + 1),
            flash=flash,
            begin=ADAPTER_CELLS if small and self.grows else 0,
            rows=ADAPTER_SEQUENCES if small else 0,
            prepare=None if adapter is None else partial(_attach, self.api, adapter),
            cache_bytes=self.cache_bytes,
        )

    def _load(self, trial: bool) -> Any:
        bindings.hear()
        bindings.forget_log()
        params = self.api.llama_model_default_params()
        params.n_gpu_layers = self.settings.gpu_layers
        params.progress_callback = bindings.progress()
        if trial:
            params.use_extra_bufts = False  # repacking the weights takes long and is not what is tried
        pointer = self.api.llama_model_load_from_file(os.fsencode(self.path), params)
        bindings.raise_interrupt()
        if not pointer:
            reason = bindings.last_complaint() or "llama.cpp does not say why"
            raise ModelInvalid(f"{self.path} cannot be loaded: {reason}", "download or convert it again")
        return pointer


def cores() -> int:
    """How many cores this process may use: the affinity mask, and the quota of its control group."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or "max"
        return allowed


def _attach(api: Any, adapter: Attached, context: Any) -> None:
    adapters = (api.llama_adapter_lora_p_ctypes * 1)(adapter.pointer)
    api.llama_set_adapters_lora(context, adapters, 1, (c_float * 1)(adapter.scale))
