"""From a model's name to its file, and the list of the files that are there.

A name is one of the catalog, the path of a GGUF file, or a file's name in one of the folders of the settings. Not covered:
models split into several files, and downloading.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data import catalog
from data.catalog import ModelSpec
from data.errors import ModelError, ModelMissing
from data.sanitise import one_line
from router.engines._llamacpp import header
from router.engines.base import ModelInfo

ENGINE = "llamacpp"
_PARTIAL = re.compile(r"-\d{5}-of-\d{5}$")
_FORMS = {  # llama.h, enum llama_ftype
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """A model's file. `known`: it comes from the catalog, so it is not a stranger's file."""

    path: Path
    known: bool = False


def locate(name: str, folders: Sequence[str]) -> Found:
    """The file of the model `name`; raises ModelMissing saying what is there or what to do."""
    specs = catalog.specs()
    if name in specs:
        return Found(_catalog_file(specs[name]), known=True)
    path = Path(name).expanduser()
    if path.is_absolute() or (path.suffix == ".gguf" and path.is_file()):
        if path.is_file():
            return Found(path)
        raise ModelMissing(f"there is no model file {path}", "see: pointsman models list")
    files = list(_files(folders))
    for file in files:
        if name in (file.name, file.stem):
            return Found(file)
    near = difflib.get_close_matches(name, [*specs, *(file.stem for file in files)], n=1, cutoff=0.4)
    raise ModelMissing(
        f"llama.cpp knows no model {one_line(name)!r}", f"did you mean {near[0]!r}?" if near else "see: pointsman models list"
    )


def listing(folders: Sequence[str]) -> list[ModelInfo]:
    """The models that are there and look sound: those of the catalog first, then files by name."""
    found = []
    for spec in catalog.specs().values():
        try:
            found.append(_info(spec.name, _catalog_file(spec), spec))
        except ModelError:
            continue  # not installed or not prepared: `models list` shows the catalog itself
    names = {info.name for info in found}
    for file in _files(folders):
        if file.stem in names:
            continue
        try:
            found.append(_info(file.stem, file))
            names.add(file.stem)
        except ModelError:
            continue  # loading it says what is wrong
    return found


def _catalog_file(spec: ModelSpec) -> Path:
    prepared = catalog.prepared(spec.name)
    if prepared is not None:
        return prepared.path
    if spec.source.format == "gguf":
        return catalog.source_file(spec)
    catalog.source_file(spec)  # says what to install, where even the source is missing
    raise ModelMissing(f"the model {spec.name} is not prepared yet", "pointsman models prepare")


def _files(folders: Sequence[str]) -> Iterator[Path]:
    for folder in folders:
        path = Path(folder).expanduser()
        if path.is_dir():
            yield from sorted(file for file in path.glob("*.gguf") if not _PARTIAL.search(file.stem))


def _info(name: str, file: Path, spec: ModelSpec | None = None) -> ModelInfo:
    found = header.summary(file)
    if found.is_adapter or not found.architecture:
        raise ModelMissing(f"{file} is an adapter or part of a model", "name the model it belongs to")
    form = found.metadata.get("general.file_type")
    return ModelInfo(
        name=name,
        engine=ENGINE,
        size_bytes=found.size_bytes,
        context_tokens=spec.context if spec else found.context_tokens,
        parameters=spec.parameters if spec else one_line(found.text("general.size_label"), 20),
        quantisation=_FORMS.get(form, "") if isinstance(form, int) else "",
        family=spec.family if spec else one_line(found.architecture, 20),
        source=str(file),
    )
