"""The schema: tables.py and the migrations agree, old logs are upgraded with a backup and all at once, ids sort by time."""

import shutil
import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from store_support import ask

from data import paths
from data.errors import StoreError
from data.store import database, ids, open_store, recovery, tables, upgrade

CURRENT = database.HEAD
NEXT = '''
"""A later revision."""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{head}"


def upgrade():
    with op.batch_alter_table("inference") as batch:
        batch.add_column(sa.Column("assignment_id", sa.String(32)))
        batch.create_index("ix_inference_assignment_id", ["assignment_id"])
    op.execute("UPDATE conversation SET title = 'upgraded ' || title")
    {fault}
'''


@pytest.fixture
def later(tmp_path, monkeypatch):
    """Make this Pointsman one revision newer; the function takes a line that the migration runs last."""

    def make(fault="pass"):
        scripts = tmp_path / "migrations"
        shutil.rmtree(scripts, ignore_errors=True)
        shutil.copytree(upgrade.SCRIPTS, scripts)
        (scripts / "versions" / "r9999_later.py").write_text(NEXT.format(fault=fault, head=upgrade.head()))
        monkeypatch.setattr(upgrade, "SCRIPTS", scripts)
        monkeypatch.setattr(database, "HEAD", "9999")

    return make


def test_the_constant_is_the_newest_revision():
    assert upgrade.head() == database.HEAD


def test_the_migrations_make_what_tables_py_says(store):
    ours_alone = ("ix_inference_unfinished", "ix_search_document_terms", "terms", "ix_chunk_terms")
    one_a_domain = ("ix_model_version_champion", "ix_model_version_canary", "ix_experiment_running")

    def include(thing, name, kind, *_):
        return name not in (*ours_alone, *one_a_domain) and not str(name).startswith(("search_index", "chunk_index"))

    with store.database.read() as connection:
        options = {"compare_type": True, "include_object": include}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []


def test_rows_are_found_by_index(file_store):
    wanted = {
        str(recovery.UNFINISHED.compile()): "ix_inference_unfinished",
        "SELECT id FROM conversation ORDER BY updated_at DESC LIMIT 5": "ix_conversation_updated_at",
        "SELECT id FROM turn WHERE conversation_id = 'x'": "ix_turn_conversation_id",
        "SELECT id FROM feedback WHERE supersedes_id = 'x'": "ix_feedback_supersedes_id",
    }
    with file_store.database.read() as connection:
        for query, index in wanted.items():
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").fetchall()
            assert index in str(plan)


def test_an_older_log_is_upgraded_and_keeps_everything(url, opened, later):
    store = opened(url)
    begun = ask(store, "old question", "old answer")
    store.feedback.comment(begun.inference, "old remark")
    store.close()
    later()
    store = opened(url)
    assert [turn.message.content for turn in store.log.turns(begun.conversation)] == ["old question", "old answer"]
    assert store.log.conversation(begun.conversation).title == "upgraded old question"
    assert store.info().schema == "9999" and [hit.kind for hit in store.search("old remark")] == ["comment"]
    ask(store, "new", conversation=begun.conversation)
    with store.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(assignment_id), count(*) FROM inference").one() == (0, 2)


def test_an_upgrade_leaves_a_backup_of_the_older_log(home, later):
    with open_store() as store:
        begun = ask(store, "old question")
    later()
    open_store().close()
    backup = paths.data_dir() / f"pointsman.db.{CURRENT}.backup"
    assert backup.stat().st_mode & 0o777 == 0o600
    assert {one.name for one in paths.data_dir().iterdir()} == {"pointsman.db", "pointsman.db.lock", backup.name}
    backup.rename(paths.data_dir() / "pointsman.db")
    with open_store() as store:
        assert store.log.conversation(begun.conversation).title == "upgraded old question"


@pytest.mark.parametrize("fault", ["op.execute('SELECT nonsense FROM nowhere')", "op.execute('DELETE FROM turn')"])
def test_an_upgrade_that_fails_leaves_the_older_log(url, opened, later, monkeypatch, fault):
    with open_store(url) as store:
        begun = ask(store, "old question")
    later(fault)
    with pytest.raises(StoreError):
        opened(url)
    monkeypatch.undo()
    store = opened(url)
    assert (store.info().schema, store.log.conversation(begun.conversation).title) == (CURRENT, "old question")


def test_threads_that_open_a_new_log_at_once_make_it_once(url, opened):
    faults = []

    def open_one():
        try:
            ask(opened(url))
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(opened(url).log.conversations()) == 4


def test_threads_that_open_an_older_log_at_once_upgrade_it_once(home, later):
    with open_store() as store:
        begun = ask(store, "old")
    later()
    titles, faults = [], []

    def open_one():
        try:
            with open_store() as store:
                titles.append(store.log.conversation(begun.conversation).title)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (titles, faults) == (["upgraded old"] * 4, [])


def test_ids_are_version_7_uuids_that_sort_by_time_also_when_the_clock_steps_back(monkeypatch):
    clock = iter([10**18, 10**18, 10**18 - 10**15, 10**18 + 10**6, *[10**18] * 200])
    monkeypatch.setattr(ids, "_last", 0)
    monkeypatch.setattr(ids.time, "time_ns", lambda: next(clock))
    made = [ids.new_id() for _ in range(200)]
    assert made == sorted(set(made))
    assert all(len(one) == 32 and one[12] == "7" and one[16] in "89ab" for one in made)
    assert int(made[0][:12], 16) == 10**12


def test_ids_made_in_several_threads_are_distinct():
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend([ids.new_id() for _ in range(2000)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8000
