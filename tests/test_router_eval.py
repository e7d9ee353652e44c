"""`pointsman router`: train, eval, test, undo and history on the command line, and the figures behind them."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import routing_data
from command_line import run

from router import evaluation, labelled

DATASETS = os.environ.get("POINTSMAN_DATASETS", "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like CLINC150's."""
    data = routing_data.labelled()
    held = [row for row in data.train if labelled.held_out(row[0])]
    kept = [row for row in data.train if not labelled.held_out(row[0])]
    target = tmp_path / "made"
    target.mkdir()
    parts = {
        "train": kept,
        "val": held,
        "oos_train": [(text, "oos") for text in data.outside_train[::2]],
        "oos_val": [(text, "oos") for text in data.outside_train[1::2]],
    }
    (target / "data_full.json").write_text(json.dumps(parts))
    domains = {domain: sorted(intents) for domain, intents in routing_data.TEMPLATES.items()}
    (target / "domains.json").write_text(json.dumps(domains))
    return target


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A CSV file of text and label."""
    data = routing_data.labelled()
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows((text, data.domain_of[intent]) for text, intent in data.train)
    return path


def test_every_figure_stands_beside_three_baselines(folder: Path) -> None:
    found = labelled.load(folder)
    figures = evaluation.evaluate(evaluation.parts(found), routing_data.encoder())
    assert figures["accuracy"]["domain"] > 0.95
    assert figures["accuracy"]["intent"] > 0.8
    assert 0.5 < figures["oos"]["auroc"] <= 1
    assert 0 <= figures["ece"] < 0.2
    assert 0 <= figures["flip_rate"] < 0.3
    assert figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99"]
    assert figures["baselines"].keys() == {"tfidf", "minilm", "majority"}
    assert figures["baselines"]["tfidf"]["accuracy"]["domain"] > 0.9
    assert figures["baselines"]["majority"]["accuracy"]["domain"] < 0.6
    assert figures["heads"].keys() == {"sparse", "mixed"}
    json.dumps(figures)


def test_tested_rows_are_neither_fitted_nor_calibrated_on(folder: Path, rows: Path, tmp_path: Path) -> None:
    test = tmp_path / "test.json"
    test.write_text(json.dumps({"test": [["please put on some funk music", "play"]], "oos_test": [["who am i", "oos"]]}))
    for given in (
        evaluation.parts(labelled.load(folder)),
        evaluation.parts(labelled.load(rows)),
        evaluation.parts(labelled.load(folder), labelled.load(folder, test)),
    ):
        data = given.data.split()
        seen = {text for text, _ in (*data.train, *data.held)} | {*data.outside_train, *data.outside_held}
        assert given.test and data.held
        assert not seen & {text for text, _ in given.test}
        assert not seen & set(given.outside)


def test_the_majority_is_what_it_says(folder: Path) -> None:
    given = evaluation.parts(labelled.load(folder))
    counts = np.unique([given.data.domain_of[intent] for _, intent in given.data.train], return_counts=True)
    assert len(counts[0]) == 3


def test_few_shots_are_measured_on_the_test_rows(folder: Path) -> None:
    given = evaluation.parts(labelled.load(folder))
    found = evaluation.few_shots(given, routing_data.encoder(), shots=(2, 10), draws=2)
    assert found.keys() == {"2", "10"}
    assert 0.3 < found["2"] <= found["10"] <= 1


def test_eval_prints_a_table_or_one_json_value(folder: Path) -> None:
    plain = run("router", "eval", "--data", str(folder), "--no-encoder")
    assert plain.code == 0, plain.err
    assert "pointsman" in plain.out and "TF-IDF" in plain.out and "majority" in plain.out
    found = run("router", "eval", "--data", str(folder), "--no-encoder", "--json")
    figures = json.loads(found.out)
    assert {"accuracy", "oos", "ece", "flip_rate", "latency_ms", "baselines"} <= figures.keys()
    assert "left out" in figures["note"]


def test_eval_without_a_prepared_encoder_says_so_and_goes_on(folder: Path) -> None:
    found = run("router", "eval", "--data", str(folder), "--json")
    assert found.code == 0, found.err
    assert "encoder is missing" in json.loads(found.out)["note"]
    assert "encoder is missing" in found.err


def test_train_history_and_undo(rows: Path) -> None:
    made = run("router", "train", "--data", str(rows), "--no-encoder", "--json")
    assert made.code == 0, made.err
    assert json.loads(made.out)["name"] == "v0001"
    assert run("router", "train", "--data", str(rows), "--no-encoder", "--risk", "0.02").code == 0
    listed = json.loads(run("router", "history", "--json").out)
    assert [(one["name"], one["current"]) for one in listed] == [("v0002", True), ("v0001", False)]
    assert listed[0]["thresholds"]["risk"] == 0.02
    assert json.loads(run("router", "undo", "--json").out) == {"undone": "v0002", "version": "v0001"}
    assert "nothing learned is in force" in run("router", "undo").out
    run("router", "undo").refused("no version")


def test_router_test_counts_flips_on_the_golden_set(rows: Path) -> None:
    empty = run("router", "test", "--json")
    assert empty.code == 0
    assert json.loads(empty.out)["flip_rate"] is None
    run("router", "train", "--data", str(rows), "--no-encoder")
    found = run("router", "test", "--no-encoder", "--json")
    figures = json.loads(found.out)
    assert figures["rows"] > 20
    assert figures["golden"] > 0.9
    assert 0 <= figures["flip_rate"] < 0.5
    assert found.code == (0 if figures["passed"] else 3)


def test_router_test_does_not_pass_with_a_rule_that_fails(home: Path) -> None:
    file = home / "config" / "rules.toml"
    file.parent.mkdir(parents=True)
    file.write_text(
        '[[rule]]\nname = "money"\nwhen = \'keyword("refund")\'\ndomain = "billing"\n[[rule.test]]\ntext = "nothing of the kind"\n'
    )
    found = run("router", "test", "--json")
    assert found.code == 3
    figures = json.loads(found.out)
    assert figures["passed"] is False
    assert figures["rules"]["faults"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, ("there is no folder",)), ("text,label\na,b\n", ("1 labels",)), ("x", ("0 labels",))],
)
def test_bad_data_is_one_line_and_exit_code_1(tmp_path: Path, content: str | None, words: tuple[str, ...]) -> None:
    path = tmp_path / "rows.csv"
    if content is not None:
        path.write_text(content)
    for verb in ("train", "eval"):
        run("router", verb, "--data", str(path)).refused(*words)


def test_huge_and_odd_texts_are_trained_on(rows: Path) -> None:
    with rows.open("a", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("x" * 1_000_000, "music"), ("\x1b[31m\x00play", "music"), ("日本語の音楽", "music"), ("?!", "travel")])
    made = run("router", "train", "--data", str(rows), "--no-encoder", "--json")
    assert made.code == 0, made.err


@pytest.mark.skipif(not DATASETS, reason="POINTSMAN_DATASETS names no folder of data sets")
def test_the_layouts_of_clinc150_and_banking77_are_read() -> None:
    clinc = labelled.load(Path(DATASETS) / "clinc150")
    assert (len(clinc.domains), len(clinc.intents), len(clinc.outside_train), len(clinc.outside_held)) == (10, 150, 100, 100)
    assert (len(clinc.train), len(clinc.held)) == (15_000, 3_000)
    banking = labelled.load(Path(DATASETS) / "banking77").split()
    assert len(banking.domains) == 77
    assert 0.05 < len(banking.held) / 10_003 < 0.25
