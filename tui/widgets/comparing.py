"""What leads to two answers side by side: the typed question, the experiment that runs or a second model, the screen.

Not covered: the screen itself (`tui.screens.pair`).
"""

import asyncio
from typing import TYPE_CHECKING

from data.errors import PointsmanError
from tui.widgets.conversation import Conversation
from tui.widgets.prompt import Prompt

if TYPE_CHECKING:
    from textual.screen import Screen

    from router.pairing import Pair
    from router.session import Session


class Comparing:
    """One comparison; `run` belongs into a worker of the screen."""

    def __init__(self, screen: "Screen[None]", conversation: Conversation, prompt: Prompt) -> None:
        self._screen = screen
        self._conversation = conversation
        self._prompt = prompt

    async def run(self, session: "Session | None") -> None:
        """From the typed question to the conversation with the better answer."""
        question = self._prompt.whole
        if obstacle := self._obstacle(session, question):
            self._screen.notify(obstacle, severity="warning", markup=False)
            return
        if session is None:
            return
        try:
            pairing = await self._pairing(session, question)
        except PointsmanError as fault:
            self._screen.notify(str(fault), severity="warning", markup=False)
            return
        if pairing is not None:
            await self._show(question, pairing)

    def _obstacle(self, session: "Session | None", question: str) -> str:
        if session is None:
            return "the log is not open yet"
        if self._conversation.busy:
            return "an answer is under way: wait for its end, or stop it with escape"
        return "" if question.strip() else "type the question first, then compare two answers to it"

    async def _pairing(self, session: "Session", question: str) -> "Pair | None":
        from router.pairing import two
        from tui import comparing
        from tui.screens.models import ModelsScreen

        pins, place = self._conversation.pins, self._conversation.conversation or None
        found = await asyncio.to_thread(comparing.of_experiment, session, question, pins.domain, place)
        if found is not None:
            return found
        model = self._conversation.model
        other = await self._screen.app.push_screen_wait(ModelsScreen(session.engines, model))
        if not other:
            return None
        if other == model:
            self._screen.notify(f"{other} is the model of this chat already: choose another", severity="warning", markup=False)
            return None
        return two(session, question, (model or "auto", other), conversation=place)

    async def _show(self, question: str, pairing: "Pair") -> None:
        from tui.screens.pair import PairScreen

        self._prompt.sent(question)
        conversation = await self._screen.app.push_screen_wait(PairScreen(question, pairing))
        if conversation:
            self._screen.remove_class("-empty")
            self._conversation.show(str(conversation))
        else:
            self._prompt.put(question)
