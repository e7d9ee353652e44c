"""A run's folder while it is made: hidden, ending in .part, locked, with state.json saying which stages are done; then renamed."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data import paths
from data.errors import InputError, NotFound
from trainer import manifest, run_folder
from trainer._run.together import Together
from trainer.manifest import Manifest
from trainer.recipe import Recipe
from trainer.stages import Done
from trainer.underway import ENOUGH, PART, STATE

LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage that ran to its end. kept: whether its adapter passed the stage's gate; why: the gates that failed, in words."""

    kind: str
    kept: bool
    why: str = ""
    done: Mapping[str, Any] = field(default_factory=dict)


class Folder:
    """Where a run is written. path: the hidden folder; name: its final one."""

    def __init__(self, path: Path, together: Together) -> None:
        self.path = path
        self.name = path.name.removeprefix(".").removesuffix(PART)
        self._together = together
        self.stages: list[StageState] = []

    @classmethod
    def open(cls, recipe: Recipe, begun: Manifest, out: Path, resume: Path | None, together: Together) -> "Folder":
        """A fresh folder in `out`, or the one of the run to go on with.

        Raises InputError where that run was of another recipe, other rows or another base, with the differences, or where it is
        complete; NotFound where there is no such run.
        """
        if resume is None:
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
            name = together.agreed(f".{recipe.name}-{stamp}-{begun.hash8}{PART}")
            folder = cls(paths.ensure(out.absolute()) / name, together)
            if together.first:
                paths.ensure(folder.path)
                with paths.replacing(folder.path / run_folder.RECIPE) as file:
                    file.write(as_toml(recipe).encode())
                manifest.write(folder.path, begun)
                folder._write()
            together.wait()
            return folder
        if not (resume / STATE).is_file():
            done = (resume / run_folder.METRICS).is_file()
            raise (InputError if done else NotFound)(
                f"{resume} is {'complete already' if done else 'no run that broke off'}",
                "see: pointsman report; pointsman train RECIPE",
            )
        folder = cls(resume.absolute(), together)
        if differences := manifest.differences(manifest.read(resume), begun):
            raise InputError(
                f"{folder.name} cannot go on, for it was another run: {'; '.join(differences[:5])}", "train anew, without --resume"
            )
        folder._read()
        return folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While open, no other run may write here. Raises InputError where one does."""
        if not self._together.first:
            yield
            return
        descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not paths.try_lock(descriptor):
                raise InputError(f"{self.name} is being trained by another process", "wait for it, or stop it")
            yield
        finally:
            os.close(descriptor)

    def stage(self, index: int, kind: str) -> Path:
        """The folder of a stage, by its number from 1."""
        return self.path / "stages" / f"{index}-{kind}"

    def mark(self, kind: str, kept: bool, why: str, done: Done) -> None:
        """Note that a stage is done."""
        self.stages.append(StageState(kind, kept, why, asdict(done)))
        if self._together.first:
            self._write()
        self._together.wait()

    def finish(self) -> Path:
        """Give the folder its final name and return it; checkpoints and state go. Raises InputError where that cannot be."""
        import shutil

        target = self.path.parent / self.name
        if self._together.first:
            for checkpoints in self.path.glob("stages/*/checkpoints"):
                shutil.rmtree(checkpoints)
            for trunk in self.path.glob("stages/*/trunk"):
                shutil.rmtree(trunk)
            (self.path / STATE).unlink()
            (self.path / LOCK).unlink(missing_ok=True)
            (self.path / ENOUGH).unlink(missing_ok=True)
            try:
                os.rename(self.path, target)
            except OSError as error:
                raise InputError(f"cannot name the run {target}: {error.strerror}", "choose another --out") from error
            paths.sync_folder(target.parent)
        self._together.wait()
        return target

    def _write(self) -> None:
        with paths.replacing(self.path / STATE) as file:
            file.write(json.dumps({"stages": [asdict(one) for one in self.stages]}, indent=1).encode())

    def _read(self) -> None:
        try:
            found = json.loads(paths.read_text(self.path / STATE, 1 << 20, "train anew"))
            self.stages = [StageState(one["kind"], one["kept"], one["why"], one["done"]) for one in found["stages"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.path / STATE} is damaged: {error}", "train anew, without --resume") from error


def as_toml(recipe: Recipe) -> str:
    """The whole recipe with its defaults, as TOML; what is None is left out."""
    import tomlkit

    return tomlkit.dumps(_without_none(recipe.model_dump(mode="json")))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return [_without_none(part) for part in value] if isinstance(value, list) else value
