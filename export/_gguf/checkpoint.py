"""A checkpoint's folder: its JSON files, read with caps, and its weights, in one safetensors file or in several with an index.

What is refused by name: pickles, adapters, weights that are quantised already, files that the index names and that are not there.
Not covered: what the JSON says (`metadata`, `vocabulary`).
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import paths
from data.errors import InputError, ModelInvalid, ModelMissing
from data.sanitise import one_line
from export.safetensors import Entry, Safetensors

CONFIG, INDEX, WEIGHTS = "config.json", "model.safetensors.index.json", "model.safetensors"
TOKENIZER, TOKENIZER_CONFIG, SENTENCEPIECE = "tokenizer.json", "tokenizer_config.json", "tokenizer.model"
LARGEST_BYTES = {TOKENIZER: 64 << 20, INDEX: 16 << 20}
DEFAULT_BYTES = 4 << 20
MOST_FILES = 4096
FIX = "download or convert it again"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}\.safetensors")


class Folder:
    """The files of a checkpoint beside its weights."""

    def __init__(self, path: Path) -> None:
        """Raises ModelMissing where the folder holds no config.json."""
        self.path = path
        self._parsed: dict[str, dict[str, Any]] = {}
        if not (path / CONFIG).is_file():
            if (path / "adapter_config.json").is_file():
                raise ModelInvalid(f"{path} is an adapter, not a model", "merge it into its base first: pointsman export")
            raise ModelMissing(f"there is no {CONFIG} in {path}", "name a folder with a checkpoint: config.json, *.safetensors")

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return (self.path / name).is_file()

    def json(self, name: str) -> dict[str, Any]:
        """A file that holds a table, read once. Raises ModelInvalid naming it: missing, too large, no sound JSON, no table."""
        if name not in self._parsed:
            self._parsed[name] = self._table(name)
        return self._parsed[name]

    def json_or_empty(self, name: str) -> dict[str, Any]:
        """As `json`; an empty table where there is no such file."""
        return self.json(name) if self.has(name) else {}

    def text(self, name: str) -> str:
        """A text file. Raises ModelInvalid naming it and what is wrong."""
        try:
            return paths.read_text(self.path / name, LARGEST_BYTES.get(name, DEFAULT_BYTES), f"it is no usual {name}")
        except InputError as error:
            raise ModelInvalid(error.what, error.fix) from error

    def _table(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self.text(name))
        except (ValueError, RecursionError) as error:
            raise ModelInvalid(f"{self.path / name} is not sound JSON: {one_line(str(error), 120)}", FIX) from error
        if not isinstance(found, dict):
            raise ModelInvalid(f"{self.path / name} is no table", FIX)
        return found


class Weights(Mapping[str, Entry]):
    """Every tensor of the checkpoint by name: its place and shape. The numbers are read part by part with `rows`."""

    def __init__(self, folder: Folder) -> None:
        """Raises ModelInvalid naming the file that is missing, damaged, or not of the kind that is read."""
        self._files = [Safetensors(file) for file in _files(folder)]
        self._home: dict[str, Safetensors] = {}
        for file in self._files:
            for name in file:
                if name in self._home:
                    raise ModelInvalid(f"{file.path} holds the tensor {one_line(name, 80)!r} that another file holds too", FIX)
                self._home[name] = file

    def rows(self, name: str, begin: int = 0, end: int | None = None) -> NDArray[np.float32]:
        """Rows of a tensor as float32. Raises ModelInvalid for integers and for numbers that are not finite."""
        return self._home[name].rows(name, begin, end)

    def __getitem__(self, name: str) -> Entry:
        return self._home[name].entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._home)

    def __len__(self) -> int:
        return len(self._home)


def _files(folder: Folder) -> list[Path]:
    """The weights' files; the single one is preferred to the index, as transformers does."""
    if folder.has(WEIGHTS):
        return [folder.path / WEIGHTS]
    if folder.has(INDEX):
        return _indexed(folder)
    if any(folder.path.glob("*.bin")) or any(folder.path.glob("*.pt*")):
        raise ModelInvalid(
            f"{folder.path} holds its weights as pickles, which can run code and are never loaded", "give it as safetensors"
        )
    raise ModelMissing(f"there are no weights in {folder.path}", f"it needs {WEIGHTS}, or several parts and {INDEX}")


def _indexed(folder: Folder) -> list[Path]:
    placed = folder.json(INDEX).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise ModelInvalid(f"{folder.path / INDEX} names no tensors", FIX)
    names = sorted({name for name in placed.values() if isinstance(name, str) and _PART.fullmatch(name)})
    if len(names) > MOST_FILES or not set(placed.values()) <= set(names):
        raise ModelInvalid(f"{folder.path / INDEX} names files that cannot be parts of the checkpoint", FIX)
    missing = [name for name in names if not folder.has(name)]
    if missing:
        raise ModelInvalid(f"{folder.path} lacks {missing[0]}, which its index names ({len(missing)} missing)", FIX)
    return [folder.path / name for name in names]
