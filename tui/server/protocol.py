"""uvicorn's HTTP/1.1 with what it lacks against slow clients: limits on the head of a request and on a reader that stalls.

Not covered: the time that a body takes (reading.py).
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class Impatient(H11Protocol):
    """Aborts connections that stall: a polite close would wait for them."""

    stall_s = 30.0
    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client is there: its request's head must come soon."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._forget_head()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something came: a whole head stops the clock, a part of the next one starts it."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_head()
        elif self._head_timer is None and not self.transport.is_closing():
            self._expect_head()

    def on_response_complete(self) -> None:
        """The connection may stay, idle."""
        self._forget_head()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client does not read: what waits for it is as much as may be."""
        super().pause_writing()
        self._read_timer = self.loop.call_later(self.stall_s, self._abort)

    def resume_writing(self) -> None:
        """It reads again."""
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        super().resume_writing()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self.stall_s, self._abort)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _abort(self) -> None:
        self.transport.abort()


def protocol(stall_s: float) -> type[Impatient]:
    """A protocol whose clients have `stall_s` seconds for the head of a request, and to take what they are sent."""
    return type("Impatient", (Impatient,), {"stall_s": stall_s})
