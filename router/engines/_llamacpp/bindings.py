"""The C interface of llama.cpp (the package llama-cpp-python), loaded once and lean, with its log kept in memory.

Only the binding module is imported, not the package around it, whose chat formats and caches would cost a tenth of a
second before every first answer. Nothing of llama.cpp's log reaches stdout or stderr. Not covered: the high-level Llama.
"""

import importlib.util
import os
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from data.errors import EngineUnavailable

PACKAGE = "llama_cpp"
_WARNING = 3  # GGML_LOG_LEVEL_WARN, ggml.h
_ERROR = 4
_CONTINUED = 5  # GGML_LOG_LEVEL_CONT: the line before goes on

_lock = threading.Lock()
_loaded: list[Any] = []
_log: deque[tuple[int, str]] = deque(maxlen=64)
_interrupts: list[KeyboardInterrupt] = []


def api() -> Any:
    """The module llama_cpp.llama_cpp, initialised; raises EngineUnavailable where it is not installed or cannot load."""
    if _loaded:
        return _loaded[0]
    with _lock:
        if not _loaded:
            module = _import("llama_cpp")
            callback = module.llama_log_callback(_keep)
            module.llama_log_set(callback, None)
            module.llama_backend_init()
            _loaded[:] = [module, callback, module.llama_progress_callback(_go_on)]  # callbacks must outlive every call
        return _loaded[0]


def part(name: str) -> Any:
    """Another module of the package, loaded in the same lean way."""
    api()
    with _lock:
        return _import(name)


def hear() -> None:
    """Take the log again: importing the whole package elsewhere would have sent it to stderr."""
    api().llama_log_set(_loaded[1], None)


def progress() -> Any:
    """The callback for loading a model, which ends the load when Ctrl-C is pressed; `raise_interrupt` afterwards."""
    api()
    return _loaded[2]


def forget_log() -> None:
    """Empty the kept log, before a call whose complaints matter."""
    _log.clear()


def last_complaint() -> str:
    """The last error line of llama.cpp's log, else the last warning, without its function name; "" where there is none."""
    for wanted in (_ERROR, _WARNING):
        lines = [text.strip() for level, text in tuple(_log) if level == wanted and text.strip()]
        if lines:
            line = next((line for line in reversed(lines) if "failed to load model" not in line), lines[-1])
            function, colon, rest = line.partition(": ")
            return rest if colon and " " not in function else line
    return ""


@contextmanager
def written() -> Iterator[list[str]]:
    """What C code writes to stderr by itself in the meantime, in the list afterwards; for the calls that are known to."""
    said: list[str] = []
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        before = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            yield said
        finally:
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            said.append(file.read(2_000).decode("utf-8", "replace"))


def raise_interrupt() -> None:
    """Raise the Ctrl-C that arrived inside a callback, where it could not be raised."""
    if _interrupts:
        raise _interrupts.pop()


def _keep(level: int, text: bytes, user_data: Any) -> None:
    try:
        if level == _CONTINUED and _log:
            previous, begun = _log.pop()
            _log.append((previous, (begun + text.decode("utf-8", "replace"))[:500]))
        elif level in (_WARNING, _ERROR):
            _log.append((level, text[:500].decode("utf-8", "replace")))
    except KeyboardInterrupt as interrupt:
        _interrupts.append(interrupt)


def _go_on(done: float, user_data: Any) -> bool:
    try:
        return not _interrupts
    except KeyboardInterrupt as interrupt:
        _interrupts.append(interrupt)
        return False


def _import(name: str) -> Any:
    full = f"{PACKAGE}.{name}"
    # libgomp's threads spin 300,000 times at each barrier unless told less: beside any other work on the same cores that
    # halves the speed of two threads, and giving up early costs an idle machine 3 % at most (measured, docs/experiments.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        if PACKAGE in sys.modules or full in sys.modules:
            return sys.modules.get(full) or import_module(full)
        return _import_lean(full)
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineUnavailable(f"llama.cpp cannot be loaded: {error}", "pip install --force-reinstall llama-cpp-python") from error


def _import_lean(full: str) -> Any:
    """Import one module of the package without running the package's __init__; a later full import still works."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("the package llama-cpp-python is not installed")
    stand_in = ModuleType(PACKAGE)
    stand_in.__path__ = list(spec.submodule_search_locations)
    sys.modules[PACKAGE] = stand_in
    try:
        return import_module(full)
    finally:
        if sys.modules.get(PACKAGE) is stand_in:
            del sys.modules[PACKAGE]
