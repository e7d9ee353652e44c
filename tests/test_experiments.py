"""Conversations draw their model once and keep it, a bad canary is taken back by itself, and evidence is counted fairly."""

import json

import pytest
from registry_support import BASE, champion, version
from sqlalchemy import update
from store_support import again, ask

from data import config, statistics
from data.chat import Chunk, Message, Usage
from data.errors import EngineInterrupted, InputError, NotFound
from data.store import canary, open_store
from data.store import registry_tables as r
from data.store.versions import Evidence
from router.engines import Engines
from router.engines.base import Capabilities
from router.engines.echo import Echo
from router.modes.base import Started
from router.policy import assigned
from router.route import decide
from router.session import Session
from router.situation import Pins, Situation

ONE, TWO = "echo/echo", "echo/second"


def answered(store, experiment, model, text="Because.", *, thumb=0, status="complete", usage=None, conversation=None, **how):
    """An answer of an arm in a conversation of its own, or one more in that."""
    how = {"model": model, "mode": "standard", "config": {}, "domain": experiment.domain} | how
    how["decision"] = {"arm": f"{experiment.id}:{model}", "propensity": 0.5}
    begun = store.log.begin(Message("user", "Why?"), conversation=conversation, **how)
    store.experiments.draw(experiment.id, begun.conversation, model, 0.5)
    store.log.finish(begun.inference, status=status, text=text, usage=usage or Usage(10, 0, 20, 0.1, 1.0))
    if thumb:
        store.feedback.rate(begun.inference, thumb)
    return begun


def trial(store, name="second", **changes):
    """A champion and a canary beside it."""
    champion(store, "first")
    version(store, name, **changes)
    done = store.experiments.canary(name, base=BASE, who="tester", why="a try")
    assert done.moved
    return store.experiments.running()[0]


def test_an_experiment_starts_shows_and_stops(store):
    made = store.experiments.start("triage", ONE, TWO, who="anna", why="curious")
    assert (made.kind, made.arms, made.state, made.threshold) == ("ab", ((ONE, 0.5), (TWO, 0.5)), "running", 20.0)
    assert store.experiments.get("triage").id == store.experiments.get(made.id[-8:]).id == made.id
    stopped = store.experiments.stop("triage", who="anna", why="enough")
    assert (stopped.state, stopped.outcome) == ("stopped", "enough") and stopped.ended
    assert store.experiments.running() == [] and store.experiments.all("triage") == [stopped]
    with pytest.raises(InputError, match="has ended: enough"):
        store.experiments.stop("triage", who="anna")


def test_one_experiment_runs_in_a_domain_at_a_time(store):
    store.experiments.start("triage", ONE, TWO, who="a")
    with pytest.raises(InputError, match="running"):
        store.experiments.start("triage", ONE, "echo/third", who="a")
    store.experiments.start("fraud", ONE, TWO, who="a")
    with pytest.raises(InputError, match="two different"):
        store.experiments.start("code", ONE, ONE, who="a")
    with pytest.raises(NotFound, match="no experiment 'code'"):
        store.experiments.stop("code", who="a")


def test_each_candidate_of_a_quarter_needs_more_evidence(store):
    found = []
    for _ in range(4):
        found.append(store.experiments.start("triage", ONE, TWO, paired=True, who="a").threshold)
        store.experiments.stop("triage", who="a")
    assert found == [20.0, 40.0, 40.0, 80.0]


def test_the_first_draw_of_a_conversation_counts_and_goes_with_it(store):
    made = store.experiments.start("triage", ONE, TWO, who="a")
    begun = ask(store)
    store.experiments.draw(made.id, begun.conversation, TWO, 0.5)
    assert store.experiments.draw(made.id, begun.conversation, ONE, 0.5).arm == TWO
    (kept,) = store.experiments.drawn(begun.conversation)
    assert (kept.experiment, kept.arm, kept.propensity) == (made.id, TWO, 0.5)
    store.log.delete(begun.conversation)
    assert store.experiments.drawn(begun.conversation) == []


def test_blind_pairs_are_counted_and_seen_ones_are_not(store):
    store.experiments.start("triage", ONE, TWO, paired=True, who="a")

    def pair(chosen, rejected, **said):
        first = ask(store, model=chosen, domain="triage")
        other = store.log.begin_again(first.question, model=rejected, mode="standard", config={}, domain="triage")
        store.log.finish(other.inference, status="complete", text="Also.")
        return store.feedback.prefer(first.inference, other.inference, **said)

    for _ in range(9):
        pair(TWO, ONE, blind=True, chosen_left=True)
    pair(ONE, TWO, blind=True)
    pair(ONE, TWO, blind=True, tie=True)
    pair(TWO, ONE)
    pair(TWO, "echo/third", blind=True)
    store.feedback.withdraw(pair(TWO, ONE, blind=True).id)
    found = store.experiments.status("triage")
    assert (found.pairs.wins, found.pairs.losses, found.pairs.ties) == (9, 1, 1)
    assert found.better == statistics.paired(9, 1) and found.worse == statistics.paired(1, 9)
    assert found.more == statistics.more_pairs(9, 1) and found.verdict == "nothing is proven yet"
    for _ in range(6):
        pair(TWO, ONE, blind=True)
    assert store.experiments.status("triage").verdict == f"{TWO} is better"


def test_an_arm_counts_what_was_bad_and_each_conversation_once(store):
    made = store.experiments.start("triage", ONE, TWO, who="a")
    first = answered(store, made, TWO, thumb=1)
    answered(store, made, TWO, thumb=-1, conversation=first.conversation)
    regenerated = answered(store, made, TWO)
    store.log.begin_again(regenerated.question, model=TWO, mode="standard", config={})
    answered(store, made, TWO, "", status="error")
    answered(store, made, TWO, usage=Usage(10, 0, 20, 0.1, 1.0, "length"))
    answered(store, made, TWO, status="cancelled")
    answered(store, made, ONE)
    pinned = store.log.begin(
        Message("user", "Why?"), conversation=first.conversation, model=TWO, mode="standard", config={}, decision={"arm": ""}
    )
    store.log.finish(pinned.inference, status="error", text="")
    one, two = store.experiments.status(made.id).arms
    assert (one.answers, one.bad, one.conversations) == (1, 0, 1)
    assert (two.answers, two.bad, two.conversations) == (5, 4, 5)
    assert (two.thumbs_down, two.regenerated, two.errors, two.truncated) == (1, 1, 1, 1)
    assert (two.liked, two.rated, two.seconds, two.tokens) == (1, 1, 1.0, 20.0)


def test_side_by_side_answers_are_no_sign_of_a_bad_one(store):
    made = store.experiments.start("triage", ONE, TWO, who="a")
    begun = answered(store, made, TWO)
    other = again(store, begun.question)
    store.feedback.prefer(begun.inference, other.inference, blind=True)
    assert store.experiments.status(made.id).arms[1].regenerated == 0


def test_thumbs_of_two_arms_say_how_many_more_are_needed(store):
    made = store.experiments.start("triage", ONE, TWO, who="a")
    assert store.experiments.status(made.id).more is None
    for n in range(8):
        answered(store, made, ONE, thumb=1 if n < 2 else -1)
        answered(store, made, TWO, thumb=1 if n < 7 else -1)
    found = store.experiments.status(made.id)
    assert found.better == statistics.two_arms(2, 8, 7, 8) and 0 < found.more < 100


def test_answers_of_another_length_are_noticed(store):
    made = store.experiments.start("triage", ONE, TWO, who="a")
    for n in range(12):
        answered(store, made, ONE, usage=Usage(10, 0, 20 + n, 0.1, 1.0 + n / 10))
        answered(store, made, TWO, usage=Usage(10, 0, 200 + n, 0.1, 1.0 + n / 10))
    found = store.experiments.status(made.id)
    assert found.longer > 20 > found.slower


def test_a_canary_passes_the_same_gates_as_a_champion(store):
    champion(store, "first")
    version(store, "weak", evidence=Evidence(False))
    done = store.experiments.canary("weak", base=BASE, who="a", why="")
    assert not done.moved and not done.passed and store.experiments.running() == []
    assert store.experiments.canary("weak", base=BASE, who="a", why="", override="only a tenth").moved
    assert store.registry.aliases("triage")["canary"].name == "weak"


def test_a_canary_gets_a_tenth_and_after_twenty_conversations_a_half(store):
    made = trial(store)
    assert made.arms == (("llamacpp/first", 0.9), ("llamacpp/second", 0.1))
    for n in range(20):
        assert store.experiments.watch() == []
        answered(store, made, made.arms[n % 2][0])
    assert len(store.experiments.watch()) == 1
    assert store.experiments.get(made.id).arms == (("llamacpp/first", 0.5), ("llamacpp/second", 0.5))
    assert store.experiments.watch() == []


def test_a_bad_canary_is_taken_back_by_itself_with_a_plain_reason(store):
    made = trial(store)
    asked = 0
    while store.experiments.running():
        asked += 1
        assert asked < 40
        answered(store, made, "llamacpp/second", thumb=-1 if asked % 5 in (1, 3) else 0)
        store.experiments.watch()
    found = store.registry.get("second")
    assert (found.stage, store.registry.champion("triage").name) == ("retired", "first")
    assert "canary" not in store.registry.aliases("triage") and asked <= 40
    (told,) = store.registry.notices()
    assert told.text.startswith("second was rolled back from triage: ") and "thumbed down" in told.text
    event = store.registry.history(key="second")[-1]
    assert (event.action, event.who, event.to_stage) == ("rollback", "guard", "retired")
    (gate,) = store.registry.decisions("second")[-1].gates
    assert gate.name == "guard" and gate.reached >= 20
    assert not store.registry.promote("second", who="a", why="").passed
    assert store.experiments.get(made.id).state == "harmful"


def test_a_good_canary_stays_and_becomes_champion(store):
    made = trial(store)
    for n in range(24):
        answered(store, made, "llamacpp/second", thumb=-1 if n % 12 == 5 else 1)
    assert len(store.experiments.watch()) == 1
    assert store.registry.get("second").stage == "canary"
    done = store.registry.promote("second", who="a", why="proven")
    assert done.moved and store.experiments.running() == []
    assert set(store.registry.aliases("triage")) == {"champion", "previous"}
    assert store.registry.notices() == []


@pytest.mark.parametrize(
    ("answers", "words"),
    [([("   ", {})], "an answer was empty"), ([("{not json", {"schema": {"type": "object"}})] * 3, "3 of its last 20 answers")],
)
def test_hard_faults_take_a_canary_back_at_once(store, answers, words):
    made = trial(store)
    for text, settings in answers:
        assert store.registry.get("second").stage == "canary"
        answered(store, made, "llamacpp/second", text, config=settings)
        store.experiments.watch()
    assert store.registry.get("second").stage == "retired" and words in store.registry.notices()[0].text


def test_two_invalid_answers_and_prose_are_no_hard_fault(store):
    made = trial(store)
    for text, settings in (
        ("{", {"schema": {}}),
        ("{not json", {}),
        ("{", {"schema": {"a": 1}}),
        ('{"a": 1}', {"schema": {"a": 1}}),
    ):
        answered(store, made, "llamacpp/second", text, config=settings)
    assert store.experiments.watch() == []


def test_a_crash_takes_a_canary_back_at_once(store):
    made = trial(store)
    crash = canary.Crash(made.id, "llamacpp/first", "elsewhere")
    assert store.experiments.watch(crash) == []
    assert "it crashed: out of memory" in store.experiments.watch(canary.Crash(made.id, "llamacpp/second", "out of memory"))[0]


def test_stopping_a_canary_keeps_it_for_later(store):
    trial(store)
    store.experiments.stop("triage", who="a", why="not now")
    assert store.registry.get("second").stage == "staging" and set(store.registry.aliases("triage")) == {"champion"}
    assert store.registry.promote("second", who="a", why="").passed


def test_a_rollback_of_the_champion_ends_what_ran_beside_it(store):
    champion(store, "zero")
    trial(store)
    assert store.registry.rollback("triage", who="a", why="").champion.name == "zero"
    assert store.registry.get("second").stage == "staging" and store.experiments.running() == []


def test_an_arm_that_does_harm_ends_its_experiment(store):
    made = store.experiments.start("triage", ONE, TWO, who="a")
    for _ in range(12):
        answered(store, made, ONE, thumb=1)
        answered(store, made, TWO, thumb=-1)
    (words,) = store.experiments.watch()
    assert "did harm" in words and store.experiments.get(made.id).state == "harmful"
    assert [one.text for one in store.registry.notices()] == [words]


def test_an_arm_proven_worse_by_thumbs_ends_its_experiment(store):
    made = store.experiments.start("triage", ONE, TWO, who="a")
    for n in range(14):
        answered(store, made, ONE, thumb=1)
        for _ in range(1 if n % 4 else 0):
            answered(store, made, TWO)
        if n % 4 == 0:
            answered(store, made, TWO, thumb=-1)
    assert [("is worse" in words) for words in store.experiments.watch()] == [True]


def session(store, *replies, engine=None, **settings):
    found = config.load({"model": ONE} | settings)
    engines = Engines(found, {"echo": engine or Echo(replies, capabilities=Capabilities(tools=True))})
    return Session(found, store, engines)


def test_every_answer_of_an_experiment_logs_its_arm_and_propensity_and_keeps_it_across_restarts(home):
    with open_store() as store:
        made = store.experiments.start("triage", ONE, "echo/other", who="a")
        arms = {}
        for _ in range(4):
            begun = next(one for one in list(session(store, "a").ask("same words", domain="triage")) if isinstance(one, Started))
            answer = store.log.inference(begun.inference)
            assert answer.decision["arm"] == f"{made.id}:{answer.model}" and answer.decision["propensity"] == 0.5
            assert answer.model == assigned(made.salt, made.arms, begun.conversation)[0]
            arms[begun.conversation] = answer.model
    with open_store() as store:
        for conversation, model in arms.items():
            assert store.experiments.drawn(conversation)[0].arm == model
            for text in ("and this", "ok, continue"):
                list(session(store, "b").ask(text, conversation=conversation, domain="triage"))
                latest = store.log.latest()
                assert (latest.model, latest.decision["arm"]) == (model, f"{made.id}:{model}")


def test_a_pinned_model_is_left_out_and_the_conversation_comes_back_to_its_arm(home):
    with open_store() as store:
        made = store.experiments.start("triage", ONE, "echo/other", who="a")
        one = session(store, "a", "b", "c")
        begun = next(iter(one.ask("first", domain="triage")))
        mine = store.log.inference(begun.inference).model
        list(one.ask("again", conversation=begun.conversation, domain="triage", model="echo/pinned"))
        assert store.log.latest().decision["arm"] == ""
        list(one.ask("third", conversation=begun.conversation, domain="triage"))
        assert store.log.latest().model == mine
        assert sum(arm.answers for arm in store.experiments.status(made.id).arms) == 1


def test_a_paired_experiment_draws_nothing(home):
    with open_store() as store:
        store.experiments.start("triage", ONE, "echo/other", paired=True, who="a")
        list(session(store, "a").ask("first", domain="triage"))
        assert store.log.latest().decision["arm"] == ""


def test_the_champion_answers_its_domain_without_a_restart_and_only_with_a_lower_bound_above_zero(home):
    with open_store() as store:
        situation = Situation(config.load({"model": BASE}), store, Engines(config.load({"model": BASE})))

        def routed():
            return decide("my card was stolen", situation.context("my card was stolen", [], Pins(domain="triage"))).model

        assert routed() == BASE
        champion(store, "first")
        context = situation.context("x", [], Pins(domain="triage"))
        assert [(one.model, one.champion, one.lower) for one in context.tuned] == [("llamacpp/first", True, 0.11)]
        version(store, "weak", evidence=Evidence(False, (), 48, 0.05, -0.02))
        store.registry.promote("weak", who="a", why="", override="to see")
        assert routed() == BASE
        store.registry.rollback("triage", who="a", why="")
        assert situation.context("x", [], Pins(domain="triage")).tuned[0].model == "llamacpp/first"


class Broken(Echo):
    """Breaks off in the middle of its answer."""

    def stream(self, request):
        yield Chunk(text="half")
        if request.model == "canary":
            raise EngineInterrupted("the model runner has unexpectedly stopped", "ask again")
        yield Chunk(usage=Usage(1, 0, 1, 0.1, 0.2))


def test_a_canary_that_breaks_is_gone_at_the_next_question_and_the_chat_says_why(home):
    with open_store() as store:
        version(store, "second")
        with store.database.write() as connection:
            connection.execute(update(r.model_version).values(model="echo/canary"))
        store.experiments.canary("second", base=ONE, who="a", why="")
        with store.database.write() as connection:
            connection.execute(update(r.experiment).values(arms=[[ONE, 0.0], ["echo/canary", 1.0]]))
        one = session(store, engine=Broken([], capabilities=Capabilities(tools=True)))
        with pytest.raises(EngineInterrupted):
            list(one.ask("why", domain="triage"))
        assert store.registry.get("second").stage == "retired"
        events = list(one.ask("why", domain="triage"))
        assert events[0].notices == ("second was rolled back from triage: it crashed: the model runner has unexpectedly stopped",)
        assert store.log.latest().model == ONE and next(iter(one.ask("why"))).notices == ()


def test_arms_are_plain_json_in_the_log(store):
    made = store.experiments.start("triage", ONE, TWO, who="a")
    answered(store, made, TWO)
    (row,) = store.log.export()
    assert json.dumps(row)
