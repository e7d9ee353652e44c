"""The monitor: what got worse raises an alarm, what did not raises none, and what is not known is said."""

import monitored
import pytest
from monitored import NOW, fill

from data import monitor

BEFORE, LATELY = (36, 7.01), (6.9, 0.01)
USUAL = {"failed": 0.02, "regenerated": 0.05, "thumbs_down": 0.1, "refused": 0.02, "truncated": 0.02}


def seen(store, **how):
    return monitor.look(store.database, now=NOW, **how)


@pytest.mark.parametrize(
    ("what", "alarm", "words"),
    [
        ("failed", "failed", "errors and interruptions rose"),
        ("regenerated", "regenerated", "answers asked again rose"),
        ("thumbs_down", "thumbs_down", "thumbs down rose"),
        ("refused", "refused", "refusals (guessed) rose"),
        ("truncated", "truncated", "truncated answers rose"),
    ],
)
def test_a_share_that_rose_is_told_in_one_line(file_store, what, alarm, words):
    fill(file_store, 400, ago=BEFORE, bad=USUAL, rated=0.8)
    fill(file_store, 150, ago=LATELY, bad=USUAL | {what: 0.5}, rated=0.8, seed=2)
    found = seen(file_store)
    assert [one.what for one in found.alarms] == [alarm]
    (one,) = found.alarms
    assert one.line.startswith(f"llamacpp/small in triage: {words} from {one.before:.1%} to {one.now:.1%} over ")
    assert f"{one.answers:,} answers ({one.answers_before:,} before), e-value" in one.line
    assert one.e_value >= one.limit >= 20 and one.now > one.before
    assert "\n" not in one.line


def test_slower_and_longer_answers_are_told_and_faster_ones_are_not(store):
    fill(store, 120, ago=BEFORE, ttft_s=0.2, tokens=100)
    fill(store, 60, ago=LATELY, ttft_s=0.4, tokens=200, seed=2)
    assert {one.what for one in seen(store).alarms} == {"ttft_s", "tokens"}
    fill(store, 120, ago=BEFORE, ttft_s=0.4, model="m/fast")
    fill(store, 60, ago=LATELY, ttft_s=0.1, model="m/fast", seed=2)
    assert not [one for one in seen(store).alarms if one.model == "m/fast"]


def test_invalid_json_is_told(file_store):
    fill(file_store, 200, ago=BEFORE, schema=True, bad={"json_invalid": 0.01})
    fill(file_store, 80, ago=LATELY, schema=True, bad={"json_invalid": 0.4}, seed=2)
    assert [one.what for one in seen(file_store).alarms] == ["json_invalid"]


def test_where_nothing_changed_hardly_any_look_raises_an_alarm(file_store):
    for run in range(40):
        fill(file_store, 100, ago=BEFORE, bad=USUAL, rated=0.5, seed=run, model=f"m/{run}")
        fill(file_store, 50, ago=LATELY, bad=USUAL, rated=0.5, seed=run + 1000, model=f"m/{run}")
    found = seen(file_store)
    assert len(found.rows) == 40
    assert found.alarms == ()


def test_a_model_without_a_past_raises_no_alarm_and_that_is_said(file_store):
    fill(file_store, 50, ago=LATELY, bad={"failed": 0.9})
    found = seen(file_store)
    assert found.alarms == () and found.looked_at == 0
    assert any("no answers in the baseline" in one for one in found.unknown)
    assert any("rated" in one for one in found.unknown) and any("schema" in one for one in found.unknown)


def test_another_mix_of_domains_warns_and_a_few_questions_do_not(file_store):
    for domain, before, now in (("triage", 200, 20), ("code", 50, 100)):
        fill(file_store, before, ago=BEFORE, domain=domain)
        fill(file_store, now, ago=LATELY, domain=domain, seed=2)
    drift = seen(file_store).drift
    assert drift.warns and drift.index > 0.2
    assert (drift.now, drift.before) == ({"triage": 20, "code": 100}, {"triage": 200, "code": 50})
    few = monitor.Drift({"a": 3, "b": 1}, {"a": 2, "b": 2}, 0.25, 3.8)
    assert not few.warns


def test_a_question_asked_again_is_one_question_of_the_mix(file_store):
    fill(file_store, 20, ago=BEFORE)
    fill(file_store, 20, ago=LATELY, bad={"regenerated": 1.0}, seed=2)
    found = seen(file_store)
    assert found.rows[0].now.answers == 40 and found.drift.now == {"triage": 20}


def test_one_domain_is_shown_and_the_mix_stays_that_of_all(file_store):
    for domain in ("triage", "code"):
        fill(file_store, 10, ago=BEFORE, domain=domain)
        fill(file_store, 10, ago=LATELY, domain=domain, seed=2)
    found = seen(file_store, domain="code")
    assert [row.domain for row in found.rows] == ["code"]
    assert set(found.drift.now) == {"triage", "code"}


def test_days_are_told_when_asked_for(file_store):
    fill(file_store, 36, ago=(36, 0.01))
    assert seen(file_store).days == {}
    days = seen(file_store, by_day=True).days["llamacpp/small", "triage"]
    assert sum(one.answers for one in days.values()) == 36 and len(days) >= 36


def test_an_empty_log_has_nothing_to_tell(store):
    found = monitor.look(store.database)
    assert (found.rows, found.alarms, found.drift) == ((), (), None)
    assert found.unknown == monitor.CANNOT_KNOW


def test_many_answers_are_read_with_a_few_statements(file_store):
    from sqlalchemy import event

    fill(file_store, 1000, ago=(36, 0.01), rated=0.2)
    statements = []
    event.listen(file_store.database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    found = seen(file_store)
    assert sum(row.now.answers + row.before.answers for row in found.rows) == 1000
    assert len([one for one in statements if one.startswith("SELECT")]) <= 6


def test_hostile_names_do_not_reach_the_terminal(file_store):
    name = "m/\x1b]52;c;x\x07\nevil"
    fill(file_store, 100, ago=BEFORE, model=name, ttft_s=0.1)
    fill(file_store, 60, ago=LATELY, model=name, ttft_s=0.9, seed=2)
    (one,) = seen(file_store).alarms
    assert "\x1b" not in one.line and "\n" not in one.line and "\x07" not in one.line


def test_the_log_made_here_is_one_the_store_can_read(store):
    fill(store, 3, ago=(3, 1), rated=1.0)
    assert len(store.log.conversations()) == 3
    turns = store.log.turns(store.log.conversations()[0].id)
    assert turns[1].feedback and turns[1].inference.model == "llamacpp/small"
    assert monitored.NOW > turns[1].at
