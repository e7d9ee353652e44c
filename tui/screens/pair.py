"""Two answers to one question side by side, blind: which is better, or are they as good as each other.

The left one comes first, then the right one; only after the pick it is told which model wrote which. Narrow terminals have
them one below the other. Ends with the conversation that they stand in, "" where nothing was asked. Not covered: which two
models, and keeping the pick (`router.pairing`).
"""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widgets import Footer, Static

from data.errors import PointsmanError
from data.sanitise import one_line
from tui import keys
from tui.turns import POLL_S, Ended, Piece, Turn
from tui.widgets.answer import AnswerView
from tui.widgets.outcome import Answer
from tui.widgets.safe_screen import GuardedScreen

if TYPE_CHECKING:
    from router.modes.base import Event
    from router.pairing import Pair, Side

SIDES = ("left", "right")
SAID = {"left": "you found the left one better", "right": "you found the right one better", "tie": "you found them as good"}


class BlindView(AnswerView):
    """An answer that does not tell how it came about."""

    def _last_lines(self) -> Content:
        return Content.styled(one_line(self.answer.error, 300), "$text-error") if self.answer.error else Content()


class PairScreen(GuardedScreen[str]):
    """The question, the two answers, and what can be said."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.PAIR]
    CSS_PATH = "pair.tcss"
    CONTEXTS = ("Two answers",)
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-normal")]

    def __init__(self, question: str, pairing: "Pair") -> None:
        super().__init__()
        self._question = question
        self._pairing = pairing
        self._views = {side: BlindView(Answer(""), live=True) for side in SIDES}
        self._turns: dict[str, Turn] = {}
        self._said: str = ""

    def compose(self) -> ComposeResult:
        """The question above, the answers beside or below one another, a note, and the keys."""
        yield Static(one_line(self._question, 500), id="question", markup=False)
        with Container(id="sides"):
            for side in SIDES:
                with VerticalScroll(id=side, classes="side", can_focus=False) as box:
                    box.border_title = side
                    yield self._views[side]
        yield Static("the left answer comes first …", id="note", markup=False)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Ask."""
        self._clock = self.set_interval(POLL_S, self._look)
        self._begin("left")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Picking works once both are there and nothing was picked; going on, when something was."""
        if action == "pick":
            return self._pairing.complete and not self._said
        return bool(self._said) if action == "done" else True

    @work(exclusive=True, group="pick")
    async def action_pick(self, side: "Side") -> None:
        """Keep which one is better, then tell who wrote them."""
        self._said = side
        self.refresh_bindings()
        try:
            told = await asyncio.to_thread(self._pairing.pick, side)
        except PointsmanError as fault:
            self._said = ""
            self._note(str(fault))
            return
        self._note(f"{SAID[side]} · left: {one_line(told.left, 60)} · right: {one_line(told.right, 60)} · enter goes on")

    def action_done(self) -> None:
        """Go on in the chat."""
        self.dismiss(self._pairing.conversation)

    def action_leave(self) -> None:
        """Stop what is under way; what arrived is in the log."""
        for turn in self._turns.values():
            turn.cancel()
        self.dismiss(self._pairing.conversation)

    def action_scroll(self, step: int) -> None:
        """Scroll both answers by a line."""
        for side in SIDES:
            self.query_one(f"#{side}", VerticalScroll).scroll_relative(y=step, animate=False)

    def action_page(self, step: int) -> None:
        """Scroll both answers by a screenful."""
        for side in SIDES:
            box = self.query_one(f"#{side}", VerticalScroll)
            (box.scroll_page_up if step < 0 else box.scroll_page_down)(animate=False)

    def _begin(self, side: str) -> None:
        texts = self._pairing.left if side == "left" else self._pairing.right
        self._turns[side] = turn = Turn(lambda: _events(texts))
        turn.start()

    async def _look(self) -> None:
        """Take what has come."""
        side = SIDES[len(self._turns) - 1]
        for item in self._turns[side].news():
            if isinstance(item, Piece):
                self._views[side].write(item.text, item.texts)
            elif isinstance(item, Ended):
                await self._ended(side, item)

    async def _ended(self, side: str, ended: Ended) -> None:
        await self._views[side].finish(ended.status, None, str(ended.error) if ended.error else "")
        if ended.status != "complete":
            self._clock.stop()
            self._note("there is nothing to compare: an answer did not come to its end · escape goes back")
        elif side == "left":
            self._note("now the right one …")
            self._begin("right")
        else:
            self._clock.stop()
            self._note("which one is better? ← left · → right · t as good as each other")
        self.refresh_bindings()

    def _note(self, text: str) -> None:
        self.query_one("#note", Static).update(text)


def _events(texts: Iterator[str]) -> "Iterator[Event]":
    """The texts as the events of an answer; closing it closes them."""
    from data.chat import Usage
    from router.modes.base import Done, Text

    with closing(texts) as pieces:  # type: ignore[type-var]
        for text in pieces:
            yield Text(text)
    yield Done(Usage())
