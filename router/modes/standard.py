"""The direct way: one request, the answer as it comes. Native thinking becomes thoughts, calls of the asker's tools calls."""

from collections.abc import Iterator
from contextlib import closing

from data.chat import Usage
from router.engines.base import Engine, Request
from router.modes.base import Done, Event, Means, Phase, Text, Thought, ToolCalled


def run(engine: Engine, request: Request, means: Means) -> Iterator[Event]:
    """Yield the engine's phases, thoughts, text and calls, then Done."""
    usage = Usage()
    with closing(engine.stream(request)) as chunks:  # type: ignore[type-var]
        for chunk in chunks:
            if chunk.text:
                yield Text(chunk.text)
            elif chunk.phase:
                yield Phase(chunk.phase, chunk.progress)
            if chunk.thinking:
                yield Thought(chunk.thinking)
            for call in chunk.tool_calls:
                yield ToolCalled(call.name, call.arguments)
            if chunk.usage:
                usage = chunk.usage
    yield Done(usage)
