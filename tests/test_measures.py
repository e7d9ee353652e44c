"""What the log tells of its answers, on both databases: counted as it was written, and nothing made up."""

from datetime import UTC, datetime, timedelta

import monitored
import pytest
from store_support import again, ask

from data.chat import Usage
from data.store import measures


def seen(store):
    now = datetime.now(UTC)
    return measures.answers(store.database, now - timedelta(days=1), now + timedelta(seconds=5))


def test_an_answer_is_told_as_it_was_logged(store):
    begun = ask(store, reply=None, domain="triage")
    usage = Usage(10, 0, 41, 0.5, 2.5, "stop", 0.0, 2048, 0)
    store.log.finish(begun.inference, status="complete", text="Because.", usage=usage)
    store.feedback.rate(begun.inference, -1)
    store.feedback.stars(begun.inference, 2)
    (one,) = seen(store)
    assert (one.id, one.question, one.model, one.domain) == (begun.inference, begun.question, "echo/echo", "triage")
    assert (one.thumb, one.stars, one.ttft_s, one.tokens, one.valid_json) == (-1, 2, 0.5, 41, None)
    assert one.bad and one.whole and not one.refused
    assert measures.speed(one) == 20.0


def test_only_the_earlier_answer_counts_as_asked_again(store):
    begun = ask(store)
    second = again(store, begun.question)
    assert [(one.id, one.regenerated) for one in seen(store)] == [(begun.inference, True), (second.inference, False)]


def test_two_answers_compared_blindly_are_not_asked_again(store):
    begun = ask(store)
    second = again(store, begun.question)
    store.feedback.prefer(second.inference, begun.inference, blind=True)
    assert not any(one.regenerated for one in seen(store))


def test_running_answers_are_left_out_and_stopped_ones_are_counted_apart(store):
    ask(store, reply=None)
    for status in ("cancelled", "error", "interrupted", "complete"):
        store.log.finish(ask(store, reply=None).inference, status=status, text="" if status == "complete" else "Be")
    found = measures.figures(seen(store))
    assert (found.answers, found.stopped, found.errors, found.interrupted, found.empty, found.bad) == (3, 1, 1, 1, 1, 3)


def test_what_a_judge_says_or_the_user_took_back_is_no_rating(store):
    one, other = ask(store), ask(store)
    store.feedback.rate(one.inference, -1, source="judge")
    store.feedback.rate(other.inference, 1)
    store.feedback.rate(other.inference, 0)
    assert measures.figures(seen(store)).rated == 0


def test_json_is_judged_only_where_it_was_asked_for(store):
    held = {"schema": {"type": "object"}}
    for reply in ('{"a": 1}', '{"a": ', "[" * 100_000):
        ask(store, reply=reply, config=held)
    ask(store, reply="no JSON at all")
    found = measures.figures(seen(store))
    assert (found.json_asked, found.json_invalid) == (3, 2)


def test_a_span_holds_what_was_begun_within_it(store):
    monitored.fill(store, 30, ago=(30, 0))
    day = timedelta(days=1)
    assert len(measures.answers(store.database, monitored.NOW - 10 * day, monitored.NOW)) == 10
    assert len(measures.answers(store.database, monitored.NOW - 20 * day, monitored.NOW - 10 * day)) == 10
    assert measures.answers(store.database, monitored.NOW, monitored.NOW + day) == []


def test_figures_of_nothing_are_not_made_up():
    found = measures.figures([])
    assert found == measures.Figures()
    assert (found.ttft_p50_s, found.tokens_per_s, found.tokens, found.stars) == (None, None, None, None)


def test_a_percentile_is_a_value_that_was_seen():
    assert measures.percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert measures.percentile([float(value) for value in range(1, 101)], 0.95) == 95.0
    assert measures.percentile([7.0], 0.95) == 7.0
    assert measures.percentile([], 0.5) is None


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, I cannot do this.",
        "As an AI language model, I cannot have opinions.",
        "I am unable to open files.",
        "Unfortunately, I can't.",
        "Sorry about that, but I won't write it.",
        "I must decline.",
        "  **I cannot** tell.",
    ],
)
def test_usual_refusals_are_guessed(text):
    assert measures.refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Because.",
        "Sorry is a word.",
        "You can't divide by zero.",
        "I can help.",
        "Sorry, the file was missing; here is another.",
        "sorry " * 100,
    ],
)
def test_other_answers_are_no_refusals(text):
    assert not measures.refuses(text)


def test_the_registry_is_asked_for_what_a_model_is(store):
    assert measures.versions(store.database) == {}
