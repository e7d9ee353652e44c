"""What verification computes in the child process (`export.child`): predictions beside given ones, tokens and prompts, answers.

Predictions are computed as exactly as llama.cpp can with a file's weights: KV cache in F32, no flash attention, which rounds to F16
on the way. Rows share their beginning, which is computed once. Not covered: what the figures mean (`numerics`).
"""

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import EngineRejected, ModelError
from export import fidelity
from router.engines._llamacpp.model import cores

BATCH = 128  # tokens computed at once: their logits are in memory
_F32 = 0  # ggml.h, enum ggml_type
_CLOSEST = 8  # first choices that differ, which are told


def compare(
    api: Any,
    files: Sequence[Sequence[str]],
    rows: Sequence[Sequence[int]],
    shared: int,
    given: str,
    spoken: Sequence[int],
    threads: int,
) -> list[dict[str, Any]]:
    """Figures of each (model, adapter or "") beside the rows' logits in the folder `given`, or beside the first of the files.

    rows: of tokens, the first being the beginning of `shared` tokens that all others have; of those the rest counts. given:
    N.npy of shape (tokens that count, vocabulary) for each row. spoken: how many tokens at the end of each row are an answer.
    """
    workers = min(threads or cores(), len(rows))
    with _opened(api, files, max(map(len, rows)), workers) as opened, ThreadPoolExecutor(workers) as pool:

        def some(worker: int) -> list[tuple[int, list[fidelity.Positions]]]:
            """Every so many-th row, on one thread: threads that wait for each other suffer from other work."""
            own = range(worker, len(rows), workers)
            return [(at, _beside(opened[worker], rows[at], shared if at else 0, _known(given, at))) for at in own]

        found = sorted((row for part in pool.map(some, range(workers)) for row in part), key=lambda row: row[0])
    return [_told([row[at] for _, row in found], spoken) for at in range(len(files))]


def _known(given: str, number: int) -> fidelity.Rows | None:
    if not given:
        return None
    return fidelity.log_softmax(np.load(Path(given) / f"{number}.npy", allow_pickle=False).astype(np.float32, copy=False))


def _beside(contexts: Sequence["_Exact"], row: Sequence[int], first: int, known: fidelity.Rows | None) -> list[fidelity.Positions]:
    """One row under every file, beside what is known of it, else beside the first."""
    found = []
    for context in contexts:
        own = fidelity.log_softmax(context.logits(row, first))
        known = own if known is None else known
        if known.shape != own.shape:
            sys.exit(f"the vocabulary has {own.shape[1]:,} tokens, and the trained model's {known.shape[1]:,}")
        found.append(fidelity.positions(known, own, row[first:]))
    return found


def spell(api: Any, file: str, texts: Sequence[str], conversations: Sequence[Any], think: bool | None) -> dict[str, Any]:
    """The tokens of plain texts, and of each conversation the prompt and its tokens, as the llama.cpp engine makes them.

    A conversation that the file's template refuses has None in place of its prompt.
    """
    from data.chat import Message
    from router.engines._llamacpp.prompt import spelled

    model = _model(file)
    prompts: list[Any] = []
    for one in conversations:
        try:
            prompts.append(spelled([Message.from_dict(message) for message in one], model.vocab, model.template, think))
        except EngineRejected:
            prompts.append((None, []))
    vocab = model.vocab
    return {
        "texts": [vocab.tokenise_text(text) for text in texts],
        "prompts": prompts,
        "bos": vocab.bos,
        "adds_bos": bool(vocab.adds_bos),
        "bos_text": vocab.text(vocab.bos),
        "ends": [(token, vocab.text(token)) for token in range(vocab.size) if vocab.is_end(token)],
        "template": _template(api, model),
    }


def answer(api: Any, file: str, adapter: str, prompts: Sequence[Sequence[int]], most: int) -> list[dict[str, Any]]:
    """The likeliest answer to each prompt, token by token, and whether it ended by itself within `most` tokens."""
    found = []
    with _opened(api, [(file, adapter)], max(map(len, prompts)) + most, 1) as ((context,),):
        for prompt in prompts:
            ids: list[int] = []
            chosen = int(context.logits(prompt, len(prompt) - 1)[-1].argmax())
            while not context.ends(chosen) and len(ids) < most:
                ids.append(chosen)
                chosen = int(context.logits([*prompt, *ids], len(prompt) + len(ids) - 1)[-1].argmax())
            found.append({"ids": ids, "ended": context.ends(chosen)})
    return found


class _Exact:
    """A context whose KV cache is F32; what it has computed of a row is kept for the next that begins alike."""

    def __init__(self, api: Any, model: Any, lora: Any, size: int) -> None:
        self._api = api
        params = api.llama_context_default_params()
        params.n_ctx = max(size, 32)
        params.n_batch = params.n_ubatch = params.n_outputs_max = BATCH
        params.n_threads = params.n_threads_batch = 1
        params.no_perf = True
        params.type_k = params.type_v = _F32
        params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._pointer = api.llama_init_from_model(model, params) or sys.exit("no context can be made")
        if lora is not None:
            one = (api.llama_adapter_lora_p_ctypes * 1)(lora)
            api.llama_set_adapters_lora(self._pointer, one, 1, (ctypes.c_float * 1)(1.0))
        self._vocabulary = api.llama_model_get_vocab(model)
        self._size = api.llama_vocab_n_tokens(self._vocabulary)
        self._memory = api.llama_get_memory(self._pointer)
        self._batch = api.llama_batch_init(BATCH, 0, 1)
        self._held: list[int] = []

    def ends(self, token: int) -> bool:
        """Whether an answer ends at the token."""
        return bool(self._api.llama_vocab_is_eog(self._vocabulary, token))

    def logits(self, row: Sequence[int], first: int) -> NDArray[np.float32]:
        """Logits of the row's tokens from `first` on, shape (tokens, vocabulary)."""
        if any(not 0 <= token < self._size for token in row):
            sys.exit(f"a token of the rows is not among the {self._size:,} of the vocabulary")
        kept = 0
        while kept < min(first, len(self._held)) and self._held[kept] == row[kept]:
            kept += 1
        if not self._api.llama_memory_seq_rm(self._memory, 0, kept, -1):
            self._api.llama_memory_clear(self._memory, False)
            kept = 0
        self._held = list(row)
        parts = [self._computed(row, begin, min(begin + BATCH, len(row))) for begin in range(kept, len(row), BATCH)]
        return np.concatenate(parts)[first - kept :]

    def _computed(self, row: Sequence[int], begin: int, end: int) -> NDArray[np.float32]:
        batch = self._batch
        batch.n_tokens = end - begin
        for place, at in enumerate(range(begin, end)):
            batch.token[place], batch.pos[place], batch.n_seq_id[place] = row[at], at, 1
            batch.seq_id[place][0] = 0
            batch.logits[place] = True
        if self._api.llama_decode(self._pointer, batch):
            sys.exit("the model cannot be computed")
        return np.ctypeslib.as_array(self._api.llama_get_logits(self._pointer), (end - begin, self._size)).copy()

    def close(self) -> None:
        """Free the context."""
        self._api.llama_batch_free(self._batch)
        self._api.llama_free(self._pointer)


@contextmanager
def _opened(api: Any, files: Sequence[Sequence[str]], size: int, workers: int) -> Iterator[list[list[_Exact]]]:
    """For each worker a context for each (model, adapter); a model that is named several times is loaded once."""
    models: dict[str, Any] = {}
    contexts: list[list[_Exact]] = [[] for _ in range(workers)]
    for file, adapter in files:
        if file not in models:
            params = api.llama_model_default_params()
            params.use_extra_bufts = False  # repacked weights are computed otherwise, and repacking takes long
            models[file] = api.llama_model_load_from_file(os.fsencode(file), params) or sys.exit(1)
        lora = (api.llama_adapter_lora_init(models[file], os.fsencode(adapter)) or sys.exit(1)) if adapter else None
        for own in contexts:
            own.append(_Exact(api, models[file], lora, size))
    try:
        yield contexts
    finally:
        for context in (one for own in contexts for one in own):
            context.close()


def _told(texts: Sequence[fidelity.Positions], spoken: Sequence[int]) -> dict[str, Any]:
    """The figures; of the first choices that differ, how many and the most by which they were preferred, and those of answers.

    An answer's first token is predicted at the last of the prompt, so that the row's own last position predicts none of it.
    """
    leads = np.concatenate([text.lead for text in texts])
    differ = np.sort(leads[leads > 0])
    written = [text.lead[-1 - count : -1] for text, count in zip(texts, spoken, strict=True) if count]
    answers = np.concatenate(written) if written else np.zeros(0)
    figures: Mapping[str, Any] = asdict(fidelity.figures(texts))
    return {
        "figures": figures,
        "positions": len(leads),
        "differ": len(differ),
        "leads": differ[-_CLOSEST:].tolist(),
        "spoken": len(answers),
        "spoken_differ": int((answers > 0).sum()),
    }


def _model(file: str) -> Any:
    from data.config import LlamaCppSettings
    from router.engines._llamacpp.model import LoadedModel

    try:
        return LoadedModel(Path(file), LlamaCppSettings(context=512, gpu_layers=0, threads=1), trial=True)
    except ModelError as error:
        sys.exit(error.what)


def _template(api: Any, model: Any) -> str:
    raw = api.llama_model_chat_template(model.pointer, None)
    return raw.decode("utf-8", "replace") if raw else ""
