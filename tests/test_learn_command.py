"""`pointsman learn` as a user runs it: what it says, one JSON value, exit codes, the timer's way, and what stays private."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command_line import run
from learnable import DOMAIN, Stubs, ask, domain, said

from data import paths
from data.store import open_store
from tui.learn import idle
from tui.learn import state as states


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Stubs:
    return Stubs().install(monkeypatch)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with nothing to do; the folder of its power supplies."""
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr(idle, "QUIET", timedelta(0))
    monkeypatch.setattr(idle, "politely", lambda: None)
    supplies = tmp_path / "supplies"
    reason = idle.reason
    monkeypatch.setattr(idle, "reason", lambda store: reason(store, supplies))
    return supplies


def talk(count: int, seed: int = 2) -> None:
    with open_store() as store:
        said(store, count, seed)


def supply(folder: Path, name: str, **told: str) -> None:
    for key, value in told.items():
        file = paths.ensure(folder / name) / key
        file.write_text(f"{value}\n")


def test_a_learn_says_what_it_learnt_and_what_became_of_it(stubs):
    domain()
    talk(24)
    ran = run("learn", DOMAIN, "--least", "16", "--to", "champion")
    assert ran.code == 0
    assert "learnt from 24 rows" in ran.out and "0 failed" in ran.out
    assert f"is the champion of {DOMAIN}" in ran.out and "models explain" in ran.out
    assert "replay" in ran.err


def test_the_result_is_one_json_value(stubs):
    domain()
    talk(24)
    ran = run("learn", DOMAIN, "--least", "16", "--json")
    assert ran.code == 0 and ran.out.count("\n") == 1
    found = json.loads(ran.out)
    assert (found["outcome"], found["passed"], found["stage"]) == ("promoted", True, "canary")
    assert found["run"] == found["export"] and found["steps"]["dataset"]["volume"]["rows"] == 24
    assert {"name", "passed", "reached", "limit", "note"} <= found["gates"][0].keys()


def test_a_failed_gate_is_exit_code_3_with_the_reason_and_where_the_evidence_is(monkeypatch):
    Stubs(right=0.2, passed=False).install(monkeypatch)
    domain()
    talk(24)
    ran = run("learn", DOMAIN, "--least", "16")
    assert ran.code == 3
    assert "run: accuracy" in ran.out and "nothing was promoted" in ran.out and "pointsman report" in ran.out
    again = run("learn", DOMAIN, "--json")
    assert again.code == 3 and json.loads(again.out)["outcome"] == "failed"
    assert "nothing was said" in again.err


def test_too_little_says_how_much_is_missing(stubs):
    domain()
    talk(5)
    ran = run("learn", DOMAIN)
    assert (ran.code, ran.out) == (1, "") and "Traceback" not in ran.err
    assert "more answers that you liked or corrected" in ran.err and "--dry-run" in ran.err


def test_a_dry_run_shows_rows_reasons_and_plan_and_leaves_nothing(stubs):
    domain()
    talk(24)
    with open_store() as store:
        inference = ask(store, "write to anna@example.org, my card is gone", "I do not know")
        store.feedback.correct(inference, "I still do not know")
        store.feedback.correct(ask(store, "I paid from anna.b@example.org ba be zzz", "INFO"), "FRAUD")
    ran = run("learn", DOMAIN, "--dry-run", "--least", "16")
    assert ran.code == 0
    for words in (
        "25 rows of yours",
        "split by conversation and time",
        "corrections",
        "the first rows",
        "stages: sft",
        "enough to learn",
    ):
        assert words in ran.out
    assert "a label of desk cannot be read out of its answer" in ran.out and "says more than its thumb" in ran.out
    assert "redacted: 1" in ran.out and "example.org" not in ran.out
    assert states.found(DOMAIN) == [] and stubs.count == {}
    assert not (paths.cache_dir() / "learn" / DOMAIN).exists()
    found = json.loads(run("learn", DOMAIN, "--dry-run", "--least", "16", "--json").out)
    assert (found["enough"], found["missing"], found["fresh"]) == (True, [], 25)
    assert "example.org" not in json.dumps(found) and len(found["first"]) == 5


def test_a_dry_run_says_what_is_missing_and_estimates_nothing(stubs):
    domain()
    ran = run("learn", DOMAIN, "--dry-run")
    assert ran.code == 0 and "missing: 88 more answers" in ran.out
    assert stubs.recipes == []


def test_a_dry_run_names_the_learn_that_broke_off(monkeypatch):
    Stubs(fault={"training": KeyboardInterrupt()}).install(monkeypatch)
    domain()
    talk(24)
    stopped = run("learn", DOMAIN, "--least", "16")
    assert stopped.code == 130 and f"to go on: pointsman learn {DOMAIN}" in stopped.err
    assert "goes on with it" in run("learn", DOMAIN, "--dry-run").err
    gone_on = run("learn", DOMAIN, "--resume")
    assert gone_on.code == 0 and "going on with" in gone_on.err and "after: dataset" in gone_on.err


def test_wrong_usage_and_unknown_domains_are_told(stubs):
    assert run("learn").code == 2
    assert run("learn", DOMAIN, "--dry-run", "--anew").code == 2
    assert run("learn", DOMAIN, "--resume", "--anew").code == 2
    run("learn", "no_such_domain").refused("there is no domain pack")
    run("learn", "../etc").refused("there is no domain pack")
    domain()
    run("learn", DOMAIN, "--resume").refused("broke off")
    run("learn", DOMAIN, "--recipe", "no-such-recipe").refused("there is no recipe")


def test_when_idle_learns_where_there_is_enough_new_and_nobody_is_here(stubs, quiet):
    domain()
    talk(100)
    ran = run("learn", DOMAIN, "--when-idle", "--to", "staging")
    assert ran.code == 0 and stubs.count["training"] == 1
    again = run("learn", DOMAIN, "--when-idle")
    assert again.code == 0 and "0 rows are new" in again.err and stubs.count["training"] == 1


def test_when_idle_does_nothing_and_exits_with_0_where_there_is_too_little(stubs, quiet):
    domain()
    talk(24)
    ran = run("learn", DOMAIN, "--when-idle", "--json")
    assert ran.code == 0 and json.loads(ran.out)["learnt"] is False
    assert "24 of 88 answers" in ran.err and stubs.count == {}


def test_when_idle_a_learn_that_broke_off_goes_on(monkeypatch, quiet):
    stubs = Stubs(fault={"training": KeyboardInterrupt()}).install(monkeypatch)
    domain()
    talk(24)
    assert run("learn", DOMAIN, "--least", "16").code == 130
    assert run("learn", DOMAIN, "--when-idle").code == 0
    assert stubs.count["training"] == 2 and states.found(DOMAIN)[-1].outcome == "promoted"


def test_when_idle_waits_for_a_canary_on_trial(stubs, quiet):
    domain()
    talk(24)
    assert run("learn", DOMAIN, "--least", "16").code == 0
    ran = run("learn", DOMAIN, "--when-idle")
    assert ran.code == 0 and "running (canary)" in ran.err and stubs.count["training"] == 1


def test_when_idle_a_busy_machine_is_left_alone(stubs, quiet, monkeypatch):
    domain()
    talk(24)
    monkeypatch.setattr(os, "getloadavg", lambda: (900.0, 1.0, 1.0))
    assert "the machine is busy" in run("learn", DOMAIN, "--when-idle", "--least", "16").err
    assert stubs.count == {}


def test_when_idle_a_chat_of_a_minute_ago_counts_as_open(stubs, quiet, monkeypatch):
    domain()
    talk(24)
    monkeypatch.setattr(idle, "QUIET", timedelta(minutes=10))
    assert "a conversation went on 0 minutes ago" in run("learn", DOMAIN, "--when-idle", "--least", "16").err
    assert stubs.count == {}


@pytest.mark.parametrize(
    ("supplies", "free"),
    [
        ({}, True),
        ({"AC": {"type": "Mains", "online": "1"}, "BAT0": {"type": "Battery", "status": "Charging"}}, True),
        ({"AC": {"type": "Mains", "online": "0"}, "BAT0": {"type": "Battery", "status": "Discharging"}}, False),
        ({"BAT0": {"type": "Battery", "status": "Discharging"}}, False),
        ({"BAT0": {"type": "Battery", "status": "Full"}}, True),
        ({"AC": {"type": "Mains", "online": "0"}, "ucsi": {"type": "USB", "online": "1"}}, True),
        ({"mouse": {"type": "Battery", "status": "Unknown"}}, True),
        ({"odd": {}}, True),
    ],
)
def test_power_is_read_from_what_the_system_tells(quiet, supplies, free):
    for name, told in supplies.items():
        paths.ensure(quiet / name)
        supply(quiet, name, **told)
    with open_store() as store:
        assert (idle.reason(store) == "") is free


def test_a_state_from_the_future_is_refused_not_guessed(stubs):
    domain()
    place = paths.ensure(states.folder() / f"{DOMAIN}-20261121-000000-abcdef")
    now = datetime.now(UTC).isoformat()
    (place / states.FILE).write_text(json.dumps({"version": 2, "id": place.name, "domain": DOMAIN, "begun": now}))
    talk(24)
    assert run("learn", DOMAIN, "--least", "16").code == 0
    assert json.loads((place / states.FILE).read_text())["version"] == 2
