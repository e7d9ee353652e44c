"""An export of a really trained tiny run: whole and proven under its name, or nothing there at all."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("llama_cpp")

from exportable import DOMAIN, copied, once, source  # noqa: E402
from packs import pack  # noqa: E402

from data import exports  # noqa: E402
from data.errors import InputError, ModelInvalid  # noqa: E402
from data.exports import Check, Export  # noqa: E402
from export import adapter, choose, exporting, files, modelfile  # noqa: E402
from export._exporting import course  # noqa: E402
from export.choose import Limits  # noqa: E402
from export.exporting import Exported, Step  # noqa: E402
from export.families import Family  # noqa: E402
from router.engines._llamacpp import header  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it
ROOT = Path(__file__).parent.parent
GENEROUS = Limits(kl=dict.fromkeys(choose.KL_LIMITS, 1.0), top1=1.0, task=1.0)
"""For a model of 32 wide rows, which few bits change much."""


ALONE = {"opened": None, "judge": None, "trained": (), "limits": GENEROUS}
"""Without the trained model: for what does not depend on it, in a tenth of the time."""


@dataclass(frozen=True)
class Made:
    """An export, made once for the tests that only look at it."""

    found: Exported
    told: tuple[Step, ...]

    @property
    def folder(self) -> Path:
        assert self.found.folder is not None
        return self.found.folder

    def check(self, name: str, of: str = "") -> Check:
        """The check of that name."""
        return next(one for one in self.found.export.checks if one.name == name and of in one.of)


@pytest.fixture
def run(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that a test may change, its pack in the test's home."""
    pack(DOMAIN)
    return copied(once(tmp_path_factory.getbasetemp()), tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("made")
    trained = once(tmp_path_factory.getbasetemp())
    told: list[Step] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("POINTSMAN_HOME", str(place / "home"))
        patched.setenv("POINTSMAN_OFFLINE", "1")
        pack(DOMAIN)
        found = exporting.export(source(trained, limits=GENEROUS), ("Q8_0", "F16"), place, told.append)
    return Made(found, tuple(told))


def test_an_export_is_whole_and_says_what_was_proven(made: Made) -> None:
    export = exports.read(made.folder)
    assert export == made.found.export
    assert {one.name for one in made.folder.iterdir()} == {
        "adapter.gguf", "adapter-Q8_0.gguf", "model-F16.gguf", "model-Q8_0.gguf", "Modelfile", "export.json"
    }  # fmt: skip
    for file in export.files:
        path = made.folder / file.name
        assert (path.stat().st_size, files.sha256(path)) == (file.bytes, file.sha256)
    assert export.passed
    assert export.chosen in ("Q8_0", "F16")
    assert export.domain == DOMAIN
    assert export.versions["llama-cpp-python"]
    failed_or_unknown = {one.name for one in export.checks if not one.passed}
    assert failed_or_unknown <= {"template"}


def test_the_exported_model_says_what_the_trained_one_says(made: Made) -> None:
    logits, first, adapter = made.check("logits"), made.check("first choices", "F16"), made.check("adapter")
    assert logits.value is not None
    assert 0 <= logits.value < logits.limit == 1e-4
    assert first.value is not None
    assert first.value >= first.limit == 0.999
    assert adapter.value is not None
    assert adapter.value < adapter.limit == 1e-4
    assert made.check("tokens").value == made.check("prompts").value == made.check("beginning token").value == 0
    assert made.check("answers end").value == 1.0
    assert made.check("task", "Q8_0").passed


def test_progress_is_told_in_lines_that_count(made: Made) -> None:
    lines = [str(step) for step in made.told]
    assert lines[0] == "writing the adapter as GGUF"
    counted = [step for step in made.told if step.of]
    assert counted[-1].done == counted[-1].of
    assert counted[-1].eta_s is not None
    assert str(Step("reads rows", 3, 10, 7.2)) == "reads rows: 3 of 10, 7 s left"


def test_the_modelfile_is_read_back_as_it_was_meant(made: Made) -> None:
    told = modelfile.parse((made.folder / "Modelfile").read_text())
    assert told.model_file == f"model-{made.found.export.chosen}.gguf"
    assert told.system.startswith("You sort messages.")
    assert told.parameters["temperature"] == 0.0
    assert "<|im_end|>" in told.parameters["stop"]
    assert told.template is not None
    assert made.check("template").passed


def test_fallbacks_are_shown_and_not_hidden(run: Path, tmp_path: Path) -> None:
    asked = source(run, **ALONE)
    found = exporting.export(asked, ("Q4_K_M",), tmp_path / "out")
    (model,) = (file for file in found.export.files if file.kind == "model")
    assert model.form == "Q4_K_M"
    assert all(" -> " in one for one in model.fallbacks)
    assert model.fallbacks, "rows of 32 numbers suit no K-quant"


def test_a_failed_check_leaves_nothing_under_the_final_name(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = source(run, **ALONE | {"limits": replace(GENEROUS, kl={"Q8_0": 1e-12})})
    found = exporting.export(asked, ("Q8_0",), out)
    assert found.folder is None
    assert not found.export.passed
    failed = [one for one in found.export.checks if one.passed is False]
    assert [(one.name, one.of) for one in failed] == [("divergence", "model-Q8_0.gguf")]
    assert failed[0].value is not None
    assert failed[0].value > failed[0].limit == 1e-12
    assert [one.name for one in out.iterdir()] == [f".{asked.name}.lock"]


def test_what_failed_is_kept_under_a_hidden_name_where_asked_and_gone_after_the_next(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bad = source(run, **ALONE | {"limits": replace(GENEROUS, kl={"Q8_0": 1e-12})})
    found = exporting.export(bad, ("Q8_0",), out, keep_failed=True)
    assert found.folder is None
    assert found.kept is not None
    assert found.kept.name.startswith(".")
    assert found.kept.name.endswith(".part")
    assert exports.read(found.kept).passed is False
    assert list(exports.found(out)) == []
    good = exporting.export(bad, (), out, adapter_only=True)
    assert good.folder == out / bad.name
    assert not found.kept.exists()


def test_a_wrong_model_is_found_out_by_its_predictions(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the adapter had been joined with another scale."""
    usual = course.join.join

    def wrong(base: Path, adapter: Path, target: Path, form: str = "F16", tell: Any = None) -> Path:
        raw = bytearray(adapter.read_bytes())
        at = raw.index(b"adapter.lora.alpha") + len(b"adapter.lora.alpha") + 4
        raw[at : at + 4] = b"\x00\x00\x98\x41"  # 19.0
        other = adapter.with_name("other.gguf")
        other.write_bytes(raw)
        found = usual(base, other, target)
        other.unlink()
        return found

    monkeypatch.setattr(course.join, "join", wrong)
    found = exporting.export(source(run, judge=None, limits=GENEROUS), ("F16",), tmp_path / "out")
    assert found.folder is None
    failed = {one.name for one in found.export.checks if one.passed is False}
    assert {"logits", "adapter"} <= failed


def test_without_the_run_s_rows_checks_are_called_not_checked_and_never_passed(run: Path, tmp_path: Path) -> None:
    found = exporting.export(source(run, **ALONE), ("F16",), tmp_path / "out")
    unknown = [one for one in found.export.checks if one.passed is None]
    assert {one.name for one in unknown} >= {"logits", "tokens", "prompts", "adapter", "answers end", "task"}
    assert all(one.note for one in unknown)


def test_auto_drops_refused_forms_and_keeps_what_is_good_enough(run: Path, tmp_path: Path) -> None:
    strict = replace(GENEROUS, kl={"Q8_0": 1.0, "Q4_K_M": 1e-12})
    found = exporting.export(source(run, **ALONE | {"limits": strict}), (), tmp_path / "out")
    assert found.export.chosen == "Q8_0"
    assert [file.form for file in found.export.files if file.kind == "model"] == ["Q8_0"]
    assert "refused" in found.export.figures["Q4_K_M"]
    assert any("Q4_K_M is left out" in note for note in found.notes)


def test_the_adapter_alone_is_held_against_the_trained_model(run: Path, tmp_path: Path) -> None:
    found = exporting.export(source(run), (), tmp_path / "out", adapter_only=True)
    assert found.folder is not None
    assert {one.name for one in found.folder.iterdir()} == {"adapter.gguf", "adapter-Q8_0.gguf", "export.json"}
    assert header.check(found.folder / "adapter.gguf").is_adapter
    served = found.export.adapter
    assert served is not None
    assert (served.name, served.form) == ("adapter-Q8_0.gguf", "Q8_0")


def test_an_adapter_that_q8_changes_too_much_is_served_as_trained(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = adapter.write

    def rounded(folder: Path, family: Family, target: Path, *, name: str = "", form: adapter.Form = "F32") -> Path:
        if form == "F32":
            return real(folder, family, target, name=name)
        other = Path(shutil.copytree(folder, tmp_path / "other"))
        config = json.loads((other / "adapter_config.json").read_text())
        (other / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 16 * config["lora_alpha"]}))
        return real(other, family, target, name=name, form=form)

    monkeypatch.setattr(adapter, "write", rounded)
    found = exporting.export(source(run), (), tmp_path / "out", adapter_only=True)
    assert found.folder is not None
    assert {one.name for one in found.folder.iterdir()} == {"adapter.gguf", "export.json"}
    assert found.export.adapter is not None
    assert found.export.adapter.form == "F32"
    assert any("the adapter is served in F32" in note for note in found.notes)
    checks = {one.name: one for one in found.export.checks}
    assert checks["logits"].passed
    assert checks["first choices"].passed


def test_an_adapter_modelfile_names_the_base_that_lies_beside_it(run: Path, tmp_path: Path) -> None:
    found = exporting.export(source(run, **ALONE), ("F16",), tmp_path / "out", adapter_modelfile=True)
    assert found.folder is not None
    told = modelfile.parse((found.folder / "Modelfile.adapter").read_text())
    assert (told.model_file, told.adapter_file) == ("base.gguf", "adapter.gguf")
    assert (found.folder / "base.gguf").is_file()


def test_an_export_takes_the_place_of_the_former_one(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = source(run, **ALONE)
    former = out / asked.name
    former.mkdir(parents=True)
    (former / "old.txt").write_text("old")
    found = exporting.export(asked, (), out, adapter_only=True)
    assert found.folder == former
    assert not (former / "old.txt").exists()


@pytest.mark.parametrize("form", ["Q3_X", "", "q8", "Q8_0; rm -rf /"])
def test_an_unknown_form_is_refused_before_anything_is_made(form: str) -> None:
    with pytest.raises(InputError, match="there is no form"):
        exporting.checked([form])


def test_forms_are_taken_in_any_case_once_each() -> None:
    assert exporting.checked(["q8_0", "Q8_0", "f16"]) == ("Q8_0", "F16")
    assert exporting.checked(["auto"]) == exporting.checked([]) == ()


def test_a_disk_without_room_for_twice_the_size_is_told_first(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = source(run)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match="MB are needed"):
        exporting.export(asked, ("F16",), tmp_path / "out")
    assert [one.name for one in (tmp_path / "out").iterdir()] == [f".{asked.name}.lock"]


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "x" * 200, "a\nb"])
def test_a_name_that_leaves_its_folder_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no name of an export"):
        exporting.export(source(run, name=name), ("F16",), tmp_path / "out")


def test_a_base_that_does_not_match_the_adapter_is_refused(run: Path, tmp_path: Path) -> None:
    import tiny_checkpoints as tiny

    wider = tiny.as_gguf(tiny.checkpoint(tmp_path / "wide", hidden_size=64, max_position_embeddings=2048), tmp_path / "wide.gguf")
    with pytest.raises(ModelInvalid, match="fit|match|shape|belong"):
        exporting.export(source(run, base_gguf=wider), ("F16",), tmp_path / "out")
    assert not (tmp_path / "out" / run.name).exists()


@pytest.mark.parametrize("damage", ["truncated", "hostile", "empty"])
def test_a_damaged_adapter_is_one_clear_error(run: Path, tmp_path: Path, damage: str) -> None:
    file = run / "adapter" / "adapter_model.safetensors"
    raw = file.read_bytes()
    asked = source(run)
    file.write_bytes({"truncated": raw[: len(raw) // 2], "hostile": b"\xff" * 8 + raw[8:], "empty": b""}[damage])
    with pytest.raises(ModelInvalid, match="safetensors"):
        exporting.export(asked, ("F16",), tmp_path / "out")
    assert not (tmp_path / "out" / run.name).exists()


def test_a_truncated_base_is_one_clear_error(run: Path, tmp_path: Path) -> None:
    asked = source(run)
    assert asked.base_gguf is not None
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(asked.base_gguf.read_bytes()[:5000])
    with pytest.raises(ModelInvalid, match="truncated|no usable GGUF"):
        exporting.export(replace(asked, base_gguf=cut), ("F16",), tmp_path / "out")


def test_two_exports_of_one_run_wait_for_each_other(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = source(run, **ALONE)
    holder = (
        "import sys; from pathlib import Path; from export import files\n"
        "with files.lock(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(out / f".{asked.name}.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        told: list[str] = []

        def tell(step: Step) -> None:
            told.append(step.doing)
            if step.doing.startswith("waiting"):
                assert other.stdin is not None
                other.stdin.close()

        exporting.export(asked, ("F16",), out, tell, adapter_only=True)
    assert told[0] == f"waiting for another export of {asked.name}"


def test_a_killed_export_leaves_nothing_under_its_name_and_the_next_cleans_up(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = (
        "import sys; sys.path.insert(0, 'tests'); from pathlib import Path\n"
        "from exportable import source; from export import exporting\n"
        "def tell(step):\n    print(step.doing, flush=True)\n"
        "exporting.export(source(Path(sys.argv[1]), opened=None, judge=None), ('F16',), Path(sys.argv[2]), tell)"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, str(run), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=os.environ.copy()) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith(b"measuring"):
                break
        os.kill(child.pid, signal.SIGKILL)
    left = {one.name for one in out.iterdir()} - {f".{run.name}.lock"}
    assert len(left) == 1
    assert left.pop().startswith(f".{run.name}.")
    found = exporting.export(source(run, **ALONE), (), out, adapter_only=True)
    assert {one.name for one in out.iterdir()} == {f".{run.name}.lock", run.name}
    assert found.folder == out / run.name


def test_a_name_on_ollama_is_added_to_what_stands(made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in made.folder.iterdir():
        os.link(file, folder / file.name)
    kept = folder / "ollama-x.json"
    kept.write_text(json.dumps({"model": "x"}))
    check = Check(name="ollama answer", of="model-Q8_0.gguf", passed=True)
    (folder / "export.json").unlink()
    found = exporting.finished(folder, made.found.export, "x:latest", [check], [kept])
    assert exports.read(folder) == found
    assert isinstance(found, Export)
    assert found.ollama == "x:latest"
    assert found.checks[-1] == check
    assert found.files[-1].name == "ollama-x.json"
    assert time.strptime(found.at[:10], "%Y-%m-%d")
