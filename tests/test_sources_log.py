"""The log as a source: what was said about answers becomes rows, and only where it may train."""

from pathlib import Path

import pytest
from store_support import again, ask

from data.chat import Message, Usage
from data.datasets.rows import Refused, Row
from data.datasets.sources import from_log
from data.store import Store


def rows(store: Store, **how) -> list[Row | Refused]:
    return list(from_log(store, **how).rows())


def test_a_correction_a_thumb_and_a_preference_become_rows(file_store: Store) -> None:
    store = file_store
    first = ask(store, "Why?", "No.", system="Be brief.")
    second = again(store, first.question, "So.")
    store.feedback.correct(first.inference, "Because of it.")
    store.feedback.rate(second.inference, 1)
    store.feedback.comment(second.inference, "Short and right.")
    store.feedback.prefer(second.inference, first.inference)
    correction, thumb, preference = rows(store)
    assert (correction.shape, correction.text, correction.completion, correction.rejected) == (
        "correction",
        "Why?",
        "Because of it.",
        "No.",
    )
    assert (thumb.shape, thumb.completion, thumb.thumb, thumb.comment) == ("thumb", "So.", True, "Short and right.")
    assert (preference.shape, preference.completion, preference.rejected) == ("preference", "So.", "No.")
    assert {one.before for one in (correction, thumb, preference)} == {(Message("system", "Be brief."),)}
    assert {one.group for one in (correction, thumb, preference)} == {first.conversation}
    assert all(one.at > 1.7e9 for one in (correction, thumb, preference))
    assert [str(one.origin) for one in (correction, thumb, preference)] == ["log:1", "log:2", "log:3"]


def test_what_came_before_an_answer_goes_with_it(file_store: Store) -> None:
    first = ask(file_store, "Who?", "Ann.")
    second = file_store.log.begin(
        Message("user", "When?"), conversation=first.conversation, model="echo/echo", mode="standard", config={}
    )
    file_store.log.finish(second.inference, status="complete", text="Now.", thinking="It is now.")
    file_store.feedback.rate(second.inference, -1)
    (row,) = rows(file_store)
    assert [(one.role, one.content) for one in row.before] == [("user", "Who?"), ("assistant", "Ann.")]
    assert (row.text, row.completion, row.thumb, row.reasoning) == ("When?", "Now.", False, "It is now.")


def test_a_liked_answer_may_also_be_a_chat(file_store: Store) -> None:
    file_store.feedback.rate(ask(file_store, "Why?", "So.").inference, 1)
    file_store.feedback.rate(ask(file_store, "How?", "So.").inference, -1)
    assert [(one.shape, one.thumb) for one in rows(file_store, chats=True)] == [("thumb", True), ("chat", None), ("thumb", False)]


def test_what_was_superseded_or_withdrawn_does_not_count(file_store: Store) -> None:
    store = file_store
    answer = ask(store).inference
    store.feedback.correct(answer, "First try.")
    store.feedback.correct(answer, "Second try.")
    store.feedback.rate(answer, -1)
    store.feedback.rate(answer, 0)
    store.feedback.withdraw(store.feedback.rate(ask(store).inference, 1).id)
    assert [one.completion for one in rows(store)] == ["Second try."]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ({"status": "interrupted", "text": "Hal"}, "not complete (interrupted)"),
        ({"status": "cancelled", "text": "Hal"}, "not complete (cancelled)"),
        ({"status": "error", "text": ""}, "not complete (error)"),
        ({"status": "complete", "text": "So.", "tainted": True}, "untrusted text"),
        ({"status": "complete", "text": "So.", "usage": Usage(dropped_turns=1)}, "did not see the whole conversation"),
        ({"status": "complete", "text": " "}, "the answer is empty"),
    ],
)
def test_an_answer_that_may_not_train_is_refused_with_the_reason(file_store: Store, end: dict, said: str) -> None:
    begun = ask(file_store, reply=None)
    file_store.log.finish(begun.inference, **end)
    file_store.feedback.rate(begun.inference, 1)
    (refused,) = rows(file_store)
    assert isinstance(refused, Refused)
    assert said in refused.reason
    assert refused.filter == "log"


def test_an_answer_after_one_that_may_not_train_is_refused(file_store: Store) -> None:
    first = ask(file_store, reply=None)
    file_store.log.finish(first.inference, status="complete", text="From the web.", tainted=True)
    second = file_store.log.begin(
        Message("user", "And?"), conversation=first.conversation, model="echo/echo", mode="standard", config={}
    )
    file_store.log.finish(second.inference, status="complete", text="So.")
    file_store.feedback.rate(second.inference, 1)
    (refused,) = rows(file_store)
    assert refused.reason == "an earlier answer of the conversation: had untrusted text in sight"


def test_preferences_that_say_nothing_are_refused(file_store: Store) -> None:
    store = file_store
    one = ask(store, "Why?", "So.")
    two = again(store, one.question, "No.")
    store.feedback.prefer(one.inference, two.inference, tie=True)
    other = ask(store, "Who?", "Ann.")
    store.feedback.prefer(other.inference, ask(store, "What?", "It.").inference)
    cut = ask(store, "How?", "So.")
    worse = again(store, cut.question, None)
    store.log.finish(worse.inference, status="interrupted", text="Hal")
    store.feedback.prefer(cut.inference, worse.inference)
    assert [one.reason for one in rows(store)] == [
        "a tie: neither answer is better",
        "the two answers are not to the same question",
        "the other answer: not complete (interrupted)",
    ]


def test_ratings_count_as_thumbs_unless_there_is_one(file_store: Store) -> None:
    for stars in (1, 3, 5):
        file_store.feedback.stars(ask(file_store).inference, stars)
    both = ask(file_store).inference
    file_store.feedback.stars(both, 5)
    file_store.feedback.rate(both, -1)
    found = rows(file_store)
    assert [one.thumb if isinstance(one, Row) else one.reason for one in found] == [
        False,
        "a rating of 3 says neither good nor bad",
        True,
        False,
    ]


def test_what_a_judge_said_does_not_train(file_store: Store) -> None:
    file_store.feedback.rate(ask(file_store).inference, 1, source="judge")
    (refused,) = rows(file_store)
    assert refused.reason == "said by judge, not by the user"


def test_incognito_and_forgotten_conversations_are_not_there(file_store: Store) -> None:
    store = file_store
    begun = store.log.begin(Message("user", "Secret?"), incognito=True, model="echo/echo", mode="standard", config={})
    store.log.finish(begun.inference, status="complete", text="Yes.")
    store.feedback.rate(begun.inference, 1)
    gone = ask(store)
    store.feedback.rate(gone.inference, 1)
    store.log.forget(gone.conversation)
    assert rows(store) == []


def test_only_answers_of_the_domain(file_store: Store) -> None:
    file_store.feedback.rate(ask(file_store, "a", domain="fraud").inference, 1)
    file_store.feedback.rate(ask(file_store, "b", domain="triage").inference, 1)
    file_store.feedback.rate(ask(file_store, "c").inference, 1)
    assert [one.text for one in rows(file_store, domain="fraud")] == ["a"]
    assert len(rows(file_store)) == 3


def test_the_digest_follows_the_feedback(file_store: Store, home: Path) -> None:
    answer = ask(file_store).inference
    file_store.feedback.rate(answer, 1)
    source = from_log(file_store)
    assert list(source.rows()) == list(source.rows())
    before = source.digest()
    assert before == from_log(file_store).digest()
    file_store.feedback.rate(answer, -1)
    assert source.digest() != before
    assert (source.name, source.licence) == ("log", "")
