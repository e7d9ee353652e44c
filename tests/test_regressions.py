"""A correction counts three times: as a demonstration, as a pair, and as a test that later models must pass."""

import packs
import pytest
from sqlalchemy import func, select
from store_support import again, ask

from data.chat import Message, ToolCall, Usage
from data.datasets._building.judging import Judge
from data.datasets.formats import formatted
from data.datasets.sources import from_log
from data.store import Store, open_store, prompts, regressions, tables
from trainer import material
from trainer.recipe import validated


def rows(store: Store) -> int:
    with store.database.read() as connection:
        return connection.execute(select(func.count()).select_from(tables.regression)).scalar()


def test_a_correction_is_a_test_as_soon_as_it_is_made(store: Store) -> None:
    begun = ask(store, "Which track?", "Track 9.", domain="trains", system="Be brief.")
    said = store.feedback.correct(begun.inference, "Track 3.")
    (found,) = regressions.of(store, "trains")
    assert (found.id, found.domain, found.wanted, found.given) == (said.id, "trains", "Track 3.", "Track 9.")
    assert found.messages == (Message("system", "Be brief."), Message("user", "Which track?"))
    assert (found.inference, found.conversation, found.at) == (begun.inference, begun.conversation, said.at)
    assert regressions.of(store) == (found,) and regressions.of(store, "fraud") == ()


def test_the_turns_before_are_there_as_they_were_corrected(store: Store) -> None:
    first = ask(store, "Who?", None)
    store.log.finish(first.inference, status="complete", text="Ann.", thinking="hm", tool_calls=(ToolCall("look", {}),))
    store.feedback.correct(first.inference, "Anna.")
    second = ask(store, "When?", "Now.", conversation=first.conversation)
    store.feedback.correct(second.inference, "Then.")
    assert [one.wanted for one in regressions.of(store)] == ["Anna.", "Then."]
    assert regressions.of(store)[1].messages == (Message("user", "Who?"), Message("assistant", "Anna."), Message("user", "When?"))


def test_a_test_goes_when_its_correction_is_superseded_withdrawn_or_forgotten(store: Store) -> None:
    kept, gone, deleted = ask(store, "a"), ask(store, "b"), ask(store, "c")
    for begun in (kept, gone, deleted):
        store.feedback.correct(begun.inference, "First try.")
    store.feedback.correct(kept.inference, "Second try.", key="once")
    store.feedback.correct(kept.inference, "Second try.", key="once")
    assert [one.wanted for one in regressions.of(store)] == ["First try.", "First try.", "Second try."]
    store.feedback.withdraw(store.feedback.of(gone.inference)[0].id)
    store.log.delete(deleted.conversation)
    assert [one.wanted for one in regressions.of(store)] == ["Second try."] and rows(store) == 1
    store.log.forget(kept.conversation)
    assert regressions.of(store) == () and rows(store) == 0


def test_a_correction_that_was_taken_back_can_be_made_again(store: Store) -> None:
    begun = ask(store)
    store.feedback.withdraw(store.feedback.correct(begun.inference, "So.").id)
    assert rows(store) == 0
    store.feedback.correct(begun.inference, "So.")
    assert [one.wanted for one in regressions.of(store)] == ["So."]


@pytest.mark.parametrize(
    "end",
    [
        {"status": "interrupted", "text": "Hal"},
        {"status": "complete", "text": "So.", "tainted": True},
        {"status": "complete", "text": "So.", "usage": Usage(dropped_turns=1)},
    ],
)
def test_an_answer_that_may_not_train_is_no_test_and_neither_are_those_after_it(store: Store, end: dict) -> None:
    begun = ask(store, reply=None)
    store.log.finish(begun.inference, **end)
    after = ask(store, "And?", "So.", conversation=begun.conversation)
    for one in (begun, after):
        store.feedback.correct(one.inference, "It was otherwise.")
    assert regressions.of(store) == ()


def test_incognito_conversations_and_corrections_by_a_judge_are_no_tests(store: Store) -> None:
    secret = ask(store, "Secret?", incognito=True)
    store.feedback.correct(secret.inference, "No.")
    judged = ask(store)
    store.feedback.correct(judged.inference, "No.", source="judge")
    imported = ask(store)
    store.feedback.correct(imported.inference, "Yes.", source="import")
    assert [one.wanted for one in regressions.of(store)] == ["Yes."] and rows(store) == 1


def test_an_answer_without_a_domain_counts_for_its_conversations(store: Store) -> None:
    first = ask(store, domain="trains")
    second = ask(store, "And?", conversation=first.conversation)
    store.feedback.correct(second.inference, "Better.")
    assert [one.domain for one in regressions.of(store)] == ["trains"]


def test_prompts_are_read_newest_first_and_only_those_of_the_domain(store: Store) -> None:
    first = ask(store, "one", "1", domain="trains")
    again(store, first.question, "uno")
    ask(store, "elsewhere", domain="fraud")
    last = ask(store, "two", "2", domain="trains")
    store.feedback.rate(last.inference, 1)
    ask(store, "hidden", domain="trains", incognito=True)
    found = list(prompts.newest(store.database, "trains"))
    assert [(one.messages[-1].content, one.answer) for one in found] == [("two", "2"), ("one", "uno"), ("one", "1")]
    assert [one.value for one in found[0].said] == [1]


def test_a_correction_counts_three_times(home) -> None:
    desk = packs.pack()
    with open_store() as store:
        for number, text in enumerate(("my card is gone", "who took my money", "open on Sunday?", "the app is locked")):
            begun = ask(store, text, "INFO" if number != 2 else "FRAUD", domain="desk")
            store.feedback.correct(begun.inference, "FRAUD" if number < 2 else "INFO" if number == 2 else '{"label": "RESET"}')
        stages = [{"kind": "sft"}, {"kind": "dpo", "min_rows": 1}]
        asked = validated({"name": "t", "domain": "desk", "data": {"train": ["log"], "pack": True}, "stages": stages}, "t")
        found = material.read(asked, desk, store)
        tests = regressions.of(store, "desk")
    whole = [row for row in (*found.train, *found.validation) if row.shape == "correction"]
    assert sorted((row.text, material.label_of(row, desk)) for row in whole) == [
        ("my card is gone", "FRAUD"),
        ("open on Sunday?", "INFO"),
        ("the app is locked", "RESET"),
        ("who took my money", "FRAUD"),
    ]
    for row in whole:
        (demonstration,) = formatted(row, desk, "chat")
        (pair,) = formatted(row, desk, "preference")
        right = f'{{"label": "{material.label_of(row, desk)}"}}'
        assert demonstration["completion"][0]["content"] == pair["chosen"][0]["content"] == right
        assert pair["rejected"][0]["content"] in ('{"label": "INFO"}', '{"label": "FRAUD"}') and pair["rejected"] != pair["chosen"]
        assert [line["label"] for line in formatted(row, desk, "unpaired")] == [True, False]
    assert [one.messages[-1].content for one in tests] == [
        "my card is gone",
        "who took my money",
        "open on Sunday?",
        "the app is locked",
    ]


def test_a_bare_label_is_no_label_where_it_was_judged_bad(home) -> None:
    desk = packs.pack()
    with open_store() as store:
        store.feedback.rate(ask(store, "my card is gone", "INFO", domain="desk").inference, -1)
        (row,) = from_log(store, "desk").rows()
    judged = Judge(desk).check(row)
    assert (judged.label, judged.thumb) == ("", False)
    assert [line["completion"][0]["content"] for line in formatted(judged, desk, "unpaired")] == ['{"label": "INFO"}']
