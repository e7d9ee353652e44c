"""How long a decision takes, idle and while the language model decodes on every core, beside aurelio's semantic-router.

    python bench/route_latency.py --data DIR [--questions 300] [--rounds 3]

DIR is laid out like clinc150 (POINTSMAN_DATASETS/clinc150 unless given). The heads are trained on its training part; the
questions are validation and out-of-scope rows in turn. "decide" is the whole decision as `Session.ask` makes it, the sentence
encoder included wherever it is asked; "rules and policy" has no learned head. semantic-router gets the same encoder (through
the same llama.cpp engine, no cache), the same training rows as utterances, and its own calibration; it is measured where it can
be imported. They take turns round by round, not question by question: a matrix library's threads may spin on after a call, and one
subject would pay for the other. "decoding" means that the embedded chat model writes at the same time, in this process, with as
many threads as there are cores.
"""

import argparse
import contextlib
import itertools
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from data import config
from data.chat import Message
from data.store import open_store
from router import labelled
from router.encoder import encoder
from router.engines import EMBEDDED, Engines
from router.engines.base import Request
from router.labelled import Labelled
from router.route import Snapshot, decide
from router.rules import Rules
from router.session import Session
from router.situation import Pins

RULES = "\n".join(
    f"""[[rule]]
name = "rule-{n}"
priority = {n}
when = 'keyword("word{n}", "two words {n}") and not regex("(?i)\\\\btest{n}\\\\b") and words < 40'
domain = "d{n}"
"""
    for n in range(50)
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, default=Path(os.environ.get("POINTSMAN_DATASETS", "")) / "clinc150")
    arguments.add_argument("--questions", type=int, default=300)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    found = labelled.load(options.data)
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as folder:
        from export import embedded

        embedded.prepare_all(print)
        os.environ.setdefault("POINTSMAN_HOME", folder)
        settings = config.load({"mode": "auto", "llamacpp.context": 2048})
        engines = Engines(settings)
        with open_store("sqlite://") as store:
            session = Session(settings, store, engines)
            session.situation.versions.train(found, session.situation.encode, words=engines.get("llamacpp").words())
            rows = measure(session, found, options)
            session.close()
    print(harness.table(rows, ["what", "load", "n", "p50 ms", "p90 ms", "p99 ms", "max ms", "right"]))
    path = harness.write("route_latency", {"rows": rows, "questions": options.questions, "rounds": options.rounds})
    print(path)


def measure(session: Session, found: Labelled, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of the table."""
    inside = [(text, found.domain_of[intent]) for text, intent in found.held]
    every = [*inside, *((text, "") for text in found.outside_held)]
    questions = every[:: max(1, len(every) // options.questions)][: options.questions]
    snapshot = session.situation.snapshot()
    bare = Snapshot(rules=Rules.parse(RULES, "bench"))
    context = session.situation.context("", [], Pins(mode="auto"))
    encode = encoder(session.engines)
    whole: Callable[[str], str] = lambda text: decide(text, context, snapshot, encode).domain  # noqa: E731
    subjects: dict[str, Callable[[str], str]] = {
        "decide": whole,
        "rules and policy": lambda text: decide(text, context, bare).domain,
    }
    peer = semantic_router(session, found)
    if peer is not None:
        subjects[f"semantic-router {metadata.version('semantic-router')}"] = peer
    rows = []
    for load in ("idle", "decoding"):
        with busy(session) if load == "decoding" else contextlib.nullcontext():
            times: dict[str, list[float]] = {name: [] for name in subjects}
            right = dict.fromkeys(subjects, 0)
            for turn in range(options.rounds):
                encode = encoder(session.engines)  # a cache of its own, so that every question is new in every round
                for name in list(subjects) if turn % 2 else list(reversed(subjects)):
                    for text, domain in questions:
                        started = time.perf_counter()
                        said = subjects[name](text)
                        times[name].append((time.perf_counter() - started) * 1000)
                        right[name] += said == domain
            rows += [row(name, load, taken, right[name]) for name, taken in times.items()]
    return rows


def row(name: str, load: str, times: list[float], right: int) -> dict[str, Any]:
    """One line of the table; times in milliseconds."""
    cuts = statistics.quantiles(times, n=100)
    return {
        "what": name,
        "load": load,
        "n": len(times),
        "p50 ms": cuts[49],
        "p90 ms": cuts[89],
        "p99 ms": cuts[98],
        "max ms": max(times),
        "right": "-" if name == "rules and policy" else round(right / len(times), 4),
    }


@contextlib.contextmanager
def busy(session: Session) -> Iterator[None]:
    """Let the embedded chat model write without end meanwhile."""
    engine = session.engines.get("llamacpp")
    stop = threading.Event()
    begun = threading.Event()

    def write() -> None:
        for number in itertools.count():
            messages = (Message("user", f"Tell me a very long story, part {number}."),)
            for chunk in engine.stream(Request(EMBEDDED, messages, max_tokens=1000)):
                begun.set() if chunk.text else None
                if stop.is_set():
                    return

    thread = threading.Thread(target=write)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def semantic_router(session: Session, found: Labelled) -> Callable[[str], str] | None:
    """aurelio's router with our encoder and the training rows as utterances; None where it is not installed."""
    try:
        from semantic_router import IndexedRouter, Route
        from semantic_router.encoders import DenseEncoder
    except ImportError:
        print("semantic-router is not installed: not measured")
        return None
    embed = session.engines.get("llamacpp").embed

    class MiniLM(DenseEncoder):  # type: ignore[misc]
        def __call__(self, docs: list[str]) -> list[list[float]]:
            return [[float(value) for value in vector] for vector in embed(docs)]

    texts = {name: [text for text, intent in found.train if found.domain_of[intent] == name] for name in found.domains}
    router = IndexedRouter(MiniLM(name="minilm"), [Route(name=name, utterances=texts[name]) for name in found.domains])
    return lambda text: router(text).name or ""


if __name__ == "__main__":
    main()
