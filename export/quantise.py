"""Quantising GGUF files with llama.cpp, and measuring models, in a child process that may crash without harm to ours.

ggml aborts the whole process on some damaged files and some shapes, so nothing of it runs here: `quantise`, `measure` and
`embed` start `python -m export.child`, hand it one task and read one JSON value back. The child ends when we do. Not
covered: collecting importance matrices (`export.imatrix`), split files, and which form to choose (`export.choose`).
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import EngineUnavailable, InputError, ModelInvalid
from data.sanitise import one_line
from export import imatrix as importance
from export.fidelity import Figures
from export.files import need_space, whole_file
from router.engines._llamacpp import header

FORMS = {
    "F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25, "BF16": 32, "F32": 0,
}  # fmt: skip
"""llama.h, enum llama_ftype."""
_GROWTH = {"F16": 4.0, "BF16": 4.0, "F32": 8.0}  # of the source's size, at most, when it is quantised to 4 bits; otherwise 2
_KEPT = ("PATH", "HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "VIRTUAL_ENV")
UNAVAILABLE = 69  # the child's exit code where llama.cpp cannot be loaded: sysexits.h, EX_UNAVAILABLE
_ABORTS = ("GGML_ASSERT", "what():")
_NOISE = ("failed to load model",)  # what llama.cpp says after the reason
_PREFIX = re.compile(r"^(llama_\w+: |failed to quantize: |error loading model: )+")


@dataclass(frozen=True, slots=True)
class Fallback:
    """A tensor whose rows do not suit the wanted number format, and the one it got instead."""

    tensor: str
    wanted: str
    used: str


@dataclass(frozen=True, slots=True)
class Quantised:
    """What `quantise` wrote, in how many seconds, and which tensors could not have the form's number format."""

    form: str
    size_bytes: int
    seconds: float
    fallbacks: tuple[Fallback, ...]


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second: the median of undisturbed runs on `threads` threads.

    clock: "wall", or "CPU" where other work took too much of the machine: then CPU seconds of one thread, which hardly notice.
    """

    prefill: float
    decode: float
    threads: int
    clock: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """Sentence vectors as computed, one row a text, and CPU milliseconds of one thread for a text (the median)."""

    vectors: list[list[float]]
    ms: float


def quantise(source: Path, target: Path, form: str, threads: int = 0, imatrix: Path | None = None) -> Quantised:
    """Write the GGUF file `source` in another form to `target`; threads 0: one per core. The same input gives the same bytes.

    imatrix: a file of `export.imatrix`, by which the numbers of a row are rounded so that what matters most stays most exact.
    A source that is quantised already is taken too. Raises InputError for an unknown form and for a lack of space,
    ModelInvalid with llama.cpp's last words where it cannot read or convert the source, and where the importance matrix is not
    this model's; `target` is then as it was before.
    """
    if form not in FORMS:
        raise InputError(f"there is no form {form!r}", f"choose one of {', '.join(FORMS)}")
    _check_gguf(source)
    if imatrix is not None:
        _check_matrix(imatrix, source)
    need_space(target.parent, int(source.stat().st_size * _GROWTH.get(form, 2.0)))
    started = time.perf_counter()
    with whole_file(target) as temporary:
        fallbacks = in_child(
            "quantise",
            f"{source} cannot be quantised to {form}",
            source=str(source),
            target=str(temporary),
            form=form,
            threads=threads,
            importance=str(imatrix or ""),
        )
    seconds = time.perf_counter() - started
    return Quantised(form, target.stat().st_size, seconds, tuple(Fallback(*each) for each in fallbacks))


def measure(
    files: Sequence[Path], texts: Sequence[str | Sequence[int]], rounds: int = 3, seconds: float = 3.0, threads: int = 0
) -> list[tuple[Figures, Speed | None]]:
    """Figures of each file beside the first, the original, and its speed; rounds 0: no speeds. texts: or their tokens.

    The files take turns, so that what else the machine does meets them alike; timing ends after `rounds` undisturbed turns,
    and after `seconds` at the latest. Raises ModelInvalid where a file cannot be loaded or run.
    """
    for file in files:
        _check_gguf(file)
    names = [str(file) for file in files]
    what = f"{' and '.join(file.name for file in files)} cannot be measured"
    given = [text if isinstance(text, str) else [int(token) for token in text] for text in texts]
    rows = in_child("measure", what, files=names, texts=given, rounds=rounds, seconds=seconds, threads=threads)
    return [(Figures(**row["figures"]), Speed(**row["speed"]) if row["speed"] else None) for row in rows]


def embed(files: Sequence[Path], texts: Sequence[str], rounds: int = 3) -> list[Embedded]:
    """The vectors that each encoder computes, text by text on one thread, with its speed. Raises ModelInvalid."""
    for file in files:
        _check_gguf(file)
    what = f"{' and '.join(file.name for file in files)} cannot be run"
    rows = in_child("embed", what, files=[str(file) for file in files], texts=list(texts), rounds=rounds)
    return [Embedded(**row) for row in rows]


def _check_gguf(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelInvalid(f"{path} cannot be read: {error.strerror or error}", "check its name and its rights") from error
    if magic != b"GGUF":
        raise ModelInvalid(f"{path} is not a GGUF file", "download or convert it again")


def _check_matrix(matrix: Path, source: Path) -> None:
    """Raises ModelInvalid where a row of the matrix belongs to no tensor, or is not as long as the tensor's rows are."""
    tensors = header.check(source).tensors
    for name, values in importance.read(matrix).items():
        shape = tensors.get(name)
        wanted = shape[0] * (shape[2] if len(shape) > 2 else 1) if shape else 0  # of experts each has a row of its own
        if wanted != len(values):
            said = f"{len(values)} numbers for {one_line(name, 80)}, which has rows of {wanted}" if shape else one_line(name, 80)
            raise ModelInvalid(
                f"{matrix} is no importance matrix of {source}: it has {said}{'' if shape else ', which is not in there'}",
                "collect it again on this model",
            )


def in_child(task: str, what: str, **arguments: Any) -> Any:
    """The task's JSON value. `what` begins the message of the ModelInvalid that its failure becomes."""
    command = [sys.executable, "-P", "-m", "export.child"]
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=answer, stderr=log, env=_environment())  # noqa: S603 our own
        try:
            assert child.stdin is not None  # noqa: S101 a pipe was asked for
            with contextlib.suppress(BrokenPipeError):  # it failed at once, and its log says why
                child.stdin.write(json.dumps({"task": task, "arguments": arguments}).encode() + b"\n")
                child.stdin.flush()
            child.wait()
        finally:
            child.kill()
            with contextlib.suppress(BrokenPipeError):
                child.communicate()
        answer.seek(0)
        log.seek(0)
        if child.returncode:
            raise _failure(what, child.returncode, log.read().decode("utf-8", "replace"))
        return json.loads(answer.read())


def _environment() -> dict[str, str]:
    """What a Python with native libraries needs, and this package first on its path; `-P` keeps the working folder off it."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    folders = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, folders)), "PYTHONUTF8": "1", "GGML_NO_BACKTRACE": "1"}


def _failure(what: str, code: int, log: str) -> ModelInvalid | EngineUnavailable:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if code == UNAVAILABLE:
        return EngineUnavailable(one_line(lines[-1], 300), "pip install llama-cpp-python")
    aborts = [line[max(line.find(mark) for mark in _ABORTS) :] for line in lines if any(mark in line for mark in _ABORTS)]
    telling = aborts or [line for line in lines if not any(noise in line for noise in _NOISE)] or lines or ["it says nothing"]
    last = one_line(_PREFIX.sub("", telling[-1]), 300)
    how = f"llama.cpp crashed (signal {-code}): " if code < 0 else ""
    return ModelInvalid(f"{what}: {how}{last}", "download or convert it again")
