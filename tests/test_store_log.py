"""The log: the tree of turns, the states of an answer, and what comes back is what went in. On SQLite and PostgreSQL."""

import threading
from datetime import UTC, datetime

import pytest
from store_support import again, ask

from data.chat import Message, ToolCall, Usage
from data.errors import InputError, NotFound
from data.store import open_store

HOW = {"model": "echo/echo", "mode": "standard", "config": {}}


def texts(turns):
    return [turn.message.content for turn in turns]


def test_a_question_is_committed_with_a_pending_answer_before_the_model_runs(store, url, opened):
    begun = ask(store, "What is a pointsman?\nIn one word.", None, domain="trains", system="Be brief.")
    other = opened(url)
    question, answer = other.log.turns(begun.conversation)
    assert (question.id, question.role, question.parent, question.inference) == (begun.question, "user", None, None)
    assert question.message == Message("user", "What is a pointsman?\nIn one word.")
    assert (answer.id, answer.role, answer.parent) == (begun.answer, "assistant", begun.question)
    assert answer.inference.id == begun.inference
    assert (answer.inference.status, answer.inference.usage.finish, answer.inference.finished) == ("pending", "interrupted", None)
    conversation = other.log.conversation(begun.conversation)
    assert (conversation.title, conversation.domain, conversation.system) == ("What is a pointsman?", "trains", "Be brief.")
    assert (conversation.turns, conversation.leaf) == (2, begun.answer)
    assert abs((datetime.now(UTC) - question.at).total_seconds()) < 3600 and question.at.tzinfo is not None


def test_every_field_of_an_answer_comes_back(store):
    decision = {"stages": [{"name": "rules", "ms": 0.25}], "confidence": 0.5, "runner_up": None}
    begun = ask(store, reply=None, model="llamacpp/smollm2-135m", mode="agent", domain="code", decision=decision, seed=2**32 - 1)
    usage = Usage(100, 60, 20, 0.5, 2.5, "tool_calls", 0.25, 4096, 2)
    calls = (ToolCall("search", {"query": "naïve ☃", "n": 3}, "call-1"), ToolCall("stop", {}))
    store.log.finish(
        begun.inference, status="complete", text="Look: ", thinking="hm", usage=usage, tool_calls=calls, tainted=True, error="none"
    )
    turn = store.log.turn(begun.answer)
    assert turn.message == Message("assistant", "Look: ", "hm", calls)
    answer = store.log.inference(begun.inference)
    assert answer == turn.inference
    assert (answer.turn, answer.conversation) == (begun.answer, begun.conversation)
    assert (answer.status, answer.model, answer.engine, answer.mode, answer.domain) == (
        "complete",
        "llamacpp/smollm2-135m",
        "llamacpp",
        "agent",
        "code",
    )
    assert (answer.decision, answer.seed, answer.usage) == (decision, 2**32 - 1, usage)
    assert (answer.truncated, answer.tainted, answer.error, answer.trainable) == (True, True, "none", False)
    assert answer.created <= answer.updated == answer.finished


def test_partial_text_is_kept_and_marked_streaming_until_the_end(store):
    begun = ask(store, reply=None)
    store.log.save_partial(begun.inference, "Bec", "let me")
    partial = store.log.turn(begun.answer)
    assert (partial.inference.status, partial.message.content, partial.message.thinking) == ("streaming", "Bec", "let me")
    store.log.finish(begun.inference, status="cancelled", text="Becau", thinking="let me see")
    ended = store.log.turn(begun.answer)
    assert (ended.inference.status, ended.inference.usage.finish, ended.message.content) == ("cancelled", "cancelled", "Becau")


@pytest.mark.parametrize("status", ["complete", "interrupted", "cancelled", "error"])
def test_a_partial_that_comes_late_changes_nothing(store, status):
    begun = ask(store, reply=None)
    store.log.finish(begun.inference, status=status, text="the end")
    store.log.save_partial(begun.inference, "the e")
    turn = store.log.turn(begun.answer)
    assert (turn.inference.status, turn.message.content) == (status, "the end")


def test_the_first_end_counts(store):
    begun = ask(store, reply="whole")
    store.log.finish(begun.inference, status="cancelled", text="who")
    turn = store.log.turn(begun.answer)
    assert (turn.inference.status, turn.message.content) == ("complete", "whole")


def test_an_answer_ends_in_one_of_four_ways_only(store):
    begun = ask(store, reply=None)
    with pytest.raises(InputError, match="'streaming' is no way to end"):
        store.log.finish(begun.inference, status="streaming", text="")
    assert store.log.inference(begun.inference).status == "pending"


def test_numbers_a_server_made_up_are_brought_into_range(store):
    begun = ask(store, reply=None)
    usage = Usage(10**30, -5, 2**31, float("nan"), float("inf"), "content_filter", -1.0, 0, 0)
    store.log.finish(begun.inference, status="complete", text="ok", usage=usage)
    assert store.log.inference(begun.inference).usage == Usage(2**31 - 1, 0, 2**31 - 1, 0.0, 0.0, "stop", 0.0, 0, 0)


def test_a_conversation_goes_on_after_its_last_answer(store):
    first = ask(store, "one", "1")
    second = ask(store, "two", "2", conversation=first.conversation)
    assert second.conversation == first.conversation
    turns = store.log.turns(first.conversation)
    assert texts(turns) == ["one", "1", "two", "2"]
    assert [turn.parent for turn in turns] == [None, *[turn.id for turn in turns[:-1]]]


def test_asking_again_makes_a_sibling_and_both_answers_can_be_reached(store):
    first = ask(store, "one", "1")
    second = again(store, first.question, "uno")
    assert (second.conversation, second.question) == (first.conversation, first.question)
    turns = store.log.turns(first.conversation)
    assert texts(turns) == ["one", "uno"]
    assert (turns[1].siblings, turns[1].sibling_index) == (2, 1)
    assert texts(store.log.siblings(second.answer)) == ["1", "uno"]
    assert store.log.set_leaf(first.conversation, first.answer) == first.answer
    turns = store.log.turns(first.conversation)
    assert texts(turns) == ["one", "1"] and (turns[1].siblings, turns[1].sibling_index) == (2, 0)
    assert texts(store.log.turns(first.conversation, second.answer)) == ["one", "uno"]


def test_an_edited_question_is_a_sibling_with_a_branch_of_its_own(store):
    first = ask(store, "one", "1")
    second = ask(store, "two", "2", conversation=first.conversation)
    edited = store.log.edit(second.question, Message("user", "three"), **HOW)
    store.log.finish(edited.inference, status="complete", text="3")
    assert texts(store.log.turns(first.conversation)) == ["one", "1", "three", "3"]
    by_parent = ask(store, "four", "4", parent=first.answer)
    assert by_parent.conversation == first.conversation
    assert texts(store.log.siblings(by_parent.question)) == ["two", "three", "four"]


def test_the_first_question_can_be_edited(store):
    first = ask(store, "one", "1")
    edited = store.log.edit(first.question, Message("user", "eins"), **HOW)
    root = ask(store, "uno", None, conversation=first.conversation, parent="")
    assert texts(store.log.siblings(edited.question)) == ["one", "eins", "uno"]
    assert [turn.parent for turn in store.log.siblings(root.question)] == [None, None, None]
    assert len(store.log.conversations()) == 1


def test_using_a_branch_leads_to_its_newest_end(store):
    first = ask(store, "one", "1")
    ask(store, "two", "2", conversation=first.conversation)
    third = ask(store, "three", "3", conversation=first.conversation)
    again(store, first.question, "uno")
    assert store.log.set_leaf(first.conversation, first.answer) == third.answer
    assert ask(store, "four", conversation=first.conversation).conversation == first.conversation
    assert texts(store.log.turns(first.conversation))[-4:] == ["three", "3", "four", "Because."]


def test_a_question_cannot_follow_a_question_nor_answer_itself(store):
    begun = ask(store)
    with pytest.raises(InputError, match="a question follows an answer"):
        ask(store, parent=begun.question)
    with pytest.raises(InputError, match="is no question"):
        again(store, begun.answer)
    with pytest.raises(InputError, match="is no question"):
        store.log.edit(begun.answer, Message("user", "x"), **HOW)
    with pytest.raises(InputError, match="not of the assistant"):
        store.log.begin(Message("assistant", "x"), **HOW)
    assert len(store.log.turns(begun.conversation)) == 2 and len(store.log.conversations()) == 1


@pytest.mark.parametrize("key", ["", "f" * 32, "nonsense", "\0", "\udc80", "%", "____", "a" * 10_000, "'; DROP TABLE turn; --"])
def test_what_does_not_exist_is_not_found(store, key):
    begun = ask(store)
    log = store.log
    for call in (
        lambda: log.turns(key),
        lambda: log.turns(begun.conversation, key or "0" * 32),
        lambda: log.turn(key),
        lambda: log.inference(key),
        lambda: log.conversation(key),
        lambda: log.siblings(key),
        lambda: log.set_leaf(key, begun.answer),
        lambda: log.set_leaf(begun.conversation, key),
        lambda: log.config(key),
        lambda: log.rename(key, "x"),
        lambda: log.delete(key),
        lambda: log.save_partial(key, "x"),
        lambda: log.finish(key, status="complete", text="x"),
        lambda: again(store, key),
        lambda: ask(store, conversation=key or "0" * 32),
        lambda: ask(store, conversation=begun.conversation, parent=key or "0" * 32),
        lambda: store.feedback.rate(key, 1),
        lambda: store.feedback.withdraw(key),
    ):
        with pytest.raises(NotFound):
            call()
    assert len(log.turns(begun.conversation)) == 2 and len(log.conversations()) == 1


def test_a_parent_of_another_conversation_is_not_found(store):
    one, other = ask(store), ask(store)
    with pytest.raises(NotFound, match="has no turn"):
        ask(store, conversation=one.conversation, parent=other.answer)


def test_the_beginning_or_end_of_an_id_is_enough_while_it_fits_one_only(store):
    begun = ask(store)
    assert store.log.turn(begun.answer[-8:].upper()).id == begun.answer
    assert store.log.turn(f"{begun.answer[:8]}-{begun.answer[8:]}").id == begun.answer
    assert store.log.inference(begun.inference[:20]).id == begun.inference
    ask(store, conversation=begun.conversation)
    with pytest.raises(NotFound, match="fits more than one turn"):
        store.log.turn(begun.answer[:4])
    with pytest.raises(NotFound, match="too short"):
        store.log.turn(begun.answer[-3:])


def test_conversations_come_last_used_first_and_in_pages(store):
    keys = [ask(store, f"number {n}").conversation for n in range(5)]
    ask(store, "again", conversation=keys[1])
    wanted = [keys[1], keys[4], keys[3], keys[2], keys[0]]
    assert [one.id for one in store.log.conversations()] == wanted
    assert [one.id for one in store.log.conversations(limit=2, offset=1)] == wanted[1:3]
    assert store.log.conversations(limit=0) == [] and store.log.conversations(offset=5) == []
    assert [one.turns for one in store.log.conversations(limit=2)] == [4, 2]


def test_a_title_can_be_changed_but_not_to_nothing(store):
    begun = ask(store, "\n  \n  Long " + "x" * 100)
    assert store.log.conversation(begun.conversation).title.startswith("Long xx")
    assert len(store.log.conversation(begun.conversation).title) == 80
    store.log.rename(begun.conversation, " Trains\x1b[31m\nand more ")
    assert store.log.conversation(begun.conversation).title == "Trains␛[31m and more"
    with pytest.raises(InputError, match="a title needs"):
        store.log.rename(begun.conversation, " \n ")


def test_a_configuration_is_kept_once_and_found_by_its_hash(store):
    one = ask(store, config={"temperature": 0.5, "nested": {"b": [1, None], "a": "ü"}}, system="Be kind.")
    same = ask(store, config={"nested": {"a": "ü", "b": [1, None]}, "temperature": 0.5}, system="Be kind.")
    other = ask(store, config={"temperature": 0.5}, system="Be kind.")
    hashes = [store.log.inference(begun.inference).config_hash for begun in (one, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert store.log.config(hashes[0]) == {"temperature": 0.5, "nested": {"b": [1, None], "a": "ü"}, "system": "Be kind."}


def test_the_newest_answer_is_the_latest(store):
    with pytest.raises(NotFound, match="no answer yet"):
        store.log.latest()
    ask(store)
    begun = ask(store)
    assert store.log.latest().id == begun.inference


NASTY = {
    "nul": ("a\0b", "a\u2400b"),
    "lone surrogates": ("a\ud800b\udc80", "a\ufffdb\ufffd"),
    "a surrogate pair": ("\ud83d\ude00", "😀"),
    "escapes": ("\x1b]52;c;AAAA\x07 \\u0000 \\\\u0000 \\x00", "\x1b]52;c;AAAA\x07 \\u0000 \\\\u0000 \\x00"),
    "quotes and lines": ("'\"`\r\n\t%s :name {x} \u2028 \ufeff", "'\"`\r\n\t%s :name {x} \u2028 \ufeff"),
    "beyond the first plane": ("𝔘 👩‍👩‍👧 \U0010ffff", "𝔘 👩‍👩‍👧 \U0010ffff"),
    "long": ("word " * 100_000, "word " * 100_000),
    "long without a space": ("天气" * 120_000, "天气" * 120_000),
}


@pytest.mark.parametrize(("given", "kept"), NASTY.values(), ids=NASTY)
def test_any_text_is_stored_the_same_way_on_both_databases(store, given, kept):
    begun = store.log.begin(
        Message("user", given),
        model=given[:50],
        mode=given[:50],
        domain=given[:50],
        system=given[:50],
        config={given[:50]: given[:50]},
        decision={"reason": given[:50], "list": [given[:50]]},
    )
    store.log.save_partial(begun.inference, given, given)
    calls = (ToolCall("run", {"code": given, "deep": [{"x": given}]}),)
    store.log.finish(begun.inference, status="complete", text=given, thinking=given, error=given[:50], tool_calls=calls)
    store.feedback.comment(begun.inference, given, key=given)
    store.feedback.correct(begun.inference, given)
    question, answer = store.log.turns(begun.conversation)
    assert question.message.content == answer.message.content == answer.message.thinking == kept
    assert answer.message.tool_calls[0].arguments == {"code": kept, "deep": [{"x": kept}]}
    assert [said.text for said in answer.feedback] == [kept, kept]
    assert answer.inference.decision["list"] == [answer.inference.decision["reason"]]
    assert len(list(store.log.export())) == 1
    assert len(store.search(given)) <= 50


def test_json_with_infinities_is_kept_with_nulls(store):
    begun = ask(store, decision={"confidence": float("nan"), "odds": [float("inf"), -float("inf"), "NaN"]})
    assert store.log.inference(begun.inference).decision == {"confidence": None, "odds": [None, None, "NaN"]}


def test_json_nested_too_deeply_is_refused_with_words(store):
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InputError, match="nested too deeply"):
        ask(store, decision={"deep": deep})
    assert store.log.conversations() == []


def test_several_threads_share_a_store(store):
    begun = [ask(store, f"question {n}", None) for n in range(4)]
    faults = []

    def write(one):
        try:
            for n in range(10):
                store.log.save_partial(one.inference, "x" * n)
                store.log.turns(one.conversation)
            store.log.finish(one.inference, status="complete", text="done")
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=write, args=(one,)) for one in begun]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert [store.log.turn(one.answer).message.content for one in begun] == ["done"] * 4


def test_a_store_in_memory_works_alike_from_several_threads_and_leaves_no_file(home):
    with open_store("sqlite://") as store:
        begun = ask(store)
        threads = [threading.Thread(target=ask, args=(store,), kwargs={"conversation": begun.conversation}) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store.log.turns(begun.conversation)) == 10
        assert store.search("because") and store.info().where == "in memory"
    assert not home.exists()


def test_a_long_conversation_reads_whole(store):
    begun = ask(store, "0", "0")
    for n in range(1, 40):
        ask(store, str(n), str(n), conversation=begun.conversation)
    assert texts(store.log.turns(begun.conversation)) == [str(n) for n in range(40) for _ in "qa"]
