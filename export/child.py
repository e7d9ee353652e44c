"""What runs in the child process of `export.quantise`: llama.cpp quantises, computes and is timed here.

One line of JSON on stdin names the task; its value goes to stdout as JSON; llama.cpp's log and every complaint go to stderr.
The process ends as soon as stdin does, so that it never outlives the one that started it. Not covered: what the numbers
mean (`export.fidelity`, `export.embedded`).
"""

import ctypes
import json
import os
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import EngineUnavailable
from export import fidelity, imatrix
from export.quantise import FORMS, UNAVAILABLE
from router.engines._llamacpp import bindings

PREFILL_TOKENS = 64  # in one timed batch
DECODE_TOKENS = 8  # in one timed run, one by one
UNDISTURBED = 0.9  # of the wall time, the share in which every thread must have had its core
ENOUGH = 3  # undisturbed runs of each kind for each file
CPU_ROUNDS = 2

_TELLING = (3, 4)  # warnings and errors: ggml.h, enum ggml_log_level
_FALLBACK = re.compile(r"(\S+)\s+- ncols[^\n]*?required for type\s+(\w+)\)[^\n]*?falling back to\s+(\w+)")
_log: list[str] = []
_Timed = Callable[[Callable[[], None], list[float]], bool]
_Times = list[tuple[list[float], list[float]]]  # seconds of reading and of writing, a pair a model


def main() -> None:
    """Do the task named on stdin."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what native code prints must not mix with the answer
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        api = bindings.api()
    except EngineUnavailable as error:
        sys.stderr.write(error.what + "\n")
        sys.exit(UNAVAILABLE)
    log = api.llama_log_callback(_keep_log)
    api.llama_log_set(log, None)
    tasks: dict[str, Callable[..., Any]] = {"quantise": quantise, "measure": measure, "embed": embed, **verifying(), **publishing()}
    json.dump(tasks[request["task"]](api, **request["arguments"]), answer)
    answer.flush()
    os._exit(0)  # without the clean-up of a library whose threads may still wait


def verifying() -> dict[str, Callable[..., Any]]:
    """The tasks of `export.verify`."""
    from export._verify import tasks

    return {"compare": tasks.compare, "spell": tasks.spell, "answer": tasks.answer}


def publishing() -> dict[str, Callable[..., Any]]:
    """The task of `export.ollama`."""
    from export._ollama import greedy

    return {"greedy": greedy.greedy}


def quantise(api: Any, source: str, target: str, form: str, threads: int, importance: str = "") -> list[tuple[str, ...]]:
    """Write `target`; returns (tensor, wanted, used) for each tensor that fell back to another number format.

    importance: the file of an importance matrix, "" for none.
    """
    params = api.llama_model_quantize_default_params()
    params.ftype = FORMS[form]
    params.nthread = threads or _cores()
    params.allow_requantize = True
    rows = imatrix.read(Path(importance)) if importance else {}  # llama.cpp reads the numbers where they are
    if rows:
        params.imatrix = _matrix(api, rows)
    if api.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params)):
        sys.exit(1)
    return [match.groups() for match in _FALLBACK.finditer("".join(_log))]


def measure(
    api: Any, files: Sequence[str], texts: Sequence[str | Sequence[int]], rounds: int, seconds: float, threads: int
) -> list[dict[str, dict[str, Any] | None]]:
    """Figures of each file beside the first, and its speed. texts: of which some may be tokens already."""
    models = [_load(api, file) for file in files]
    tokens = [_tokens(api, models[0], text) if isinstance(text, str) else list(text) for text in texts]
    with ThreadPoolExecutor(_cores()) as pool:  # one thread a text: threads that wait for each other suffer from other work
        texts_of_forms = list(pool.map(lambda text: _positions(api, models, text), tokens))
    found = [fidelity.figures([text[index] for text in texts_of_forms]) for index in range(len(models))]
    speeds: Sequence[dict[str, Any] | None] = [None] * len(models)
    if rounds:
        speeds = _speeds(api, models, max(tokens, key=len), rounds, seconds, threads or _cores())
    return [{"figures": asdict(one), "speed": speed} for one, speed in zip(found, speeds, strict=True)]


def embed(api: Any, files: Sequence[str], texts: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """The vectors of each encoder and the CPU milliseconds of a text, the encoders taking turns."""
    models = [_load(api, file) for file in files]
    contexts = [_Context(api, model, size=512, threads=1, embeddings=True) for model in models]
    tokens = [_tokens(api, models[0], text, around=True) for text in texts]
    vectors = [[context.embed(text).tolist() for text in tokens] for context in contexts]  # the first run of each warms it up
    times: list[list[float]] = [[] for _ in contexts]
    for _ in range(rounds):
        for text in tokens:
            for context, kept in zip(contexts, times, strict=True):
                started = time.thread_time()
                context.embed(text)
                kept.append(time.thread_time() - started)
    return [
        {"vectors": rows, "ms": 1000 * statistics.median(kept) if kept else 0.0} for rows, kept in zip(vectors, times, strict=True)
    ]


class _Context:
    """A llama.cpp context set up as the engine's is; every method raises SystemExit with a line where llama.cpp fails."""

    def __init__(self, api: Any, model: Any, *, size: int, threads: int, embeddings: bool = False) -> None:
        self._api = api
        params = api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = max(size, 32)
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        params.embeddings = embeddings
        if not api.llama_supports_gpu_offload():
            params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self._pointer = api.llama_init_from_model(model, params)
        if not self._pointer:
            sys.exit("no context can be made")
        self._vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
        if embeddings and api.llama_pooling_type(self._pointer) in (api.LLAMA_POOLING_TYPE_NONE, api.LLAMA_POOLING_TYPE_RANK):
            sys.exit("the model gives no pooled vectors")
        self._width = api.llama_model_n_embd(model)
        self._batch = api.llama_batch_init(params.n_batch, 0, 1)
        self._used = 0

    def threads(self, count: int) -> None:
        """Compute with `count` threads from now on."""
        self._api.llama_set_n_threads(self._pointer, count, count)

    def clear(self) -> None:
        """Forget all tokens."""
        self._api.llama_memory_clear(self._api.llama_get_memory(self._pointer), False)
        self._used = 0

    def read(self, tokens: Sequence[int], every: bool = False) -> None:
        """Compute the tokens that follow the ones before; with the logits of the last, or of every position."""
        batch = self._fill(tokens, every)
        if self._api.llama_decode(self._pointer, batch):
            sys.exit("the model cannot be computed")
        self._used += len(tokens)

    def write(self, tokens: Sequence[int]) -> None:
        """Compute the tokens one by one, as an answer is."""
        for token in tokens:
            self.read([token])

    def logits(self, tokens: Sequence[int]) -> fidelity.Rows:
        """Logits at every position of a text, shape (len(tokens), vocabulary)."""
        self.clear()
        self.read(tokens, every=True)
        return np.ctypeslib.as_array(self._api.llama_get_logits(self._pointer), (len(tokens), self._vocabulary)).copy()

    def embed(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The text's pooled vector."""
        self._used = 0
        if self._api.llama_encode(self._pointer, self._fill(tokens, every=True)):
            sys.exit("the model cannot be computed")
        return np.ctypeslib.as_array(self._api.llama_get_embeddings_seq(self._pointer, 0), (self._width,)).copy()

    def close(self) -> None:
        """Free the context."""
        self._api.llama_batch_free(self._batch)
        self._api.llama_free(self._pointer)

    def _fill(self, tokens: Sequence[int], every: bool) -> Any:
        batch = self._batch
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index], batch.n_seq_id[index] = token, self._used + index, 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = every or index == len(tokens) - 1
        return batch


def _matrix(api: Any, rows: Mapping[str, NDArray[np.float32]]) -> Any:
    """An importance matrix as llama.cpp takes it: names and numbers, ended by an entry without a name (llama.h).

    It points to the rows' numbers, which the caller keeps.
    """
    found = (api.llama_model_imatrix_data * (len(rows) + 1))()
    for entry, (name, values) in zip(found, rows.items(), strict=False):
        entry.name, entry.size = name.encode(), len(values)
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    return found


def _load(api: Any, file: str) -> Any:
    model = api.llama_model_load_from_file(os.fsencode(file), api.llama_model_default_params())
    return model or sys.exit(1)


def _tokens(api: Any, model: Any, text: str, around: bool = False) -> list[int]:
    """The text's tokens, control tokens read as such; around: with the start and end tokens of a document."""
    raw, vocabulary = text.encode(), api.llama_model_get_vocab(model)
    needed = -api.llama_tokenize(vocabulary, raw, len(raw), None, 0, around, not around)
    if needed <= 0:
        sys.exit("the model has no tokens for a text")
    buffer = (api.llama_token * needed)()
    return list(buffer[: api.llama_tokenize(vocabulary, raw, len(raw), buffer, needed, around, not around)])


def _positions(api: Any, models: Sequence[Any], tokens: Sequence[int]) -> list[fidelity.Positions]:
    """One text under every model, beside the first."""
    found = []
    original: fidelity.Rows | None = None
    for model in models:
        context = _Context(api, model, size=len(tokens), threads=1)
        rows = fidelity.log_softmax(context.logits(tokens))
        context.close()
        original = rows if original is None else original
        found.append(fidelity.positions(original, rows, tokens))
    return found


def _speeds(
    api: Any, models: Sequence[Any], tokens: Sequence[int], rounds: int, seconds: float, threads: int
) -> list[dict[str, Any]]:
    """Prefill and decode tokens per second, the models taking turns; see `export.quantise.Speed`."""
    contexts = [_Context(api, model, size=PREFILL_TOKENS + DECODE_TOKENS, threads=threads) for model in models]
    prefill, decode = (list(tokens) * PREFILL_TOKENS)[:PREFILL_TOKENS], tokens[:DECODE_TOKENS]
    timed = _wall(0.0 if api.llama_supports_gpu_offload() else UNDISTURBED * threads, time.perf_counter() + seconds)
    quiet: list[float] = []
    for context in contexts * 2:  # the first two warm up
        context.clear()
        timed(partial(context.read, decode[:1]), quiet)
    times = _none_yet(models)
    while quiet and _turn(contexts, prefill, decode, timed, times) and _fewest(times) < rounds:
        pass
    clock = "wall"
    if _fewest(times) < min(ENOUGH, rounds):
        clock, threads, times = "CPU", 1, _none_yet(models)
        for context in contexts:
            context.threads(1)
        for _ in range(CPU_ROUNDS):
            _turn(contexts, prefill, decode, _cpu, times)
    return [
        {
            "prefill": PREFILL_TOKENS / statistics.median(reading),
            "decode": DECODE_TOKENS / statistics.median(writing),
            "threads": threads,
            "clock": clock,
        }
        for reading, writing in times
    ]


def _turn(contexts: Sequence[_Context], prefill: Sequence[int], decode: Sequence[int], timed: _Timed, times: _Times) -> bool:
    """Each model reads a prompt and writes a few tokens, and the seconds are added to `times`; False when time is up."""
    for context, (reading, writing) in zip(contexts, times, strict=True):
        context.clear()
        if not (timed(partial(context.read, prefill), reading) and timed(partial(context.write, decode), writing)):
            return False
    return True


def _none_yet(models: Sequence[Any]) -> _Times:
    return [([], []) for _ in models]


def _fewest(times: _Times) -> int:
    return min(len(kept) for pair in times for kept in pair)


def _wall(needed: float, deadline: float) -> _Timed:
    """A stopwatch that keeps a run only where the process had at least `needed` cores all the while.

    It refuses to go on past `deadline`, and on a machine that disturbs more runs than it leaves alone.
    """
    runs = {True: 0, False: 2}  # disturbed and not; two are forgiven

    def timed(work: Callable[[], None], kept: list[float]) -> bool:
        if time.perf_counter() > deadline or runs[True] > runs[False]:
            return False
        started, cpu = time.perf_counter(), time.process_time()
        work()
        elapsed = time.perf_counter() - started
        disturbed = time.process_time() - cpu < needed * elapsed
        runs[disturbed] += 1
        if not disturbed:
            kept.append(elapsed)
        return True

    return timed


def _cpu(work: Callable[[], None], kept: list[float]) -> bool:
    """A stopwatch of this thread's CPU time."""
    started = time.thread_time()
    work()
    kept.append(time.thread_time() - started)
    return True


def _keep_log(level: int, text: bytes, data: Any) -> None:
    line = text.decode("utf-8", "replace")
    _log.append(line)
    if level in _TELLING:
        sys.stderr.write(line)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
