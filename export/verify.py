"""Checking an export again: its files by themselves, and against the trained model where the run is still there.

    verify(folder, source)    every check, made anew; what cannot be made says so and is never called passed

A folder may come from anywhere: what its export.json names is checked before it is opened, and every file is loaded in a child
process. The numbers of the run's own checks are in export.json (`exporting.export`). Not covered: showing them (`tui`).
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from data import exports
from data.errors import ModelError
from data.exports import Check, Export, File
from data.sanitise import one_line
from export import choose
from export._exporting.judging import as_judged, unchecked
from export._exporting.source import Reference, Source
from export._exporting.steps import Step, Tell, silent
from export._verify import computing, folder, numerics, spelling
from export._verify.computing import Spelled
from export._verify.numerics import Rows
from export.quantise import quantise

AGAINST_RUN = ("tokens", "prompts", "logits", "task")


def verify(place: Path, source: Source | None = None, tell: Tell = silent, *, why: str = "") -> tuple[Export, tuple[Check, ...]]:
    """All checks of the export in a folder. source: its run, where that is still there; why: it is not, in words.

    Raises NotFound where the folder is no export, InputError for an export.json that is none, a disk without room, ModelError where
    the trained model cannot be loaded.
    """
    export = exports.read(place)
    tell(Step("computing digests"))
    checks = [_recorded(export), *folder.whole(place, export)]
    sound = {file.name for file in export.files} - {one.of for one in checks if one.passed is False}
    models = [file for file in export.files if file.kind == "model" and file.name in sound]
    spelled: Spelled | None = None
    for file in models:
        tell(Step(f"loading {file.name}"))
        check, found = folder.loaded(place, file)
        checks.append(check)
        spelled = found if found and (spelled is None or file.form == export.chosen) else spelled
    adapters = [file for file in export.files if file.kind == "adapter" and file.name in sound]
    base = source.base_gguf if source else None
    checks += [folder.attached(place, file, base) for file in adapters]
    checks += folder.modelfiles(place, export, spelled)
    loads = {one.of for one in checks if one.name == "loads" and one.passed}
    if source is None or source.opened is None:
        return export, (*checks, *unchecked(AGAINST_RUN, why or "the run is not here"))
    usable = [file for file in (*models, *adapters) if file.name in loads]
    return export, (*checks, *_against(place, source, usable, tell))


def _against(place: Path, source: Source, usable: list[File], tell: Tell) -> Iterator[Check]:
    """The files against the trained model."""
    assert source.opened is not None  # noqa: S101  the caller looked
    tell(Step("loading the trained model"))
    reference = source.opened(None)
    rows = numerics.chosen(reference.validation, reference.vocabulary)
    if not rows.ids:
        yield from unchecked(AGAINST_RUN, "there are no validation rows")
        return
    with tempfile.TemporaryDirectory(prefix="pointsman-") as work:
        logits = numerics.given(reference, rows, Path(work) / "logits", tell)
        for file in usable:
            tell(Step(f"comparing {file.name} with the trained model"))
            if file.kind == "model":
                yield from _model(place / file.name, file, source, reference, rows, logits)
            elif source.base_gguf is not None:
                base = Path(work) / "base-F16.gguf"
                quantise(source.base_gguf, base, "F16")
                yield from numerics.as_trained(base, place / file.name, rows, logits, file.name)


def _model(path: Path, file: File, source: Source, reference: Reference, rows: Rows, logits: Path) -> Iterator[Check]:
    try:
        yield from spelling.checks(path, reference, file.name)[0]
        if file.form == "F16":
            yield from numerics.as_trained(path, None, rows, logits, file.name)
        else:
            limit = source.limits.kl.get(file.form, min(choose.KL_LIMITS.values())) + numerics.KL_LIMIT
            yield _quantised(path, file, rows, logits, limit)
        if source.judge is not None:
            yield as_judged(source.judge(path, None), source.trained, file.name, source.limits.task)
    except ModelError as error:
        yield Check(name="computes", of=file.name, passed=False, note=one_line(error.what, 300))


def _quantised(path: Path, file: File, rows: Rows, logits: Path, limit: float) -> Check:
    (found,) = computing.compare([(path, None)], rows.ids, rows.shared, logits)
    kl = found.figures.kl_mean
    note = f"from the trained model, {found.positions:,} positions; {found.figures.agreement:.1%} of first choices are the same"
    return Check(name="logits", of=file.name, passed=bool(kl <= limit), value=kl, limit=limit, note=note)


def _recorded(export: Export) -> Check:
    """Whether the export passed when it was made."""
    failed = [one.name for one in export.checks if one.passed is False]
    counts = (
        f"{sum(one.passed is True for one in export.checks)} passed, {sum(one.passed is None for one in export.checks)} not checked"
    )
    note = f"when it was made: {counts}" + (f"; failed: {one_line(', '.join(failed), 200)}" if failed else "")
    return Check(name="as made", passed=not failed if export.checks else None, note=note)
