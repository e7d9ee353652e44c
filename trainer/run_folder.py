"""The folder of a run, written and read: where runs lie, what was measured, the events, the rows that were lost.

    recipe.toml  manifest.json  adapter/  metrics.json  metrics.jsonl  predictions.jsonl  base_predictions.jsonl  lost.jsonl
    report.html
Files of a run may come from elsewhere: what is read is checked, and shown only sanitised. Not covered: training (`train`), the
manifest (`manifest`), the page (`run_report`).
"""

import difflib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from data import paths
from data.errors import InputError, NotFound
from data.sanitise import one_line
from trainer import manifest as manifests
from trainer.comparison import Comparison
from trainer.figures import ClassFigures
from trainer.gates import Gate
from trainer.manifest import Manifest
from trainer.material import Lost
from trainer.proof import Proof
from trainer.scores import FailedCase, Prediction, Scores

METRICS, CURVE, LOST, REPORT = "metrics.json", "metrics.jsonl", "lost.jsonl", "report.html"
RECIPE = "recipe.toml"
PREDICTIONS, BASE_PREDICTIONS = "predictions.jsonl", "base_predictions.jsonl"
LARGEST_BYTES = 512 << 20
LARGEST_NUMBER = 1e300
LARGE = "a run's file is smaller; train it again"

T = TypeVar("T")


@dataclass(frozen=True)
class RunFolder:
    """A finished run, read. metrics: metrics.json as it is; curve: the events of metrics.jsonl; predictions: empty where the run
    has no domain."""

    folder: Path
    manifest: Manifest
    recipe: str
    metrics: Mapping[str, Any]
    curve: tuple[Mapping[str, Any], ...]
    predictions: tuple[Prediction, ...]
    base_predictions: tuple[Prediction, ...]
    lost: tuple[Lost, ...]

    @property
    def proof(self) -> Mapping[str, Any]:
        """The proof as it was written."""
        found = self.metrics.get("proof")
        return found if isinstance(found, Mapping) else {}

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates of the proof."""
        found: tuple[Gate, ...] = self.part(tuple[Gate, ...], self.proof.get("gates", ()))
        return found

    @property
    def classes(self) -> tuple[ClassFigures, ...]:
        """The figures of the labels."""
        found: tuple[ClassFigures, ...] = self.part(tuple[ClassFigures, ...], self.metrics.get("classes", ()))
        return found

    @property
    def failed(self) -> tuple[FailedCase, ...]:
        """The adversarial cases that failed."""
        found: tuple[FailedCase, ...] = self.part(tuple[FailedCase, ...], self.metrics.get("failed_cases", ()))
        return found

    def part(self, kind: Any, found: Any) -> Any:
        """A part of metrics.json as that type. Raises InputError where it is not."""
        return _as(kind, found, self.folder / METRICS)


def runs_dir() -> Path:
    """Where runs are kept unless told otherwise."""
    return paths.data_dir() / "runs"


def find(given: str) -> Path:
    """The folder of a run: a path, or the name in `runs_dir` or how it begins (several: the newest by name is not guessed).

    Raises NotFound with near names, InputError where several begin so.
    """
    path = Path(given).expanduser()
    if os.path.isfile(path / manifests.FILE):  # no fault for a name that no file can have
        return path
    names = sorted(one.name for one in runs_dir().glob("*") if one.is_dir() and not one.name.startswith("."))
    if given in names:
        return runs_dir() / given
    begin = [name for name in names if given and name.startswith(given)]
    if len(begin) == 1:
        return runs_dir() / begin[0]
    if begin:
        raise InputError(
            f"{len(begin)} runs begin with {one_line(given)!r}: {', '.join(begin[-5:])}",
            "give more of the name; the newest is last",
        )
    near = difflib.get_close_matches(given, names, 3, 0.4) or names[-3:]
    raise NotFound(
        f"there is no run {one_line(given)!r}", f"near: {', '.join(near)}" if near else "train one: pointsman train RECIPE"
    )


def write(
    folder: Path,
    mine: Scores | None,
    base: Scores | None,
    proof: Proof,
    compared: Comparison | None = None,
    lost: Sequence[Lost] = (),
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write metrics.json, both predictions and lost.jsonl; mine, base: None without a domain. Raises InputError if that fails."""
    found = mine.to_dict() if mine else {}
    found |= {
        "base": base.to_dict() if base else None,
        "baselines": {one.name: one.to_dict() for one in compared.baselines} if compared else {},
        "proof": proof.to_dict(),
        "failed_cases": [asdict(one) for one in mine.adversarial.failed] if mine else [],
        **(more or {}),
    }
    with paths.replacing(folder / METRICS) as out:
        out.write(json.dumps(found, indent=1, ensure_ascii=True, default=dict).encode() + b"\n")
    for name, scores in ((PREDICTIONS, mine), (BASE_PREDICTIONS, base)):
        if scores is not None:
            _write_lines(folder / name, (_line(one) for one in scores.predictions))
    _write_lines(folder / LOST, (one.to_dict() for one in lost))


def read(folder: Path) -> RunFolder:
    """The run in that folder. Raises NotFound where it is no finished run, InputError for a damaged file, with the line."""
    manifest = manifests.read(folder)
    recipe = folder / RECIPE
    return RunFolder(
        folder,
        manifest,
        paths.read_text(recipe, LARGEST_BYTES, LARGE) if recipe.is_file() else "",
        metrics(folder),
        curve(folder),
        tuple(_lines(folder / PREDICTIONS, Prediction)),
        tuple(_lines(folder / BASE_PREDICTIONS, Prediction)),
        tuple(_lines(folder / LOST, Lost)),
    )


def metrics(folder: Path) -> Mapping[str, Any]:
    """metrics.json of that folder. Raises InputError where it is no JSON object."""
    return _json(folder / METRICS)


def curve(folder: Path) -> tuple[Mapping[str, Any], ...]:
    """The events of a run's metrics.jsonl; none where there is no such file. Raises InputError."""
    return tuple(_lines(folder / CURVE, dict[str, Any]))


def number(value: Any) -> float | None:
    """A finite number of a file, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LARGEST_NUMBER else None


def _line(one: Prediction) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__} | {"correct": one.correct}


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(paths.read_text(file, LARGEST_BYTES, LARGE))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not valid JSON: {one_line(str(error), 120)}", "train the run again") from error
    if not isinstance(found, dict):
        raise InputError(f"{file} is no JSON object", "train the run again")
    return found


def _lines(file: Path, kind: type[T]) -> Iterator[T]:
    if not file.is_file():
        return
    for number, line in enumerate(paths.read_text(file, LARGEST_BYTES, LARGE).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}, line {number}: {one_line(str(error), 120)}", "train the run again") from error
        yield _as(kind, found, file, number)


def _as(kind: Any, found: Any, file: Path, number: int = 0) -> Any:
    try:
        return _adapter(kind).validate_python(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the value"
        line = f", line {number}" if number else ""
        raise InputError(f"{file}{line}: {one_line(where)}: {one_line(first['msg'], 200)}", "train the run again") from error


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _write_lines(file: Path, lines: Iterator[Mapping[str, Any]]) -> None:
    with paths.replacing(file) as out:
        for one in lines:
            out.write(json.dumps(one, ensure_ascii=True, default=dict).encode() + b"\n")
