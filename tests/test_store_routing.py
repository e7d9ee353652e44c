"""What the router learns from is kept, can be taken back, and is forgotten with the conversation it came from."""

import pytest
from store_support import ask

from data.errors import InputError, NotFound


def test_a_corrected_route_is_kept_and_can_be_taken_back(store):
    first = store.routing.teach("where is my parcel", domain="orders", mode="standard")
    second = store.routing.teach("and my refund", domain="refunds")
    assert store.routing.exemplars() == [first, second]
    store.routing.withdraw(first.id[-8:])
    assert [one.text for one in store.routing.exemplars()] == ["and my refund"]
    with pytest.raises(NotFound):
        store.routing.withdraw("f" * 32)


def test_a_second_correction_of_the_same_answer_takes_the_place_of_the_first(store):
    begun = ask(store)
    store.routing.teach("q", domain="a", inference=begun.inference)
    store.routing.teach("q", domain="b", inference=begun.inference)
    assert [one.domain for one in store.routing.exemplars()] == ["b"]


def test_nothing_is_learned_from_nothing_or_in_private(store):
    with pytest.raises(InputError, match="text"):
        store.routing.teach("  ", domain="a")
    with pytest.raises(InputError, match="neither"):
        store.routing.teach("text")
    with pytest.raises(NotFound):
        store.routing.teach("text", domain="a", inference="f" * 32)
    private = ask(store, incognito=True)
    with pytest.raises(InputError, match="incognito"):
        store.routing.teach("text", domain="a", inference=private.inference)
    assert store.routing.exemplars() == []


def test_an_exemplar_is_deleted_with_its_conversation_and_with_its_text(store):
    begun = ask(store)
    store.routing.teach("from the talk", domain="a", inference=begun.inference)
    store.routing.teach("by hand: Secret word", domain="a")
    store.routing.teach("other", domain="a")
    store.log.delete(begun.conversation)
    assert [one.text for one in store.routing.exemplars()] == ["by hand: Secret word", "other"]
    store.log.forget(text="secret WORD")
    assert [one.text for one in store.routing.exemplars()] == ["other"]


def test_the_newest_evaluation_of_a_model_in_a_domain_counts(store):
    store.routing.evaluated("ollama/mine", base="ollama/base", domain="fraud", pairs=100, gain=0.1, lower=-0.01)
    newest = store.routing.evaluated("ollama/mine", base="ollama/base", domain="fraud", pairs=200, gain=0.12, lower=0.05)
    other = store.routing.evaluated("ollama/mine", base="ollama/base", domain="code", pairs=10, gain=0.0, lower=0.0)
    assert sorted(store.routing.evaluations(), key=lambda one: one.id) == [newest, other]
    with pytest.raises(InputError, match="impossible"):
        store.routing.evaluated("m", base="b", domain="d", pairs=0, gain=0.1, lower=0.0)
    with pytest.raises(InputError, match="impossible"):
        store.routing.evaluated("m", base="b", domain="d", pairs=5, gain=0.1, lower=float("nan"))


def test_what_happened_within_an_answer_comes_back_in_order(store):
    begun = ask(store, reply=None)
    trace = [{"step": {"number": 1, "title": "a", "state": "started", "text": ""}}, {"call": {"name": "x", "arguments": {"n": 1}}}]
    store.log.finish(begun.inference, status="complete", text="done", trace=trace, tainted=True)
    answer = store.log.turns(begun.conversation)[-1].inference
    assert list(answer.trace) == trace and answer.tainted and not answer.trainable
