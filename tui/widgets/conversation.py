"""One conversation: the life of a question from the prompt to the end of its answer.

Questions asked while an answer comes wait in line; one that did not reach the log is handed back. Everything here runs in
this widget's own message queue, in order; `ask`, `show` and `clear` may be called from anywhere in the interface.
Not covered: which conversation is displayed (`tui.widgets.places`), what is done to finished messages (`tui.widgets.blocks`).
"""

from collections import deque
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from textual import on

from data.errors import InputError, PointsmanError
from data.sanitise import one_line
from tui.messages import Activity, HandedBack, Regenerate
from tui.turns import POLL_S, Asked, Ended, Noted, Piece, Reading, Turn
from tui.widgets.answer import AnswerView
from tui.widgets.approvals import Approvals
from tui.widgets.asking import Running, Waiting, again, doing, explained, measured
from tui.widgets.places import Places
from tui.widgets.question import QuestionView
from tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from router.modes.base import Started
    from router.session import Session
    from router.tools import Answer, Wish

MEASURES_S = 0.25
"""Seconds between two displays of a speed that keeps changing."""
PHASES = {"loading": "loading the model", "reading": "reading the prompt"}


class Conversation(Places):
    """Asks, shows what comes, and posts Activity, Identity and HandedBack."""

    def __init__(self, transcript: Transcript, *, id: str, model: str = "", mode: str = "standard") -> None:
        super().__init__(transcript, id=id, model=model, mode=mode)
        self._approvals = Approvals()
        self._under_way: Running | None = None
        self._line: deque[Waiting] = deque()
        self._not_logged: tuple[QuestionView, AnswerView] | None = None
        self._told = Activity()
        self._told_at = 0.0

    def on_mount(self) -> None:
        """The clock by which running answers are read; it rests while there is none."""
        self._clock = self.set_interval(POLL_S, self._look, pause=True)

    @property
    def running(self) -> Turn | None:
        """The answer under way."""
        return self._under_way.turn if self._under_way is not None else None

    @property
    def blank(self) -> bool:
        """Whether nothing was asked yet."""
        return not (self.conversation or self.busy or self._line or self._not_logged)

    def open(self, session: "Session") -> None:
        """Ask through `session` from now on, beginning with what waits in line."""
        self._session = session
        self.use(session)
        self.call_later(self._next)
        self.count_ratings()

    def approve(self, wish: "Wish") -> "Answer":
        """Called by an answer's thread: ask the user about a tool's wish, and wait for the word."""
        running = self._under_way
        return running.turn.approve(wish) if running is not None else "no"

    def ask(self, text: str, replaces: str = "", follows: str = "") -> None:
        """Ask now, or after what is under way. `replaces` is the question turn that this one puts in other words, `follows`
        the answer after which it stands where that is not the last."""
        self.call_later(self._ask, text, replaces, follows)

    def cancel(self) -> bool:
        """Stop the answer under way and hand back what waits in line; whether there was anything to stop."""
        waiting = bool(self._line)
        self.call_later(self._hand_back)
        if self._under_way is None or self._under_way.turn.cancelled:
            return waiting
        self._under_way.turn.cancel()
        self._approvals.close(self.app)
        return True

    def wait(self, timeout_s: float) -> bool:
        """Block until the running answer has been closed and logged, at most `timeout_s` seconds; whether it has."""
        return self._under_way is None or self._under_way.turn.wait(timeout_s)

    async def stop_for_another(self) -> None:
        """Stop the answer under way, whose text is kept, and hand back what waits in line."""
        self._not_logged = None
        if self._under_way is not None:
            self._under_way.turn.cancel()
            self._approvals.close(self.app)
            if self._under_way.shown:
                kept = "" if self.private else "; its text is kept"
                self.notify(f"the answer under way was stopped{kept}", markup=False)
            self._under_way.shown = False
        await self._hand_back()

    def tell_idle(self) -> None:
        """Say that nothing is known of the speed any more."""
        self._tell(Activity())

    async def _ask(self, text: str, replaces: str, follows: str) -> None:
        self.transcript.jump_to_end()
        waits = self.busy or self._session is None or bool(self._line)
        view = await self.transcript.add_question("", text, queued=True) if waits else None
        self._line.append(Waiting(text, replaces, follows, self._pins, view))
        await self._next()

    async def _next(self) -> None:
        """Send the first question in line, unless an answer is under way or the log is not open yet."""
        if not self.busy and self._session is not None and self._line:
            waiting = self._line.popleft()
            try:
                await self._send(self._session, waiting)
            except PointsmanError as error:
                self.notify(str(error), severity="error", markup=False)
                self.post_message(HandedBack(waiting.text))
        self._tell()

    async def _send(self, session: "Session", waiting: Waiting) -> None:
        if waiting.view is not None:
            await self.transcript.drop_queued(waiting.view)
        await self._drop_not_logged()
        parent = await self._place(waiting.replaces, waiting.follows)
        question = await self.transcript.add_question("", waiting.text)
        answer = await self.transcript.begin_answer(self.model)
        ask = partial(
            session.ask,
            waiting.text,
            conversation=self.conversation or None,
            parent=parent,
            model=self._pins.model or None,
            mode=waiting.pins.mode or None,
            domain=waiting.pins.domain or None,
            fallback=True,
        )
        self._start(Running(Turn(ask), answer, question, waiting.text))

    def _start(self, running: Running) -> None:
        self._under_way = running
        running.turn.start()
        self._clock.resume()

    async def _look(self) -> None:
        """Take what the running answer has brought since the last look."""
        running = self._under_way
        if running is None:
            return
        for item in running.turn.news():
            if isinstance(item, Ended):
                await self._finish(running, item)
                return
            if not running.shown:
                continue
            if isinstance(item, Piece):
                self._write(running, item)
            elif isinstance(item, Reading | Noted | Asked):
                self._happened(running, item)
            else:
                await self._begin(running, item)
        self._tell()

    def _write(self, running: Running, piece: Piece) -> None:
        if piece.thinking:
            running.answer.think(piece.thinking, piece.thoughts)
            running.phase = "thinking"
        if piece.text:
            running.answer.write(piece.text, piece.texts)
            running.phase = "answering"

    def _happened(self, running: Running, item: Reading | Noted | Asked) -> None:
        if isinstance(item, Reading):
            running.phase = PHASES.get(item.phase, item.phase)
            running.answer.phase(item.phase, item.progress)
        elif isinstance(item, Noted):
            running.answer.note(item.entry)
            running.phase = doing(item.entry)
            running.answer.phase(running.phase)
        elif not running.turn.cancelled:
            running.phase = "waiting for your word"
            running.answer.phase(running.phase)
            self._approvals.open(self.app, item)

    async def _begin(self, running: Running, started: "Started") -> None:
        if running.answer.inference:  # a second beginning: the router fell back to another model
            self.notify(started.reasons[-1] if started.reasons else f"{started.model} answers", severity="warning", markup=False)
        else:
            for problem in (*started.notices, *started.problems):
                self.notify(one_line(problem, 300), severity="warning", markup=False)
        if running.question is not None:
            running.question.confirm(started.question)
        running.answer.begin(started.answer, started.inference, started.model, started.mode, started.domain, tuple(started.reasons))
        running.phase = "waiting for the model"
        self._model = started.model
        if not self.conversation:
            self.conversation = started.conversation
            await self.refresh_title()
        self._identify()

    async def _finish(self, running: Running, ended: Ended) -> None:
        self._under_way = None
        self._clock.pause()
        if running.shown:
            await running.answer.finish(ended.status, ended.usage, explained(ended))
            await self._tell_route(running.answer)
            self._tell(measured(running.answer, ended.usage))
            if not ended.logged and running.question is not None:
                self._not_logged = (running.question, running.answer)
            if running.question is None and ended.logged:
                with self.reporting():
                    await self.mark_siblings(running.answer)
        if not ended.logged and running.text:
            self.post_message(HandedBack(running.text))
        if ended.status != "complete" and running.shown:
            await self._hand_back()
        await self._next()

    async def _tell_route(self, answer: AnswerView) -> None:
        """Let a new answer show on what evidence its route was taken."""
        if answer.inference:
            with self.reporting():
                inference = await self.in_store(lambda store: store.log.inference(answer.inference))
                answer.set_decision(inference.decision)

    async def _place(self, replaces: str, follows: str) -> str | None:
        """The turn that the next question follows, None being the last; the transcript is cut back to it."""
        if not (replaces or follows):
            return None
        parent = follows or (await self.in_store(lambda store: store.log.turn(replaces))).parent or ""
        before = await self.in_store(lambda store: store.log.turns(self.conversation, leaf=parent)) if parent else []
        await self.transcript.show(before)
        waiting, self._line = list(self._line), deque()
        for one in waiting:
            self._line.append(replace(one, view=await self.transcript.add_question("", one.text, queued=True)))
        return parent

    @on(Regenerate)
    async def _again(self, message: Regenerate) -> None:
        with self.reporting():
            session = self._session
            if self.busy or session is None:
                raise InputError("an answer is under way", "wait for its end, or stop it with escape")
            before = await self.in_store(lambda store: store.log.turns(self.conversation, leaf=message.turn))
            question = next(turn.id for turn in reversed(before) if turn.role == "user")
            pins = message.pins.over(self._pins)
            answer = await self.transcript.begin_answer(pins.model or self.model, replace=message.turn)
            self._start(Running(Turn(again(session, question, pins, message)), answer, None, ""))

    async def _hand_back(self) -> None:
        """Give the questions in line back, as one text."""
        if not self._line:
            return
        waiting, self._line = list(self._line), deque()
        for one in waiting:
            if one.view is not None:
                await self.transcript.drop_queued(one.view)
        self.post_message(HandedBack("\n\n".join(one.text for one in waiting)))
        self._tell()

    async def _drop_not_logged(self) -> None:
        """Remove the question that never reached the log, with its error: it was handed back, and is asked anew."""
        if self._not_logged is not None:
            self.transcript.deselect()
            for view in self._not_logged:
                await view.remove()
            self._not_logged = None

    def _tell(self, measured: Activity | None = None) -> None:
        """Post what is going on, where it differs from what was posted last."""
        running = self._under_way
        if running is not None and running.shown:
            now = running.activity(len(self._line))
        else:
            now = replace(measured or self._told, phase="", queued=len(self._line))
        same = (now.phase, now.queued) == (self._told.phase, self._told.queued)
        if now != self._told and not (same and now.phase and monotonic() - self._told_at < MEASURES_S):
            self._told, self._told_at = now, monotonic()
            self.post_message(now)
