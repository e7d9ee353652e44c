"""`pointsman serve` under load: many streaming clients at once on the embedded model, some of which leave in the middle.

    python bench/serve.py [--clients 32] [--seconds 120] [--leavers 4] [--alone 12] [--busy 2] [--peer 16]

A real server process. Each client's conversations carry a word that only it knows: an answer with another client's word is
cross-talk, and so is a first answer that differs from the one that the same question gets alone. Leavers disconnect after a
random time, from the queue, the prompt or the stream; the server's own counts say how soon the engine was free of their answers,
and how soon all work for them had ended, the log's commit included. Then, one at a time and beside processes that keep every core
busy, clients leave while a prompt of about 2,000 tokens is read; the server's processor time says when it stopped costing and what
it had cost. Memory is resident memory after the first quarter of the time. Beside it the `openai` client's stream of the same kind
of answers, one client.
"""

import argparse
import asyncio
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import openai

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from bench.serve_clients import Left, Tally, bound, crowd, differing, leave_alone, question
from data.store import open_store

STOP_S = 0.2
MOST_GROWTH = 1.05  # of memory: mean of the last third by that of the first
MOST_SLOPE = 0.05  # of memory: the line's rise over the time looked at, as a share of the mean


def main() -> None:
    """Run it and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--leavers", type=int, default=4, help="clients that leave in the middle, beside the others")
    parser.add_argument("--alone", type=int, default=12, help="clients that leave one at a time, while a long prompt is read")
    parser.add_argument("--words", type=int, default=1400, help="of that prompt")
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 2, help="processes that never rest meanwhile")
    parser.add_argument("--compared", type=int, default=16, help="clients whose first answer is asked for again, alone")
    parser.add_argument("--peer", type=int, default=16, help="answers of the openai client's stream")
    parser.add_argument("--tokens", type=int, default=48, help="tokens of an answer at most")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        with server(home) as (process, url):
            tally = asyncio.run(crowd(url, process.pid, wanted.clients, wanted.leavers, wanted.seconds, wanted.tokens))
            stops = {name: histogram(url, f"pointsman_{name}_seconds") for name in ("release", "stop")}
            differ = asyncio.run(differing(url, tally, wanted.compared))
            alone = leave_alone(url, process.pid, wanted.alone, wanted.words, wanted.busy)
            peer = one_by_one(url, wanted.peer, wanted.tokens)
            end = ending(process)
        logged = stop_times(home, tally.left_at)
    report(
        wanted, tally, judged(tally, stops, differ, alone), alone, {"left_within_s": stops, "openai": peer, "end_s": end}, logged
    )


@contextmanager
def server(home: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server process and its address."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tui", "serve", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"POINTSMAN_HOME": home, "POINTSMAN_OFFLINE": "1", "OLLAMA_HOST": "http://127.0.0.1:9"},
        cwd=harness.ROOT,
    )
    try:
        assert process.stderr
        found = next((found[1] for line in process.stderr if (found := re.search(r"serving on (\S+)", line))), "")
        if not found:
            raise SystemExit("the server did not start")
        yield process, found
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def ending(process: subprocess.Popen[str]) -> float:
    """Seconds from SIGTERM to the end."""
    began = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    return round(time.perf_counter() - began, 2)


def judged(tally: Tally, stops: dict[str, dict[str, int]], differ: tuple[int, int], alone: Sequence[Left]) -> list[dict[str, Any]]:
    """One row a claim."""

    def row(claim: str, measured: float | str, limit: float | str, met: bool) -> dict[str, Any]:
        return {"claim": claim, "measured": measured, "limit": limit, "met": met}

    failed = sum(tally.errors.values()) + sum(number for code, number in tally.statuses.items() if code not in (200, 503))
    growth, rise, _ = memory(tally.memory_mb)
    soon, left = stops["release"].get("0.2", 0), stops["release"].get("+Inf", 0)
    busy = max((one.busy_s for one in alone), default=0.0)
    cost = max((one.cpu_s for one in alone), default=0.0)
    return [
        row("errors other than 503", failed, 0, not failed and tally.answers > 0),
        row("answers with another client's word", len(tally.crossed), 0, not tally.crossed),
        row("first answers unlike those given alone", f"{differ[0]} of {differ[1]}", 0, not differ[0] and differ[1] > 0),
        row("memory, last third by first", growth, MOST_GROWTH, 0 < growth <= MOST_GROWTH),
        row("memory, rise of the line by the mean", rise, MOST_SLOPE, rise <= MOST_SLOPE),
        row(f"left under load, engine free within {STOP_S} s", f"{soon} of {left}", "all", soon == left > 0),
        row("left while a prompt is read, s to the last use of a core", busy, STOP_S, bool(alone) and busy <= STOP_S),
        row("left while a prompt is read, s of processor time", cost, STOP_S, bool(alone) and cost <= STOP_S),
    ]


def memory(found_mb: Sequence[float]) -> tuple[float, float, float]:
    """After the first quarter: last third by first, the rise of the fitted line by the mean, and its slope in MB a minute."""
    settled = found_mb[len(found_mb) // 4 :]
    third = len(settled) // 3
    if not third:
        return 0.0, 0.0, 0.0
    growth = statistics.fmean(settled[-third:]) / statistics.fmean(settled[:third])
    slope = statistics.linear_regression(range(len(settled)), settled).slope  # MB for each half second
    return growth, slope * len(settled) / statistics.fmean(settled), slope * 120


def one_by_one(url: str, count: int, tokens: int) -> dict[str, float]:
    """The openai client's stream, one answer after the other: seconds to the first piece and in all."""
    first, total = [], []
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        for number in range(count):
            name = f"{number:08x}"
            began, seen = time.perf_counter(), 0.0
            for chunk in client.chat.completions.create(**bound([question(name)], name, tokens)):
                if chunk.choices and chunk.choices[0].delta.content:
                    seen = seen or time.perf_counter() - began
            first.append(seen)
            total.append(time.perf_counter() - began)
    return {"answers": count, "first_s": round(statistics.median(first), 4), "total_s": round(statistics.median(total), 4)}


def histogram(url: str, name: str) -> dict[str, int]:
    """One of the server's own histograms: how many, by upper bound in seconds."""
    text = httpx.get(f"{url}/metrics", timeout=30).text
    return {limit: int(count) for limit, count in re.findall(name + r'_bucket\{le="([^"]+)"\} (\d+)', text)}


def stop_times(home: str, left_at: dict[str, float]) -> list[float]:
    """Seconds from each disconnect, of a stream that had begun, to the commit that says the answer was cancelled."""
    os.environ["POINTSMAN_HOME"] = home
    found = []
    with open_store() as store:
        for key, left in left_at.items():
            inference = store.log.inference(key) if key else None
            if inference and inference.status == "cancelled" and inference.finished:
                found.append(inference.finished.timestamp() - left)
    return sorted(found)


def report(
    wanted: argparse.Namespace,
    tally: Tally,
    claims: list[dict[str, Any]],
    alone: Sequence[Left],
    details: dict[str, Any],
    logged: Sequence[float],
) -> None:
    """The tables and the file."""
    figures = {
        "answers": tally.answers,
        "answers/s": tally.answers / wanted.seconds,
        "503": tally.statuses[503],
        "first piece p50 s": percentile(tally.first_s, 0.5),
        "first piece p99 s": percentile(tally.first_s, 0.99),
        "memory MB": max(tally.memory_mb, default=0.0),
        "memory slope MB/min": memory(tally.memory_mb)[2],
        "left under load": len(tally.left_at),
        "commit after leaving p50 s": percentile(logged, 0.5),
        "commit after leaving max s": max(logged, default=0.0),
        "left in a prompt p50 s": percentile([one.busy_s for one in alone], 0.5),
        "left in a prompt cpu p50 s": percentile([one.cpu_s for one in alone], 0.5),
        "left in a prompt, least cpu before s": min((one.before_s for one in alone), default=0.0),
        "openai alone, first piece s": details["openai"]["first_s"],
        "end s": details["end_s"],
    }
    print(harness.table(claims, ["claim", "measured", "limit", "met"]))
    print(harness.table([{"": name, "value": value} for name, value in figures.items()], ("", "value")))
    run = {"clients": wanted.clients, "seconds": wanted.seconds, "leavers": wanted.leavers, "busy": wanted.busy}
    more = {"crossed": tally.crossed[:10], "kinds": tally.errors, "alone": [asdict(one) for one in alone], **details}
    print(harness.write("serve", {**run, "claims": claims, **figures, **more}))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share lies; 0 for none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


if __name__ == "__main__":
    main()
