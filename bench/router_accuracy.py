"""Claim: the learned router beats TF-IDF with logistic regression and MiniLM with a linear head, abstains, and withstands slips.

Run with the folders of CLINC150 and BANKING77, and, where there are, their test files; see `pointsman router eval`.
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from data.config import Settings
from router import evaluation, labelled
from router.encoder import encoder
from router.engines import Engines
from router.engines.llamacpp import LlamaCpp

COLUMNS = ("data", "router", "domain", "intent", "auroc", "f1", "ece", "flipped")


def main() -> None:
    """Measure every data set that is there."""
    options = argparse.ArgumentParser(description=__doc__)
    root = Path(os.environ.get("POINTSMAN_DATASETS", "."))
    options.add_argument("--data", action="append", type=Path, help="a folder; may be given several times")
    options.add_argument("--test", action="append", type=Path, default=[], help="its test file, in the same order")
    given = options.parse_args()
    folders = given.data or [root / "clinc150", root / "banking77"]
    engines = Engines(Settings())
    engine = engines.get("llamacpp")
    words = engine.words() if isinstance(engine, LlamaCpp) else ()
    rows, everything = [], {}
    for place, folder in enumerate(folders):
        found = labelled.load(folder)
        tested = labelled.load(folder, given.test[place]) if place < len(given.test) else None
        started = time.monotonic()
        figures = evaluation.evaluate(evaluation.parts(found, tested), encoder(engines), words=words, progress=_say)
        figures["seconds"] = round(time.monotonic() - started, 1)
        if len(found.domains) < len(found.intents):
            figures["few_shots"] = evaluation.few_shots(evaluation.parts(found, tested), encoder(engines), words=words)
        everything[found.name] = figures
        rows += [_row(found.name, "pointsman", figures), *(_row(found.name, *one) for one in figures["baselines"].items())]
    engines.close()
    print(harness.table(rows, COLUMNS))
    harness.write("router_accuracy", {"rows": rows, "figures": everything})


def _row(data: str, name: str, figures: dict) -> dict:
    outside = figures.get("oos") or {}
    return {
        "data": data,
        "router": name,
        "domain": round(100 * figures["accuracy"]["domain"], 2),
        "intent": round(100 * figures["accuracy"]["intent"], 2),
        "auroc": round(outside["auroc"], 4) if outside else "-",
        "f1": round(outside["f1"], 3) if outside else "-",
        "ece": round(100 * figures["ece"], 2) if "ece" in figures else "-",
        "flipped": round(100 * figures["flip_rate"], 2) if "flip_rate" in figures else "-",
    }


def _say(doing: str, done: int, of: int) -> None:
    if done == 0:
        print(doing, file=sys.stderr)


if __name__ == "__main__":
    main()
