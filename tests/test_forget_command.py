"""`pointsman forget`, going by age, everything as a zip, and conversations of which nothing is kept."""

import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from chatting import chat, scenario
from command_line import in_terminal, run
from forgettable import holding
from forgettable import run as run_of
from store_support import ask

from data import my_data, paths, retention
from data.store import open_store, tables
from data.store.chunks import Piece
from data.store.documents import Source
from router.engines import Engines
from router.engines.echo import Echo
from router.session import Session

MARK = "Quetzalcoatlus"
NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)


def asked(text: str, *options: str) -> dict:
    ran = run("ask", "-m", "echo", "--json", *options, text)
    assert ran.code == 0, ran
    return json.loads(ran.out)


# forget


def test_a_dry_run_tells_and_changes_nothing(home):
    asked(f"who is {MARK}?")
    ran = run("forget", MARK, "--dry-run")
    assert ran.code == 0 and "would be forgotten: 1 conversations with 2 turns" in ran.out
    assert holding(home, MARK)
    told = json.loads(run("forget", MARK, "--dry-run", "--json").out)
    assert (told["dry"], told["conversations"], told["left"]) == (True, 1, [])


def test_nobody_is_asked_where_nobody_is_there_and_yes_forgets(home):
    asked(f"who is {MARK}?")
    ran = run("forget", MARK)
    assert ran.code == 2 and "--yes" in ran.err and holding(home, MARK)
    ran = run("forget", MARK, "--yes")
    assert ran.code == 0 and "nothing is left" in ran.out
    assert holding(home, MARK) == []
    assert "nothing holds it" in run("forget", MARK, "--yes").err


def test_a_person_is_asked_once(home):
    asked(f"who is {MARK}?")
    code, sent = in_terminal("forget", MARK, typed=b"n\n", after=b"[y/N]")
    assert code == 130 and "cannot be undone" in sent and holding(home, MARK)
    code, sent = in_terminal("forget", MARK, typed=b"y\n", after=b"[y/N]")
    assert code == 0 and holding(home, MARK) == []


def test_an_id_and_last_mean_a_conversation_and_text_overrules(home):
    first = asked(f"the first question is about {MARK} and its wings")
    second = asked(f"the second one names the id {first['conversation'][-8:]}")
    told = json.loads(run("forget", second["conversation"][-8:], "--dry-run", "--json").out)
    assert told["conversations"] == 1
    told = json.loads(run("forget", "--text", first["conversation"][-8:], "--dry-run", "--json").out)
    assert told["conversations"] == 1
    assert json.loads(run("forget", "last", "--yes", "--json").out)["conversations"] == 1
    assert [one["title"] for one in json.loads(run("log", "list", "--json").out)] == [
        f"the first question is about {MARK} and its wings"
    ]


def test_models_are_told_with_their_commands_and_remembered(home, tmp_path):
    own = tmp_path / "own.csv"
    own.write_text(f"text,label\n{MARK},a\n")
    made = run_of("own", str(own))
    ran = run("forget", MARK, "--yes")
    assert f"run {made.name}: 1 of its training rows" in ran.out
    assert f"again without it: pointsman train {made / 'recipe.toml'}" in ran.out
    assert "--also" in ran.err
    assert made.name in run("forget").out
    assert json.loads(run("forget", "--json").out)["done"][0]["models"][0]["name"] == made.name
    ran = run("forget", MARK, "--models", "--also", str(own), "--yes")
    assert "removed" in ran.out and not made.exists() and own.read_text() == "text,label\n"


def test_what_is_left_ends_with_the_code_of_a_gate(home):
    paths.ensure(paths.data_dir())
    (paths.data_dir() / f"{MARK}.txt").write_text("x")
    ran = run("forget", MARK, "--yes")
    assert ran.code == 3 and "LEFT" in ran.out and "rename" in ran.out


def test_wrong_usage_is_told():
    assert run("forget", MARK, "--force").code == 2
    run("forget", "ab", "--yes").refused("too short")
    run("forget", MARK, "--also", "/no/such/file", "--yes").refused("there is no")
    assert "0 times" in run("forget").err


# By age


def old(store, days: float, text: str = "old"):
    begun = ask(store, text)
    with store.database.write() as connection:
        connection.execute(
            tables.conversation.update()
            .where(tables.conversation.c.id == begun.conversation)
            .values(updated_at=NOW - timedelta(days=days))
        )
    return begun


def test_only_what_is_older_goes_and_no_byte_of_it_stays(home, file_store):
    old(file_store, 31, f"about {MARK}")
    kept = old(file_store, 29)
    assert retention.purge(file_store, 30, NOW, dry_run=True) == retention.Purged(1, 0)
    assert holding(home, MARK)
    assert retention.purge(file_store, 30, NOW) == retention.Purged(1, 0)
    assert [one.id for one in file_store.log.conversations()] == [kept.conversation]
    assert holding(home, MARK) == []


def test_purging_works_on_either_database(store):
    old(store, 40)
    assert retention.purge(store, 30, NOW).conversations == 1 and store.log.conversations() == []


def starts(store, *after_hours: float, days: int = 30) -> list[retention.Purged | None]:
    return [retention.at_start(store, days, NOW + timedelta(hours=hours)) for hours in after_hours]


def test_a_new_setting_waits_for_a_day_and_tells(file_store):
    old(file_store, 40)
    first, soon, next_day = starts(file_store, 0, 1, 25)
    assert first is not None and first.waits == NOW + timedelta(days=1)
    assert soon is None and next_day == retention.Purged(1, 0)
    assert file_store.log.conversations() == []


@pytest.mark.parametrize("jump_days", [8, 400, 5000])
def test_a_clock_that_jumps_deletes_nothing_at_once(file_store, jump_days):
    starts(file_store, 0, 25)
    old(file_store, 0)
    (jumped,) = starts(file_store, 25 + jump_days * 24)
    assert jumped is None or jumped.waits is not None
    (back,) = starts(file_store, 26)
    assert back is None and len(file_store.log.conversations()) == 1


def test_a_changed_setting_waits_again_and_none_keeps_everything(file_store):
    old(file_store, 40)
    assert starts(file_store, 0, 25, days=0) == [None, None]
    starts(file_store, 0, days=100)
    (shorter,) = starts(file_store, 25, days=30)
    assert shorter is not None and shorter.waits is not None and len(file_store.log.conversations()) == 1


def test_a_damaged_state_starts_anew(file_store):
    old(file_store, 40)
    (paths.data_dir() / retention.FILE).write_text('{"seen": "yesterday"')
    (first,) = starts(file_store, 0)
    assert first is not None and first.waits is not None


def test_a_start_says_what_will_go_and_purge_does_it(home):
    with open_store() as store:
        begun = ask(store, "old")
        with store.database.write() as connection:
            connection.execute(tables.conversation.update().values(updated_at=datetime(2020, 1, 1, tzinfo=UTC)))
    paths.ensure(paths.log_dir())
    assert run("config", "set", "store.keep_days", "30").code == 0
    ran = run("log", "list")
    assert "older than 30 days" in ran.err and begun.conversation[-8:] in ran.out
    assert "would be forgotten: 1 conversations" in run("log", "purge", "--dry-run").out
    assert run("log", "purge").code == 2
    assert json.loads(run("log", "purge", "--yes", "--json").out)["conversations"] == 1
    assert "nothing to forget" in run("log", "purge", "--yes").out
    run("config", "set", "store.keep_days", "0")
    assert run("log", "purge").code == 2


# Everything as a zip


def test_everything_is_in_one_zip_of_plain_text_and_no_secret(home, tmp_path):
    with open_store() as store:
        begun = ask(store, f"who is {MARK}?")
        store.feedback.correct(begun.inference, "a pterosaur")
        store.documents.put(Source("/docs/a.md", "a.md", "0" * 64, "markdown", 1, 1), [Piece(1, 1, "a chunk")])
        store.routing.teach("where to", domain="travel")
    run("config", "set", "openai_compatible.api_key", "sk-secret")
    made = run_of("own")
    target = tmp_path / "mine.zip"
    ran = run("log", "export", "--everything", str(target))
    assert ran.code == 0, ran
    with zipfile.ZipFile(target) as archive:
        names = archive.namelist()
        (row,) = [json.loads(line) for line in archive.read("log.jsonl").splitlines()]
        assert row["messages"][1]["correction"] == "a pterosaur"
        assert json.loads(archive.read("documents.jsonl"))["text"] == "a chunk"
        assert json.loads(archive.read("routes.json"))[0]["text"] == "where to"
        assert json.loads(archive.read("registry.json"))["versions"] == []
        assert "sk-secret" not in archive.read("files/config/settings.toml").decode()
    assert f"files/data/runs/{made.name}/recipe.toml" in names
    assert not any(name.endswith((".safetensors", ".db", ".lock")) for name in names)
    with open_store() as store:
        my_data.export(store, target, weights=True)
    with zipfile.ZipFile(target) as archive:
        assert any(name.endswith(".safetensors") for name in archive.namelist())
    assert run("log", "export", "--everything", str(target), "--trainable").code == 2
    assert run("log", "export", "--weights").code == 2


def test_a_zip_that_cannot_be_written_leaves_none(home, tmp_path):
    (tmp_path / "file").write_text("")
    run("log", "export", "--everything", str(tmp_path / "file" / "mine.zip")).refused("cannot")


# Incognito


def test_nothing_of_an_incognito_question_is_on_the_disk(home):
    ran = run("ask", "-m", "echo", "--incognito", "--json", f"who is {MARK}?")
    assert ran.code == 0 and MARK in ran.out
    assert holding(home, MARK) == []
    assert run("ask", "-m", "echo", "--incognito", "-c", "x").code == 2


@scenario
async def test_nothing_of_an_incognito_chat_is_on_the_disk(home: Path):
    def opening(settings):
        return Session(settings, open_store(settings.store.url), Engines(settings, {"echo": Echo()}))

    async with chat(opening=opening, **{"store.url": "sqlite://"}) as driven:
        await driven.ask(f"who is {MARK}?")
        await driven.ask(f"and where does {MARK} live?")
        assert len(driven.store.log.conversations()) == 1
        assert holding(home, MARK) == []
    assert holding(home, MARK) == []


def test_the_chat_takes_no_old_conversation_with_it():
    code, sent = in_terminal("chat", "--incognito", "-c")
    assert code == 2 and "cannot go on" in sent
