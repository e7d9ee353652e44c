"""The course of a run from base to finished folder: encode, estimate, stage after stage with its gate, scores, proof, page."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import config
from data.domains import Domain, Example
from data.errors import EngineError, InputError, ModelError
from trainer import adapter, bias_report, comparison, encode, manifest, proof, run_folder, run_report, stages, underway
from trainer._run.folder import Folder
from trainer._run.together import Together
from trainer.comparison import Comparison
from trainer.encode import Encoded
from trainer.events import Event, Tell
from trainer.general import General
from trainer.judging import Judge
from trainer.manifest import Manifest
from trainer.material import Lost, Material
from trainer.proof import Proof
from trainer.recipe import Recipe, StageTable
from trainer.scores import Scores
from trainer.stages import Work

if TYPE_CHECKING:
    from trainer.base import Base
    from trainer.device import Policy

ADAPTER = "adapter"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is ready before the first step. encoded: the rows of each sft stage by its number; lost: every row that will not be
    learnt from as it is."""

    base: "Base"
    model: Any
    encoded: Mapping[int, Encoded]
    lost: tuple[Lost, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, recipe: Recipe, domain: Domain | None, policy: "Policy", found: Material, tell: Tell) -> "Prepared":
        """Load the base, attach the adapter, encode the rows. Raises InputError where more rows are lost than the recipe allows."""
        from trainer import base as bases

        tell(Event("preparing", note=f"loading {recipe.base.model}"))
        base = bases.load(recipe.base, policy)
        model = adapter.attach(base, recipe.lora, recipe.base.adapter, recipe.seed)
        tell(Event("preparing", note="encoding the rows"))
        encoded, lost, notes = {}, list(found.refused), [*found.notes, *base.notes]
        for index, stage in enumerate(recipe.stages, start=1):
            if stage.kind == "sft":
                made = encode.sft(recipe, stage, domain, base, found.train)
                all_lost = replace(made, lost=(*found.refused, *made.lost))
                encode.check(recipe, all_lost, len(found.train) + len(found.refused), stage.min_rows)
                encoded[index] = made
                lost += made.lost
                notes += made.notes
        return cls(base, model, encoded, tuple(dict.fromkeys(lost)), tuple(dict.fromkeys(notes)))


class Course:
    """One run after its folder was opened."""

    def __init__(
        self,
        recipe: Recipe,
        domain: Domain | None,
        policy: "Policy",
        found: Material,
        folder: Folder,
        together: Together,
        tell: Tell,
    ) -> None:
        self._recipe, self._domain, self._policy, self._material = recipe, domain, policy, found
        self._folder, self._together = folder, together
        self._tell: Tell = tell if together.first else lambda event: None
        self._timings: dict[str, float] = {}

    def run(self, begun: Manifest, prepared: Prepared) -> tuple[Path, Proof | None, Comparison | None]:
        """Train, judge, prove, write. Gives the finished folder, and in the first process the proof and the baselines."""
        settings = config.load()
        judge = Judge(self._recipe, self._domain, prepared.base, prepared.model, self._material, settings, self._tell)
        try:
            parent = self._parent(judge)
            standing = self._stages(prepared, judge, parent)
            if self._together.first:
                self._tell(Event("saving", note="adapter"))
                adapter.save(prepared.model, self._folder.path / ADAPTER)
            result = self._judged(begun, prepared, judge, parent, standing) if self._together.first else None
        finally:
            judge.close()
        self._together.wait()
        return (self._folder.finish(), *(result or (None, None)))

    def _parent(self, judge: Judge) -> Scores | None:
        """The scores of the adapter that the run goes on from, before it is changed."""
        if not self._recipe.base.adapter or not self._together.first:
            return None
        with self._timed("judging"):
            return judge.adapter("parent")

    def _stages(self, prepared: Prepared, judge: Judge, parent: Scores | None) -> "_Standing":
        """Run what is not done yet. A stage that fails its gate is undone: the adapter is what it was before."""
        standing, before = _Standing(), self._folder.path / "stages" / "0" / ADAPTER
        several = len(self._recipe.stages) > 1
        if several and self._together.first and not before.is_dir():
            adapter.save(prepared.model, before)
        self._together.wait()
        kept = before
        for index, stage in enumerate(self._recipe.stages, start=1):
            place = self._folder.stage(index, stage.kind) / ADAPTER
            if index <= len(self._folder.stages):
                kept = place if self._folder.stages[index - 1].kept else kept
                continue
            enough: bool = self._together.agreed(underway.is_enough(self._folder.path))
            if enough and self._folder.stages:
                break
            if index > 1:
                adapter.restore(prepared.model, kept)
            with self._timed("training"):
                done = stages.run(self._work(prepared, judge, index, stage))
            if self._together.first:
                adapter.save(prepared.model, place)
            why = self._together.agreed(self._gate(judge, standing, parent) if several and self._together.first else "")
            self._folder.mark(stage.kind, not why, why, done)
            kept = kept if why else place
        if not any(one.kept for one in self._folder.stages):
            kept = self._folder.stage(len(self._folder.stages), self._folder.stages[-1].kind) / ADAPTER
        adapter.restore(prepared.model, kept)
        return standing

    def _work(self, prepared: Prepared, judge: Judge, index: int, stage: StageTable) -> Work:
        judged = self._domain is not None and bool(self._domain.labels) and bool(self._material.examples)
        return Work(
            self._recipe,
            stage,
            index,
            self._domain,
            prepared.base,
            prepared.model,
            self._policy,
            self._material,
            self._folder.stage(index, stage.kind),
            self._tell,
            (lambda: judge.figures(stage.evaluate_rows)) if judged else None,
            lambda: underway.is_enough(self._folder.path),
        )

    def _gate(self, judge: Judge, standing: "_Standing", parent: Scores | None) -> str:
        """Why the stage that just ended is not kept, "" where it is: worse than what was before it, or general ability lost."""
        with self._timed("judging"):
            if standing.base is None:
                standing.base = judge.base()
            now, general = judge.adapter(), judge.general()
        before = standing.kept or parent or standing.base
        found = proof.prove(self._recipe, self._domain, now, standing.base, before, general)
        general_gates = [gate for gate in found.gates if gate.name.startswith("general") and gate.reached is not None]
        failed = [f"{gate.name}: {gate.note or gate.reached}" for gate in general_gates if not gate.passed]
        if found.parent is not None and found.parent.difference < -self._recipe.gates.worse_by:
            failed.append(f"accuracy {found.parent.difference:+.1%} against the adapter before it")
        if not failed:
            standing.kept, standing.general = now, general
        return "; ".join(failed)

    def _judged(
        self, begun: Manifest, prepared: Prepared, judge: Judge, parent: Scores | None, standing: "_Standing"
    ) -> tuple[Proof, Comparison | None]:
        with self._timed("judging"):
            base = standing.base or judge.base()
            mine = standing.kept or judge.adapter()
            general: General = standing.general or judge.general()
            rate, count = self._win_rate(prepared)
            fair = judge.bias()
        told = fair[0] if fair else None
        proven = proof.prove(self._recipe, self._domain, mine, base, parent, general, rate, preferences=count, bias=told)
        with self._timed("baselines"):
            compared = self._compared()
        folder = self._folder.path
        stages_done = [{**one.done, "kind": one.kind, "kept": one.kept, "why": one.why} for one in self._folder.stages]
        more: dict[str, Any] = {"win_rate": rate, "preferences": count, "stages": stages_done}
        more |= {"bias": bias_report.as_dict(*fair)} if fair else {}
        run_folder.write(folder, mine, base, proven, compared, prepared.lost, more)
        self._curve()
        lengths = [length for one in prepared.encoded.values() for length in one.lengths]
        noted = manifest.with_rows(begun, lengths, len(prepared.lost))
        manifest.write(folder, noted)
        self._tell(Event("saving", note="report"))
        run_report.write(folder)
        results = {"passed": proven.passed, "routable": proven.routable, **_headline(mine), "win_rate": rate}
        manifest.write(folder, manifest.finished(noted, folder, self._timings, results))
        return proven, compared

    def _win_rate(self, prepared: Prepared) -> tuple[float | None, int]:
        """Of the validation rows' preference pairs, and how many there are; None where there are none."""
        from trainer.stages import _preference

        rows = [row for row in self._material.validation if row.shape in ("preference", "correction", "feedback")]
        if not rows or (self._domain is not None and not any(stage.kind in ("kto", "dpo") for stage in self._recipe.stages)):
            return None, 0
        pairs = _preference.pairs(self._recipe, self._recipe.stages[-1], self._domain, prepared.base, rows)
        return (_preference.win_rate(prepared.model, prepared.base, pairs), len(pairs)) if pairs else (None, 0)

    def _compared(self) -> Comparison | None:
        """The baselines on the run's own rows; None where there is nothing to classify."""
        domain = self._domain
        if domain is None or not domain.labels or not self._material.examples:
            return None
        from router.engines import Engines

        train = [Example(text=row.text, label=row.label) for row in self._material.train if row.label]
        engines = Engines(config.load())
        told = lambda doing, done, of: self._tell(Event("judging", "", done, of, note=f"baselines: {doing}"))  # noqa: E731
        try:
            return comparison.compare(domain, train, self._material.examples, engines.get("llamacpp").embed, told)
        except (EngineError, ModelError, InputError) as fault:
            self._tell(Event("judging", note=f"no baselines: {fault.what}"))
            return None
        finally:
            engines.close()

    def _curve(self) -> None:
        """The stages' metrics.jsonl one after the other."""
        from data import paths

        with paths.replacing(self._folder.path / run_folder.CURVE) as out:
            for index, stage in enumerate(self._recipe.stages, start=1):
                file = self._folder.stage(index, stage.kind) / run_folder.CURVE
                if file.is_file():
                    out.write(file.read_bytes())

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._timings[what] = round(self._timings.get(what, 0.0) + time.perf_counter() - started, 3)


@dataclass
class _Standing:
    """What has been measured on the way: the base, and the adapter as it was last kept."""

    base: Scores | None = None
    kept: Scores | None = None
    general: General | None = None


def _headline(mine: Scores | None) -> dict[str, float | None]:
    if mine is None:
        return {}
    found = mine.figures
    return {
        "accuracy": found.accuracy if found else mine.checks,
        "macro_f1": found.macro_f1 if found else None,
        "json_valid": mine.json_valid,
        "adversarial": mine.adversarial.rate,
    }
