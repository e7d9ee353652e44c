"""Files and folders that appear whole or not at all, also when their maker is killed, and the lock around making them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.errors import InputError, PointsmanError
from export import files


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.bin"
    with files.whole_file(target) as temporary:
        temporary.write_bytes(b"abc")
        assert not target.exists()
        assert temporary.parent == target.parent
    assert target.read_bytes() == b"abc"
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_file_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), files.whole_file(target) as temporary:
        temporary.write_bytes(b"half of the n")
        raise ZeroDivisionError
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for content in ("one", "two"):
        with files.whole_folder(target) as folder:
            (folder / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with files.whole_folder(target) as folder:
        (folder / "old").touch()
    with pytest.raises(ZeroDivisionError), files.whole_folder(target) as folder:
        (folder / "new").touch()
        raise ZeroDivisionError
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_what_killed_makers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".model.abc123").mkdir()
    (tmp_path / ".model.abc123" / "half").touch()
    (tmp_path / ".model-2.abc").mkdir()
    (tmp_path / ".model.lock").touch()
    with files.whole_folder(tmp_path / "model"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"model", ".model-2.abc", ".model.lock"}


def test_an_unwritable_place_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder: Is a directory"), files.whole_file(tmp_path / "folder"):
        pass
    with pytest.raises(InputError, match="folder: Is a directory"), files.lock(tmp_path / "folder"):
        pass
    with pytest.raises(PointsmanError, match="cannot make the folder"), files.lock(tmp_path / "file" / "x.lock"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


HOLDER = """
import sys, time
from pathlib import Path
from export import files
with files.lock(Path(sys.argv[1])):
    print('held', flush=True)
    time.sleep(600)
"""


def test_a_lock_is_waited_for_and_freed_when_its_holder_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "a.lock")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    waited: list[int | None] = []

    def waiting() -> None:
        waited.append(holder.poll())
        holder.kill()

    with files.lock(tmp_path / "a.lock", waiting):
        assert waited == [None]  # it was alive, and this is reached only after its end
        holder.wait()
    holder.stdout.close()
    with files.lock(tmp_path / "a.lock", lambda: waited.append(0)):
        pass
    assert waited == [None]


def test_two_threads_of_one_process_exclude_each_other_too(tmp_path: Path) -> None:
    import threading

    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        with files.lock(tmp_path / "a.lock"):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.01)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_digest_and_space(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(InputError, match="No such file"):
        files.sha256(tmp_path / "b")
    files.need_space(tmp_path, 1)
    with pytest.raises(InputError, match="MB are needed"):
        files.need_space(tmp_path, os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize + 1)
