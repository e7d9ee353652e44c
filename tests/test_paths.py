"""Folders follow POINTSMAN_HOME, and a file under its final name is whole."""

from pathlib import Path

import pytest

from data import paths
from data.errors import InputError, PointsmanError


def test_home_moves_every_folder(home: Path) -> None:
    folders = {paths.config_dir(), paths.data_dir(), paths.cache_dir(), paths.log_dir()}
    assert len(folders) == 4
    assert all(home in folder.parents for folder in folders)


def test_without_home_the_platform_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("POINTSMAN_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert paths.settings_file() == tmp_path / "pointsman" / "settings.toml"


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with paths.replacing(target) as out:
        out.write(b"first")
    with pytest.raises(RuntimeError, match="half way"), paths.replacing(target) as out:
        out.write(b"second")
        raise RuntimeError("half way")
    assert target.read_bytes() == b"first"
    assert list(target.parent.iterdir()) == [target]
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PointsmanError, match="cannot make the folder"):
        paths.ensure(tmp_path / "file" / "below")


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with (
        pytest.raises(InputError, match="No space left"),
        paths.replacing(target) as out,
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"x" * out.write(b"y"))
    assert not list(tmp_path.iterdir())
