"""`pointsman models promote|rollback|history|explain`: what passed its gates answers, what did not is refused with exit code 3."""

import json
import shutil

import pytest
from command_line import run
from registry_support import damage, export

from data import exports
from data.datasets.manifest import Counts
from data.datasets.manifest import Manifest as DatasetManifest
from data.store import open_store
from trainer import manifest, run_folder
from trainer.manifest import BaseNote, DataNote, Manifest

ACCURACY = {"name": "accuracy", "limit": 0.88, "reached": 0.91, "passed": True, "at_most": False, "note": "", "unit": "share"}


def finished(name, *, passed=True, gates=(ACCURACY,), lower=0.11, **changes):
    """A run folder as training leaves it, and an export of it."""
    folder = run_folder.runs_dir() / f"{name}-run"
    folder.mkdir(parents=True)
    base = {"n": 48, "difference": 0.29, "ci": {"low": lower, "high": 0.45}}
    (folder / "metrics.json").write_text(json.dumps({"proof": {"passed": passed, "gates": list(gates), "base": base}}))
    found = Manifest(
        name=name,
        recipe_sha256="c" * 64,
        recipe={},
        seed=0,
        data=DataNote(sha256="d" * 64, validation_sha256="e" * 64, train=150),
        base=BaseNote(source="smollm2-135m", sha256="b" * 64),
    )
    manifest.write(folder, manifest.finished(found, folder, {}, {"passed": passed}))
    return export(name, **changes)


def dataset(place, corrections):
    """A dataset folder of which nothing but its manifest is read."""
    counts = Counts(read=corrections, kept=corrections, by_shape={"correction": corrections})
    place.mkdir(parents=True)
    (place / "manifest.json").write_bytes(DatasetManifest(name="mine", counts=counts).to_bytes())
    return place


def as_json(*arguments):
    ran = run(*arguments, "--json")
    assert ran.code == 0, ran
    return json.loads(ran.out)


def test_an_export_whose_run_passed_becomes_champion_and_can_be_explained_and_taken_back(home):
    finished("first"), finished("second")
    said = run("models", "promote", "first", "--why", "48 rows")
    assert said.code == 0 and "first is the champion of triage" in said.out and "llamacpp/first" in said.out
    made = as_json("models", "promote", "second")
    assert (made["stage"], made["passed"], made["moved"], made["replaced"]) == ("champion", True, True, "first")
    assert {"run", "run folder", "run: accuracy", "base", "files"} <= {gate["name"] for gate in made["gates"]}
    told = as_json("models", "explain", "triage")
    assert (told["name"], told["previous"], told["evidence"]["lower"]) == ("second", "first", 0.11)
    assert (told["lineage"]["dataset_sha256"], told["lineage"]["rows"], told["lineage"]["base_sha256"]) == ("d" * 64, 150, "b" * 64)
    shown = run("models", "explain", "second").out
    assert "is champion of triage" in shown and "run: accuracy" in shown and "0.91" in shown and "150 rows" in shown
    back = as_json("models", "rollback", "triage", "--why", "too slow")
    assert (back["champion"], back["retired"], back["model"]) == ("first", "second", "llamacpp/first")
    rows = as_json("models", "history", "triage")
    assert [(one["name"], one["action"]) for one in rows][-2:] == [("second", "rollback"), ("first", "return")]
    assert "too slow" in run("models", "history").out and len(as_json("models", "history", "second")) == 3


def test_the_lineage_counts_the_corrections_in_the_datasets_of_the_run(home, tmp_path):
    finished("first")
    folder = run_folder.runs_dir() / "first-run"
    train = f'train = ["{dataset(tmp_path / "one", 7)}", "{dataset(tmp_path / "two", 5)}"]'
    (folder / run_folder.RECIPE).write_text(f'name = "first"\ndomain = "triage"\n[base]\nmodel = "smollm2-135m"\n[data]\n{train}\n')
    manifest.write(folder, manifest.finished(manifest.read(folder), folder, {}, {"passed": True}))
    run("models", "promote", "first")
    assert as_json("models", "explain", "triage")["lineage"]["corrections"] == 12
    assert "12 of them corrections" in run("models", "explain", "triage").out


def test_a_run_that_did_not_pass_is_refused_with_exit_code_3_and_promoted_for_a_reason(home):
    finished("weak", passed=False, gates=(ACCURACY | {"reached": 0.5, "passed": False},), lower=-0.1)
    refused = run("models", "promote", "weak")
    assert refused.code == 3 and "run: accuracy" in refused.out and "FAILED" in refused.out and "--override" in refused.err
    made = as_json("models", "promote", "weak", "--override", "a demo")
    assert (made["moved"], made["override"]) == (True, "a demo")
    assert "a demo" in run("models", "history", "weak").out and "passed over: a demo" in run("models", "explain", "weak").out


@pytest.mark.parametrize("fault", ["gone", "changed", "another base"])
def test_an_export_whose_run_cannot_vouch_for_it_is_refused(home, fault):
    changes = {"base": {"source": "x", "sha256": "a" * 64, "reference": ""}} if fault == "another base" else {}
    finished("first", **changes)
    folder = run_folder.runs_dir() / "first-run"
    if fault == "gone":
        shutil.rmtree(folder)
    if fault == "changed":
        metrics = folder / "metrics.json"
        metrics.write_text(metrics.read_text().replace("0.29", "0.39"))
    refused = run("models", "promote", "first")
    assert refused.code == 3
    assert ("base" if fault == "another base" else "run folder") in refused.out


def test_bad_input_is_one_line(home):
    run("models", "promote", "nobody").refused("no version 'nobody'", "models history")
    run("models", "rollback", "triage").refused("has no champion")
    run("models", "explain", "triage").refused("no version 'triage'")
    run("models", "history", "nobody").refused("no version")
    finished("first")
    run("models", "promote", "first")
    run("models", "rollback", "triage").refused("stood before first", "--to-base")
    damage(finished("second"))
    run("models", "promote", "second").refused("was changed: sha256")
    (exports.folder() / "second" / exports.FILE).write_text("[]")
    run("models", "promote", "second").refused("export.json")
    assert "base model answers" in run("models", "rollback", "triage", "--to-base").out


def test_an_empty_registry_says_how_to_begin(home):
    ran = run("models", "history")
    assert (ran.code, ran.out) == (0, "") and "models promote" in ran.err


def test_a_canary_starts_from_the_command_line(home):
    finished("first")
    made = as_json("models", "promote", "first", "--to", "canary", "--why", "carefully")
    assert (made["stage"], made["target"]) == ("canary", "canary")
    with open_store() as store:
        (one,) = store.experiments.running()
    assert one.arms == (("llamacpp/smollm2-135m", 0.9), ("llamacpp/first", 0.1))


def test_hostile_names_in_an_export_do_not_reach_the_terminal(home):
    finished("first", checks=[{"name": "ok\x1b]52;c;evil\x07", "passed": False, "note": "\x1b[2Jgone"}])
    refused = run("models", "promote", "first")
    assert refused.code == 3 and "\x1b" not in refused.out and "\x07" not in refused.out
