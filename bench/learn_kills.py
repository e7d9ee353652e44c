"""kill -9 at random moments of learn, promote and rollback: one champion, verified files, no orphan, and what broke off completes.

    python bench/learn_kills.py [--kills 300] [--seed 1] [--home DIR]

A tiny random model is really trained, exported, replayed and promoted, so that a learn takes seconds; its judgement alone is put
in, since such a model is good for nothing. Each attempt is a process of its own that learns (or promotes, or rolls back) and is
killed after a random part of the time that a whole one takes. After every kill the registry is looked at: a domain that has had a
champion has exactly one, whose files are what was registered. A learn that was killed is gone on with until it completes (after
five kills in a row it is left in peace once); then nothing hidden or half-made may lie in the data folder, and no learn has two
runs or two exports.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(1, str(Path(__file__).parent.parent / "tests"))

from bench import harness
from data import paths

IN_A_ROW = 5
"""Kills of one learn before it is left in peace."""
ROWS, MORE = 24, 3
"""Answers that were judged before the first learn, and before each further one."""
EPOCHS = 40
"""After which its answers end, which an export must prove."""
ACTIONS = ("promote", "rollback")


@dataclass
class Told:
    """What was seen. longest: seconds of a whole action, by which the next kills are timed."""

    kills: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    longest: dict[str, float] = field(default_factory=dict)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=300)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--home", type=Path, default=None, help="a folder to keep; else a temporary one")
    options = arguments.parse_args()
    with _home(options.home) as home, _tiny(home) as recipe:
        told = killed(options.kills, random.Random(options.seed), recipe)
    row = {
        "kills": told.kills.total(),
        **{f"of {name}": count for name, count in sorted(told.kills.items())},
        "learns completed": told.done["learn"],
        "promoted": told.done["promote"],
        "rolled back": told.done["rollback"],
        "faults": len(told.faults),
    }
    print(harness.table([row], list(row)))
    print("killed after the step:", dict(told.steps))
    for fault in told.faults[:20]:
        print(fault)
    harness.write("learn_kills", {"rows": [row], "killed after": dict(told.steps), "faults": told.faults, "seconds": told.longest})
    if told.faults:
        raise SystemExit("something did not survive")


def killed(kills: int, chance: random.Random, recipe: Path) -> Told:
    """So many kills; what came of them."""
    told, number = Told(), 0
    while told.kills.total() < kills:
        _say(ROWS if not number else MORE, seed=number)
        _learnt(recipe, told, kills, chance)
        number += 1
        for name in ACTIONS:
            if told.kills.total() < kills:
                _attempt(name, lambda name=name: _moved(name, chance.random()), told, chance)  # type: ignore[misc]
                _look(told, f"after {name}")
        print(f"{told.kills.total()} kills, {told.done['learn']} learns", file=sys.stderr, flush=True)
    return told


def _learnt(recipe: Path, told: Told, kills: int, chance: random.Random) -> None:
    """One learn, killed and gone on with until it completes."""
    from tui.learn import state as states

    for attempt in range(IN_A_ROW + 1):
        peace = attempt == IN_A_ROW or "learn" not in told.longest or told.kills.total() >= kills
        whole = _attempt("learn", lambda: _learn(recipe), told, chance, peace=peace)
        left = states.unfinished("desk")
        if not whole:
            told.steps[left.steps[-1].step if left and left.steps else "the beginning" if left else "the end"] += 1
        _look(told, "after learn")
        if whole:
            break
    ended = states.found("desk")[-1]
    if ended.outcome != "promoted":
        told.faults.append(f"{ended.id} ended {ended.outcome or 'nowhere'}: {ended.reason}")
    told.faults += orphans()


def _attempt(name: str, action: Callable[[], object], told: Told, chance: random.Random, *, peace: bool = False) -> bool:
    """Do something in a process of its own, killed at a random moment unless it is left in peace; whether it came to its end."""
    started = time.monotonic()
    pid = os.fork()
    if not pid:
        os._exit(_child(action))
    if not peace and name in told.longest:
        end = started + chance.random() * told.longest[name]
        while time.monotonic() < end:
            if os.waitpid(pid, os.WNOHANG)[0]:
                told.done[name] += 1
                return True
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        told.kills[name] += 1
        return False
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    told.longest[name] = max(told.longest.get(name, 0.0), time.monotonic() - started)
    told.done[name] += 1
    if code:
        told.faults.append(f"{name} ended with {code}")
    return True


def _child(action: Callable[[], object]) -> int:
    from data.errors import PointsmanError

    try:
        action()
    except PointsmanError as fault:
        print(f"{type(fault).__name__}: {fault}", file=sys.stderr, flush=True)
        return 1
    except Exception:  # told, and counted as a fault
        traceback.print_exc()
        return 2
    return 0


def _learn(recipe: Path) -> None:
    """As the command does, without its output."""
    from data import config
    from data.store import open_store
    from tui.learn import course
    from tui.learn import state as states

    with open_store() as store, states.locked("desk"):
        state, needed = course.begun(
            "desk", store, least=ROWS // 2, to="champion", recipe="" if states.unfinished("desk") else str(recipe)
        )
        if needed:
            course.run(state, store, config.load())


def _moved(name: str, share: float) -> None:
    """Promote some version, or roll the champion back."""
    from data.errors import NotFound
    from data.store import open_store

    with open_store() as store:
        if name == "promote":
            versions = store.registry.versions("desk")
            if not versions:
                return
            store.registry.promote(versions[int(share * len(versions))].id, who="bench", why="a kill", override="a bench")
        else:
            try:
                store.registry.rollback("desk", who="bench", why="a kill")
            except NotFound:  # nothing before it
                return


def _look(told: Told, when: str) -> None:
    """The registry after a kill: exactly one champion where there was one, whose files are what they were."""
    from data.errors import PointsmanError
    from data.store import open_store

    try:
        with open_store() as store:
            champions = [one for one in store.registry.versions("desk") if one.stage == "champion"]
            named = store.registry.aliases("desk").get("champion")
            had = any(one.to_stage == "champion" for one in store.registry.history("desk"))
            if len(champions) != int(had) or (named.id if named else "") != (champions[0].id if champions else ""):
                told.faults.append(f"{when}: {len(champions)} champions, the alias names {named.name if named else 'none'}")
            if named:
                store.registry.verify(named.id)
            store.check()
    except PointsmanError as fault:
        told.faults.append(f"{when}: {fault}")


def orphans() -> list[str]:
    """What lies in the data and cache folders that nobody will look for again, once no learn is under way."""
    from data import exports
    from trainer import run_folder
    from tui.learn import state as states

    found = []
    for place in (paths.data_dir(), paths.cache_dir()):
        for one in place.rglob(".*") if place.is_dir() else ():
            if not one.name.endswith(".lock"):
                found.append(f"orphan: {one.relative_to(place)}")
    for state in states.found("desk"):
        mark = f"-learn-{state.id[-6:]}-"
        for what, where in (("runs", run_folder.runs_dir()), ("exports", exports.folder())):
            names = (
                [one.name for one in where.iterdir() if mark in one.name and not one.name.startswith(".")] if where.is_dir() else []
            )
            if len(names) != 1:
                found.append(f"{state.id} has {len(names)} {what}")
    return found


def _say(count: int, seed: int) -> None:
    from data.store import open_store

    with open_store() as store:
        import_module("learnable").said(store, count, seed)


@contextmanager
def _tiny(home: Path) -> Iterator[Path]:
    """A recipe on a tiny random base, whatever is slow beside it cut short, and a judgement that lets it pass."""
    import peft  # noqa: F401  here, so that no child has to read them
    import torch
    import transformers  # noqa: F401

    from export import exporting
    from trainer import proof, train  # noqa: F401
    from trainer.gates import Gate
    from trainer.pairs import Pairs

    learnable = import_module("learnable")  # of the tests
    torch.set_num_threads(1)
    proven, exported = proof.prove, exporting.export

    def export(source: Any, forms: Any, out: Any, tell: Any) -> Any:
        return exported(source, ("F16",), out, tell)

    def prove(*given: Any, **more: Any) -> Any:
        found = proven(*given, **more)
        return replace(found, gates=(Gate("bench", 0.0, 1.0, True),), routable=True, base=Pairs(9, 9, 0, 20))

    learnable.domain()
    with ExitStack() as stack:
        stack.enter_context(learnable.short_general())
        stack.enter_context(patch.object(proof, "prove", prove))
        stack.enter_context(patch("tui.learn.judging.held", lambda place, domain: ()))
        stack.enter_context(patch("tui.learn.serving.gates_of", lambda found: ()))
        stack.enter_context(patch("tui.opening.prepare", lambda _: None))
        stack.enter_context(patch("tui.opening.prepare_named", lambda *_: None))
        stack.enter_context(patch.object(exporting, "export", export))
        yield learnable.recipe(home, learnable.base(home), epochs=EPOCHS)


@contextmanager
def _home(given: Path | None) -> Iterator[Path]:
    os.environ["POINTSMAN_OFFLINE"] = "1"
    with ExitStack() as stack:
        folder = given or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pointsman-bench-")))
        os.environ["POINTSMAN_HOME"] = str(folder / "home")
        yield folder


if __name__ == "__main__":
    main()
