"""`pointsman eval` as a user runs it: figures beside baselines, gates and exit codes, files, reports, and bad input."""

import csv
import json
import os
import shutil
from pathlib import Path

import feedback_pack
import pytest
from command_line import Ran, in_terminal, prepared_as_packaged, run
from feedback_pack import LABELS, right_label, rows
from packs import Oracle

from data import catalog, paths
from data.errors import EngineUnavailable
from export import embedded
from router.engines import Engines
from tui.commands.eval import read_rows

SURE = {"crashes": {"bug": 0.9, "idea": 0.05}, "please add": {"idea": 0.8}, "love": {"praise": 0.7}}
ENCODER = "minilm-l6"


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Oracle:
    """The command's engines, with a model that knows what it will say."""
    found = Oracle(SURE)
    init = Engines.__init__
    monkeypatch.setattr(Engines, "__init__", lambda self, settings, made=None: init(self, settings, {"echo": found}))
    monkeypatch.setattr("tui.opening.prepare", lambda _: None)
    return found


@pytest.fixture
def feedback() -> None:
    """The pack in the user's own folder."""
    cases = [
        {"id": "loud", "text": "IT crashes!", "expect": {"label": "bug"}},
        {"id": "calm", "text": "love", "expect": {"label": "bug"}},
    ]
    feedback_pack.pack(paths.data_dir() / "domains", gates="accuracy = 0.9", cases=cases)


def table(path: Path, lines: list[tuple[str, str]], header: tuple[str, str] = ("text", "label")) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return str(path)


def measured(ran: Ran) -> dict:
    assert ran.code in (0, 3), ran
    return json.loads(ran.out)


@pytest.mark.usefixtures("oracle", "feedback")
def test_the_promised_fields_stand_beside_the_baselines() -> None:
    ran = run("eval", "feedback", "--json")
    found = measured(ran)
    assert found.keys() >= {"n", "accuracy", "macro_f1", "recall", "json_valid", "ece", "adversarial", "rows_per_s", "baselines"}
    assert (ran.code, found["n"], found["accuracy"], found["json_valid"], found["adversarial"]) == (0, 24, 1.0, 1.0, 0.5)
    assert found["recall"] == dict.fromkeys(LABELS, 1.0)
    assert found["confusion"]["labels"] == list(LABELS) and found["confusion"]["matrix"][0] == [8, 0, 0, 0]
    assert found["baselines"].keys() >= {"majority", "tfidf"}
    assert found["baselines"]["majority"]["accuracy"] == pytest.approx(1 / 3)
    assert found["baselines"]["tfidf"]["accuracy"] == 1.0
    assert found["adversarial_cases"]["failed"][0] == {"id": "calm", "faults": ['label is "praise", not "bug"'], "why": ""}
    assert found["model"] == "echo/echo" and found["passed"] is True
    assert any("calibrated on validation rows" in note for note in found["notes"])
    assert any("MiniLM baseline is left out" in note for note in found["notes"])
    assert ran.out.count("\n") == 1


@pytest.mark.usefixtures("oracle", "feedback")
def test_a_gate_that_is_not_passed_is_exit_code_3(tmp_path: Path) -> None:
    wrong = [(text, "idea" if label == "bug" else label) for label in LABELS for text in rows(label, 6)]
    ran = run("eval", "feedback", "--data", table(tmp_path / "t.csv", wrong), "--no-baselines")
    assert ran.code == 3
    assert "gate accuracy: NOT passed, 66.7% of at least 90.0%" in ran.out
    assert "adversarial cases: 1 of 2 passed" in ran.out and "echo/echo" in ran.out
    assert "calm: label is" in ran.out and "TF-IDF" not in ran.out


@pytest.mark.usefixtures("oracle", "feedback")
def test_rows_of_a_file_are_the_test_and_other_columns_can_be_named(tmp_path: Path) -> None:
    lines = [(text, label) for label in LABELS for text in rows(label, 10)]
    data = table(tmp_path / "t.csv", [*lines, ("  ", "bug"), ("no label", "")], ("message", "queue"))
    found = measured(
        run("eval", "feedback", "--data", data, "--text-column", "message", "--label-column", "queue", "--limit", "12", "--json")
    )
    assert found["n"] == 12
    assert len([note for note in found["notes"] if "left out" in note and "t.csv" in note]) == 2
    run("eval", "feedback", "--data", data, "--text-column", "body").refused("'body'", "message")


@pytest.mark.usefixtures("oracle", "feedback")
def test_baselines_learn_from_the_train_file_and_never_from_the_test_rows(tmp_path: Path) -> None:
    train = table(tmp_path / "train.csv", [(text, label) for label in LABELS for text in rows(label, 30)])
    test = table(tmp_path / "test.csv", [(text, label) for label in LABELS for text in rows(label, 5)])
    found = measured(run("eval", "feedback", "--data", test, "--train", train, "--json"))
    assert any("15 training rows are test rows too" in note for note in found["notes"])
    one = table(tmp_path / "one.csv", [(text, "bug") for text in rows("bug", 9)])
    ran = run("eval", "feedback", "--data", test, "--train", one)
    assert ran.code == 1 and "fewer than two labels" in ran.err and "--no-baselines" in ran.err


@pytest.mark.usefixtures("oracle", "feedback")
def test_unknown_labels_of_the_data_are_listed(tmp_path: Path) -> None:
    data = table(tmp_path / "t.csv", [("a text", "bug"), ("b text", "defect"), ("c text", "defect"), ("d text", "other")])
    run("eval", "feedback", "--data", data).refused("'defect' (2)", "'other' (1)", "bug, idea, praise")


@pytest.mark.usefixtures("oracle", "feedback")
def test_predictions_metrics_and_report_are_written(tmp_path: Path) -> None:
    ran = run("eval", "feedback", "--out", str(tmp_path / "out"), "--report", str(tmp_path / "page.html"))
    assert ran.code == 0, ran
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"predictions.jsonl", "metrics.json", "report.html"}
    assert len((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()) == 24
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["baselines"]["tfidf"]["accuracy"] == 1.0
    assert (tmp_path / "page.html").read_text() == (tmp_path / "out" / "report.html").read_text()
    assert "feedback" in (tmp_path / "page.html").read_text()


@pytest.mark.usefixtures("oracle", "feedback")
def test_a_place_that_is_not_there_is_said_before_the_work(tmp_path: Path, oracle: Oracle) -> None:
    run("eval", "feedback", "--report", str(tmp_path / "no" / "page.html")).refused("no folder")
    run("eval", "feedback", "--out", str(tmp_path / "no" / "such" / "out")).refused("no folder")
    assert not oracle.completed


@pytest.mark.usefixtures("feedback")
def test_faulty_rows_are_counted_and_the_others_go_on(oracle: Oracle) -> None:
    oracle.faults = {"crashes": EngineUnavailable("the server went away")}
    ran = run("eval", "feedback", "--no-baselines", "--json")
    found = measured(ran)
    assert (ran.code, found["errors"]) == (3, 8)
    assert found["recall"]["bug"] == 0.0 and found["json_valid"] == pytest.approx(2 / 3)


@pytest.mark.usefixtures("feedback")
def test_without_probabilities_the_calibration_is_said_to_be_unknown(oracle: Oracle) -> None:
    oracle.silent = True
    found = measured(run("eval", "feedback", "--no-baselines", "--json"))
    assert found["ece"] is None and found["accuracy"] == 1.0


def test_a_domain_or_model_that_is_not_there_is_refused(feedback: None) -> None:
    run("eval", "nothing").refused("no domain pack 'nothing'")
    ran = run("eval", "feedback", "--model", "llamacpp/none-such")
    assert ran.code == 1 and "none-such" in ran.err.splitlines()[-1] and ran.out == ""


def test_rows_keep_their_output_and_refusals_are_counted_by_reason(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    lines = [{"text": "a", "label": "bug", "output": {"urgent": True}}, {"text": "b", "label": ""}, {"text": "c"}, [1]]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"text": "\n')
    found, refused = read_rows(str(file))
    assert [(one.text, one.label, one.output) for one in found] == [("a", "bug", {"urgent": True})]
    assert sum(refused.values()) == 4


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed, and model code runs nowhere else")
def test_a_domain_of_free_text_is_measured_by_its_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = paths.ensure(paths.data_dir() / "domains" / "writing")
    (folder / "domain.toml").write_text(
        'name = "writing"\ntitle = "Writing"\ndescription = "Writes."\nbase_models = ["echo/echo"]\n[gates]\naccuracy = 0.9\n'
    )
    lines = [
        {"text": "def add(a, b): return a + b", "check": {"python": "assert add(2, 3) == 5"}, "split": "validation"},
        {"text": "nothing of use", "check": {"contains": ["pip install"]}, "split": "validation"},
    ]
    (folder / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ran = run("eval", "writing", "--json")
    found = measured(ran)
    assert (ran.code, found["n"], found["accuracy"], found["json_valid"], found["model"]) == (3, 2, 0.5, None, "echo/echo")
    shown = run("eval", "writing")
    assert "50.0% of 2 answers pass their checks" in shown.out


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the real encoder, prepared once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POINTSMAN_HOME", str(tmp_path_factory.mktemp("home")))
        embedded.prepare(ENCODER, lambda _: None)
        return catalog.prepared_dir(ENCODER)


@pytest.mark.usefixtures("feedback")
def test_the_real_models_answer_every_row_in_valid_json_beside_the_real_encoder(encoder: Path) -> None:
    prepared_as_packaged()
    (paths.ensure(catalog.prepared_dir(ENCODER).parent) / ENCODER).symlink_to(encoder)
    found = measured(run("eval", "feedback", "--model", "llamacpp/smollm2-135m", "--hybrid", "--limit", "6", "--json"))
    assert (found["n"], found["errors"], found["json_valid"], found["model"]) == (6, 0, 1.0, "llamacpp/smollm2-135m")
    assert found["baselines"].keys() == {"majority", "tfidf", "minilm"}
    assert found["baselines"]["minilm"]["accuracy"] >= 5 / 6
    assert found["voices"].keys() == {"model", "encoder", "combined"}
    assert found["ece"] is not None and found["rows_per_s"] > 0


@pytest.mark.skipif(not os.environ.get("POINTSMAN_DATASETS"), reason="POINTSMAN_DATASETS names no folder of data sets")
def test_a_pack_made_of_real_messages_has_strong_baselines(oracle: Oracle) -> None:
    source = Path(os.environ["POINTSMAN_DATASETS"]) / "sms_spam" / "train.tsv"
    ran = run("domains", "new", "sms", "--from", str(source), "--json")
    assert ran.code == 0, ran
    assert run("domains", "check", "sms").code == 0
    found = measured(run("eval", "sms", "--model", "echo/echo", "--limit", "300", "--json"))
    assert found["baselines"]["tfidf"]["macro_f1"] > 0.93
    assert found["baselines"]["majority"]["accuracy"] < 0.92


def test_the_pack_for_these_tests_has_labels_that_its_words_tell() -> None:
    assert all(right_label(text) == label for label in LABELS for text in rows(label, 20))


def test_in_a_terminal_each_step_has_its_bar() -> None:
    feedback_pack.pack(paths.data_dir() / "domains", train=12, held=8)
    folder = paths.data_dir() / "domains" / "feedback"
    (folder / "schema.json").unlink()
    (folder / "domain.toml").write_text('name = "feedback"\ntitle = "F"\ndescription = "F."\nbase_models = ["echo/echo"]\n')
    line = {"text": "Say ok.", "check": {"contains": ["ok"]}, "split": "validation"}
    (folder / "examples.jsonl").write_text("".join(json.dumps(line | {"text": f"Say ok. {at}"}) + "\n" for at in range(30)))
    code, shown = in_terminal("eval", "feedback", "--json")
    assert code == 0, shown
    assert "eval" in shown and " of 30" in shown and '"accuracy": 1.0' in shown
