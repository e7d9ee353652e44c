"""Reading and searching files beneath the allowed folder, and every way to get out of it."""

import os
import socket
import sys
import threading
from pathlib import Path

import pytest

from bench import path_escapes
from data.chat import ToolCall
from data.config import ToolsSettings
from data.errors import SettingsError
from router.tools import Outcome, Toolbox
from router.tools.base import Surroundings
from router.tools.files import build

pytestmark = pytest.mark.skipif(os.open not in os.supports_dir_fd, reason="the system has no openat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "list.txt").write_text("milk\nbread\nBUTTER\n")
    (folder / "sub" / "Plan.md").write_text("# Plan\r\nbuy milk\r\n")
    (folder / "sub" / "deep" / "log").write_text("".join(f"line {number}\n" for number in range(1, 1001)))
    return folder


def call(folders: Path | list[Path], name: str, **arguments: object) -> Outcome:
    wanted = [folders] if isinstance(folders, Path) else folders
    settings = ToolsSettings(folders=tuple(map(str, wanted)))
    return Toolbox(build(Surroundings(settings))).call(ToolCall(name, arguments))


def test_no_tool_is_offered_where_no_folder_is_allowed() -> None:
    assert build(Surroundings()) == ()


@pytest.mark.parametrize("name", ["", "  ", "a\0b"])
def test_setting_that_names_no_folder_is_an_error(name: str) -> None:
    with pytest.raises(SettingsError, match=r"tools\.folders"):
        build(Surroundings(ToolsSettings(folders=(name,))))


def test_every_result_counts_as_text_of_strangers(folder: Path) -> None:
    assert all(tool.untrusted and tool.permission == "read" for tool in build(Surroundings(ToolsSettings(folders=(str(folder),)))))
    assert call(folder, "list_files").untrusted


def test_folder_is_listed_with_sizes_and_folders_first(folder: Path) -> None:
    assert call(folder, "list_files").text == "./\n  sub/\n  list.txt (18 bytes)"
    assert call(folder, "list_files", path="sub").text == "sub/\n  deep/\n  Plan.md (18 bytes)"


def test_lines_are_read_with_their_numbers(folder: Path) -> None:
    assert call(folder, "read_file", path="list.txt").text == "list.txt, lines 1-3 of 3:\n1: milk\n2: bread\n3: BUTTER"
    assert call(folder, "read_file", path="sub/Plan.md", first_line=2).text == "sub/Plan.md, lines 2-2 of 2:\n2: buy milk"
    assert call(folder, "read_file", path="sub/deep/log", first_line=5, last_line=6).text.endswith("5: line 5\n6: line 6")
    assert "lines 1-200 of 1000" in call(folder, "read_file", path="sub/deep/log").text


def test_whole_path_below_the_folder_is_taken(folder: Path) -> None:
    assert "bread" in call(folder, "read_file", path=str(folder / "list.txt")).text
    assert "bread" in call(folder, "read_file", path=".//./list.txt").text


def test_line_beyond_the_end_is_an_error_that_says_how_many_there_are(folder: Path) -> None:
    for first in (4, 0, -1, 10**30):
        found = call(folder, "read_file", path="list.txt", first_line=first)
        assert found.failed and "1 to 3" in found.text


def test_empty_and_binary_and_odd_files_are_described(folder: Path) -> None:
    (folder / "empty").write_bytes(b"")
    (folder / "picture").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "latin1.txt").write_bytes(b"caf\xe9\n")
    (folder / "bom.txt").write_bytes(b"\xef\xbb\xbfhello\n")
    assert call(folder, "read_file", path="empty").text == "empty is empty"
    assert call(folder, "read_file", path="picture").text == "picture is not text: a PNG picture, 108 bytes"
    assert "caf�" in call(folder, "read_file", path="latin1.txt").text
    assert call(folder, "read_file", path="bom.txt").text.endswith("1: hello")


def test_control_characters_of_files_and_names_are_made_visible(folder: Path) -> None:
    (folder / "evil.txt").write_text("\x1b]0;title\x07")
    (folder / "a\x1b[2J\nb").write_text("x")
    assert "␛]0;title␇" in call(folder, "read_file", path="evil.txt").text
    listed = call(folder, "list_files").text
    assert "\x1b" not in listed and "  a␛[2J␊b (not readable" in listed


def test_large_file_is_read_in_part_and_said_to_be(folder: Path) -> None:
    (folder / "large").write_text("0123456789\n" * 500_000)
    found = call(folder, "read_file", path="large")
    assert "only its first 4,000,000 of 5,500,000 bytes" in found.text and len(found.text) < 8_200


def test_missing_file_and_wrong_kind_are_errors_that_say_what_to_do(folder: Path) -> None:
    assert "list_files" in call(folder, "read_file", path="nope.txt").text
    assert "list_files" in call(folder, "read_file", path="sub").text
    assert call(folder, "list_files", path="list.txt").failed
    assert "use list_files" in call(folder, "read_file", path="").text


def test_text_is_found_in_any_case_below_the_folder(folder: Path) -> None:
    found = call(folder, "search_files", text="MILK").text
    assert found == "sub/Plan.md:2: buy milk\nlist.txt:1: milk"
    assert call(folder, "search_files", text="milk", path="list.txt").text == "list.txt:1: milk"
    assert "no line contains" in call(folder, "search_files", text="cheese").text


def test_pattern_is_found_and_a_wrong_one_named(folder: Path) -> None:
    assert call(folder, "search_files", text=r"^b\w+$", regex=True).text == "list.txt:2: bread\nlist.txt:3: BUTTER"
    wrong = call(folder, "search_files", text="(", regex=True)
    assert wrong.failed and "unterminated subpattern" in wrong.text


@pytest.mark.parametrize("pattern", ["(a|a)*c$", "(a+)+$b", "(.*a){30}x", "((a{1,999}){1,999}){1,999}z"])
def test_pattern_that_never_ends_is_ended(folder: Path, pattern: str) -> None:
    (folder / "many").write_text("a" * 5000 + "\n")
    found = call(folder, "search_files", text=pattern, regex=True)
    assert found.failed or "no line" in found.text


def test_search_text_has_a_bound(folder: Path) -> None:
    for text in ("", "x" * 301):
        assert "1 to 300" in call(folder, "search_files", text=text).text


def test_many_hits_are_counted_and_not_all_shown(folder: Path) -> None:
    lines = call(folder, "search_files", text="line", path="sub/deep").text.splitlines()
    assert len(lines) == 51 and lines[-1] == "[950 more lines]"


def test_several_folders_are_told_apart_by_whole_paths(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.txt").write_text("milk too\n")
    assert call([folder, other], "list_files").text == f"allowed folders:\n{folder}/\n{other}/"
    assert f"{other}/b.txt" in call([folder, other], "read_file", path="b.txt").text
    assert f"{other}/b.txt:1" in call([folder, other], "search_files", text="milk").text
    assert "milk too" in call([tmp_path / "gone", other], "read_file", path="b.txt").text


def test_allowed_folder_behind_a_link_of_the_system_works_but_may_not_be_one(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "door").symlink_to(tmp_path)
    assert "bread" in call(tmp_path / "door" / "notes", "read_file", path="list.txt").text
    (tmp_path / "alias").symlink_to(folder)
    refused = call(tmp_path / "alias", "read_file", path="list.txt")
    assert refused.failed and "link" in refused.text


@pytest.mark.parametrize(
    "name", [".env", ".git/config", "id_rsa", "ID_ED25519", "server.pem", "Secrets.yaml", "prod.env", ".hidden"]
)
def test_hidden_files_and_secrets_are_refused_and_the_error_says_so(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("KEY=swordfish\n")
    refused = call(folder, "read_file", path=name)
    assert refused.failed and "secrets" in refused.text and "swordfish" not in refused.text
    assert "swordfish" not in call(folder, "search_files", text="swordfis").text


@pytest.mark.parametrize("name", ["secretary.txt", "environment.md", "keys.md", "password-policy.md", "git.txt", "monkey"])
def test_harmless_names_are_read(folder: Path, name: str) -> None:
    (folder / name).write_text("harmless\n")
    assert "harmless" in call(folder, "read_file", path=name).text


def test_links_are_refused_also_those_that_stay_inside(folder: Path) -> None:
    (folder / "inside.txt").symlink_to("list.txt")
    (folder / "inside").symlink_to("sub")
    for path in ("inside.txt", "inside/Plan.md"):
        refused = call(folder, "read_file", path=path)
        assert refused.failed and "links are not followed" in refused.text


def test_second_name_of_a_file_outside_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("swordfish")
    os.link(tmp_path / "outside", folder / "hard")
    refused = call(folder, "read_file", path="hard")
    assert refused.failed and "hard link" in refused.text


def test_pipes_and_sockets_never_make_it_wait(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for name in ("pipe", "socket"):
            assert "device, pipe or socket" in call(folder, "read_file", path=name).text
        assert not call(folder, "search_files", text="milk").failed


def test_file_that_becomes_a_pipe_or_a_link_while_it_is_read_is_never_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("swordfish")
    done = threading.Event()

    def swap() -> None:
        place, link, pipe = folder / "swap", tmp_path / "link", tmp_path / "pipe"
        while not done.is_set():
            link.symlink_to(tmp_path / "outside")
            os.rename(link, place)
            os.mkfifo(pipe)
            os.rename(pipe, place)
            place.unlink()
            place.write_text("harmless")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        texts = {call(folder, "read_file", path="swap").text for _ in range(500)}
    finally:
        done.set()
        thread.join()
    assert not any("swordfish" in text for text in texts)


def test_pseudo_files_cannot_be_allowed() -> None:
    for place in ("/proc", "/proc/self", "/dev", "/sys", "/"):
        refused = call(Path(place), "read_file", path="version")
        assert refused.failed and "no folder of documents" in refused.text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the attempts are laid out for Linux")
def test_no_attempt_to_escape_reads_outside(tmp_path: Path) -> None:
    arena = path_escapes.prepare(tmp_path.resolve())
    wanted = path_escapes.attempts(arena, 500)
    assert len(set(wanted)) == 500
    results = [path_escapes.carry_out(arena, attempt, 0.01) for attempt in wanted]
    assert [result.attempt for result in results if result.escaped or result.stuck] == []


def test_attempts_would_be_noticed_if_they_succeeded(tmp_path: Path) -> None:
    arena = path_escapes.prepare(tmp_path.resolve())
    naive = path_escapes.USUAL["join"]
    assert path_escapes.usually(arena, path_escapes.read("..", "../outside/secret.txt"), naive, 0.01)
    assert (
        path_escapes.carry_out(arena, path_escapes.read("here", "secret.txt", folder="outside"), 0.01).escaped is False
    )  # a secret
    assert path_escapes.carry_out(arena, path_escapes.read("here", "plain.txt", folder="outside"), 0.01).escaped
