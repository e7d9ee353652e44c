"""The sandbox for Python code, with the real bubblewrap: what a program can do, and everything that it must not."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from data.chat import ToolCall
from data.config import ToolsSettings
from data.errors import ToolError
from router.tools import Outcome, Toolbox, Wish, _sandbox
from router.tools.base import Surroundings
from router.tools.python import build


def _why_not() -> str:
    try:
        _sandbox.require()
    except ToolError as fault:
        return str(fault)
    return ""


needs_sandbox = pytest.mark.skipif(shutil.which("bwrap") is None or bool(_why_not()), reason=f"no sandbox here: {_why_not()}")


def run(code: str, seconds: float = 20.0, memory_mb: int = 256) -> Outcome:
    settings = ToolsSettings(python_s=seconds, python_mb=memory_mb)
    box = Toolbox(build(Surroundings(settings)), lambda wish: "once")
    return box.call(ToolCall("run_python", {"code": textwrap.dedent(code)}))


def attempt(expression: str, imports: str = "os") -> str:
    """What a program gets for an expression: its value, or the name of the exception."""
    found = run(
        f"import {imports}\ntry:\n    print(repr({expression}))\nexcept Exception as error:\n    print(type(error).__name__)"
    )
    assert not found.failed, found.text
    return found.text


@needs_sandbox
def test_output_and_errors_come_back() -> None:
    assert run("print(6 * 7)").text == "42"
    found = run("print('before')\n1 / 0")
    assert found.failed and found.text.startswith("before\n") and "line 2" in found.text and "ZeroDivisionError" in found.text
    assert run("x = 1").text.startswith("the program printed nothing")
    assert run("import sys; sys.exit(3)").text == "[the program ended with exit code 3]"
    assert "SyntaxError" in run("print(").text


@needs_sandbox
def test_standard_library_and_threads_and_own_files_work() -> None:
    found = run("""
        import asyncio, ctypes, decimal, sqlite3, ssl, threading, zoneinfo, tempfile
        thread = threading.Thread(target=print, args=("thread",)); thread.start(); thread.join()
        print(zoneinfo.ZoneInfo("Europe/Paris"), decimal.Decimal(1) / 8, asyncio.run(asyncio.sleep(0, "loop")))
        with tempfile.NamedTemporaryFile("w+") as file:
            file.write("kept"); file.seek(0); print(file.read())
    """)
    assert found.text == "thread\nEurope/Paris 0.125 loop\nkept"


@needs_sandbox
def test_user_is_shown_the_whole_program_and_asked_first() -> None:
    asked: list[Wish] = []

    def no(wish: Wish) -> str:
        asked.append(wish)
        return "no"

    code = "print(1)" + " " * 400 + "; import os\n" + "\n" * 100 + "os.remove('x')"
    found = Toolbox(build(Surroundings()), no).call(ToolCall("run_python", {"code": code}))
    assert found.failed and "did not allow" in found.text
    shown = asked[0].shown()
    assert asked[0].permission == "run" and "sandbox" in shown
    assert "print(1)⟦400 spaces⟧; import os" in shown and "empty lines⟧" in shown and "os.remove('x')" in shown


@needs_sandbox
@pytest.mark.parametrize(
    "connect",
    [
        "socket.create_connection(('127.0.0.1', 80), 2)",
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "socket.socket(40, socket.SOCK_STREAM)",
        "socket.getaddrinfo('example.com', 80)",
    ],
)
def test_no_network(connect: str) -> None:
    assert attempt(connect, "socket") in ("PermissionError", "gaierror", "OSError")


@needs_sandbox
def test_files_of_the_user_and_of_the_system_do_not_exist(home: Path) -> None:
    home.mkdir(parents=True)
    (home / "diary.txt").write_text("swordfish")
    here = str(Path(__file__).parent.parent)
    places = [
        str(Path.home()),
        "/root",
        str(home / "diary.txt"),
        here,
        "/etc/shadow",
        "/etc/passwd",
        "/proc/self",
        "/proc/1/environ",
        "/sys",
    ]
    found = run(f"import os\nprint([place for place in {places!r} if os.path.exists(place)], os.listdir('/home'))")
    assert found.text == "[] []"


@needs_sandbox
def test_packages_that_the_user_installed_are_not_seen() -> None:
    assert run("import importlib.util as u; print(u.find_spec('pydantic'), u.find_spec('pip'))").text == "None None"


@needs_sandbox
def test_secrets_of_the_environment_are_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-swordfish")
    found = run("import os, sys; print(dict(os.environ), sys.argv, os.getcwd())")
    assert "swordfish" not in found.text and "API_KEY" not in found.text
    assert set(names_of(found.text)) <= {"HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "PWD", "LC_CTYPE"}


@needs_sandbox
def test_nothing_can_be_written_outside_of_the_temporary_home() -> None:
    found = run("""
        import os, sys
        written = []
        places = {"/", "/usr/lib", "/lib", "/dev", "/etc", "/code", "/python", "/python/lib", "/dev/shm", "/run", "/var"}
        for place in places | {os.path.dirname(os.__file__), *sys.path}:
            try:
                open(place + "/x", "w").write("x"); written.append(place)
            except OSError:
                pass
        for change in (lambda: os.chmod(os.__file__, 0o777), lambda: os.mkdir("/new"), lambda: os.remove("/code/program.py")):
            try:
                change(); written.append("changed")
            except OSError:
                pass
        open("/home/x", "w").write("x"); open("/tmp/y", "w").write("y")
        print(written, sorted(os.listdir("/home")))
    """)
    assert found.text == "[] ['x', 'y']"
    assert run("import os; print(os.listdir('/home'))").text == "[]"


@needs_sandbox
@pytest.mark.parametrize(
    "fork", ["os.fork()", "os.posix_spawn('/usr/bin/env', ['env'], {})", "__import__('subprocess').run(['x'])"]
)
def test_fork_bomb_cannot_begin(fork: str) -> None:
    found = run(f"import os\nwhile True: {fork}")
    assert found.failed and ("PermissionError" in found.text or "FileNotFoundError" in found.text)


@needs_sandbox
def test_threads_have_an_end() -> None:
    found = run("""
        import threading, time
        threading.stack_size(32768)
        count = 0
        try:
            while count < 100_000:
                threading.Thread(target=time.sleep, args=(100,), daemon=True).start(); count += 1
        except RuntimeError:
            print(count < 10_000)
        import os; os._exit(0)
    """)
    assert found.text == "True"


@needs_sandbox
@pytest.mark.parametrize(
    "bomb",
    [
        "bytearray(10**9)",
        "[bytearray(10**6) for _ in range(10**5)]",
        "'x' * 10**10",
        "__import__('mmap').mmap(-1, 10**9)",
        "os.memfd_create('x')",
    ],
)
def test_memory_bomb_fails_within_the_sandbox(bomb: str) -> None:
    assert attempt(bomb) in ("MemoryError", "OSError", "PermissionError")


@needs_sandbox
def test_files_have_an_end() -> None:
    found = run("""
        count = 0
        try:
            while True:
                open(f"/home/{count}", "wb").write(bytes(8 << 20)); count += 1
        except OSError as error:
            print(count <= 8, error.errno)
        try:
            open("/home/big", "wb").write(bytes(40 << 20))
        except OSError as error:
            print(error.errno in (27, 28))
    """)
    assert found.text == "True 28\nTrue"


@needs_sandbox
@pytest.mark.parametrize("loop", ["while True: pass", "import time; time.sleep(1000)", "import signal; signal.pause()"])
def test_endless_program_is_ended(loop: str) -> None:
    found = run(f"print('begun')\n{loop}", seconds=1.0)
    assert found.failed and "ended after 1 s" in found.text and "begun" in found.text


@needs_sandbox
@pytest.mark.parametrize(
    "print_", ["print('y' * 1000)", "__import__('sys').stderr.write('y' * 1000)", "__import__('os').write(1, bytes(65536))"]
)
def test_endless_output_ends_the_program(print_: str) -> None:
    found = run(f"while True: {print_}")
    assert found.failed and "more than 64,000 bytes" in found.text and len(found.text) < 8_200


@needs_sandbox
def test_middle_of_a_long_output_is_left_out() -> None:
    found = run("print('begin'); print('x' * 20000); raise ValueError('the end')")
    assert found.text.startswith("begin") and "characters left out" in found.text and "ValueError: the end" in found.text


@needs_sandbox
def test_control_characters_of_the_output_are_made_visible() -> None:
    assert run(r"print('\x1b]0;title\x07')").text == "␛]0;title␇"


@needs_sandbox
@pytest.mark.parametrize(
    "call",
    [
        "os.unshare(0x10000000)" if hasattr(os, "unshare") else "ctypes.CDLL(None, use_errno=True).unshare(0x10000000)",
        "ctypes.CDLL(None).ptrace(0, 0, 0, 0)",
        "ctypes.CDLL(None).mount(b'x', b'/home', b'tmpfs', 0, 0)",
        "ctypes.CDLL(None).syscall(425, 1, 0)",
        "ctypes.CDLL(None).syscall(0x40000000 + 57)",
    ],
)
def test_system_calls_that_could_break_out_are_denied(call: str) -> None:
    assert attempt(call, "os, ctypes") in ("-1", "PermissionError")


@needs_sandbox
def test_program_cannot_signal_or_see_other_processes() -> None:
    found = run("""
        import os
        seen = []
        for number in [*range(1, 5), *range(4, 40_000, 7)]:
            if number != os.getpid():
                try:
                    os.kill(number, 0); seen.append(number)
                except OSError:
                    pass
        print(seen in ([], [1]), os.getuid() != 0)
    """)
    assert found.text == "True True"


@needs_sandbox
def test_code_reaches_the_sandbox_by_no_command_line(tmp_path: Path) -> None:
    assert run("import sys; print(sys.orig_argv[-1])").text == "/code/program.py"


@needs_sandbox
@pytest.mark.parametrize("code", ["", "  \n", "\ud800", "x" * 30_000])
def test_code_that_cannot_run_is_refused(code: str) -> None:
    assert run(code).failed


@needs_sandbox
def test_sandbox_ends_with_its_parent() -> None:
    source = (
        "from router.tools import _sandbox; _sandbox.require(); print('up', flush=True); _sandbox.run('while True: pass', 500, 256)"
    )
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"up\n"
        children = _wait_for(lambda: [pid for pid in _below(parent.pid) if len(_below(parent.pid)) >= 3])
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert _wait_for(lambda: not any(_lives(pid) for pid in children))


def test_without_bubblewrap_it_is_refused_before_the_user_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    asked: list[Wish] = []

    def yes(wish: Wish) -> str:
        asked.append(wish)
        return "always"

    found = Toolbox(build(Surroundings()), yes).call(ToolCall("run_python", {"code": "print(1)"}))
    assert found.failed and "bubblewrap" in found.text and "install" in found.text and asked == []


def test_bubblewrap_that_does_not_work_is_never_gone_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    found = Toolbox(build(Surroundings()), lambda wish: "always").call(ToolCall("run_python", {"code": "print(1)"}))
    assert found.failed and "No permissions to create new namespace" in found.text and "user namespaces" in found.text


def names_of(text: str) -> list[str]:
    """The keys of the dictionary that a text begins with."""
    return [part.split("'")[1] for part in text[1 : text.index("}")].split(", ")]


def _below(pid: int) -> list[int]:
    """All descendants of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *_below(child)]
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_for(what):
    for _ in range(200):
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")
