"""A run that came from elsewhere, judged on this machine: what it says of itself is its maker's word, what is measured here counts.

Base and adapter answer the validation rows of the domain's own pack, or rows that the user names, in float32 as exports are
compared. The limits are the pack's and the default gates, never those of the recipe, which came with the run. What was found
stands in the run's folder under `proven`, beside what the run says. Not covered: whether the adapter was trained on these very
rows, which only its maker knows.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from data import config, domains, paths
from data.domains import Domain
from data.errors import InputError
from trainer import manifest, material, proof, reference, run_folder, train
from trainer.events import Event, Tell, silent
from trainer.judging import Judge
from trainer.material import Material
from trainer.recipe import DataTable, GatesTable, Recipe, StageTable
from trainer.run_folder import RunFolder

if TYPE_CHECKING:
    from trainer.proof import Proof

FOLDER = "proven"
_PART = ".proven.part"


def prove(
    folder: Path, *, data: tuple[str, ...] = (), text_column: str = "", label_column: str = "", tell: Tell = silent
) -> "Proof":
    """Judge the run's adapter and its base here, and keep it. data: files with rows to judge by; none: the pack's validation rows.

    Raises InputError where there is nothing to judge it by or its files were changed, NotFound where there is no such run or
    domain, ModelMissing and ModelInvalid where its base is not there or another.
    """
    recipe = _recipe(folder, data, text_column, label_column)
    domain = domains.load(recipe.domain) if recipe.domain else None
    tell(Event("preparing", note="reading the rows"))
    rows = _rows(recipe, domain)
    tell(Event("preparing", note=f"loading {recipe.base.model}"))
    opened = reference.opened(folder, rows=(rows, ""))
    judge = Judge(recipe, domain, opened.base, opened.model, rows, config.load(), tell)
    try:
        mine, base, general = judge.adapter(), judge.base(), judge.general()
    finally:
        judge.close()
    found = proof.prove(recipe, domain, mine, base, None, general)
    tell(Event("saving", note="what was measured"))
    work = folder / _PART
    shutil.rmtree(work, ignore_errors=True)
    paths.ensure(work)
    more = {"validation_sha256": rows.validation_sha256, "adapter_sha256": _adapter_sha256(folder)}
    run_folder.write(work, mine, base, found, more=more)
    _put(work, folder / FOLDER)
    return found


def read(run: RunFolder) -> RunFolder | None:
    """The run with what was measured here in the place of what it says; None where nothing was, or of another adapter.

    Raises InputError where a file of it is damaged.
    """
    place = run.folder / FOLDER
    if not (place / run_folder.METRICS).is_file():
        return None
    metrics = run_folder.metrics(place)
    if metrics.get("adapter_sha256") != _adapter_sha256(run.folder):
        return None
    return replace(run, metrics=metrics, predictions=(), base_predictions=(), lost=())


def _recipe(folder: Path, data: tuple[str, ...], text_column: str, label_column: str) -> Recipe:
    """The run's recipe with rows of this machine and limits of its own choice left out."""
    found = train.recipe_of(folder)
    if not found.domain:
        raise InputError(
            f"{folder.name} was trained for no domain, and without one nothing can be measured",
            "compare it with what answers now: pointsman experiment start --paired",
        )
    rows = DataTable(
        validation=data,
        text_column=text_column,
        label_column=label_column,
        contract=found.data.contract,
        max_tokens=found.data.max_tokens,
        overlong=found.data.overlong,
    )
    changed = {
        "data": rows,
        "gates": GatesTable(hybrid=found.gates.hybrid),
        "base": found.base.model_copy(update={"adapter": ""}),
        "stages": (StageTable(kind="sft", min_rows=1),),
    }
    return found.model_copy(update=changed)


def _rows(recipe: Recipe, domain: Domain | None) -> Material:
    found = material.read(recipe, domain)
    if not found.examples:
        raise InputError("none of the rows here can be judged", "name labelled ones: --data FILE")
    return found


def _adapter_sha256(folder: Path) -> str:
    """That of the adapter's weights as the manifest has it; `manifest.check` holds the file against it."""
    name = f"{reference.ADAPTER}/adapter_model.safetensors"
    return next((one.sha256 for one in manifest.read(folder).artefacts if one.name == name), "")


def _put(work: Path, target: Path) -> None:
    try:
        shutil.rmtree(target, ignore_errors=True)
        os.rename(work, target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}", "free space, and prove it again") from error
    paths.sync_folder(target.parent)
