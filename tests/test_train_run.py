"""A whole run on a tiny random base: the folder it leaves, what is proven, what is undone, and what is refused before it starts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from packs import LABELS, lines, pack
from safetensors.torch import load_file
from tiny_checkpoints import checkpoint

from data.errors import InputError, ModelError, NotFound
from trainer import manifest, recipe, run_folder, train, underway
from trainer.events import Event

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it

CASES = [{"id": "c1", "text": "someone took my card", "expect": {"label": "FRAUD"}, "why": "plain"}]
FILES = {
    "recipe.toml",
    "manifest.json",
    "metrics.json",
    "metrics.jsonl",
    "predictions.jsonl",
    "base_predictions.jsonl",
    "report.html",
}


@pytest.fixture
def base(tmp_path, monkeypatch) -> Path:
    """The general set is cut short: it is measured elsewhere."""
    from trainer import general

    some = tuple(row for row in general.rows() if row.ask)[:2]
    monkeypatch.setattr(general, "rows", lambda: some)
    return checkpoint(tmp_path / "base", max_position_embeddings=2048)


def asked(base: Path, *stages: dict, **more) -> recipe.Recipe:
    """A recipe for the test pack; stages: beside sft."""
    usual = {"kind": "sft", "batch": 4, "epochs": 2, "learning_rate": 0.01}
    found = {"name": "r", "domain": "desk", "stages": [{**usual, **stage} for stage in stages or ({},)]}
    return recipe.validated({**found, "base": {"model": str(base)}, "lora": {"rank": 4, "alpha": 8}, **more}, "test")


def weights(folder: Path) -> dict:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def test_a_run_leaves_a_complete_folder_whose_manifest_holds(tmp_path, base):
    pack(cases=CASES)
    told: list[Event] = []
    done = train.run(asked(base), out=tmp_path / "out", tell=told.append)
    assert done.folder is not None
    assert {one.name for one in done.folder.iterdir()} >= FILES | {"adapter", "lost.jsonl", "stages"}
    assert manifest.check(done.folder) == []
    found = run_folder.read(done.folder)
    assert [len(found.predictions), len(found.base_predictions)] == [3, 3]
    assert found.metrics["baselines"].keys() >= {"majority", "tfidf"}
    assert found.metrics["adversarial_cases"]["of"] == 1
    assert {gate.name for gate in done.proof.gates} >= {"json_valid", "not worse than the base", "general loss"}
    assert done.passed is found.proof["passed"]
    assert [one.name for one in (tmp_path / "out").iterdir()] == [done.folder.name]
    doings = {event.doing for event in told}
    assert doings >= {"preparing", "probing", "training", "evaluating", "judging", "saving"}
    steps = [line["done"] for line in found.curve if line["doing"] == "training"]
    assert steps == list(range(1, 7))
    assert not list(done.folder.rglob("checkpoints"))


def test_the_saved_adapter_names_no_folder_of_this_machine(tmp_path, base):
    pack()
    done = train.run(asked(base), out=tmp_path / "out")
    for file in ("adapter/adapter_config.json", "manifest.json", "metrics.json"):
        assert str(tmp_path) not in (done.folder / file).read_text()


def test_the_same_recipe_gives_the_same_adapter(tmp_path, base):
    pack()
    first, second = (train.run(asked(base), out=tmp_path / name) for name in ("a", "b"))
    one, other = weights(first.folder), weights(second.folder)
    assert all((one[name] == other[name]).all() for name in one)


def test_a_stage_that_costs_general_ability_is_undone(tmp_path, base, monkeypatch):
    from trainer.judging import Judge

    pack()
    usual, asked_for = Judge.general, []

    def general(judge):
        found = usual(judge)
        asked_for.append(found)
        worse = replace(found.mine, loss=found.base.loss + (5.0 if len(asked_for) == 2 else 0.0))
        return replace(found, mine=worse)

    monkeypatch.setattr(Judge, "general", general)
    gates = {"worse_by": 1.0, "general_loss": 0.02, "general_answers": 1.0}
    both = train.run(asked(base, {}, {"learning_rate": 0.1}, gates=gates), out=tmp_path / "two")
    assert [one["kept"] for one in both.metrics["stages"]] == [True, False]
    assert "general loss" in both.metrics["stages"][1]["why"]
    kept, undone = (
        load_file(both.folder / "stages" / name / "adapter" / "adapter_model.safetensors") for name in ("1-sft", "2-sft")
    )
    final = weights(both.folder)
    assert all((final[name] == kept[name]).all() for name in kept)
    assert any((final[name] != undone[name]).any() for name in undone)


def test_a_run_goes_on_from_its_parent(tmp_path, base):
    pack()
    parent = train.run(asked(base), out=tmp_path / "out")
    child = asked(base, {"learning_rate": 1e-9, "epochs": 1}).model_copy(
        update={"base": recipe.BaseTable(model=str(base), adapter=str(parent.folder))}
    )
    done = train.run(child, out=tmp_path / "child")
    before, after = weights(parent.folder), weights(done.folder)
    assert all((before[name] - after[name]).abs().max() < 1e-6 for name in before)
    assert manifest.read(done.folder).parent == manifest.read(parent.folder).hash8
    assert "not worse than the parent" in {gate.name for gate in done.proof.gates}


def test_a_parent_with_other_lora_settings_is_refused(tmp_path, base):
    pack()
    parent = train.run(asked(base), out=tmp_path / "out")
    child = asked(base, lora={"rank": 8, "alpha": 8}).model_copy(
        update={"base": recipe.BaseTable(model=str(base), adapter=str(parent.folder))}
    )
    with pytest.raises(InputError, match="rank, alpha"):
        train.run(child, out=tmp_path / "child")


def test_a_dry_run_estimates_and_leaves_nothing(tmp_path, base):
    pack()
    done = train.run(asked(base), out=tmp_path / "out", dry=True)
    assert done.folder is None
    assert done.estimate.measured
    assert not (tmp_path / "out").exists()


def test_whoever_has_enough_gets_a_whole_run_of_what_was_trained_so_far(tmp_path, base):
    pack(cases=CASES)
    out, told = tmp_path / "out", []

    def tell(event: Event) -> None:
        told.append(event)
        if event.doing == "training":
            underway.enough(underway.unfinished(out)[0])

    done = train.run(asked(base, {}, {}), out=out, tell=tell)
    assert [event.done for event in told if event.doing == "training"] == [1, 2]  # told before it was asked
    assert [event.run for event in told if event.run] == [done.folder.name]
    assert any(event.samples for event in told) and all(len(event.samples) <= 3 for event in told)
    assert [one["kind"] for one in json.loads((done.folder / "metrics.json").read_text())["stages"]] == ["sft"]
    assert manifest.check(done.folder) == [] and not (done.folder / underway.ENOUGH).exists()
    assert underway.unfinished(out) == []
    with pytest.raises(NotFound):
        underway.enough(done.folder)


class Stop(Exception):
    """Where the test breaks a run off."""


def broken_off(tmp_path, base, **more) -> Path:
    """A run that ended in the middle of its second epoch."""

    def tell(event: Event) -> None:
        if event.doing == "training" and event.done == 4:
            raise Stop

    with pytest.raises(Stop):
        train.run(asked(base, checkpoints=1, **more), out=tmp_path / "out", tell=tell)
    (left,) = train.unfinished(tmp_path / "out")
    return left


def test_a_run_that_broke_off_goes_on_with_the_same_curve(tmp_path, base):
    pack()
    whole = train.run(asked(base, checkpoints=1), out=tmp_path / "whole")
    left = broken_off(tmp_path, base)
    done = train.run(train.recipe_of(left), out=tmp_path / "out", resume=left)
    curves = [
        [(line["done"], line["values"]["loss"]) for line in run_folder.curve(folder) if line["doing"] == "training"]
        for folder in (whole.folder, done.folder)
    ]
    assert curves[0] == curves[1]
    assert train.unfinished(tmp_path / "out") == []
    one, other = weights(whole.folder), weights(done.folder)
    assert all((one[name] == other[name]).all() for name in one)


def test_a_changed_recipe_or_changed_rows_do_not_go_on(tmp_path, base):
    pack()
    left = broken_off(tmp_path, base)
    with pytest.raises(InputError, match="learning_rate"):
        train.run(asked(base, {"learning_rate": 0.5}, checkpoints=1), out=tmp_path / "out", resume=left)
    rows = [{"text": f"{text}!", "label": label, "output": {"label": label}} for label, texts in LABELS.items() for text in texts]
    pack(examples=[*rows, {**rows[0], "text": "odd one", "split": "validation"}])
    with pytest.raises(InputError, match="training rows are not the same"):
        train.run(asked(base, checkpoints=1), out=tmp_path / "out", resume=left)


def test_a_finished_run_and_no_run_do_not_go_on(tmp_path, base):
    pack()
    done = train.run(asked(base), out=tmp_path / "out")
    with pytest.raises(InputError, match="complete already"):
        train.run(asked(base), resume=done.folder)
    with pytest.raises(NotFound, match="no run"):
        train.run(asked(base), resume=tmp_path)


def test_a_run_that_is_under_way_is_not_trained_twice(tmp_path, base):
    from trainer._run.folder import Folder
    from trainer._run.together import Together

    pack()
    left = broken_off(tmp_path, base)
    with Folder(left, Together()).locked(), pytest.raises(InputError, match="another process"):
        train.run(asked(base, checkpoints=1), out=tmp_path / "out", resume=left)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "empty"),
        ([{"text": text, "label": "FRAUD"} for texts in LABELS.values() for text in texts], "FRAUD"),
        ([{"text": "a", "label": "FRUAD"}, {"text": "b", "label": "INFO"}], "FRUAD"),
        ([{"message": "a", "lable": "INFO"}], "label"),
    ],
)
def test_rows_that_nothing_can_be_learnt_from_are_refused_before_anything_is_written(tmp_path, base, rows, words):
    pack()
    lines(tmp_path / "rows.jsonl", rows)
    with pytest.raises((InputError, NotFound), match=words):
        train.run(asked(base, data={"train": [str(tmp_path / "rows.jsonl")]}), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_no_number_ends_the_run_without_a_folder_of_its_name(tmp_path, base, monkeypatch):
    from trainer.stages import sft

    pack()
    usual = sft._losses
    monkeypatch.setattr(sft, "_losses", lambda *given: usual(*given) * float("nan"))
    with pytest.raises(InputError, match="step 1"):
        train.run(asked(base), out=tmp_path / "out")
    assert [one.name for one in (tmp_path / "out").iterdir() if not one.name.startswith(".")] == []


def test_bases_that_cannot_be_trained_are_refused_before_anything_is_written(tmp_path, base):
    pack()
    pickled = tmp_path / "pickled"
    shutil.copytree(base, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    for folder in (pickled, tmp_path / "nothing"):
        with pytest.raises((ModelError, NotFound)):
            train.run(asked(folder), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_little_disk_is_said_before_anything_is_written(tmp_path, base, monkeypatch):
    from trainer._estimate import machine

    pack()
    monkeypatch.setattr(machine, "free_disk_bytes", lambda folder: 1000)
    with pytest.raises(InputError, match="disk"):
        train.run(asked(base), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_metrics_are_plain_json_with_base_and_baselines_beside(tmp_path, base):
    pack()
    done = train.run(asked(base), out=tmp_path / "out")
    found = json.loads((done.folder / "metrics.json").read_text())
    assert found["base"]["n"] == found["n"] == 3
    assert found["stages"][0]["steps"] == 6
