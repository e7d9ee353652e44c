"""Building a dataset from 1,000,000 rows of 1 KB: seconds, peak memory and what became of the rows.

    python bench/build_million.py [--rows 1000000] [--no-redact] [--keep FOLDER]

The file is made from a seed: labelled messages with natural word frequencies, of which 2 % are exact copies, 2 % near copies (a
word changed), 1 % hold an e-mail address, a telephone or a card number, and 0.1 % are unusable (a NUL, an empty text). It is built
by the command line in a process of its own, whose peak resident memory is what the system says of it (wait4). Asked: below 1 GB.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness

ASKED_MB = 1000
ROW_BYTES = 1000
SEED = 20_26
LABELS = ("question", "complaint", "order", "praise", "spam")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--no-redact", action="store_true")
    arguments.add_argument("--keep", type=Path, help="make the files here and leave them")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / f"rows-{options.rows}.jsonl"
        started = time.perf_counter()
        generate(source, options.rows)
        print(f"{source.name}: {source.stat().st_size / 1e6:,.0f} MB made in {time.perf_counter() - started:.0f} s", flush=True)
        flags = ["--no-redact"] if options.no_redact else []
        result = build(source, folder / "set", temporary, flags)
    counts = result["counts"]
    row = {
        "rows": options.rows,
        "MB": round(result["bytes"] / 1e6),
        "seconds": round(result["seconds"], 1),
        "rows/s": round(options.rows / result["seconds"]),
        "peak MB": round(result["peak_mb"]),
        "asked MB": ASKED_MB,
        "kept": counts["kept"],
        "exact": counts["exact_duplicates"],
        "near": counts["near_duplicates"],
        "quarantined": counts["quarantined"],
    }
    print(harness.table([row], list(row)))
    print("seconds by step: " + ", ".join(f"{step} {seconds:.0f}" for step, seconds in result["steps"].items()))
    harness.write("build_million" if options.rows == 1_000_000 else f"build_{options.rows}", {"rows": [row], **result})
    if result["peak_mb"] >= ASKED_MB:
        sys.exit(3)


def generate(file: Path, rows: int, seed: int = SEED) -> None:
    """Write so many rows of about ROW_BYTES bytes; the same bytes for the same arguments."""
    chance = random.Random(seed)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "ar", "en", "il", "on", "us")]
    words = sorted({"".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(60_000)})
    chance.shuffle(words)
    cumulative, total = [], 0.0
    for rank in range(1, len(words) + 1):  # Zipf's law, as in natural text
        total += 1 / (rank + 2.7)
        cumulative.append(total)
    recent: list[str] = []
    with file.open("w", encoding="utf-8") as out:
        for _ in range(rows):
            text = _text(chance, words, cumulative, recent)
            recent = [*recent[-200:], text]
            out.write(json.dumps({"text": text, "label": LABELS[hash_of(text) % len(LABELS)]}) + "\n")


def _text(chance: random.Random, words: list[str], cumulative: list[float], recent: list[str]) -> str:
    kind = chance.random()
    if recent and kind < 0.02:
        return chance.choice(recent)
    if recent and kind < 0.04:
        parts = chance.choice(recent).split(" ")
        parts[chance.randrange(len(parts))] = "changed"
        return " ".join(parts)
    if kind < 0.0405:
        return "   "
    if kind < 0.041:
        return "a text with a \0 in it"
    text = " ".join(chance.choices(words, cum_weights=cumulative, k=190))[: ROW_BYTES - 60]
    if kind < 0.051:
        mail = f"{chance.choice(words)}.{chance.choice(words)}@example.org"
        phone, card = f"+44 20 7946 0{chance.randint(100, 999)}", "4111 1111 1111 1111"
        return f"{text} {chance.choice((mail, phone, card))}"
    return text


def hash_of(text: str) -> int:
    """A number by how the text begins, the same in every process; near copies mostly share it."""
    return sum(map(ord, text[:8]))


def build(source: Path, out: Path, home: str, flags: list[str]) -> dict:
    """Build it as a user would; seconds, peak megabytes, seconds by step, and the manifest's counts."""
    command = [
        sys.executable,
        "-m",
        "tui.cli",
        "data",
        "build",
        "-",
        "--source",
        str(source),
        "--out",
        str(out),
        "--json",
        "--force",
    ]
    env = {**os.environ, "POINTSMAN_HOME": str(Path(home) / "home"), "POINTSMAN_OFFLINE": "1"}
    started = time.perf_counter()
    marks: list[tuple[str, float]] = []
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen([*command, *flags], stdout=told, stderr=subprocess.PIPE, text=True, env=env, cwd=harness.ROOT)
        assert process.stderr is not None
        for line in process.stderr:
            print(line, end="", file=sys.stderr)
            if line.startswith("data build: "):
                marks.append((line.removeprefix("data build: ").strip(), time.perf_counter()))
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"the build ended with {process.returncode}")
        told.seek(0)
        manifest = json.load(told)
    ends = [begun for _, begun in marks[1:]] + [started + seconds]
    steps = {step: round(end - begun, 1) for (step, begun), end in zip(marks, ends, strict=True)}
    peak_mb = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6  # bytes on macOS, KiB on Linux: getrusage(2)
    return {
        "seconds": seconds,
        "peak_mb": peak_mb,
        "bytes": source.stat().st_size,
        "steps": steps,
        "counts": manifest["counts"],
        "redactions": manifest["redactions"],
    }


if __name__ == "__main__":
    main()
