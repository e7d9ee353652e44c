"""Opening a store: where it lives, what is refused, and that nothing but a log is taken for one."""

import sqlite3
import subprocess
import sys

import pytest
from store_support import FILE, ask, use

from data import paths
from data.errors import StoreDamaged, StoreError, StoreFull, StoreTooNew
from data.store import open_store, sqlite_file


def test_the_file_and_its_folder_are_the_users_alone(file_store):
    ask(file_store)
    file = paths.data_dir() / FILE
    assert file_store.info().where == str(file)
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    assert {one.name for one in file.parent.iterdir()} <= {FILE, f"{FILE}.lock"}


def test_every_connection_keeps_the_rules(file_store):
    with file_store.database.read() as connection:

        def value(name):
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar()

        names = ("busy_timeout", "synchronous", "foreign_keys", "trusted_schema", "mmap_size", "secure_delete", "cell_size_check")
        assert [value(name) for name in names] == [10_000, 2, 1, 0, 0, 1, 1]
        assert value("journal_mode") == sqlite_file.journal_mode()


@pytest.mark.parametrize(
    ("version", "mode"),
    [((3, 40, 1), "delete"), ((3, 51, 2), "delete"), ((3, 51, 3), "wal"), ((3, 52, 0), "delete"), ((3, 53, 0), "wal")],
)
def test_write_ahead_logging_waits_for_a_sqlite_without_the_race(monkeypatch, opened, version, mode):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    store = opened("")
    use(store)
    assert store.info().journal == mode
    store.close()
    monkeypatch.undo()


def test_a_log_left_in_wal_mode_is_brought_back(path, monkeypatch, opened):
    monkeypatch.setattr(sqlite_file, "journal_mode", lambda: "wal")
    opened("").close()
    monkeypatch.setattr(sqlite_file, "journal_mode", lambda: "delete")
    store = opened("")
    assert store.info().journal == "delete" and len(store.log.conversations()) == 6


def test_opening_a_log_of_this_version_imports_no_alembic(path):
    script = (
        "import sys, data.store as s; s.open_store().close(); sys.exit('alembic' in sys.modules or 'sqlalchemy.orm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_reading_leaves_the_file_as_it_is(path):
    before = path.read_bytes()
    with open_store() as store:
        assert len(store.log.conversations()) == 6
        store.search("answer")
        list(store.log.export())
    assert path.read_bytes() == before


def test_a_url_may_name_any_file_and_closing_twice_is_harmless(tmp_path, monkeypatch):
    folder = tmp_path / "a b%20c?#é"
    store = open_store(f"sqlite:///{tmp_path}/other.db")
    ask(store)
    store.close()
    store.close()
    assert (tmp_path / "other.db").exists()
    monkeypatch.setenv("POINTSMAN_HOME", str(folder))
    with open_store() as store:
        use(store)
    assert (folder / "data" / FILE).exists()


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "mysql://x/y",
        "postgresql+nodriver://x/y",
        "sqlite+nodriver:///x",
        "sqlite:///x?mode=ro",
        "://",
        "postgresql://h:port/x",
        "\0",
    ],
)
def test_an_address_that_is_none_is_refused_with_words(url):
    with pytest.raises(StoreError) as caught:
        open_store(url)
    assert caught.value.fix


def test_a_server_that_does_not_answer_is_told_without_the_password():
    pytest.importorskip("psycopg", reason="PostgreSQL: the driver psycopg is not installed (extra postgres)")
    with pytest.raises(StoreError, match="cannot reach the log") as caught:
        open_store("postgresql://me:hunter2@127.0.0.1:9/none?connect_timeout=2")
    assert "hunter2" not in str(caught.value) and "start the server" in caught.value.fix


def test_a_newer_log_is_left_alone(path):
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreTooNew, match="9999") as caught:
        open_store()
    assert "update Pointsman" in caught.value.fix and path.read_bytes() == before


def test_a_file_that_is_no_log_is_left_alone(path):
    other = sqlite3.connect(path.with_name("other.db"))
    other.execute("CREATE TABLE notes (body)")
    other.commit()
    other.close()
    foreign = path.with_name("other.db").read_bytes()
    for content in (b"", b"not a database at all", b"SQLite format 3\0", b"\0" * 5000, foreign, path.read_bytes()[:4096]):
        path.write_bytes(content)
        with pytest.raises(StoreDamaged, match="damaged") as caught:
            open_store()
        assert str(path) in caught.value.what and "keep the file" in caught.value.fix
        assert path.read_bytes() == content


def test_a_lost_file_whose_journal_is_left_is_no_new_log(path):
    path.rename(path.with_name("elsewhere"))
    path.with_name(FILE + "-journal").write_bytes(b"x" * 600)
    with pytest.raises(StoreDamaged, match="its pointsman.db-journal is left"):
        open_store()
    assert not path.exists()


def test_a_folder_in_the_place_of_the_file_is_told(home):
    (paths.data_dir() / FILE).mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot open|cannot use"):
        open_store()


def test_a_file_in_the_place_of_the_folder_is_told(home):
    home.write_text("x")
    with pytest.raises(StoreError) as caught:
        open_store()
    assert str(home) in caught.value.what and caught.value.fix


def test_a_crash_while_a_new_log_was_being_made_leaves_no_half_made_one(home):
    folder = paths.data_dir()
    folder.mkdir(parents=True)
    (folder / f".{FILE}.new").write_bytes(b"half")
    (folder / f".{FILE}.new-journal").write_bytes(b"half")
    with open_store() as store:
        use(store)
        store.check()
    assert {one.name for one in folder.iterdir()} <= {FILE, f"{FILE}.lock"}


def test_a_fault_while_making_a_new_log_leaves_none(home, monkeypatch):
    monkeypatch.setattr(sqlite_file, "_PRAGMAS", ("max_page_count=10",))
    with pytest.raises(StoreFull):
        open_store()
    assert {one.name for one in paths.data_dir().iterdir()} == {f"{FILE}.lock"}
