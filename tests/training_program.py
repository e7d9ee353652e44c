"""In place of `pointsman train` in a process of its own: tells what a training tells, as fast as it can, and waits to be stopped.

    python tests/training_program.py train RECIPE [...] --events FILE
What it does is told by the recipe's name: `steady` trains until SIGINT or the file `enough`, `done` ends at once, `bad` breaks off.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from trainer import run_folder, underway
from trainer.events import Event, Sample
from tui.training_events import written

RUN = "steady-20261121-000000-aaaaaaaa"
RESULT = {
    "run": RUN,
    "passed": True,
    "gates": [{"name": "accuracy", "passed": True, "reached": 0.97, "limit": 0.9, "note": ""}],
    "metrics": {"accuracy": 0.97},
}
SAMPLE = Sample("someone took \x1b[31mmy card [bold]", "FRAUD", "INFO")


def main(recipe: str, events: str) -> int:
    if recipe == "bad":
        sys.stderr.write("pointsman: there is no recipe 'bad'; near: triage\n")
        return 1
    if "--dry-run" in sys.argv:
        print("memory 1.0 GB of 8.0 GB available, fits")
        return 0
    folder = underway.place(RUN)
    with written(events) as tell:
        tell(Event("preparing", note="reading the rows"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / underway.STATE).write_text('{"stages": []}')
        (folder / run_folder.RECIPE).write_text("")
        tell(Event("preparing", note=f"the run is {RUN}", run=RUN))
        for step in range(1, 7):
            values = {"loss": 2.0 / step, "tokens_per_s": 412.0, "learning_rate": 2e-4}
            tell(Event("training", "1 sft", step, 12, values, 200.0))
        tell(Event("judging", note="validation", samples=(SAMPLE,)))
        tell(Event("evaluating", "1 sft", 6, 12, {"eval_loss": 0.4, "macro_f1": 0.92}))
        tell(Event("training", "1 sft", 7, 12, {"loss": 0.25, "tokens_per_s": 400.0}, 180.0))
        while recipe != "done" and not underway.is_enough(folder):
            time.sleep(0.02)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    print(json.dumps(RESULT))
    return 0


def stopped(*_: object) -> None:
    sys.stderr.write(f"stopped; to go on: pointsman train --resume {RUN}\n")
    sys.stderr.flush()
    os._exit(130)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, stopped)
    words = sys.argv[2:]
    named = "steady" if words[0] == "--resume" else words[0]
    sys.exit(main(Path(named).name, words[words.index("--events") + 1]))
