"""llama.cpp's own converter for tests, from the sdist of llama-cpp-python that `make install-dev` puts into .venv."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gguf
import pytest

from data.errors import EngineUnavailable
from export import converter, files

HOME = Path(sys.prefix) / "llama.cpp"
PACKAGES = HOME / "packages"
Value = tuple[list[Any], Any]
Tensor = tuple[str, tuple[int, ...], bytes]


def sdist() -> Path:
    """The archive; skips the test where there is none."""
    try:
        found = HOME / f"llama_cpp_python-{converter.version()}.tar.gz"
    except EngineUnavailable as error:
        pytest.skip(str(error))
    if not found.is_file():
        pytest.skip(f"llama.cpp's converter is not here: make install-dev puts {found.name} into {HOME}")
    return found


def folder() -> Path:
    """The unpacked converter; skips the test where it is not installed."""
    target = HOME / converter.version()
    with files.lock(HOME / ".unpacking.lock"):
        return target if (target / converter.SCRIPT).is_file() else converter.unpack(sdist(), target)


def needs_sentencepiece() -> None:
    """Skip the test where the package that reads tokenizer.model for the converter is missing."""
    if not (PACKAGES / "sentencepiece").is_dir():
        pytest.skip(f"sentencepiece is not here: make install-dev puts it into {PACKAGES}")


def convert(jobs: Iterable[tuple[Path, Path, str]], pre: str = "") -> None:
    """Convert checkpoints to targets in a form each, in one child process; pre: the pre-tokenizer of vocabularies of our own."""
    program = Path(__file__).with_name("oracle_program.py")
    arguments = [str(part) for job in jobs for part in job]
    place = folder()
    environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environment |= {"HOME": str(place), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGES)}
    environment |= {"POINTSMAN_TEST_PRE": pre} if pre else {}
    done = subprocess.run(
        [sys.executable, str(program), str(place), *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def without_guesses(metadata: dict[str, Value]) -> dict[str, Value]:
    """The metadata without what the converter guesses from the words of the folder's name."""
    return {name: value for name, value in metadata.items() if name not in ("general.basename", "general.version")}


def read(path: Path) -> tuple[dict[str, Value], dict[str, Tensor]]:
    """A file's metadata with its types, and its tensors: number format, shape, bytes."""
    reader = gguf.GGUFReader(path)
    metadata = {
        name: (list(field.types), field.contents()) for name, field in reader.fields.items() if not name.startswith("GGUF.")
    }
    tensors = {one.name: (one.tensor_type.name, tuple(map(int, one.shape)), one.data.tobytes()) for one in reader.tensors}
    return metadata, tensors
