"""Forgetting leaves no byte in any file of the store; exporting gives everything, or only what may train a model."""

import json
import sqlite3

import pytest
from sqlalchemy import func, select
from store_support import again, ask

from data.chat import Message, ToolCall, Usage
from data.errors import InputError, NotFound, StoreError
from data.store import sqlite_file, tables

MARK = "Quetzalcoatlus"


def count(store, table):
    with store.database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar()


def files_with(folder, text):
    """The files below `folder` that hold any six characters of the text in a row, in any case."""
    pieces = [text[n : n + 6].lower().encode() for n in range(len(text) - 5)]
    return [path for path in folder.rglob("*") if path.is_file() and any(piece in path.read_bytes().lower() for piece in pieces)]


def talk_about(store, mark):
    """A conversation with the mark in every place that holds text; what others say stays."""
    others = [ask(store, f"ordinary {n} " + "words " * 50, "plain " * 50) for n in range(20)]
    begun = store.log.begin(
        Message("user", f"tell me of the {mark}"),
        model="echo/echo",
        mode="standard",
        domain=mark,
        system=f"You are a {mark}",
        config={"stop": [mark]},
        decision={"why": mark},
    )
    store.log.save_partial(begun.inference, f"the {mark} is", mark * 3)
    calls = (ToolCall("look", {"up": mark}),)
    store.log.finish(
        begun.inference, status="complete", text=f"the {mark} is big " * 300, thinking=mark, tool_calls=calls, error=mark
    )
    store.feedback.comment(begun.inference, f"no {mark}", key=f"key {mark}")
    store.feedback.correct(begun.inference, f"first {mark}")
    store.feedback.correct(begun.inference, f"{mark}s are small")
    store.feedback.prefer(others[0].inference, begun.inference)
    store.feedback.rate(others[1].inference, 1)
    store.log.rename(begun.conversation, f"All about {mark}")
    return begun, others


@pytest.mark.parametrize("wal", [False, True], ids=["rollback journal", "wal"])
@pytest.mark.parametrize("by_text", [False, True], ids=["by id", "by text"])
def test_no_byte_of_what_was_forgotten_stays_in_any_file(home, opened, monkeypatch, wal, by_text):
    monkeypatch.setattr(sqlite_file, "journal_mode", lambda: "wal" if wal else "delete")
    store = opened("")
    begun, others = talk_about(store, MARK)
    assert files_with(home, MARK)
    forgotten = store.log.forget(text=MARK.upper()) if by_text else store.log.forget(begun.conversation)
    assert (forgotten.conversations, forgotten.turns, forgotten.feedback) == (1, 2, 3)
    assert files_with(home, MARK) == []
    store.close()
    assert files_with(home, MARK) == []
    assert store.search("ordinary") and store.search(MARK) == []
    assert len(store.log.conversations()) == 20 and len(store.feedback.of(others[1].inference)) == 1
    store.check()


def test_forgetting_removes_every_row_and_keeps_the_others_whole(store):
    begun, others = talk_about(store, MARK)
    again(store, begun.question, MARK)
    store.log.edit(begun.question, Message("user", MARK), model="echo/echo", mode="standard", config={})
    forgotten = store.log.forget(begun.conversation)
    assert (forgotten.conversations, forgotten.turns) == (1, 5)
    assert (count(store, tables.conversation), count(store, tables.turn), count(store, tables.inference)) == (20, 40, 20)
    assert (count(store, tables.feedback), count(store, tables.preference), count(store, tables.config_snapshot)) == (1, 0, 1)
    assert count(store, tables.inference_payload) == 20 and store.search(MARK) == []
    with pytest.raises(NotFound):
        store.log.turns(begun.conversation)
    assert [len(store.log.turns(one.conversation)) for one in others] == [2] * 20


@pytest.mark.parametrize("where", ["title", "system", "question", "answer", "thinking", "call", "decision", "config", "comment"])
def test_a_text_is_found_wherever_it_stands_whatever_its_case(store, where):
    mark = "Größe"
    at = {where: mark}
    begun = store.log.begin(
        Message("user", at.get("question", "q")),
        model="echo/echo",
        mode="standard",
        system=at.get("system", ""),
        config={"stop": [at.get("config", "")]},
        decision={"deep": [{"er": at.get("decision", "")}]},
    )
    calls = (ToolCall("look", {"up": [at.get("call", "")]}),)
    store.log.finish(
        begun.inference, status="complete", text=at.get("answer", ""), thinking=at.get("thinking", ""), tool_calls=calls
    )
    store.log.rename(begun.conversation, at.get("title", "t"))
    store.feedback.comment(begun.inference, at.get("comment", "c"))
    kept = ask(store)
    planned = store.log.forget(text="GRÖSSE", dry_run=True)
    assert (planned.conversations, planned.turns) == (1, 2)
    assert len(store.log.conversations()) == 2
    assert store.log.forget(text="GRÖSSE") == planned
    assert [one.id for one in store.log.conversations()] == [kept.conversation]


def test_forgetting_takes_ids_and_refuses_nothing_and_unknown_ones(store):
    one, two, three = ask(store), ask(store), ask(store)
    with pytest.raises(InputError):
        store.log.forget(text=" ")
    with pytest.raises(NotFound):
        store.log.forget(one.conversation, "f" * 32)
    assert store.log.forget(one.conversation, two.conversation[-10:]).conversations == 2
    assert [conversation.id for conversation in store.log.conversations()] == [three.conversation]
    assert store.log.forget(text="no such words").conversations == 0


def test_a_very_long_conversation_can_be_forgotten(store):
    begun = ask(store, "0")
    at, parent = store.log.turn(begun.answer).at, begun.answer
    with store.database.write() as connection:
        for n in range(1500):
            key = f"{n:032x}"
            row = {"conversation_id": begun.conversation, "role": "user", "content": "", "tool_name": "", "parent_turn_id": parent}
            connection.execute(tables.turn.insert().values(id=key, created_at=at, **row))
            parent = key
    assert store.log.forget(begun.conversation).turns == 1502


def test_deleting_is_quick_and_takes_the_rows(store):
    begun = ask(store, "gone", "gone")
    store.feedback.correct(begun.inference, "gone")
    store.log.delete(begun.conversation)
    assert store.log.conversations() == [] and store.search("gone") == []
    store.check()


def test_backups_of_a_migration_are_forgotten_too(home, file_store):
    begun = ask(file_store, MARK)
    with file_store.database.outside() as connection:
        backup = sqlite_file.back_up(connection, file_store.database.path, "0000")
    assert backup in files_with(home, MARK) and backup.stat().st_mode & 0o777 == 0o600
    assert file_store.log.forget(begun.conversation).backups == 1
    assert files_with(home, MARK) == []


def test_a_busy_file_is_told_and_forgetting_again_finishes(home, opened, monkeypatch):
    monkeypatch.setattr(sqlite_file, "BUSY_S", 0.05)
    store = opened("")
    begun = ask(store, MARK)
    reader = sqlite3.connect(store.database.path)
    monkeypatch.setattr("data.store.forget.scrub", _scrub_beside(reader))
    with pytest.raises(StoreError, match="traces may remain"):
        store.log.forget(begun.conversation)
    reader.close()
    assert store.log.conversations() == []
    monkeypatch.undo()
    monkeypatch.setenv("POINTSMAN_HOME", str(home))
    store.log.forget(text=MARK)
    assert files_with(home, MARK) == []


def _scrub_beside(reader):
    from data.store import forget

    real = forget.scrub

    def scrub(database):
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM turn").fetchall()
        real(database)

    return scrub


def test_the_export_is_plain_json_with_everything(store):
    begun = ask(store, "one", None, system="Be brief.", domain="d")
    calls = (ToolCall("look", {"up": "x"}, "1"),)
    store.log.finish(begun.inference, status="interrupted", text="1", thinking="hm", tool_calls=calls, usage=Usage(dropped_turns=1))
    store.feedback.rate(begun.inference, -1)
    store.feedback.correct(begun.inference, "uno")
    other = again(store, begun.question, "eins")
    store.feedback.prefer(other.inference, begun.inference, blind=True)
    first, second = [json.loads(json.dumps(row)) for row in store.log.export()]
    assert (first["conversation"], first["leaf"], first["active"], second["active"]) == (
        begun.conversation,
        begun.answer,
        False,
        True,
    )
    assert (first["title"], first["system"], first["domain"]) == ("one", "Be brief.", "d")
    question, answer = first["messages"]
    assert Message.from_dict(question) == Message("user", "one")
    assert Message.from_dict(answer) == Message("assistant", "1", "hm", calls)
    assert (answer["turn"], answer["inference"], answer["status"], answer["truncated"]) == (
        begun.answer,
        begun.inference,
        "interrupted",
        True,
    )
    assert (answer["correction"], [said["kind"] for said in answer["feedback"]]) == ("uno", ["thumb", "correction"])
    assert "correction" not in second["messages"][1]
    assert second["messages"][1]["feedback"][0]["rejected"] == begun.inference
    assert question["at"].endswith("+00:00")


@pytest.mark.parametrize(
    "bad",
    [
        {"status": "interrupted"},
        {"status": "cancelled"},
        {"status": "error"},
        {"status": "complete", "usage": Usage(dropped_turns=1)},
        {"status": "complete", "tainted": True},
        None,
    ],
    ids=["interrupted", "cancelled", "error", "truncated", "tainted", "pending"],
)
def test_only_sound_answers_may_train(store, bad):
    begun = ask(store, "good", "good")
    spoiled = ask(store, "bad", None, conversation=begun.conversation)
    if bad:
        store.log.finish(spoiled.inference, text="bad", **bad)
    ask(store, "after", "built on bad", conversation=begun.conversation)
    ask(store, "private", "private", incognito=True)
    (row,) = store.log.export(only_trainable=True)
    assert [message["content"] for message in row["messages"]] == ["good", "good"]
    assert row["leaf"] == begun.answer
    assert len(list(store.log.export())) == 2


def test_nothing_trainable_gives_nothing_and_branches_give_each_prefix_once(store):
    begun = ask(store, "q", None)
    assert list(store.log.export(only_trainable=True)) == []
    store.log.finish(begun.inference, status="complete", text="a")
    for _ in range(2):
        ask(store, "next", None, parent=begun.answer)
    (row,) = store.log.export(only_trainable=True)
    assert len(row["messages"]) == 2
    assert len(list(store.log.export())) == 2


def test_one_conversation_can_be_exported_and_writing_goes_on_meanwhile(store):
    one, _ = ask(store), ask(store)
    assert [row["conversation"] for row in store.log.export(conversation=one.conversation[-12:])] == [one.conversation]
    rows = store.log.export()
    next(rows)
    ask(store)
    assert len(list(rows)) == 1
    with pytest.raises(NotFound):
        next(store.log.export(conversation="f" * 32))
