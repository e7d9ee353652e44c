"""Bias as a run and the commands tell it: measured where a gate asks for it, in metrics.json, on the page and in the terminal."""

import json
import shutil
from pathlib import Path

import feedback_pack
import pytest
from command_line import run
from packs import Oracle, pack
from tiny_checkpoints import checkpoint

from data import bias, paths
from data.errors import InputError
from router.engines import Engines
from trainer import bias_report, run_folder, run_report
from trainer.bias import Bias, Broken, Changed, Injections, KindFigures

NASTY = "<script>alert(1)</script>\x1b[31m\n" + "long " * 200
SOME = Bias(
    "desk", "adapter", 2, 1, 0.9, 0, 0.25, 0.5, 1.0, (KindFigures("name", 2, 1, 0.9),),
    (Changed("name", NASTY, NASTY, NASTY, "", NASTY),), Injections(2, 1, 1, 1, (Broken("xml", NASTY, NASTY),)),
)  # fmt: skip


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs on a tiny base: a function of the gates."""
    pytest.importorskip("torch", reason="training needs PyTorch")
    from trainer import general, recipe, train

    some = tuple(row for row in general.rows() if row.ask)[:2]
    monkeypatch.setattr(general, "rows", lambda: some)
    base = checkpoint(tmp_path / "base", max_position_embeddings=2048)
    pack()

    def made(**gates: object) -> train.Run:
        stage = {"kind": "sft", "batch": 4, "epochs": 1, "learning_rate": 0.01}
        asked = {"name": "r", "domain": "desk", "stages": [stage], "gates": gates, "base": {"model": str(base)}}
        return train.run(recipe.validated({**asked, "lora": {"rank": 4, "alpha": 8}}, "test"), out=tmp_path / "out")

    return made


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_a_run_measures_adapter_and_base_and_every_face_shows_it(trained) -> None:
    done = trained(bias=1.0, injections=1.0)
    gates = {gate.name: gate for gate in done.proof.gates}
    assert gates["bias"].passed and gates["bias"].reached is not None and "of 3 pairs" in gates["bias"].note
    assert gates["injections"].passed and gates["injections"].reached == 1.0
    found = run_folder.read(done.folder)
    mine, base = bias_report.of_run(found)
    assert (mine.model, mine.domain, mine.pairs) == ("adapter", "desk", 3) and mine.injections is not None
    assert (base.model, base.pairs, base.injections) == ("base", 3, None)
    assert found.metrics["bias"]["share"] == mine.share
    page = (done.folder / "report.html").read_text()
    assert "<h2>Paired prompts</h2>" in page and ">bias<" in page and ">injections<" in page
    ran = run("report", str(done.folder))
    assert "gate bias: passed" in ran.out and "paired prompts, adapter:" in ran.out and "paired prompts, base:" in ran.out
    told = json.loads(run("report", str(done.folder), "--json").out)
    assert told["metrics"]["bias"]["pairs"] == 3 and told["metrics"]["bias"]["base"]["model"] == "base"


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_a_run_without_the_gates_measures_nothing_of_it(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nobody asked for pairs")

    monkeypatch.setattr("trainer.bias.by_contract", refuse)
    done = trained()
    found = run_folder.read(done.folder)
    assert "bias" not in found.metrics and bias_report.of_run(found) == ()
    assert "Paired prompts" not in run_report.html(found) and "bias" not in (done.folder / "recipe.toml").read_text()
    assert "paired prompts" not in run("report", str(done.folder)).out
    damaged = dict(found.metrics) | {"bias": {"domain": "desk", "pairs": "many"}}
    (done.folder / "metrics.json").write_text(json.dumps(damaged))
    with pytest.raises(InputError, match=r"metrics\.json"):
        bias_report.of_run(run_folder.read(done.folder))
    shutil.rmtree(done.folder)


def test_no_text_of_a_measurement_acts() -> None:
    page = bias_report.section((SOME,))
    assert "<script" not in page and "&lt;script&gt;" in page and "\x1b" not in page
    for heading in ("Paired prompts", "Pairs that change", "Injected orders that change the layout"):
        assert f"<h2>{heading}</h2>" in page
    lines = list(bias_report.lines(SOME))
    assert not any("\x1b" in line or "\n" in line for line in lines) and max(map(len, lines)) < 300
    assert "1 of 2 change (name 1 of 2), upper 95% bound 90.0%" in lines[0]
    assert any("1 of 2 answers keep the contract, 1 of 1 that name a label are obeyed" in line for line in lines)


def test_what_was_not_measured_is_said() -> None:
    none = Bias("desk", "", 0, 0, 1.0, note="no rows")
    assert list(bias_report.lines(none)) == ["paired prompts: nothing was measured of this: no rows"]
    assert "no rows" in bias_report.section((none,)) and bias_report.section(()) == ""


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Oracle:
    """The command's engines, with a model that heeds a place."""
    domain = feedback_pack.pack(paths.data_dir() / "domains")
    place = next(pair.terms[1] for pair in bias.pairs(domain) if pair.kind == "place" and pair.label != "bug")
    found = Oracle({place: {"bug": 0.9}, "crashes": {"bug": 0.9}, "please add": {"idea": 0.8}, "love": {"praise": 0.7}})
    init = Engines.__init__
    monkeypatch.setattr(Engines, "__init__", lambda self, settings, made=None: init(self, settings, {"echo": found}))
    monkeypatch.setattr("tui.opening.prepare", lambda _: None)
    return found


def test_eval_measures_any_model_on_request(oracle: Oracle, tmp_path: Path) -> None:
    plain = json.loads(run("eval", "feedback", "--no-baselines", "--json").out)
    place = next(iter(oracle.shares))
    assert "bias" not in plain and not any(place in text for text, _ in oracle.completed)
    ran = run("eval", "feedback", "--no-baselines", "--bias", "--json", "--out", str(tmp_path / "out"))
    told = json.loads(ran.out)["bias"]
    assert ran.code == 0 and (told["model"], told["pairs"], told["unanswered"]) == ("echo/echo", 24, 0)
    assert 0 < told["changed"] < 24 and all(place in one["other"] for one in told["changes"])
    assert told["injections"]["kept"] == told["injections"]["of"] > 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["bias"] == told
    assert "Pairs that change" in (tmp_path / "out" / "report.html").read_text()
    shown = run("eval", "feedback", "--no-baselines", "--bias").out
    assert "paired prompts, echo/echo:" in shown and "injected orders, echo/echo:" in shown


def test_eval_says_where_an_engine_tells_no_likelihoods(monkeypatch: pytest.MonkeyPatch, oracle: Oracle) -> None:
    folder = paths.ensure(paths.data_dir() / "domains" / "advice")
    head = 'name = "advice"\ntitle = "Advice"\ndescription = "free text"\nbase_models = ["echo/echo"]\n'
    (folder / "domain.toml").write_text(head)
    row = {"text": "say yes", "completion": "yes", "check": {"contains": ["say"]}, "split": "validation"}
    (folder / "examples.jsonl").write_text(json.dumps(row) + "\n")
    ran = run("eval", "advice", "--bias")
    assert "nothing was measured of echo/echo: the engine does not say how likely an answer is" in ran.out, ran
