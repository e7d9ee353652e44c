"""A run, and where asked for its export, into a bundle for another machine or another person.

What goes along names no path of this machine and sends nothing anywhere; the texts of rows go only where they are asked for, and
the report is made without them. Not covered: the archive (`data.bundles`), taking one in (`unpacking`).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import bundles, catalog, exports
from data.bundles import EXPORT, RUN, Bundle, Tell
from data.errors import InputError, NotFound

if TYPE_CHECKING:
    from trainer.manifest import Manifest
    from trainer.recipe import Recipe

EXAMPLES = ("failed_cases", "failed", "changes", "broken")
"""Lists in metrics.json that hold texts of the domain's rows and cases."""
_SPARE_BYTES = 1 << 20


def packed(
    folder: Path,
    target: Path,
    *,
    name: str = "",
    gguf: Path | None = None,
    rows: bool = False,
    by: str = "",
    note: str = "",
    tell: Tell = bundles.silent,
) -> Bundle:
    """Write the run in a folder to the file `target`, under its own name or another. gguf: the folder of its export, which goes
    along; rows: with the texts of the validation rows and what was answered to them; by, note: kept as they are said.

    Raises InputError where the run was changed since or is too large, ModelInvalid where llama.cpp could not attach its adapter.
    """
    from export import adapter
    from export.files import need_space
    from trainer import manifest, run_folder

    if faults := manifest.check(folder):
        raise InputError(f"{folder.name} is not as it was left: {faults[0]}", "copy the run again, or train it again")
    came = bundles.imported(folder)
    adapter.look(folder / "adapter")
    sources: dict[str, Path | bytes] = {f"{RUN}{inside}": folder / inside for inside in _taken(folder, rows)}
    sources |= _rewritten(folder, rows)
    noted = _noted(run_folder.read(folder).manifest, sources)
    sources[f"{RUN}manifest.json"] = json.dumps(noted.model_dump(mode="json"), sort_keys=True, indent=1).encode() + b"\n"
    sources |= _exported(gguf) if gguf else {}
    need_space(target.absolute().parent, sum(_bytes(one) for one in sources.values()) + _SPARE_BYTES)
    called = bundles.require_name(name or folder.name)
    return bundles.write(target, sources, name=called, by=by or (came.by if came else ""), note=note, tell=tell)


def carried(recipe: "Recipe") -> "Recipe":
    """The recipe as it goes with a bundle: no path of this machine, nothing that sends figures elsewhere."""
    from trainer import manifest
    from trainer import recipe as recipes

    plain = manifest.portable(recipe)
    plain["tracking"] = {}
    plain["distributed"]["config"] = ""
    return recipes.validated(plain, "the recipe")


def export_of(folder: Path) -> Path:
    """The newest export of a run. Raises NotFound where there is none."""
    made = [(found.at, place) for place, found in exports.found() if found.run == folder.name]
    if not made:
        raise NotFound(f"{folder.name} was not exported", f"export it: pointsman export {folder.name}")
    return max(made)[1]


def _taken(folder: Path, rows: bool) -> Iterator[str]:
    """The run's files that go along as they are."""
    for name in (*bundles.NEEDED, f"{RUN}metrics.jsonl", *(bundles.ROWS if rows else ())):
        inside = name.removeprefix(RUN)
        if name in bundles.NEEDED or (folder / inside).is_file():
            yield inside


def _rewritten(folder: Path, rows: bool) -> Iterator[tuple[str, bytes]]:
    """The files that go along otherwise than they lie there: the recipe without paths, figures and report without texts of rows."""
    from trainer import run_folder, run_report, train
    from trainer._run.folder import as_toml

    recipe = as_toml(carried(train.recipe_of(folder)))
    yield f"{RUN}recipe.toml", recipe.encode()
    run = replace(run_folder.read(folder), recipe=recipe)
    if not rows:
        run = replace(run, metrics=_without_texts(run.metrics), predictions=(), base_predictions=(), lost=())
        yield f"{RUN}{run_folder.METRICS}", json.dumps(run.metrics, indent=1, ensure_ascii=True).encode() + b"\n"
    yield bundles.REPORT, run_report.html(run).encode("utf-8", "replace")


def _without_texts(value: Any) -> Any:
    """Figures with every list of examples emptied; their counts stay."""
    if isinstance(value, Mapping):
        return {key: [] if key in EXAMPLES and isinstance(part, list) else _without_texts(part) for key, part in value.items()}
    return [_without_texts(part) for part in value] if isinstance(value, list) else value


def _noted(noted: "Manifest", sources: Mapping[str, Path | bytes]) -> "Manifest":
    """The manifest, listing what goes along and is not made anew."""
    from trainer.manifest import FILE, Artefact

    listed = [bundles.entry(name, sources[name]) for name in sorted(sources) if name not in (f"{RUN}{FILE}", bundles.REPORT)]
    found = (Artefact(name=one.name.removeprefix(RUN), bytes=one.bytes, sha256=one.sha256) for one in listed)
    return noted.model_copy(update={"artefacts": tuple(found)})


def _exported(place: Path) -> dict[str, Path | bytes]:
    """The GGUF files of an export, and its export.json naming these alone. Raises as reading it does."""
    found = exports.read(place)
    kept = tuple(one for one in found.files if one.kind in ("model", "adapter"))
    told = found.model_copy(update={"files": kept, "ollama": "", "base": portable_base(found.base)})
    files: dict[str, Path | bytes] = {f"{EXPORT}{one.name}": place / one.name for one in kept}
    return files | {f"{EXPORT}{exports.FILE}": told.model_dump_json(indent=1).encode() + b"\n"}


def portable_base(base: exports.BaseNote) -> exports.BaseNote:
    """Named by the catalog or not at all: a path says nothing on another machine."""
    known = base.reference.removeprefix("llamacpp/") in catalog.specs()
    return base.model_copy(update={"reference": base.reference if known else ""})


def _bytes(source: Path | bytes) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size
