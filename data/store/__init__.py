"""The store: the log of conversations with what was said about the answers, in SQLite or PostgreSQL.

    with open_store() as store:
        begun = store.log.begin(Message("user", "…"), model="echo/echo", mode="standard", config={})
        store.log.finish(begun.inference, status="complete", text="…")

Beside the log: the registry of model versions and the experiments. Not covered: datasets, which are folders.
"""

from contextlib import suppress
from types import TracebackType
from typing import Self

from sqlalchemy import func, select

from data import paths
from data.errors import InputError, StoreError
from data.store import tables
from data.store.answering import How
from data.store.database import Database, open_database
from data.store.documents import Library
from data.store.experiments import Experiments
from data.store.feedback import FeedbackLog
from data.store.log import Log
from data.store.recovery import recover
from data.store.registry import Registry
from data.store.routing import Routing
from data.store.rows import (
    Begun,
    Conversation,
    Evaluation,
    Exemplar,
    Feedback,
    FeedbackKind,
    FeedbackSource,
    Forgotten,
    Hit,
    Inference,
    Status,
    StoreInfo,
    Turn,
)
from data.store.search import Filters, Search

__all__ = [
    "Begun",
    "Conversation",
    "Evaluation",
    "Exemplar",
    "Experiments",
    "Feedback",
    "FeedbackKind",
    "FeedbackLog",
    "FeedbackSource",
    "Filters",
    "Forgotten",
    "Hit",
    "How",
    "Inference",
    "Library",
    "Log",
    "Registry",
    "Status",
    "Store",
    "StoreInfo",
    "Turn",
    "open_store",
]


class Store:
    """An open store. Its methods raise StoreError and its children for what the database can do wrong; any thread may call."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.log = Log(database)
        self.feedback = FeedbackLog(database)
        self.routing = Routing(database)
        self.documents = Library(database)
        self.registry = Registry(database)
        self.experiments = Experiments(database)
        self._search = Search(database)

    def search(
        self, text: str, *, model: str = "", conversation: str = "", limit: int = 50, filters: Filters | None = None
    ) -> list[Hit]:
        """Where all the words of `text` occur, best first; see `data.store.search.Search.find`."""
        return self._search.find(text, model=model, conversation_id=conversation, limit=limit, filters=filters or Filters())

    def info(self) -> StoreInfo:
        """Where the store is and how much is in it."""
        with self.database.read() as connection:
            counts = [
                connection.execute(select(func.count()).select_from(one)).scalar() or 0
                for one in (tables.conversation, tables.inference)
            ]
            version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            sqlite = self.database.sqlite
            journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar() if sqlite else ""
            server = connection.exec_driver_sql("SELECT sqlite_version()" if sqlite else "SHOW server_version").scalar()
        size = self.database.path.stat().st_size if self.database.path else 0
        name = "SQLite" if sqlite else "PostgreSQL"
        return StoreInfo(self.database.where, f"{name} {server}", str(version), str(journal), size, *counts)

    def check(self) -> None:
        """Read the whole database and its indexes; raises StoreDamaged where something is wrong."""
        self.database.check(thorough=True)

    def close(self) -> None:
        """Close every connection. Safe to call twice."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_store(url: str = "", user: str | None = None) -> Store:
    """Open the store at a SQLAlchemy URL ("": pointsman.db in the data folder; "sqlite://": in memory, gone when closed).

    user: whose, on a PostgreSQL server that several share; None: as `store.user` says. Nobody sees another's rows.

    Makes and migrates it where needed, and marks the answers that a crash left open as interrupted. Raises StoreDamaged,
    StoreTooNew, StoreReadOnly, StoreFull or StoreError; what was in the file is still there.
    """
    database = open_database(url, user)
    try:
        recover(database)
        _finish_forgetting(database)
    except BaseException:
        database.close()
        raise
    return Store(database)


def _finish_forgetting(database: Database) -> None:
    """Carry out what a crash left of a forgetting (data.forgetting.journal); costs one look for a folder where there was none."""
    if database.sqlite and database.path is None:
        return
    folder = paths.data_dir() / "forgetting"
    if not any(folder.glob("[0-9a-f]*.json")):
        return
    from data.forgetting import journal

    with suppress(StoreError, InputError):  # a busy file, a full disk: the next start tries again, and `pointsman forget` tells
        journal.finish(database)
