"""The direct way: one request, the answer as it comes. Native thinking is passed on as thoughts."""

from collections.abc import Iterator
from contextlib import closing

from data.chat import Usage
from router.engines.base import Engine, Request
from router.modes.base import Done, Event, Means, Phase, Text, Thought


def run(engine: Engine, request: Request, means: Means) -> Iterator[Event]:
    """Yield the engine's phases, thoughts and text, then Done."""
    usage = Usage()
    with closing(engine.stream(request)) as chunks:  # type: ignore[type-var]
        for chunk in chunks:
            if chunk.text:
                yield Text(chunk.text)
            elif chunk.phase:
                yield Phase(chunk.phase, chunk.progress)
            if chunk.thinking:
                yield Thought(chunk.thinking)
            if chunk.usage:
                usage = chunk.usage
    yield Done(usage)
