"""One PostgreSQL server for several people: whoever opens the store sees, trains on and forgets their own rows alone."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import run as pointsman
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from store_support import ask

from data.datasets.sources import approved, from_log
from data.errors import NotFound, StoreError
from data.store import Store, open_store, regressions
from data.store.database import schema_of

ANN, BEN = f"ann-{os.getpid()}", f"ben-{os.getpid()}"


@pytest.fixture
def server(postgres: str) -> Iterator[str]:
    """The URL of a server that Ann and Ben share; their tables are gone afterwards."""
    yield postgres
    _run(postgres, *(f'DROP SCHEMA IF EXISTS "{schema_of(user)}" CASCADE' for user in (ANN, BEN)))


@pytest.fixture
def ann(server: str) -> Iterator[Store]:
    with open_store(server, ANN) as store:
        yield store


@pytest.fixture
def ben(server: str) -> Iterator[Store]:
    with open_store(server, BEN) as store:
        yield store


def _run(url: str, *statements: str) -> None:
    engine = create_engine(make_url(url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_each_lists_and_finds_their_own_alone(ann: Store, ben: Store) -> None:
    mine = ask(ann, "Where is the pelican?", "At sea.")
    ask(ben, "Where is the heron?", "In the reeds.")
    assert [one.title for one in ann.log.conversations()] == ["Where is the pelican?"]
    assert [one.title for one in ben.log.conversations()] == ["Where is the heron?"]
    assert ben.search("pelican") == []
    assert [hit.title for hit in ann.search("pelican")] == ["Where is the pelican?"]
    assert [row["title"] for row in ben.log.export()] == ["Where is the heron?"]
    with pytest.raises(NotFound):
        ben.log.turns(mine.conversation)
    with pytest.raises(NotFound):
        ben.feedback.rate(mine.inference, -1)
    assert (ann.info().conversations, ben.info().conversations) == (1, 1)


def test_each_trains_on_what_they_said_alone(ann: Store, ben: Store) -> None:
    ann.feedback.correct(ask(ann, "Where?", "There.", domain="desk").inference, "Here.")
    ben.feedback.rate(ask(ben, "When?", "Now.", domain="desk").inference, 1)
    assert [row.text for row in from_log(ann).rows()] == ["Where?"]
    assert [row.text for row in from_log(ben).rows()] == ["When?"]
    assert [row.text for row in approved(ben, "desk").rows()] == ["When?"]
    assert [one.wanted for one in regressions.of(ann, "desk")] == ["Here."]
    assert regressions.of(ben, "desk") == ()


def test_forgetting_touches_nobody_elses_rows(ann: Store, ben: Store) -> None:
    ask(ann, "The secret is marzipan.")
    kept = ask(ben, "Marzipan is sweet.")
    assert ben.log.forget(text="secret", dry_run=True).conversations == 0
    assert ann.log.forget(text="marzipan").conversations == 1
    assert ann.log.conversations() == []
    assert [one.id for one in ben.log.conversations()] == [kept.conversation]


def test_one_user_on_two_machines_has_one_store(server: str, ann: Store) -> None:
    asked = ask(ann)
    with open_store(server, ANN) as elsewhere:
        assert elsewhere.log.conversation(asked.conversation).id == asked.conversation
        assert schema_of(ANN) in elsewhere.info().where


def test_the_settings_say_whose_store_it_is(server: str, ben: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(ben, "Where is the heron?", "In the reeds.")
    monkeypatch.setenv("POINTSMAN_STORE__URL", server)
    monkeypatch.setenv("POINTSMAN_STORE__USER", BEN)
    done = pointsman("log", "list")
    assert done.code == 0, done.err
    assert "heron" in done.out
    monkeypatch.setenv("POINTSMAN_STORE__USER", ANN)
    assert "the log is empty" in pointsman("log", "list").err


def test_roles_of_the_server_keep_others_out(server: str, ann: Store) -> None:
    ask(ann, "The secret is marzipan.")
    role, schema = f"role_{os.getpid()}", schema_of(ANN)
    database = make_url(server).database or "postgres"
    _run(server, f'CREATE ROLE "{role}" LOGIN', f'GRANT CREATE ON DATABASE "{database}" TO "{role}"')
    url = make_url(server).set(username=role).render_as_string(hide_password=False)
    try:
        with open_store(url, BEN) as store:
            ask(store, "Mine.")
            assert [one.title for one in store.log.conversations()] == ["Mine."]
        with pytest.raises(StoreError, match="permission denied"):
            open_store(url, ANN)
        _run(server, f'REVOKE CREATE ON DATABASE "{database}" FROM "{role}"')
        with pytest.raises(StoreError, match="permission denied"):
            open_store(url, f"{BEN}-2")
    finally:
        _run(server, f'DROP SCHEMA IF EXISTS "{schema_of(BEN)}" CASCADE', f'DROP OWNED BY "{role}"', f'DROP ROLE "{role}"')
    assert [one.title for one in ann.log.conversations()] == ["The secret is marzipan."], schema


@pytest.mark.parametrize("user", ["Ann", 'a"; DROP SCHEMA public; --', "a b", "ä", "x" * 41, "-a"])
def test_a_name_that_is_none_is_refused_before_the_server_is_asked(user: str, home: Path) -> None:
    with pytest.raises(StoreError, match="no name for a store"):
        open_store("postgresql+psycopg:///nowhere?host=/nowhere", user)


def test_a_file_is_its_owners_whatever_the_settings_say(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_STORE__USER", ANN)
    with open_store() as store:
        ask(store)
    with open_store("", BEN) as store:
        assert len(store.log.conversations()) == 1
