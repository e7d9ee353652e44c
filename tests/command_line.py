"""Running the command line within the test's process, and in a process or a pseudo terminal of its own."""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from data import catalog, paths
from export import embedded
from tui.cli import main

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    def refused(self, *words: str) -> None:
        """Assert one line on stderr with these words, nothing on stdout, exit code 1."""
        assert self.code == 1, self
        assert self.out == ""
        assert self.err.startswith("pointsman: ")
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        for word in words:
            assert word in self.err, self.err


def run(*arguments: str, stdin: bytes | None = None) -> Ran:
    """Run in this process; stdin None is an empty one."""
    streams = {
        "stdin": io.TextIOWrapper(io.BytesIO(stdin or b"")),
        "stdout": io.TextIOWrapper(io.BytesIO(), encoding="utf-8"),
        "stderr": io.TextIOWrapper(io.BytesIO(), encoding="utf-8"),
    }
    with patch.multiple(sys, **streams):
        code = main(arguments)
        for name in ("stdout", "stderr"):
            streams[name].flush()
    return Ran(code, streams["stdout"].buffer.getvalue().decode(), streams["stderr"].buffer.getvalue().decode())


def spawn(
    *arguments: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    stdout: int = subprocess.PIPE,
    script: str = "import sys; from tui.cli import main; sys.exit(main())",
) -> Ran:
    """Run in a process of its own, as a shell would; `script` is what the process does."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        input=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, (done.stdout or b"").decode(), done.stderr.decode())


def in_terminal(
    *arguments: str,
    typed: bytes | Sequence[bytes] = b"",
    after: bytes = b"",
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "tui.cli"),
) -> tuple[int, str]:
    """Run in a pseudo terminal; returns the exit code and everything it was sent.

    `typed` goes to its keyboard as soon as `after` was sent, each of several when it was sent once more; `program` is what
    Python runs.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.environ.update({"TERM": "xterm-256color", **(env or {})})
        os.execv(sys.executable, [sys.executable, *program, *arguments])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    sent = b""
    waiting = [typed] if isinstance(typed, bytes) else list(typed)
    seen = 0
    while True:
        if waiting and sent.count(after) > seen:
            os.write(terminal, waiting.pop(0))
            seen += 1
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says EIO where the other side has closed
            break
        if not piece:
            break
        sent += piece
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), sent.decode("utf-8", "replace")


def prepared_as_packaged(name: str = "smollm2-135m") -> None:
    """Let this home look as if its embedded model had been prepared and the packaged form had won, in no time."""
    spec = catalog.specs()[name]
    file = paths.ensure(catalog.prepared_dir(name)) / "packaged.gguf"
    file.symlink_to(catalog.source_file(spec))
    made = catalog.Prepared(
        name=name,
        form="packaged",
        why="a test says so",
        file=file.name,
        sha256=spec.source.sha256,
        source_sha256=spec.source.sha256,
        runtime=embedded.runtime(),
        processor=embedded.processor(),
    )
    (file.parent / "prepared.json").write_text(made.model_dump_json())
