"""Claim: the baselines that a tuned model has to beat, at full strength, on the shared data.

sms_spam (2 classes), smishing (3), banking77 (77), goemotions (28, and Ekman's 7 groups). One fifth of the training files is held
out by the hash of the smallest text of its cluster of near duplicates, because the official test parts are kept elsewhere;
goemotions is tested on its own dev part, and of its rows only those with one label count (for Ekman: one group). Every
setting is chosen by cross-validation on the training rows: once for accuracy, once for macro-F1.
"""

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from data.config import Settings
from data.datasets.duplicates import Signatures
from export import embedded
from router.engines import Engines
from router.labelled import held_out
from trainer import baseline
from trainer.baseline import Baseline
from trainer.figures import figures

Row = tuple[str, str]
COLUMNS = ("data", "baseline", "chosen for", "C", "balanced", "accuracy", "low", "high", "macro_f1", "ece", "rows_per_s", "fit_s")
EKMAN = {
    "anger": "anger annoyance disapproval",
    "disgust": "disgust",
    "fear": "fear nervousness",
    "joy": "joy amusement approval excitement gratitude love optimism relief pride admiration desire caring",
    "sadness": "sadness disappointment embarrassment grief remorse",
    "surprise": "surprise realization confusion curiosity",
    "neutral": "neutral",
}
"""The grouping of Demszky et al. 2020 (google-research/goemotions, data/ekman_mapping.json), with neutral."""


def main() -> None:
    """Measure every data set that is there."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--datasets", type=Path, default=Path(os.environ.get("POINTSMAN_DATASETS", ".")), help="their folder")
    options.add_argument("--only", action="append", choices=list(SETS), help="this one; may be given several times")
    given = options.parse_args()
    embedded.prepare("minilm-l6", _say)
    engines = Engines(Settings())
    vectors = _Vectors(engines.get("llamacpp").embed)
    for name in given.only or SETS:
        if not (given.datasets / FOLDERS.get(name, name)).is_dir():
            print(f"{name} is not in {given.datasets}: left out; POINTSMAN_DATASETS names the folder", file=sys.stderr)
            continue
        train, test = SETS[name](given.datasets)
        size = {"train": len(train), "test": len(test), "classes": len({label for _, label in train})}
        _say(f"{name}: {size}")
        rows = _measured(name, train, test, vectors)
        print(harness.table(rows, COLUMNS), flush=True)
        _keep(name, size, rows)
    engines.close()


def _keep(name: str, size: dict[str, int], rows: list[dict[str, Any]]) -> None:
    """Put one data set's rows into the results, beside those of the others that are there."""
    file = harness.RESULTS / "baselines.json"
    sets = json.loads(file.read_text(encoding="utf-8"))["sets"] if file.is_file() else {}
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sets[name] = {**size, "at": at, "rows": rows}
    harness.write("baselines", {"sets": {one: sets[one] for one in SETS if one in sets}})


def _measured(name: str, train: Sequence[Row], test: Sequence[Row], vectors: "_Vectors") -> list[dict[str, Any]]:
    classes = sorted({label for _, label in train})
    texts, labels = [text for text, _ in train], np.array([classes.index(label) for _, label in train])
    groups = _clusters(texts)
    found = [(_row(name, "", 0.0, baseline.majority(labels, classes), test))]
    started = time.monotonic()
    grams = [baseline.whole_grams(text) for text in texts]
    tried = baseline.trials_tfidf(grams, labels, len(classes), groups=groups, progress=_step)
    spent = time.monotonic() - started
    fits: list[tuple[str, float, Baseline]] = []
    for aim, chosen in _aims(tried):
        started = time.monotonic()
        fits.append((aim, spent, baseline.fit_tfidf(grams, labels, classes, chosen)))
        spent += time.monotonic() - started
    started = time.monotonic()
    seen = vectors(texts)
    tried = baseline.trials_minilm(seen, labels, len(classes), groups=groups, progress=_step)
    spent = time.monotonic() - started
    fits += [(aim, spent, baseline.fit_minilm(seen, labels, classes, chosen, vectors.embed)) for aim, chosen in _aims(tried)]
    return [*found, *(_row(name, aim, spent, fitted, test) for aim, spent, fitted in fits)]


def _aims(tried: Sequence[baseline.Chosen]) -> list[tuple[str, baseline.Chosen]]:
    one, other = baseline.best(tried, "accuracy"), baseline.best(tried, "macro_f1")
    return [("both", one)] if one == other else [("accuracy", one), ("macro_f1", other)]


def _row(name: str, aim: str, fit_s: float, fitted: Baseline, test: Sequence[Row]) -> dict[str, Any]:
    right = np.array([fitted.classes.index(label) for _, label in test])
    started = time.monotonic()
    shares = fitted.probabilities([text for text, _ in test])
    spent = time.monotonic() - started
    seen = figures(fitted.classes, right, shares.argmax(axis=1), shares)
    return {
        "data": name,
        "baseline": fitted.name,
        "chosen for": aim or "-",
        "C": fitted.chosen.c if fitted.chosen else "-",
        "balanced": fitted.chosen.balanced if fitted.chosen else "-",
        "accuracy": round(100 * seen.accuracy, 2),
        "low": round(100 * seen.accuracy_ci.low, 2),
        "high": round(100 * seen.accuracy_ci.high, 2),
        "macro_f1": round(100 * seen.macro_f1, 2),
        "ece": round(100 * (seen.ece or 0.0), 2),
        "rows_per_s": round(len(test) / spent) if spent > 1e-3 else "-",
        "fit_s": round(fit_s, 1),
        "recall": {one.label: round(one.recall, 4) for one in seen.classes},
    }


class _Vectors:
    """Sentence vectors of training texts, kept while the process lives: two sets share goemotions' texts."""

    def __init__(self, embed: baseline.Embed) -> None:
        self.embed = embed
        self._kept: dict[str, Any] = {}

    def __call__(self, texts: Sequence[str]) -> Any:
        fresh = list(dict.fromkeys(text for text in texts if text not in self._kept))
        if fresh:
            made = baseline.embedded(fresh, self.embed, lambda done, of: _step("sentence vectors", done, of))
            self._kept.update(zip(fresh, made, strict=True))
        return np.stack([self._kept[text] for text in texts])


def _clusters(texts: Sequence[str]) -> Any:
    """A number for each text; texts too alike for different sides share it."""
    with tempfile.TemporaryDirectory() as folder:
        signatures = Signatures(Path(folder), 0)
        for text in texts:
            signatures.add(text)
        return signatures.finish().cluster


def _fold(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """(training, test) by cluster."""
    clusters = _clusters([text for text, _ in rows])
    smallest: dict[int, str] = {}
    for cluster, (text, _) in zip(clusters, rows, strict=True):
        smallest[int(cluster)] = min(text, smallest.get(int(cluster), text))
    apart = [held_out(smallest[int(cluster)], "baselines ", 20) for cluster in clusters]
    return (
        [row for row, out in zip(rows, apart, strict=True) if not out],
        [row for row, out in zip(rows, apart, strict=True) if out],
    )


def _sms_spam(root: Path) -> tuple[list[Row], list[Row]]:
    lines = (root / "sms_spam" / "train.tsv").read_text(encoding="utf-8").split("\n")
    return _fold([(text, label) for label, _, text in (line.partition("\t") for line in lines if line)])


def _table(file: str, label: str) -> Callable[[Path], tuple[list[Row], list[Row]]]:
    def read(root: Path) -> tuple[list[Row], list[Row]]:
        with (root / file).open(encoding="utf-8", newline="") as rows:
            return _fold([(row["text"], row[label]) for row in csv.DictReader(rows)])

    return read


def _goemotions(groups: dict[str, str]) -> Callable[[Path], tuple[list[Row], list[Row]]]:
    def part(root: Path, name: str) -> list[Row]:
        labels = (root / "goemotions" / "labels.txt").read_text(encoding="utf-8").split()
        kept = []
        for line in (root / "goemotions" / name).read_text(encoding="utf-8").split("\n"):
            if line:
                text, numbers, _ = line.split("\t")
                meant = {groups[labels[int(number)]] for number in numbers.split(",")}
                if len(meant) == 1:
                    kept.append((text, meant.pop()))
        return kept

    return lambda root: (part(root, "train.tsv"), part(root, "dev.tsv"))


_ITSELF = {emotion: emotion for emotions in EKMAN.values() for emotion in emotions.split()}
_GROUP = {emotion: group for group, emotions in EKMAN.items() for emotion in emotions.split()}
SETS: dict[str, Callable[[Path], tuple[list[Row], list[Row]]]] = {
    "sms_spam": _sms_spam,
    "smishing": _table("smishing/train.csv", "label"),
    "banking77": _table("banking77/train.csv", "category"),
    "goemotions-ekman": _goemotions(_GROUP),
    "goemotions": _goemotions(_ITSELF),
}
FOLDERS = {"goemotions-ekman": "goemotions"}


def _step(doing: str, done: int, of: int) -> None:
    if done % max(of // 10, 1) == 0:
        _say(f"  {doing} {done}/{of}")


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
