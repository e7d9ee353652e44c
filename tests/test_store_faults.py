"""Damage, full disks, forbidden and locked files: each fault has its own error, says what to do, and takes nothing away."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event
from store_support import FILE, ask, use

from data.errors import NotFound, StoreDamaged, StoreError, StoreFull, StoreReadOnly
from data.store import faults, open_store, sqlite_file


@contextmanager
def as_nobody():
    """Act with the rights of another user, since permissions do not bind root."""
    if os.getuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def pragma(store, statement):
    """Every connection that is opened now runs the pragma first."""

    def run(connection, _):
        connection.execute(f"PRAGMA {statement}").fetchall()

    store.database.engine.dispose()
    event.listen(store.database.engine, "connect", run)
    yield
    event.remove(store.database.engine, "connect", run)
    store.database.engine.dispose()


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_file_works_or_says_so_and_is_left_alone_where_it_cannot_be_opened(path, seed):
    content = _mutant(path.read_bytes(), random.Random(seed))
    path.write_bytes(content)
    try:
        store = open_store()
    except StoreError as error:
        assert path.name in error.what and error.fix
        assert path.read_bytes() == content
        return
    try:
        use(store)
        store.check()
    except (StoreError, NotFound) as error:  # NotFound: an id that the list shows and its index has lost
        assert error.fix
    else:
        assert len(store.log.conversations()) > 0
    finally:
        store.close()


def _mutant(content, chance):
    """The bytes cut short, or with flipped bits anywhere or on the first page."""
    kind = chance.randrange(3)
    if kind == 0:
        return content[: chance.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(chance.choice((1, 5, 200))):
        changed[chance.randrange(len(content) if kind == 1 else 4096)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def test_a_damaged_file_is_not_written_by_opening_it(path):
    content = bytearray(path.read_bytes())
    content[100:200] = b"\xff" * 100  # the root page of the schema
    path.write_bytes(content)
    with pytest.raises(StoreDamaged):
        open_store()
    assert path.read_bytes() == content
    assert {one.name for one in path.parent.iterdir()} <= {FILE, f"{FILE}.lock"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE inference_payload SET tool_calls = '[{]'",
        "UPDATE inference_payload SET tool_calls = '[{\"name\": 1}]'",
        "UPDATE inference_payload SET tool_calls = '[3]'",
        "UPDATE inference SET decision = 'x'",
        "UPDATE inference SET created_at = 'yesterday'",
        "UPDATE inference SET created_at = 12",
        "UPDATE inference_payload SET text = CAST(x'ff41fe' AS TEXT)",
        "UPDATE turn SET parent_turn_id = id",
        "UPDATE turn SET parent_turn_id = (SELECT max(id) FROM turn)",
        "DROP TABLE feedback",
        "DELETE FROM alembic_version",
    ],
)
def test_damaged_values_in_sound_pages_are_told(path, statement):
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(StoreDamaged) as caught, open_store() as store:
        use(store)
    assert caught.value.fix


def test_a_thorough_check_finds_an_index_that_lacks_a_word(file_store):
    ask(file_store, "alpha", "beta")
    file_store.check()
    with file_store.database.write() as connection:
        connection.exec_driver_sql("UPDATE search_document SET body = 'gamma' WHERE kind = 'answer'")
    with pytest.raises(StoreDamaged):
        file_store.check()


def test_a_full_disk_takes_nothing_away_and_writing_goes_on_once_there_is_space(file_store):
    begun = ask(file_store)
    size = file_store.info().size_bytes
    with pragma(file_store, f"max_page_count={size // 4096 + 2}"):
        with pytest.raises(StoreFull, match="no space for the log") as caught:
            ask(file_store, "x" * 100_000, conversation=begun.conversation)
        assert "free some space" in caught.value.fix
        pending = ask(file_store, "small", None, conversation=begun.conversation)
        with pytest.raises(StoreFull):
            file_store.log.save_partial(pending.inference, "y" * 100_000)
        with pytest.raises(StoreFull):
            file_store.log.finish(pending.inference, status="complete", text="y" * 100_000)
        assert len(file_store.log.turns(begun.conversation)) == 4
    file_store.check()
    file_store.log.finish(pending.inference, status="complete", text="y" * 100_000)
    assert file_store.log.turns(begun.conversation)[-1].inference.status == "complete"


LIMITED = """
import resource, sys
from data.errors import StoreFull
from data.chat import Message
from data.store import open_store
store = open_store()
resource.setrlimit(resource.RLIMIT_FSIZE, (store.info().size_bytes + 8192,) * 2)
try:
    store.log.begin(Message("user", "x" * 200_000), model="echo/echo", mode="standard", config={})
except StoreFull as error:
    print(error.what)
print(len(store.log.conversations()))
"""


def test_a_file_size_limit_is_a_full_disk(path):
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True)
    told, left = done.stdout.splitlines()
    assert "no space for the log" in told and left == "6"
    with open_store() as store:
        use(store)
        store.check()


def test_a_log_that_may_not_be_written_can_still_be_read(monkeypatch):
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setenv("POINTSMAN_HOME", name)
        with open_store() as store:
            begun = ask(store, reply=None)
        file = Path(name) / "data" / FILE
        Path(name).chmod(0o755)
        file.parent.chmod(0o555)
        file.chmod(0o444)
        with as_nobody(), open_store() as store:
            assert len(store.log.turns(begun.conversation)) == 2
            assert store.search("why")
            with pytest.raises(StoreReadOnly, match="may not be written") as caught:
                ask(store)
            assert "writable" in caught.value.fix
        file.parent.chmod(0o755)


def test_a_folder_that_may_not_be_written_is_told(monkeypatch):
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        monkeypatch.setenv("POINTSMAN_HOME", name)
        with as_nobody(), pytest.raises(StoreReadOnly, match="may not be written"):
            open_store()
        (Path(name) / "data").mkdir()
        (Path(name) / "data").chmod(0o555)
        with as_nobody(), pytest.raises(StoreReadOnly, match="may not be written"):
            open_store()
        assert list((Path(name) / "data").iterdir()) == []
        Path(name).chmod(0o755)


def test_a_read_only_connection_is_told(file_store):
    with pragma(file_store, "query_only=ON"), pytest.raises(StoreReadOnly):
        ask(file_store)


def test_a_file_deleted_while_open_is_told_at_the_next_write(path):
    with open_store() as store:
        store.log.conversations()
        shutil.rmtree(path.parent)
        with pytest.raises(StoreError):
            ask(store)


def test_a_log_locked_by_another_program_is_told_after_the_wait(path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "BUSY_S", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    with open_store() as store:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="in use by another program") as caught:
            ask(store)
        assert "nothing was lost" in caught.value.fix
        other.execute("ROLLBACK")
        ask(store)
    other.close()


def test_a_sqlite_without_full_text_search_is_told():
    error = sqlite3.OperationalError("no such module: fts5")
    assert "FTS5" in faults.translate(error, "x").what
