"""What each form of the embedded chat model changes, with and without an importance matrix, and which one is chosen.

    python bench/forms.py [--rows 64] [--held-out 24] [--rounds 5] [--forms Q8_0 Q4_K_M ...]

The original is the packaged Q4_1 in F16. The matrix is collected in PyTorch on the training prompts and answers of the triage pack;
divergence is measured on its validation rows, which were not seen, and on the texts of `export.fidelity`, which have nothing to do
with it. "KL" is the mean Kullback-Leibler divergence from F16 in nats a token, "less" by how much the matrix lowers it. The last
line is what `--quant auto` would choose of the forms with the matrix, without a task.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from data import catalog, domains
from export import choose, families, fidelity, imatrix
from export.quantise import measure, quantise
from router.engines._llamacpp import header

MODEL, DOMAIN, ORIGINAL = "smollm2-135m", "triage", "F16"
COLUMNS = [
    "form", "matrix", "MB", "made s", "otherwise", "KL triage", "less %", "p99 triage", "top-1 triage", "KL prose", "less prose %",
    "top-1 prose", "prefill t/s", "decode t/s", "refused",
]  # fmt: skip
Row = dict[str, Any]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=64, help="training rows that the matrix is collected on")
    arguments.add_argument("--held-out", type=int, default=24, help="validation rows that are measured")
    arguments.add_argument("--rounds", type=int, default=5, help="timed rounds, 0 for none")
    forms = [form for form in choose.CANDIDATES if form != ORIGINAL]
    arguments.add_argument("--forms", nargs="+", default=forms, choices=forms)
    options = arguments.parse_args()
    source = catalog.source_file(catalog.specs()[MODEL])
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as name:
        folder = Path(name)
        matrix, held_out, collected = collect(source, folder, options.rows, options.held_out)
        files, rows = make(source, folder, matrix, options.forms)
        add_figures(rows, files, held_out, options.rounds)
        print(harness.table(rows, COLUMNS))
        print(f"\nmatrix: {collected['tensors']} tensors, {collected['tokens']:,} tokens in {collected['cpu_s']:.1f} CPU s")
        chosen = chosen_of(files, held_out, options.rounds) if options.rounds else {}
        print(f"--quant auto: {chosen['why']}" if chosen else "")
        digest = hashlib.sha256(json.dumps(held_out).encode()).hexdigest()
        harness.write("forms", {"model": MODEL, "matrix": collected, "rows": rows, "held_out_sha256": digest, "auto": chosen})


def collect(source: Path, folder: Path, count: int, held_out: int) -> tuple[Path, list[list[int]], Row]:
    """The matrix of the pack's training rows, the tokens of validation rows, and what collecting it took."""
    from trainer import base
    from trainer.device import Policy
    from trainer.recipe import BaseTable

    loaded = base.load(BaseTable(model=MODEL), Policy("cpu", "float32", "adamw_torch_fused", "sdpa", False, 1))
    pack = domains.load(DOMAIN)
    rows: dict[bool, list[list[int]]] = {True: [], False: []}
    for one in pack.examples:
        answer = loaded.text_ids(json.dumps(one.output or {"label": one.label})) + loaded.ids(loaded.end)
        rows[one.split == "train"].append(loaded.prompt_ids(pack.prompt(one.text)) + answer)
    train = rows[True][:: max(1, len(rows[True]) // count)][:count]
    started = time.process_time()
    sums = imatrix.collect(loaded.model, train)
    seconds = time.process_time() - started
    named = imatrix.named(sums, families.of_gguf(header.check(source)))
    path = imatrix.save(named, folder / "imatrix.npz")
    told = {
        "rows": len(train),
        "tokens": sum(map(len, train)),
        "tensors": len(named),
        "cpu_s": seconds,
        "bytes": path.stat().st_size,
    }
    return path, rows[False][:held_out], told


def make(source: Path, folder: Path, matrix: Path, forms: list[str]) -> tuple[dict[str, Path], list[Row]]:
    """The original and every form of it, each with and without the matrix, with a row each."""
    files = {ORIGINAL: folder / f"{ORIGINAL}.gguf"}
    first = quantise(source, files[ORIGINAL], ORIGINAL)
    rows: list[Row] = [{"form": ORIGINAL, "matrix": False, "MB": first.size_bytes / 1e6, "made s": first.seconds, "otherwise": 0}]
    for form in forms:
        for given in (None, matrix):
            name = f"{form}{' with matrix' if given else ''}"
            files[name] = folder / f"{form}{'-matrix' if given else ''}.gguf"
            made = quantise(files[ORIGINAL], files[name], form, imatrix=given)
            rows.append(
                {
                    "form": form,
                    "matrix": given is not None,
                    "MB": made.size_bytes / 1e6,
                    "made s": made.seconds,
                    "otherwise": len(made.fallbacks),
                }
            )
    return files, rows


def add_figures(rows: list[Row], files: dict[str, Path], held_out: list[list[int]], rounds: int) -> None:
    """Divergence on both kinds of text, what the matrix lowers it by, and speeds."""
    made = list(files.values())
    near = measure(made, held_out, rounds, seconds=30.0 * max(rounds, 1))
    far = measure(made, fidelity.TEXTS, rounds=0)
    plain: Row = {}
    for row, (figures, speed), (prose, _) in zip(rows, near, far, strict=True):
        row |= {
            "KL triage": figures.kl_mean,
            "p99 triage": figures.kl_p99,
            "top-1 triage": figures.agreement,
            "KL prose": prose.kl_mean,
            "top-1 prose": prose.agreement,
            "fall": figures.fall,
            "fall_error": figures.fall_error,
        }
        limit = choose.KL_LIMITS[row["form"]]
        row["refused"] = f"KL above {limit}" if not figures.kl_mean <= limit else ""
        if speed is not None:
            row |= {"prefill t/s": speed.prefill, "decode t/s": speed.decode, "threads": speed.threads, "clock": speed.clock}
        if row["matrix"]:
            row["less %"] = 100 * (1 - row["KL triage"] / plain["KL triage"])
            row["less prose %"] = 100 * (1 - row["KL prose"] / plain["KL prose"])
        plain = row


def chosen_of(files: dict[str, Path], held_out: list[list[int]], rounds: int) -> Row:
    """What is chosen among the forms with the matrix, and the figures of each."""
    offered = {name.removesuffix(" with matrix"): file for name, file in files.items() if name == ORIGINAL or "matrix" in name}
    found = choose.measured(offered, held_out, rounds=rounds, seconds=30.0 * rounds)
    best = choose.auto(found)
    return {"form": best.form, "why": choose.why(best, found), "forms": {one.form: one.row() for one in found}}


if __name__ == "__main__":
    main()
