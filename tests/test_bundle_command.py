"""`pointsman bundle` on a run of a tiny model: out, in on another machine, measured there, and what is refused on the way."""

import hashlib
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("llama_cpp")

import bundled  # noqa: E402
import tiny_gguf  # noqa: E402
from bundled import DOMAIN  # noqa: E402
from command_line import Ran  # noqa: E402
from command_line import run as pointsman  # noqa: E402
from exported import folder as exported  # noqa: E402
from packs import pack  # noqa: E402

from data import bundles, exports, paths  # noqa: E402
from data.store import Store  # noqa: E402
from trainer import general, manifest, run_folder  # noqa: E402
from trainer.recipe import load  # noqa: E402
from tui import lineage  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it
SECRET = "my account is locked"
"""A text of the validation rows."""


@pytest.fixture
def run(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run among the user's runs."""
    pack(DOMAIN)
    return bundled.run(tmp_path_factory.getbasetemp(), paths.ensure(paths.data_dir() / "runs"))


@pytest.fixture
def base(run: Path) -> str:
    """The file of its base."""
    return load(str(run / "recipe.toml")).base.model


@pytest.fixture
def bundle(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its bundle, on another machine than that of the run: the home is empty but for the pack."""
    file = tmp_path / "one.bundle"
    assert pointsman("bundle", "export", run.name, str(file), "--by", "Ann").code == 0
    monkeypatch.setenv("POINTSMAN_HOME", str(tmp_path / "elsewhere"))
    pack(DOMAIN)
    return file


def altered(bundle: Path, change: Callable[[dict[str, bytes]], None], relist: bool = True) -> Path:
    """The bundle with other content, its digests true again; relist: those of the manifest too."""
    with zipfile.ZipFile(bundle) as archive:
        content = {name: archive.read(name) for name in archive.namelist() if name != bundles.FILE}
        name = json.loads(archive.read(bundles.FILE))["name"]
    change(content)
    if relist:
        noted = json.loads(content["run/manifest.json"])
        for one in noted["artefacts"]:
            raw = content.get(f"run/{one['name']}", b"")
            one.update(bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
        content["run/manifest.json"] = json.dumps(noted).encode()
    target = bundle.with_name("altered.bundle")
    bundles.write(target, content, name=name)
    return target


def left() -> list[str]:
    """What an import left in the home, beside the lock."""
    return [
        file.name
        for place in (run_folder.runs_dir(), exports.folder())
        for file in (place.iterdir() if place.is_dir() else ())
        if file.name != ".imports.lock"
    ]


def refused(file: Path, base: str, *words: str) -> None:
    """Assert that the import is refused with these words and leaves nothing."""
    fault(pointsman("bundle", "import", str(file), "--base", base), *words)
    assert left() == []


def fault(done: Ran, *words: str) -> None:
    """Assert exit code 1 and one line with these words, after the progress."""
    assert (done.code, done.out) == (1, ""), done
    lines = [line for line in done.err.splitlines() if not line.startswith("import: ")]
    assert len(lines) == 1, done.err
    assert lines[0].startswith("pointsman: ")
    assert ".import-" not in lines[0]
    for word in words:
        assert word in lines[0], lines[0]


def test_a_bundle_holds_no_path_of_the_machine_and_no_text_of_the_rows(run: Path, base: str, tmp_path: Path) -> None:
    file = tmp_path / "one.bundle"
    done = pointsman("bundle", "export", "desk", str(file), "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert {one["name"] for one in told["files"]} == {*bundles.NEEDED, bundles.REPORT, "run/metrics.jsonl"}
    assert SECRET in (run / "predictions.jsonl").read_text()
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            raw = archive.read(name)
            assert SECRET.encode() not in raw, name
            assert str(tmp_path).encode() not in raw, name
            assert os.path.dirname(base).encode() not in raw, name
    pointsman("bundle", "export", "desk", str(file)).refused("is there already", "--replace")
    assert pointsman("bundle", "export", "desk", str(file), "--replace", "--rows").code == 0
    with zipfile.ZipFile(file) as archive:
        assert SECRET.encode() in archive.read("run/predictions.jsonl")


def test_the_same_run_gives_the_same_bundle(run: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.bundle", tmp_path / "b.bundle"]
    assert [pointsman("bundle", "export", run.name, str(file)).code for file in files] == [0, 0]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_an_imported_run_is_reported_exported_and_refused_as_champion_until_it_is_measured(
    bundle: Path, base: str, file_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = pointsman("bundle", "import", str(bundle), "--base", base, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    run = Path(told["run"])
    assert told["imported"]["base"] == "same"
    assert manifest.check(run) == []
    assert left() == [run.name]

    shown = pointsman("report", run.name, "--json")
    assert shown.code == 0, shown.err
    assert "Ann, as the bundle says" in shown.err
    assert json.loads(shown.out)["imported"]["by"] == "Ann"
    assert json.loads(shown.out)["changed"] == []
    assert "not proven here" in (run / "report.html").read_text()

    made = pointsman("export", run.name, "--adapter-only", "--json")
    assert made.code == 0, made.err
    assert "imported from one.bundle" in made.err
    _, evidence = lineage.told(exports.read(exports.folder() / run.name))
    assert evidence.passed is None
    assert evidence.pairs == 0
    assert [gate.name for gate in evidence.gates if gate.passed is False] == ["proven here"]
    refusal = pointsman("models", "promote", run.name, "--json")
    assert refusal.code == 3, refusal.err
    assert "proven here" in [gate["name"] for gate in json.loads(refusal.out)["gates"] if gate["passed"] is False]

    some = tuple(row for row in general.rows() if row.ask)[:1]
    monkeypatch.setattr(general, "rows", lambda: some)
    proven = pointsman("bundle", "prove", run.name, "--json")
    assert proven.code in (0, 3), proven.err
    value = json.loads(proven.out)
    assert value["base"]["n"] == 3  # the pack's validation rows
    _, evidence = lineage.told(exports.read(exports.folder() / run.name))
    assert evidence.passed is value["passed"]
    assert evidence.pairs == 3
    assert {f"here: {gate['name']}" for gate in value["gates"]} <= {gate.name for gate in evidence.gates}
    assert manifest.check(run) == []
    assert json.loads(pointsman("report", run.name, "--json").out)["proven_here"]["base"]["n"] == 3
    again = pointsman("models", "promote", run.name, "--json")
    held = {gate["name"]: gate["passed"] for gate in json.loads(again.out)["gates"]}
    assert held["proven here"] is True
    assert "here: accuracy" in held or "here: not worse than the base" in held
    assert "measure" in pointsman("models", "history", run.name).out


def test_what_was_measured_of_another_adapter_does_not_count(bundle: Path, base: str) -> None:
    run = Path(json.loads(pointsman("bundle", "import", str(bundle), "--base", base, "--json").out)["run"])
    from trainer import proven_here

    (run / "proven").mkdir()
    (run / "proven" / "metrics.json").write_text(json.dumps({"adapter_sha256": "0" * 64, "proof": {"passed": True}}))
    assert proven_here.read(run_folder.read(run)) is None


def test_a_bundle_without_its_base_is_kept_and_says_so(bundle: Path) -> None:
    done = pointsman("bundle", "import", str(bundle))
    assert done.code == 0, done.err
    assert "was not looked for" in done.err
    assert "no base" in pointsman("export", "desk").err


def test_a_dry_run_keeps_nothing(bundle: Path, base: str) -> None:
    done = pointsman("bundle", "import", str(bundle), "--base", base, "--dry-run", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["run"] is None
    assert left() == []


def test_a_bundle_is_imported_once_and_never_over_another_run(bundle: Path, base: str) -> None:
    done = json.loads(pointsman("bundle", "import", str(bundle), "--base", base, "--json").out)
    name = Path(done["run"]).name
    pointsman("bundle", "import", str(bundle), "--base", base).refused("imported already", name)
    other = altered(bundle, lambda content: content.update({"run/metrics.jsonl": b""}))
    pointsman("bundle", "import", str(other), "--base", base).refused("already", "--name")
    assert pointsman("bundle", "import", str(other), "--base", base, "--name", "desk-other").code == 0
    assert sorted(left()) == sorted([name, "desk-other"])
    paths.ensure(run_folder.runs_dir() / ".desk-begun.part")
    pointsman("bundle", "import", str(bundle), "--base", base, "--name", "desk-begun").refused("already")
    pointsman("bundle", "import", str(bundle), "--name", "../up").refused("no name")


def test_another_base_is_refused(bundle: Path, tmp_path: Path) -> None:
    import tiny_checkpoints as tiny

    other = tiny.checkpoint(tmp_path / "other", "llama", seed=3, max_position_embeddings=2048, initializer_range=0.1)
    refused(bundle, str(tiny.as_gguf(other, tmp_path / "other.gguf")), "was trained on", "here is")


def test_a_bundle_that_names_no_base_or_the_catalogs_other_one_is_refused(bundle: Path, base: str) -> None:
    def nameless(content: dict[str, bytes]) -> None:
        noted = json.loads(content["run/manifest.json"])
        noted["base"]["sha256"] = ""
        content["run/manifest.json"] = json.dumps(noted).encode()

    refused(altered(bundle, nameless), base, "does not say on which base")

    def claimed(content: dict[str, bytes]) -> None:
        content["run/recipe.toml"] = content["run/recipe.toml"].replace(b'model = "base.gguf"', b'model = "smollm2-135m"')

    fault(pointsman("bundle", "import", str(altered(bundle, claimed))), "was trained on", "smollm2-135m here is")
    assert left() == []


def test_a_changed_adapter_is_refused_though_the_archive_is_sound(bundle: Path, base: str) -> None:
    name = "run/adapter/adapter_model.safetensors"
    turned = altered(bundle, lambda content: content.update({name: content[name][:-1] + b"\x00"}), relist=False)
    refused(turned, base, "adapter_model.safetensors", "SHA-256")


def safetensors(header: dict[str, Any], data: bytes = b"") -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


@pytest.mark.parametrize(
    "weights",
    [
        b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00}\x94.",
        b"",
        struct.pack("<Q", 1 << 62) + b"{}",
        safetensors({"a": {"dtype": "F32", "shape": [1 << 39, 1 << 39], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\x00\x00\xc0\x7f"),
    ],
    ids=["pickle", "empty", "header of 2^62 bytes", "shape beyond the file", "not a number"],
)
def test_weights_that_are_no_adapter_are_refused(weights: bytes, bundle: Path, base: str) -> None:
    refused(altered(bundle, lambda content: content.update({"run/adapter/adapter_model.safetensors": weights})), base, "adapter")


@pytest.mark.parametrize(
    ("change", "words"),
    [({"use_dora": True}, "DoRA"), ({"modules_to_save": ["lm_head"]}, "modules_to_save"), ({"lora_alpha": 999}, "alpha")],
)
def test_an_adapter_that_could_not_be_attached_or_is_not_its_recipes_is_refused(
    change: dict[str, Any], words: str, bundle: Path, base: str
) -> None:
    name = "run/adapter/adapter_config.json"
    other = altered(bundle, lambda content: content.update({name: json.dumps(json.loads(content[name]) | change).encode()}))
    refused(other, base, words)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("report_to = []", 'report_to = ["wandb"]'),
        ("train = []", 'train = ["/etc/passwd"]'),
        ("train = []", 'train = ["~/secret.csv"]'),
        ('model = "base.gguf"', 'model = "/etc/base.gguf"'),
        ('adapter = ""', 'adapter = "/root/run"'),
        ('config = ""', 'config = "run.yaml"'),
        ('name = "desk"', "name = 3"),
        ('domain = "desk"', 'domain = "../desk"'),
        ('domain = "desk"', f'domain = "{"x" * 5000}"'),
        ("rank = 8", "rank = 8\nevil = 1"),
    ],
)
def test_a_recipe_that_reaches_out_is_refused(old: str, new: str, bundle: Path, base: str) -> None:
    def change(content: dict[str, bytes]) -> None:
        assert old.encode() in content["run/recipe.toml"]
        content["run/recipe.toml"] = content["run/recipe.toml"].replace(old.encode(), new.encode(), 1)

    refused(altered(bundle, change), base, "recipe")


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("run/metrics.json", b"[]"),
        ("run/metrics.json", b'{"proof": {"gates": [{"name": 1}]}}'),
        ("run/metrics.jsonl", b"{\n"),
        ("run/manifest.json", b"{}"),
        ("run/manifest.json", b"\xff"),
    ],
)
def test_figures_that_are_none_are_refused(name: str, raw: bytes, bundle: Path, base: str) -> None:
    refused(altered(bundle, lambda content: content.update({name: raw}), relist=name != "run/manifest.json"), base)


def test_a_report_from_elsewhere_is_made_again(bundle: Path, base: str) -> None:
    evil = b"<script>alert(1)</script>"
    other = altered(bundle, lambda content: content.update({bundles.REPORT: evil}))
    run = Path(json.loads(pointsman("bundle", "import", str(other), "--base", base, "--json").out)["run"])
    assert b"<script" not in (run / "report.html").read_bytes()


def test_a_run_that_was_changed_is_not_bundled(run: Path, tmp_path: Path) -> None:
    (run / "metrics.json").write_text("{}")
    pointsman("bundle", "export", run.name, str(tmp_path / "one.bundle")).refused("not as it was left")
    assert not (tmp_path / "one.bundle").exists()


def test_what_is_no_run_is_not_bundled(home: Path, tmp_path: Path) -> None:
    pointsman("bundle", "export", "nothing", str(tmp_path / "one.bundle")).refused("no run")


def test_gguf_files_go_along_where_asked_and_count_as_unverified(
    run: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pointsman("bundle", "export", run.name, str(tmp_path / "one.bundle"), "--gguf").refused("was not exported")
    exported(
        "desk-gguf", base=Path(base), reference=f"llamacpp/{base}", model=tiny_gguf.bpe_model(tmp_path / "m.gguf"), run=run.name
    )
    file = tmp_path / "one.bundle"
    assert pointsman("bundle", "export", "desk-gguf", str(file), "--gguf").code == 0
    monkeypatch.setenv("POINTSMAN_HOME", str(tmp_path / "elsewhere"))
    done = pointsman("bundle", "import", str(file), "--base", base, "--name", "desk-in", "--json")
    assert done.code == 0, done.err
    found = exports.read(exports.folder() / "desk-in")
    assert (found.name, found.run, found.base.reference) == ("desk-in", "desk-in", "")
    assert {one.passed for one in found.checks} == {None}
    assert (exports.folder() / "desk-in" / "model-F32.gguf").read_bytes() == (tmp_path / "m.gguf").read_bytes()

    shutil.rmtree(exports.folder() / "desk-in")  # as an import that was killed between its two renames leaves it
    again = pointsman("bundle", "import", str(file), "--base", base, "--name", "desk-in", "--json")
    assert again.code == 0, again.err
    assert (exports.folder() / "desk-in" / "model-F32.gguf").is_file()


def test_a_gguf_that_is_none_is_refused(run: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(100))
    exported("desk-gguf", base=Path(base), model=tmp_path / "m.gguf", run=run.name)
    file = tmp_path / "one.bundle"
    assert pointsman("bundle", "export", run.name, str(file), "--gguf").code == 0
    monkeypatch.setenv("POINTSMAN_HOME", str(tmp_path / "elsewhere"))
    refused(file, base, "model-F32.gguf")


def test_what_a_killed_import_left_is_cleared(bundle: Path, base: str) -> None:
    remains = paths.ensure(run_folder.runs_dir() / ".import-old")
    (remains / "half").write_text("x")
    assert pointsman("bundle", "import", str(bundle), "--base", base).code == 0
    assert not remains.exists()


def test_an_imported_run_never_reads_the_files_that_its_recipe_names(bundle: Path, base: str, tmp_path: Path) -> None:
    from trainer import reference

    def change(content: dict[str, bytes]) -> None:
        content["run/recipe.toml"] = content["run/recipe.toml"].replace(b"train = []", b'train = ["hf:evil/data"]', 1)

    done = pointsman("bundle", "import", str(altered(bundle, change)), "--base", base, "--json")
    assert done.code == 0, done.err
    assert reference.rows_of(Path(json.loads(done.out)["run"])) == (None, "they did not come with the bundle")
