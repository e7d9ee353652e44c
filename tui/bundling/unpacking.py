"""A bundle into a run folder, and an export folder, of this machine: read whole before it gets a name, and marked as imported.

It is unpacked under a hidden name, read by the parts that will use it (manifest, figures, recipe, every number of the adapter, the
heads of GGUF files), held against the base of this machine, and only then renamed: a bundle that is refused leaves nothing behind.
Its report is made again from its figures, since a page from elsewhere may hold anything. Not covered: the archive
(`data.bundles`), and what the run is worth (`trainer.proven_here`).
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import bundles, catalog, exports, paths
from data.bundles import EXPORT, RUN, Bundle, Imported, Tell
from data.errors import InputError, ModelInvalid
from data.sanitise import one_line
from tui.bundling.packing import carried, portable_base

if TYPE_CHECKING:
    from data._bundles.archive import Archive
    from trainer.manifest import Manifest
    from trainer.recipe import Recipe

_LOCK = ".imports.lock"
_STAGED = ".import-"
_DOMAIN = re.compile(r"[A-Za-z0-9_.-]{0,80}")
_SPARE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class BroughtIn:
    """What came of a bundle. run, export: their folders, None where only looked at, or where the bundle has no export; notes: what
    the user should know."""

    bundle: Bundle
    imported: Imported
    run: Path | None
    export: Path | None
    notes: tuple[str, ...]


def brought_in(file: Path, *, name: str = "", base: str = "", dry: bool = False, tell: Tell = bundles.silent) -> BroughtIn:
    """Take the bundle in a file in, under its own name or another. base: where the base of its training lies; dry: look only.

    Raises InputError where the bundle is no sound one or its name is taken, ModelInvalid where the adapter, a GGUF file or the base
    is not what it should be; then nothing is left of it.
    """
    from export.files import lock, need_space
    from trainer import run_folder

    with bundles.opened(file) as archive:
        bundle = archive.bundle
        called = bundles.require_name(name or bundle.name)
        runs, exported = paths.ensure(run_folder.runs_dir()), paths.ensure(exports.folder())
        need_space(runs, sum(one.bytes for one in bundle.files) + _SPARE_BYTES)
        with lock(runs / _LOCK), _staged(runs) as run, _staged(exported) as export:
            there = _require_free(called, archive, runs / called, exported / called)
            archive.unpack(RUN, run, tell, without=(bundles.REPORT,))
            with _named(file, run, export):
                note, notes = _settled(run, archive, file.name, base)
                if bundle.part(EXPORT):
                    archive.unpack(EXPORT, export, tell)
                    _settle_export(export, run, called, bundle)
            if dry:
                return BroughtIn(bundle, note, None, None, notes)
            places = [] if there else [(run, runs / called)]
            places += [(export, exported / called)] if bundle.part(EXPORT) else []
            _published(places)
    return BroughtIn(bundle, note, runs / called, exported / called if bundle.part(EXPORT) else None, notes)


def _require_free(called: str, archive: "Archive", run: Path, export: Path) -> bool:
    """Whether the run is there from the same bundle and only its export is missing. Raises InputError where the name is taken."""
    begun = run.with_name(f".{called}.part")
    if os.path.lexists(run):
        came = bundles.imported(run)
        same = came is not None and came.bundle == archive.digest
        if same and archive.bundle.part(EXPORT) and not os.path.lexists(export):
            return True
        if same:
            raise InputError(f"this bundle was imported already, as {called}", f"see: pointsman report {called}")
    for place in (run, begun, export):
        if os.path.lexists(place):
            raise InputError(
                f"there is a {place.name.removeprefix('.')} in {place.parent} already", "import it under another --name"
            )
    return False


def _settled(run: Path, archive: "Archive", file: str, base: str) -> tuple[Imported, tuple[str, ...]]:
    """Check an unpacked run, and make it one of this machine: the place of its base, its report, its note, its manifest."""
    from trainer import manifest, run_folder, run_report
    from trainer._run.folder import as_toml

    found = run_folder.read(run)
    noted, _ = found.manifest, (found.gates, found.classes, found.failed)  # each raises where it is none
    if faults := manifest.check(run):
        raise InputError(f"{archive.path} is not as its manifest says: {faults[0]}", "ask for the bundle again")
    recipe = _sound_recipe(run, archive.path)
    _require_adapter(run, recipe)
    recipe, here, notes = _based(recipe, noted, base)
    with paths.replacing(run / run_folder.RECIPE) as out:
        out.write(as_toml(recipe).encode())
    said = archive.bundle
    note = Imported(
        bundle=archive.digest,
        file=one_line(file, 200),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        by=said.by,
        note=said.note,
        base="same" if here else "absent",
    )
    bundles.mark(run, note)
    try:
        run_report.write(run)
    except InputError as fault:
        notes = (*notes, f"no report was made: {fault.what}")
    manifest.write(run, noted.model_copy(update={"artefacts": tuple(manifest.artefacts(run))}))
    return note, notes


def _sound_recipe(run: Path, path: Path) -> "Recipe":
    from trainer import train

    found = train.recipe_of(run)
    if carried(found) != found or not _DOMAIN.fullmatch(found.domain):
        raise InputError(f"the recipe in {path} names files of a machine, or sends figures elsewhere", "ask for the bundle again")
    return found


def _require_adapter(run: Path, recipe: "Recipe") -> None:
    """Raise ModelInvalid where the adapter is none that may be attached, or another than its recipe says."""
    from export import adapter

    found = adapter.look(run / "adapter")
    said, lora = (found.rank, found.alpha), (recipe.lora.rank, float(recipe.lora.alpha))
    if said != lora:
        raise ModelInvalid(
            f"its adapter has rank and alpha {said[0]} and {said[1]:g}, its recipe {lora[0]} and {lora[1]:g}", "ask for it again"
        )


def _based(recipe: "Recipe", noted: "Manifest", given: str) -> tuple["Recipe", bool, tuple[str, ...]]:
    """The recipe with the base where it lies here, whether it was found, and notes. Raises ModelInvalid where it is another."""
    from trainer import base as bases

    wanted = noted.base
    if not re.fullmatch(r"[0-9a-f]{64}", wanted.sha256):
        raise InputError("its manifest does not say on which base it was trained", "ask for the bundle again")
    if given:
        place = Path(given).expanduser()
        model = str(place.absolute()) if place.exists() else given
        recipe = recipe.model_copy(update={"base": recipe.base.model_copy(update={"model": model, "revision": ""})})
    elif recipe.base.model not in catalog.specs():  # no name of a bundle's choice is opened here, nor asked for on the network
        shown = one_line(wanted.source, 80)
        return recipe, False, (f"its base {shown} was not looked for; where it lies: pointsman bundle import --base FOLDER",)
    found = bases.look(recipe.base)
    if found.sha256 != wanted.sha256:
        here = f"{one_line(recipe.base.model, 80)} here is {found.sha256[:16]}…"
        raise ModelInvalid(
            f"the adapter was trained on {one_line(wanted.source, 80)} {wanted.sha256[:16]}…, and {here}",
            "name the base that it was trained on: --base",
        )
    return recipe, True, ()


def _settle_export(export: Path, run: Path, called: str, bundle: Bundle) -> None:
    """Check an unpacked export, and write its export.json anew: under its name here, and with nothing verified yet."""
    from trainer import manifest

    found = exports.read(export)
    files = {one.name.removeprefix(EXPORT): one for one in bundle.part(EXPORT) if one.name != f"{EXPORT}{exports.FILE}"}
    if {one.name for one in found.files} != set(files):
        raise InputError("its export.json names other files than the bundle has", "ask for the bundle again")
    for one in found.files:
        _require_gguf(export / one.name, one, files[one.name])
    noted = manifest.read(run)
    if found.base.sha256 != noted.base.sha256:
        raise ModelInvalid("its export was made for another base than its run was trained on", "ask for the bundle again")
    unproven = tuple(
        one.model_copy(update={"passed": None, "value": None, "limit": None, "note": "the bundle says so; not checked here"})
        for one in found.checks
    )
    changed: dict[str, Any] = {
        "name": called,
        "run": called,
        "domain": str(noted.recipe.get("domain") or ""),
        "checks": unproven,
        "figures": {},
        "ollama": "",
        "base": portable_base(found.base),
    }
    with paths.replacing(export / exports.FILE) as out:
        out.write(found.model_copy(update=changed).model_dump_json(indent=1).encode() + b"\n")


def _require_gguf(path: Path, told: exports.File, entry: bundles.Entry) -> None:
    from router.engines._llamacpp import header

    if (told.bytes, told.sha256) != (entry.bytes, entry.sha256) or told.kind not in ("model", "adapter"):
        raise InputError(f"its export.json says something else of {one_line(told.name, 80)}", "ask for the bundle again")
    if header.check(path).is_adapter != (told.kind == "adapter"):
        raise ModelInvalid(f"{one_line(told.name, 80)} is no {told.kind}", "ask for the bundle again")


@contextmanager
def _named(file: Path, *staged: Path) -> Iterator[None]:
    """Let faults name the bundle, not the hidden folders that it is unpacked in."""
    try:
        yield
    except (InputError, ModelInvalid) as fault:
        what = fault.what
        for folder in staged:
            what = what.replace(f"{folder}/", f"{file}: ")
        raise type(fault)(what, fault.fix if what == fault.what else "ask for the bundle again") from fault


@contextmanager
def _staged(parent: Path) -> Iterator[Path]:
    """A hidden folder, gone afterwards unless it was renamed; what a killed import left goes first. The caller holds the lock."""
    for remains in parent.glob(f"{_STAGED}*/"):
        shutil.rmtree(remains, ignore_errors=True)
    try:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=_STAGED))
    except OSError as error:
        raise InputError(f"cannot write {parent}: {error.strerror or error}", "free space, or make it writable") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _published(places: list[tuple[Path, Path]]) -> None:
    """Rename all, or none."""
    done: list[Path] = []
    try:
        for made, target in places:
            paths.sync_folder(made)
            os.rename(made, target)
            done.append(target)
            paths.sync_folder(target.parent)
    except OSError as error:
        for target in done:
            shutil.rmtree(target, ignore_errors=True)
        raise InputError(
            f"cannot write {places[len(done)][1]}: {error.strerror or error}", "free space, or another --name"
        ) from error
