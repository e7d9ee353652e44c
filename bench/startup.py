"""How long until Pointsman is there: --help, the first token of `ask`, the first frame of the chat.

    python bench/startup.py [--rounds 9]

Each round starts every program once as a process of its own; seconds are medians over rounds, beside them the ratio to
`python -c "import textual"` of the same run and, where it is installed, to oterm. The first frame is the moment at which
the prompt's placeholder reaches a pseudo-terminal. No torch, transformers or pandas may be imported on the way.
"""

import argparse
import fcntl
import json
import os
import pty
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness

POINTSMAN = [sys.executable, "-m", "tui.cli"]
HEAVY = ("torch", "transformers", "pandas")
LIMITS_S = {"pointsman --help": 0.25, "pointsman ask, first token": 1.0, "pointsman, first frame": 0.6}
PLACEHOLDER = b"sk anything"  # the A stands under the cursor, in a style of its own


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=9)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as home:
        os.environ |= {"POINTSMAN_HOME": home, "POINTSMAN_OFFLINE": "1", "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        run([*POINTSMAN, "ask", "hello"])  # prepares the embedded model, once
        ways: dict[str, Callable[[], float]] = {
            'python -c "import textual"': lambda: run([sys.executable, "-c", "import textual"]),
            "pointsman --help": lambda: run([*POINTSMAN, "--help"]),
            "pointsman ask, first token": first_token,
            "pointsman, first frame": lambda: first_frame(POINTSMAN, PLACEHOLDER),
        }
        if shutil.which("oterm"):
            ways["oterm --version"] = lambda: run(["oterm", "--version"])
            ways["oterm, first frame"] = lambda: first_frame(["oterm"], b"oterm")
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                times[name].append(way())
        imported = {way: heavy(way) for way in ("--help", "ask")}
    base = statistics.median(times['python -c "import textual"'])
    rows = [
        {
            "program": name,
            "seconds": round(statistics.median(values), 3),
            "asked": LIMITS_S.get(name, ""),
            "of import textual": round(statistics.median(values) / base, 2),
        }
        for name, values in times.items()
    ]
    print(harness.table(rows, ["program", "seconds", "asked", "of import textual"]))
    print(f"heavy modules imported: {imported}")
    harness.write("startup", {"rows": rows, "heavy modules": imported})


def run(command: list[str]) -> float:
    """Seconds until the command has ended."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - started


def first_token() -> float:
    """Seconds until `ask --json-stream` gives its first piece of text."""
    started = time.perf_counter()
    command = [*POINTSMAN, "ask", "--json-stream", "--max-tokens", "4", "What is a pointsman?"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if json.loads(line).get("event") == "text":
                seconds = time.perf_counter() - started
                child.communicate()
                return seconds
    raise SystemExit("ask gave no text")


def first_frame(command: list[str], mark: bytes) -> float:
    """Seconds until `mark` appears on the pseudo-terminal the program runs in."""
    started = time.perf_counter()
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    seen = b""
    try:
        while mark not in seen:
            if time.perf_counter() - started > 30:
                raise SystemExit(f"{command[0]} painted nothing with {mark!r} in 30 s")
            seen += os.read(terminal, 65536)
        return time.perf_counter() - started
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


def heavy(verb: str) -> list[str]:
    """The heavy modules that a verb imports."""
    arguments = ["--help"] if verb == "--help" else ["ask", "--max-tokens", "1", "hi"]
    code = (
        "import sys, tui.cli\n"
        f"try:\n    tui.cli.main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    return [name for name in HEAVY if f"'{name}'" in found.stderr.splitlines()[-1]]


if __name__ == "__main__":
    main()
