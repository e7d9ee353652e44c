"""One request among the several that a mode makes: its pieces, its end, and its measures even where it was broken off.

Not covered: what is asked, which is each mode's own.
"""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from data.chat import Chunk, Finish, Message, ToolCall, Usage
from data.config import Sampling
from router.engines.base import Engine, Request
from router.modes.base import Event, Phase, Thought

CHARS_PER_TOKEN = 32
"""More characters than so many for each token that was allowed is a server that ignores the limit; the answer is ended."""

LOOP_CHARS = 160
PERIOD_CHARS = 40
LOOK_PIECES = 16


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer to one request."""

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Finish = "stop"


def pieces(engine: Engine, request: Request, usages: list[Usage]) -> Iterator[Chunk]:
    """The engine's chunks; at the end, however it comes about, one more entry in `usages`.

    Closing this closes the engine's answer; what it took is then counted here, pieces for tokens.
    """
    started = time.perf_counter()
    usage: Usage | None = None
    first_s = 0.0
    count = chars = 0
    try:
        with closing(engine.stream(request)) as chunks:  # type: ignore[type-var]
            for chunk in chunks:
                usage = chunk.usage or usage
                said = len(chunk.text) + len(chunk.thinking)
                if said:
                    first_s = first_s or time.perf_counter() - started
                    count, chars = count + 1, chars + said
                yield _cut(chunk, chars - CHARS_PER_TOKEN * request.max_tokens)
                if chars > CHARS_PER_TOKEN * request.max_tokens:
                    return
    finally:
        counted = Usage(completion_tokens=count, ttft_s=first_s, total_s=time.perf_counter() - started, finish="length")
        usages.append(usage or counted)


def whole(engine: Engine, request: Request, usages: list[Usage], *, loops: bool = True) -> Generator[Event, None, Reply]:
    """Ask, yield phases and native thoughts, and return the answer put together.

    loops: False breaks an answer off that repeats itself over and over, as small models do within a grammar.
    """
    text: list[str] = []
    thinking: list[str] = []
    calls: tuple[ToolCall, ...] = ()
    with closing(pieces(engine, request, usages)) as chunks:  # type: ignore[type-var]
        for chunk in chunks:
            if chunk.phase:
                yield Phase(chunk.phase, chunk.progress)
            if chunk.thinking:
                thinking.append(chunk.thinking)
                yield Thought(chunk.thinking)
            text.append(chunk.text)
            calls += chunk.tool_calls
            if not loops and len(text) % LOOK_PIECES == 0 and looping("".join(text[-LOOP_CHARS:])):
                break
    return Reply("".join(text), "".join(thinking), calls, usages[-1].finish)


def looping(text: str) -> bool:
    """Whether the end of `text` is one short piece again and again."""
    end = text[-LOOP_CHARS:]
    return len(end) == LOOP_CHARS and any(end[period:] == end[:-period] for period in range(1, PERIOD_CHARS))


def plumbing(engine: Engine, request: Request) -> Request:
    """`request` for an answer that only the mode reads: the likeliest one, without native thinking."""
    think = False if engine.can_think(request.model) else None
    steady = Sampling(temperature=0, repeat_penalty=1.0, seed=request.sampling.seed)
    return replace(request, sampling=steady, think=think, tools=(), stop=(), schema=None)


def retold(messages: Sequence[Message], question: str, system: str = "") -> tuple[Message, ...]:
    """The conversation with another last question, and with `system` behind what the system message says."""
    found = list(messages)
    last = next((at for at in range(len(found) - 1, -1, -1) if found[at].role == "user"), None)
    if last is None:
        found.append(Message("user", question))
    else:
        found[last] = replace(found[last], content=question)
    if system and found[0].role == "system":
        found[0] = replace(found[0], content=f"{found[0].content}\n\n{system}")
    elif system:
        found.insert(0, Message("system", system))
    return tuple(found)


def question_of(messages: Sequence[Message]) -> str:
    """What the user asked last, "" where there is nothing."""
    return next((message.content for message in reversed(messages) if message.role == "user"), "")


def shortened(text: str, chars: int) -> str:
    """`text` in at most about `chars` characters: its beginning and its end, with the gap marked."""
    text = text.strip()
    if len(text) <= chars:
        return text
    tail = chars // 4
    return f"{text[: chars - tail].rstrip()}\n[… {len(text) - chars} characters left out …]\n{text[len(text) - tail :].lstrip()}"


def _cut(chunk: Chunk, surplus: int) -> Chunk:
    if surplus <= 0:
        return chunk
    text = chunk.text[: max(0, len(chunk.text) - surplus)]
    return replace(chunk, text=text, thinking=chunk.thinking[: max(0, len(chunk.thinking) - max(0, surplus - len(chunk.text)))])
