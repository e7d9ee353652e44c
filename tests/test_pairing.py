"""Two models side by side on one question: the order is blind, the pick is kept as evidence, and nobody peeks."""

import json
import secrets
from collections.abc import Iterator

import pytest
from command_line import run

from data import config, statistics
from data.errors import EngineInterrupted, InputError, ModelMissing, NotFound
from data.store import Store, open_store
from router.engines import Engines
from router.engines.base import Request
from router.engines.echo import Echo
from router.pairing import Pair, pair
from router.session import Session

ONE, TWO = "echo/one", "echo/two"


class Named(Echo):
    """Each model answers with its own name and the question, or breaks off where `broken` names it."""

    broken = ""

    def stream(self, request: Request):
        said = [f"{request.model}: ", request.messages[-1].content]
        self.replies = [[said[0], EngineInterrupted("it broke off")] if request.model == self.broken else said]
        return super().stream(request)


@pytest.fixture
def store(home) -> Iterator[Store]:
    with open_store() as opened:
        opened.experiments.start("triage", ONE, TWO, paired=True, who="tester")
        yield opened


@pytest.fixture
def session(store: Store) -> Session:
    settings = config.load({})
    return Session(settings, store, Engines(settings, {"echo": Named()}))


def asked(session: Session, left_is_second: bool, question: str = "Why?", **how) -> Pair:
    return pair(session, question, "triage", flip=lambda: left_is_second, **how)


def read(found: Pair) -> tuple[str, str]:
    return "".join(found.left), "".join(found.right)


@pytest.mark.parametrize("left_is_second", [False, True])
def test_a_pick_is_kept_as_blind_evidence_whichever_side_it_was(session: Session, left_is_second: bool) -> None:
    found = asked(session, left_is_second)
    assert read(found) == (("two: Why?", "one: Why?") if left_is_second else ("one: Why?", "two: Why?"))
    picked = found.pick("left")
    assert (picked.left, picked.right) == ((TWO, ONE) if left_is_second else (ONE, TWO))
    pairs = picked.status.pairs
    assert (pairs.wins, pairs.losses, pairs.ties) == ((1, 0, 0) if left_is_second else (0, 1, 0))
    assert picked.status.better == statistics.paired(pairs.wins, pairs.losses)
    answer = session.store.log.turns(found.conversation)[-1]
    (said,) = answer.feedback
    assert (said.blind, said.chosen_left, said.value, answer.inference.model) == (True, True, 1, picked.left)


def test_the_conversation_goes_on_with_the_better_answer(session: Session) -> None:
    found = asked(session, False)
    read(found)
    found.pick("right")
    question, answer = session.store.log.turns(found.conversation)
    assert (answer.message.content, answer.siblings, question.message.content) == ("two: Why?", 2, "Why?")
    assert answer.feedback[0].chosen_left is False
    more = asked(session, True, "And then?", conversation=found.conversation)
    read(more)
    more.pick("left")
    assert [turn.message.content for turn in session.store.log.turns(found.conversation)] == [
        "Why?",
        "two: Why?",
        "And then?",
        "two: And then?",
    ]


def test_a_tie_counts_for_nobody(session: Session) -> None:
    found = asked(session, True)
    read(found)
    status = found.pick("tie").status
    assert (status.pairs.ties, status.better, status.worse) == (1, 1.0, 1.0)


def test_answers_that_were_compared_do_not_count_as_asked_again(session: Session, store: Store) -> None:
    from data.store import evidence, tables

    read(found := asked(session, False))
    found.pick("right")
    with store.database.read() as connection:
        answers = evidence.answers(connection, tables.inference.c.domain == "triage")
    assert [(one.regenerated, one.bad) for one in answers] == [(False, False), (False, False)]


def test_nothing_is_picked_before_both_are_read_or_twice(session: Session) -> None:
    found = asked(session, False)
    assert found.conversation == "" and not found.complete
    with pytest.raises(InputError, match="the left answer comes first"):
        next(found.right)
    "".join(found.left)
    with pytest.raises(InputError, match="both answers have to be complete"):
        found.pick("left")
    found = asked(session, False)
    read(found)
    found.pick("left")
    with pytest.raises(InputError, match="said already"):
        found.pick("right")
    assert session.store.experiments.status("triage").pairs.losses == 1


@pytest.mark.parametrize("broken", ["one", "two"])
def test_an_answer_that_broke_off_or_was_stopped_cannot_be_compared(session: Session, broken: str) -> None:
    engine = session.engines.get("echo")
    assert isinstance(engine, Named)
    engine.broken = broken
    found = asked(session, False)
    with pytest.raises(EngineInterrupted):
        read(found)
    assert not found.complete
    engine.broken = ""
    stopped = asked(session, False)
    next(stopped.left)
    stopped.left.close()
    with pytest.raises(InputError):
        stopped.pick("tie")
    last = session.store.log.latest()
    assert (last.status, last.domain) == ("cancelled", "triage")


def test_the_side_is_drawn_by_chance(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([1, 0])
    monkeypatch.setattr(secrets, "randbelow", lambda of: next(drawn) if of == 2 else 0)
    assert [pair(session, "Why?", "triage").sides for _ in range(2)] == [(TWO, ONE), (ONE, TWO)]


def test_it_needs_a_paired_experiment(session: Session, store: Store) -> None:
    with pytest.raises(NotFound, match="no paired experiment runs in fraud"):
        pair(session, "Why?", "fraud")
    assert pair(session, "Why?").experiment.domain == "triage"
    store.experiments.start("fraud", ONE, TWO, who="tester")
    with pytest.raises(NotFound):
        pair(session, "Why?", "fraud")
    store.experiments.stop("fraud", who="tester")
    store.experiments.start("fraud", ONE, TWO, paired=True, who="tester")
    with pytest.raises(NotFound, match="2 paired experiments run"):
        pair(session, "Why?")
    with pytest.raises(InputError, match="empty"):
        pair(session, "  ", "triage")


def test_a_model_that_is_gone_is_said_before_anything_is_kept(store: Store) -> None:
    settings = config.load({})
    store.experiments.stop("triage", who="tester")
    store.experiments.start("triage", "gone/away", TWO, paired=True, who="tester")
    found = pair(Session(settings, store, Engines(settings, {"echo": Named()})), "Why?", "triage", flip=lambda: False)
    with pytest.raises(ModelMissing):
        next(found.left)
    assert store.log.conversations() == []


def test_the_command_shows_two_answers_takes_a_pick_and_says_what_is_proven(store: Store) -> None:
    done = run("experiment", "compare", "triage", "Why", "me?", stdin=b"x\nA\n")
    assert done.code == 0, done
    assert "A:\nWhy me?" in done.out and "B:\nWhy me?" in done.out
    assert done.err.count("which is better, A or B?") == 2
    shown = done.out.partition("A was ")[0]
    assert ONE not in shown and TWO not in shown
    assert "A was echo/" in done.out and "e-value" in done.out and "of 20" in done.out and "nothing is proven yet" in done.out
    pairs = store.experiments.status("triage").pairs
    assert pairs.wins + pairs.losses == 1


def test_the_command_tells_one_json_value_and_how_many_more_are_needed(store: Store) -> None:
    done = run("experiment", "compare", "triage", "Why?", "--json", stdin=b"t\n")
    told = json.loads(done.out)
    assert (told["picked"], told["pairs"]) == ("tie", {"wins": 0, "losses": 0, "ties": 1})
    assert (told["answers"], set(told["models"].values())) == ({"a": "Why?", "b": "Why?"}, {ONE, TWO})
    assert told["threshold"] == 20.0 and told["more"] is None and "A:\nWhy?" in done.err
    _wins(store, 5)
    told = json.loads(run("experiment", "compare", "triage", "Why?", "--json", stdin=b"t\n").out)
    assert told["pairs"]["wins"] == 5 and told["better"] > told["worse"] and told["more"] > 0
    assert "more answers needed" in run("experiment", "compare", "triage", "Why?", stdin=b"t\n").out


@pytest.mark.parametrize("typed", [b"", b"x\ny\nz\n"])
def test_where_nobody_says_which_is_better_nothing_is_kept(store: Store, typed: bytes) -> None:
    done = run("experiment", "compare", "triage", "Why?", stdin=typed)
    assert done.code == 1 and "nobody said" in done.err
    status = store.experiments.status("triage")
    assert (status.pairs.wins, status.pairs.losses, status.pairs.ties) == (0, 0, 0)


def test_answers_cannot_write_to_the_terminal(store: Store) -> None:
    done = run("experiment", "compare", "triage", "a\x1b]52;c;evil\x07b", "--json", stdin=b"t\n")
    assert "\x1b" not in done.err and "\x07" not in done.err
    assert "\x1b" not in run("experiment", "compare", "triage", "a\x1b[31mb", stdin=b"t\n").out
    run("experiment", "compare", "fraud", "Why?").refused("no paired experiment runs in fraud", "experiment start")
    assert run("experiment", "compare", "triage").code == 2


def _wins(store: Store, count: int) -> None:
    """Blind pairs that the second model won."""
    settings = config.load({})
    session = Session(settings, store, Engines(settings, {"echo": Named()}))
    for _ in range(count):
        read(found := asked(session, True))
        found.pick("left")
