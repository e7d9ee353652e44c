"""Past prompts and corrections asked of two models: who is right, what is broken and fixed, and which gates that passes."""

import json

import packs
import pytest
from packs import Oracle
from store_support import ask

from data import config
from data.chat import Message
from data.errors import EngineInterrupted, EngineUnavailable, InputError, ModelMissing
from data.store import Store
from router import wanted
from router.engines import Engines
from router.engines.base import Request
from router.engines.echo import Echo
from router.replay import Case, past, regressions, replay
from router.replayed import Answer, Compared, Replayed

CARD = {"card": {"FRAUD": 0.9}, "password": {"RESET": 0.9}, "open": {"INFO": 0.9}}


class Two(Oracle):
    """One engine with two models: `old` has it as `shares` say, `new` as `better` says."""

    def __init__(self, shares, better, **how) -> None:
        super().__init__(shares, **how)
        self.by_name = {"old": shares, "new": better}

    def complete(self, requests, structure):
        for request in requests:
            self.shares = self.by_name[request.model]
            yield from super().complete([request], structure)


class Scripted(Echo):
    """An engine whose models answer from a table: model -> question -> answer, or a fault."""

    def __init__(self, answers) -> None:
        super().__init__()
        self.answers = answers

    def stream(self, request: Request):
        said = self.answers[request.model].get(request.messages[-1].content, "I do not know.")
        self.replies = [said]
        return super().stream(request)


def engines(engine) -> Engines:
    return Engines(config.load({}), {"echo": engine})


def compared(held: list[tuple[bool | None, bool | None]], tests: list[tuple[bool, bool]] = (), faults: int = 0) -> Replayed:
    """A replay that came out so: (champion, candidate) right, of held-out prompts and of regressions."""
    case = Case("1", "past", "desk", (Message("user", "q"),), held_out=True)
    test = Case("2", "regression", "desk", (Message("user", "q"),), "a", "b")
    found = [Compared(case, Answer("a", one), Answer("b", other)) for one, other in held]
    found += [Compared(test, Answer("a", one), Answer("b", other)) for one, other in tests]
    found += [Compared(case, Answer("a"), Answer(fault="it broke"))] * faults
    return Replayed("old", "new", tuple(found))


def gate(found: Replayed, name: str):
    return next(one for one in found.gates() if one.name == name)


def test_a_candidate_that_mends_the_corrections_passes_and_one_that_breaks_them_does_not(store: Store) -> None:
    packs.pack()
    for text, right in (("my card is gone", "FRAUD"), ("new password", "RESET"), ("when do you open", "INFO")):
        store.feedback.correct(ask(store, text, "INFO" if right != "INFO" else "FRAUD", domain="desk").inference, right)
    confused = {"": {"INFO": 0.9}}
    cases = regressions(store, "desk")
    said = []
    found = replay(engines(Two(confused, CARD)), "echo/old", "echo/new", cases, lambda *told: said.append(told))
    assert [one.verdict for one in found.compared] == ["fixed", "fixed", "same"]
    assert (gate(found, "corrections fixed").reached, gate(found, "corrections fixed").passed) == (1.0, True)
    assert gate(found, "regressions kept").passed and found.passed
    assert said[0] == ("echo/old", 1, 3) and said[-1] == ("echo/new", 3, 3)
    back = replay(engines(Two(CARD, confused)), "echo/old", "echo/new", cases)
    assert [one.verdict for one in back.compared] == ["broken", "broken", "same"] and not back.passed
    assert (gate(back, "regressions kept").reached, gate(back, "corrections fixed").passed) == (2.0, False)


def test_a_replay_is_told_without_the_texts(store: Store) -> None:
    packs.pack()
    store.feedback.correct(ask(store, "my card is gone to Quetzal", "INFO", domain="desk").inference, "FRAUD")
    found = replay(engines(Two(CARD, CARD)), "echo/old", "echo/new", regressions(store, "desk")).to_dict()
    assert "Quetzal" not in json.dumps(found) and "card" not in json.dumps(found)
    assert (found["cases"], found["regressions"], found["same"], found["fixed"]) == (1, 1, 1, 0)
    assert set(found["seconds"]) == {"champion", "candidate"} and found["tokens"] == {"champion": 5.0, "candidate": 5.0}
    assert [one["name"] for one in found["gates"]] == [
        "regressions kept",
        "corrections fixed",
        "replay without faults",
        "not worse on past prompts",
    ]


def test_past_prompts_are_those_that_were_not_trained_on(store: Store) -> None:
    packs.pack()
    trained, liked, disliked = (ask(store, text, "FRAUD", domain="desk") for text in ("my card", "a password", "so open"))
    ask(store, "New  PASSWORD", "FRAUD", domain="desk")
    ask(store, "elsewhere", "FRAUD", domain="other")
    for one in (trained, liked):
        store.feedback.rate(one.inference, 1)
    store.feedback.stars(disliked.inference, 1)
    found = past(store, "desk", {trained.conversation, "new password"})
    assert [(one.messages[-1].content, one.wanted, one.unwanted, one.held_out) for one in found] == [
        ("so open", "", "FRAUD", True),
        ("a password", "FRAUD", "", True),
    ]


def test_what_was_corrected_is_a_test_and_not_a_past_prompt(store: Store) -> None:
    packs.pack()
    begun = ask(store, "my card", "INFO", domain="desk")
    store.feedback.correct(begun.inference, "FRAUD")
    assert past(store, "desk") == ()
    assert [one.held_out for one in regressions(store, "desk")] == [False]
    assert [one.held_out for one in regressions(store, "desk", {begun.conversation})] == [False]
    assert [one.held_out for one in regressions(store, "desk", set())] == [True]


def test_the_same_question_asked_again_is_one_prompt_with_all_that_was_said(store: Store) -> None:
    packs.pack()
    for reply, thumb in (("FRAUD", 1), ("INFO", -1), ("RESET", 0)):
        begun = ask(store, "my card", reply, domain="desk")
        if thumb:
            store.feedback.rate(begun.inference, thumb)
    (case,) = past(store, "desk")
    assert (case.wanted, case.unwanted) == ("FRAUD", "INFO")


def test_prompts_that_nobody_judged_are_asked_too_but_not_without_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.replay.SHADOW", 3)
    for number in range(5):
        ask(store, f"question {number}", domain="desk")
    found = past(store, "desk", most=3)
    assert [one.messages[-1].content for one in found] == ["question 4", "question 3", "question 2"]
    for number in range(5):
        store.feedback.rate(ask(store, f"bad {number}", domain="desk").inference, -1)
    assert [one.messages[-1].content for one in past(store, "desk", most=3)] == ["bad 4", "bad 3", "bad 2"]


def test_free_text_is_asked_as_the_conversation_was(store: Store) -> None:
    first = ask(store, "Who?", "Ann.", domain="talk", system="Be brief.")
    second = ask(store, "Where is the Louvre?", "In Lyon.", conversation=first.conversation, domain="talk")
    store.feedback.correct(second.inference, "In Paris.")
    (case,) = regressions(store, "talk")
    asked = Scripted({"old": {"Where is the Louvre?": "In Lyon."}, "new": {"Where is the Louvre?": "It is in Paris, France."}})
    found = replay(engines(asked), "echo/old", "echo/new", [case])
    assert found.compared[0].verdict == "fixed" and found.passed
    request = asked.requests[-1]
    assert [one.content for one in request.messages] == ["Be brief.", "Who?", "Ann.", "Where is the Louvre?"]
    assert request.sampling.temperature == 0.0


def test_a_follow_up_about_a_label_is_asked_as_the_conversation_was(store: Store) -> None:
    packs.pack()
    first = ask(store, "my card", "FRAUD", domain="desk")
    store.feedback.correct(ask(store, "and this one?", "FRAUD", conversation=first.conversation, domain="desk").inference, "INFO")
    asked = Scripted({"old": {"and this one?": "FRAUD"}, "new": {"and this one?": '{"label": "INFO"}'}})
    found = replay(engines(asked), "echo/old", "echo/new", regressions(store, "desk"))
    assert [one.verdict for one in found.compared] == ["fixed"]


def test_a_crash_stays_in_its_answer_and_fails_the_gate_where_the_champion_answers(store: Store) -> None:
    for text in ("one", "two"):
        ask(store, text, domain="talk")
    broken = EngineInterrupted("the model broke off")
    asked = Scripted({"old": {"one": broken}, "new": {"one": broken, "two": ["  "]}})
    found = replay(engines(asked), "echo/old", "echo/new", past(store, "talk"))
    assert [(one.champion.fault, one.candidate.fault) for one in found.compared] == [
        ("", "the answer is empty"),
        ("the model broke off", "the model broke off"),
    ]
    faults = gate(found, "replay without faults")
    assert (faults.passed, faults.reached) == (False, 1.0) and "the answer is empty" in faults.note
    assert found.to_dict()["errors"] == {"champion": 1, "candidate": 2}


def test_a_correction_that_gets_no_answer_any_more_is_broken(store: Store) -> None:
    packs.pack()
    store.feedback.correct(ask(store, "my card", "INFO", domain="desk").inference, "FRAUD")

    class Breaking(Two):
        def complete(self, requests, structure):
            for request in requests:
                self.faults = {"card": InputError("too long")} if request.model == "new" else {}
                yield from super().complete([request], structure)

    found = replay(engines(Breaking(CARD, CARD)), "echo/old", "echo/new", regressions(store, "desk"))
    assert [one.verdict for one in found.compared] == ["broken"] and not gate(found, "regressions kept").passed


def test_a_model_that_cannot_be_had_is_an_error_and_not_a_worse_model(store: Store) -> None:
    packs.pack()
    store.feedback.correct(ask(store, "my card", "INFO", domain="desk").inference, "FRAUD")
    ask(store, "hello", domain="talk")
    away = EngineUnavailable("nobody is there")
    with pytest.raises(EngineUnavailable):
        replay(engines(Oracle(CARD, absent=away)), "echo/old", "echo/new", regressions(store, "desk"))
    with pytest.raises(EngineUnavailable):
        replay(engines(Scripted({"old": {"hello": away}})), "echo/old", "echo/new", past(store, "talk"))
    with pytest.raises(ModelMissing):
        replay(engines(Echo()), "echo/old", "nothing/at-all", [])


def test_without_corrections_and_prompts_nothing_is_said_and_nothing_fails() -> None:
    found = replay(engines(Echo()), "echo/old", "echo/new", [])
    assert [one.passed for one in found.gates()] == [None] * 4 and found.passed


@pytest.mark.parametrize(
    ("outcomes", "passed", "words"),
    [
        ([(True, True)] * 40, True, "40 alike"),
        ([(True, True)] * 30, None, "about 9 more"),
        ([(False, True)] * 8 + [(True, True)] * 2, True, "8 better"),
        ([(True, False)] * 2 + [(True, True)] * 8, False, "2 worse"),
        ([(True, False)] + [(True, True)] * 4, None, "no end is in sight"),
        ([(True, False)] + [(True, True)] * 30, None, "about 83 more that were rated"),
        ([(None, None)] * 40, None, "0 alike"),
        ([(True, False)] * 60 + [(True, True)] * 900, False, "60 worse"),
    ],
)
def test_not_worse_is_proven_refuted_or_open(outcomes, passed, words) -> None:
    found = gate(compared(outcomes), "not worse on past prompts")
    assert found.passed is passed and words in found.note, found


def test_four_of_five_corrections_have_to_be_right_and_none_that_was() -> None:
    assert gate(compared([], [(False, True)] * 4 + [(False, False)]), "corrections fixed").passed
    assert not gate(compared([], [(False, True)] * 3 + [(False, False)]), "corrections fixed").passed
    lost = compared([], [(False, True)] * 9 + [(True, False)])
    assert gate(lost, "corrections fixed").passed and not lost.passed
    assert gate(compared([], [(False, True)]), "regressions kept").passed is None
    assert gate(compared([], faults=2), "replay without faults").reached == 2.0


@pytest.mark.parametrize(
    ("text", "right", "wrong", "says"),
    [
        ("Paris.", "paris", "Lyon", True),
        ("The capital is Paris.", "Paris", "Lyon", True),
        ("It is Lyon.", "Paris", "It is Lyon.", False),
        ("No, it is not.", "No", "No, it is.", False),
        ("Restart the router and wait two minutes", "Restart the router, then wait for two minutes.", "Buy a new router.", True),
        ("Buy a new one.", "Restart the router, then wait for two minutes.", "Buy a new router.", False),
        ("", "Paris", "Lyon", False),
        ("Lyon", "", "lyon!", False),
        ("Paris", "", "Lyon", None),
        ("Paris", "", "", None),
    ],
)
def test_free_text_says_what_is_wanted(text, right, wrong, says) -> None:
    assert wanted.says(text, right, wrong) is says


def test_in_a_domain_the_label_counts_and_what_a_correction_changed(home) -> None:
    properties = {
        "label": {"enum": ["A", "B"]},
        "urgent": {"type": "boolean"},
        "team": {"enum": ["x", "y"]},
        "why": {"type": "string", "maxLength": 40},
    }
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    labels = 'labels = [{name = "A", description = "a"}, {name = "B", description = "b"}]'
    desk = packs.pack(schema=schema, examples=[])
    file = desk.folder / "domain.toml"
    file.write_text("\n".join(labels if line.startswith("labels") else line for line in file.read_text().splitlines()))
    from data import domains

    desk = domains.load("desk")

    def said(**changes):
        return wanted.values(desk, json.dumps({"label": "A", "urgent": True, "team": "x", "why": "so"} | changes))

    assert said() == {"label": "A", "urgent": True, "team": "x"}
    assert wanted.values(desk, " B ") == {"label": "B"}
    for none in ("C", '{"label": "C"}', "[]", "{", '{"a": ' * 5000, "Because."):
        assert wanted.values(desk, none) is None
    given, right = said(), said(urgent=False)
    assert wanted.agrees(desk, said(urgent=False, team="y"), right, given) is True
    assert wanted.agrees(desk, said(), right, given) is False
    assert wanted.agrees(desk, said(label="B", urgent=False), right, given) is False
    assert wanted.agrees(desk, None, right, given) is False
    assert wanted.agrees(desk, said(team="y"), said(), None) is True
    assert wanted.agrees(desk, said(), None, {"label": "B"}) is True
    assert wanted.agrees(desk, said(), None, {"label": "A"}) is False
    assert wanted.agrees(desk, said(), None, None) is None
