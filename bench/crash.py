"""kill -9 while an answer streams: is the question kept, how much of the answer is lost, is the database sound?

    python bench/crash.py [--kills 200] [--real 20]

Each run starts a process that asks through Session.ask, reports every piece it yields through a pipe, and is killed at a
random moment; then the log is opened as the next start would. `--real` of the runs use the embedded model, the others the
echo engine at 200 pieces a second. Demanded: no question lost once Started was seen, no row left pending or streaming, at
most one second of answer lost, `PRAGMA integrity_check` says ok.
"""

import argparse
import os
import random
import selectors
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from data import paths
from data.store import open_store

CHILD = """
import os, sys
from data import config
from data.store import open_store
from router.engines import Engines
from router.engines.echo import Echo
from router.modes.base import Started, Text
from router.session import Session

model = sys.argv[1]
settings = config.load({"max_tokens": 4000, "sampling.seed": 7})
engines = Engines(settings, {"echo": Echo(delay_s=0.005)})
session = Session(settings, open_store(""), engines)
for event in session.ask(sys.argv[2], model=model):
    if isinstance(event, Started):
        os.write(1, f"started {event.question} {event.answer}\\n".encode())
    elif isinstance(event, Text):
        os.write(1, f"{len(event.text)}\\n".encode())
os.write(1, b"done\\n")
"""


@dataclass(frozen=True)
class Run:
    """What the killed process had shown (characters, with their times) and what the log kept of it."""

    started: bool
    question_kept: bool
    status: str
    lost_s: float
    sound: bool


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=200)
    arguments.add_argument("--real", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as home:
        os.environ["POINTSMAN_HOME"] = home
        runs = [one("smollm2-135m" if index < options.real else "echo/echo", chance) for index in range(options.kills)]
    shown = [run for run in runs if run.started]
    row = {
        "kills": len(runs),
        "answers begun": len(shown),
        "questions lost": sum(not run.question_kept for run in shown),
        "rows stuck": sum(run.status in ("pending", "streaming") for run in shown),
        "lost s, median": round(statistics.median(run.lost_s for run in shown), 3),
        "lost s, most": round(max(run.lost_s for run in shown), 3),
        "databases unsound": sum(not run.sound for run in runs),
    }
    print(harness.table([row], list(row)))
    harness.write("crash", {"rows": [row], "statuses": sorted({run.status for run in shown})})
    if row["questions lost"] or row["rows stuck"] or row["databases unsound"] or max(run.lost_s for run in shown) > 1.0:
        raise SystemExit("the log did not keep its promise")


def one(model: str, chance: random.Random) -> Run:
    """Start, let it stream for a random while, kill, open the log again."""
    question = f"{chance.random()} " + "Tell a very long story about a railway. " * 40
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, model, question], stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
    )
    lines = collect(child, chance.uniform(0.2, 3.5))
    started = next((line.split() for _, line in lines if line.startswith("started")), None)
    seen = [(moment, int(line)) for moment, line in lines if line.isdigit()]
    store = open_store("")
    try:
        if started is None:
            return Run(False, False, "", 0.0, sound())
        turn, answer = store.log.turn(started[1]), store.log.turn(started[2])
        assert answer.inference is not None
        kept = len(answer.message.content)
        missing = lost(seen, kept)
        return Run(True, turn.message.content == question, answer.inference.status, missing, sound())
    finally:
        store.close()


def collect(child: "subprocess.Popen[bytes]", seconds: float) -> list[tuple[float, str]]:
    """Every line the child reported until it was killed, with the moment it arrived."""
    assert child.stdout is not None
    end = time.monotonic() + seconds
    chunks: list[tuple[float, bytes]] = []
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while (left := end - time.monotonic()) > 0 and child.poll() is None:
            if selector.select(left):
                chunks.append((time.monotonic(), os.read(child.stdout.fileno(), 65536)))
    child.kill()
    child.wait()
    chunks.append((time.monotonic(), child.stdout.read()))
    child.stdout.close()
    lines, rest = [], b""
    for moment, data in chunks:
        *whole, rest = (rest + data).split(b"\n")
        lines += [(moment, line.decode()) for line in whole]
    return lines


def lost(seen: list[tuple[float, int]], kept: int) -> float:
    """Seconds between the first piece shown but not kept and the last one shown; 0.0 where all was kept."""
    total = 0
    for moment, characters in seen:
        total += characters
        if total > kept:
            return seen[-1][0] - moment
    return 0.0


def sound() -> bool:
    """Whether SQLite finds the database whole."""
    connection = sqlite3.connect(paths.data_dir() / "pointsman.db")
    try:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


if __name__ == "__main__":
    main()
