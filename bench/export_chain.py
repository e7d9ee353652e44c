"""Claim: what is served says what was trained: an adapter on its base and the merged, quantised model give the same labels.

A finished run is exported by the command (`pointsman export RUN --quant Q8_0 --quant Q4_K_M`, every check of its own included) and
the rows of a file are classified by the command under the run's domain, by the adapter on the base as it is served, by each merged
form, and by the merged model in F16. Reported are the shares of rows with the same label, with and without the rows that the model
itself holds for a toss-up (two labels within 2 points), each against the trained model's own labels, where the run keeps them.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness

GOAL = 0.995
TOSS_UP = 0.02
"""Two labels whose probabilities lie so near together are one row of either."""
COLUMNS = ("what", "against", "rows", "same", "same_but_toss_ups", "toss_ups")


def main() -> None:
    """Export, classify through every file, compare."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("run", help="a finished run's name or folder")
    options.add_argument("file", type=Path, help="CSV with a column text")
    options.add_argument("--rows", type=int, default=500)
    options.add_argument("--base", default="smollm2-135m", help="the base by its name in the llama.cpp engine")
    options.add_argument("--forms", nargs="+", default=["F16", "Q8_0", "Q4_K_M"])
    options.add_argument("--failed-gates", action="store_true", help="export a run that did not pass its gates")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        started = time.perf_counter()
        forms = [word for form in given.forms for word in ("--quant", form)]
        allowed = ["--failed-gates"] if given.failed_gates else []
        made = json.loads(_pointsman("export", given.run, *forms, *allowed, "--json"))
        seconds = time.perf_counter() - started
        export = Path(made["folder"])
        domain = json.loads((export / "export.json").read_text(encoding="utf-8"))["domain"]
        rows = _some(given.file, folder / "rows.csv", given.rows)
        models = {f"merged {form}": str(export / f"model-{form}.gguf") for form in given.forms}
        models["adapter on the base"] = f"{given.base}+{export.name}"
        found = {
            name: _labels(domain, rows, f"llamacpp/{model}", folder / f"{at}.jsonl")
            for at, (name, model) in enumerate(models.items())
        }
    table = [_agreement(name, "adapter on the base", found) for name in found if name != "adapter on the base"]
    table += [_agreement("adapter on the base", "merged F16", found)] if "merged F16" in found else []
    print(harness.table(table, COLUMNS))
    harness.write(
        "export_chain",
        {"goal": GOAL, "run": made["name"], "chosen": made["chosen"], "export_s": round(seconds, 1), "rows": table}
        | {"checks": made["verify"], "figures": made["figures"], "passed": all(row["same"] >= GOAL for row in table)},
    )


def _agreement(one: str, other: str, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    pairs = list(zip(found[one], found[other], strict=True))
    same = [first["label"] == second["label"] for first, second in pairs]
    clear = [alike for alike, (_, second) in zip(same, pairs, strict=True) if not _toss_up(second)]
    return {
        "what": one,
        "against": other,
        "rows": len(pairs),
        "same": round(sum(same) / len(same), 4),
        "same_but_toss_ups": round(sum(clear) / len(clear), 4) if clear else "-",
        "toss_ups": len(same) - len(clear),
    }


def _toss_up(row: Mapping[str, Any]) -> bool:
    first, second, *_ = sorted(row["probabilities"].values(), reverse=True)
    return first - second <= TOSS_UP


def _labels(domain: str, rows: Path, model: str, out: Path) -> list[dict[str, Any]]:
    started = time.perf_counter()
    _pointsman("classify", "--domain", domain, "-f", str(rows), "-o", str(out), "--model", model)
    print(f"  {model}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def _some(file: Path, target: Path, count: int) -> Path:
    """The first rows of a file, all of its labels turned to texts alone."""
    with file.open(encoding="utf-8", newline="") as read, target.open("w", encoding="utf-8", newline="") as written:
        texts = [row["text"] for row in csv.DictReader(read)][:count]
        csv.writer(written).writerows([("text",), *((text,) for text in texts)])
    if len(texts) < count:
        raise SystemExit(f"{file} has {len(texts)} rows, and {count} are asked for")
    return target


def _pointsman(*arguments: str) -> str:
    """What the command prints; its own words go to stderr."""
    command = [sys.executable, "-m", "tui", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=harness.ROOT, env=os.environ)
    if done.returncode:
        raise SystemExit(f"pointsman {arguments[0]} ended with {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
