"""The first load of a file that nobody vouches for, in a child process: llama.cpp aborts on some damaged files.

A file that passed is remembered by path, size and time of change, so it is tried once. Files of the catalog are not tried.
Not covered: files that are sound but wrong (a model that talks nonsense).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from data import paths
from data.errors import ModelInvalid, PointsmanError
from data.sanitise import one_line

TIMEOUT_S = 600.0
REMEMBERED = 500
_STRANGE = "a\ue000 \u00e9\u6f22\U0001f600\x00\x7f  \n\t1234567890 don't <|im_end|></s>"
_FIX = "download or convert it again"
_CHILD = "import sys; from router.engines._llamacpp.probe import main; main(sys.argv[1:])"


def ensure(path: Path, adapter: Path | None = None) -> None:
    """Return if the model, with the adapter, can be loaded and run; raises ModelInvalid saying how it fails."""
    marks = [_mark(path)] if adapter is None else [_mark(path), _mark(adapter)]
    passed = _passed()
    if marks in passed:
        return
    _try(path, adapter)
    kept = [*passed, marks][-REMEMBERED:]
    try:
        with paths.replacing(_register()) as file:
            file.write(json.dumps(kept).encode())
    except PointsmanError:
        pass  # a cache folder that cannot be written costs another trial next time, nothing else


def main(arguments: list[str]) -> None:
    """In the child: load, tokenise, compute two tokens; print the complaint and exit with 1 where that is refused."""
    from data.config import LlamaCppSettings, Sampling
    from router.engines._llamacpp.model import LoadedModel
    from router.engines._llamacpp.sampler import Sampler
    from router.engines.base import Adapter

    code = 0
    try:
        model = LoadedModel(Path(arguments[0]), LlamaCppSettings(context=128, batch=32, gpu_layers=0, threads=1), trial=True)
        model.vocab.tokenise(_STRANGE)
        adapter = Adapter(arguments[1]) if len(arguments) > 1 else None
        if not model.is_encoder:
            context = model.context(adapter)
            context.read([0, 1 % model.vocab.size])
            Sampler(model.api, context.pointer, model.vocab_pointer, Sampling()).draw()
    except PointsmanError as error:
        sys.stdout.write(error.what)
        code = 1
    sys.stdout.flush()
    os._exit(code)  # without the clean-up of a library that may be in pieces


def _try(path: Path, adapter: Path | None) -> None:
    command = [sys.executable, "-c", _CHILD, str(path), *([str(adapter)] if adapter else [])]
    what = adapter or path
    try:
        child = subprocess.run(  # noqa: S603 our own interpreter and code; the file names are arguments
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            env=os.environ | {"GGML_NO_BACKTRACE": "1"},  # else a crash starts a debugger
        )
    except subprocess.TimeoutExpired as error:
        raise ModelInvalid(f"{what} cannot be used: its trial took more than {TIMEOUT_S:.0f} s", _FIX) from error
    if child.returncode:
        said = one_line(child.stdout.decode("utf-8", "replace"), 1_000)
        raise ModelInvalid(said or f"{what} cannot be used: llama.cpp crashes on it ({_last_words(child)})", _FIX)


def _last_words(child: subprocess.CompletedProcess[bytes]) -> str:
    lines = child.stderr.decode("utf-8", "replace").splitlines()
    line = next((line for line in lines if "GGML_ASSERT" in line or "what():" in line), f"exit code {child.returncode}")
    return one_line(line[max(0, line.find("GGML_ASSERT")) :], 200)


def _mark(path: Path) -> list[str | int]:
    found = path.stat()
    return [str(path.resolve()), found.st_size, found.st_mtime_ns]


def _register() -> Path:
    return paths.cache_dir() / "models" / "tried.json"


def _passed() -> list[list[list[str | int]]]:
    try:
        found = json.loads(_register().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []
