"""From the recipe's name of a base to where it lies: the catalog, a GGUF file, a folder, or the hub.

Not covered: what is in it (`gguf_base`, `checkpoint`), downloading (`hub`).
"""

from pathlib import Path
from typing import Any, Protocol

from data import catalog
from data.datasets.sources import Progress
from data.errors import InputError, ModelInvalid, ModelMissing
from data.sanitise import one_line
from trainer._base import weights
from trainer._base.checkpoint import Checkpoint
from trainer._base.gguf_base import GgufBase
from trainer._base.hub import REPOSITORY, HubBase, near
from trainer.recipe import BaseTable

Loaded = tuple[Any, Any, tuple[int, ...], tuple[str, ...]]
"""The model, its tokenizer, the stop tokens that its files name, and notes."""


class Source(Protocol):
    """A place that a base comes from."""

    def fetch(self) -> None:
        """Bring the weights to this machine, where they are not. Raises Offline, InputError, ModelMissing, ModelInvalid."""

    def identity(self) -> Any:
        """The trainer.base.Identity, without loading weights. Raises ModelInvalid."""

    def loaded(self, quantisation: str, policy: Any) -> Loaded:
        """What the source holds, in memory. Raises ModelInvalid, InputError."""

    @property
    def place(self) -> Path:
        """The GGUF file, or the folder of the checkpoint, once it is fetched."""


def resolve(table: BaseTable, progress: Progress) -> Source:
    """The source that the recipe names. Raises ModelMissing with near names, ModelInvalid for a file that is no base."""
    name = table.model
    spec = catalog.specs().get(name)
    if spec is not None:
        if spec.kind != "chat" or spec.source.format != "gguf":
            raise ModelInvalid(f"{name} is a sentence encoder, which writes no text", "choose a chat model: pointsman models list")
        return _here(GgufBase(catalog.source_file(spec), spec), table)
    path = _path(name)
    if path is not None and path.is_dir():
        return _here(Checkpoint(path, str(path)), table)
    if path is not None and path.is_file():
        return _here(_file(path), table)
    repository = name.removeprefix("hf:")
    if REPOSITORY.fullmatch(repository) and not repository.endswith(".gguf"):
        return HubBase(repository, table.revision, progress)
    raise ModelMissing(f"there is no base {one_line(name, 120)!r}", near(name))


def _path(name: str) -> Path | None:
    try:
        found = Path(name).expanduser()
        return found.resolve() if name and found.exists() else None
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelMissing(f"{one_line(name, 120)!r} is no path: {one_line(str(error), 80)}", "check the name") from error


def _here(source: Source, table: BaseTable) -> Source:
    if table.revision:
        raise InputError(f"{one_line(table.model, 120)} has no revisions", "base.revision is for ids of the hub: leave it out")
    return source


def _file(path: Path) -> Source:
    if path.suffix.lower() == ".safetensors":
        raise ModelInvalid(f"{path} is one file of a checkpoint", f"name its folder: {path.parent}")
    if weights.any_pickle([path.name]):
        raise weights.pickle_refused(str(path))
    return GgufBase(path)
