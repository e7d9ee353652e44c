"""One run: a recipe becomes an adapter that is proven, or is not. `run` is what `pointsman train` calls.

    read and check the data -> load the base -> encode, listing every lost row -> estimate -> stage after stage, each gated
    -> scores of adapter and base on the same rows -> proof -> run folder

The folder is written under a hidden name ending in .part and renamed once it is complete; `state.json` in it says which stages are
done, so that a killed run goes on. Of several processes the first one judges and writes; all of them train. Not covered: starting
several processes (`launch`), what a stage does (`stages`), what is enough (`proof`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import config, domains
from data.domains import Domain
from data.errors import NotFound
from trainer import arguments, estimate, manifest, material, run_folder
from trainer import recipe as recipes
from trainer._run.course import Course, Prepared
from trainer._run.folder import Folder
from trainer._run.together import Together
from trainer.estimate import Estimate
from trainer.events import Event, Tell, silent
from trainer.manifest import Manifest
from trainer.material import Material
from trainer.recipe import Recipe
from trainer.underway import unfinished

if TYPE_CHECKING:
    from trainer.device import Policy
    from trainer.proof import Proof

__all__ = ["Run", "beginning", "recipe_of", "run", "unfinished"]


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a run. folder: None after a dry one; metrics: those of metrics.json; baselines: by name."""

    folder: Path | None
    passed: bool = False
    metrics: Mapping[str, Any] = field(default_factory=dict)
    baselines: Mapping[str, Any] = field(default_factory=dict)
    proof: "Proof | None" = None
    estimate: Estimate | None = None
    notes: tuple[str, ...] = ()


def recipe_of(folder: Path) -> Recipe:
    """The recipe of a run, finished or not. Raises NotFound where the folder is no run, InputError where it is damaged."""
    if not (folder / run_folder.RECIPE).is_file():
        raise NotFound(f"{folder} is no run folder: it has no {run_folder.RECIPE}", "see: pointsman report")
    return recipes.load(str(folder / run_folder.RECIPE))


def run(recipe: Recipe, *, out: Path | None = None, tell: Tell = silent, resume: Path | None = None, dry: bool = False) -> Run:
    """Train by a recipe, or go on with the run in `resume`. out: the folder that gets the run folder; dry: stop before training.

    Raises InputError, NotFound, ModelError and Offline for what cannot be trained, before it begins where that can be known;
    KeyboardInterrupt where somebody asked to stop: `resume` goes on then.
    """
    tell(Event("preparing", note="reading the rows"))
    policy, domain, found, begun = beginning(recipe)
    recipe = material.staged(recipe, found.train)
    prepared = Prepared.of(recipe, domain, policy, found, tell)
    expected = _estimated(recipe, domain, policy, found, prepared, tell, out or run_folder.runs_dir())
    notes = (*policy.why, *prepared.notes)
    if dry:
        return Run(None, estimate=expected, notes=notes)
    estimate.require(expected)
    together = Together()
    folder = Folder.open(recipe, begun, out or run_folder.runs_dir(), resume, together)
    tell(Event("preparing", note=f"the run is {folder.name}", run=folder.name))
    with folder.locked():
        course = Course(recipe, domain, policy, found, folder, together, tell)
        place, proven, compared = course.run(begun, prepared)
    metrics = run_folder.read(place).metrics if together.first else {}
    baselines = {one.name: one.to_dict() for one in compared.baselines} if compared else {}
    return Run(place, proven is not None and proven.passed, metrics, baselines, proven, expected, notes)


def beginning(recipe: Recipe) -> "tuple[Policy, Domain | None, Material, Manifest]":
    """What is known before the base is loaded: the device's policy, the domain, the rows, and the manifest of the run that begins.

    Raises as `run` does for what cannot be trained.
    """
    from trainer import base as bases
    from trainer import device

    policy = device.policy(recipe)
    domain = domains.load(recipe.domain) if recipe.domain else None
    identity = bases.look(recipe.base)
    found = _material(recipe, domain)
    asked = material.staged(recipe, found.train)
    return policy, domain, found, manifest.start(asked, found, identity, policy, _parent_hash(recipe))


def _estimated(
    recipe: Recipe, domain: Domain | None, policy: "Policy", found: Material, prepared: Prepared, tell: Tell, out: Path
) -> Estimate:
    """With a probe where the first stage is sft; the rows of other stages are as long as their answers were."""
    from trainer._estimate.sizes import planned
    from trainer.stages import Work, sft

    tell(Event("probing", note="two micro batches"))
    sizes = [prepared.encoded.get(index) or planned(recipe, stage, domain) for index, stage in enumerate(recipe.stages, start=1)]
    step = None
    if 1 in prepared.encoded:
        work = Work(recipe, recipe.stages[0], 1, domain, prepared.base, prepared.model, policy, found, out)
        step = sft.probe(work, prepared.encoded[1])
    config = prepared.base.model.config
    processes = arguments.processes()
    return estimate.estimate(recipe, policy, config, sizes, out, held_out=len(found.validation), processes=processes, step=step)


def _material(recipe: Recipe, domain: Domain | None) -> Material:
    """The rows; the log is opened only where the recipe names it."""
    if not set(material.OF_STORE) & {*recipe.data.train, *recipe.data.validation}:
        return material.read(recipe, domain)
    from data.store import open_store

    store = open_store(config.load().store.url)
    try:
        return material.read(recipe, domain, store)
    finally:
        store.close()


def _parent_hash(recipe: Recipe) -> str:
    """The parent run's short hash; of an adapter without a manifest that of its weights."""
    if not recipe.base.adapter:
        return ""
    folder = Path(recipe.base.adapter).expanduser()
    if (folder / manifest.FILE).is_file():
        return manifest.read(folder).hash8
    import hashlib

    from trainer.adapter import WEIGHTS

    file = next((one for one in (folder / "adapter" / WEIGHTS, folder / WEIGHTS) if one.is_file()), None)
    if file is None:
        raise NotFound(f"there is no adapter in {folder}", "give a finished run or an adapter folder")
    return hashlib.sha256(file.read_bytes()).hexdigest()[:8]
