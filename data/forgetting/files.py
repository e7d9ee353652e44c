"""Every file below Pointsman's folders: which hold what is looked for, and what has to become of each.

    config, data, log   texts are cleared, rows of datasets and of packs' examples dropped; archives that hold something are removed
    cache               a file that holds something is removed, since it can be made again
Models from elsewhere are passed over: what they know, nobody here told them. Symbolic links are not followed. Not covered: the
store's own files (data.store.doomed), which models were trained on it (trained.py), writing (journal.py).
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data import paths
from data.forgetting import _containers, _headers, _texts
from data.forgetting.wanted import Wanted
from data.store import sqlite_file

How = Literal["rows", "texts", "removed", "left"]
Tell = Callable[[str, int, int], object]
"""What is being done, and how far: files done of files in all."""

FOLDER = "forgetting"
"""In the data folder: journals of forgettings under way, and the record of those that are done."""
STAGED = ".forgetting-"
"""In the name of a file that waits to take another's place."""
_READERS: dict[str, _texts.Reader] = {
    ".jsonl": _texts.json_lines,
    ".ndjson": _texts.json_lines,
    ".json": _texts.json_value,
    ".csv": _texts.delimited,
    ".tsv": _texts.delimited,
    ".toml": _texts.toml,
    ".html": _texts.markup,
    ".htm": _texts.markup,
    ".svg": _texts.markup,
    ".xml": _texts.markup,
    ".parquet": _containers.parquet,
}
_WEIGHTS = (".gguf", ".safetensors", ".pt", ".pth", ".bin")
_ARRAYS = (".npz", ".npy")
_ARCHIVES = (".zip", ".gz", ".bz2", ".xz", ".tar", ".tgz")
_VOCABULARIES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_DROPPED = ("rows.json", "golden.json")
"""JSON files whose lists are rows: those that the router was fitted on."""


@dataclass(frozen=True, slots=True)
class Touched:
    """A file that holds something. how: what becomes of it; count: rows, texts or 1; why: where it is left, what is to be done."""

    path: Path
    how: How
    count: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Folders:
    """Where to look. roots: Pointsman's own folders; beside: files and folders elsewhere that were named; store: its file."""

    roots: tuple[Path, ...]
    beside: tuple[Path, ...] = ()
    store: Path | None = None

    @classmethod
    def of(cls, store: Path | None, beside: Sequence[Path] = ()) -> "Folders":
        """All of POINTSMAN_HOME where that is set, else the four folders."""
        home = os.environ.get("POINTSMAN_HOME")
        four = (paths.config_dir(), paths.data_dir(), paths.cache_dir(), paths.log_dir())
        roots = (Path(home).expanduser().absolute(),) if home else tuple(dict.fromkeys(four))
        return cls(roots, tuple(one.absolute() for one in beside), store)

    def inside(self, path: Path) -> bool:
        """Whether it lies in one of Pointsman's own folders."""
        return any(path.is_relative_to(root) for root in self.roots)

    def files(self) -> list[Path]:
        """Every file to look at, each once, in the order of their paths."""
        found = {file for root in (*self.roots, *self.beside) for file in _walk(root)}
        return sorted(file for file in found if not self._passed_over(file))

    def folders(self) -> Iterator[Path]:
        """Every folder below the roots."""
        for root in self.roots:
            for place, names, _ in os.walk(root):
                yield from (Path(place) / name for name in names)

    def _passed_over(self, file: Path) -> bool:
        if self.store is not None and file.name.startswith(self.store.name) and file.parent == self.store.parent:
            return file not in sqlite_file.backups(self.store)
        if file.parent == paths.data_dir() / FOLDER and file.suffix != ".jsonl":
            return True
        if file.name in _VOCABULARIES:
            return True
        cache = paths.cache_dir()
        return file.is_relative_to(cache / "llama.cpp") or (file.is_relative_to(cache / "models") and file.suffix != ".json")


def look(path: Path, wanted: Wanted, folders: Folders) -> Touched | None:
    """What has to become of a file; None where it holds nothing."""
    try:
        if folders.store is not None and path in sqlite_file.backups(folders.store):
            return Touched(path, "removed", 1, "a copy from before a migration")
        if path.is_relative_to(paths.cache_dir()):
            return Touched(path, "removed", 1, "it can be made again") if _holds(path, wanted) else None
        return _weights(path, wanted) if path.suffix in _WEIGHTS else _file(path, wanted)
    except _texts.TooLarge:
        return Touched(path, "left", 0, f"it was not searched: it is larger than {_texts.LARGEST_BYTES >> 20} MB")
    except FileNotFoundError:  # gone meanwhile
        return None
    except OSError as error:
        return Touched(path, "left", 0, f"it could not be searched: {error.strerror or error}")


def parts(path: Path, wanted: Wanted) -> _texts.Parts:
    """The file as it has to be, with the hits of each piece. Raises as the readers do."""
    reader = _READERS.get(path.suffix.lower(), _texts.plain)
    yield from reader(path, wanted, drops(path))


def rows(path: Path, wanted: Wanted) -> int:
    """How many rows of a file hold it, wherever the file lies. Raises OSError, TooLarge and what the readers raise."""
    return sum(hits for _, hits in _READERS.get(path.suffix.lower(), _texts.plain)(path, wanted, True))


def drops(path: Path) -> bool:
    """Whether rows of this file are dropped as a whole: a run's own, an export's and a journal's are not, nor settings.

    The nearest folder decides that is one of something: a dataset within a run's folder is a dataset.
    """
    if path.suffix == ".json":
        return path.name in _DROPPED
    if path.suffix not in _READERS or path.suffix == ".toml":
        return False
    if _READERS[path.suffix] is _texts.markup:  # a dataset's card shows rows, other pages do not
        return is_dataset(path.parent)
    for folder in list(path.parents)[:4]:
        if is_dataset(folder):
            return True
        if _keeps_rows(folder):
            return False
    return True


def is_dataset(folder: Path) -> bool:
    """Whether it is a folder that `pointsman data build` made."""
    file = folder / "manifest.json"
    told = json_of(file) if file.is_file() else {}
    return "counts" in told and "files" in told


def _keeps_rows(folder: Path) -> bool:
    """A folder of a run, of an export, or of something under way, whose figures belong to its rows."""
    if any((folder / name).is_file() for name in ("export.json", "state.json")):
        return True
    if (folder / "recipe.toml").is_file() and (folder / "manifest.json").is_file():
        return True
    return folder in (paths.data_dir() / FOLDER, paths.log_dir())


def _file(path: Path, wanted: Wanted) -> Touched | None:
    suffix = path.suffix.lower()
    if suffix in _READERS or (suffix not in (*_ARCHIVES, *_ARRAYS) and is_text(path)):
        try:
            hits = sum(hits for _, hits in parts(path, wanted))
        except ImportError as error:
            return Touched(path, "left", 0, f"it was not searched: that needs {error.name}")
        except ValueError as error:  # pyarrow's faults are ValueErrors
            return Touched(path, "left", 0, f"it could not be read: {error}") if _containers.holds(path, wanted) else None
        if not hits:
            return None
        if _leftover(path):
            return Touched(path, "removed", 1, "what a killed process left")
        return Touched(path, "rows" if drops(path) else "texts", hits)
    if not _containers.holds(path, wanted):
        return None
    if suffix in _ARCHIVES or _leftover(path):
        return Touched(path, "removed", 1, "an archive that holds it")
    return Touched(path, "left", 1, "it is not of a kind that Pointsman writes: remove it yourself")


def _weights(path: Path, wanted: Wanted) -> Touched | None:
    try:
        held = any(map(wanted.found, _headers.texts(path)))
    except _headers.Unreadable:
        held = _containers.holds(path, wanted)
    return Touched(path, "left", 1, "the text stands in the metadata of weights: remove the model with --models") if held else None


def _holds(path: Path, wanted: Wanted) -> bool:
    if path.suffix in _WEIGHTS:
        return _weights(path, wanted) is not None
    suffix = path.suffix.lower()
    if suffix in _READERS and suffix != ".parquet" and is_text(path):
        return any(hits for _, hits in _READERS[suffix](path, wanted, True))
    return _containers.holds(path, wanted)


def is_text(path: Path) -> bool:
    """Whether a file begins as text does: UTF-8 without NUL."""
    with path.open("rb") as file:
        head = file.read(4096)
    if b"\0" in head or head[:4] in (_containers.ZIP, b"GGUF", _containers.PARQUET):
        return False
    try:
        head[: len(head) - 3 if len(head) == 4096 else None].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4
    return True


def _leftover(path: Path) -> bool:
    """A temporary file of `paths.replacing`: `.name.xxxxxxxx`."""
    return path.name.startswith(".") and path.name.count(".") >= 2 and len(path.suffix) == 9


def _walk(root: Path) -> Iterator[Path]:
    if root.is_file() and not root.is_symlink():
        yield root
    for place, _, names in os.walk(root):
        for name in names:
            file = Path(place) / name
            if file.is_file() and not file.is_symlink():
                yield file


def json_of(path: Path) -> dict[str, object]:
    """A JSON object of a small file; {} where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
