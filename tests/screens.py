"""A screen by itself under test: in an app that has the keys and the themes of the chat, without chat and log."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from pilot import wait_until
from textual.app import App
from textual.pilot import Pilot
from textual.screen import Screen

from tui import keys
from tui.screens.browse import Browse

WIDE, NARROW = (120, 36), (60, 24)


class Alone(App[None], inherit_bindings=False):
    """Opens one screen and keeps what it ends with."""

    BINDINGS: ClassVar[list[Any]] = [*keys.ANYWHERE]

    def __init__(self, make: Callable[[], Screen[Any]]) -> None:
        super().__init__()
        self._make = make
        self.left = False

    def on_mount(self) -> None:
        self.push_screen(self._make(), lambda _: setattr(self, "left", True))


class Opened:
    """A screen, its pilot, and shorthands for what a test asks."""

    def __init__(self, app: Alone, pilot: Pilot[Any]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def screen(self) -> Browse:
        found = self.app.screen
        assert isinstance(found, Browse)
        return found

    @property
    def text(self) -> str:
        """What is on the terminal."""
        return "\n".join("".join(s.text for s in line).rstrip() for line in self.app.screen._compositor.render_strips())

    @property
    def rows(self) -> list[str]:
        """The ids of the rows."""
        return [row.id for row in self.screen._shown if row.id]

    @property
    def about(self) -> str:
        """What is said of the highlighted row."""
        return self.screen.query_one("#about").content.plain if hasattr(self.screen.query_one("#about").content, "plain") else ""  # type: ignore[attr-defined]

    @property
    def note(self) -> str:
        return str(self.screen.query_one("#note").content)  # type: ignore[attr-defined]

    async def until(self, predicate: Callable[[], object]) -> None:
        await wait_until(self.pilot, predicate)

    async def press(self, *given: str) -> None:
        await self.pilot.press(*given)

    async def go(self, key: str) -> None:
        """Highlight the row of that id."""
        await self.until(lambda: key in self.rows)
        self.screen.list.highlighted = [row.id for row in self.screen._shown].index(key)
        await self.pilot.pause()

    async def enter(self, text: str) -> None:
        """Type into the line that is open, and take it."""
        assert self.screen.line.display
        self.screen.line.value = text
        await self.press("enter")


@asynccontextmanager
async def opened(make: Callable[[], Screen[Any]], size: tuple[int, int] = WIDE) -> AsyncIterator[Opened]:
    """The screen, read."""
    app = Alone(make)
    async with app.run_test(size=size, notifications=True) as pilot:
        await wait_until(pilot, lambda: isinstance(app.screen, Browse) and app.screen._shown)
        yield Opened(app, pilot)
