"""One simulated user, one domain in which the embedded model fails, one `pointsman learn`: does the loop close, for the better?

    python bench/loop.py [--turns 150] [--unseen 160] [--seed 1] [--flips 1.0] [--only learn|poison|statistics]

A depot sorts messages into four desks whose names say nothing (HERON, OTTER, LYNX, IBIS), so the base can only guess. A user asks
150 times through `Session.ask`, likes what is right, corrects most of what is wrong and thumbs the rest down; then one command
learns, exports, replays and promotes. Accuracy is that of the model that answers the domain, by its contract, on unseen messages of
unseen wordings, before and after. Then a second user says the opposite of what is right (--flips: share of what is said so): a gate
must stop it. A bad canary and false promotions are bench/ab_statistics.py's, whose functions run here. Demanded: 20 points more,
general gate held, the poisoned learn stopped with nothing promoted, the canary stopped within 20 answers, false promotions at most
5 %.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from bench import ab_statistics, harness
from data import paths

GOAL_POINTS, GOAL_ANSWERS, GOAL_FALSE = 20.0, 20, 0.05
NULLS = 2_000
"""Simulated experiments in which nothing is the case."""
CORRECTED, LIKED = 0.85, 0.95
"""Shares of the wrong answers that the user corrects, and of the right ones that get a thumb."""
PACK_TRAIN, PACK_HELD = 6, 12
"""Examples of each desk in the pack."""

DESKS = ("HERON", "OTTER", "LYNX", "IBIS")
WORDINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "HERON": (
        (
            "the {time} from {place} left before it should have",
            "why does nothing run to {place} after {time} on {day}",
            "your timetable says {time} but the board in {place} says otherwise",
            "we missed the connection in {place} on {day} because of ten minutes",
            "could the {time} to {place} wait for the bus",
            "the leaflet for {place} still shows the departures of last year",
            "on {day} the {time} was forty minutes behind again",
            "is there an earlier departure than {time} towards {place}",
        ),
        (
            "nobody announced that the {time} via {place} starts later on {day}",
            "please print the departures for {place}, the old sheet ends at {time}",
            "I stood in {place} at {time} and the service had gone already",
            "how long do I have to change in {place} on {day}",
        ),
    ),
    "OTTER": (
        (
            "I left my {colour} {thing} on the {time} from {place}",
            "has anyone handed in a {colour} {thing} in {place}",
            "my son forgot his {thing} under the seat on {day}",
            "there is a {colour} {thing} lying on the platform in {place}",
            "I am looking for a {thing}, {colour}, missing since {day}",
            "a {thing} was found in the waiting room of {place}",
            "where can I collect the {thing} that your guard picked up",
            "my {colour} {thing} stayed in the luggage rack",
        ),
        (
            "on {day} my mother got off in {place} without her {thing}",
            "did the cleaners come across a {colour} {thing}",
            "somebody took my {thing} by mistake and gave it to you in {place}",
            "how do I get back the {colour} {thing} I dropped at {time}",
        ),
    ),
    "LYNX": (
        (
            "the signal outside {place} has been dark since {time}",
            "a rail is cracked near the bridge at {place}",
            "the barrier in {place} stays down with no train coming",
            "something sparks on the wire between {place} and the tunnel",
            "a tree lies across the track behind {place}",
            "the points at {place} squeal and do not lock since {day}",
            "water stands over the sleepers in {place}",
            "the platform edge in {place} is crumbling",
        ),
        (
            "since {day} the crossing lights in {place} blink without end",
            "ballast has slid away under the curve before {place}",
            "an insulator hangs loose over the line in {place}",
            "the mast beside the switch in {place} leans, seen at {time}",
        ),
    ),
    "IBIS": (
        (
            "we are {count} pupils going to {place} on {day}",
            "can I reserve {count} seats together for our choir",
            "what does a whole coach to {place} cost for {count} people",
            "our club of {count} wants to travel on {day} with bicycles",
            "please send an offer for {count} guests of a wedding in {place}",
            "is there a rebate for {count} pensioners on {day}",
            "the reservation for our class of {count} has the wrong date",
            "I need to add three people to the party of {count} to {place}",
        ),
        (
            "the scouts, {count} of them, would like a carriage to {place}",
            "how early must a firm of {count} book its outing on {day}",
            "our football team needs {count} places back from {place}",
            "cancel two of the {count} seats I ordered for {day}",
        ),
    ),
}
FILLERS: dict[str, tuple[str, ...]] = {
    "place": tuple("Norwood Ashby Elmswell Harwick Dunmore Kelby Thornton Marsden Oakley Winsford Brackley Selby".split()),
    "day": tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()),
    "time": tuple("6:12 7:05 7:48 8:15 9:20 10:02 12:31 14:07 15:55 16:40 17:18 18:26 19:09 21:33 22:50".split()),
    "colour": tuple("red green black white striped brown yellow blue".split()),
    "thing": tuple("umbrella scarf satchel violin laptop wallet helmet glove thermos camera walking-stick rucksack".split()),
    "count": tuple("12 15 18 24 27 30 33 36 42 48 55 60".split()),
}
ENDS = ("", "", "thank you", "please reply", "it is urgent", "kind regards", "I asked before", "what now")


def main() -> None:
    options = _options()
    results: dict[str, Any] = {}
    with _home(options.home):
        if options.only in ("", "learn", "poison"):
            _prepared()
        if options.only in ("", "learn"):
            results["learn"] = learnt(options)
        if options.only in ("", "poison"):
            results["poison"] = poisoned(options)
        if options.only in ("", "statistics"):
            results["statistics"] = guarded(options.seed)
    rows = [{"part": name, **{key: value for key, value in one.items() if not isinstance(value, dict | list)}}
            for name, one in results.items()]  # fmt: skip
    for row in rows:
        print(harness.table([row], list(row)), end="\n\n")
    passed = all(one["passed"] for one in results.values())
    harness.write("loop", {"goal points": GOAL_POINTS, "seed": options.seed, "passed": passed, **results})
    if not passed:
        raise SystemExit("a promise was not kept")


def learnt(options: argparse.Namespace) -> dict[str, Any]:
    """An honest user: accuracy on unseen messages before and after one command."""
    pack("desks", options.seed)
    unseen = list(messages(options.unseen, options.seed + 1000, held_out=True))
    before, base = accuracy("desks", "llamacpp/smollm2-135m", unseen)
    said = talked("desks", options.turns, options.seed, 0.0)
    code, found, seconds = _learn("desks")
    if code:
        return {"passed": False, "code": code, "reason": found.get("reason", ""), "learn": found, "minutes": seconds / 60}
    champion = _champion("desks")
    after, mine = accuracy("desks", champion, unseen)
    gates = {one["name"]: one for one in found["gates"]}
    general = all(gates[name]["passed"] for name in ("run: general loss", "run: general answers"))
    gained = sum(now and not was for was, now in zip(base, mine, strict=True))
    lost = sum(was and not now for was, now in zip(base, mine, strict=True))
    return {
        "turns": options.turns,
        **said,
        "unseen": len(unseen),
        "before": round(100 * before, 1),
        "after": round(100 * after, 1),
        "points": round(100 * (after - before), 1),
        "gained": gained,
        "lost": lost,
        "general gate": general,
        "minutes": round(seconds / 60, 1),
        "passed": 100 * (after - before) >= GOAL_POINTS and general,
        "learn": found,
    }


def poisoned(options: argparse.Namespace) -> dict[str, Any]:
    """A user whose feedback is the opposite of what is right: nothing may be promoted."""
    pack("desks_poisoned", options.seed)
    said = talked("desks_poisoned", options.turns, options.seed + 1, options.flips)
    code, found, seconds = _learn("desks_poisoned")
    failed = [one["name"] for one in found.get("gates", []) if one["passed"] is False]
    champion = _champion("desks_poisoned")
    return {
        "turns": options.turns,
        **said,
        "flips": options.flips,
        "code": code,
        "stopped by": ", ".join(failed),
        "champion": champion or "none",
        "minutes": round(seconds / 60, 1),
        "passed": code == 3 and not champion and bool(failed),
        "learn": found,
    }


def guarded(seed: int) -> dict[str, Any]:
    """The guard and the e-process at work on simulated answers, as bench/ab_statistics.py simulates them."""
    chance = np.random.default_rng(seed)
    ours = [
        row
        for row in (*ab_statistics.canaries(NULLS, chance), *ab_statistics.pairs(NULLS, chance))
        if row["statistic"] == "e-value"
    ]
    stopped = next(row for row in ours if row["case"] == "canary, 40 % bad")
    false = max(row["decided"] for row in ours if row["nothing is the case"])
    return {
        "experiments": NULLS,
        "bad canary stopped after (median)": stopped["median"],
        "false decisions": false,
        "passed": 0 < stopped["median"] <= GOAL_ANSWERS and false <= GOAL_FALSE,
        "rows": ours,
    }


def talked(domain: str, turns: int, seed: int, flips: float) -> dict[str, Any]:
    """The user's conversations with what they said about the answers; flips: the share about which they say the opposite."""
    from data import config, domains
    from data.store import open_store
    from router.engines import Engines
    from router.modes.base import Started, Text
    from router.session import Session
    from router.terms import Terms

    found, chance = domains.load(domain), random.Random(seed)
    settings = config.load({"sampling.temperature": 0.0, "max_tokens": 24})
    counts = {"right": 0, "liked": 0, "corrected": 0, "thumbed down": 0}
    store, engines = open_store(), Engines(settings)
    session = Session(settings, store, engines)
    terms = Terms(schema=found.asked)
    try:
        for number, (text, wanted) in enumerate(messages(turns, seed, held_out=False), start=1):
            inference, said = "", ""
            for event in session.ask(
                text, model="smollm2-135m", mode="standard", domain=domain, system=found.instruction(), terms=terms
            ):
                inference = event.inference if isinstance(event, Started) else inference
                said += event.text if isinstance(event, Text) else ""
            given = _label(said)
            counts["right"] += given == wanted
            _judge(store, inference, given, wanted, chance, counts, chance.random() < flips)
            if number % 25 == 0:
                print(f"{domain}: {number} turns", file=sys.stderr, flush=True)
    finally:
        session.close()
    return counts


def _judge(
    store: Any, inference: str, given: str, wanted: str, chance: random.Random, counts: dict[str, Any], flipped: bool
) -> None:
    if (given == wanted) != flipped:
        if chance.random() < LIKED:
            store.feedback.rate(inference, 1)
            counts["liked"] += 1
        return
    store.feedback.rate(inference, -1)
    if chance.random() < CORRECTED:
        wrong = [one for one in DESKS if one not in (wanted, given)]
        store.feedback.correct(inference, _opposite(wanted, wrong) if flipped else wanted)
        counts["corrected"] += 1
    else:
        counts["thumbed down"] += 1


def _opposite(wanted: str, wrong: Sequence[str]) -> str:
    """A wrong desk, the same one for each right one, so that the poison agrees with itself."""
    turned = DESKS[(DESKS.index(wanted) + 1) % len(DESKS)]
    return turned if turned in wrong else wrong[0]


def accuracy(domain: str, model: str, rows: Sequence[tuple[str, str]]) -> tuple[float, list[bool]]:
    """The share of right labels that a model gives through the domain's contract, and which are right."""
    from data import config, domains
    from router.classification import Classifier
    from router.engines import Engines

    engines = Engines(config.load())
    try:
        answers = Classifier(domains.load(domain), engines, model).classify([text for text, _ in rows])
        right = [one.label == label for one, (_, label) in zip(answers, rows, strict=True)]
    finally:
        engines.close()
    return sum(right) / len(right), right


def pack(name: str, seed: int) -> None:
    """The domain pack, in the home of this bench: a few examples of each desk, and limits."""
    chance, folder = random.Random(seed + 500), paths.ensure(paths.data_dir() / "domains" / name)
    tables = "".join(f'[[labels]]\nname = "{desk}"\ndescription = "messages for desk {desk}"\n' for desk in DESKS)
    (folder / "domain.toml").write_text(
        f'name = "{name}"\ntitle = "Depot desks"\ndescription = "Sorts messages to a railway depot."\nlabel_field = "label"\n'
        f'system = "You sort messages to a railway depot into its four desks."\n{tables}[gates]\naccuracy = 0.6\n',
        encoding="utf-8",
    )
    schema = {
        "type": "object",
        "properties": {"label": {"enum": list(DESKS)}},
        "required": ["label"],
        "additionalProperties": False,
    }
    (folder / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    lines = [
        json.dumps({"text": text, "label": desk, "output": {"label": desk}, "split": "train" if at < PACK_TRAIN else "validation"})
        for desk in DESKS
        for at, text in enumerate(_written(desk, chance, False) for _ in range(PACK_TRAIN + PACK_HELD))
    ]
    (folder / "examples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def messages(count: int, seed: int, held_out: bool) -> Iterator[tuple[str, str]]:
    """Messages with their desks; held_out: in wordings that nobody used before."""
    chance = random.Random(seed)
    for _ in range(count):
        desk = chance.choice(DESKS)
        yield _written(desk, chance, held_out), desk


def _written(desk: str, chance: random.Random, held_out: bool) -> str:
    wording = chance.choice(WORDINGS[desk][held_out])
    text = wording.format(**{name: chance.choice(values) for name, values in FILLERS.items()})
    return f"{text} {chance.choice(ENDS)}".strip()


def _learn(domain: str) -> tuple[int, dict[str, Any], float]:
    """`pointsman learn DOMAIN --to champion --json`: exit code, its JSON, seconds."""
    from tui import cli

    out, started = StringIO(), time.monotonic()
    with redirect_stdout(out):
        code = cli.main(["learn", domain, "--to", "champion", "--json"])
    lines = out.getvalue().strip()
    return code, json.loads(lines) if lines else {}, time.monotonic() - started


def _champion(domain: str) -> str:
    from data.store import open_store

    with open_store() as store:
        found = store.registry.aliases(domain).get("champion")
    return found.model if found else ""


def _label(said: str) -> str:
    try:
        return str(json.loads(said).get("label", ""))
    except (ValueError, AttributeError):
        return ""


def _prepared() -> None:
    from export import embedded

    for name in ("smollm2-135m", "minilm-l6"):
        embedded.prepare(name, lambda line: print(line, file=sys.stderr, flush=True))


@contextmanager
def _home(given: Path | None) -> Iterator[None]:
    os.environ["POINTSMAN_OFFLINE"] = "1"
    if given is not None:
        os.environ["POINTSMAN_HOME"] = str(given)
        yield
        return
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as home:
        os.environ["POINTSMAN_HOME"] = home
        yield


def _options() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--turns", type=int, default=150)
    arguments.add_argument("--unseen", type=int, default=160)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--flips", type=float, default=1.0, help="share of the poisoned user's feedback that is the opposite")
    arguments.add_argument("--only", choices=("", "learn", "poison", "statistics"), default="")
    arguments.add_argument("--home", type=Path, default=None, help="a home to keep; else a temporary one")
    return arguments.parse_args()


if __name__ == "__main__":
    main()
