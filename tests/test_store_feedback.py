"""Feedback: rows are only added, the newest of a kind counts, and saying a thing twice with one key says it once."""

import threading

import pytest
from sqlalchemy import func, select
from store_support import again, ask

from data.errors import InputError, NotFound
from data.store import tables


def said(store, inference):
    return [(one.kind, one.value, one.text) for one in store.feedback.of(inference)]


def rows(store):
    with store.database.read() as connection:
        return connection.execute(select(func.count()).select_from(tables.feedback)).scalar()


def test_a_new_thumb_supersedes_the_old_one_and_the_history_keeps_both(store):
    begun = ask(store)
    up = store.feedback.rate(begun.inference, +1)
    down = store.feedback.rate(begun.inference, -1)
    assert said(store, begun.inference) == [("thumb", -1, "")]
    assert (up.supersedes, down.supersedes) == ("", up.id)
    assert store.feedback.history(begun.inference) == [up, down]


def test_a_thumb_of_zero_takes_it_back_and_a_later_one_counts_again(store):
    begun = ask(store)
    store.feedback.rate(begun.inference, +1)
    assert store.feedback.rate(begun.inference, 0).withdrawn
    assert said(store, begun.inference) == []
    store.feedback.rate(begun.inference, -1)
    assert said(store, begun.inference) == [("thumb", -1, "")]
    store.feedback.rate(begun.inference, 0)
    store.feedback.rate(begun.inference, 0)
    assert said(store, begun.inference) == []


def test_kinds_do_not_supersede_each_other_and_comments_stand_side_by_side(store):
    begun = ask(store)
    store.feedback.rate(begun.inference, +1)
    store.feedback.stars(begun.inference, 2)
    store.feedback.stars(begun.inference, 4, source="judge")
    store.feedback.comment(begun.inference, "terse")
    store.feedback.comment(begun.inference, "but right")
    store.feedback.correct(begun.inference, "Because!")
    assert said(store, begun.inference) == [
        ("thumb", 1, ""),
        ("rating", 4, ""),
        ("comment", None, "terse"),
        ("comment", None, "but right"),
        ("correction", None, "Because!"),
    ]
    assert store.feedback.of(begun.inference)[1].source == "judge"
    assert list(store.log.turn(begun.answer).feedback) == store.feedback.of(begun.inference)


def test_a_correction_keeps_the_original_answer_and_gives_way_to_a_newer_one(store):
    begun = ask(store, reply="Becuase.")
    store.feedback.correct(begun.inference, "Because, I think.")
    store.feedback.correct(begun.inference, "Because.")
    turn = store.log.turn(begun.answer)
    assert (turn.message.content, [one.text for one in turn.feedback]) == ("Becuase.", ["Because."])


def test_the_same_key_twice_is_one_row(store):
    begun = ask(store)
    first = store.feedback.rate(begun.inference, +1, key="window-1:7")
    assert store.feedback.rate(begun.inference, +1, key="window-1:7") == first
    store.feedback.rate(begun.inference, -1)
    assert store.feedback.rate(begun.inference, +1, key="window-1:7") == first
    assert said(store, begun.inference) == [("thumb", -1, "")]
    comment = store.feedback.comment(begun.inference, "x", key="k" * 100_000)
    assert store.feedback.comment(begun.inference, "x", key="k" * 100_000) == comment
    assert rows(store) == 3


def test_withdrawing_takes_back_one_thing_of_any_kind(store):
    begun = ask(store)
    other = again(store, begun.question)
    comment = store.feedback.comment(begun.inference, "unkind")
    preference = store.feedback.prefer(other.inference, begun.inference)
    taken = store.feedback.withdraw(comment.id)
    assert (taken.kind, taken.supersedes, taken.withdrawn, taken.text) == ("comment", comment.id, True, "")
    assert store.feedback.withdraw(preference.id).rejected == begun.inference
    assert said(store, begun.inference) == said(store, other.inference) == []


def test_a_preference_belongs_to_the_pair_whichever_way_round(store):
    one = ask(store)
    two, three = again(store, one.question), again(store, one.question)
    store.feedback.prefer(one.inference, two.inference, blind=True, chosen_left=False)
    (kept,) = store.feedback.of(one.inference)
    assert (kept.kind, kept.value, kept.rejected, kept.blind, kept.chosen_left) == ("preference", 1, two.inference, True, False)
    store.feedback.prefer(two.inference, three.inference)
    store.feedback.prefer(two.inference, one.inference, tie=True)
    assert store.feedback.of(one.inference) == []
    assert [(one.value, one.rejected) for one in store.feedback.of(two.inference)] == [(1, three.inference), (0, one.inference)]


@pytest.mark.parametrize("thumb", [2, -2, 0.5, "1", None])
def test_a_thumb_is_up_down_or_none(store, thumb):
    with pytest.raises(InputError, match="a thumb is"):
        store.feedback.rate(ask(store).inference, thumb)


@pytest.mark.parametrize("stars", [0, 6, -1, 2.5, "3"])
def test_stars_are_one_to_five(store, stars):
    with pytest.raises(InputError, match="1 to 5"):
        store.feedback.stars(ask(store).inference, stars)


def test_words_need_words_and_a_preference_two_answers(store):
    begun = ask(store)
    for call in (
        lambda: store.feedback.comment(begun.inference, " \n"),
        lambda: store.feedback.correct(begun.inference, ""),
        lambda: store.feedback.prefer(begun.inference, begun.inference),
    ):
        with pytest.raises(InputError):
            call()
    with pytest.raises(NotFound):
        store.feedback.prefer(begun.inference, "0" * 32)
    assert rows(store) == 0


def test_thumbs_from_several_threads_leave_exactly_one_standing(store):
    begun = ask(store)
    faults = []

    def rate(thumb):
        try:
            for n in range(5):
                store.feedback.rate(begun.inference, thumb, key=f"shared-{n}")
                store.feedback.rate(begun.inference, thumb)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=rate, args=(thumb,)) for thumb in (1, -1, 1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert len(store.feedback.of(begun.inference)) == 1
    assert rows(store) == 5 + 4 * 5
