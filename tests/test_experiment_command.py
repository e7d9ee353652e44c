"""`pointsman experiment start|status|stop`: what runs, what is proven so far, and how many more answers are needed."""

import json

from command_line import run
from registry_support import champion, version

from data.chat import Message
from data.store import open_store


def test_an_experiment_is_started_looked_at_and_stopped(home):
    started = run("experiment", "start", "echo/a", "echo/b", "--domain", "triage", "--paired", "--why", "curious")
    assert started.code == 0 and "echo/b against echo/a, side by side" in started.out and "e-value of 20" in started.out
    _pairs(9, 1)
    shown = run("experiment", "status")
    assert "blind pairs: 9 won, 1 lost, 0 ties" in shown.out and "more answers needed" in shown.out
    (told,) = json.loads(run("experiment", "status", "triage", "--json").out)
    assert (told["kind"], told["pairs"]["wins"], told["verdict"]) == ("paired", 9, "nothing is proven yet")
    assert told["better"] > told["worse"] and told["more"] > 0
    _pairs(6, 0)
    assert "echo/b is better" in run("experiment", "stop", "triage").out
    after = run("experiment", "status", told["id"][-8:])
    assert "stopped by" in after.out and "more answers needed" not in after.out
    assert "no experiment runs" in run("experiment", "status").err


def test_champion_and_versions_are_named_by_their_names(home):
    with open_store() as store:
        champion(store, "first"), version(store, "second")
    made = json.loads(run("experiment", "start", "champion", "second", "--domain", "triage", "--json").out)
    assert made["arms"] == [["llamacpp/first", 0.5], ["llamacpp/second", 0.5]]


def test_bad_input_is_one_line(home):
    run("experiment", "start", "echo/a", "echo/a", "--domain", "triage").refused("two different models")
    run("experiment", "start", "champion", "echo/a", "--domain", "triage").refused("has no champion")
    run("experiment", "start", "nothing/at-all", "echo/a", "--domain", "triage").refused("nothing/at-all")
    run("experiment", "stop", "triage").refused("no experiment 'triage'")
    run("experiment", "status", "triage").refused("no experiment")
    assert run("experiment", "start", "echo/a", "echo/b").code == 2
    run("experiment", "start", "echo/a", "echo/b", "--domain", "triage")
    run("experiment", "start", "echo/a", "echo/c", "--domain", "triage").refused("running", "experiment stop")


def _pairs(wins, losses):
    with open_store() as store:
        for n in range(wins + losses):
            how = {"mode": "standard", "config": {}, "domain": "triage"}
            first = store.log.begin(Message("user", "q"), model="echo/a", **how)
            store.log.finish(first.inference, status="complete", text="a")
            other = store.log.begin_again(first.question, model="echo/b", **how)
            store.log.finish(other.inference, status="complete", text="b")
            chosen, rejected = (other, first) if n < wins else (first, other)
            store.feedback.prefer(chosen.inference, rejected.inference, blind=True)
