"""Claim: a LoRA step on a processor takes a third of the time of TRL's SFTTrainer with its defaults, at the same loss.

SmolLM2-135M, LoRA r16 on all linear layers, rows of sms_spam under a pack's prompt, 8 rows a step, one epoch. Every variant starts
from the same adapter, sees the same rows in the same order with the same schedule, and its adapter is judged by the same code in
float32 on held-out rows. Each runs in a process of its own; tokens are the rows' own prompt and answer tokens, padding not counted,
the shared beginning of the prompts counted for every row, whoever computes it once. Variants in turn, medians over rounds.
"""

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import baselines, harness, train_quality

BATCH = 8
"""TRL's default."""
LEARNING_RATE = 2e-4
COLUMNS = ("variant", "tokens_per_s", "times_a", "times_b", "seconds", "peak_gb", "eval_loss", "loss_against_a_percent")
VARIANTS = {
    "ours": "pointsman",
    "ours, prompts whole": "pointsman without computing the prompts' common beginning once",
    "a": "TRL SFTTrainer, its defaults: float32 weights, bfloat16 autocast, gradient checkpointing",
    "b": "TRL SFTTrainer, bfloat16 weights, no gradient checkpointing",
    "c": "TRL SFTTrainer, float32 without autocast, no gradient checkpointing",
}


def main() -> None:
    """Run every variant in turn, some rounds, and write the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--datasets", type=Path, default=Path(os.environ.get("POINTSMAN_DATASETS", ".")), help="their folder")
    options.add_argument("--rows", type=int, default=160, help="to train on")
    options.add_argument("--held-out", type=int, default=200, help="rows that the loss is measured on")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", action="append", choices=VARIANTS, help="this variant; may be given several times")
    options.add_argument("--child", help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        print(json.dumps(_run(given.child, given.folder)))
        return
    if not (given.datasets / "sms_spam").is_dir():
        raise SystemExit(f"sms_spam is not in {given.datasets}; POINTSMAN_DATASETS names the folder")
    with tempfile.TemporaryDirectory() as place:
        os.environ["POINTSMAN_HOME"] = place
        folder = Path(place)
        counts = _prepare(folder, given)
        seen: dict[str, list[dict[str, Any]]] = {}
        for round_ in range(given.rounds):
            for name in given.only or VARIANTS:
                command = [sys.executable, __file__, "--child", name, "--folder", str(folder)]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
                seen.setdefault(name, []).append(json.loads(done.stdout.strip().splitlines()[-1]))
                print(f"  round {round_ + 1}, {name}: {seen[name][-1]}", file=sys.stderr, flush=True)
    rows = _table(seen)
    print(harness.table(rows, COLUMNS))
    harness.write("train_cpu", {"variants": VARIANTS, "counts": counts, "rows": rows, "rounds": seen, "versions": _versions()})


def _table(seen: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    def middle(name: str, key: str) -> float:
        return statistics.median(one[key] for one in seen[name])

    rows = []
    for name in seen:
        speed = middle(name, "tokens_per_s")
        loss = middle(name, "eval_loss")
        row: dict[str, Any] = {"variant": name, "tokens_per_s": round(speed), "seconds": round(middle(name, "seconds"), 1)}
        row |= {"peak_gb": round(middle(name, "peak_gb"), 2), "eval_loss": round(loss, 5)}
        for peer in ("a", "b"):
            if peer in seen:
                row[f"times_{peer}"] = round(speed / middle(peer, "tokens_per_s"), 2)
        if "a" in seen:
            row["loss_against_a_percent"] = round(100 * (loss / middle("a", "eval_loss") - 1), 2)
        rows.append(row)
    return rows


def _prepare(folder: Path, given: argparse.Namespace) -> dict[str, int]:
    """Write the checkpoint, the adapter that all start from, and the rows in the order in which all see them."""
    from data import domains
    from trainer import adapter, base, device, encode, material
    from trainer._loop.order import Order

    train_quality._pack("sms_spam", train_quality.SMS)
    train, held_out = baselines.SETS["sms_spam"](given.datasets)
    for name, part in (("train", train[: given.rows]), ("validation", held_out[: given.held_out])):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([("text", "label"), *part])
    recipe = _recipe(folder)
    policy = device.policy(recipe)
    loaded = base.load(recipe.base, policy)
    loaded.model.save_pretrained(folder / "checkpoint")
    loaded.tokenizer.save_pretrained(folder / "checkpoint")
    domain = domains.load("sms_spam")
    found = material.read(recipe, domain)
    encoded = encode.sft(recipe, recipe.stages[0], domain, loaded, found.train)
    lengths = [len(row.prompt) + len(row.completion) for row in encoded.rows]
    order = list(Order(len(lengths), None, BATCH, recipe.seed))
    model = adapter.attach(loaded, recipe.lora, seed=recipe.seed)
    adapter.save(model, folder / "adapter")
    rows = [{"prompt": list(encoded.rows[at].prompt), "completion": list(encoded.rows[at].completion)} for at in order]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    return {"rows": len(rows), "tokens": sum(lengths), "shared_prefix_tokens": len(encoded.prefix), "steps": len(rows) // BATCH}


def _recipe(folder: Path) -> Any:
    from trainer import recipe

    stage = {"kind": "sft", "batch": BATCH, "learning_rate": LEARNING_RATE, "warmup": 0.0, "schedule": "linear", "patience": 0}
    data = {"train": [str(folder / "train.csv")], "validation": [str(folder / "validation.csv")], "lost": 1.0}
    return recipe.validated(
        {"name": "speed", "domain": "sms_spam", "data": data, "stages": [stage], "checkpoints": 10_000}, "bench"
    )


def _run(variant: str, folder: Path) -> dict[str, Any]:
    """One variant in this process: speed, peak memory, and the loss of its adapter on the held-out rows."""
    os.environ["POINTSMAN_HOME"] = str(folder)
    seconds = (_ours if variant.startswith("ours") else _trl)(variant, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    rows = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    tokens = sum(len(row["prompt"]) + len(row["completion"]) for row in rows)
    return {"tokens_per_s": tokens / seconds, "seconds": seconds, "peak_gb": peak, "eval_loss": _loss(folder, variant)}


def _ours(variant: str, folder: Path) -> float:
    from dataclasses import replace

    from data import domains
    from trainer import adapter, base, device, encode, loop, material
    from trainer.forward import scoring
    from trainer.fused import fused
    from trainer.stages import Work, sft

    recipe = _recipe(folder)
    policy, domain = device.policy(recipe), domains.load("sms_spam")
    loaded, found = base.load(recipe.base, policy), material.read(recipe, domain)
    model = adapter.attach(loaded, recipe.lora, seed=recipe.seed)
    adapter.restore(model, folder / "adapter")
    encoded = encode.sft(recipe, recipe.stages[0], domain, loaded, found.train)
    if variant != "ours":
        encoded = replace(encoded, prefix=())
    work = Work(recipe, recipe.stages[0], 1, domain, loaded, model, policy, found, Path(tempfile.mkdtemp(dir=folder)))
    with fused(model), scoring(model):
        trainer = sft.Tuner(work, encoded, replace(encoded, rows=()))
        started = time.perf_counter()
        loop.fit(trainer, work)
        spent = time.perf_counter() - started
    adapter.save(model, folder / f"after-{variant}")
    return spent


def _trl(variant: str, folder: Path) -> float:
    import torch
    from datasets import Dataset
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    dtype = torch.bfloat16 if variant == "b" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder / "checkpoint", dtype=dtype)
    tuned = PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True)
    rows = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    table = Dataset.from_list(
        [
            {
                "input_ids": [*row["prompt"], *row["completion"]],
                "completion_mask": [0] * len(row["prompt"]) + [1] * len(row["completion"]),
            }
            for row in rows
        ]
    )
    changed: dict[str, Any] = {
        "a": {},
        "b": {"gradient_checkpointing": False},
        "c": {"gradient_checkpointing": False, "bf16": False},
    }
    args = SFTConfig(
        output_dir=str(folder / f"trl-{variant}"),
        learning_rate=LEARNING_RATE,
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        use_cpu=True,
        save_strategy="no",
        train_sampling_strategy="sequential",
        completion_only_loss=True,  # told apart by itself only where the rows are texts
        disable_tqdm=True,
        **changed[variant],
    )
    tokenizer = AutoTokenizer.from_pretrained(folder / "checkpoint")
    trainer = SFTTrainer(model=tuned, args=args, train_dataset=table, processing_class=tokenizer)
    started = time.perf_counter()
    trainer.train()
    spent = time.perf_counter() - started
    tuned.save_pretrained(folder / f"after-{variant}")
    return spent


def _loss(folder: Path, variant: str) -> float:
    """Nats an answer token on the held-out rows, base and adapter in float32, one code for all."""
    import torch

    from data import domains
    from trainer import adapter, base, device, encode, material
    from trainer.forward import batched, scored

    recipe = _recipe(folder)
    policy, domain = device.policy(recipe), domains.load("sms_spam")
    loaded, found = base.load(recipe.base.model_copy(update={"dtype": "float32"}), policy), material.read(recipe, domain)
    model = adapter.attach(loaded, recipe.lora, seed=recipe.seed)
    adapter.restore(model, folder / f"after-{variant}")
    model.train(False)
    encoded = encode.sft(recipe, recipe.stages[0], domain, loaded, found.validation)
    total = count = 0.0
    with torch.inference_mode():
        for part in _parts(encoded.rows, 16):
            batch = batched(encoded.prefix, [row.prompt for row in part], [row.completion for row in part])
            logs = scored(model, batch).log_probs
            total, count = total - float(logs.double().sum()), count + logs.numel()
    return total / count


def _parts(rows: Sequence[Any], size: int) -> list[Sequence[Any]]:
    ordered = sorted(rows, key=lambda row: len(row.prompt))
    return [ordered[at : at + size] for at in range(0, len(ordered), size)]


def _versions() -> dict[str, str]:
    from importlib import metadata

    return {name: metadata.version(name) for name in ("torch", "transformers", "trl", "peft", "accelerate")}


if __name__ == "__main__":
    main()
