"""Which form of the embedded chat model is fastest on this processor without changing what it says.

    python bench/quant.py [--rounds 7] [--forms Q8_0 Q4_0 ...]

Every form is made from the packaged Q4_1 file. Speeds are medians over rounds in which the forms take turns, on as many
threads as the engine uses (llama.cpp's own loop; bench/decode.py measures the engine around it). "KL" and what follows
compare with the packaged form as it runs; "KL exact" compares with the packaged weights computed in F16, which is where the
packaged form itself has a distance: the rounding of activations to 8 bits. "answers" counts greedy answers of 32 tokens that
stay the same, through the engine. The last line is what `pointsman` itself chooses, with its own short measurement.
"""

import argparse
import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from data import catalog, config
from data.chat import Message
from export import embedded, fidelity
from export.quantise import FORMS, measure, quantise
from router.engines import llamacpp
from router.engines.base import Engine, Request

MODEL = "smollm2-135m"
EXACT = "F16"
QUESTIONS = (
    "What is the capital of France?",
    "Write a Python function that adds two numbers.",
    "Why is the sky blue?",
    "List three uses of a hammer.",
    "How do I boil an egg?",
    "Turn this into a question: The shop opens at nine.",
    "Translate to French: good morning.",
    "What is 7 times 8?",
)
COLUMNS = [
    "form", "MB", "made s", "decode t/s", "prefill t/s", "turn s", "perplexity", "rise %", "± %", "KL", "KL max", "KL exact",
    "same first choice", "clear changes", "answers", "admissible", "fastest",
]  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    options = arguments.parse_args()
    source = catalog.source_file(catalog.specs()[MODEL])
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as folder:
        os.environ["POINTSMAN_HOME"] = folder
        files, rows = make(source, [*dict.fromkeys([*options.forms, EXACT])], Path(folder))
        texts = long_texts()
        add_figures(rows, files, texts, options.rounds)
        add_answers(rows, files)
        mark_fastest(rows)
        print(harness.table(rows, COLUMNS))
        started = time.perf_counter()
        chosen = embedded.prepare(MODEL, lambda line: print(line, file=sys.stderr))
        seconds = round(time.perf_counter() - started, 1)
        print(f"\npointsman prepares {MODEL} in {seconds} s: {chosen.why}")
        digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
        harness.write(
            "quant", {"model": MODEL, "rows": rows, "texts_sha256": digest, "prepared": chosen.model_dump(), "prepared_s": seconds}
        )


def make(source: Path, forms: list[str], folder: Path) -> tuple[list[Path], list[dict[str, Any]]]:
    """The packaged file and every form of it, with a row each."""
    files, rows = (
        [source],
        [{"form": f"{source.stem.rpartition('.')[2]} (packaged)", "MB": source.stat().st_size / 1e6, "made s": 0.0}],
    )
    for form in forms:
        made = quantise(source, folder / f"{form}.gguf", form)
        files.append(folder / f"{form}.gguf")
        name = f"{form} ({len(made.fallbacks)} tensors otherwise)" if made.fallbacks else form
        rows.append({"form": name, "MB": made.size_bytes / 1e6, "made s": made.seconds})
    return files, rows


def long_texts() -> list[str]:
    """The texts of the preparation and 6,000 characters more of licence and code."""
    root = Path(__file__).parent.parent
    licence, code = ((root / name).read_text(encoding="utf-8") for name in ("LICENSE", "data/sanitise.py"))
    return [*fidelity.TEXTS, *(licence[at : at + 1500] for at in (0, 1500, 3000)), code[:1500]]


def add_figures(rows: list[dict[str, Any]], files: list[Path], texts: list[str], rounds: int) -> None:
    """Speeds, and differences from the packaged form and from its exact weights."""
    exact = next(file for file in files if file.stem == EXACT)
    from_exact = measure([exact, *files], fidelity.TEXTS, rounds=0)[1:]
    for row, (figures, speed), (distant, _) in zip(rows, measure(files, texts, rounds, seconds=120), from_exact, strict=True):
        assert speed is not None
        row |= {
            "decode t/s": speed.decode,
            "prefill t/s": speed.prefill,
            "turn s": embedded.PROMPT_TOKENS / speed.prefill + embedded.ANSWER_TOKENS / speed.decode,
            "threads": speed.threads,
            "clock": speed.clock,
            "perplexity": figures.perplexity,
            "rise %": 100 * figures.rise,
            "± %": 100 * figures.rise_error,
            "KL": figures.kl_mean,
            "KL max": figures.kl_max,
            "KL exact": distant.kl_mean,
            "same first choice": figures.agreement,
            "clear changes": figures.clear_changes,
            "admissible": row is rows[0] or not fidelity.refusals(figures),
        }


def add_answers(rows: list[dict[str, Any]], files: list[Path]) -> None:
    """How many greedy answers stay word for word."""
    settings = config.load()
    engine = llamacpp.build(settings)
    wanted = [answers(engine, file) for file in files]
    for row, found in zip(rows, wanted, strict=True):
        row["answers"] = f"{sum(one == other for one, other in zip(found, wanted[0], strict=True))} of {len(QUESTIONS)}"
    engine.close()


def answers(engine: Engine, file: Path) -> list[str]:
    """The first 32 tokens of each answer, greedily."""
    greedy = config.Sampling(temperature=0.0, repeat_penalty=1.0)
    found = []
    for question in QUESTIONS:
        request = Request(str(file), (Message("user", question),), greedy, max_tokens=32)
        found.append("".join(chunk.text for chunk in engine.stream(request)))
    return found


def mark_fastest(rows: list[dict[str, Any]]) -> None:
    """Which form the rule of the preparation chooses from these measurements."""
    options = [
        embedded.Option(row["form"], int(row["MB"] * 1e6), row["turn s"], "" if row["admissible"] else "inadmissible")
        for row in rows
    ]
    best = embedded.choose(options)
    for row in rows:
        row["fastest"] = row["form"] == best.form


if __name__ == "__main__":
    main()
