"""Stores that are made at once in threads of one program."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data.store import open_store
from data.store.database import HEAD


def test_stores_made_at_once_in_threads_are_all_whole(tmp_path: Path) -> None:
    def made(number: int) -> str:
        with open_store(f"sqlite:///{tmp_path / f'{number}.db'}") as store:
            with store.database.read() as connection:
                return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(made, range(16)))
    assert versions == [HEAD] * 16
