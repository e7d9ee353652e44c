"""Logs as released revisions wrote them still open whole, and a released revision still makes the same schema."""

import sqlite3
from pathlib import Path

import pytest
from alembic import command

from data import paths
from data.chat import Message, ToolCall, Usage
from data.store import database, open_store, regressions, upgrade
from data.store.sqlite_file import sqlite_engine

GOLDEN = sorted(Path(__file__).parent.glob("store_golden_*.sql"))
PARTS = ("table_xinfo", "index_list", "foreign_key_list")


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def golden(request, home) -> Path:
    """The database of a released revision, in the place of the user's."""
    file = paths.ensure(paths.data_dir()) / "pointsman.db"
    connection = sqlite3.connect(file)
    connection.executescript(request.param.read_text(encoding="utf-8"))
    connection.close()
    return file


def golden_revision(file: Path) -> str:
    """The revision that wrote the database, which its backup from before the upgrade names; else its own."""
    return next((path.name.split(".")[-2] for path in file.parent.glob("*.backup")), database.HEAD)


def schema(connection):
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {
        (table, part): sorted(connection.execute(f"PRAGMA {part}({table})").fetchall(), key=str)
        for table in tables
        for part in PARTS
    }


def test_a_golden_log_opens_with_everything_in_it(golden):
    with open_store() as store:
        store.check()
        talk = store.log.conversation("01a1f8ff0363752990cecdc1caa40137")
        assert (talk.title, talk.domain, talk.system, talk.turns) == ("Wie heißt das?", "trains", "Be brief.", 7)
        question, answer, then, cut = store.log.turns(talk.id, "01a1f8ff03cc719d9c0000a157f9d783")
        assert question.message == Message("user", "Wie heißt das?\nIn one word.")
        assert (answer.message.content, answer.siblings, answer.sibling_index) == ("Weichensteller.", 2, 1)
        assert (then.message.content, then.siblings, cut.message.content) == ("And then?", 2, "Then the tr")
        first = store.log.siblings(answer.id)[0]
        assert first.message == Message("assistant", "A pointsmen.", "hm", (ToolCall("look", {"up": "Weiche"}, "1"),))
        assert first.inference.usage == Usage(30, 10, 5, 0.5, 1.5, "stop", 0.25, 4096)
        assert (first.inference.seed, first.inference.decision["confidence"]) == (7, 0.75)
        assert store.log.config(first.inference.config_hash) == {"system": "Be brief.", "temperature": 0.5}
        assert [(said.kind, said.value) for said in first.feedback] == [
            ("thumb", -1),
            ("correction", None),
            ("comment", None),
            ("rating", 4),
        ]
        assert (answer.feedback[0].rejected, answer.feedback[0].blind, answer.feedback[0].chosen_left) == (
            first.inference.id,
            True,
            True,
        )
        assert [hit.kind for hit in store.search("pointsman")] == ["correction"] and store.search("secret") == []
        assert len(list(store.log.export())) == 4
        (test,) = regressions.of(store, "trains")
        assert (test.id, test.wanted, test.given) == (first.feedback[1].id, "A pointsman.", "A pointsmen.")
        assert test.messages == (Message("system", "Be brief."), question.message)


def test_a_released_revision_makes_the_schema_it_made_when_it_was_released(golden, tmp_path):
    released = sqlite3.connect(golden)
    (revision,) = released.execute("SELECT version_num FROM alembic_version").fetchone()
    engine = sqlite_engine(tmp_path / "fresh.db")
    with engine.begin() as connection:
        config = upgrade.configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    fresh = sqlite3.connect(tmp_path / "fresh.db")
    assert schema(fresh) == schema(released)
    fresh.close()
    released.close()


def test_what_later_revisions_added_is_there_or_empty(golden):
    with open_store() as store:
        answer = store.log.turns("01a1f8ff0363752990cecdc1caa40137", "01a1f8ff0367760facbbc4e924ff779c")[-1].inference
        if golden_revision(golden) < "0003":
            assert (answer.trace, store.routing.exemplars(), store.documents.all()) == ((), [], [])
            return
        assert list(answer.trace) == [{"call": {"arguments": {"up": "Weiche"}, "name": "look"}}]
        (taught,) = store.routing.exemplars()
        assert (taught.text, taught.domain, taught.mode, taught.inference) == (
            "Wie heißt das?\nIn one word.",
            "trains",
            "standard",
            answer.id,
        )
        tested = store.routing.evaluations()[0]
        assert (tested.model, tested.pairs, tested.lower) == ("ollama/tuned", 120, 0.0625)
        (kept,) = store.documents.all()
        assert kept.source.name == "points.md"
        (chunk,) = store.documents.chunks(store.documents.ranked("who sets points"))
        assert chunk.piece.heading == "Points"
        if golden_revision(golden) < "0004":
            assert (store.registry.versions(), store.experiments.all()) == ([], [])
            return
        named = store.registry.aliases("trains")
        assert {name: one.name for name, one in named.items()} == {"champion": "second", "previous": "first", "canary": "third"}
        assert store.registry.explain("trains").decision.passed and len(store.registry.history("trains")) == 7
        (trial,) = store.experiments.running()
        assert (trial.arms, trial.version) == ((("llamacpp/second", 0.9), ("llamacpp/third", 0.1)), named["canary"].id)
        assert store.experiments.drawn("01a1f8ff0363752990cecdc1caa40137")[0].arm == "llamacpp/third"
        assert [one.text for one in store.registry.notices()] == ["something happened"]
