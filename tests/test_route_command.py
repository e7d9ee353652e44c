"""`pointsman route` and `pointsman why`: the decision for people and as JSON, and every bad input as one line."""

import json

import pytest
from command_line import run

from data import config, paths
from data.store import open_store


@pytest.fixture(autouse=True)
def echoes(monkeypatch):
    monkeypatch.setenv("POINTSMAN_MODEL", "echo/echo")


def test_the_decision_comes_as_json_with_every_stage():
    found = json.loads(run("route", "--json", "What is 17 * 23?", "--mode", "auto").out)
    assert (found["model"], found["mode"], found["source"]) == ("echo/echo", "agent", "default")
    assert {"domain", "confidence", "stages", "runner_up"} <= set(found)
    assert all(set(stage) == {"name", "outcome", "evidence", "ms"} for stage in found["stages"])
    assert found["tools"][0] == "calculator" and found["tool_need"] >= found["thresholds"]["tool_need"]


def test_the_decision_is_readable_and_nothing_is_logged():
    ran = run("route", "tell me a joke", "--mode", "auto")
    assert ran.code == 0 and "standard" in ran.out and "because" in ran.out
    assert json.loads(run("log", "list", "--json").out) == []


def test_why_explains_the_newest_answer_and_one_by_its_id():
    ask = json.loads(run("ask", "--json", "--mode", "auto", "tell me a joke").out)
    found = json.loads(run("why", "--json").out)
    assert (found["question"], found["mode"]) == ("tell me a joke", "standard") and found["would_change"]
    assert json.loads(run("why", "--json", ask["inference"][-8:]).out) == found
    ran = run("why")
    assert "tell me a joke" in ran.out and "it would have gone otherwise" in ran.out


def test_a_pin_is_named_as_the_reason():
    run("ask", "--mode", "standard", "What is 17 * 23?")
    found = json.loads(run("why", "--json").out)
    assert found["stages"][0]["name"] == "pin" and found["mode"] == "standard"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("route", " "), "the question is empty"),
        (("route", "hi", "--mode", "telepathy"), "there is no mode 'telepathy'"),
        (("route", "hi", "--domain", "nowhere"), "there is no domain 'nowhere'"),
        (("ask", "hi", "--domain", "nowhere"), "domains: code, docs, fraud, gtm, triage, wellbeing"),
        (("route", "hi", "--model", "nothing-like-this"), "no model 'nothing-like-this'"),
        (("why",), "no answer"),
        (("why", "ffffffff"), "ffffffff"),
    ],
)
def test_bad_input_is_one_line(arguments, words):
    run(*arguments).refused(words)


def test_hostile_text_is_shown_harmless():
    ran = run("route", "\x1b]0;owned\x07 calculate 2+2", "--mode", "auto")
    assert ran.code == 0 and "\x1b]0" not in ran.out
    run("ask", "\x1b]0;owned\x07 hello")
    assert "\x1b" not in run("why").out


def test_contradictory_rules_are_told_with_both_lines_and_the_default_answers():
    rules = paths.ensure(paths.config_dir()) / "rules.toml"
    both = "\n".join(
        f'[[rule]]\nname = "r{n}"\nwhen = \'keyword("tea")\'\nmode = "{mode}"' for n, mode in enumerate(("agent", "standard"))
    )
    rules.write_text(both)
    found = json.loads(run("route", "--json", "a cup of tea").out)
    assert found["mode"] == config.load().mode
    assert ":1:" in found["stages"][0]["evidence"] and "5" in found["stages"][0]["evidence"]


def test_undo_takes_the_newest_correction_back_then_has_nothing_left():
    run("ask", "--mode", "auto", "tell me a joke")
    with open_store() as store:
        store.routing.teach("tell me a joke", mode="multi_step")
        store.routing.teach("tell me another", mode="agent")
    assert json.loads(run("route", "--json", "tell me a joke", "--mode", "auto").out)["mode"] == "multi_step"
    assert "tell me another" in run("router", "undo").out
    assert json.loads(run("router", "undo", "--json").out)["undone"].startswith("correction ")
    assert json.loads(run("route", "--json", "tell me a joke", "--mode", "auto").out)["mode"] == "standard"
    run("router", "undo").refused("no version of the router")
