"""The whole chat under test: the real app and a real store in the test's home, answered by the echo engine."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pilot import wait_until
from textual.pilot import Pilot

from data import config
from data.config import Settings
from data.store import Store, open_store
from router.engines import Engines
from router.engines.echo import Echo, Reply
from router.session import Session
from tui.app import PointsmanApp
from tui.widgets.answer import AnswerView
from tui.widgets.question import QuestionView


def scenario(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Held(Sequence[str]):
    """A reply that stops in the middle until it is released, however slow the machine is."""

    def __init__(self, before: Sequence[Any] = (), after: Sequence[Any] = ()) -> None:
        self.before, self.after = list(before), list(after)
        self.released = threading.Event()

    def __iter__(self) -> Iterator[Any]:
        yield from self.before
        assert self.released.wait(20), "nobody released the reply"
        yield from self.after

    def __len__(self) -> int:
        return len(self.before) + len(self.after)

    def __getitem__(self, index: Any) -> Any:
        return [*self.before, *self.after][index]


class Chat:
    """The app, its pilot, and shorthands for what a test asks."""

    def __init__(self, app: PointsmanApp, pilot: Pilot[None], echo: Echo) -> None:
        self.app = app
        self.pilot = pilot
        self.echo = echo

    @property
    def store(self) -> Store:
        """The app's own store."""
        session = self.app.session
        assert session is not None
        return session.store

    @property
    def screen(self) -> str:
        """What is on the screen, as text."""
        return "\n".join("".join(s.text for s in line).rstrip() for line in self.app.screen._compositor.render_strips())

    @property
    def answers(self) -> list[AnswerView]:
        """The answers in the transcript."""
        return list(self.app.chat.conversation.transcript.query(AnswerView))

    @property
    def questions(self) -> list[QuestionView]:
        """The questions in the transcript."""
        return list(self.app.chat.conversation.transcript.query(QuestionView))

    @property
    def notices(self) -> list[str]:
        """Every notice that is displayed now."""
        return [notice.message for notice in self.app._notifications]

    async def press(self, *keys: str) -> None:
        """Press keys."""
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        """Type text into whatever has the focus."""
        self.app.chat.prompt.focus()
        self.app.chat.prompt.insert(text)
        await self.pilot.pause()

    async def until(self, predicate: Callable[[], object]) -> None:
        """Wait for something that happens in its own time."""
        await wait_until(self.pilot, predicate)

    async def ask(self, text: str) -> None:
        """Ask, and wait for the end of the answer."""
        before = len(self.answers)
        await self.type(text)
        await self.press("enter")
        await self.until(lambda: len(self.answers) > before and not self.app.chat.conversation.busy)


@asynccontextmanager
async def chat(
    *replies: Reply | Held,
    size: tuple[int, int] = (120, 36),
    conversation: str | None = None,
    opening: Callable[[Settings], Session] | None = None,
    wait: bool = True,
    **overrides: Any,
) -> AsyncIterator[Chat]:
    """The chat, opened; `replies` are what the echo engine says, one after the other."""
    settings = config.load({"model": "echo/echo"} | overrides)
    echo = Echo(list(replies))  # type: ignore[arg-type]

    def session() -> Session:
        return opening(settings) if opening else Session(settings, open_store(), Engines(settings, {"echo": echo}))

    app = PointsmanApp(settings, session, conversation)
    async with app.run_test(size=size, notifications=True) as pilot:
        driven = Chat(app, pilot, echo)
        try:
            if wait:
                await driven.until(lambda: app.session is not None and app.chat.conversation.ready)
            yield driven
        finally:
            for reply in replies:
                if isinstance(reply, Held):
                    reply.released.set()
    app.part()
