"""Where wants become answers: admitted or refused, each in a thread of its own, its events handed to the event loop.

An answer that nobody waits for any more is closed at the next piece, within a computation and while queued at once. Not covered:
whose turn it is at an engine (lines.py), and how answers look on the wire.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from data.chat import Message, ToolCall, Usage
from data.config import Settings
from data.errors import Cancelled, EngineBusy, EngineUnavailable, InputError, PointsmanError
from data.store import Store
from router.encoder import ENCODER
from router.modes.base import Done, Event, Started, Text, Thought, ToolCalled
from router.session import Session
from router.situation import Situation
from router.terms import Terms
from tui.server.conversations import Conversations, Place
from tui.server.lines import LinedEngines, Ticket, holding
from tui.server.metrics import Metrics
from tui.server.offered import Offered
from tui.server.wanted import Wanted

T = TypeVar("T")
EMBEDDED_AT_ONCE = 16
"""Texts between two looks whether the client is still there."""
SPARE_THREADS = 16


class Work(Generic[T]):
    """Something on its way: what a thread yields, for one coroutine to take. Made on the event loop. left: the client has gone."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.cancelled_at = 0.0
        self.left = False
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Queue[T | None] = asyncio.Queue()
        self._future: Future[None] | None = None

    def start(self, pool: ThreadPoolExecutor, steps: Callable[[], Iterator[T]], ended: Callable[[Future[None]], None]) -> None:
        """Run `steps` in a thread; `ended` is called there at the end."""
        self._future = pool.submit(self._run, steps)
        self._future.add_done_callback(ended)
        self._future.add_done_callback(self._end)

    async def next(self) -> T | None:
        """The next thing, None at the end; raises what ended the work."""
        found = await self._ready.get()
        if found is None and self._future is not None and not self._future.cancelled():
            self._ready.put_nowait(None)
            self._future.result()
        return found

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        if not self.ticket.cancelled and self._future is not None and not self._future.done():
            self.cancelled_at = time.perf_counter()
            self.ticket.cancel()

    def _run(self, steps: Callable[[], Iterator[T]]) -> None:
        if self.ticket.cancelled:
            return
        with holding(self.ticket), closing(steps()) as found:  # type: ignore[type-var]
            for one in found:
                if self.ticket.cancelled:
                    return
                self._loop.call_soon_threadsafe(self._ready.put_nowait, one)

    def _end(self, _: "Future[None]") -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(self._ready.put_nowait, None)


class Desk:
    """One server's answers. `begin` and `embed` are called on the event loop."""

    def __init__(self, settings: Settings, store: Store, engines: LinedEngines) -> None:
        self.settings = settings
        self.store = store
        self.engines = engines
        self.offered = Offered(engines)
        self.conversations = Conversations(store)
        self.metrics = Metrics(lambda: self.waiting, lambda: self.running)
        self._situation = Situation(settings, store, engines)
        self._sessions: list[Session] = []
        self._live: set[Ticket] = set()
        self._works: set[Work[Any]] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(settings.server.queue + 4 * settings.server.parallel + SPARE_THREADS, "answer")
        self._mean_s = 1.0
        self._stopped = False

    @property
    def waiting(self) -> int:
        """Answers that no engine has begun."""
        with self._lock:
            return sum(not ticket.served for ticket in self._live)

    @property
    def running(self) -> int:
        """Answers that an engine has begun."""
        with self._lock:
            return sum(ticket.served for ticket in self._live)

    @property
    def retry_s(self) -> int:
        """Seconds after which a place in the queue is likely."""
        return max(1, min(60, round(self._mean_s * 2)))

    def begin(self, wanted: Wanted) -> Work[Event]:
        """Begin an answer. Raises EngineBusy where too many wait already."""
        return self._admit(lambda: self._answer(wanted, time.perf_counter()))

    def embed(self, texts: list[str], model: str) -> Work[tuple[NDArray[np.float32], int]]:
        """Sentence vectors and the tokens of the texts, some texts at a time. Raises EngineBusy."""
        return self._admit(lambda: self._vectors(texts, model))

    def stop(self) -> None:
        """Break off every answer, and begin none."""
        with self._lock:
            self._stopped = True
            works = list(self._works)
        for work in works:
            work.cancel()

    def close(self) -> None:
        """Break off every answer and wait for the threads. Blocks."""
        self.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _admit(self, steps: Callable[[], Iterator[T]]) -> Work[T]:
        work: Work[T] = Work(Ticket())
        with self._lock:
            if self._stopped:
                raise EngineUnavailable("the server is stopping", "ask again when it is back")
            if sum(not ticket.served for ticket in self._live) >= self.settings.server.queue:
                raise EngineBusy("the server is busy: too many answers wait already", "try again in a while")
            self._live.add(work.ticket)
            self._works.add(work)

        def ended(_: "Future[None]") -> None:
            with self._lock:
                self._live.discard(work.ticket)
                self._works.discard(work)
            if work.cancelled_at:
                self.metrics.stop.add(time.perf_counter() - work.cancelled_at)
                self.metrics.release.add(max(work.ticket.freed_at - work.cancelled_at, 0.0))

        work.start(self._pool, steps, ended)
        return work

    def _answer(self, wanted: Wanted, arrived: float) -> Iterator[Event]:
        """The events of one answer, in its thread, counted and remembered."""
        counted = _Counted(self.metrics, self.offered.label, arrived)
        session = self._session()
        try:
            reference = self.offered.reference(wanted.model)
            place = self.conversations.place(wanted.messages, wanted.conversation)
            heard = _Heard(self.conversations, wanted, place)
            with closing(self._asked(session, wanted, reference, place)) as events, closing(heard):  # type: ignore[type-var]
                for event in events:
                    heard.take(event)
                    counted.take(event)
                    yield event
        except Cancelled:
            raise
        except PointsmanError as fault:
            counted.fault(fault)
            raise
        finally:
            counted.end()
            self._mean_s = 0.8 * self._mean_s + 0.2 * (time.perf_counter() - arrived)
            with self._lock:
                self._sessions.append(session)

    def _asked(self, session: Session, wanted: Wanted, reference: str, place: Place) -> Iterator[Event]:
        mode = wanted.mode or ("standard" if reference or not wanted.plain else "")
        if mode != "standard" and not wanted.plain:
            raise InputError(f"the mode {mode} takes no tools, schema, stop strings or think of its own", "leave them out")
        before = None if place.conversation and not place.before and wanted.conversation else place.before
        terms = Terms(before, place.after, wanted.stop, wanted.schema, wanted.tools, wanted.think, place.strange)
        said = "\n\n".join(message.content for message in wanted.messages if message.role == "system")
        how: dict[str, Any] = {
            "model": reference,
            "mode": mode,
            "domain": wanted.domain,
            "system": said or self.settings.system,
            "overrides": wanted.overrides,
            "terms": terms,
        }
        if place.question:
            return session.again(place.question, **how)
        return session.ask(place.text, conversation=place.conversation or None, parent=place.parent, **how)

    def _vectors(self, texts: list[str], model: str) -> Iterator[tuple[NDArray[np.float32], int]]:
        reference = "" if model in ("", ENCODER) else self.offered.reference(model)
        found = self.engines.resolve(reference or f"llamacpp/{ENCODER}")
        counter = getattr(found.engine, "tokens", None)
        for begin in range(0, len(texts), EMBEDDED_AT_ONCE):
            part = texts[begin : begin + EMBEDDED_AT_ONCE]
            tokens = sum(len(counter(found.model, text)) for text in part) if counter else 0
            yield found.engine.embed(part, found.model), tokens

    def _session(self) -> Session:
        """A session that nobody uses now; all share what was learned."""
        with self._lock:
            if self._sessions:
                return self._sessions.pop()
        return Session(self.settings, self.store, self.engines, situation=self._situation, mentions=False)


class _Heard:
    """What an answer has said, remembered for the question that follows it."""

    def __init__(self, conversations: Conversations, wanted: Wanted, place: Place) -> None:
        self._conversations = conversations
        self._wanted = wanted
        self._place = place
        self._started: Started | None = None
        self._text: list[str] = []
        self._calls: list[ToolCall] = []

    def take(self, event: Event) -> None:
        """Hear one event."""
        if isinstance(event, Started):
            if self._started is None:
                self._conversations.asked(self._wanted.messages, event, self._place.strange)
            self._started = event
        elif isinstance(event, Text):
            self._text.append(event.text)
        elif isinstance(event, ToolCalled) and self._wanted.tools:
            self._calls.append(ToolCall(event.name, event.arguments))
        elif isinstance(event, Done):
            self.close()  # before the client hears of the end, and may ask on

    def close(self) -> None:
        """The answer has ended, somehow."""
        if self._started is not None and (self._text or self._calls):
            answer = Message("assistant", "".join(self._text), tool_calls=tuple(self._calls))
            self._conversations.answered(self._wanted.messages, answer, self._started, self._place.strange)


class _Counted:
    """The metrics of one answer."""

    def __init__(self, metrics: Metrics, label: Callable[[str], str], arrived: float) -> None:
        self._metrics = metrics
        self._label = label
        self._arrived = arrived
        self._started: Started | None = None
        self._first_s = 0.0
        self._usage: Usage | None = None
        self._end = "cancelled"

    def take(self, event: Event) -> None:
        """Note one event."""
        if isinstance(event, Started):
            self._started = event
        elif isinstance(event, Done):
            self._usage = event.usage
            self._end = "length" if event.usage.finish == "length" else "complete"
        elif isinstance(event, Text | Thought | ToolCalled):
            self._first_s = self._first_s or time.perf_counter() - self._arrived

    def fault(self, fault: PointsmanError) -> None:
        """The answer failed."""
        self._end = "error"
        self._metrics.errors.add(type(fault).__name__)

    def end(self) -> None:
        """The answer has ended, somehow."""
        model = self._label(self._started.model) if self._started else "none"
        total_s = time.perf_counter() - self._arrived
        self._metrics.answers.add(model, self._started.mode if self._started else "none", self._end)
        self._metrics.total.add(total_s, model)
        if self._first_s:
            self._metrics.first_token.add(self._first_s, model)
        if usage := self._usage:
            self._metrics.tokens.add(model, "prompt", by=max(usage.prompt_tokens - usage.cached_tokens, 0))
            self._metrics.tokens.add(model, "cached", by=max(usage.cached_tokens, 0))
            self._metrics.tokens.add(model, "completion", by=max(usage.completion_tokens, 0))
