"""kill -9 while `pointsman train` runs: does every run complete, with the loss curve of one that was never killed?

    python bench/train_resume.py [--kills 20] [--steps 36]

A small recipe (the triage pack on the embedded model, checkpoints every two steps) is trained once without a disturbance. Then it
is trained again and again in child processes that are killed at random moments, four of five while they train and one of five
while they start, and resumed until they are complete. Demanded: after each kill every folder called a checkpoint is whole; every
run completes; each step stands in metrics.jsonl once, with the same loss, gradient, learning rate and evaluations to the last bit
as in the undisturbed run; the adapters have the same bytes.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from trainer import checkpoints

RECIPE = """
name = "resume"
domain = "triage"
seed = 11
checkpoints = 2
[data]
limit = 96
[lora]
rank = 8
dropout = 0.05
[gates]
rows = 8
[[stages]]
kind = "sft"
max_steps = {steps}
batch = 4
micro_batch = 2
evaluate_every = 0.25
evaluate_rows = 8
"""
CLOCKS = ("tokens_per_s",)
ADAPTER = Path("adapter") / "adapter_model.safetensors"
POLL_S = 0.05
PATIENCE_S = 3600
"""Seconds after which a child that is not to be killed is taken to hang."""


@dataclass
class Tally:
    """What the killed runs came to."""

    kills: int = 0
    while_training: int = 0
    with_checkpoint: int = 0
    unsound: int = 0
    runs: int = 0
    completed: int = 0
    equal_curves: int = 0
    equal_adapters: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code, seconds until the first step was made and until the end, and what it wrote to stderr."""

    code: int
    until_training_s: float
    seconds: float
    said: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=36)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as name:
        folder = Path(name)
        os.environ.setdefault("POINTSMAN_HOME", str(folder / "home"))
        recipe = folder / "resume.toml"
        recipe.write_text(RECIPE.format(steps=options.steps))
        whole = train(recipe, folder / "whole")
        if whole.code not in (0, 3):
            raise SystemExit(f"the undisturbed run ended with {whole.code}: {whole.said[-2000:]}")
        wanted = finished(folder / "whole")
        print(f"undisturbed: {whole.seconds:.0f} s, of which {whole.until_training_s:.0f} s until the first step", flush=True)
        found = killed(recipe, folder, wanted, whole, options)
    report(found, curve(wanted), whole, options)


def killed(recipe: Path, folder: Path, wanted: Path, whole: Ended, options: argparse.Namespace) -> Tally:
    """Kill until there were enough kills; every run is brought to its end and compared."""
    chance, found = random.Random(options.seed), Tally()
    training_s = max(whole.seconds - whole.until_training_s, 1.0)
    while found.kills < options.kills:
        found.runs += 1
        place = folder / f"run-{found.runs}"
        begun = False
        while True:
            delay = None if found.kills >= options.kills else moment(chance, whole.until_training_s, training_s)
            ended = train(recipe, place, resume=begun, delay=delay)
            begun = any(place.glob(".*.part/state.json"))
            if ended.code != -9:
                break
            note_kill(found, place, ended)
        conclude(found, place, wanted, ended)
    return found


def moment(chance: random.Random, starting_s: float, training_s: float) -> tuple[str, float]:
    """When to kill: so many seconds after the start, or after the first step of this child."""
    if chance.random() < 0.2:
        return "start", chance.uniform(0, starting_s)
    return "training", chance.uniform(0, training_s * 0.4)


def train(recipe: Path, out: Path, resume: bool = False, delay: tuple[str, float] | None = None) -> Ended:
    """A run in a process of its own, killed after the delay where one is given."""
    given = ["--resume"] if resume else [str(recipe)]
    command = [sys.executable, "-m", "tui.cli", "train", *given, "--out", str(out), "--json"]
    errors = out.with_suffix(".err")
    started, wall = time.monotonic(), time.time_ns()
    training = 0.0
    with errors.open("wb") as said:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, cwd=harness.ROOT)
        while child.poll() is None:
            now = time.monotonic() - started
            training = training or (now if stepping(out, wall) else 0.0)
            since = {"start": now, "training": now - training if training else -1.0}
            if (delay and since[delay[0]] >= delay[1]) or now > PATIENCE_S:
                child.kill()
                child.wait()
                break
            time.sleep(POLL_S)
    return Ended(child.returncode, training, time.monotonic() - started, errors.read_text(errors="replace"))


def stepping(out: Path, since_ns: int) -> bool:
    """Whether this child has begun to write its journal."""
    return any(one.stat().st_mtime_ns > since_ns and one.stat().st_size for one in out.glob(".*.part/stages/*/metrics.jsonl"))


def note_kill(found: Tally, place: Path, ended: Ended) -> None:
    """Count a kill, and look at what it left."""
    found.kills += 1
    found.while_training += ended.until_training_s > 0
    left = [one for stage in place.glob(".*.part/stages/*/checkpoints") for one in checkpoints.all_of(stage)]
    spoilt = [one for one in left if not checkpoints.sound(one)]
    found.with_checkpoint += bool(left)
    found.unsound += len(spoilt)
    steps = [checkpoints.step_of(one) for one in left]
    print(f"kill {found.kills}: after {ended.seconds:.1f} s, checkpoints {steps}, {len(spoilt)} unsound", flush=True)


def conclude(found: Tally, place: Path, wanted: Path, ended: Ended) -> None:
    """Compare a run that came to its end with the undisturbed one."""
    if ended.code not in (0, 3):
        found.faults.append(f"exit code {ended.code}: {ended.said[-500:]}")
        return
    found.completed += 1
    run = finished(place)
    found.equal_curves += curve(run) == curve(wanted)
    found.equal_adapters += digest(run) == digest(wanted)
    print(f"run {found.runs} is complete, equal curve: {curve(run) == curve(wanted)}", flush=True)


def finished(out: Path) -> Path:
    """The one finished run in a folder."""
    return next(one for one in out.iterdir() if one.is_dir() and not one.name.startswith("."))


def curve(run: Path) -> list[tuple[str, int, Mapping[str, Any]]]:
    """Steps and evaluations of a run, without clocks."""
    lines = [json.loads(line) for file in sorted(run.glob("stages/*/metrics.jsonl")) for line in file.read_text().splitlines()]
    return [
        (line["doing"], line["done"], {name: value for name, value in line["values"].items() if name not in CLOCKS})
        for line in lines
    ]


def digest(run: Path) -> str:
    return hashlib.sha256((run / ADAPTER).read_bytes()).hexdigest()


def report(found: Tally, wanted: list[tuple[str, int, Mapping[str, Any]]], whole: Ended, options: argparse.Namespace) -> None:
    row = {
        "kills": found.kills,
        "while training": found.while_training,
        "with checkpoints": found.with_checkpoint,
        "unsound checkpoints": found.unsound,
        "runs": found.runs,
        "completed": found.completed,
        "equal curves": found.equal_curves,
        "equal adapters": found.equal_adapters,
    }
    print(harness.table([row], list(row)))
    losses = [values["loss"] for doing, _, values in wanted if doing == "training"]
    harness.write(
        "train_resume",
        {"rows": [row], "steps": options.steps, "undisturbed_s": round(whole.seconds, 1), "losses": losses, "faults": found.faults},
    )
    kept = found.completed == found.equal_curves == found.equal_adapters == found.runs
    if found.unsound or found.faults or not kept:
        raise SystemExit("a killed run did not come to the same end")


if __name__ == "__main__":
    main()
