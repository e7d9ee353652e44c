"""How long a long conversation takes to open, and how long the screen stands still while it is read.

    python bench/tui_open.py [--turns 500] [--peer-turns 100] [--size 100x40] [--rounds 3] [--quick]

The turns (questions and answers in turn; prose, code, lists and tables, the same every time) are given to our Transcript, and
to a scrolling container with one Textual Markdown widget an answer, as chat apps on Textual commonly have it; of those the
peer gets `--peer-turns`, for its time grows with them. Headless, with the real compositor and its output encoded as for a
terminal. Shown, in milliseconds and as medians over rounds: until everything is drawn; a resize then; one page up, over the whole
way to the first message (median, 95th percentile and longest, which holds loading earlier messages); and, once all messages
are loaded, a resize and the terminal's focus lost and found. Demanded: 500 turns are open within a second.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.widget import Widget
from textual.widgets import Markdown, Static

from bench import harness
from bench.tui_stream import KINDS, Host, tokens_of
from data.chat import Message, Usage
from data.store.rows import Inference, Turn
from tui.widgets.transcript import Transcript

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT_MS = 1000.0


class Ours(Host):
    """The transcript of the chat."""

    def compose(self) -> ComposeResult:
        yield Transcript()

    @property
    def scroller(self) -> Transcript:
        """What scrolls."""
        return self.query_one(Transcript)

    async def open(self, turns: list[Turn]) -> None:
        """Show the conversation."""
        await self.scroller.show(turns)

    @property
    def at_top(self) -> bool:
        """Whether the first message is in sight."""
        return self.scroller.scroll_y <= 0 and self.scroller.blocks[0].turn_id == "t0" and not self.scroller.loading_earlier


class Theirs(Host):
    """A Markdown widget for each answer."""

    def compose(self) -> ComposeResult:
        yield VerticalScroll()

    @property
    def scroller(self) -> VerticalScroll:
        """What scrolls."""
        return self.query_one(VerticalScroll)

    async def open(self, turns: list[Turn]) -> None:
        """Show the conversation."""
        widgets: list[Widget] = [
            Markdown(turn.message.content) if turn.inference else Static(turn.message.content, markup=False) for turn in turns
        ]
        await self.scroller.mount_all(widgets)
        self.scroller.scroll_end(animate=False)

    @property
    def at_top(self) -> bool:
        """Whether the first message is in sight."""
        return self.scroller.scroll_y <= 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=500)
    parser.add_argument("--peer-turns", type=int, default=100)
    parser.add_argument("--size", default="100x40")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, a fifth of the peer's turns; not for the record")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    peer_turns = options.peer_turns // 5 if options.quick else options.peer_turns
    width, height = map(int, options.size.split("x"))
    ways: dict[str, tuple[type[Ours | Theirs], int]] = {
        "pointsman": (Ours, options.turns),
        "a Markdown widget each": (Theirs, peer_turns),
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    asyncio.run(measured(Ours, conversation(20), Size(width, height)))  # imports and first use
    for _ in range(rounds):
        for name, (app, count) in ways.items():
            runs[name].append(asyncio.run(measured(app, conversation(count), Size(width, height))))
    rows = [
        {"way": name, "turns": ways[name][1]} | {key: round(statistics.median(run[key] for run in found), 1) for key in found[0]}
        for name, found in runs.items()
    ]
    print(harness.table(rows, list(rows[0])))
    opened = float(str(rows[0]["open ms"]))
    print(f"{options.turns} turns open in {opened / 1000:.2f} s, asked for: {LIMIT_MS / 1000:.0f} s; reached: {opened <= LIMIT_MS}")
    harness.write("tui_open", {"size": options.size, "rounds": rounds, "rows": rows, "reached": opened <= LIMIT_MS})


async def measured(app_class: type[Ours | Theirs], turns: list[Turn], size: Size) -> dict[str, float]:
    """Milliseconds of what a reader does."""
    app = app_class()
    async with app.run_test(size=(size.width, size.height)) as pilot:
        await app.settle()
        opening = await _timed(app, lambda: app.open(turns))
        await pilot.resize_terminal(size.width - 20, size.height)
        resized = await _timed(app, lambda: pilot.resize_terminal(size.width, size.height))
        pages: list[float] = []
        while not app.at_top:
            pages.append(await _timed(app, lambda: _page_up(app), settle=1))
        resized_all = await _timed(app, lambda: pilot.resize_terminal(size.width - 20, size.height))
        focused = await _timed(app, lambda: _focus_lost_and_found(app))
    return {
        "open ms": opening,
        "resize ms": resized,
        "page up ms": statistics.median(pages),
        "page up p95 ms": statistics.quantiles(pages, n=20)[-1],
        "page up longest ms": max(pages),
        "resize at the top ms": resized_all,
        "focus at the top ms": focused,
    }


async def _timed(app: Host, act: Callable[[], object], settle: int = 3) -> float:
    started = time.perf_counter()
    doing = act()
    if hasattr(doing, "__await__"):
        await doing
    await app.settle(settle)
    return (time.perf_counter() - started) * 1000


def _page_up(app: Ours | Theirs) -> None:
    app.scroller.scroll_page_up(animate=False)


def _focus_lost_and_found(app: Host) -> None:
    app.app_focus = False
    app.app_focus = True


def conversation(count: int) -> list[Turn]:
    """`count` turns, the same every time; answers of 60 to 180 tokens of every kind."""
    return [_question(number) if number % 2 == 0 else _answer(number) for number in range(count)]


def _question(number: int) -> Turn:
    return Turn(f"t{number}", "c", None, "user", Message("user", f"Question {number}: how do trains run?"), NOW, None, (), 1, 0)


def _answer(number: int) -> Turn:
    kinds = list(KINDS)
    text = "".join(tokens_of("prose", 40)) + "\n\n" + "".join(tokens_of(kinds[number // 2 % len(kinds)], 20 + number * 7 % 120))
    inference = Inference(
        f"i{number}", f"t{number}", "c", "complete", "echo/echo", "echo", "standard", "", "", {}, None, Usage(20, 0, 80, 0.5, 2.5),
        False, False, "", NOW, NOW, NOW,
    )  # fmt: skip
    return Turn(f"t{number}", "c", None, "assistant", Message("assistant", text), NOW, inference, (), 1, 0)


if __name__ == "__main__":
    main()
