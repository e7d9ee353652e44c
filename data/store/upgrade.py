"""Making and migrating the schema with Alembic. Imported only when there is something to make or to migrate.

Not covered: locks, backups and transactions, which are the caller's (database.py).
"""

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from data.errors import StoreTooNew

SCRIPTS = Path(__file__).parent / "migrations"
_ONE = threading.Lock()  # Alembic keeps the migration that runs in globals of its modules


def to_head(connection: Connection) -> None:
    """Run every missing migration within the connection's transaction."""
    config = configuration()
    config.attributes["connection"] = connection
    with _ONE:
        command.upgrade(config, "head")


def head() -> str:
    """The newest revision of the scripts."""
    return str(ScriptDirectory.from_config(configuration()).get_current_head())


def require_known(version: str, where: str) -> None:
    """Raise StoreTooNew where no script has this revision."""
    known = [script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()]
    if version not in known:
        raise StoreTooNew(
            f"the log {where} was written by a newer Pointsman (its schema is {version!r}, the newest known here {known[0]!r})",
            "update Pointsman",
        )


def configuration() -> Config:
    """Alembic's, pointing at the scripts; `attributes["connection"]` is to be the connection they run on."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
