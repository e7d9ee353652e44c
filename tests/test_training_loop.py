"""The training loop on a tiny random model: it learns, it resumes exactly, checkpoints are whole, faults stop it early."""

import errno
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs PyTorch")

import torch
from safetensors.torch import save_file
from tiny_training import rows, trainer, work
from transformers import TrainerCallback

from data.errors import InputError
from trainer import arguments, checkpoints, loop
from trainer._loop import position
from trainer._loop.order import Order, lengths_of
from trainer.events import Event
from trainer.recipe import StageTable
from trainer.stages import Done, Work

CLOCKS = ("tokens_per_s",)
pytestmark = [  # PEFT 0.21 asks transformers 5.23 by names that are to go
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]


class Killed(BaseException):
    """Stands for kill -9: nothing that runs in this process may catch it."""


def killing(at: int, doing: str = "training") -> Any:
    """Listens until the event of a step, and kills there."""

    def tell(event: Event) -> None:
        if event.doing == doing and event.done == at:
            raise Killed

    return tell


def adapter(work: Work) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in work.model.named_parameters() if "lora_" in name}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def curve(folder: Path) -> list[tuple[str, int, dict[str, float]]]:
    """What metrics.jsonl holds, without clocks."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        (line["doing"], line["done"], {name: value for name, value in line["values"].items() if name not in CLOCKS})
        for line in lines
    ]


def run(work: Work, **options: Any) -> Done:
    return loop.fit(trainer(work, **options), work)


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run."""

    done: Done
    curve: list[tuple[str, int, dict[str, float]]]
    adapter: dict[str, torch.Tensor]

    def equals(self, job: Work) -> bool:
        return curve(job.folder) == self.curve and same(adapter(job), self.adapter)


def whole_run(folder: Path, held: int = 0, **options: Any) -> Whole:
    job = work(folder, **options)
    done = run(job, held=held)
    return Whole(done, curve(folder), adapter(job))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Of the usual options, nothing evaluated."""
    return whole_run(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a run that was killed after 8 steps: those of 3 and 6."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(Killed):
        run(work(folder, killing(8)))
    return folder / "checkpoints"


MANY = {"micro_batch": 4, "evaluate_every": 0.4}
"""Steps of two micro batches, evaluated after 4, 8 and 10 of them; checkpoints after 3, 6, 9 and 10."""


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Of the options MANY, with rows held out."""
    return whole_run(tmp_path_factory.mktemp("whole"), held=8, **MANY)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_loss_falls_every_adapter_weight_moves_and_no_base_weight_does(tmp_path: Path) -> None:
    told: list[Event] = []
    job = work(tmp_path, told.append, epochs=6, learning_rate=5e-2)
    before = {name: tensor.detach().clone() for name, tensor in job.model.named_parameters()}
    done = run(job)
    losses = [event.values["loss"] for event in told if event.doing == "training"]
    assert (done.steps, len(losses), done.rows) == (30, 30, 240)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5]) and done.loss == losses[-1]
    assert done.tokens == 6 * sum(len(row["input_ids"]) for row in rows(40))
    for name, tensor in job.model.named_parameters():
        moved = tensor != before[name]
        assert moved.all() if "lora_" in name else not moved.any(), name


def test_events_and_metrics_hold_every_step_once_with_finite_figures_and_the_time_left(tmp_path: Path) -> None:
    told: list[Event] = []
    run(work(tmp_path, told.append), held=8)
    steps = [event for event in told if event.doing == "training"]
    assert [(event.stage, event.done, event.of) for event in steps] == [("1 sft", step, 10) for step in range(1, 11)]
    assert all(event.values.keys() >= {"loss", "learning_rate", "grad_norm", "tokens_per_s", "epoch"} for event in steps)
    assert all(event.eta_s is not None and event.eta_s >= 0 for event in steps) and steps[-1].eta_s == 0
    assert [(event.done, set(event.values)) for event in told if event.doing == "evaluating" and event.values] == [
        (5, {"eval_loss"}),
        (10, {"eval_loss"}),
    ]
    kept = [(doing, done) for doing, done, _ in curve(tmp_path)]
    assert kept == [(event.doing, event.done) for event in told if event.values]


def test_nothing_is_printed_by_the_trainer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(work(tmp_path), held=8)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("kill_at", "doing"), [(4, "training"), (5, "training"), (8, "training"), (6, "saving"), (8, "evaluating")]
)
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, evaluated: Whole, kill_at: int, doing: str
) -> None:
    with pytest.raises(Killed):
        run(work(tmp_path, killing(kill_at, doing), **MANY), held=8)
    resumed = work(tmp_path, **MANY)
    torch.manual_seed(999)  # whatever the new process has drawn before
    found = run(resumed, held=8)
    assert evaluated.equals(resumed)
    assert (found.steps, found.loss, found.best, found.best_step, found.rows, found.tokens) == (
        evaluated.done.steps,
        evaluated.done.loss,
        evaluated.done.best,
        evaluated.done.best_step,
        evaluated.done.rows,
        evaluated.done.tokens,
    )


def test_a_run_killed_again_and_again_comes_to_the_same_end(tmp_path: Path, whole: Whole) -> None:
    for at in (1, 4, 5, 10):
        with pytest.raises(Killed):
            run(work(tmp_path, killing(at)))
    resumed = work(tmp_path)
    run(resumed)
    assert whole.equals(resumed)


def test_resuming_a_finished_stage_trains_no_further(tmp_path: Path) -> None:
    first = work(tmp_path, max_steps=7)  # in the middle of the second epoch
    expected = run(first, held=8)
    kept = curve(tmp_path)
    again = work(tmp_path, max_steps=7)
    assert run(again, held=8) == expected
    assert curve(tmp_path) == kept and same(adapter(again), adapter(first))


def test_evaluations_change_nothing_of_what_is_trained(tmp_path: Path, whole: Whole) -> None:
    def judge() -> dict[str, float]:
        return {"macro_f1": float(torch.rand(3).sum())}

    plain, judged = (
        work(tmp_path / "plain"),
        work(tmp_path / "judged", judge=judge, best="macro_f1", evaluate_every=0.3, patience=0),
    )
    run(plain)
    run(judged, held=8)
    steps = [one for one in curve(judged.folder) if one[0] == "training"]
    assert steps == curve(plain.folder)


def test_an_interrupt_finishes_the_step_and_leaves_a_checkpoint_to_go_on_from(tmp_path: Path, evaluated: Whole) -> None:
    def interrupt(event: Event) -> None:
        if event.doing == "training" and event.done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(work(tmp_path, interrupt, **MANY), held=8)
    found = checkpoints.last_sound(tmp_path / "checkpoints")
    assert found is not None and checkpoints.step_of(found) == 4  # where an evaluation was due, which is made up for
    assert position.read(found).pending
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = work(tmp_path, **MANY)
    run(resumed, held=8)
    assert evaluated.equals(resumed)


def test_enough_ends_the_stage_after_the_step_in_hand_and_keeps_the_best_adapter(tmp_path: Path) -> None:
    asked: list[int] = []
    verdicts = iter((0.7, 0.4))
    told: list[Event] = []

    def enough() -> bool:
        asked.append(1)
        return len(asked) >= 7

    job = work(tmp_path, told.append, judge=lambda: {"macro_f1": next(verdicts)}, best="macro_f1")
    done = run(replace(job, enough=enough))
    assert (done.steps, done.best, done.best_step, done.stopped_early) == (7, 0.7, 5, True)
    assert done.notes == ("stopped early after 7 of 10 steps: somebody had enough",)
    assert [event.done for event in told if event.doing == "evaluating" and event.values] == [5, 7]
    assert run(replace(work(tmp_path, judge=dict, best="macro_f1"), enough=enough)).steps == 7  # it goes no further later


def test_an_interrupt_while_judging_breaks_off_at_once_and_the_judgement_is_made_up_for(tmp_path: Path) -> None:
    verdicts = iter(("never", 0.4, 0.7))

    def judge() -> dict[str, float]:
        verdict = next(verdicts)
        if verdict == "never":
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("it went on")
        return {"macro_f1": float(verdict)}

    options = {"judge": judge, "best": "macro_f1"}
    with pytest.raises(KeyboardInterrupt):
        run(work(tmp_path, **options))
    done = run(work(tmp_path, **options))
    assert (done.best, done.best_step, done.steps) == (0.7, 10, 10)
    assert [(doing, step) for doing, step, _ in curve(tmp_path) if doing == "evaluating"] == [("evaluating", 5), ("evaluating", 10)]


@pytest.mark.parametrize("damage", ["truncated", "missing", "changed", "unsealed", "half-written seal", "emptied"])
def test_a_damaged_checkpoint_is_skipped_and_removed(tmp_path: Path, killed: Path, damage: str) -> None:
    folder = shutil.copytree(killed, tmp_path / "checkpoints")
    spoilt = folder / "checkpoint-6"
    target = spoilt / ("trainer_state.json" if damage == "truncated" else "optimizer.pt")
    if damage == "truncated":
        target.write_bytes(target.read_bytes()[:100])
    elif damage == "missing":
        target.unlink()
    elif damage == "changed":
        flipped = bytearray(target.read_bytes())
        flipped[len(flipped) // 2] ^= 1
        target.write_bytes(flipped)
    elif damage == "unsealed":
        (spoilt / checkpoints.SEAL).unlink()
    elif damage == "half-written seal":
        (spoilt / checkpoints.SEAL).write_text((spoilt / checkpoints.SEAL).read_text()[:40])
    else:
        shutil.rmtree(spoilt)
        spoilt.mkdir()
    assert checkpoints.last_sound(folder) == folder / "checkpoint-3"
    assert not spoilt.exists()


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path: Path, killed: Path, whole: Whole) -> None:
    shutil.copytree(killed.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "checkpoints" / "checkpoint-6" / "adapter_model.safetensors").write_bytes(b"")
    resumed = work(tmp_path)
    run(resumed)
    assert whole.equals(resumed)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path: Path) -> None:
    job = work(tmp_path)
    made = trainer(job)
    saved = made._save_rng_state

    def break_off(folder: str) -> None:
        if made.state.global_step == 6:
            raise Killed
        saved(folder)

    made._save_rng_state = break_off
    with pytest.raises(Killed):
        loop.fit(made, job)
    folder = tmp_path / "checkpoints"
    assert [one.name for one in folder.iterdir() if not one.name.startswith(".")] == ["checkpoint-3"]
    assert any(folder.glob(".*.part/checkpoint-6"))
    assert checkpoints.last_sound(folder) == folder / "checkpoint-3" and not any(folder.glob(".*"))


def test_a_full_disk_is_a_clear_fault_and_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    job = work(tmp_path)
    made = trainer(job)
    saved = made._save_optimizer_and_scheduler

    def full(folder: str) -> None:
        if made.state.global_step == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        saved(folder)

    made._save_optimizer_and_scheduler = full
    with pytest.raises(InputError, match="cannot write a checkpoint to .*: No space left on device; free space"):
        loop.fit(made, job)
    assert checkpoints.last_sound(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "checkpoint-3"


def test_two_checkpoints_are_kept_and_hold_no_pickled_arguments(tmp_path: Path) -> None:
    run(work(tmp_path))
    found = checkpoints.all_of(tmp_path / "checkpoints")
    assert [checkpoints.step_of(one) for one in found] == [9, 10] and all(map(checkpoints.sound, found))
    names = {one.name for one in found[-1].iterdir()}
    assert names == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "complete.json",
        "optimizer.pt",
        "position.json",
        "rng_state.pth",
        "scheduler.pt",
        "trainer_state.json",
    }


def test_the_state_files_of_torch_load_without_executing_anything(tmp_path: Path, killed: Path) -> None:
    folder = shutil.copytree(killed / "checkpoint-6", tmp_path / "checkpoint-6")

    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "executed"),))

    torch.save(Evil(), folder / "optimizer.pt")
    job = work(tmp_path)
    made = trainer(job)
    with pytest.raises(Exception, match="[Ww]eights.only|weights_only"):
        made.train(resume_from_checkpoint=str(folder))
    assert not (tmp_path / "executed").exists()


def test_a_loss_that_is_no_number_stops_at_once_and_leaves_no_checkpoint_of_it(tmp_path: Path) -> None:
    job = work(tmp_path)
    made = trainer(job)
    own = made.compute_loss
    made.compute_loss = lambda model, inputs, **more: (
        own(model, inputs, **more) * (float("nan") if made.state.global_step == 6 else 1.0)
    )
    with pytest.raises(InputError, match="loss of step 7 in stage 1 sft is not a finite number; lower learning_rate"):
        loop.fit(made, job)
    assert checkpoints.last_sound(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "checkpoint-6"
    assert [step for _, step, _ in curve(tmp_path)] == list(range(1, 7))


def test_gradients_that_overflow_stop_before_the_next_checkpoint(tmp_path: Path) -> None:
    job = work(tmp_path, checkpoints=1)
    made = trainer(job)

    class Overflow(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 2:
                next(one for name, one in job.model.named_parameters() if "lora_B" in name).data.fill_(float("inf"))

    made.add_callback(Overflow())
    with pytest.raises(InputError, match="of step 3 in stage 1 sft"):
        loop.fit(made, job)
    assert [checkpoints.step_of(one) for one in checkpoints.all_of(tmp_path / "checkpoints")] == [1, 2]


def test_early_stopping_ends_after_patience_and_brings_the_best_adapter_back(tmp_path: Path) -> None:
    verdicts = iter((0.5, 0.8, 0.7, 0.8, 0.9))
    seen: list[dict[str, torch.Tensor]] = []

    def judge() -> dict[str, float]:
        seen.append(adapter(job))
        return {"macro_f1": next(verdicts), "ece": float("inf")}

    job = work(tmp_path, judge=judge, best="macro_f1", evaluate_every=0.1, patience=2)
    done = run(job)
    assert (done.stopped_early, done.steps, done.best, done.best_step) == (True, 4, 0.8, 2)
    assert same(adapter(job), seen[1]) and not same(adapter(job), seen[3])
    assert done.notes and "stopped early after 4 of 10 steps" in done.notes[0]
    assert [values for doing, _, values in curve(tmp_path) if doing == "evaluating"][1] == {"macro_f1": 0.8}
    again = work(tmp_path, judge=judge, best="macro_f1", evaluate_every=0.1, patience=2)
    found = run(again)
    assert (found.stopped_early, found.steps, found.best_step) == (True, 4, 2) and same(adapter(again), seen[1])


def test_early_stopping_counts_on_across_a_resume(tmp_path: Path) -> None:
    verdicts = {1: 0.5, 2: 0.8, 3: 0.7, 4: 0.6}

    def options(at: list[int]) -> dict[str, Any]:
        def judge() -> dict[str, float]:
            return {"macro_f1": verdicts[at[-1]]}

        return {"judge": judge, "best": "macro_f1", "evaluate_every": 0.1, "patience": 2}

    steps = [0]

    def tell(event: Event) -> None:
        if event.doing == "training":
            steps.append(event.done)
        if event.doing == "training" and event.done == 4 and 4 not in steps[:-1]:
            raise Killed

    with pytest.raises(Killed):
        run(work(tmp_path, tell, **options(steps)))
    done = run(work(tmp_path, tell, **options(steps)))
    assert (done.stopped_early, done.steps, done.best, done.best_step) == (True, 4, 0.8, 2)


def test_accumulated_micro_batches_make_the_same_steps_as_one_batch(tmp_path: Path) -> None:
    found = []
    for micro in (8, 4, 1):
        job = work(tmp_path / str(micro), dropout=0.0, micro_batch=micro)
        run(job)
        found.append(([values["loss"] for _, _, values in curve(job.folder)], adapter(job)))
    for losses, weights in found[1:]:
        assert losses == pytest.approx(found[0][0], rel=1e-5)
        assert all(torch.allclose(weights[name], tensor, atol=1e-4) for name, tensor in found[0][1].items())


def test_macro_f1_as_the_measure_needs_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs labels"):
        run(work(tmp_path, best="macro_f1"))


def test_a_checkpoint_of_another_adapter_is_refused(tmp_path: Path, killed: Path) -> None:
    shutil.copytree(killed.parent, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "checkpoints"
    save_file({"other.lora_A.weight": torch.zeros(2, 2)}, folder / "checkpoint-6" / "adapter_model.safetensors")
    checkpoints.seal(folder / "checkpoint-6", folder / "checkpoint-7")
    with pytest.raises(InputError, match="another adapter"):
        run(work(tmp_path))


def test_a_torn_last_line_of_the_metrics_is_cut_off(tmp_path: Path, killed: Path, whole: Whole) -> None:
    shutil.copytree(killed.parent, tmp_path, dirs_exist_ok=True)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"doing": "training", "done": 2, "val')
    run(work(tmp_path))
    assert curve(tmp_path) == whole.curve


def test_the_order_depends_on_seed_and_epoch_alone_and_groups_lengths() -> None:
    chance = torch.Generator().manual_seed(1)
    lengths = torch.randint(5, 200, (203,), generator=chance).tolist()
    order = Order(203, lengths, 8, 3)
    first = list(order)
    torch.rand(5)
    assert list(order) == first and sorted(first) == list(range(203))
    order.set_epoch(1)
    second = list(order)
    assert second != first and sorted(second) == list(range(203))
    assert list(Order(203, lengths, 8, 4)) != first
    padding = [max(lengths[row] for row in first[at : at + 8]) * len(first[at : at + 8]) for at in range(0, 203, 8)]
    assert sum(padding) < 1.25 * sum(lengths)
    assert max(lengths) in {lengths[row] for row in first[:8]}
    assert sorted(Order(5, None, 8, 3)) == list(range(5)) and list(Order(3, [1, 2, 3], 8, 0))


def test_lengths_are_those_of_the_token_ids() -> None:
    assert lengths_of(rows(3)) == [len(row["input_ids"]) for row in rows(3)]
    assert lengths_of([{"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]}]) == [5]
    assert lengths_of([{"prompt": "text"}]) is None and lengths_of([]) is None and lengths_of(["text"]) is None


@pytest.mark.parametrize(
    ("batch", "micro", "among", "asked", "expected"),
    [(16, 0, 1, 0, (16, 1)), (64, 0, 1, 0, (16, 4)), (16, 4, 2, 0, (4, 2)), (16, 0, 2, 2, (2, 4)), (34, 0, 1, 0, (2, 17))],
)
def test_the_batch_is_the_same_however_it_is_shared(
    batch: int, micro: int, among: int, asked: int, expected: tuple[int, int]
) -> None:
    stage = StageTable(kind="sft", batch=batch, micro_batch=micro)
    rows_at_once, times = arguments.shares(stage, among, asked)
    assert (rows_at_once, times) == expected and rows_at_once * times * among == batch


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be shared evenly by 3"):
        arguments.shares(StageTable(kind="sft", batch=16), 3)
    with pytest.raises(InputError, match="micro batches of 5"):
        arguments.shares(StageTable(kind="sft", batch=16), 1, 5)


def test_the_arguments_overrule_what_trl_would_do_by_itself(tmp_path: Path) -> None:
    from trl import DPOConfig, KTOConfig, SFTConfig

    job = work(tmp_path, warmup=0.1, schedule="constant", max_steps=7)
    for kind in (SFTConfig, DPOConfig, KTOConfig):
        found = arguments.of(job, kind, max_length=None)
        assert (found.bf16, found.fp16, found.use_cpu, found.gradient_checkpointing, found.logging_steps) == (
            False,
            False,
            True,
            False,
            1,
        )
        assert (found.max_steps, found.warmup_steps, found.lr_scheduler_type, found.report_to) == (
            7,
            0.1,
            "constant_with_warmup",
            [],
        )
        assert found.output_dir == str(tmp_path / "checkpoints") and found.save_steps == 3 and found.seed == job.recipe.seed


def test_each_kind_has_its_own_learning_rate_where_the_recipe_gives_none() -> None:
    assert arguments.learning_rate(StageTable(kind="dpo")) == 1e-5
    assert arguments.learning_rate(StageTable(kind="sft")) == 2e-4
    assert arguments.learning_rate(StageTable(kind="sft", learning_rate=3e-3)) == 3e-3
