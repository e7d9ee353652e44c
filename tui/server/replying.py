"""An answer on its way to a client: streamed piece by piece or whole, with its route in the headers, and given up with the client.

The head of a stream waits for the first piece, so that a fault before it has a status of its own, but not for longer than
`HEAD_S`. Not covered: the shapes of the pieces (openai.py, ollama.py).
"""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from starlette.types import Receive, Scope, Send

from data.chat import ToolCall, Usage
from data.errors import EngineUnavailable, PointsmanError
from router.modes.base import Done, Event, Started, Text, Thought, ToolCalled
from tui.server import faults
from tui.server.desk import Work
from tui.server.written import Json

HEAD_S = 10.0
"""Seconds that a stream's head waits for the first piece; from then on a sign of life comes as often."""


class Shape(ABC):
    """An answer in the words of one API. It hears every event; `piece` is called after.

    tools: whether the client gave tools, so that calls are its own to carry out.
    """

    media_type = "application/json"

    def __init__(self, model: str, tools: bool = False) -> None:
        self.model = model
        self.tools = tools
        self.started: Started | None = None
        self.text: list[str] = []
        self.thinking: list[str] = []
        self.calls: list[ToolCall] = []
        self.usage: Usage | None = None

    def hear(self, event: Event) -> None:
        """Take one event in."""
        if isinstance(event, Started):
            self.started = event
        elif isinstance(event, Text):
            self.text.append(event.text)
        elif isinstance(event, Thought):
            self.thinking.append(event.text)
        elif isinstance(event, ToolCalled) and self.tools:
            self.calls.append(ToolCall(event.name, event.arguments, f"call_{self.key[-8:]}{len(self.calls)}"))
        elif isinstance(event, Done):
            self.usage = event.usage

    @property
    def key(self) -> str:
        """The answer's id in the log."""
        return self.started.inference if self.started else "0" * 32

    @property
    def decision(self) -> dict[str, str]:
        """What the router chose, and the ids of the log."""
        started = self.started
        if started is None:
            return {}
        return {
            "model": started.model,
            "mode": started.mode,
            "domain": started.domain,
            "inference": started.inference,
            "conversation": started.conversation,
        }

    def headers(self) -> dict[str, str]:
        """The decision as headers; ASCII."""
        if self.started is None:
            return {"Cache-Control": "no-store"}
        return {
            "Cache-Control": "no-store",
            "X-Pointsman-Decision": json.dumps(self.decision),
            "X-Pointsman-Conversation": self.started.conversation,
        }

    @abstractmethod
    def piece(self, event: Event) -> bytes:
        """What a stream says of an event, b"" for nothing."""

    @abstractmethod
    def end(self) -> bytes:
        """What a stream ends with."""

    @abstractmethod
    def beat(self) -> bytes:
        """A sign of life that clients overlook."""

    @abstractmethod
    def fault(self, fault: PointsmanError) -> bytes:
        """A fault within a stream."""

    @abstractmethod
    def whole(self) -> Mapping[str, Any]:
        """The answer as one JSON value."""


class Reply:
    """The response to a request for an answer."""

    def __init__(self, work: Work[Event], shape: Shape, stream: bool) -> None:
        self._work = work
        self._shape = shape
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; the work ends with the client. Raises PointsmanError where nothing was sent yet."""
        watch = asyncio.create_task(_left(receive, self._work))
        try:
            await (self._pieces(send) if self._stream else self._at_once(scope, receive, send))
        finally:
            self._work.cancel()
            watch.cancel()

    async def _at_once(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (event := await self._work.next()) is not None:
            self._shape.hear(event)
        if self._ended():
            await Json(self._shape.whole(), headers=self._shape.headers())(scope, receive, send)

    async def _pieces(self, send: Send) -> None:
        sending = _Sending(send, self._shape)
        coming = asyncio.ensure_future(self._work.next())
        try:
            while True:
                if not (await asyncio.wait((coming,), timeout=HEAD_S))[0]:
                    await sending.give(self._shape.beat())
                    continue
                event = coming.result()
                if event is None:
                    break
                coming = asyncio.ensure_future(self._work.next())
                self._shape.hear(event)
                await sending.give(self._shape.piece(event))
            if self._ended():
                await sending.give(self._shape.end())
            await sending.close()
        except PointsmanError as fault:
            if not sending.begun:
                raise
            await sending.give(self._shape.fault(fault))
            await sending.close()
        finally:
            coming.cancel()
            with suppress(asyncio.CancelledError, PointsmanError):
                await coming

    def _ended(self) -> bool:
        """Whether the answer came to its end, and not the client; raises EngineUnavailable where the server is stopping."""
        if self._shape.usage is None and not self._work.left:
            raise EngineUnavailable("the answer was broken off: the server is stopping", "ask again when it is back")
        return self._shape.usage is not None


class _Sending:
    """A response that begins with its first byte."""

    def __init__(self, send: Send, shape: Shape) -> None:
        self.begun = False
        self._send = send
        self._shape = shape

    async def give(self, data: bytes) -> None:
        if not data:
            return
        if not self.begun:
            self.begun = True
            headers = {"Content-Type": self._shape.media_type, **self._shape.headers()}
            raw = [(name.lower().encode(), value.encode("ascii", "replace")) for name, value in headers.items()]
            await self._send({"type": "http.response.start", "status": 200, "headers": raw})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def close(self) -> None:
        if self.begun:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class Vectors:
    """The response to a request for sentence vectors: `shaped` makes the JSON of all of them."""

    def __init__(self, work: Work[Any], shaped: Any) -> None:
        self._work = work
        self._shaped = shaped

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; the work ends with the client. Raises PointsmanError."""
        watch = asyncio.create_task(_left(receive, self._work))
        rows: list[Any] = []
        tokens = 0
        try:
            while (part := await self._work.next()) is not None:
                rows += list(part[0])
                tokens += part[1]
            if not self._work.left:
                await Json(self._shaped(rows, tokens))(scope, receive, send)
        finally:
            self._work.cancel()
            watch.cancel()


async def _left(receive: Receive, work: Work[Any]) -> None:
    """Cancel the work when the client leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass
    work.left = True
    work.cancel()


def fault_text(fault: PointsmanError, path: str) -> str:
    """A fault within a stream as JSON."""
    return json.dumps(faults.body(fault, path))
