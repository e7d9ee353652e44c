"""Stores to test with: each test that takes `store` or `url` runs on SQLite and on PostgreSQL.

PostgreSQL is the server at POINTSMAN_TEST_POSTGRES (a SQLAlchemy URL of a database in which schemas may be made), or else a
temporary one, started from the installed binaries on a Unix socket; without either those tests are skipped.
"""

import glob
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from data import paths
from data.chat import Message
from data.store import Begun, Store, open_store

FILE = "pointsman.db"
SERVER = os.environ.get("POINTSMAN_TEST_POSTGRES", "")  # read here: the fixture `home` clears the environment


def ask(store: Store, text: str = "Why?", reply: str | None = "Because.", **how) -> Begun:
    """A question in the log, answered with `reply` unless that is None."""
    how = {"model": "echo/echo", "mode": "standard", "config": {"temperature": 0.7}} | how
    begun = store.log.begin(Message("user", text), **how)
    if reply is not None:
        store.log.finish(begun.inference, status="complete", text=reply)
    return begun


def again(store: Store, question: str, reply: str | None = "Because!") -> Begun:
    """Another answer to a question."""
    begun = store.log.begin_again(question, model="echo/echo", mode="standard", config={"temperature": 0.7})
    if reply is not None:
        store.log.finish(begun.inference, status="complete", text=reply)
    return begun


def use(store: Store) -> None:
    """Read everything and write a little."""
    for conversation in store.log.conversations():
        store.log.turns(conversation.id)
    store.search("answer")
    list(store.log.export())
    ask(store)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server."""
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("PostgreSQL: the driver psycopg is not installed (extra postgres)")
    if SERVER:
        engine = create_engine(SERVER, poolclass=NullPool)
        try:
            engine.connect().close()
        except OperationalError as error:
            pytest.skip(f"PostgreSQL: the server at POINTSMAN_TEST_POSTGRES does not answer: {str(error.orig).splitlines()[0]}")
        yield SERVER
        return
    binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb")) or [path for path in [shutil.which("initdb")] if path]
    if not binaries:
        pytest.skip("PostgreSQL: POINTSMAN_TEST_POSTGRES is not set and no initdb is installed")
    with tempfile.TemporaryDirectory(prefix="pointsman-postgres-") as folder, _server(Path(binaries[-1]).parent, folder) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of the test's own, not made yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store' / 'pointsman.db'}"
        return
    server = make_url(request.getfixturevalue("postgres"))
    schema = f"test_{os.getpid()}_{abs(hash(request.node.nodeid)):x}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    yield server.update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
    engine.dispose()


@pytest.fixture
def opened() -> Iterator[Callable[[str], Store]]:
    """`open_store`, whose stores are closed after the test."""
    stores: list[Store] = []

    def open_one(url: str = "") -> Store:
        stores.append(open_store(url))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(url: str, opened: Callable[[str], Store]) -> Store:
    """A fresh store on either database."""
    return opened(url)


@pytest.fixture(scope="session")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a closed store with a few conversations in it."""
    file = tmp_path_factory.mktemp("content") / FILE
    with open_store(f"sqlite:///{file}") as store:
        for n in range(6):
            begun = ask(store, f"question {n} " * 20, f"answer {n} " * 50)
            store.feedback.correct(again(store, begun.question).inference, "better " * 20)
    return file.read_bytes()


@pytest.fixture
def path(home: Path, content: bytes) -> Path:
    """The file of that store in the test's home."""
    file = paths.ensure(paths.data_dir()) / FILE
    file.write_bytes(content)
    return file


@pytest.fixture
def file_store(opened: Callable[[str], Store]) -> Store:
    """A fresh store in the test's home: a SQLite file."""
    return opened("")


class _server:
    """A PostgreSQL server in `folder`, reachable through a Unix socket only."""

    def __init__(self, binaries: Path, folder: str) -> None:
        self.binaries, self.folder = binaries, folder
        self.user = {}
        if os.getuid() == 0:  # initdb refuses root
            names = {entry.pw_name for entry in pwd.getpwall()}
            name = "postgres" if "postgres" in names else "nobody"
            shutil.chown(folder, name)
            self.user = {"user": name, "extra_groups": []}

    def __enter__(self) -> str:
        options = "-c listen_addresses= -c fsync=off -c max_connections=50 -k " + self.folder
        self._run(
            "initdb", "-D", f"{self.folder}/data", "-U", "pointsman", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"
        )
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-w", "-l", f"{self.folder}/log", "-o", options, "start")
        return f"postgresql+psycopg://pointsman@/postgres?host={self.folder}"

    def __exit__(self, *_: object) -> None:
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "stop")

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.binaries / name, *arguments],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            **self.user,
        )
        if done.returncode:
            pytest.skip(f"PostgreSQL: {name} failed: {done.stderr.strip()[:200]}")
