"""The manifest of a run, and running again: what is pinned, what a change is called, and how far two runs may be apart."""

import json
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

import feedback_pack
import numpy as np
import pytest
from command_line import run as pointsman
from feedback_pack import right_label, saying, told
from safetensors.numpy import save_file

from data import paths
from data.datasets.rows import Origin, Row
from data.domains import Domain
from data.errors import InputError, ModelInvalid, NotFound
from trainer import machine, manifest, reproduction, run_folder
from trainer._run.folder import as_toml
from trainer.device import Policy
from trainer.evaluate import evaluate
from trainer.events import Event
from trainer.general import Ability, General
from trainer.manifest import Manifest
from trainer.material import Lost, Material
from trainer.proof import prove
from trainer.recipe import Recipe

POLICY = Policy("cpu", "float32", "adamw_torch_fused", "sdpa", False, 2, ("weights in float32",))
CONTENT: Mapping[str, object] = {
    "name": "trial",
    "domain": "feedback",
    "seed": 3,
    "base": {"model": "/home/zoe77/models/tiny"},
    "data": {"train": ["/home/zoe77/rows.csv", "sets/more.jsonl", "~/x.csv"]},
    "stages": [{"kind": "sft", "epochs": 2.0}],
}


@pytest.fixture
def pack(home: Path) -> Domain:
    return feedback_pack.pack(paths.data_dir() / "domains", gates="accuracy = 0.9")


class Identity:
    """What `trainer.base.look` tells, without a model."""

    @staticmethod
    def of(**more: object):
        from trainer.base import Identity as Real

        fields = {
            "source": "/home/zoe77/models/tiny",
            "revision": "",
            "family": "llama",
            "parameters": 7,
            "sha256": "b" * 64,
            "tokenizer_sha256": "c" * 64,
            "template_sha256": "d" * 64,
            "licence": "Apache-2.0",
            "size_bytes": 28,
        }
        return Real(**{**fields, **more})


def material(**more: object) -> Material:
    row = Row("label", "it crashes", Origin("rows.csv", 2), label="bug")
    fields = {"train": (row, row), "validation": (row,), "examples": (), "sha256": "e" * 64, "validation_sha256": "f" * 64}
    return Material(**{**fields, **more})


def made(
    content: Mapping[str, object] = CONTENT, rows: Material | None = None, identity: object = None, parent: str = ""
) -> Manifest:
    return manifest.start(Recipe.model_validate(content), rows or material(), identity or Identity.of(), POLICY, parent)


def changed(**tables: object) -> dict[str, object]:
    return {**CONTENT, **tables}


# --- what is pinned ---


@pytest.mark.usefixtures("pack")
def test_a_manifest_pins_recipe_data_base_versions_and_machine() -> None:
    found = made()
    assert found.recipe["stages"][0]["epochs"] == 2.0 and found.recipe_sha256 == manifest.sha256_of(found.recipe)
    assert (found.data.train, found.data.validation, found.data.by_label, found.seed) == (2, 1, {"bug": 2}, 3)
    assert (found.base.sha256, found.base.template_sha256, found.base.licence) == ("b" * 64, "d" * 64, "Apache-2.0")
    assert found.versions["python"] == platform.python_version() and {"torch", "peft", "trl"} <= found.versions.keys()
    assert found.hardware.cores >= 1 and found.hardware.memory_bytes > 1 << 20 and found.policy["dtype"] == "float32"
    assert len(found.hash8) == 8 and found.data.prompt_sha256


@pytest.mark.usefixtures("pack")
def test_no_folder_of_the_machine_and_no_user_is_named(tmp_path: Path) -> None:
    manifest.write(tmp_path, made())
    text = (tmp_path / "manifest.json").read_text()
    assert "zoe77" not in text and "/home" not in text and str(tmp_path) not in text
    found = json.loads(text)
    assert found["recipe"]["data"]["train"] == ["rows.csv", "sets/more.jsonl", "x.csv"]
    assert found["recipe"]["base"]["model"] == found["base"]["source"] == "tiny"


@pytest.mark.usefixtures("pack")
def test_the_same_data_in_another_folder_is_the_same_run() -> None:
    moved = changed(data={"train": ["/mnt/rows.csv", "sets/more.jsonl", "/elsewhere/x.csv"]}, base={"model": "/mnt/tiny"})
    assert manifest.differences(made(), made(moved)) == [] and made().hash8 == made(moved).hash8


@pytest.mark.parametrize(("path", "name"), [
    ("/a/b.gguf", "b.gguf"), ("llamacpp//a/b.gguf", "b.gguf"), ("C:\\Users\\zoe77\\x.csv", "x.csv"), ("owner/model", "owner/model"),
    ("smollm2-135m", "smollm2-135m"), ("~zoe77/m", "m"), ("log", "log"),
])  # fmt: skip
def test_only_paths_are_cut(path: str, name: str) -> None:
    recipe = Recipe.model_validate({"name": "a", "domain": "x", "base": {"model": path}})
    assert manifest.portable(recipe)["base"]["model"] == name


@pytest.mark.usefixtures("pack")
def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "a.bin").write_bytes(b"weights")
    before = manifest.with_rows(made(parent="12345678"), [40, 41, 40], 1)
    whole = manifest.finished(before, folder, {"training": 2.5}, {"accuracy": 0.9})
    manifest.write(folder, whole)
    assert manifest.read(folder) == whole
    assert whole.data.lengths == {40: 2, 41: 1} and whole.data.lost == 1 and whole.hash8 == before.hash8
    assert [one.name for one in whole.artefacts] == ["adapter/a.bin"]


# --- what a change is called ---


@pytest.mark.usefixtures("pack")
def test_every_change_that_makes_another_run_is_named() -> None:
    old = made()
    assert manifest.differences(old, made(changed(stages=[{"kind": "sft", "epochs": 3.0}]))) == [
        "recipe: stages[1].epochs was 2.0, is 3.0"
    ]
    found = manifest.differences(old, made(changed(seed=4, lora={"rank": 8})))
    assert "recipe: seed was 3, is 4" in found and "recipe: lora.rank was 16, is 8" in found
    assert any("stages" in one for one in manifest.differences(old, made(changed(stages=[{"kind": "sft"}, {"kind": "sft"}]))))
    row = Row("label", "other", Origin("rows.csv", 3), label="idea")
    assert manifest.differences(old, made(rows=material(sha256="0" * 64, train=(row,)))) == [
        "data: the training rows are not the same: 2 rows then, 1 now"
    ]
    assert "other content" in manifest.differences(old, made(rows=material(validation_sha256="0" * 64)))[0]
    assert manifest.differences(old, made(identity=Identity.of(sha256="1" * 64)))[0].startswith("base: other weights: bbbb")
    assert "chat template" in manifest.differences(old, made(identity=Identity.of(template_sha256="1" * 64)))[0]
    assert manifest.differences(old, made(parent="12345678")) == ["parent: none then, 12345678 now"]


def test_another_prompt_of_the_pack_is_another_run(pack: Domain) -> None:
    old = made()
    file = pack.folder / "domain.toml"
    file.write_text(file.read_text().replace("rows about a bug", "rows about a fault"))
    assert manifest.differences(old, made()) == ["domain: its prompt, labels or contract are not the same"]
    assert old.hash8 != made().hash8


@pytest.mark.usefixtures("pack")
def test_versions_and_hardware_are_told_but_make_no_other_run() -> None:
    old = made()
    new = old.model_copy(update={"versions": {**old.versions, "torch": "1.0"}, "commit": "a" * 40})
    assert manifest.differences(old, new) == []
    told_of = manifest.surroundings(old, new)
    assert any(one.startswith("version: torch was") and '"1.0"' in one for one in told_of)
    assert any("commit" in one and "aaaaaaaaaaaa now" in one for one in told_of)


# --- what was touched since ---


@pytest.fixture
def folder(tmp_path: Path, pack: Domain) -> Path:
    made_run(tmp_path / "runs" / "first", pack)
    return tmp_path / "runs" / "first"


def made_run(
    folder: Path,
    pack: Domain,
    *,
    weight: float = 1.0,
    loss: Callable[[int], float] = lambda step: 2.0 / step,
    steps: int = 8,
    wrong: int = 0,
    content: Mapping[str, object] = CONTENT,
) -> Path:
    """A run folder as training leaves it."""
    (folder / "adapter").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "state.bin").write_bytes(os.urandom(8))
    save_file({"lora_A": np.full((2, 3), weight, np.float32)}, folder / "adapter" / "adapter_model.safetensors")
    recipe = Recipe.model_validate(content)
    (folder / "recipe.toml").write_text(as_toml(recipe))
    events = [Event("training", "1 sft", step, steps, {"loss": loss(step)}) for step in range(1, steps + 1)]
    events.append(Event("evaluating", "1 sft", steps, steps, {"eval_loss": loss(steps) + 0.1, "macro_f1": 0.8}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one.to_dict()) + "\n" for one in events))
    rows = [one for one in pack.examples if one.split == "validation"]
    missed = {one.text for one in rows[:wrong]}
    mine = evaluate(pack, saying(lambda text: told(text, "praise" if text in missed else right_label(text))), rows)
    base = evaluate(pack, saying(lambda text: told(text, "praise")), rows)
    ability = Ability(1.0, 10, ("Paris",), (True,))
    proof = prove(recipe, pack, mine, base, None, General(ability, ability, ("capital?",)))
    run_folder.write(folder, mine, base, proof, None, [Lost("rows.csv:9", "too long", "a text")])
    begun = manifest.with_rows(made(content), [20, 30, 30], 1)
    manifest.write(folder, manifest.finished(begun, folder, {"training": 1.0}, {"accuracy": 1.0}))
    return folder


def test_a_changed_a_missing_and_a_foreign_file_are_named(folder: Path) -> None:
    assert manifest.check(folder) == []
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"other")
    (folder / "lost.jsonl").unlink()
    (folder / "new\x1b.txt").write_text("")
    faults = manifest.check(folder)
    assert len(faults) == 3 and not any("\x1b" in one for one in faults)
    assert faults[0].startswith("adapter/adapter_model.safetensors: its SHA-256 is ")
    assert "lost.jsonl: missing" in faults and "not in the manifest" in faults[2]


def test_checkpoints_come_and_go(folder: Path) -> None:
    (folder / "checkpoints" / "state.bin").write_bytes(b"x")
    (folder / "state.json").write_text("{}")
    assert manifest.check(folder) == []


def test_a_manifest_cannot_point_outside_its_folder(folder: Path) -> None:
    found = manifest.read(folder)
    outside = manifest.Artefact(name="../../secret", bytes=1, sha256="0" * 64)
    manifest.write(folder, found.model_copy(update={"artefacts": (*found.artefacts, outside)}))
    assert "../../secret: not a file within the run" in manifest.check(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"version": 99}', '{"name": 1}', "[" * 5000, "\x00"])
def test_what_is_no_manifest_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json"):
        manifest.read(tmp_path)


def test_a_folder_without_a_manifest_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no finished run"):
        manifest.read(tmp_path)


# --- the commit of the source ---


def test_the_commit_is_read_from_a_checkout_a_work_tree_and_packed_refs(tmp_path: Path) -> None:
    git = tmp_path / "one" / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert machine.commit(tmp_path / "one") == ""
    (git / "packed-refs").write_text(f"# pack-refs\n{'b' * 40} refs/heads/main\n")
    assert machine.commit(tmp_path / "one") == "b" * 40
    (git / "refs" / "heads" / "main").write_text("a" * 40 + "\n")
    assert machine.commit(tmp_path / "one") == "a" * 40
    tree = git / "worktrees" / "two"
    tree.mkdir(parents=True)
    (tree / "HEAD").write_text("ref: refs/heads/main\n")
    (tree / "commondir").write_text("../..\n")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / ".git").write_text(f"gitdir: {tree}\n")
    assert machine.commit(tmp_path / "two") == "a" * 40
    (git / "HEAD").write_text("c" * 40)
    assert machine.commit(tmp_path / "one") == "c" * 40
    assert machine.commit(tmp_path) == ""


# --- a run again ---


def test_equal_runs_are_reproduced_to_the_last_bit(folder: Path, pack: Domain) -> None:
    found = reproduction.compare_runs(folder, made_run(folder.parent / "second", pack))
    assert found.passed and found.identical and found.differences == () and found.around == ()
    names = [one.name for one in found.measures]
    assert {"training loss of 1 sft", "validation loss of 1 sft", "accuracy", "general loss", "adapter weights"} <= set(names)
    assert all(one.difference == 0 for one in found.measures)
    assert json.loads(json.dumps(found.to_dict()))["passed"] is True


def test_a_little_apart_is_within_the_limits_and_much_is_not(folder: Path, pack: Domain) -> None:
    near = made_run(folder.parent / "near", pack, weight=1.0 + 1e-4, loss=lambda step: 2.0 / step + (0.01 if step == 3 else 0))
    found = reproduction.compare_runs(folder, near)
    assert found.passed and not found.identical
    apart = {one.name: one.difference for one in found.measures}
    assert apart["training loss of 1 sft"] == pytest.approx(0.01) and apart["adapter weights"] == pytest.approx(1e-4, rel=1e-2)
    far = reproduction.compare_runs(
        folder, made_run(folder.parent / "far", pack, weight=1.5, loss=lambda step: 1.9 / step, wrong=4)
    )
    assert {one.name for one in far.measures if not one.passed} >= {"training loss of 1 sft", "accuracy", "adapter weights"}
    assert not far.passed


def test_runs_of_other_steps_shapes_or_recipes_are_not_the_same(folder: Path, pack: Domain) -> None:
    shorter = reproduction.compare_runs(folder, made_run(folder.parent / "shorter", pack, steps=5))
    curve = next(one for one in shorter.measures if one.name == "training loss of 1 sft")
    assert not curve.passed and curve.note == "8 steps and 5" and not shorter.passed
    other = reproduction.compare_runs(folder, made_run(folder.parent / "other", pack, content=changed(seed=4)))
    assert other.differences == ("recipe: seed was 3, is 4",) and not other.passed
    wide = made_run(folder.parent / "wide", pack)
    save_file({"lora_A": np.ones((4, 3), np.float32)}, wide / "adapter" / "adapter_model.safetensors")
    assert not reproduction.compare_runs(folder, wide).passed


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x80\x00\x00\x00\x00\x00\x00\x00" + b"{" * 128])
def test_a_damaged_adapter_is_a_fault_not_a_difference(folder: Path, pack: Domain, content: bytes) -> None:
    second = made_run(folder.parent / "second", pack)
    (second / "adapter" / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(ModelInvalid, match="no adapter"):
        reproduction.compare_runs(folder, second)


def test_nan_in_the_weights_is_no_reproduction(folder: Path, pack: Domain) -> None:
    assert not reproduction.compare_runs(folder, made_run(folder.parent / "nan", pack, weight=float("nan"))).passed


def test_a_run_that_was_touched_is_not_reproduced(folder: Path) -> None:
    (folder / "recipe.toml").write_text("")
    with pytest.raises(InputError, match=r"recipe\.toml: its SHA-256"):
        reproduction.ready(folder)


def test_other_rows_or_another_base_are_refused_with_the_difference(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        reproduction, "begun", lambda recipe: made(rows=material(sha256="0" * 64), identity=Identity.of(sha256="1" * 64))
    )
    with pytest.raises(InputError) as raised:
        reproduction.ready(folder)
    assert "the training rows are not the same" in str(raised.value) and "other weights" in str(raised.value)
    monkeypatch.setattr(reproduction, "begun", lambda recipe: made())
    assert reproduction.ready(folder) == Recipe.model_validate(CONTENT)


def test_what_a_run_would_begin_with_here_is_what_its_manifest_says(
    pack: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.csv"
    texts = [(text, label) for label in feedback_pack.LABELS for text in feedback_pack.rows(label, 10)]
    rows.write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in texts))
    monkeypatch.setattr("trainer.base.look", lambda table: Identity.of())
    recipe = Recipe.model_validate(changed(data={"train": [str(rows)]}, base={"dtype": "float32"}))
    first = reproduction.begun(recipe)
    assert first.data.train + first.data.validation == 30 and manifest.differences(first, reproduction.begun(recipe)) == []
    rows.write_text(rows.read_text().replace("crashes", "breaks", 1))
    assert any(one.startswith("data: the ") for one in manifest.differences(first, reproduction.begun(recipe)))


# --- the command ---


def test_two_runs_are_compared_on_the_command_line(folder: Path, pack: Domain) -> None:
    second = made_run(folder.parent / "second", pack)
    ran = pointsman("reproduce", str(folder), "--with", str(second))
    assert ran.code == 0 and "equal to the last bit" in ran.out and "second reproduces first" in ran.out, ran
    far = made_run(folder.parent / "far", pack, weight=3.0)
    ran = pointsman("reproduce", str(folder), "--with", str(far), "--json")
    found = json.loads(ran.out)
    assert ran.code == 3 and found["passed"] is False and found["identical"] is False and ran.out.count("\n") == 1
    assert "OUTSIDE" in pointsman("reproduce", str(folder), "--with", str(far)).out
    assert pointsman("reproduce", str(folder), "--with", str(far), "--out", "x").code == 2


def test_a_run_is_trained_again_and_compared(folder: Path, pack: Domain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from trainer import train

    asked: list[tuple[Recipe, Path | None]] = []

    def again(recipe: Recipe, *, out: Path | None = None, tell: Callable[[Event], object], **_: object) -> train.Run:
        asked.append((recipe, out))
        tell(Event("training", "1 sft", 1, 8, {"loss": 1.0}))
        return train.Run(made_run(tmp_path / "again", pack), True)

    monkeypatch.setattr(train, "run", again)
    monkeypatch.setattr(reproduction, "begun", lambda recipe: made())
    ran = pointsman("reproduce", str(folder), "--out", str(tmp_path / "new"))
    assert ran.code == 0 and "again reproduces first" in ran.out and "reproduce: training 1 sft" in ran.err, ran
    assert asked == [(Recipe.model_validate(CONTENT), tmp_path / "new")]
    monkeypatch.setattr(reproduction, "begun", lambda recipe: made(changed(seed=9)))
    pointsman("reproduce", str(folder)).refused("cannot be reproduced", "seed was 3, is 9")


def test_a_run_that_is_not_there_is_refused_with_near_names(pack: Domain) -> None:
    pointsman("reproduce", "triage").refused("there is no run 'triage'")
    for name in ("triage-1", "triage-2"):
        made_run(run_folder.runs_dir() / name, pack)
    pointsman("reproduce", "triage").refused("2 runs begin with 'triage'", "triage-2")
    pointsman("reproduce", "triahe-1").refused("near: triage-1")
    pointsman("reproduce", "x" * 5000).refused("there is no run")
    assert run_folder.find("triage-2") == run_folder.runs_dir() / "triage-2"
    assert run_folder.find(str(run_folder.runs_dir() / "triage-1")).name == "triage-1"
