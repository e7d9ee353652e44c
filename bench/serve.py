"""`pointsman serve` under load: many streaming clients at once on the embedded model, some of which leave in the middle.

    python bench/serve.py [--clients 32] [--seconds 120] [--leavers 4] [--peer 16]

A real server process. Each client asks, again and again, for a word that only it knows, held to it by a JSON schema with that
word as its constant in a conversation of its own that grows turn by turn; an answer with another client's word is cross-talk.
Leavers disconnect after a random time, from the queue, the prompt or the stream; the log says when their answers had stopped
(an upper bound: the stop and its commit). Beside it the `openai` client's stream of the same kind of answers, one client.
Demanded: no error but 503, no cross-talk, resident memory after the first quarter within 10 %, leavers stopped within 0.2 s.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from data.store import open_store

MODEL = "llamacpp/smollm2-135m"
PATH = "/v1/chat/completions"
TURNS = 6  # of a conversation, before a new one begins
STOP_S = 0.2
FLAT = 1.10


@dataclass
class Tally:
    """What the clients met."""

    answers: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    crossed: list[str] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    left_at: dict[str, float] = field(default_factory=dict)
    memory_mb: list[float] = field(default_factory=list)


def main() -> None:
    """Run it and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--leavers", type=int, default=4, help="clients that leave in the middle, beside the others")
    parser.add_argument("--peer", type=int, default=16, help="answers of the openai client's stream")
    parser.add_argument("--tokens", type=int, default=48, help="tokens of an answer at most")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        process, url = started(home)
        try:
            tally = Tally()
            asyncio.run(load(url, process.pid, wanted, tally))
            peer = one_by_one(url, wanted.peer, wanted.tokens)
            served = stop_histogram(url)
        finally:
            began = time.perf_counter()
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            ended_s = time.perf_counter() - began
        stops = stop_times(home, tally.left_at)
    report(wanted, tally, stops, peer, served, ended_s)


def started(home: str) -> tuple[subprocess.Popen[str], str]:
    """The server process and its address."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tui", "serve", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"POINTSMAN_HOME": home, "POINTSMAN_OFFLINE": "1", "OLLAMA_HOST": "http://127.0.0.1:9"},
        cwd=harness.ROOT,
    )
    assert process.stderr
    for line in process.stderr:
        if found := re.search(r"serving on (\S+)", line):
            return process, found[1]
    raise SystemExit("the server did not start")


async def load(url: str, pid: int, wanted: argparse.Namespace, tally: Tally) -> None:
    """All clients at once for the time that was asked for, after one answer to warm up."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
        await one_answer(client, [question("warm")], "warm", wanted.tokens, Tally())
        end = time.monotonic() + wanted.seconds
        names = [f"{random.Random(number).getrandbits(32):08x}" for number in range(wanted.clients + wanted.leavers)]
        stayers = [stays(client, name, end, wanted.tokens, tally) for name in names[: wanted.clients]]
        leavers = [leaves(url, name, end, tally) for name in names[wanted.clients :]]
        await asyncio.gather(*stayers, *leavers, watch(pid, end, tally))


async def stays(client: httpx.AsyncClient, name: str, end: float, tokens: int, tally: Tally) -> None:
    """A client that listens to the end, turn after turn."""
    said: list[dict[str, str]] = []
    while time.monotonic() < end:
        said = said[: 2 * TURNS - 2] if len(said) < 2 * TURNS else []
        text = await one_answer(client, [*said, question(name)], name, tokens, tally)
        if text is None:
            await asyncio.sleep(1)
            continue
        said += [question(name), {"role": "assistant", "content": text}]


async def one_answer(
    client: httpx.AsyncClient, messages: Sequence[dict[str, str]], name: str, tokens: int, tally: Tally
) -> str | None:
    """One streamed answer, checked for whose it is; None where there was none."""
    began = time.perf_counter()
    text, first = "", 0.0
    try:
        async with client.stream("POST", PATH, json=asked(messages, name, tokens)) as answer:
            tally.statuses[answer.status_code] += 1
            if answer.status_code != 200:
                return None
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                value = json.loads(line[6:])
                if "error" in value:
                    tally.errors[str(value["error"]["message"])[:80]] += 1
                    return None
                text += value["choices"][0]["delta"].get("content") or ""
                first = first or time.perf_counter() - began
    except httpx.HTTPError as error:
        tally.errors[type(error).__name__] += 1
        return None
    tally.answers += 1
    tally.first_s.append(first)
    if text != json.dumps({"word": name}):
        tally.crossed.append(f"{name} got {text[:80]}")
    return text


async def leaves(url: str, name: str, end: float, tally: Tally) -> None:
    """A client that disconnects, a random while after its answer was begun."""
    draw = random.Random(name)
    while time.monotonic() < end:
        async with httpx.AsyncClient(base_url=url, timeout=300) as client:
            words = " ".join(draw.choice(("signal", "points", "track", "train")) for _ in range(draw.choice((5, 400))))
            body = {"model": MODEL, "messages": [question(f"{name} {words}")], "stream": True, "max_tokens": 400}
            key, left = "", 0.0
            try:
                async with asyncio.timeout(draw.uniform(0.05, 4.0)), client.stream("POST", PATH, json=body) as answer:
                    try:
                        key = json.loads(answer.headers.get("x-pointsman-decision", "{}")).get("inference", "")
                        async for _ in answer.aiter_lines():
                            pass
                    finally:
                        left = time.time()  # the connection is closed next
            except TimeoutError:
                tally.left_at[key] = left
            except httpx.HTTPError as error:
                tally.errors[type(error).__name__] += 1
        await asyncio.sleep(draw.uniform(0, 0.5))


async def watch(pid: int, end: float, tally: Tally) -> None:
    """Resident memory of the server, twice a second."""
    while time.monotonic() < end:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        tally.memory_mb.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
        await asyncio.sleep(0.5)


def one_by_one(url: str, count: int, tokens: int) -> dict[str, float]:
    """The openai client's stream, one answer after the other: seconds to the first piece and in all."""
    first, total = [], []
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        for number in range(count):
            name = f"{number:08x}"
            began = time.perf_counter()
            seen = 0.0
            for chunk in client.chat.completions.create(**asked([question(name)], name, tokens)):
                if chunk.choices and chunk.choices[0].delta.content:
                    seen = seen or time.perf_counter() - began
            first.append(seen)
            total.append(time.perf_counter() - began)
    return {"answers": count, "first_s": round(statistics.median(first), 4), "total_s": round(statistics.median(total), 4)}


def stop_histogram(url: str) -> dict[str, int]:
    """The server's own count of how soon it stopped, by upper bound in seconds."""
    text = httpx.get(f"{url}/metrics", timeout=30).text
    return {bound: int(count) for bound, count in re.findall(r'pointsman_stop_seconds_bucket\{le="([^"]+)"\} (\d+)', text)}


def stop_times(home: str, left_at: dict[str, float]) -> list[float]:
    """Seconds from each disconnect to the commit that says the answer was cancelled."""
    os.environ["POINTSMAN_HOME"] = home
    found = []
    with open_store() as store:
        for key, left in left_at.items():
            inference = store.log.inference(key) if key else None
            if inference and inference.status == "cancelled" and inference.finished:
                found.append(inference.finished.timestamp() - left)
    return sorted(found)


def report(
    wanted: argparse.Namespace, tally: Tally, stops: list[float], peer: dict[str, float], served: dict[str, int], ended_s: float
) -> None:
    """The table, the verdict and the file."""
    settled = tally.memory_mb[len(tally.memory_mb) // 4 :] or [0.0]
    growth = max(settled) / settled[0] if settled[0] else 0.0
    total = served.get("+Inf", 0)
    row: dict[str, Any] = {
        "answers": tally.answers,
        "answers/s": tally.answers / wanted.seconds,
        "503": tally.statuses[503],
        "errors": sum(tally.errors.values()) + sum(n for code, n in tally.statuses.items() if code not in (200, 503)),
        "cross-talk": len(tally.crossed),
        "first piece p50 s": percentile(tally.first_s, 0.5),
        "first piece p99 s": percentile(tally.first_s, 0.99),
        "memory MB": max(tally.memory_mb, default=0.0),
        "growth": growth,
        "left": total,
        "stop p50 s": percentile(stops, 0.5),
        "stop p99 s": percentile(stops, 0.99),
        "stop max s": max(stops, default=0.0),
        "end s": ended_s,
    }
    print(harness.table([{"": name, "value": value} for name, value in row.items()], ("", "value")))
    passed = {
        "no error but 503": row["errors"] == 0,
        "no cross-talk": not tally.crossed,
        "memory flat": growth <= FLAT,
        "stopped within 0.2 s": served.get("0.2", 0) == total and total > 0,
    }
    print("\n".join(f"{'passed' if value else 'FAILED'}: {name}" for name, value in passed.items()))
    details = {"crossed": tally.crossed[:10], "kinds": tally.errors, "stop_buckets": served, "stops_logged": len(stops)}
    print(
        harness.write(
            "serve", {"clients": wanted.clients, "seconds": wanted.seconds, **row, **details, "openai": peer, "passed": passed}
        )
    )


def question(name: str) -> dict[str, str]:
    """The user's words."""
    return {"role": "user", "content": f"The word is {name}. Say the word."}


def asked(messages: Sequence[dict[str, str]], name: str, tokens: int) -> dict[str, Any]:
    """A request for an answer that can only be this client's."""
    schema = {"type": "object", "properties": {"word": {"const": name}}, "required": ["word"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "word", "schema": schema}}
    return {"model": MODEL, "messages": list(messages), "stream": True, "max_tokens": tokens, "response_format": form}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share lies; 0 for none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


if __name__ == "__main__":
    main()
