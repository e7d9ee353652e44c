"""From an export to a version of the registry: what it was made of and what its run proved, read from the folders that tell it.

Also used by the verbs that promote by themselves. Not covered: the gates, which are the registry's.
"""

import getpass
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import bundles, exports
from data.errors import InputError, NotFound, PointsmanError
from data.sanitise import one_line
from data.store.versions import Evidence, Gate, Lineage

if TYPE_CHECKING:
    from data.exports import Export
    from data.store import Store
    from data.store.versions import Version
    from trainer.run_folder import RunFolder

PROVEN_HERE = "proven here"
"""The gate of versions whose run came in a bundle."""


def user() -> str:
    """Who asks for a change, as the system knows them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "user"


def registered(store: "Store", name: str, *, who: str, domain: str = "", why: str = "") -> "Version":
    """The version of that export (a name or a folder), taken into the registry where it is new; else the version called so.

    Raises NotFound where neither an export nor a version is called so, and as `Registry.register`.
    """
    folder = Path(name).expanduser() if os.sep in name else exports.folder() / name
    if not (folder / exports.FILE).is_file():
        return store.registry.get(name, domain)
    export = exports.read(folder)
    lineage, evidence = told(export)
    version = store.registry.register(folder, lineage=lineage, evidence=evidence, who=who, why=why, domain=domain)
    if version.evidence != evidence and any(gate.name == PROVEN_HERE for gate in evidence.gates):
        version = store.registry.measured(version.id, evidence, who=who, why="measured on this machine")
    return version


def told(export: "Export") -> tuple[Lineage, Evidence]:
    """What an export's run tells; where the run is gone or damaged, the gate `run folder` says so and fails."""
    from trainer import run_folder

    bare = Lineage(run=export.run, base=export.base.source, base_sha256=export.base.sha256, exported=export.at)
    try:
        folder = run_folder.find(export.run) if export.run else None
        run = run_folder.read(folder) if folder else None
    except (NotFound, InputError) as fault:
        return bare, Evidence(gates=(Gate("run folder", False, note=one_line(str(fault), 300)),))
    if run is None:
        return bare, Evidence(gates=(Gate("run folder", False, note="the export names no run"),))
    try:
        return _lineage(run, export), _evidence(run, export)
    except InputError as fault:  # a damaged note of an import
        return bare, Evidence(gates=(Gate("run folder", False, note=one_line(str(fault), 300)),))


def _lineage(run: "RunFolder", export: "Export") -> Lineage:
    note = run.manifest
    return Lineage(
        run=run.folder.name,
        run_hash=note.hash8,
        base=note.base.source,
        base_sha256=note.base.sha256,
        dataset_sha256=note.data.sha256,
        rows=note.data.train,
        corrections=_corrections(run.folder),
        parent=note.parent,
        exported=export.at,
    )


def _evidence(run: "RunFolder", export: "Export") -> Evidence:
    from trainer import manifest

    faults = manifest.check(run.folder)
    same = run.manifest.base.sha256 == export.base.sha256
    files = (
        Gate("run folder", not faults, note="; ".join(faults[:3])),
        Gate("base", same, note="" if same else "the export was made for another base than the run's"),
    )
    if came := bundles.imported(run.folder):
        return _of_imported(run, came, files)
    passed = run.manifest.results.get("passed")
    return _told(run, passed, (*files, *_gates(run, "run")))


def _of_imported(run: "RunFolder", came: bundles.Imported, files: tuple[Gate, ...]) -> Evidence:
    """What was measured here, and of what the bundle says nothing."""
    from trainer import proven_here

    proven = proven_here.read(run)
    if proven is None:
        note = f"{came.words}; measure it: pointsman bundle prove {run.folder.name}"
        return Evidence(gates=(*files, Gate(PROVEN_HERE, False, note=note)))
    return _told(proven, proven.proof.get("passed"), (*files, Gate(PROVEN_HERE, True, note=came.words), *_gates(proven, "here")))


def _told(run: "RunFolder", passed: object, gates: tuple[Gate, ...]) -> Evidence:
    pairs, gain, lower = _proof(run)
    return Evidence(passed if isinstance(passed, bool) else None, gates, pairs, gain, lower)


def _gates(run: "RunFolder", whose: str) -> tuple[Gate, ...]:
    return tuple(Gate(f"{whose}: {one.name}", one.passed, one.reached, one.limit, one.note) for one in run.gates)


def _proof(run: "RunFolder") -> tuple[int, float, float]:
    """Pairs, gain and its lower bound against the base: of right answers, else of preferences; zeros where neither was measured."""
    from trainer.figures import wilson
    from trainer.run_folder import number

    found = run.proof.get("base")
    if isinstance(found, Mapping) and isinstance(found.get("ci"), Mapping):
        pairs, gain, lower = (number(one) for one in (found.get("n"), found.get("difference"), found["ci"].get("low")))
        if pairs and gain is not None and lower is not None and -1 <= lower <= gain <= 1:
            return int(pairs), gain, lower
    rate, count = number(run.metrics.get("win_rate")), number(run.metrics.get("preferences"))
    if rate is not None and count and 0 <= rate <= 1:
        return int(count), rate - 0.5, min(wilson(round(rate * count), int(count)).low, rate) - 0.5
    return 0, 0.0, 0.0


def _corrections(folder: Path) -> int | None:
    """How many rows of the run's dataset folders are corrections; None where its data came from nowhere that tells."""
    from data.datasets import manifest
    from trainer import recipe, run_folder

    counts: list[int] = []
    try:
        if bundles.imported(folder):  # what its recipe names lies elsewhere
            return None
        for given in recipe.load(str(folder / run_folder.RECIPE)).data.train:
            place = Path(given).expanduser()
            if (place / manifest.FILE).is_file():
                counts.append(manifest.read(place).counts.by_shape.get("correction", 0))
    except PointsmanError:  # the recipe or a dataset is no longer readable, which the gate of the run folder tells
        return None
    return sum(counts) if counts else None


def plain(gate: Gate) -> dict[str, Any]:
    """A gate as JSON."""
    return {"name": gate.name, "passed": gate.passed, "reached": gate.reached, "limit": gate.limit, "note": gate.note}
