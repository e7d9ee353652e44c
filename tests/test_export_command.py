"""`pointsman export`: what it prints, how it ends, and what it refuses before anything is made."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("llama_cpp")

from command_line import run as pointsman  # noqa: E402
from exportable import DOMAIN, copied, gates, once  # noqa: E402
from packs import pack  # noqa: E402

from data import exports, paths  # noqa: E402
from export import choose  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it


@pytest.fixture
def run(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run among the user's runs, as `report` finds it."""
    pack(DOMAIN)
    return copied(once(tmp_path_factory.getbasetemp()), paths.ensure(paths.data_dir() / "runs"))


def test_a_run_is_exported_by_the_beginning_of_its_name(run: Path) -> None:
    done = pointsman("export", "desk", "--quant", "F16", "--json")
    assert done.code == 0, done.err
    value = json.loads(done.out)
    assert value["name"] == run.name
    assert value["passed"] is True
    assert value["chosen"] == "F16"
    assert Path(value["folder"]) == exports.folder() / run.name
    assert {one["name"] for one in value["files"]} == {"model-F16.gguf", "adapter.gguf", "adapter-Q8_0.gguf", "Modelfile"}
    logits = value["verify"]["logits of model-F16.gguf"]
    assert logits["passed"] is True
    assert logits["value"] < logits["limit"]
    assert "writing the adapter as GGUF" in done.err
    again = pointsman("verify", "desk", "--files-only")
    assert again.code == 0, again.err
    assert [export.name for _, export in exports.found()] == [run.name]


def test_a_failed_check_is_printed_with_its_values_and_ends_with_3(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(choose.KL_LIMITS, "Q8_0", 1e-12)
    done = pointsman("export", run.name, "--quant", "q8_0", "--keep-failed")
    assert done.code == 3, done.err
    line = next(one for one in done.out.splitlines() if one.startswith("divergence"))
    assert "FAILED" in line
    assert "1e-12" in line
    assert "NOT exported: " in done.out
    assert list(exports.found()) == []
    assert "what was made is left in" in done.out


def test_a_run_that_did_not_pass_its_gates_is_exported_only_when_asked_and_marked(run: Path) -> None:
    gates(run, passed=False)
    pointsman("export", run.name).refused("did not pass its gates", "--failed-gates")
    done = pointsman("export", run.name, "--failed-gates", "--adapter-only")
    assert done.code == 0, done.err
    assert "did NOT pass its gates" in done.out
    export = exports.read(exports.folder() / run.name)
    assert export.checks[0].name == "gates"
    assert export.checks[0].passed is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["no run"]),
        (["desk", "--quant", "Q9"], ["no form", "Q8_0"]),
        (["desk", "--ollama", "bad name!"], ["name"]),
        (["a\x00b"], ["no run"]),
        (["../../etc"], ["no run"]),
    ],
)
def test_what_cannot_be_exported_is_one_line(run: Path, arguments: list[str], words: list[str]) -> None:
    pointsman("export", *arguments).refused(*words)


def test_an_adapter_alone_has_no_forms_and_no_ollama(run: Path) -> None:
    for more in (["--quant", "F16"], ["--ollama", "x"], ["--adapter-modelfile"]):
        assert pointsman("export", "desk", "--adapter-only", *more).code == 2


def test_a_base_that_is_gone_is_one_line(run: Path) -> None:
    recipe = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(recipe.replace("base.gguf", "gone.gguf"))
    pointsman("export", run.name).refused("gone.gguf")


def test_a_run_whose_recipe_is_broken_is_one_line(run: Path) -> None:
    (run / "recipe.toml").write_text("name = ")
    pointsman("export", run.name).refused("recipe.toml")


def test_an_adapter_that_llama_cpp_cannot_compute_is_refused_with_the_fix(run: Path) -> None:
    file = run / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"use_dora": True}))
    done = pointsman("export", run.name)
    assert done.code == 1
    assert "DoRA" in done.err or "dora" in done.err
    assert list(exports.found()) == []
