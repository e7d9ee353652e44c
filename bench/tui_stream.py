"""CPU time of the chat while an answer streams in, beside Textual's own MarkdownStream.

    python bench/tui_stream.py [--tokens 1200] [--rate 100] [--size 100x40] [--rounds 1] [--quick]

Each kind of text (prose, code, a list, a table; the same tokens every time) is fed token by token at `--rate` tokens a second
into an app with the real compositor, headless but with its output encoded as for a terminal. Compared, in turn: our
AnswerView; MarkdownStream as its documentation shows it; MarkdownStream fed ten times a second. Shown: CPU milliseconds of
the process per token, from the first token until the finished answer is drawn, without those of feeding nothing at the
same pace; ours as a share of each; and the 95th percentile of how late a 10 ms timer fired, in milliseconds. Demanded: at
most a third of MarkdownStream's time per token.
"""

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Markdown

from bench import harness
from data.chat import Usage
from tui.widgets.transcript import Transcript

WORDS = "the model answers with words that a reader can follow from one line to another while it explains how trains run".split()
LIMIT = 1 / 3
Feed = AsyncIterator[str]


class Host(App[None]):
    """An app whose drawing is encoded although no terminal is there."""

    is_headless = False

    async def settle(self, times: int = 3) -> None:
        """Until what was asked for has been drawn, and what that asked for in turn."""
        for _ in range(times):
            drawn = asyncio.Event()
            self.call_after_refresh(drawn.set)
            await drawn.wait()


class Ours(Host):
    """The transcript of the chat."""

    def compose(self) -> ComposeResult:
        yield Transcript()

    async def stream(self, tokens: Feed) -> None:
        transcript = self.query_one(Transcript)
        await transcript.add_question("q", "How do trains run?")
        answer = await transcript.begin_answer("echo/echo")
        answer.begin("a", "i", "echo/echo")
        async for token in tokens:
            answer.write(token)
        await answer.finish("complete", Usage(10, 0, answer.tokens, 0.1, 1.0))


class Theirs(Host):
    """Textual's Markdown in a scrolling container, as its documentation has it."""

    CSS = "VerticalScroll { scrollbar-gutter: stable; }"
    every_s = 0.0

    def compose(self) -> ComposeResult:
        with VerticalScroll() as container:
            yield Markdown(open_links=False)
        container.anchor()

    async def stream(self, tokens: Feed) -> None:
        stream = Markdown.get_stream(self.query_one(Markdown))
        held: list[str] = []
        flushed = time.monotonic()
        async for token in tokens:
            held.append(token)
            if time.monotonic() - flushed >= self.every_s:
                await stream.write("".join(held))
                held.clear()
                flushed = time.monotonic()
        await stream.write("".join(held))
        await stream.stop()


class TheirsSlower(Theirs):
    """The same, fed ten times a second."""

    every_s = 0.1


class Nothing(Host):
    """What feeding costs."""

    async def stream(self, tokens: Feed) -> None:
        async for _ in tokens:
            pass


WAYS: dict[str, type[Host]] = {
    "pointsman": Ours,
    "MarkdownStream": Theirs,
    "MarkdownStream 10 Hz": TheirsSlower,
    "nothing": Nothing,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1200)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--size", default="100x40")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--quick", action="store_true", help="a quarter of the tokens; for a look, not for the record")
    options = parser.parse_args()
    count = options.tokens // 4 if options.quick else options.tokens
    size = tuple(map(int, options.size.split("x")))
    runs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    asyncio.run(measured(Ours, tokens_of("prose", 50), options.rate, size))  # imports and first use
    for _ in range(options.rounds):
        for kind in options.kinds:
            for name, app in WAYS.items():
                runs.setdefault((kind, name), []).append(asyncio.run(measured(app, tokens_of(kind, count), options.rate, size)))
    rows = [row for kind in options.kinds for row in rows_of_kind(kind, runs, count)]
    print(harness.table(rows, list(rows[0])))
    reached = {row["text"]: row["ours of it"] <= LIMIT for row in rows if row["way"] == "MarkdownStream"}
    print(f"at most {LIMIT:.2f} of MarkdownStream: {reached}")
    harness.write("tui_stream", {"tokens": count, "rate": options.rate, "size": options.size, "rows": rows, "reached": reached})


def rows_of_kind(kind: str, runs: dict[tuple[str, str], list[tuple[float, float]]], count: int) -> list[dict[str, Any]]:
    """Medians over rounds of one kind of text, a row for each way."""
    idle = statistics.median(cpu for cpu, _ in runs[kind, "nothing"])
    names = [name for name in WAYS if name != "nothing"]
    cpu_ms = {name: statistics.median(cpu - idle for cpu, _ in runs[kind, name]) / count * 1000 for name in names}
    late_ms = {name: statistics.median(late for _, late in runs[kind, name]) * 1000 for name in names}
    return [
        {
            "text": kind,
            "way": name,
            "CPU ms/token": round(cpu_ms[name], 3),
            "ours of it": round(cpu_ms["pointsman"] / cpu_ms[name], 3),
            "late ms p95": round(late_ms[name], 1),
        }
        for name in names
    ]


async def measured(app_class: type[Host], tokens: list[str], rate: float, size: tuple[int, ...]) -> tuple[float, float]:
    """CPU seconds of one streamed answer, and the 95th percentile of how late (seconds) a timer fired meanwhile."""
    app = app_class()
    async with app.run_test(size=(size[0], size[1])), lateness() as late:
        await app.settle()
        late.clear()
        started = time.process_time()
        await app.stream(paced(tokens, rate))
        await app.settle()
        spent = time.process_time() - started
        return spent, statistics.quantiles(late, n=20)[-1] if len(late) > 1 else 0.0


async def paced(tokens: list[str], rate: float) -> Feed:
    """The tokens at `rate` a second, counted from the first one."""
    started = time.monotonic()
    for number, token in enumerate(tokens):
        await asyncio.sleep(max(started + number / rate - time.monotonic(), 0))
        yield token


@asynccontextmanager
async def lateness(interval_s: float = 0.01) -> AsyncIterator[list[float]]:
    """How late, in seconds, a timer fires, again and again."""
    late: list[float] = []

    async def watch() -> None:
        while True:
            due = time.perf_counter() + interval_s
            await asyncio.sleep(interval_s)
            late.append(time.perf_counter() - due)

    task = asyncio.create_task(watch())
    try:
        yield late
    finally:
        task.cancel()


def tokens_of(kind: str, count: int) -> list[str]:
    """The first `count` tokens of a text of this kind, the same every time."""
    words = random.Random(7)
    tokens: list[str] = []
    for line in KINDS[kind](words):
        tokens += [piece for word in line.split(" ") for piece in pieces(word)]
        if len(tokens) >= count:
            return tokens[:count]
    return tokens


def pieces(word: str) -> list[str]:
    """A word with its space as tokens of at most six characters."""
    word += " "
    return [word[at : at + 6] for at in range(0, len(word), 6)]


def prose(words: random.Random) -> Iterator[str]:
    """Paragraphs of some sixty words."""
    while True:
        yield " ".join(words.choice(WORDS) for _ in range(60)) + ".\n\n"


def code(words: random.Random) -> Iterator[str]:
    """One long program."""
    yield "```python\n"
    for number in range(10_000):
        yield f"def {words.choice(WORDS)}_{number}(value: int) -> str:\n    # {words.choice(WORDS)} {words.choice(WORDS)}\n"
        yield f'    return "{words.choice(WORDS)}" * value + str({number})\n\n'


def items(words: random.Random) -> Iterator[str]:
    """One long list, some of it nested."""
    while True:
        yield f"- **{words.choice(WORDS)}** " + " ".join(words.choice(WORDS) for _ in range(10)) + "\n"
        yield f"  - `{words.choice(WORDS)}` " + " ".join(words.choice(WORDS) for _ in range(6)) + "\n"


def table(words: random.Random) -> Iterator[str]:
    """One long table."""
    yield "| number | name | what it says |\n|---|---|---|\n"
    for number in range(10_000):
        yield f"| {number} | {words.choice(WORDS)} | " + " ".join(words.choice(WORDS) for _ in range(5)) + " |\n"


KINDS: dict[str, Callable[[random.Random], Iterator[str]]] = {"prose": prose, "code": code, "list": items, "table": table}

if __name__ == "__main__":
    main()
