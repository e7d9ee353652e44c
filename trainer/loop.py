"""Running a stage's trainer: checkpoints and resuming, evaluations and the best adapter, early stopping, events and metrics.jsonl.

A run that was killed and resumed makes the same steps with the same losses as one that was not: optimiser, schedule, generators
and the order of the rows come back exactly, evaluations draw nothing, and checkpoints stand between steps only. Every process of
a run goes through here; the first one alone tells and writes. Not covered: building the trainer (`stages`), what a checkpoint's
files are (`checkpoints`), whether the result is good enough (`proof`).
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback, set_seed

from data.errors import InputError
from trainer import arguments, checkpoints
from trainer._loop import order, position, weights
from trainer._loop.agreement import from_first, summed
from trainer._loop.journal import Journal
from trainer._loop.measures import figures, points, size, unchanged_chance
from trainer._loop.pace import Pace
from trainer._loop.signals import Stop
from trainer.events import Doing, Event
from trainer.stages import Done, Work

BEST = "best"


def fit(trainer: Any, work: Work) -> Done:
    """Train until the stage is done, from its last sound checkpoint on if there is one; the best adapter is in the model then.

    Raises InputError for a loss that is no finite number, weights that cannot be read back, and a full disk; KeyboardInterrupt
    where somebody asked to stop, after the step in hand and with a checkpoint.
    """
    running = _Running(trainer, work)
    try:
        return running.run()
    finally:
        running.close()


class _Running(TrainerCallback):
    """One call of `fit`, and what transformers calls back while it trains."""

    def __init__(self, trainer: Any, work: Work) -> None:
        self._trainer = trainer
        self._work = work
        self._first = bool(trainer.is_world_process_zero())
        self._judged = work.stage.best == "macro_f1"
        if self._judged and work.judge is None:
            raise InputError('best = "macro_f1" needs labels to judge by', 'give data with labels, or set best = "loss"')
        self._evaluated = self._judged or trainer.eval_dataset is not None
        self._resumed = self._agreed_checkpoint()
        self._at = position.read(self._resumed)
        self._journal = Journal(work.folder, self._at.step, self._at.pending) if self._first else None
        self._stop = Stop()
        self._interrupted = False
        self._clock = 0.0
        self._counted = {"tokens": 0, "rows": 0}
        self._pace = Pace()
        self._points: tuple[int, ...] = ()
        self._per_epoch = 1
        self._tokens_per_s = 0.0
        if self._first and self._resumed is None:
            weights.prune(self._best, ())
        self._install()

    def run(self) -> Done:
        """Train, or see that everything is done already; then bring the best adapter back."""
        with self._stop.caught():
            if self._resumed is not None and (self._at.pending or self._at.finished):
                weights.load(self._work.model, self._resumed / weights.FILE)
            if self._at.pending:
                self._evaluate()
            if not self._at.finished:
                if self._resumed is None:
                    set_seed(self._work.recipe.seed)
                self._trainer.train(resume_from_checkpoint=str(self._resumed) if self._resumed else None)
        if self._interrupted or self._stop.asked:
            raise KeyboardInterrupt
        return self._done()

    def close(self) -> None:
        """Take everything out of the trainer again."""
        if self._journal:
            self._journal.close()
        self._order.remove()
        self._trainer.remove_callback(self)
        self._work.model.config.use_cache = True  # transformers turns it off for training
        for name in ("evaluate", "training_step", "save_model", "_save_checkpoint", "_load_from_checkpoint"):
            self._trainer.__dict__.pop(name, None)

    # What transformers calls

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The number of steps is known now."""
        loader = self._trainer.callback_handler.train_dataloader
        self._at.of = state.max_steps
        self._per_epoch = max(math.ceil(len(loader) / args.gradient_accumulation_steps), 1)
        self._points = points(self._work.stage.evaluate_every, state.max_steps, self._per_epoch) if self._evaluated else ()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before the rows of an epoch are drawn, or drawn again."""
        self._order.begin(state.global_step // self._per_epoch)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The clock of a step."""
        self._clock = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count what was computed, over all processes, and decide what comes next; all of them decide alike."""
        spent = max(time.monotonic() - self._clock, 1e-9)
        enough = int(self._first and self._work.enough())
        counted = int(self._counted["tokens"]), self._counted["rows"]
        tokens, rows, asked, enough = summed(self._trainer, *counted, int(self._stop.asked), enough)
        self._counted = {"tokens": 0, "rows": 0}
        self._pace.steps_s.append(spent)
        self._tokens_per_s = tokens / spent
        at = self._at
        at.step, at.tokens, at.rows, at.seconds = state.global_step, at.tokens + tokens, at.rows + rows, at.seconds + spent
        due = at.step in self._points
        if asked:
            self._interrupted, at.pending = True, due  # the evaluation is made up for when the run goes on
            control.should_save = control.should_training_stop = True
        elif due or enough:
            control.should_evaluate = self._evaluated
        if enough and not asked:
            at.over = True
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """A step's figures. transformers calls this before it evaluates and before it saves."""
        if logs is None or "loss" not in logs:
            return
        scaled = args.fp16  # the scaler of float16 tries ranges that are too large and leaves such steps out
        self._require_finite("loss", logs["loss"])
        if not scaled:
            self._require_finite("gradient", logs.get("grad_norm", 0.0))
        self._at.loss = float(logs["loss"])
        values = figures(logs)
        if self._tokens_per_s:
            values["tokens_per_s"] = self._tokens_per_s
        self._tell("training", values)

    # What stands in for the trainer's own methods

    def _install(self) -> None:
        trainer, stage = self._trainer, self._work.stage
        self._order = order.Installed(trainer, stage.batch, self._work.recipe.seed)
        for printing in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(printing)
        trainer.add_callback(self)
        self._own_evaluate, own_step = trainer.evaluate, trainer.training_step

        def training_step(model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
            tokens, rows = size(inputs)
            self._counted = {"tokens": self._counted["tokens"] + tokens, "rows": self._counted["rows"] + rows}
            return own_step(model, inputs, *more, **named)

        trainer.training_step = training_step
        trainer.evaluate = self._evaluate
        trainer._save_checkpoint = lambda model, trial: self._save(model)
        if not weights.sharded(trainer):
            trainer.save_model = self._save_adapter
            trainer._load_from_checkpoint = lambda folder, model=None: weights.load(self._work.model, Path(folder) / weights.FILE)

    def _save_adapter(self, folder: str | None = None, _internal_call: bool = False) -> None:
        if self._first:
            weights.write_folder(weights.of(self._trainer), self._work.model, Path(folder or self._trainer.args.output_dir))

    def _save(self, model: Any) -> None:
        """A checkpoint after the current step; older ones go when it stands."""
        self._tell("saving", {})
        self._trainer.state.log_history = []  # it is in metrics.jsonl, and would be written anew each time
        if self._journal:
            self._journal.sync()
        checkpoints.save(self._trainer, model, self._at.write)
        if self._first:
            kept = checkpoints.rotate(Path(self._trainer.args.output_dir), self._trainer.args.save_total_limit or 1)
            weights.prune(self._best, [self._at.best_step, *(position.read(one).best_step for one in kept)])

    def _evaluate(self, *given: Any, **named: Any) -> dict[str, float]:
        """The evaluation of a step: loss, judgement, best so far, patience. In place of the trainer's own, which it calls."""
        self._trainer.evaluate = self._own_evaluate  # it may call itself for several data sets
        started = time.monotonic()
        self._tell("evaluating", {})
        try:
            with unchanged_chance(), self._stop.at_once(self._trainer.args.world_size == 1):
                values = self._measured(*given, **named)
        except KeyboardInterrupt:
            self._interrupted = self._at.pending = True
            control = self._trainer.control
            control.should_save = control.should_training_stop = True
            if not self._trainer.is_in_train:
                raise
            return {}
        finally:
            self._trainer.evaluate = self._evaluate
            self._trainer.control.should_evaluate = False
        self._pace.evaluations_s.append(time.monotonic() - started)
        self._at.pending = False
        self._tell("evaluating", values)
        self._weigh(values)
        return values

    def _measured(self, *given: Any, **named: Any) -> dict[str, float]:
        values: dict[str, float] = {}
        if self._trainer.eval_dataset is not None:
            found = self._own_evaluate(*given, **named)
            self._require_finite("validation loss", found.get("eval_loss", 0.0))
            values |= figures({name: value for name, value in found.items() if name != "epoch"})
        if self._judged:
            values |= self._judgement()
        return values

    def _judgement(self) -> dict[str, float]:
        """What the domain's contract says of the model as it stands; the first process's figures count for all."""
        found: dict[str, float] = {}
        self._work.model.config.use_cache = True
        try:
            if self._work.judge and (self._first or weights.sharded(self._trainer)):
                found = figures(self._work.judge())
        finally:
            self._work.model.config.use_cache = self._trainer.args.use_cache
        agreed: dict[str, float] = from_first(self._trainer, found)
        return agreed

    def _weigh(self, values: Mapping[str, float]) -> None:
        """Keep the adapter where it is the best so far, stop where it has not been for too long."""
        at, stage = self._at, self._work.stage
        measure = values.get("macro_f1" if self._judged else "eval_loss")
        if measure is None:
            return
        better = at.best is None or (measure > at.best if self._judged else measure < at.best)
        if better:
            at.best, at.best_step, at.worse = measure, at.step, 0
            tensors = weights.of(self._trainer)
            if self._first:
                weights.write_folder(tensors, self._work.model, weights.folder_of(self._best, at.step))
            return
        at.worse += 1
        if stage.patience and at.worse >= stage.patience and at.step < at.of:
            at.over = True
            control = self._trainer.control
            control.should_save = control.should_training_stop = True

    # Helpers

    @property
    def _best(self) -> Path:
        return self._work.folder / BEST

    def _agreed_checkpoint(self) -> Path | None:
        """The last sound checkpoint as the first process sees it, which alone removes the others."""
        found = checkpoints.last_sound(Path(self._trainer.args.output_dir)) if self._first else None
        agreed: Path | None = from_first(self._trainer, found)
        return agreed

    def _done(self) -> Done:
        at = self._at
        if at.best is not None:
            weights.load(self._work.model, weights.folder_of(self._best, at.best_step) / weights.FILE)
        values = {} if at.best is None else {("macro_f1" if self._judged else "eval_loss"): at.best}
        why = "somebody had enough" if self._work.enough() else f"{at.worse} evaluations brought nothing better"
        notes = (f"stopped early after {at.step} of {at.of} steps: {why}",) if at.over else ()
        return Done(at.step, at.loss, at.best, at.best_step, at.over, at.seconds, at.rows, at.tokens, values, notes)

    def _tell(self, doing: Doing, values: Mapping[str, float]) -> None:
        """Tell, and keep what was measured."""
        if not self._first:
            return
        event = Event(
            doing, self._work.name, self._at.step, self._at.of, values, self._pace.left_s(self._at.step, self._at.of, self._points)
        )
        if values and self._journal:
            self._journal.write(event)
        self._work.tell(event)

    def _require_finite(self, what: str, value: Any) -> None:
        if math.isfinite(float(value)):
            return
        rate = arguments.learning_rate(self._work.stage)
        lower = f"lower learning_rate (it is {rate:g})"
        wider = "" if self._work.policy.dtype == "float32" else ', or set base.dtype = "float32"'
        raise InputError(f"the {what} of step {self._at.step} in stage {self._work.name} is not a finite number", f"{lower}{wider}")
