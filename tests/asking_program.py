"""`pointsman` with an agent that calls one tool with a side effect, for pseudo terminals: it says the question to the tool.

    python tests/asking_program.py ask --mode agent -m echo TEXT

A question that begins with "strangers:" comes after text of strangers. The tool adds a line to the file $JOTTED.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from data.chat import ToolCall, Usage
from router import modes
from router.engines.base import Engine, Request
from router.modes.base import Done, Event, Means, Text, ToolCalled, ToolResult
from router.tools.base import tool
from tui.cli import main


@tool("write")
def jot(text: str) -> str:
    """Write a line."""
    with Path(os.environ["JOTTED"]).open("a") as file:
        file.write(f"{text}\n")
    return "jotted"


def run(engine: Engine, request: Request, means: Means) -> Iterator[Event]:
    """Call the tool twice."""
    assert means.tools is not None
    said = request.messages[-1].content
    means.tools.tools["jot"] = jot
    means.tools.tainted = said.startswith("strangers:")
    for number in (1, 2):
        call = ToolCall("jot", {"text": f"{said} {number}"})
        yield ToolCalled(call.name, call.arguments)
        outcome = means.tools.call(call)
        yield ToolResult(call.name, outcome.text, outcome.failed)
    yield Text("The end.")
    yield Done(Usage(1, 0, 1, 0.1, 0.2))


modes.load = lambda name: run

if __name__ == "__main__":
    sys.exit(main())
