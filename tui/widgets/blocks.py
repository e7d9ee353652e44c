"""The transcript with what can be done to one of its messages: copy, correct, rate, answer again, switch versions.

The keys act on the selected message, the palette's commands on the last answer. Everything said about an answer is written
by `store.feedback` in a thread and can be taken back. Not covered: asking, which the chat does.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical

from data.errors import InputError, PointsmanError, StoreError
from data.sanitise import one_line, sanitise
from tui import keys, lessons, survey
from tui.messages import Fork, PathChanged, Regenerate, Resend
from tui.modes import Pins
from tui.widgets.answer import AnswerView
from tui.widgets.question import QuestionView
from tui.widgets.transcript import Transcript
from tui.widgets.typeset import code_blocks

if TYPE_CHECKING:
    from data.store import Store
    from router.session import Session
    from tui.screens.why import Route

Result = TypeVar("Result")
ACTIONS = frozenset(binding.action.partition("(")[0] for binding in keys.BLOCK)


class Blocks(Vertical, can_focus=True):
    """A transcript and the actions on its messages. `use` hands it the open session."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.BLOCK]

    def __init__(self, transcript: Transcript, *, id: str) -> None:
        super().__init__(id=id)
        self.transcript = transcript
        self._store: Store | None = None
        self._routed: Session | None = None
        self._turn_taking = asyncio.Lock()
        self._copied: tuple[object, int] | None = None  # the message whose code was copied last, and which block

    def compose(self) -> ComposeResult:
        """The transcript alone."""
        yield self.transcript

    def use(self, session: "Session") -> None:
        """Write what is said about answers into the session's store, and what is said about routes into its router."""
        self._routed = session
        self._store = session.store

    @property
    def store(self) -> "Store | None":
        """Where the conversation is kept; None while no log is open."""
        return self._store

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys of a message work while one is selected; otherwise they are letters for the prompt."""
        return self.transcript.selected is not None if action in ACTIONS else True

    def action_copy(self) -> None:
        """Copy the message to the terminal's clipboard (OSC 52)."""
        self._attempt(self._copy())

    def action_edit(self) -> None:
        """Correct the selected answer, or ask the selected question again in other words."""
        selected = self.transcript.selected
        if isinstance(selected, QuestionView):
            self.post_message(Resend(selected.turn_id, selected.text))
        else:
            self._attempt(self._correct())

    def action_regenerate(self) -> None:
        """Answer the question once more; the answer that is there stays as another version."""
        self._attempt(self._regenerate())

    def action_rate(self, thumb: int) -> None:
        """Say that the answer is good (1) or bad (-1)."""
        self._attempt(self._rate(thumb))

    def action_stars(self, stars: int) -> None:
        """Give the answer one to five stars."""
        self._attempt(self._stars(stars))

    def action_why(self) -> None:
        """Show why the answer took its route, and take a correction of it."""
        self._attempt(self._why())

    def action_steps(self) -> None:
        """Show the steps of the answer, to do one again or in other words."""
        self._attempt(self._steps())

    def action_copy_code(self) -> None:
        """Copy the last block of code of the answer; pressed again, the one before it."""
        self._attempt(self._copy_code())

    def action_sources(self) -> None:
        """Open the lines that the answer cites."""
        self._attempt(self._sources())

    def action_go_on(self) -> None:
        """Have the rest of an answer that was cut off, as another version that begins with what there is."""
        self._attempt(self._go_on())

    def action_fork(self) -> None:
        """Let the next question follow this answer, as another branch."""
        self._attempt(self._fork())

    def action_comment(self) -> None:
        """Say something about the answer in words."""
        self._attempt(self._comment())

    def action_undo(self) -> None:
        """Take back what was last said about the answer."""
        self._attempt(self._undo())

    def action_sibling(self, step: int) -> None:
        """Show the version of this message before (-1) or after (1) the one that is displayed."""
        self._attempt(self._switch(step))

    async def mark_siblings(self, answer: AnswerView) -> None:
        """Tell an answer which of how many versions it is."""
        siblings = [turn.id for turn in await self.in_store(lambda store: store.log.siblings(answer.turn_id))]
        answer.set_siblings(siblings.index(answer.turn_id), len(siblings))

    async def in_store(self, call: "Callable[[Store], Result]") -> Result:
        """Run `call` in a thread, one at a time and in order; raises what it raises, and StoreError while none is open."""
        if self._store is None:
            raise StoreError("the log is not open", "press f5 to open it")
        async with self._turn_taking:
            return await asyncio.to_thread(call, self._store)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Show a foreseeable fault as a notice instead of raising it."""
        try:
            yield
        except PointsmanError as error:
            self.notify(str(error), severity="error" if isinstance(error, StoreError) else "warning", markup=False)

    def _attempt(self, deed: Coroutine[Any, Any, None]) -> None:
        self.run_worker(self._reported(deed), group="blocks")

    async def _reported(self, deed: Coroutine[Any, Any, None]) -> None:
        with self.reporting():
            await deed

    async def _copy(self) -> None:
        block = self.transcript.selected or self._answer()
        text = sanitise(block.text)  # a clipboard may end up in a shell
        self.app.copy_to_clipboard(text)
        self.notify(f"copied {len(text):,} characters", markup=False)

    async def _copy_code(self) -> None:
        block = self.transcript.selected or self._answer()
        found = code_blocks(block.text)
        if not found:
            raise InputError("there is no block of code in it", "c copies all of it")
        again = self._copied is not None and self._copied[0] is block
        number = (self._copied[1] + 1) % len(found) if again and self._copied else 0
        self._copied = block, number
        code = sanitise(found[-1 - number])
        self.app.copy_to_clipboard(code)
        self.notify(f"copied block {len(found) - number} of {len(found)}, {code.count(chr(10)) + 1:,} lines", markup=False)

    async def _sources(self) -> None:
        from tui.screens.sources import SourcesScreen

        answer, store = self._answer(), self._store
        if store is None or not answer.answer.trace.cited:
            raise InputError("this answer cites nothing", "@file puts a file before the model")
        turn = await self.in_store(lambda store: store.log.turn(answer.turn_id))
        await self.app.push_screen(SourcesScreen(store, turn.conversation, answer.answer.trace.cited))

    async def _go_on(self) -> None:
        answer = self._logged()
        if not answer.text.strip():
            raise InputError("nothing of this answer arrived", "r answers the question once more")
        length = answer.answer.usage is not None and answer.answer.usage.finish == "length"
        if answer.answer.status == "complete" and not length:
            raise InputError("this answer came to its end by itself", "r answers the question once more")
        self.post_message(Regenerate(answer.turn_id, Pins(answer.model, "standard", answer.answer.domain), said=answer.text))

    async def _regenerate(self) -> None:
        self.post_message(Regenerate(self._logged().turn_id))

    async def _fork(self) -> None:
        self.post_message(Fork(self._logged().turn_id))

    async def _rate(self, thumb: int) -> None:
        answer = self._logged()
        await self.in_store(lambda store: store.feedback.rate(answer.inference, thumb))
        await self._show_feedback(answer)

    async def _stars(self, stars: int) -> None:
        answer = self._logged()
        await self.in_store(lambda store: store.feedback.stars(answer.inference, stars))
        await self._show_feedback(answer)

    async def _correct(self) -> None:
        from tui.screens.correct import CorrectScreen

        answer = self._logged()
        said = await self.in_store(lambda store: store.feedback.of(answer.inference))
        text = next((item.text for item in said if item.kind == "correction"), answer.text)
        corrected = await self.app.push_screen_wait(CorrectScreen(text, answer.text))
        if corrected is not None:
            await self.in_store(lambda store: store.feedback.correct(answer.inference, corrected))
            await self._show_feedback(answer)
            self.notify("the correction is kept", markup=False)

    async def _comment(self) -> None:
        from tui.screens.line import LineScreen

        answer = self._logged()
        words = await self.app.push_screen_wait(LineScreen("A remark about this answer"))
        if words:
            await self.in_store(lambda store: store.feedback.comment(answer.inference, words))
            await self._show_feedback(answer)

    async def _why(self) -> None:
        from tui.screens.why import WhyScreen

        answer, session = self._logged(), self._routed
        turn = await self.in_store(lambda store: store.log.turn(answer.turn_id))
        if session is None or turn.inference is None:
            raise InputError("this answer is not in the log, so nothing is known of its route")
        models = partial(survey.references, session.engines)
        right = await self.app.push_screen_wait(WhyScreen(turn.inference, session.domains, models))
        if right is not None:
            await self._reroute(session, answer, right)

    async def _reroute(self, session: "Session", answer: AnswerView, right: "Route") -> None:
        """Teach the router what the right route would have been, then answer the question again on it."""
        if right.domain or right.mode:
            correct = partial(session.correct_route, answer.inference, domain=right.domain, mode=right.mode)
            self.notify(one_line(await asyncio.to_thread(correct), 300), markup=False)
        known = right.domain in await asyncio.to_thread(session.domains) if right.domain else False
        self.post_message(Regenerate(answer.turn_id, Pins(right.model, right.mode, right.domain if known else "")))

    async def _steps(self) -> None:
        from tui.screens.steps import StepsScreen

        answer = self._logged()
        steps = answer.answer.trace.steps
        if answer.answer.mode != "multi_step" or len(steps) < 2:
            raise InputError("this answer was not made in steps", "f2 chooses multi-step for the next one")
        plan = await self.app.push_screen_wait(StepsScreen(steps))
        if plan is not None:
            self.post_message(Regenerate(answer.turn_id, Pins(answer.model, "multi_step", answer.answer.domain), plan))

    async def _undo(self) -> None:
        answer = self._logged()
        said = await self.in_store(lambda store: store.feedback.of(answer.inference))
        if not said:
            raise InputError("nothing was said about this answer")
        last = max(said, key=lambda item: item.id)
        await self.in_store(lambda store: store.feedback.withdraw(last.id))
        await self._show_feedback(answer)
        self.notify(f"taken back: {last.kind}", markup=False)

    async def _switch(self, step: int) -> None:
        block = self.transcript.selected or self._answer()
        siblings = await self.in_store(lambda store: store.log.siblings(block.turn_id))
        target = [turn.id for turn in siblings].index(block.turn_id) + step
        if not 0 <= target < len(siblings):
            raise InputError("there is no other version that way")
        self.post_message(PathChanged(siblings[target].conversation, siblings[target].id))

    async def _show_feedback(self, answer: AnswerView) -> None:
        said = await self.in_store(lambda store: store.feedback.of(answer.inference))
        of = {item.kind: item for item in said}
        answer.set_feedback(
            int(of["thumb"].value or 0) if "thumb" in of else 0,
            "correction" in of,
            stars=int(of["rating"].value or 0) if "rating" in of else None,
            comment="comment" in of,
        )
        await self._tally()

    def count_ratings(self) -> None:
        """Count what was said about answers, for the line under the prompt."""
        self._attempt(self._tally())

    async def _tally(self) -> None:
        self.post_message(await self.in_store(lessons.count))

    def _answer(self) -> AnswerView:
        """The selected answer, or the last one where nothing is selected."""
        selected = self.transcript.selected
        found = [selected] if selected is not None else list(self.transcript.query(AnswerView))
        if not found or not isinstance(found[-1], AnswerView):
            raise InputError("that goes for answers", "select one with alt+up")
        return found[-1]

    def _logged(self) -> AnswerView:
        answer = self._answer()
        if not answer.inference:
            raise InputError("this answer is not in the log, so nothing can be said about it")
        return answer
