"""The rows of a run: read, relabelled, judged, divided into training and validation, before anything long begins.

    train        data.train (files, dataset folders, "log"), with data.pack the pack's own examples; without data.train these alone
    validation   data.validation; else what the sources themselves put there; else a share held out, near duplicates together

What is wrong with the data is an error here: no rows, one class only, labels that the domain does not know, columns that are not
there, too many rows that cannot be used, too few for a stage. Not covered: prompts and tokens (`encode`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data.datasets.rows import Row
from data.domains import Domain, Example
from data.errors import InputError
from trainer._material.dividing import apart, by_source, held_out, limited
from trainer._material.reading import OF_STORE, Read, Reading
from trainer._material.rows import WANTED, Lost, digest, label_of, teaches
from trainer.recipe import Recipe

if TYPE_CHECKING:  # the database's libraries load when a store is opened, not before
    from data.store import Store

__all__ = ["OF_STORE", "Lost", "Material", "digest", "label_of", "read", "staged", "teaches"]


@dataclass(frozen=True, slots=True)
class Material:
    """What a run learns from and is judged by. examples: the validation rows that can be judged, as the domain's examples.

    sha256, validation_sha256: of what the rows teach, in their order; notes: what was left out or looks odd, in words; refused:
    rows that cannot be used, with their lines and reasons.
    """

    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    examples: tuple[Example, ...]
    sha256: str
    validation_sha256: str
    notes: tuple[str, ...] = ()
    refused: tuple[Lost, ...] = ()


def read(recipe: Recipe, domain: Domain | None, store: "Store | None" = None) -> Material:
    """The rows of a recipe; store: the log, where data.train names it.

    Raises InputError and NotFound with what is wrong and which key of the recipe changes it, Offline for a hub id where the
    network is forbidden. The same recipe and files give the same rows in the same order.
    """
    reading = Reading(recipe.data, domain, store)
    found = _found(recipe, domain, reading)
    notes = list(found.notes)
    train, same = apart(found.train, found.validation)
    if same:
        notes.append(f"{same:,} training rows are dropped: their texts stand in validation too")
    train = limited(train, recipe.data.limit, domain)
    _require(recipe, domain, train, found.validation)
    notes += _oddities(domain, train, found.validation)
    left = [stage for stage in recipe.stages if stage not in staged(recipe, train).stages]
    notes += [f"the stage {stage.kind} is left out: it has fewer than {stage.min_rows:,} training rows" for stage in left]
    return Material(
        tuple(train),
        tuple(found.validation),
        tuple(_examples(domain, found.validation, found.known)),
        digest(train),
        digest(found.validation),
        tuple(notes),
        tuple(found.refused),
    )


@dataclass
class _Found:
    train: list[Row]
    validation: list[Row]
    notes: list[str]
    refused: list[Lost]
    known: dict[str, Example]


def _found(recipe: Recipe, domain: Domain | None, reading: Reading) -> _Found:
    """The rows on both sides, before what stands on both is dropped."""
    data = recipe.data
    own = not data.train
    examples = Reading(data.model_copy(update={"labels": {}}), domain, None)  # the pack's labels are the domain's already
    pack = examples.pack(("train", "validation") if own else ("train",) if data.pack else ())
    files = reading.read(data.train, "train")
    parts = [pack, files]
    train, validation, tests = by_source([*files.rows, *(pack.rows if own else ())])
    fixed = [] if own else pack.rows
    notes = [f"{tests:,} rows that their source keeps for testing stay untouched"] if tests else []
    if not train and not fixed:
        raise InputError("there are no training rows", "name files in data.train" if own else "the files of data.train hold none")
    if data.validation:
        given = reading.read(data.validation, "validation")
        parts.append(given)
        if validation:
            notes.append(f"{len(validation):,} validation rows of data.train are left out: data.validation names others")
        marked = [row for row in given.rows if row.split == "validation"]
        validation = marked or given.rows
    elif not validation:
        validation = held_out(train, fixed, data.validation_share, recipe.seed, domain)
        out = {id(row) for row in validation}
        train = [row for row in train if id(row) not in out]
        notes.append(f"{len(validation):,} rows are held out for validation, near duplicates together")
    whole = [row.with_split("train") for row in (*train, *fixed)]
    refused = [lost for part in parts for lost in part.refused]
    return _Found(
        whole,
        [row.with_split("validation") for row in validation],
        [note for part in parts for note in _noted(part)] + notes,
        refused,
        {key: one for part in parts for key, one in part.examples.items()},
    )


def staged(recipe: Recipe, train: Sequence[Row]) -> Recipe:
    """The recipe without those of its optional stages that have too few rows. Raises InputError where none is left."""
    kept = tuple(
        stage for stage in recipe.stages if not stage.optional or sum(teaches(row, stage.kind) for row in train) >= stage.min_rows
    )
    if not kept:
        raise InputError("no stage has as many training rows as its min_rows", "give more rows")
    return recipe if kept == recipe.stages else recipe.model_copy(update={"stages": kept})


def _noted(part: Read) -> list[str]:
    if not part.refused:
        return part.notes
    first = part.refused[0]
    return [*part.notes, f"{len(part.refused):,} rows cannot be used; the first is {first.origin}: {first.reason}"]


def _require(recipe: Recipe, domain: Domain | None, train: Sequence[Row], validation: Sequence[Row]) -> None:
    """Raise where a stage has nothing to learn, or nothing could be proven afterwards."""
    for index, stage in enumerate(recipe.stages, start=1):
        count = sum(teaches(row, stage.kind) for row in train)
        if count < stage.min_rows and not stage.optional:
            raise InputError(
                f"stage {index} ({stage.kind}) has {count:,} training rows, and its min_rows is {stage.min_rows:,}",
                f"{stage.kind} learns from {WANTED[stage.kind]}: give more of them",
            )
    if not validation:
        raise InputError("no row is left for validation", "name rows in data.validation, or give more training rows")
    if domain is None or not domain.labels or not any(stage.kind in ("sft", "grpo", "rloo") for stage in recipe.stages):
        return
    labels = {label for row in train if (label := label_of(row, domain))}
    if len(labels) == 1:
        raise InputError(
            f"all {len(train):,} training rows have the label {next(iter(labels))}: one class cannot be told from another",
            "give rows of at least two labels; data.labels says how labels of the data are mapped",
        )


def _oddities(domain: Domain | None, train: Sequence[Row], validation: Sequence[Row]) -> list[str]:
    if domain is None or not domain.labels:
        return []
    found = []
    for name, rows in (("training", train), ("validation", validation)):
        counts = Counter(label_of(row, domain) for row in rows)
        if lacking := [label for label in domain.labels if not counts[label]]:
            found.append(f"no {name} row has the label {', '.join(lacking)}")
    answers: dict[str, set[str]] = {}
    for row in train:
        if label := label_of(row, domain):
            answers.setdefault(row.text, set()).add(label)
    if twice := sum(len(labels) > 1 for labels in answers.values()):
        found.append(f"{twice:,} training texts have more than one label")
    return found


def _examples(domain: Domain | None, rows: Sequence[Row], known: dict[str, Example]) -> list[Example]:
    """The rows by which a model can be judged: with a label or output of the domain, or a check of the pack."""
    if domain is None:
        return []
    found = []
    for row in rows:
        example = known.get(str(row.origin)) or Example(
            text=row.text,
            label=label_of(row, domain) if domain.labels else "",
            output=dict(row.output),
            reasoning=row.reasoning,
            completion=row.completion,
            split="validation",
            source=str(row.origin)[:200],
        )
        judged = example.label in domain.labels if domain.labels else bool(example.output) if domain.schema else bool(example.check)
        if judged and not row.before and row.thumb is not False:
            found.append(example)
    return found
