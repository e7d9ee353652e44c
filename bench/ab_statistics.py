"""False promotions, data needed and false alarms of our e-values, beside a z-test that is looked at after every answer.

    python bench/ab_statistics.py [--runs 10000] [--seed 1]

Every run is looked at after every answer and stops at the first decision, as a person would. Demanded: at most 5 % false
promotions and false rollbacks, a canary with 40 % bad answers stopped within 20 answers at the median. Not named statistics.py:
a script's folder comes first on Python's path, and the other scripts here import the standard library's module of that name.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from data import statistics

PAIRS, TURNS, RATED = 400, 200, 1200
BASELINE = 0.1


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    chance, began = np.random.default_rng(options.seed), time.process_time()
    rows = [*pairs(options.runs, chance), *canaries(options.runs, chance), *thumbs(max(options.runs // 100, 20), chance)]
    print(harness.table(rows, list(rows[0])))
    print(f"{time.process_time() - began:.0f} s of processor time")
    harness.write("statistics", {"runs": options.runs, "rows": rows})
    false = [row for row in rows if row["nothing is the case"] and row["statistic"] != "z-test, peeking" and row["decided"] > 0.05]
    stopped = next(row for row in rows if row["case"] == "canary, 40 % bad")
    if false or not stopped["median"] or stopped["median"] > 20:
        raise SystemExit("a promise was not kept")


def pairs(runs: int, chance: np.random.Generator) -> list[dict[str, Any]]:
    """Blind pairs at several win rates, by our e-value and by a one-sided z-test at 5 %."""
    ours = _table(PAIRS, lambda wins, count: statistics.paired(wins, count - wins) >= statistics.SIGNIFICANT)
    naive = _table(PAIRS, lambda wins, count: (wins - count / 2) / (count**0.5 / 2) >= 1.645)
    rows = []
    for rate in (0.5, 0.6, 0.65, 0.7, 0.75, 0.8):
        wins = np.cumsum(chance.random((runs, PAIRS)) < rate, axis=1)
        for name, table in (("e-value", ours), ("z-test, peeking", naive)):
            rows.append(_row(f"pairs, {rate:.0%} won", name, _stops(wins, table), rate == 0.5))
    return rows


def canaries(runs: int, chance: np.random.Generator) -> list[dict[str, Any]]:
    """The guard where 10 % bad answers are usual."""
    ours = _table(TURNS, lambda bad, turns: statistics.guard(bad, turns, BASELINE) >= statistics.SIGNIFICANT)
    spread = (BASELINE * (1 - BASELINE)) ** 0.5
    naive = _table(TURNS, lambda bad, turns: (bad - turns * BASELINE) / (spread * turns**0.5) >= 1.645)
    rows = []
    for rate in (0.1, 0.3, 0.4, 0.5, 0.8):
        bad = np.cumsum(chance.random((runs, TURNS)) < rate, axis=1)
        for name, table in (("e-value", ours), ("z-test, peeking", naive)):
            rows.append(_row(f"canary, {rate:.0%} bad".replace("%", " %"), name, _stops(bad, table), rate == BASELINE))
    return rows


def thumbs(runs: int, chance: np.random.Generator) -> list[dict[str, Any]]:
    """Two arms drawn by lot, each answer rated; looked at after every twentieth, which keeps this short."""
    rows = []
    for first, second in ((0.6, 0.6), (0.9, 0.9), (0.6, 0.7), (0.7, 0.8), (0.6, 0.8)):
        stops = [_arms(first, second, chance) for _ in range(runs)]
        rows.append(_row(f"thumbs, {first:.0%} and {second:.0%}", "e-value", np.array(stops), first == second))
    return rows


def _arms(first: float, second: float, chance: np.random.Generator) -> int:
    arm = chance.random(RATED) < 0.5
    liked = chance.random(RATED) < np.where(arm, second, first)
    a, n_a, b, n_b = (np.cumsum(one).tolist() for one in (~arm & liked, ~arm, arm & liked, arm))
    for seen in range(19, RATED, 20):
        if statistics.two_arms(a[seen], n_a[seen], b[seen], n_b[seen]) >= statistics.SIGNIFICANT:
            return seen + 1
    return 0


def _table(count: int, decides: Callable[[int, int], bool]) -> NDArray[np.bool_]:
    """Whether it decides at so many answers (row) with so many cases (column)."""
    table = np.zeros((count + 1, count + 1), dtype=bool)
    for answers in range(1, count + 1):
        table[answers, : answers + 1] = [decides(cases, answers) for cases in range(answers + 1)]
    return table


def _stops(cases: NDArray[Any], table: NDArray[np.bool_]) -> NDArray[Any]:
    """The answer at which each run was decided; 0 for never."""
    decided = table[np.arange(1, cases.shape[1] + 1), cases]
    return np.where(decided.any(axis=1), decided.argmax(axis=1) + 1, 0)


def _row(case: str, name: str, stops: NDArray[Any], null: bool) -> dict[str, Any]:
    ended = np.where(stops > 0, stops, np.iinfo(np.int64).max)
    middle, late = (int(np.percentile(ended, share, method="lower")) for share in (50, 90))
    last = int(stops.max(initial=0))
    return {
        "case": case,
        "statistic": name,
        "nothing is the case": null,
        "runs": len(stops),
        "decided": round(float((stops > 0).mean()), 4),
        "median": middle if middle <= last else 0,
        "p90": late if late <= last else 0,
        "by 100": round(float(((stops > 0) & (stops <= 100)).mean()), 4),
    }


if __name__ == "__main__":
    main()
