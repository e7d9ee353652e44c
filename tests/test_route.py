"""The decision: stages in order, the first to write a field wins, a tuned model must have earned its route."""

from collections import Counter

import pytest

from router.breaker import Breaker
from router.policy import assigned, gate, switch_cost_s
from router.route import Candidate, Context, Experiment, Snapshot, Tuned, continues, decide
from router.taught import taught as ready

BASE = "llamacpp/base"
MINE = "ollama/mine"
PROVEN = Tuned("fraud", MINE, BASE, pairs=200, gain=0.15, lower=0.06)
ASKED = Context(default_model=BASE)


def fraud(**more):
    """A context whose question is known to be of the domain fraud."""
    return Context(**({"default_model": BASE, "pinned_domain": "fraud", "tuned": (PROVEN,)} | more))


def evidence(decision, stage):
    return next(one.evidence for one in decision.stages if one.name == stage)


def test_without_anything_known_the_defaults_answer():
    found = decide("Why is the sky blue?", ASKED)
    assert (found.model, found.mode, found.domain, found.source) == (BASE, "standard", "", "default")
    assert found.confidence == found.propensity == 1.0 and found.runner_up is None


def test_a_pin_is_never_overridden_by_anything_later():
    context = fraud(pinned_model="echo/echo", pinned_mode="ensemble", last_model="llamacpp/other", last_mode="agent")
    found = decide("go on", context)
    assert (found.model, found.mode, found.domain, found.source) == ("echo/echo", "ensemble", "fraud", "pin")


def test_a_pinned_model_that_cannot_answer_is_still_the_users_choice():
    found = decide(
        "q", Context(default_model=BASE, pinned_model=MINE, candidates=(Candidate(MINE, "not running"), Candidate(BASE)))
    )
    assert (found.model, found.source) == (MINE, "pin")
    assert "not running" in evidence(found, "eligibility")


@pytest.mark.parametrize(
    "turn", ["ok continue", "Go on!", "yes, go on please", "why?", "and then?", "  OK.  ", "Make it shorter", "thanks"]
)
def test_a_turn_that_says_nothing_by_itself_inherits_the_last_route(turn):
    assert continues(turn)
    found = decide(turn, Context(default_model=BASE, default_mode="auto", last_model=MINE, last_mode="agent", last_domain="fraud"))
    assert (found.model, found.mode, found.domain, found.source) == (MINE, "agent", "fraud", "continuation")


@pytest.mark.parametrize(
    "turn",
    [
        "",
        "continue the sequence 2, 4, 8",
        "why is the sky blue?",
        "ok " * 40,
        "thanks to whom do we owe this?",
        "next train to Ulm",
    ],
)
def test_a_turn_with_words_of_its_own_is_no_continuation(turn):
    assert not continues(turn)


def test_a_tuned_model_with_a_lower_bound_above_zero_gets_its_domain():
    found = decide("is this a scam?", fraud())
    assert (found.model, found.source) == (MINE, "adapter") and "+6.0%" in evidence(found, "adapter")


@pytest.mark.parametrize(
    ("tuned", "why"),
    [
        (Tuned("fraud", MINE), "never evaluated"),
        (Tuned("fraud", MINE, BASE, 200, 0.1, 0.0), "not proven better"),
        (Tuned("fraud", MINE, BASE, 200, 0.1, -0.2), "not proven better"),
        (Tuned("fraud", MINE, "ollama/other", 200, 0.3, 0.2), "evaluated against ollama/other"),
    ],
)
def test_a_tuned_model_without_proof_gets_no_route(tuned, why):
    assert why in gate(tuned, BASE)
    found = decide("is this a scam?", fraud(tuned=(tuned,)))
    assert (found.model, found.source) == (BASE, "default") and why in evidence(found, "adapter")


def test_a_tuned_model_is_not_asked_in_another_domain():
    assert decide("write a poem", fraud(pinned_domain="poetry")).model == BASE


def test_the_best_proven_of_several_is_asked_and_a_broken_one_is_passed_over():
    better = Tuned("fraud", "ollama/better", BASE, 200, 0.3, 0.2)
    assert decide("q", fraud(tuned=(PROVEN, better))).model == "ollama/better"
    broken = (Candidate("ollama/better", "the server is not running"), Candidate(MINE), Candidate(BASE))
    assert decide("q", fraud(tuned=(PROVEN, better), candidates=broken)).model == MINE


def test_a_conversation_stays_with_its_model():
    found = decide("a new question with words", Context(default_model=BASE, last_model="ollama/x", last_mode="agent"))
    assert (found.model, found.source, found.mode) == ("ollama/x", "stability", "standard")


def test_a_switch_must_gain_more_than_it_costs():
    long = {"last_model": BASE, "history_tokens": 4000, "prefill_per_s": 100.0, "margin": 0.02, "switch_weight": 0.01}
    assert switch_cost_s(Context(**long), MINE) == 40.0
    stays = decide("is this a scam?", fraud(**long))
    assert (stays.model, stays.source) == (BASE, "stability") and "40.0 s" in evidence(stays, "stability")
    switches = decide("is this a scam?", fraud(**long | {"history_tokens": 400}))
    assert (switches.model, switches.source) == (MINE, "adapter") and "worth it" in evidence(switches, "stability")
    unloaded = fraud(**long | {"history_tokens": 0}, candidates=(Candidate(MINE, loaded=False, load_s=30.0), Candidate(BASE)))
    assert decide("is this a scam?", unloaded).model == BASE


def test_a_trial_divides_conversations_by_its_shares_and_keeps_each_one_with_its_arm():
    arms = ((BASE, 0.75), (MINE, 0.25))
    drawn = Counter(assigned("trial", arms, f"c{n}")[0] for n in range(4000))
    assert 0.22 < drawn[MINE] / 4000 < 0.28
    assert assigned("trial", arms, "c1") == assigned("trial", arms, "c1")
    assert {assigned("other", arms, f"c{n}") == assigned("trial", arms, f"c{n}") for n in range(50)} == {True, False}
    trial = Experiment("trial", "fraud", arms)
    mine = next(f"c{n}" for n in range(100) if assigned("trial", arms, f"c{n}")[0] == MINE)
    found = decide("q", fraud(tuned=(), experiments=(trial,), conversation=mine))
    assert (found.model, found.arm, found.propensity, found.source) == (MINE, f"trial:{MINE}", 0.25, "experiment")
    kept = decide("q", fraud(tuned=(), experiments=(trial,), conversation=mine, last_model=BASE, last_arm=f"trial:{BASE}"))
    assert (kept.model, kept.propensity) == (BASE, 0.75)


def test_a_trial_leaves_pins_rules_and_older_conversations_alone():
    trial = Experiment("trial", "fraud", ((MINE, 1.0),))
    assert decide("q", fraud(experiments=(trial,), pinned_model="echo/echo", tuned=())).model == "echo/echo"
    older = decide("q", fraud(experiments=(trial,), tuned=(), last_model=BASE))
    assert (older.model, older.arm, older.propensity) == (BASE, "", 1.0)
    broken = decide("q", fraud(experiments=(trial,), tuned=(), candidates=(Candidate(MINE, "not running"), Candidate(BASE))))
    assert (broken.model, broken.arm) == (BASE, "")


def test_a_model_that_cannot_answer_gives_way_to_the_base_then_to_any_other():
    three = (Candidate(MINE, "not running"), Candidate(BASE), Candidate("ollama/x"))
    found = decide("q", Context(default_model=BASE, last_model=MINE, candidates=three))
    assert (found.model, found.source) == (BASE, "fallback") and "not running" in evidence(found, "fallback")
    no_base = (Candidate(MINE, "not running"), Candidate(BASE, "damaged"), Candidate("ollama/x"))
    assert decide("q", Context(default_model=BASE, last_model=MINE, candidates=no_base)).model == "ollama/x"
    none = decide("q", Context(default_model=BASE, candidates=(Candidate(BASE, "damaged"),)))
    assert none.model == BASE and "no other model" in evidence(none, "fallback")


def test_a_conversation_too_long_for_a_model_goes_to_one_whose_context_it_fits():
    sizes = (
        Candidate(BASE, context_tokens=4096, prompt_tokens=5000),
        Candidate("ollama/long", context_tokens=32768, prompt_tokens=5000),
    )
    found = decide("q", Context(default_model=BASE, candidates=sizes))
    assert found.model == "ollama/long" and "5000 tokens" in evidence(found, "fallback")


def test_the_mode_that_the_user_said_is_right_comes_back_for_the_same_question():
    taught = Snapshot(taught=ready([("How many eggs?", "multi_step")], None))
    assert decide("  How many   EGGS?", Context(default_model=BASE, default_mode="auto"), taught).mode == "multi_step"
    assert decide("how many eggs?", ASKED, taught).mode == "standard"


def test_every_stage_tells_its_milliseconds_and_the_decision_is_plain_json():
    import json

    found = decide("is this a scam?", fraud(last_model=BASE))
    plain = json.loads(json.dumps(found.to_dict()))
    assert [stage["name"] for stage in plain["stages"]] == ["pin", "adapter", "stability", "default"]
    assert all(stage["ms"] >= 0 for stage in plain["stages"]) and plain["runner_up"] is None


@pytest.mark.parametrize("text", ["", " \n", "x" * 1_000_000, "\x00\x1b[31m\u202e", "ok " * 300_000, "\ud800"])
def test_no_text_is_too_strange_for_a_decision(text):
    assert decide(text, Context(default_model=BASE, default_mode="auto", last_model=MINE)).model == MINE


def test_an_engine_that_keeps_failing_is_left_alone_then_tried_by_one_request():
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for _ in range(2):
        breaker.failed("ollama")
    assert breaker.obstacle("ollama") == ""
    now[0] = 10.0
    breaker.failed("ollama")
    assert "left alone" in breaker.obstacle("ollama") and breaker.obstacle("llamacpp") == ""
    now[0] = 41.0
    assert breaker.obstacle("ollama") == ""
    breaker.begins("ollama")
    assert "tried" in breaker.obstacle("ollama")
    breaker.failed("ollama")
    assert "left alone" in breaker.obstacle("ollama")
    now[0] = 80.0
    breaker.begins("ollama")
    breaker.ended("ollama")
    assert breaker.obstacle("ollama") == ""
    breaker.worked("ollama")
    breaker.failed("ollama")
    assert breaker.obstacle("ollama") == ""


def test_failures_far_apart_do_not_open_the_breaker():
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for at in (0.0, 50.0, 100.0, 150.0):
        now[0] = at
        breaker.failed("ollama")
    assert breaker.obstacle("ollama") == ""
