"""`pointsman classify` as a user runs it: one text, a file, what stays when it is stopped, and bad input."""

import csv
import json

import pytest
from command_line import prepared_as_packaged, run
from packs import Oracle, pack

from data.errors import EngineUnavailable
from router.engines import Engines

SURE = {"stole": {"FRAUD": 0.9, "INFO": 0.1}, "log in": {"RESET": 0.8}, "open": {"INFO": 0.6, "FRAUD": 0.4}}


@pytest.fixture
def oracle(monkeypatch):
    """The command's engines, with a model that knows what it will say."""
    found = Oracle(SURE)
    init = Engines.__init__
    monkeypatch.setattr(Engines, "__init__", lambda self, settings, made=None: init(self, settings, {"echo": found}))
    return found


def texts(tmp_path, rows):
    file = tmp_path / "in.csv"
    with file.open("w", newline="") as out:
        csv.writer(out).writerows(rows)
    return str(file)


def test_one_text_gets_label_probabilities_and_output(oracle):
    pack()
    ran = run("classify", "--domain", "desk", "--model", "echo", "--json", "someone", "stole", "it")
    assert ran.code == 0, ran
    found = json.loads(ran.out)
    assert found["label"] == "FRAUD" and found["output"] == {"label": "FRAUD"} and found["model"] == "echo/echo"
    assert found["confidence"] == found["probabilities"]["FRAUD"] > 0.8
    ran = run("classify", "--domain", "desk", "--model", "echo", stdin=b"someone stole it")
    assert ran.out.startswith("FRAUD  (90.0%)") and "decided by: the model alone" in ran.out


def test_a_file_gets_a_row_for_each_row_with_faults_in_their_place(oracle, tmp_path):
    pack()
    file = texts(tmp_path, [("text", "label"), ("someone stole it", "FRAUD"), ("", "INFO"), ("cannot log in", "RESET")])
    out = tmp_path / "out.jsonl"
    ran = run("classify", "--domain", "desk", "--model", "echo", "-f", file, "-o", str(out), "--json")
    assert ran.code == 0, ran
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["label"] for row in rows] == ["FRAUD", "", "RESET"]
    assert "empty" in rows[1]["error"] and rows[0]["expected"] == "FRAUD" and rows[0]["row"] < rows[1]["row"] < rows[2]["row"]
    assert json.loads(ran.out) | {"out": ""} == {"rows": 3, "faulty": 1, "gone_on_from": 0, "out": "", "model": "echo/echo"}


def test_a_batch_that_broke_off_goes_on_where_it_was(oracle, tmp_path):
    pack()
    file = texts(tmp_path, [("text",), *((f"someone stole it {number}",) for number in range(300))])
    out = tmp_path / "out.csv"
    command = ("classify", "--domain", "desk", "--model", "echo", "-f", file, "-o", str(out))
    complete, count = oracle.complete, 0

    def breaking(requests, structure):
        nonlocal count
        for one in complete(requests, structure):
            count += 1
            if count > 200:
                raise EngineUnavailable("the server went away")
            yield one

    oracle.complete = breaking
    ran = run(*command)
    assert ran.code == 1 and "went away" in ran.err
    assert not out.exists()
    oracle.complete = complete
    ran = run(*command)
    assert ran.code == 0 and "128 were there already" in ran.out
    with out.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["text"] for row in rows] == [f"someone stole it {number}" for number in range(300)]
    assert json.loads(rows[0]["output"]) == {"label": "FRAUD"}
    run(*command).refused("exists")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--domain", "nowhere", "x"), ("no domain pack", "fraud")),
        (("--domain", "desk", "--model", "nothere", "x"), ("nothere",)),
        (("--domain", "desk", "--contract", "v9", "x"), ("no contract 'v9'",)),
        (("--domain", "desk", ""), ("the text is empty",)),
        (("--domain", "desk", "-f", "nowhere.csv", "-o", "out.csv"), ("nowhere.csv",)),
        (("--domain", "code", "x"), ("no schema",)),
        (("--domain", "../desk", "x"), ("no domain pack",)),
    ],
)
def test_bad_input_is_one_line(oracle, arguments, words):
    pack()
    model = () if "--model" in arguments else ("--model", "echo")
    run("classify", *model, *arguments).refused(*words)


def test_a_file_without_a_place_to_go_is_wrong_usage(tmp_path):
    assert run("classify", "--domain", "desk", "-f", "x.csv").code == 2


def test_the_embedded_model_classifies_a_file(tmp_path):
    prepared_as_packaged()
    pack()
    file = texts(tmp_path, [("message",), ("someone stole my card",), ("I cannot log in",), ("when do you open",)])
    out = tmp_path / "out.jsonl"
    ran = run("classify", "--domain", "desk", "-f", file, "-o", str(out), "--text-column", "message")
    assert ran.code == 0, ran
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 3 and all(row["output"] == {"label": row["label"]} and row["confidence"] for row in rows)
