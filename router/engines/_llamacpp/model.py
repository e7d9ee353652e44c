"""One loaded GGUF file: its vocabulary, template, adapters and contexts, and the lock under which they are used.

Contexts are made on first use, one for each adapter and one without, and the least recently used goes when there are too
many. Not covered: finding the file (`files`), trying a stranger's file first (`probe`).
"""

import math
import os
import threading
from collections import OrderedDict
from ctypes import c_float
from functools import cached_property
from pathlib import Path
from typing import Any

from data.config import LlamaCppSettings
from data.errors import EngineInterrupted, ModelInvalid, ModelMissing
from router.engines._llamacpp import bindings, header
from router.engines._llamacpp.context import SEQUENCES, Context
from router.engines._llamacpp.masks import Alphabet
from router.engines._llamacpp.template import ChatTemplate
from router.engines._llamacpp.vocab import Vocab
from router.engines.base import Adapter

CONTEXTS = 3  # kept for one model: each has a KV cache of its own

_Key = tuple[str, float, int, int]


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
        self._contexts: OrderedDict[_Key | None, tuple[Context, Any]] = OrderedDict()
        self._batches: dict[Context, Any] = {}
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

    def context(self, adapter: Adapter | None = None) -> Context:
        """The context for answers with that adapter; raises ModelMissing or ModelInvalid for the adapter's file."""
        self.alive()
        if self.is_encoder:
            raise ModelInvalid(f"{self.path} is an encoder and writes no answers", "choose a chat model: pointsman models list")
        key = None if adapter is None else _key(adapter)
        if key in self._contexts:
            self._contexts.move_to_end(key)
            return self._contexts[key][0]
        while len(self._contexts) >= CONTEXTS:
            self._free(*self._contexts.popitem(last=False)[1])
        self._contexts[key] = self._made(adapter, SEQUENCES + 1)
        return self._contexts[key][0]

    def batch_context(self, adapter: Adapter | None, sequences: int, flash: bool) -> Context:
        """A context of its own for many answers at once; `release` it. Raises as `context` does. flash: with flash attention."""
        self.alive()
        if self.is_encoder:
            raise ModelInvalid(f"{self.path} is an encoder and writes no answers", "choose a chat model: pointsman models list")
        context, lora = self._made(adapter, sequences, flash)
        self._batches[context] = lora
        return context

    def release(self, context: Context) -> None:
        """Free a context of `batch_context`. Safe to call twice, and after the model was closed."""
        if context in self._batches:
            self._free(context, self._batches.pop(context))

    def alive(self) -> None:
        """Raise EngineInterrupted where the model was freed in the meantime."""
        if self.closed:
            raise EngineInterrupted("the model was closed", "ask again")

    def close(self) -> None:
        """Free everything; a generator that still runs raises EngineInterrupted. Safe to call twice."""
        with self.lock:
            bindings.hear()
            for context, lora in self._contexts.values():
                self._free(context, lora)
            self._contexts.clear()
            for context in list(self._batches):
                self.release(context)
            if self.dequantised is not None:
                self.dequantised.close()
            if self.pointer is not None:
                self.api.llama_model_free(self.pointer)
                self.pointer = None

    def _made(self, adapter: Adapter | None, sequences: int, flash: bool = False) -> tuple[Context, Any]:
        """A new context, and the adapter that it uses."""
        lora = None if adapter is None else self._adapter(Path(adapter.path))  # before the context that uses it
        try:
            context = Context(
                self.api,
                self.pointer,
                size=self.context_tokens,
                batch=self.settings.batch,
                threads=self.threads,
                vocab_size=self.vocab.size,
                on_gpu=self.settings.gpu_layers != 0 and self.api.llama_supports_gpu_offload(),
                sequences=sequences,
                flash=flash,
            )
        except ModelInvalid:
            if lora is not None:
                self.api.llama_adapter_lora_free(lora)
            raise
        if lora is not None and adapter is not None:
            adapters = (self.api.llama_adapter_lora_p_ctypes * 1)(lora)
            self.api.llama_set_adapters_lora(context.pointer, adapters, 1, (c_float * 1)(adapter.scale))
        return context, lora

    def _free(self, context: Context, lora: Any) -> None:
        context.close()
        if lora is not None:
            self.api.llama_adapter_lora_free(lora)

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

    def _adapter(self, path: Path) -> Any:
        found = header.check(path)
        if not found.is_adapter:
            raise ModelInvalid(f"{path} is no LoRA adapter", "give an adapter made by: pointsman export")
        bindings.forget_log()
        lora = self.api.llama_adapter_lora_init(self.pointer, os.fsencode(path))
        if not lora:
            reason = bindings.last_complaint() or "llama.cpp does not say why"
            raise ModelInvalid(
                f"the adapter {path} does not fit the model {self.path.name}: {reason}", "use the base it was made for"
            )
        return lora


def cores() -> int:
    """How many cores this process may use: the affinity mask, and the quota of its control group."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or "max"
        return allowed


def _key(adapter: Adapter) -> _Key:
    try:
        found = Path(adapter.path).stat()
    except OSError as error:
        raise ModelMissing(f"there is no adapter {adapter.path}: {error.strerror}", "export it again: pointsman export") from error
    return adapter.path, adapter.scale, found.st_size, found.st_mtime_ns
