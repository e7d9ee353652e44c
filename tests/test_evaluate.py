"""Scores of a model on a domain: rows, adversarial cases, voices, gates, and answers in free text that are run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import feedback_pack as packs
import pytest
from feedback_pack import right_label, saying, told

from data import domains
from data.domains import Example
from data.errors import ContextOverflow, EngineUnavailable, InputError, ModelMissing
from router.classification import Classified
from trainer import scores
from trainer.answers import evaluate_answers
from trainer.evaluate import evaluate, require_rows, sampled

RIGHT = saying(lambda text: told(text, right_label(text)))
HELD = 24


def held(pack: domains.Domain) -> list[Example]:
    return [one for one in pack.examples if one.split == "validation"]


def test_a_model_that_is_always_right_scores_one_everywhere(tmp_path: Path) -> None:
    pack = packs.pack(tmp_path, gates="accuracy = 0.9\nmacro_f1 = 0.9\necE = 1".replace("ecE", "ece"))
    found = evaluate(pack, RIGHT, held(pack)).to_dict()
    assert (found["n"], found["accuracy"], found["macro_f1"], found["json_valid"], found["errors"]) == (HELD, 1.0, 1.0, 1.0, 0)
    assert found["recall"] == {"bug": 1.0, "idea": 1.0, "praise": 1.0}
    assert found["ece"] == pytest.approx(0.1, abs=1e-6)
    assert found["fields"] == {"urgent": 1.0}
    assert found["passed"] and all(gate["passed"] for gate in found["gates"])
    assert found["ci"]["accuracy"]["low"] < 1.0
    assert found["rows_per_s"] == pytest.approx(1 / found["seconds_per_row"])
    json.dumps(found)


def test_a_faulty_row_counts_as_wrong_and_as_invalid_and_has_no_confidence(tmp_path: Path) -> None:
    pack = packs.pack(tmp_path)
    broken = saying(
        lambda text: (
            Classified(text, "bug", fault="the engine broke off") if right_label(text) == "bug" else told(text, right_label(text))
        )
    )
    found = evaluate(pack, broken, held(pack))
    assert found.errors == 8
    assert found.figures is not None
    assert found.figures.accuracy == pytest.approx(2 / 3)
    assert found.json_valid == pytest.approx(2 / 3)
    assert [row[-1] for row in found.figures.confusion] == [8, 0, 0]
    assert found.figures.ece == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("output", [{"label": "bug"}, {"label": "novel", "urgent": True}, {"label": "bug", "urgent": "yes"}, {}])
def test_output_that_does_not_fit_the_whole_schema_is_not_valid_whatever_is_said_of_it(tmp_path: Path, output: dict) -> None:
    pack = packs.pack(tmp_path)
    found = evaluate(pack, saying(lambda text: told(text, right_label(text), output=output)), held(pack))
    assert found.json_valid == 0.0
    assert not found.passed


def test_without_probabilities_calibration_is_unknown_and_its_gate_not_passed(tmp_path: Path) -> None:
    pack = packs.pack(tmp_path, gates="ece = 0.5")
    found = evaluate(pack, saying(lambda text: told(text, right_label(text), None)), held(pack))
    assert found.to_dict()["ece"] is None
    gate = next(one for one in found.gates if one.name == "ece")
    assert not gate.passed and "no probabilities" in gate.note


def test_gates_name_what_was_reached_and_none_is_skipped(tmp_path: Path) -> None:
    pack = packs.pack(tmp_path, gates="accuracy = 0.5\nadversarial = 0.5\n[gates.recall]\nbug = 0.9\nidea = 0.9")
    rows = [one for one in held(pack) if one.label != "idea"]
    found = evaluate(pack, saying(lambda text: told(text, "praise")), rows)
    reached = {gate.name: (gate.reached, gate.passed, gate.note) for gate in found.gates}
    assert reached["accuracy"] == (0.5, True, "")
    assert reached["json_valid"][1]
    assert reached["adversarial"] == (None, False, "the pack has no adversarial cases")
    assert reached["recall of bug"] == (0.0, False, "")
    assert reached["recall of idea"] == (None, False, "no row of this label was measured")
    assert not found.passed


def test_adversarial_cases_fail_with_their_reasons_and_are_compared_with_each_other(tmp_path: Path) -> None:
    cases = [
        {
            "id": "sure",
            "text": "the button crashes when I press save",
            "expect": {"label": "bug", "confidence": {"above_case": "vague"}},
        },
        {"id": "vague", "text": "hm", "expect": {"confidence": {"below": 0.5}}, "why": "nothing is said"},
        {"id": "wrong", "text": "I love it", "expect": {"label": "praise", "urgent": False}, "why": "praise"},
    ]
    pack = packs.pack(tmp_path, cases=cases)
    answers = {"hm": told("hm", "idea", 0.4), "I love it": told("I love it", "bug")}
    found = evaluate(pack, saying(lambda text: answers.get(text) or told(text, right_label(text))), held(pack)).adversarial
    assert (found.passed, found.of, found.rate) == (2, 3, pytest.approx(2 / 3))
    failed = found.failed[0]
    assert (failed.id, failed.why) == ("wrong", "praise")
    assert failed.faults == ('label is "bug", not "praise"', "urgent is true, not false")


def test_a_case_without_an_answer_fails_with_the_fault(tmp_path: Path) -> None:
    pack = packs.pack(tmp_path, cases=[{"id": "one", "text": "x", "expect": {"label": {"not": "bug"}}}])
    broken = saying(lambda text: Classified(text, fault="out of memory") if text == "x" else told(text, right_label(text)))
    assert evaluate(pack, broken, held(pack)).adversarial.failed[0].faults == ("out of memory",)


def test_each_voice_is_measured_on_the_rows_where_it_spoke(tmp_path: Path) -> None:
    pack = packs.pack(tmp_path)

    def answer(text: str) -> Classified:
        label = right_label(text)
        voices = [packs.voice("model", "idea"), packs.voice("encoder", label), packs.voice("combined", label)]
        if label == "bug":
            voices.insert(0, packs.voice("rules", "bug"))
        return told(text, label, voices=tuple(voices))

    found = evaluate(pack, saying(answer), held(pack)).to_dict()["voices"]
    assert {name: (one["n"], round(one["accuracy"], 3)) for name, one in found.items()} == {
        "rules": (8, 1.0),
        "model": (HELD, 0.333),
        "encoder": (HELD, 1.0),
        "combined": (HELD, 1.0),
    }


def test_labels_that_the_domain_does_not_know_are_listed(tmp_path: Path) -> None:
    pack = packs.pack(tmp_path)
    rows = [Example(text="a", label="bug"), *(Example(text="b", label="Bug\x1b[31m"),) * 2, Example(text="c", label="")]
    with pytest.raises(InputError) as caught:
        evaluate(pack, RIGHT, rows)
    assert "(2)" in caught.value.what and "\x1b" not in str(caught.value)
    assert "no label" in caught.value.what and "bug, idea, praise" in caught.value.fix
    with pytest.raises(InputError, match="no rows"):
        require_rows(pack, [])


def test_a_sample_does_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = held(packs.pack(tmp_path))
    assert sampled(rows, 5) == sampled(rows[::-1], 5)
    assert len({one.label for one in sampled(rows, 9)}) > 1
    assert sampled(rows, 0) == rows == sampled(rows, 500)


def test_a_missing_model_is_not_scored_as_wrong(tmp_path: Path) -> None:
    pack = packs.pack(tmp_path)

    def absent(texts):
        raise ModelMissing("there is no such model", "pull it")
        yield

    with pytest.raises(ModelMissing):
        evaluate(pack, absent, held(pack))


def test_progress_counts_cases_and_rows(tmp_path: Path) -> None:
    pack = packs.pack(tmp_path, cases=[{"id": "one", "text": "x", "expect": {"label": "praise"}}])
    seen = []
    evaluate(pack, RIGHT, held(pack), lambda *step: seen.append(step))
    assert ("adversarial cases", 1, 1) in seen and seen[-1] == ("rows", HELD, HELD)


def test_predictions_and_metrics_are_written_as_json(tmp_path: Path) -> None:
    pack = packs.pack(tmp_path)
    found = evaluate(pack, saying(lambda text: told(text, "bug")), held(pack))
    scores.write(found, tmp_path / "out", {"baselines": {}})
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == HELD
    assert sum(line["correct"] for line in lines) == 8
    assert lines[0].keys() >= {"text", "right", "said", "confidence", "probabilities", "output", "valid", "voices", "fault"}
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["accuracy"] == pytest.approx(1 / 3)


def free_pack(folder: Path, gates: str = "accuracy = 0.6") -> domains.Domain:
    made = folder / "writing"
    made.mkdir(parents=True)
    (made / "domain.toml").write_text(f'name = "writing"\ntitle = "Writing"\ndescription = "Writes."\n[gates]\n{gates}\n')
    lines = [
        {"text": "Write add(a, b).", "check": {"python": "assert add(2, 3) == 5"}, "split": "validation"},
        {"text": "Write a heading.", "check": {"headings": ["Usage"]}, "split": "validation"},
        {"text": "Say nothing much.", "split": "validation"},
    ]
    (made / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (made / "adversarial.jsonl").write_text(
        json.dumps({"id": "short", "text": "Be brief.", "check": {"most_words": 3}, "why": "length"}) + "\n"
    )
    return domains.read(made)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed, and model code runs nowhere else")
def test_answers_in_free_text_are_measured_by_their_checks_and_their_code_is_run(tmp_path: Path) -> None:
    pack = free_pack(tmp_path)
    answers = {"Write add(a, b).": "```python\ndef add(a, b):\n    return a - b\n```", "Write a heading.": "# Usage\n\nRun it."}
    found = evaluate_answers(pack, lambda text: answers.get(text, "far too many words"), pack.examples, model="echo/echo")
    assert (found.n, found.checks, found.json_valid) == (2, 0.5, None)
    assert found.to_dict()["accuracy"] == 0.5
    assert found.adversarial.rate == 0.0 and found.adversarial.failed[0].id == "short"
    assert [bool(one.fault) for one in found.predictions] == [True, False]
    assert "1 rows have no check" in found.notes[0]
    assert [(gate.name, gate.passed) for gate in found.gates] == [("accuracy", False)]
    answers["Write add(a, b)."] = "```python\ndef add(a, b):\n    return a + b\n```"
    assert evaluate_answers(pack, lambda text: answers.get(text, "yes"), pack.examples).passed


def test_a_question_that_the_engine_cannot_answer_is_a_fault_and_a_lost_server_ends_the_run(tmp_path: Path) -> None:
    pack = free_pack(tmp_path)
    rows = [one for one in pack.examples if one.check and not one.check.python]

    def answer(text: str) -> str:
        if text == "Write a heading.":
            raise ContextOverflow("too long")
        return "yes"

    found = evaluate_answers(pack, answer, rows)
    assert (found.n, found.errors, found.checks) == (1, 1, 0.0)
    assert found.predictions[0].fault == "too long" and found.adversarial.rate == 1.0

    def gone(text: str) -> str:
        raise EngineUnavailable("the server went away")

    with pytest.raises(EngineUnavailable):
        evaluate_answers(pack, gone, rows)


def test_free_text_without_any_check_cannot_be_measured(tmp_path: Path) -> None:
    pack = free_pack(tmp_path)
    with pytest.raises(InputError, match="no row of writing has a check"):
        evaluate_answers(pack, lambda text: "", [replace_check(one) for one in pack.examples])


def replace_check(one: Example) -> Example:
    return Example(text=one.text, split=one.split)


def test_scores_do_not_change_with_the_order_of_the_answers_fields(tmp_path: Path) -> None:
    pack = packs.pack(tmp_path)
    turned = saying(
        lambda text: replace(told(text, right_label(text)), output=dict(reversed(told(text, right_label(text)).output.items())))
    )
    assert evaluate(pack, turned, held(pack)).json_valid == 1.0


def test_a_domain_with_a_contract_and_no_labels_is_measured_by_validity_and_properties(tmp_path: Path) -> None:
    folder = packs.pack(tmp_path).folder
    (folder / "domain.toml").write_text('name = "feedback"\ntitle = "F"\ndescription = "F."\n[gates]\nmacro_f1 = 0.5\n')
    pack = domains.read(folder)
    found = evaluate(pack, saying(lambda text: told(text, right_label(text), output={"label": "bug", "urgent": True})), held(pack))
    assert (found.figures, found.json_valid, found.voices) == (None, 1.0, {})
    assert found.fields == {"label": pytest.approx(1 / 3), "urgent": pytest.approx(1 / 3)}
    assert {gate.name: gate.passed for gate in found.gates} == {"macro_f1": False, "json_valid": True}
    assert found.to_dict()["accuracy"] is None
    json.dumps(found.to_dict())
