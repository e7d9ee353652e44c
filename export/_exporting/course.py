"""The course of one export inside its hidden folder: adapter, merged model, forms, and what is verified of each.

    adapter.gguf -> model in F16 (joined from a base GGUF, or merged in a checkpoint and written) -> held against the trained model
    -> quantised forms -> held against F16, by predictions and by the run's own task -> one is chosen
A form that is not good enough is left out where Pointsman chose which to try, and fails the export where it was asked for by name.
Not covered: Modelfile and export.json (`export.exporting`).
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.errors import ModelInvalid
from data.exports import Check
from export import adapter, choose, families, imatrix, join
from export._exporting.forms import TRIED
from export._exporting.judging import as_judged, unchecked
from export._exporting.source import Judged, Reference, Source
from export._exporting.steps import Step, Tell
from export._verify import computing, numerics, spelling
from export._verify.computing import Spelled
from export._verify.numerics import Rows
from export.choose import Measured
from export.families import Family
from export.quantise import Fallback, quantise
from router.engines._llamacpp import header

MERGE_LIMIT = 1e-3
"""Nats by which a log-probability may change when an adapter is merged into a checkpoint in float32, at most."""
MATRIX_ROWS, MATRIX_TOKENS, TIMED_ROWS, ANSWERS = 256, 8192, 6, 4
"""Training rows, and their tokens, behind an importance matrix at most; rows on which forms are compared; answers that must end."""
LEAST_ANSWER = 64  # tokens within which an answer must end, at least
ADAPTER, SERVED_ADAPTER, WORK = "adapter.gguf", "adapter-Q8_0.gguf", ".work"


@dataclass
class Made:
    """What has come of the export so far.

    adapters, forms: file by form, F16 among the latter until it is dropped; spelled: what F16 reads.
    """

    adapters: dict[str, Path]
    forms: dict[str, Path] = field(default_factory=dict)
    fallbacks: dict[str, tuple[Fallback, ...]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    figures: dict[str, dict[str, float | str]] = field(default_factory=dict)
    chosen: str = ""
    why: str = ""
    spelled: Spelled | None = None
    reference: Reference | None = None
    exact_context: int = 0
    notes: list[str] = field(default_factory=list)


class Course:
    """One export of a source into a folder. forms: as asked for, () leaves the choice to Pointsman."""

    def __init__(self, source: Source, forms: Sequence[str], folder: Path, tell: Tell) -> None:
        self._source, self._forms, self._folder, self._tell = source, tuple(forms), folder, tell
        self._work = folder / WORK
        self._family = _family(source)
        self.made = Made({"F32": folder / ADAPTER})

    def adapter(self) -> None:
        """The adapter's GGUF file. Raises as `export.adapter` does."""
        self._say("writing the adapter as GGUF")
        found = adapter.look(self._source.adapter)
        self.made.notes += [*found.repairs, *found.notes]
        adapter.write(self._source.adapter, self._family, self.made.adapters["F32"], name=self._source.name)

    def model(self) -> None:
        """The merged model in F16, and the trained model to hold it against."""
        self._work.mkdir(exist_ok=True)
        target = self._folder / "model-F16.gguf"
        merged = self._joined(target) if self._source.base_gguf else self._merged(target)
        self.made.forms["F16"] = target
        if self._source.opened is None:
            return
        self._say("loading the trained model")
        self.made.reference = self._source.opened(merged if self._source.quantised != "none" else None)
        self.made.notes += self.made.reference.notes

    def verified(self) -> None:
        """Hold F16 and adapter against the trained model. Raises ModelInvalid where a file cannot be computed."""
        made, model = self.made, self.made.forms["F16"]
        reference = made.reference
        rows = numerics.chosen(reference.validation, reference.vocabulary) if reference else Rows((), 0)
        if reference is None or not rows.ids:
            why = "there are no validation rows" if reference else "the trained model is not there"
            made.checks += unchecked(("logits", "first choices", "tokens", "prompts", "adapter", "answers end"), why)
            return
        self._say("comparing tokens and prompts")
        spelled, made.spelled = spelling.checks(model, reference, model.name)
        made.checks += spelled
        logits = numerics.given(reference, rows, self._work / "logits", self._tell)
        self._say("comparing the model in F16 with the trained model")
        made.checks += numerics.as_trained(model, None, rows, logits, model.name)
        self._say("comparing the adapter on its base with the merged model")
        made.checks.append(numerics.as_merged(model, self._base(), made.adapters["F32"], rows))
        self._served(rows, logits)
        shutil.rmtree(logits)

    def alone(self) -> None:
        """The adapter without a merged model: held against the trained model on the base in F16."""
        made, source = self.made, self._source
        self._work.mkdir(exist_ok=True)
        if source.opened is None:
            made.checks += unchecked(("logits", "first choices"), "the trained model is not there")
            return
        self._say("loading the trained model")
        reference = made.reference = source.opened(None)
        made.notes += reference.notes
        rows = numerics.chosen(reference.validation, reference.vocabulary)
        if not rows.ids:
            made.checks += unchecked(("logits", "first choices"), "there are no validation rows")
            return
        logits = numerics.given(reference, rows, self._work / "logits", self._tell)
        self._say("comparing the adapter on its base with the trained model")
        exact = made.adapters["F32"]
        made.checks += numerics.as_trained(self._base(), exact, rows, logits, exact.name)
        self._served(rows, logits)

    def quantised(self) -> None:
        """The other forms. Raises as `export.quantise.quantise`."""
        wanted = [form for form in self._forms or TRIED if form != "F16"]
        matrix = self._matrix() if any(not form.startswith(("F", "Q8")) for form in wanted) else None
        for form in wanted:
            self._say(f"quantising to {form}")
            target = self._folder / f"model-{form}.gguf"
            self.made.fallbacks[form] = quantise(self.made.forms["F16"], target, form, imatrix=matrix).fallbacks
            self.made.forms[form] = target

    def measured(self) -> None:
        """Predictions, speed and task of each form; the one that is served; forms that fail and nobody asked for are dropped."""
        made, source = self.made, self._source
        self._say(f"measuring {', '.join(made.forms)}")
        judged: dict[str, Judged] = {}
        task = None
        if source.judge is not None:
            judge = source.judge

            def task(file: Path) -> list[float]:
                self._say(f"{file.name} answers the validation rows")
                judged[file.name] = judge(file, None)
                return [float(right) for right in judged[file.name].right]

        found = choose.measured(made.forms, self._texts(), source.limits, task)
        made.figures |= {one.form: one.row() for one in found}
        candidates = [one for one in found if one.form in (self._forms or TRIED)]
        best = choose.auto([one for one in candidates if not one.refused] or [found[0], *candidates])
        made.chosen, made.why = best.form, choose.why(best, found)
        made.checks += list(self._of_task(judged))
        made.checks += [check for one in found[1:] for check in self._of_form(one, found[0])]
        self._dropped(found)

    def answers(self) -> None:
        """Whether answers of the chosen form end by themselves."""
        reference, file = self.made.reference, self.made.forms[self.made.chosen]
        if reference is None or not reference.validation:
            return
        self._say(f"{file.name} answers freely")
        asked = reference.validation[:: max(1, len(reference.validation) // ANSWERS)][:ANSWERS]
        most = max(LEAST_ANSWER, 4 * max(len(one.answer) for one in reference.validation))
        found = computing.answer(file, None, [one.prompt for one in asked], most)
        share = sum(one.ended for one in found) / len(found)
        note = f"{len(found)} answers, of {most} tokens at most"
        self.made.checks.append(Check(name="answers end", of=file.name, passed=share == 1, value=share, limit=1.0, note=note))

    def _served(self, rows: Rows, logits: Path) -> None:
        """The adapter as it is served: in Q8_0 where that says what the trained model says, and on the base as that is served."""
        source, made = self._source, self.made
        if source.base_gguf is None:
            return
        quick = adapter.write(source.adapter, self._family, self._folder / SERVED_ADAPTER, name=source.name, form="Q8_0")
        checks = numerics.as_trained(self._base(), quick, rows, logits, quick.name)
        if any(one.passed is False for one in checks):
            made.notes.append(f"the adapter is served in F32: in Q8_0 it is {checks[0].value:.1e} nats from the trained model")
            quick.unlink()
        else:
            made.checks += checks
            made.adapters["Q8_0"] = quick
        for form, file in made.adapters.items():
            (found,) = computing.compare([(source.base_gguf, file)], rows.some().ids, rows.shared, logits)
            made.figures[f"adapter {form}"] = {
                "bytes": file.stat().st_size,
                "kl_mean": round(found.figures.kl_mean, 6),
                "kl_p99": round(found.figures.kl_p99, 5),
                "top1": round(found.figures.agreement, 4),
            }

    def _joined(self, target: Path) -> Path | None:
        base = self._source.base_gguf
        assert base is not None  # noqa: S101  the caller looked
        self._say("joining adapter and base")
        join.join(base, self.made.adapters["F32"], target, tell=self._say)
        return None

    def _merged(self, target: Path) -> Path:
        from export import gguf
        from export.merge import merge

        source, place = self._source, self._work / "merged"
        assert source.checkpoint is not None  # noqa: S101  one of the two is there
        kind = source.quantised
        how = {"quantised": kind, "trained_in": source.trained_in} if kind != "none" else {}
        # In float32: rounded to a base's bfloat16, the merged weights are 2e-3 nats from what was trained (SmolLM2-135M).
        found = merge(source.checkpoint, source.adapter, place, form="F32", tell=self._say, **how)  # type: ignore[arg-type]
        exact = found.which == "dequantised" or kind == "none"
        note = f"merged into the {found.which} weights" + ("" if exact else ", which are not those it was trained on")
        passed = found.difference <= MERGE_LIMIT if exact else None
        self.made.checks.append(Check(name="merge", passed=passed, value=found.difference, limit=MERGE_LIMIT, note=note))
        written = gguf.write(place, target, "F16", name=source.name, tell=self._say)
        self.made.exact_context = written.exact_context
        self.made.notes += [*found.notes, *written.notes]
        return place

    def _base(self) -> Path:
        """The base in F16, as the merged model is."""
        from export import gguf

        target = self._work / "base-F16.gguf"
        if self._source.base_gguf:
            quantise(self._source.base_gguf, target, "F16")
        elif self._source.checkpoint:
            gguf.write(self._source.checkpoint, target, "F16")
        return target

    def _matrix(self) -> Path | None:
        """The importance matrix of the run's own rows; None where they are not there."""
        reference = self.made.reference
        rows = reference.training(MATRIX_ROWS) if reference else ()
        if reference is None or not rows:
            self.made.notes.append("forms of few bits are rounded without an importance matrix: there are no training rows")
            return None
        rows = rows[:: max(1, sum(map(len, rows)) // MATRIX_TOKENS)]
        self._say(f"collecting the importance matrix on {len(rows)} training rows")
        sums = reference.activations(rows, imatrix.collect)
        return imatrix.save(imatrix.named(sums, self._family), self._work / "importance.npz")

    def _texts(self) -> list[str | Sequence[int]]:
        """Rows on which forms are compared: the run's own, else the general ones."""
        from export import fidelity

        asked = self.made.reference.validation if self.made.reference else ()
        rows: list[str | Sequence[int]] = [(*one.prompt, *one.answer) for one in asked[:: max(1, len(asked) // TIMED_ROWS)]]
        return rows[:TIMED_ROWS] or list(fidelity.TEXTS)

    def _of_form(self, one: Measured, original: Measured) -> Iterable[Check]:
        """What was measured of a form: failed only where it was asked for by name."""
        of, limit = f"model-{one.form}.gguf", self._source.limits.kl.get(one.form, min(choose.KL_LIMITS.values()))
        if one.refused and not self._forms:
            self.made.notes.append(f"{one.form} is left out: {'; '.join(one.refused)}")
            return
        yield Check(name="divergence", of=of, passed=one.kl_mean <= limit, value=one.kl_mean, limit=limit, note="from F16")
        least = choose.bearable(self._source.limits.top1, one.fall_error)
        note = f"next tokens that are no longer the first choice; {one.top1:.1%} of first choices are those of F16"
        yield Check(name="first choices", of=of, passed=one.fall <= least, value=one.fall, limit=least, note=note)
        if one.task is None or original.task is None:
            said = "not judged, because it is refused already" if one.refused else "the run has no task"
            yield Check(name="task", of=of, passed=None, note=said)
            return
        fall, most = original.task - one.task, choose.bearable(self._source.limits.task, one.task_error)
        yield Check(
            name="task", of=of, passed=fall <= most, value=fall, limit=most, note=f"below F16; its own score: {one.task:.3f}"
        )

    def _of_task(self, judged: Mapping[str, Judged]) -> Iterable[Check]:
        """Whether F16 does the task as the trained model did when the run was judged."""
        found = judged.get("model-F16.gguf")
        if found is None:
            yield Check(name="task", of="model-F16.gguf", passed=None, note="the run has no validation rows that can be judged")
            return
        yield as_judged(found, self._source.trained, "model-F16.gguf", self._source.limits.task)

    def _dropped(self, found: Sequence[Measured]) -> None:
        """Remove the forms that are not part of the export."""
        refused = {one.form for one in found if one.refused}
        for form in list(self.made.forms):
            asked = form in (self._forms or TRIED) and (form not in refused or bool(self._forms))
            if not asked and form != self.made.chosen:
                self.made.forms.pop(form).unlink()

    def _say(self, doing: str) -> None:
        self._tell(Step(doing))


def _family(source: Source) -> Family:
    """The base's family by its own files. Raises ModelInvalid for one that is not known."""
    if source.base_gguf is not None:
        return families.of_gguf(header.check(source.base_gguf))
    from export._gguf.checkpoint import CONFIG, Folder

    if source.checkpoint is None:
        raise ModelInvalid(f"the base of {source.name} is not there", "bring back the base that it was trained on")
    return families.of_config(Folder(source.checkpoint).json(CONFIG))
