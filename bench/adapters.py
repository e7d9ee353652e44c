"""Eight adapters on one base in memory: what they take, what switching costs, and whether each answers as if it were alone.

    python bench/adapters.py [--run DIR ...] [--count 8] [--tokens 64] [--rounds 3] [--skip-peers]

Each way runs in a process of its own, whose resident memory is read from /proc. Ours: the embedded base with the adapters attached,
by file. Beside it the same adapters merged into models of the base's form, swapped and all at once with llama-cpp-python, and on
the Ollama server that OLLAMA_HOST or POINTSMAN_TEST_OLLAMA names. Adapters are those of the runs given, the rest random of rank 16
on all linear layers, all in the form in which an export is served (Q8_0, rank filled up to 32; --exact: in F32, as trained). The
bound is base + count * (adapter file + its KV cache), once for caches of the whole context that an adapter may use and once for
what was allocated. A switch is the first token with another adapter than before, less the first token with the same one again,
both with a warm cache.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from data.chat import Message, Usage
from data.config import LlamaCppSettings, Sampling

BASE = "smollm2-135m"
RANK = 16
QUESTIONS = ("Name the capital of France and say why it is known.", "Is this message spam? You won a prize, call now.")
GREEDY = Sampling(temperature=0, repeat_penalty=1.0)
TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
MOST_SWITCH_MS = 5.0
LEAST_DECODE = 0.8


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--run", type=Path, action="append", default=[], help="a run folder whose adapter is taken")
    arguments.add_argument("--count", type=int, default=8)
    arguments.add_argument("--tokens", type=int, default=64, help="tokens of an answer")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--threads", type=int, default=0)
    arguments.add_argument("--exact", action="store_true", help="adapters in F32")
    arguments.add_argument("--skip-peers", action="store_true")
    arguments.add_argument("--child", help=argparse.SUPPRESS)
    arguments.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.child:
        found = CHILDREN[options.child](options)
        (options.folder / f"{options.child}.json").write_text(json.dumps(found))
        return
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as folder:
        report(options, Path(folder))


def report(options: argparse.Namespace, folder: Path) -> None:
    """Make the adapters and merged models, run each way, print the tables and write the results."""
    base = _base()
    real = [run.name for run in options.run][: options.count]
    make_adapters(folder, base, options.run, options.count, "F32" if options.exact else "Q8_0")
    form = make_merged(folder, base, 1 if options.skip_peers else options.count)
    ways = ["memory", "answers", "decode"]
    if not options.skip_peers:
        ways += ["swapped", "resident", *(["ollama"] if _ollama_host() else [])]
    found = {way: run_child(way, options, folder) for way in ways}
    claims = judged(found)
    print(harness.table(claims, ["claim", "measured", "limit", "met"]))
    peers = [{"way": way, **found[way]["row"]} for way in ways if "row" in found[way]]
    print(harness.table(peers, ["way", "memory MB", "switch ms", "load s"]))
    harness.write("adapters", {"base": base.name, "ftype": form, "real adapters": real, "claims": claims, "peers": peers, **found})


def judged(found: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a claim."""
    memory, answers, decode = found["memory"], found["answers"], found["decode"]

    def row(claim: str, measured: float | str, limit: float | str, met: bool) -> dict[str, Any]:
        return {"claim": claim, "measured": measured, "limit": limit, "met": met}

    total, whole, held = memory["total_mb"], memory["bound_mb"], memory["bound_allocated_mb"]
    switch, ratio = answers["switch_ms"], decode["ratio"]
    return [
        row("memory MB, caches of the whole context", total, whole, total <= whole),
        row("memory MB, caches as allocated", total, held, total <= held),
        row("switch ms, warm cache", switch, MOST_SWITCH_MS, switch <= MOST_SWITCH_MS),
        row("A, B, A equals cold A", f"{answers['same']} of {answers['asked']}", "all", answers["same"] == answers["asked"]),
        row("decode, unmerged of merged", ratio, LEAST_DECODE, ratio >= LEAST_DECODE),
    ]


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Resident memory: the base answering, then with every adapter warm."""
    engine = _engine(options)
    before = resident_mb()
    for question in QUESTIONS:
        _ask(engine, None, question, options.tokens)
    base = resident_mb()
    steps = []
    for adapter in _adapters(options):
        for question in QUESTIONS:
            _ask(engine, adapter, question, options.tokens)
        steps.append(round(resident_mb() - base, 1))
    (slot,) = engine._slots.values()
    model = slot.model
    files = sum(path.stat().st_size for path in _adapters(options))
    contexts = [context for key, (context, _) in model._caches._kept.items() if key is not None]
    allocated = sum(model.cache_bytes(context.cells) for context in contexts)
    whole = options.count * model.cache_bytes(model.context_tokens)
    engine.close()
    return {
        "without_model_mb": round(before, 1),
        "base_mb": round(base, 1),
        "total_mb": round(base + steps[-1], 1),
        "steps_mb": steps,
        "adapter_files_mb": round(files / 2**20, 1),
        "caches_mb": round(allocated / 2**20, 1),
        "bound_mb": round(base + (files + whole) / 2**20, 1),
        "bound_allocated_mb": round(base + (files + allocated) / 2**20, 1),
        "warm": len(contexts),
        "row": {"memory MB": round(base + steps[-1], 1)},
    }


def answers(options: argparse.Namespace) -> dict[str, Any]:
    """What a switch costs, and each adapter's answer among the others beside its answer alone."""
    engine = _engine(options)
    adapters = _adapters(options)
    for adapter in adapters:
        _ask(engine, adapter, QUESTIONS[0], 2)
    switched, stayed = [], []
    for _ in range(options.rounds):
        for adapter in adapters:
            switched.append(_ask(engine, adapter, QUESTIONS[0], 2)[1].ttft_s)
            stayed.append(_ask(engine, adapter, QUESTIONS[0], 2)[1].ttft_s)
    same = 0
    for at, adapter in enumerate(adapters):
        before = _ask(engine, adapter, QUESTIONS[1], options.tokens)[0]
        _ask(engine, adapters[at - 1], QUESTIONS[1], options.tokens)
        after = _ask(engine, adapter, QUESTIONS[1], options.tokens)[0]
        alone = _engine(options)
        same += before == after == _ask(alone, adapter, QUESTIONS[1], options.tokens)[0]
        alone.close()
    engine.close()
    switch = 1e3 * (statistics.median(switched) - statistics.median(stayed))
    return {
        "switch_ms": round(switch, 2),
        "first_token_switched_ms": round(1e3 * statistics.median(switched), 2),
        "first_token_same_ms": round(1e3 * statistics.median(stayed), 2),
        "same": same,
        "asked": len(adapters),
        "row": {"switch ms": round(switch, 2)},
    }


def decode(options: argparse.Namespace) -> dict[str, Any]:
    """Tokens a second with the first adapter attached, beside its merged model of the base's form; the two take turns."""
    engine, merged = _engine(options), _engine(options)
    adapter = _adapters(options)[0]
    ways: dict[str, Callable[[], Usage]] = {
        "unmerged": lambda: _ask(engine, adapter, QUESTIONS[0], options.tokens)[1],
        "merged": lambda: _ask(merged, None, QUESTIONS[0], options.tokens, str(_merged(options)[0]))[1],
    }
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for way in ways.values():
        way()
    for _ in range(options.rounds):
        for name, way in ways.items():
            usage = way()
            speeds[name].append((usage.completion_tokens - 1) / max(1e-9, usage.total_s - usage.ttft_s))
    engine.close()
    merged.close()
    fast = {way: statistics.median(found) for way, found in speeds.items()}
    return {
        "ratio": round(fast["unmerged"] / fast["merged"], 3),
        "tokens_per_s": {way: round(speed, 1) for way, speed in fast.items()},
        "all": speeds,
    }


def swapped(options: argparse.Namespace) -> dict[str, Any]:
    """Merged models with llama-cpp-python, one in memory: what loading another and its first token take."""
    import llama_cpp

    took, peak = [], 0.0
    held: Any = None
    for path in _merged(options) * options.rounds:
        started = time.perf_counter()
        if held is not None:
            held.close()
        held = llama_cpp.Llama(str(path), n_ctx=4096, n_threads=_threads(options), verbose=False)
        held.create_completion(TEMPLATE.format(QUESTIONS[0]), max_tokens=1, temperature=0.0)
        took.append(time.perf_counter() - started)
        peak = max(peak, resident_mb())
    middle = statistics.median(took)
    return {"all_s": took, "row": {"memory MB": round(peak, 1), "switch ms": round(1e3 * middle, 1), "load s": round(middle, 3)}}


def resident(options: argparse.Namespace) -> dict[str, Any]:
    """Merged models with llama-cpp-python, all in memory; each is asked once, so that its caches are warm."""
    import llama_cpp

    held = []
    for path in _merged(options):
        held.append(llama_cpp.Llama(str(path), n_ctx=4096, n_threads=_threads(options), verbose=False))
        held[-1].create_completion(TEMPLATE.format(QUESTIONS[0]), max_tokens=options.tokens, temperature=0.0)
    return {"row": {"memory MB": round(resident_mb(), 1)}}


def ollama(options: argparse.Namespace) -> dict[str, Any]:
    """Merged models on a real Ollama server: seconds from one to the other, and the memory of its processes."""
    import ollama as library

    client = library.Client(host=_ollama_host())
    names = [f"pointsman-bench-{number}" for number in range(options.count)]
    try:
        for name, path in zip(names, _merged(options), strict=True):
            client.create(model=name, files={"model.gguf": client.create_blob(str(path))})
        took, loads, peak = [], [], 0.0
        for name in names * options.rounds:
            started = time.perf_counter()
            settings = {"temperature": 0, "num_ctx": 4096, "num_predict": 1}
            reply = client.chat(model=name, messages=[{"role": "user", "content": QUESTIONS[0]}], options=settings)
            took.append(time.perf_counter() - started)
            loads.append((reply.load_duration or 0) / 1e9)
            peak = max(peak, sum(resident_mb(pid) for pid in _ollama_processes()))
    finally:
        for name in names:
            with suppress(library.ResponseError):
                client.delete(name)
    middle = statistics.median(took)
    row = {"memory MB": round(peak, 1), "switch ms": round(1e3 * middle, 1), "load s": round(statistics.median(loads), 3)}
    return {"host": _ollama_host(), "all_s": took, "row": row}


CHILDREN: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    way.__name__: way for way in (memory, answers, decode, swapped, resident, ollama)
}


def run_child(way: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One way in a process of its own."""
    numbers = ("count", "tokens", "rounds", "threads")
    command = [sys.executable, __file__, "--child", way, "--folder", str(folder)]
    command += [part for name in numbers for part in (f"--{name}", str(getattr(options, name)))]
    print(f"{way} ...", file=sys.stderr, flush=True)
    subprocess.run(command, check=True)
    return dict(json.loads((folder / f"{way}.json").read_text()))


def make_adapters(folder: Path, base: Path, runs: list[Path], count: int, form: Literal["F32", "Q8_0"]) -> None:
    """adapter-N.gguf: those of the runs first, then seeded random ones."""
    from export import adapter, families
    from router.engines._llamacpp import header

    for number in range(count):
        target = folder / f"adapter-{number}.gguf"
        if number < len(runs):
            adapter.write(runs[number] / "adapter", families.of_gguf(header.check(base)), target, form=form)
        else:
            random_adapter(target, base, number, form)


def random_adapter(target: Path, base: Path, seed: int, form: str, strength: float = 0.02) -> None:
    """An adapter of rank 16 for every linear layer, as training of all layers makes them and `export.adapter` writes them."""
    import gguf
    import numpy as np

    kind = gguf.GGMLQuantizationType[form]
    rank = 32 if form == "Q8_0" else RANK  # filled up with zeros
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0 * rank)
    for tensor in gguf.GGUFReader(base).tensors:
        if not tensor.name.startswith("blk.") or len(tensor.shape) != 2:
            continue
        columns, rows = (int(size) for size in tensor.shape)
        a = np.pad(random.normal(size=(RANK, columns)) / columns**0.5, ((0, rank - RANK), (0, 0)))
        b = np.pad(strength * random.normal(size=(rows, RANK)), ((0, 0), (0, rank - RANK)))
        for half, values in (("a", a), ("b", b)):
            held = gguf.quants.quantize(values.astype(np.float32), kind)
            writer.add_tensor(f"{tensor.name}.lora_{half}", held, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_merged(folder: Path, base: Path, count: int) -> str:
    """merged-N.gguf: base and adapter N in one file of the base's form, whose number in llama.h is returned."""
    from export import join
    from router.engines._llamacpp import bindings, header

    api = bindings.api()  # whose log is not shown
    parameters = api.llama_model_quantize_default_params()
    parameters.ftype = int(header.summary(base).metadata["general.file_type"])
    for number in range(count):
        whole, target = join.join(base, folder / f"adapter-{number}.gguf", folder / "whole.gguf"), folder / f"merged-{number}.gguf"
        if api.llama_model_quantize(os.fsencode(whole), os.fsencode(target), ctypes.byref(parameters)):
            raise SystemExit(f"{target.name} could not be quantised")
        whole.unlink()
    return str(parameters.ftype)


def resident_mb(pid: int | str = "self") -> float:
    """Resident memory of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def _ask(engine: Any, adapter: Path | None, question: str, tokens: int, model: str = BASE) -> tuple[str, Usage]:
    from router.engines.base import Adapter, Request

    attached = Adapter(str(adapter)) if adapter else None
    talk = (Message("user", question),)
    chunks = list(engine.stream(Request(model, talk, sampling=GREEDY, max_tokens=tokens, adapter=attached)))
    return "".join(chunk.text for chunk in chunks), chunks[-1].usage


def _engine(options: argparse.Namespace) -> Any:
    from router.engines.llamacpp import LlamaCpp

    return LlamaCpp(LlamaCppSettings(threads=options.threads))


def _adapters(options: argparse.Namespace) -> list[Path]:
    return [options.folder / f"adapter-{number}.gguf" for number in range(options.count)]


def _merged(options: argparse.Namespace) -> list[Path]:
    return [options.folder / f"merged-{number}.gguf" for number in range(options.count)]


def _threads(options: argparse.Namespace) -> int:
    return options.threads or len(os.sched_getaffinity(0))


def _base() -> Path:
    from router.engines._llamacpp.files import locate

    return locate(BASE, ()).path


def _ollama_host() -> str:
    return os.environ.get("POINTSMAN_TEST_OLLAMA") or os.environ.get("OLLAMA_HOST", "")


def _ollama_processes() -> list[int]:
    """The server and what it started: processes by the names that Ollama has used for them."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "comm").read_text().strip() in ("ollama", "llama-server", "ollama_llama_se"):
                found.append(int(entry.name))
    return found


if __name__ == "__main__":
    main()
