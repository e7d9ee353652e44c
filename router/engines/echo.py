"""Scripted replies: the demo, the test double, and the shortest example of an engine.

Model `echo` says the user's last message back, word by word. `Echo(replies=[...])` gives each reply in turn; a reply may
be a string, a list of chunks, or an exception that is raised where it stands in the list. Chunks carry thinking and tool
calls too, and `capabilities` says what the double claims to do. Not covered: any understanding, keeping to a schema.
"""

import time
from collections.abc import Iterator, Sequence

from data.chat import Chunk, Finish, Usage
from data.config import Settings
from router.engines.base import Capabilities, Engine, ModelInfo, Request

Reply = str | Sequence[Chunk | str | Exception] | Exception


class Echo(Engine):
    """Replies from a script, then echoes; `delay_s` seconds before each piece make it a slow model."""

    name = "echo"

    def __init__(self, replies: Sequence[Reply] = (), delay_s: float = 0.0, capabilities: Capabilities | None = None) -> None:
        self.capabilities = capabilities or Capabilities()
        self.replies = list(replies)
        self.delay_s = delay_s
        self.requests: list[Request] = []

    def stream(self, request: Request) -> Iterator[Chunk]:
        """Yield the next scripted reply, or the last user message in words."""
        self.requests.append(request)
        started = time.perf_counter()
        reply = self.replies.pop(0) if self.replies else request.messages[-1].content
        pieces: Sequence[Chunk | str | Exception]
        pieces = [reply] if isinstance(reply, Exception) else _words(reply) if isinstance(reply, str) else reply
        first = 0.0
        count = 0
        calls = False
        for piece in pieces:
            if self.delay_s:
                time.sleep(self.delay_s)
            if isinstance(piece, Exception):
                raise piece
            first = first or time.perf_counter() - started
            count += 1
            yield Chunk(text=piece) if isinstance(piece, str) else piece
            if isinstance(piece, Chunk):
                calls = calls or bool(piece.tool_calls)
                if piece.usage:
                    return
            if count >= request.max_tokens:
                break
        prompt = sum(len(message.content.split()) for message in request.messages)
        finish: Finish = "tool_calls" if calls else "length" if count >= request.max_tokens else "stop"
        yield Chunk(usage=Usage(prompt, 0, count, first, time.perf_counter() - started, finish, context_tokens=4096))

    def can_think(self, model: str) -> bool:
        """As the capabilities claim."""
        return self.capabilities.think

    def models(self) -> list[ModelInfo]:
        """The one model there is."""
        return [ModelInfo("echo", "echo", context_tokens=4096, source="built in")]


def build(settings: Settings) -> Echo:
    """The engine for `echo/echo`."""
    return Echo()


def _words(text: str) -> list[str]:
    words = text.split(" ")
    return [word + (" " if index < len(words) - 1 else "") for index, word in enumerate(words)]
