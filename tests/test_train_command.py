"""`pointsman train` as a user runs it, its training replaced: flags over the recipe, resuming, progress, exit codes, bad input."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from command_line import run

from data import paths
from data.errors import InputError
from router import encoder
from trainer import launch, train
from trainer.events import Event
from trainer.gates import Gate
from trainer.proof import Proof
from trainer.recipe import Recipe
from trainer.train import Run
from tui.learning import Learning

RECIPE = """
name = "mine"
domain = "triage"
seed = 3
[data]
text_column = "body"
[[stages]]
kind = "sft"
epochs = 1
"""
METRICS = {"accuracy": 0.97, "macro_f1": 0.961, "json_valid": 1.0, "ece": 0.02, "base": {"accuracy": 0.5, "macro_f1": 0.4}}
BASELINES = {"tfidf": {"accuracy": 0.9, "macro_f1": 0.88}}


@dataclass
class Stub:
    """In place of train.run: keeps what it was called with."""

    passed: bool = True
    routable: bool = True
    fault: BaseException | None = None
    recipes: list[Recipe] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    events: tuple[Event, ...] = ()

    def __call__(self, recipe: Recipe, **options: Any) -> Run:
        self.recipes.append(recipe)
        self.options = options
        for event in self.events:
            options["tell"](event)
        if self.fault:
            raise self.fault
        gates = (Gate("accuracy", 0.95, 0.97 if self.passed else 0.9, self.passed), Gate("ece", 0.1, 0.02, True, True))
        proof = Proof(gates, self.routable, None, None, None)
        return Run(Path("/runs/mine-1"), self.passed, METRICS, BASELINES, proof, None, ("weights in float32",))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    found = Stub()
    monkeypatch.setattr(train, "run", found)
    monkeypatch.setattr("tui.opening.prepare", lambda _: None)
    monkeypatch.delenv("RANK", raising=False)
    return found


@pytest.fixture
def mine(tmp_path: Path) -> str:
    file = tmp_path / "mine.toml"
    file.write_text(RECIPE)
    return str(file)


def broken_off(name: str, folder: Path | None = None) -> Path:
    """A run that was killed."""
    found = paths.ensure((folder or paths.data_dir() / "runs") / f".{name}.part")
    (found / "recipe.toml").write_text(RECIPE)
    (found / "state.json").write_text('{"stages": []}')
    return found


def test_without_flags_the_recipe_is_what_its_file_says(stub: Stub, mine: str) -> None:
    assert run("train", mine).code == 0
    assert (stub.recipes[0].name, stub.recipes[0].seed, stub.recipes[0].data.text_column) == ("mine", 3, "body")
    assert (stub.options["out"], stub.options["resume"], stub.options["dry"]) == (None, None, False)


def test_flags_overrule_the_recipe_and_leave_the_rest(
    stub: Stub, mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("text,label\n")
    flags = ("--base", "other", "--data", "a.csv", "--data", "log", "--label-column", "queue", "--seed", "9", "--out", "here")
    assert run("train", mine, *flags).code == 0
    found = stub.recipes[0]
    assert (found.base.model, found.seed, found.data.label_column, found.data.text_column) == ("other", 9, "queue", "body")
    assert found.data.train == (str(tmp_path / "a.csv"), "log")  # a file by its whole path, so that a run goes on from anywhere
    assert found.stages[0].epochs == 1 and stub.options["out"] == Path("here")


def test_shipped_recipes_are_called_by_name(stub: Stub) -> None:
    assert run("train", "triage").code == 0
    assert stub.recipes[0].domain == "triage"


def test_the_result_is_one_json_value_with_the_promised_fields(stub: Stub, mine: str) -> None:
    ran = run("train", mine, "--json")
    assert ran.code == 0 and ran.out.count("\n") == 1
    found = json.loads(ran.out)
    assert found.keys() >= {"run", "passed", "gates", "metrics", "baselines"}
    assert (found["run"], found["passed"], found["metrics"]["accuracy"]) == ("/runs/mine-1", True, 0.97)
    assert found["gates"][0]["name"] == "accuracy" and found["baselines"]["tfidf"]["accuracy"] == 0.9


def test_the_result_is_shown_beside_base_and_baselines(stub: Stub, mine: str) -> None:
    ran = run("train", mine)
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["adapter", "97.0%", "96.1%", "100.0%", "2.0%"] in lines and ["base", "50.0%", "40.0%", "-", "-"] in lines
    assert "TF-IDF + logistic regression" in ran.out and "gate accuracy: passed, 0.970 of at least 0.950" in ran.out
    assert "run: /runs/mine-1" in ran.out and "pointsman report mine-1" in ran.out
    assert "weights in float32" in ran.err


def test_a_gate_that_is_not_passed_is_exit_code_3(stub: Stub, mine: str) -> None:
    stub.passed = False
    ran = run("train", mine)
    assert ran.code == 3 and "gate accuracy: NOT passed, 0.900 of at least 0.950" in ran.out
    assert "a gate is not passed" in ran.out


def test_what_is_not_proven_better_than_its_base_is_said(stub: Stub, mine: str) -> None:
    stub.routable = False
    ran = run("train", mine)
    assert ran.code == 0 and "not proven better than its base" in ran.out


def test_a_dry_run_trains_nothing_and_passes_no_gate(stub: Stub, mine: str) -> None:
    stub.passed = False
    ran = run("train", mine, "--dry-run")
    assert ran.code == 0 and stub.options["dry"] is True and "gate" not in ran.out


def test_resume_alone_takes_the_newest_run_that_broke_off_and_its_own_recipe(stub: Stub) -> None:
    import os

    old, new = broken_off("mine-1"), broken_off("mine-2")
    os.utime(old, (1, 1))
    assert run("train", "--resume").code == 0
    assert stub.options["resume"] == new and stub.recipes[0].seed == 3


def test_a_run_to_go_on_with_is_named_by_path_or_by_how_it_begins(stub: Stub, tmp_path: Path) -> None:
    one, other = broken_off("mine-1"), broken_off("theirs-1")
    assert run("train", "--resume", "their").code == 0 and stub.options["resume"] == other
    assert run("train", "--resume", str(one)).code == 0 and stub.options["resume"] == one
    elsewhere = broken_off("mine-3", tmp_path / "elsewhere")
    assert run("train", "--resume", "mine", "--out", str(tmp_path / "elsewhere")).code == 0
    assert stub.options["resume"] == elsewhere
    broken_off("mine-2")
    run("train", "--resume", "mine").refused("several runs that broke off begin with 'mine'", "mine-1")
    run("train", "--resume", "triage").refused("no run that broke off begins with 'triage'", "theirs-1")


def test_without_a_run_that_broke_off_there_is_nothing_to_resume(stub: Stub) -> None:
    run("train", "--resume").refused("no run broke off", "pointsman train RECIPE")


def test_an_interrupt_says_how_to_go_on(stub: Stub, mine: str) -> None:
    broken_off("mine-7")
    stub.fault = KeyboardInterrupt()
    ran = run("train", mine)
    assert (ran.code, ran.out) == (130, "") and "to go on: pointsman train --resume mine-7" in ran.err


def test_a_foreseen_fault_is_one_line(stub: Stub, mine: str) -> None:
    stub.fault = InputError("the loss of step 4 is not a finite number", "lower learning_rate")
    ran = run("train", mine)
    assert ran.code == 1 and ran.out == ""
    assert ran.err.splitlines()[-1] == "pointsman: the loss of step 4 is not a finite number; lower learning_rate"


def test_progress_outside_a_terminal_is_a_line_a_tenth_and_one_an_evaluation(stub: Stub, mine: str) -> None:
    steps = [
        Event("training", "1 sft", step, 100, {"loss": 1 / step, "tokens_per_s": 812.4, "learning_rate": 1e-4}, 100.0 - step)
        for step in range(1, 101)
    ]
    measured = Event("evaluating", "1 sft", 50, 100, {"eval_loss": 0.25, "macro_f1": 0.875, "json_valid": 1.0})
    preparing = Event("preparing", note="reading the rows")
    stub.events = (preparing, preparing, *steps[:50], Event("evaluating", "1 sft", 50, 100), measured, *steps[50:], Event("saving"))
    lines = run("train", mine).err.splitlines()
    assert lines.count("preparing: reading the rows") == 1
    assert "1 sft, after step 50 of 100: validation loss 0.2500, macro-F1 87.5%, JSON valid 100.0%" in lines
    told = [line for line in lines if ", step " in line]
    assert len(told) == 11 and told[0] == "1 sft, step 1 of 100: loss 1.0000, 812 tokens/s, 1 min 39 s left"


def test_several_processes_get_the_same_arguments(stub: Stub, mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def launched(argv: list[str], processes: int, recipe: Recipe) -> int:
        seen.append((argv, processes, recipe.seed))
        return 3

    monkeypatch.setattr(launch, "run", launched)
    ran = run("train", mine, "--launch", "2", "--seed", "5", "--data", "log", "--out", "o", "--json")
    assert ran.code == 3 and not stub.recipes
    assert seen == [(["train", mine, "--out", "o", "--seed", "5", "--data", "log", "--json"], 2, 5)]


def test_only_the_first_of_several_processes_tells(stub: Stub, mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    stub.passed = False
    ran = run("train", mine, "--json")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_the_schema_is_json(stub: Stub) -> None:
    found = json.loads(run("train", "--schema").out)
    assert isinstance(found, Mapping) and "stages" in found["properties"] and not stub.recipes


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name = 'x'\ndomain = 'triage'\nsede = 4\n", ("unknown key 'sede'", "seed")),
        ("name = 'x'\n[data\n", ("is not TOML",)),
        ("name = 'x'\ndomain = 'triage'\n[[stages]]\nkind = 'sft'\nbatch = 0\n", ("stages.0.batch",)),
    ],
)
def test_a_wrong_recipe_is_refused_before_anything_else(stub: Stub, tmp_path: Path, content: str, words: tuple[str, ...]) -> None:
    file = tmp_path / "r.toml"
    file.write_text(content)
    run("train", str(file)).refused(*words)
    assert not stub.recipes


def test_wrong_usage_is_exit_code_2(stub: Stub, mine: str) -> None:
    none = run("train")
    assert none.code == 2 and "name a recipe: " in none.err and "triage" in none.err
    assert run("train", mine, "--seed", "-1").code == 2
    assert run("train", mine, "--launch", "0").code == 2
    run("train", "triagge").refused("there is no recipe 'triagge'", "triage")


def test_the_encoder_is_prepared_for_the_baselines(stub: Stub, mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr("tui.opening.prepare", seen.append)
    run("train", mine, "--dry-run")
    assert not seen
    run("train", mine)
    assert seen == [encoder.ENCODER]


def test_in_a_terminal_one_line_is_redrawn_and_evaluations_stay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tui.output.is_terminal", lambda stream: True)
    monkeypatch.setattr("tui.output.REDRAW_S", 0.0)
    monkeypatch.setenv("COLUMNS", "160")
    with Learning() as learning:
        learning.tell(Event("preparing", note="reading the rows"))
        for step in (1, 2):
            learning.tell(Event("training", "1 sft", step, 4, {"loss": 0.5 / step, "tokens_per_s": 90.0}, 12.0))
        learning.tell(Event("saving", "1 sft", 2, 4))
        learning.tell(Event("evaluating", "1 sft", 2, 4, {"eval_loss": 0.125}))
        learning.tell(Event("judging", "", 3, 9, note="validation"))
    drawn = capsys.readouterr().err.split("\r\x1b[2K")
    assert "preparing: reading the rows" in drawn
    assert any(
        line.startswith("1 sft training ████") and "50% 2 of 4 loss 0.2500, 90 tokens/s, 12 s left" in line for line in drawn
    )
    assert "1 sft, after step 2 of 4: validation loss 0.1250\n" in drawn
    assert any("judging" in line and "3 of 9" in line for line in drawn)
    assert drawn[-1] == ""  # nothing of the line is left
