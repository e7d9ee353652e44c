"""Ways of reasoning for tests: whatever events a test needs, in place of every mode."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from data.chat import Usage
from router.engines.base import Engine, Request
from router.modes.base import Cited, Done, Event, Means, Step, Text, ToolCalled, ToolResult
from router.route import Snapshot

USAGE = Usage(20, 0, 4, 0.25, 1.0, context_tokens=4096)
EVENTS: tuple[Event, ...] = (
    Cited(1, "notes/plan.md", 10, 24),
    Cited(2, "README.md", 3, 3),
    Step(1, "Find the distance", "started"),
    ToolCalled("search_files", {"pattern": "distance", "folder": "notes"}),
    ToolResult("search_files", "plan.md:12: The distance is 384400 km.\nplan.md:19: and back", untrusted=True),
    Step(1, "Find the distance", "done", "The distance is 384400 km."),
    Step(2, "Convert it to miles", "started"),
    ToolCalled("python", {"code": "print(384400\n  / 1.609)"}),
    ToolResult("python", "the user did not allow python; go on without it", failed=True),
    ToolCalled("convert", {"value": 384400, "unit": "km"}),
    ToolResult("convert", "238855 miles"),
    Step(2, "Convert it to miles", "failed", "no result fitted"),
    Text("About 238,855 miles [1]."),
)
"""An answer with everything that can stand above it."""


def play(monkeypatch: pytest.MonkeyPatch, script: Callable[[], Iterator[Event]]) -> list[Request]:
    """Answer every question with what the script yields; returns the requests as they come."""
    requests = []

    def run(engine: Engine, request: Request, means: Means) -> Iterator[Event]:
        requests.append(request)
        yield from script()
        yield Done(USAGE)

    monkeypatch.setattr("router.modes.load", lambda name: run)
    unlearned(monkeypatch)
    return requests


def unlearned(monkeypatch: pytest.MonkeyPatch, **learned: Any) -> None:
    """A router that has learned nothing, so that no test depends on what the shipped heads say."""
    monkeypatch.setattr("router.situation.Situation.snapshot", lambda self, auto=True: Snapshot(**learned))
