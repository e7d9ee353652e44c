"""The clients of `bench/serve.py`: those that stay, those that leave, and what watches the server's memory and processor time.

Each client's conversations carry a word that only it knows. A conversation begins with a question that the model answers freely
and greedily, so that the answer can be compared with the same one given alone; then come questions whose answers a JSON schema
holds to the word. Not covered: starting the server and judging it (serve.py).
"""

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

MODEL = "llamacpp/smollm2-135m"
PATH = "/v1/chat/completions"
TURNS = 5  # of a conversation, before a new one begins
FREE_TOKENS = 16  # of a conversation's first answer
LOOK_S = 0.01  # between two looks at a process's processor time, which the kernel tells in steps of 0.01 s
REST_S = 0.02
PATIENCE_S = 120.0
AFTER_S = 1.5  # that a server is watched after a client has left
WORDS = ("signal", "points", "track", "train", "gate", "lamp", "siding", "brake")


@dataclass
class Tally:
    """What the clients met. free: the first answer to each client's own question, by its word."""

    answers: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    crossed: list[str] = field(default_factory=list)
    free: dict[str, set[str]] = field(default_factory=dict)
    first_s: list[float] = field(default_factory=list)
    left_at: dict[str, float] = field(default_factory=dict)
    memory_mb: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Left:
    """One client that left while its prompt was read.

    before_s: processor time that it had cost by then; busy_s: from its leaving to the server's last use of the processor, of which
    the last REST_S count as an idle server's; cpu_s: what it cost after its leaving.
    """

    before_s: float
    busy_s: float
    cpu_s: float


async def crowd(url: str, pid: int, stayers: int, leavers: int, seconds: float, tokens: int) -> Tally:
    """All clients at once for that time, after one answer to warm up."""
    tally = Tally()
    names = [f"{random.Random(number).getrandbits(32):08x}" for number in range(stayers + leavers)]
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=httpx.Limits(max_connections=None)) as client:
        await answer(client, bound([question("warm")], "warm", tokens), Tally())
        end = time.monotonic() + seconds
        staying = [_stays(client, name, names, end, tokens, tally) for name in names[:stayers]]
        leaving = [_leaves(url, name, end, tally) for name in names[stayers:]]
        await asyncio.gather(*staying, *leaving, _watch(pid, end, tally))
    return tally


async def answer(client: httpx.AsyncClient, body: dict[str, Any], tally: Tally) -> str | None:
    """One streamed answer's text; None where there was none."""
    began, text, first = time.perf_counter(), "", 0.0
    try:
        async with client.stream("POST", PATH, json=body) as reply:
            tally.statuses[reply.status_code] += 1
            if reply.status_code != 200:
                return None
            async for line in reply.aiter_lines():
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
    return text


def question(name: str) -> dict[str, str]:
    """The user's words."""
    return {"role": "user", "content": f"The secret word is {name}. Say the word."}


def free(name: str) -> dict[str, Any]:
    """A request for whatever the model says to that word, always the same."""
    said = {"role": "user", "content": f"My secret word is {name}. Write a sentence about the word {name}."}
    return {"model": MODEL, "messages": [said], "stream": True, "max_tokens": FREE_TOKENS, "temperature": 0, "seed": 1}


def bound(messages: Sequence[dict[str, str]], name: str, tokens: int) -> dict[str, Any]:
    """A request for an answer that can only be this client's."""
    schema = {"type": "object", "properties": {"word": {"const": name}}, "required": ["word"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "word", "schema": schema}}
    return {"model": MODEL, "messages": list(messages), "stream": True, "max_tokens": tokens, "response_format": form}


async def differing(url: str, tally: Tally, most: int) -> tuple[int, int]:
    """How many clients' first answers differ from the same one given alone, and of how many."""
    names = [name for name, texts in tally.free.items() if texts][:most]
    found = 0
    async with httpx.AsyncClient(base_url=url, timeout=300) as client:
        for name in names:
            alone = await answer(client, free(name), Tally())
            found += tally.free[name] != {alone}
    return found, len(names)


def leave_alone(url: str, pid: int, count: int, words: int, busy: int) -> list[Left]:
    """Clients one after the other that leave while a long prompt is read, beside `busy` other processes that never rest."""
    draw = random.Random(7)
    found = []
    with burning(busy):
        for number in range(count):
            told = f"{number} " + " ".join(draw.choice(WORDS) for _ in range(words))
            body = {"model": MODEL, "messages": [{"role": "user", "content": told}], "stream": True, "max_tokens": 8}
            found.append(_leave(url, pid, json.dumps(body).encode(), draw.uniform(0.2, 1.5)))
    return found


@contextmanager
def burning(count: int) -> Iterator[None]:
    """So many processes that use the processor all the time."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def cpu_s(pid: int) -> float:
    """Processor time of a process's threads, those that have ended included."""
    values = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _leave(url: str, pid: int, body: bytes, cost_s: float) -> Left:
    """Ask, and leave once that has cost the server so much processor time: by then it reads the prompt."""
    host, _, port = url.removeprefix("http://").partition(":")
    idle, end = cpu_s(pid), time.perf_counter() + PATIENCE_S
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        while (before := cpu_s(pid)) < idle + cost_s and time.perf_counter() < end:
            time.sleep(LOOK_S)
        left = time.perf_counter()
    looks = []
    while (now := time.perf_counter()) < left + AFTER_S:
        looks.append((now - left, cpu_s(pid)))
        time.sleep(LOOK_S)
    last = looks[-1][1]
    busy_s = next(after for after, used in looks if last - used <= REST_S)
    return Left(round(before - idle, 2), round(busy_s, 4), round(last - before, 4))


async def _stays(client: httpx.AsyncClient, name: str, names: Sequence[str], end: float, tokens: int, tally: Tally) -> None:
    """A client that listens to the end, turn after turn."""
    said: list[dict[str, str]] = []
    others = [other for other in names if other != name]
    while time.monotonic() < end:
        body = bound([*said, question(name)], name, tokens) if said else free(name)
        text = await answer(client, body, tally)
        if text is None:
            await asyncio.sleep(1)
            continue
        if said and text != json.dumps({"word": name}):
            tally.crossed.append(f"{name} got {text[:80]}")
        tally.crossed += [f"{name} got {other}" for other in others if other in text]
        if not said:
            tally.free.setdefault(name, set()).add(text)
        said = [*said, body["messages"][-1], {"role": "assistant", "content": text}] if len(said) < 2 * TURNS - 2 else []


async def _leaves(url: str, name: str, end: float, tally: Tally) -> None:
    """A client that disconnects a random while after it asked, from the queue, the prompt or the stream."""
    draw = random.Random(name)
    while time.monotonic() < end:
        async with httpx.AsyncClient(base_url=url, timeout=300) as client:
            words = " ".join(draw.choice(WORDS) for _ in range(draw.choice((5, 400))))
            said = {"role": "user", "content": f"{name} {words}"}
            body = {"model": MODEL, "messages": [said], "stream": True, "max_tokens": 400}
            key, left = "", 0.0
            try:
                async with asyncio.timeout(draw.uniform(0.05, 4.0)), client.stream("POST", PATH, json=body) as reply:
                    try:
                        key = json.loads(reply.headers.get("x-pointsman-decision", "{}")).get("inference", "")
                        async for _ in reply.aiter_lines():
                            pass
                    finally:
                        left = time.time()  # the connection is closed next
            except TimeoutError:
                tally.left_at[key] = left
            except httpx.HTTPError as error:
                tally.errors[type(error).__name__] += 1
        await asyncio.sleep(draw.uniform(0, 0.5))


async def _watch(pid: int, end: float, tally: Tally) -> None:
    while time.monotonic() < end:
        tally.memory_mb.append(resident_mb(pid))
        await asyncio.sleep(0.5)
