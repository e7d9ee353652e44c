"""The open database: SQLite file, SQLite in memory, or PostgreSQL; and the boundary at which their errors are translated.

Everything goes through `read()` and `write()`, one transaction each. Opening compares the schema's version with HEAD by one
plain query; Alembic is imported only to make or to migrate a database. A write transaction on SQLite begins with BEGIN
IMMEDIATE, so that writers of several threads and processes wait for each other (10 s at most) instead of failing.
Not covered: the SQLite file itself (sqlite_file.py), the tables (tables.py).
"""

import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError, StatementError

from data import paths
from data.errors import PointsmanError, StoreError, StoreReadOnly
from data.sanitise import one_line
from data.store import faults, sqlite_file
from data.store.tables import dump_json, load_json

HEAD = "0005"
"""The newest revision in migrations/versions, as a constant so that opening needs no Alembic."""
FILE = "pointsman.db"
INDEXES = ("search_index", "chunk_index")
"""The full-text indexes of SQLite."""
_USER = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
_MIGRATING = 0x706F696E74736D61  # the key of PostgreSQL's advisory lock: "pointsma" in ASCII


class Database:
    """An engine with its name for messages (`where`, no password in it) and its file, where it has one.

    Usable from several threads. Every method raises only StoreError and its children for what a database can do wrong.
    """

    def __init__(self, engine: Engine, where: str, path: Path | None = None) -> None:
        self.engine = engine
        self.where = where
        self.path = path
        self.sqlite = engine.dialect.name == "sqlite"
        self._writer = engine.execution_options(**{sqlite_file.BEGIN: sqlite_file.WRITING})
        shared = self.sqlite and path is None  # in memory: one connection for all threads
        self._turn: Any = threading.RLock() if shared else nullcontext()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection within one read transaction."""
        with self._turn, self.translated(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection within one durable write transaction: all of it is committed at the end, or nothing."""
        with self._turn, self.translated(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def outside(self) -> Iterator[Connection]:
        """A connection outside any transaction, for VACUUM and pragmas."""
        options: dict[str, Any] = {sqlite_file.BEGIN: ""}
        if not self.sqlite:
            options["isolation_level"] = "AUTOCOMMIT"
        with self._turn, self.translated(), self.engine.connect() as connection:
            yield connection.execution_options(**options)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the errors of SQLAlchemy and of the driver into StoreError and its children."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            if isinstance(error, StatementError) and isinstance(error.orig, PointsmanError):
                raise error.orig from error  # raised by a column type (tables.py)
            raise faults.translate(error, self.where) from error
        except UnicodeDecodeError as error:  # sqlite3 fails on its own message where that quotes a damaged schema
            raise faults.damaged(self.where, error.object.decode("utf-8", "replace")) from error

    def check(self, thorough: bool = False) -> None:
        """Read the whole database and raise StoreDamaged where a page is malformed; `thorough` compares indexes as well."""
        if not self.sqlite:
            with self.read() as connection:
                connection.exec_driver_sql("SELECT count(*) FROM inference_payload")
            return
        with self.read() as connection:
            pragma = "integrity_check" if thorough else "quick_check"
            found = connection.exec_driver_sql(f"PRAGMA {pragma}(1)").scalar()
            if found != "ok":
                raise faults.damaged(self.where, str(found).splitlines()[-1])
        if thorough:
            with self.write() as connection:
                for index in INDEXES:
                    connection.exec_driver_sql(f"INSERT INTO {index}({index}, rank) VALUES ('integrity-check', 1)")  # noqa: S608 constants

    def close(self) -> None:
        """Close every connection. Safe to call twice."""
        with self._turn, self.translated():
            self.engine.dispose()


def open_database(url: str = "", user: str | None = None) -> Database:
    """Open, make or migrate the database at a SQLAlchemy URL; "" is pointsman.db in the data folder.

    user: whose store on a server that several share, each in a schema of their own; "" for the one of all, None: as the settings
    say. A file is its owner's, whatever stands there.

    Raises StoreDamaged, StoreTooNew, StoreReadOnly, StoreFull or StoreError (unreachable, locked, unknown kind). An existing file
    is copied to a backup before it is migrated and otherwise left as it is.
    """
    address = _address(url)
    if address.drivername in ("sqlite", "sqlite+pysqlite") and not address.query:
        return _open_sqlite(address)
    if address.drivername in ("postgresql", "postgresql+psycopg"):
        return _open_postgres(address.set(drivername="postgresql+psycopg"), schema_of(_whose() if user is None else user))
    shown = address.render_as_string(hide_password=True)
    raise StoreError(f"the log cannot live in {shown}", "use sqlite:///PATH or postgresql+psycopg://… in store.url")


def _whose() -> str:
    from data import config  # here: a file of one's own needs no settings

    return config.load().store.user


def schema_of(user: str) -> str:
    """The schema that holds a user's tables; "" for no user. Raises StoreError for a name that cannot be one."""
    if user and not _USER.fullmatch(user):
        raise StoreError(
            f"store.user = {one_line(user, 60)!r} is no name for a store", "small letters, digits, dots, dashes and underscores"
        )
    return f"pointsman_{user}" if user else ""


def _address(url: str) -> URL:
    if not url:
        return URL.create("sqlite", database=str(paths.data_dir() / FILE))
    try:
        return make_url(url)
    except (SQLAlchemyError, ValueError) as error:
        shown = url.partition(":")[0][:40]  # no further: a password may follow
        raise StoreError(
            f"store.url = {shown!r}… is no database address", "use sqlite:///PATH or postgresql+psycopg://…"
        ) from error


def _open_sqlite(address: URL) -> Database:
    if address.database in (None, "", ":memory:"):
        database = Database(sqlite_file.sqlite_engine(None), "in memory")
        _upgrade_sqlite(database)
        return database
    path = Path(str(address.database)).expanduser().absolute()
    sqlite_file.ensure_file(path, _build)
    database = Database(sqlite_file.sqlite_engine(path), str(path), path)
    try:
        _migrate_file(database, path)
        with database.outside() as connection:
            sqlite_file.set_journal(connection)
    except BaseException:
        database.engine.dispose()
        raise
    return database


def _build(path: Path) -> None:
    database = Database(sqlite_file.sqlite_engine(path), str(path), path)
    try:
        _upgrade_sqlite(database)
    finally:
        database.engine.dispose()


def _migrate_file(database: Database, path: Path) -> None:
    if _version(database) == HEAD:
        return
    from data.store import upgrade  # imports Alembic

    upgrade.require_known(_version(database), database.where)
    with sqlite_file.locked(path):
        version = _version(database)
        if version != HEAD:
            with database.outside() as connection:
                sqlite_file.back_up(connection, path, version)
            _upgrade_sqlite(database)


def _upgrade_sqlite(database: Database) -> None:
    from data.store import upgrade  # imports Alembic

    with database.outside() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")  # rebuilding a table drops it; a no-op inside a transaction
        connection.commit()
        try:
            with connection.begin():
                connection.exec_driver_sql(sqlite_file.WRITING)
                upgrade.to_head(connection)
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
                if broken:
                    raise faults.damaged(database.where, f"a row of {broken[0]} refers to a missing row of {broken[2]}")
        finally:
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")


def _version(database: Database) -> str:
    with database.read() as connection:
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all()
    if len(found) != 1:
        raise faults.damaged(database.where, "it does not tell its version")
    return str(found[0])


def _open_postgres(address: URL, schema: str) -> Database:
    where = address.render_as_string(hide_password=True) + (f" ({schema})" if schema else "")
    try:
        engine = create_engine(
            address, pool_pre_ping=True, hide_parameters=True, json_serializer=dump_json, json_deserializer=load_json
        )
    except ModuleNotFoundError as error:
        raise faults.missing_driver(where) from error
    except SQLAlchemyError as error:
        raise faults.translate(error, where) from error
    event.listen(engine, "connect", _limit_waits)
    if schema:
        event.listen(engine, "connect", lambda connection, _: _stay_in(connection, schema), insert=True)
    database = Database(engine, where)
    try:
        with database.read() as connection:
            made = connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar()
        if not made or _version(database) != HEAD:
            _migrate_postgres(database, bool(made), schema)
    except BaseException:
        engine.dispose()
        raise
    return database


def _migrate_postgres(database: Database, made: bool, schema: str) -> None:
    from data.store import upgrade  # imports Alembic

    if made:
        upgrade.require_known(_version(database), database.where)
    with database.write() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
        if schema and not made:
            _make_schema(connection, schema)
        upgrade.to_head(connection)


def _make_schema(connection: Connection, schema: str) -> None:
    """Make it where it is missing; one that the server's administrator made needs no right to make others."""
    quoted = {"name": f'"{schema}"'}
    if connection.exec_driver_sql("SELECT to_regnamespace(%(name)s)", quoted).scalar() is None:
        connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')
    elif not connection.exec_driver_sql("SELECT has_schema_privilege(to_regnamespace(%(name)s), 'USAGE')", quoted).scalar():
        raise StoreReadOnly(
            f"permission denied: {schema} belongs to another role of the server", "log in as its owner, or correct store.user"
        )


def _stay_in(connection: Any, schema: str) -> None:
    connection.execute(f'SET SESSION search_path TO "{schema}"')
    connection.commit()


def _limit_waits(connection: Any, _: Any) -> None:
    connection.execute(f"SET SESSION lock_timeout = '{sqlite_file.BUSY_S:.0f}s'")
    connection.commit()
