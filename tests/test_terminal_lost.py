"""A terminal window that is closed ends the chat, also where a parent in between swallows the hang-up signal, as make does."""

import os
import pty
import signal
import subprocess
import sys
import time


def test_the_chat_ends_with_its_terminal() -> None:
    shepherd, terminal = pty.fork()
    if shepherd == 0:
        chat = subprocess.Popen([sys.executable, "-m", "tui.cli"])
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os._exit(chat.wait() and 1)
    seen = b""
    while b"Ask anything" not in seen:
        seen += os.read(terminal, 65536)
    os.close(terminal)
    assert ended_within(shepherd, 60.0) == 0


def test_an_unforeseen_fault_leaves_one_line_and_a_file_instead_of_a_traceback() -> None:
    code = "import tui.app, tui.cli; tui.app.PointsmanApp.on_mount = lambda self: 1 / 0; raise SystemExit(tui.cli.main([]))"
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    seen = b""
    while True:
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # EIO: the other end is closed
            break
    assert ended_within(child, 60.0) == 1
    os.close(terminal)
    last = seen.rpartition(b"\x1b[?1049l")[2]
    assert b"ZeroDivisionError" in last and b"Traceback" not in seen


def ended_within(child: int, seconds: float) -> int:
    """The exit status of a child; a failure, and its end, where it takes longer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    raise AssertionError(f"the program was still there after {seconds} s")
