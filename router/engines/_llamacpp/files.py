"""From a model's name to its file, and the list of the files that are there.

A name is one of the catalog, the path of a GGUF file, an export, a file's name in one of the folders of the settings, or a base and
an export with a plus between them: the base with the export's adapter attached. Not covered: models split into several files, and
downloading.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data import catalog
from data.catalog import ModelSpec
from data.errors import ModelError, ModelInvalid, ModelMissing
from data.sanitise import one_line
from router.engines._llamacpp import exported, header
from router.engines._llamacpp.exported import PLUS, Offer, Promise
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
    """A model's file. known: it comes from the catalog, so it is not a stranger's file.

    adapter: attached to it; promises: what an export says of the files, to be kept before they are used; offer: that export;
    sources: digests of what a model of the catalog was made from, by any of which an adapter may name it.
    """

    path: Path
    known: bool = False
    adapter: Path | None = None
    promises: tuple[Promise, ...] = ()
    sources: tuple[str, ...] = ()
    offer: Offer | None = None

    def keep(self) -> None:
        """Raise ModelInvalid where a file is not what its export says."""
        for promise in self.promises:
            promise.keep()


def locate(name: str, folders: Sequence[str]) -> Found:
    """The file of the model `name`; raises ModelMissing saying what is there or what to do, ModelInvalid for an unsound export."""
    specs = catalog.specs()
    if name in specs:
        return _of_catalog(specs[name])
    path = Path(name).expanduser()
    if path.is_absolute() or (path.suffix == ".gguf" and path.is_file()):
        if path.is_file():
            return Found(path)
        if PLUS not in name:
            raise ModelMissing(f"there is no model file {path}", "see: pointsman models list")
    offer = exported.offer(name)
    if offer is not None:
        promise = offer.model()
        return Found(promise.path, promises=(promise,), offer=offer)
    files = list(_files(folders))
    for file in files:
        if name in (file.name, file.stem):
            return Found(file)
    base, plus, export = name.rpartition(PLUS)
    offer = exported.offer(export) if plus else None
    if offer is not None:
        return _attached(base, offer, folders)
    known = [*specs, *(file.stem for file in files), *_exports(folders)]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    raise ModelMissing(
        f"llama.cpp knows no model {one_line(name)!r}", f"did you mean {near[0]!r}?" if near else "see: pointsman models list"
    )


def listing(folders: Sequence[str]) -> list[ModelInfo]:
    """The models that are there and look sound: those of the catalog first, then exports, then files by name."""
    found = {}
    for spec in catalog.specs().values():
        try:
            found[spec.name] = _info(spec.name, _catalog_file(spec), spec)
        except ModelError:
            continue  # not installed or not prepared: `models list` shows the catalog itself
    for name in _exports(folders):
        try:
            found.setdefault(name, _exported(name, folders))
        except ModelError:
            continue
    for file in _files(folders):
        if file.stem in found:
            continue
        try:
            found[file.stem] = _info(file.stem, file)
        except ModelError:
            continue  # loading it says what is wrong
    return list(found.values())


def _exports(folders: Sequence[str]) -> Iterator[str]:
    """The names of what exports offer, whether or not it can be used."""
    for offer in exported.offers():
        if offer.export.model() is not None:
            yield offer.name
        base = offer.export.base.reference.removeprefix(f"{ENGINE}/")
        if offer.export.adapter is not None and base:
            yield f"{base}{PLUS}{offer.name}"


def _exported(name: str, folders: Sequence[str]) -> ModelInfo:
    found = locate(name, folders)
    base = name.rpartition(PLUS)[0] if found.adapter else name
    info = _info(base, found.path, catalog.specs().get(base))
    if found.adapter is None:
        return info
    size = info.size_bytes + header.summary(found.adapter).size_bytes
    return replace(info, name=name, size_bytes=size, source=str(found.adapter))


def _attached(base: str, offer: Offer, folders: Sequence[str]) -> Found:
    """The base with the export's adapter; raises ModelInvalid where the adapter was made for another one."""
    adapter = offer.adapter()
    model = locate(base, folders)
    if model.adapter is not None:
        raise ModelInvalid(f"{one_line(base)} has an adapter already", "name the base alone, and one adapter")
    wanted = offer.export.base
    words = f"the adapter of {offer.name} was made for {one_line(wanted.source, 80)}, and {one_line(base, 80)} is another model"
    promises = (adapter, *model.promises)
    if not model.known:
        promises = (*promises, Promise(model.path, wanted.sha256, words))
    elif wanted.sha256 not in model.sources:
        raise ModelInvalid(words, "use the base it was made for, or the merged model of the export")
    return Found(model.path, model.known, adapter.path, promises, offer=offer)


def _of_catalog(spec: ModelSpec) -> Found:
    prepared = catalog.prepared(spec.name)
    made = (prepared.sha256, prepared.source_sha256) if prepared else ()
    return Found(_catalog_file(spec), known=True, sources=(spec.source.sha256, *made))


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
