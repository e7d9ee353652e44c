"""One conversation: the life of a question from the prompt to the end of its answer.

Questions asked while an answer comes wait in line; one that did not reach the log is handed back. Everything here runs in
this widget's own message queue, in order; `ask`, `show` and `clear` may be called from anywhere in the interface.
Not covered: what is done to finished messages (`tui.widgets.blocks`).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from textual import on

from data.errors import InputError, NotFound, PointsmanError
from data.sanitise import one_line
from tui import modes
from tui.messages import Activity, HandedBack, Identity, PathChanged, Regenerate, Resumed
from tui.modes import Pins
from tui.turns import POLL_S, Asked, Ended, Noted, Piece, Reading, Turn
from tui.widgets.answer import AnswerView
from tui.widgets.approvals import Approvals
from tui.widgets.asking import Running, Waiting, doing, explained, measured
from tui.widgets.blocks import Blocks
from tui.widgets.question import QuestionView
from tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from data.store import Turn as LoggedTurn
    from router.modes.base import Started
    from router.session import Session
    from router.tools import Answer, Wish

MEASURES_S = 0.25
"""Seconds between two displays of a speed that keeps changing."""
PHASES = {"loading": "loading the model", "reading": "reading the prompt"}


class Conversation(Blocks):
    """Asks, shows what comes, and posts Activity, Identity and HandedBack."""

    def __init__(self, transcript: Transcript, *, id: str, model: str = "", mode: str = "standard") -> None:
        super().__init__(transcript, id=id)
        self.conversation = ""
        self._session: Session | None = None
        self._title = ""
        self._default = model
        self._model = model  # that of the last answer, or the default
        self._default_mode = mode
        self._pins = Pins()  # chosen for this conversation
        self._kept: dict[str, Pins] = {}  # chosen for the conversations that were left
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
    def ready(self) -> bool:
        """Whether the log is open."""
        return self._session is not None

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self._under_way is not None

    @property
    def model(self) -> str:
        """The reference that answers the next question, as far as it is known."""
        return self._pins.model or self._model

    @property
    def pins(self) -> Pins:
        """What the user chose for this conversation."""
        return self._pins

    @property
    def blank(self) -> bool:
        """Whether nothing was asked yet."""
        return not (self.conversation or self.busy or self._line or self._not_logged)

    def open(self, session: "Session") -> None:
        """Ask through `session` from now on, beginning with what waits in line."""
        self._session = session
        self.use(session)
        self.call_later(self._next)

    def pin(self, model: str | None = None, mode: str | None = None, domain: str | None = None) -> None:
        """Answer with this model, mode or domain from now on; "" leaves it to the settings and the router, None as it is."""
        chosen = {"model": model, "mode": mode, "domain": domain}
        self._pins = replace(self._pins, **{field: value for field, value in chosen.items() if value is not None})
        self._identify()

    def approve(self, wish: "Wish") -> "Answer":
        """Called by an answer's thread: ask the user about a tool's wish, and wait for the word."""
        running = self._under_way
        return running.turn.approve(wish) if running is not None else "no"

    def suggest(self, model: str) -> None:
        """Name the model that a new conversation will get, once it is known."""
        self._default = model
        if not self.conversation:
            self._model = model
            self._identify()

    def ask(self, text: str, replaces: str = "") -> None:
        """Ask now, or after what is under way. `replaces` is the question turn that this one puts in other words."""
        self.call_later(self._ask, text, replaces)

    def show(self, conversation: str, turn: str = "") -> None:
        """Leave this conversation and show another one, along the branch in use or the one of `turn`, with that selected."""
        self.call_later(self._show, conversation, turn)

    def clear(self) -> None:
        """Leave this conversation for a new one."""
        self.call_later(self._clear)

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

    async def refresh_title(self) -> None:
        """Read the title again, as after a renaming; a conversation that was deleted is left."""
        with self.reporting():
            try:
                if self.conversation:
                    self._title = (await self.in_store(lambda store: store.log.conversation(self.conversation))).title
            except NotFound:
                self.clear()
        self._identify()

    async def _ask(self, text: str, replaces: str) -> None:
        self.transcript.jump_to_end()
        waits = self.busy or self._session is None or bool(self._line)
        view = await self.transcript.add_question("", text, queued=True) if waits else None
        self._line.append(Waiting(text, replaces, self._pins, view))
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
        parent = await self._place(waiting.replaces)
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

    async def _place(self, replaces: str) -> str | None:
        """The turn that the next question follows, None being the last; the transcript is cut back to it."""
        if not replaces:
            return None
        parent = (await self.in_store(lambda store: store.log.turn(replaces))).parent or ""
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
            answer = await self.transcript.begin_answer(self.model, replace=message.turn)
            pins = self._pins
            ask = partial(
                session.again, question, model=pins.model or None, mode=pins.mode or None, domain=pins.domain or None, fallback=True
            )
            self._start(Running(Turn(ask), answer, None, ""))

    @on(PathChanged)
    async def _path_changed(self, message: PathChanged) -> None:
        await self._show(message.conversation, message.turn)

    async def _show(self, conversation: str, turn: str) -> None:
        with self.reporting():
            if conversation == self.conversation and self.busy:
                await self._select(turn)
                raise InputError("an answer is under way", "wait for its end, or stop it with escape, to see other versions")
            turns = await self.in_store(lambda store: store.log.turns(conversation))
            if turn and turn not in [shown.id for shown in turns]:
                await self.in_store(lambda store: store.log.set_leaf(conversation, turn))
                turns = await self.in_store(lambda store: store.log.turns(conversation))
            if conversation != self.conversation:
                await self._leave()
                self._pins = self._kept.get(conversation) or self._as_left(turns)
            self.conversation = conversation
            self._model = next((turn.inference.model for turn in reversed(turns) if turn.inference), self._model)
            await self.transcript.show(turns)
            self.post_message(Resumed(tuple(turn.message.content for turn in turns if turn.role == "user")))
            self.call_after_refresh(self._select, turn)
        self._tell(Activity())
        await self.refresh_title()

    def _as_left(self, turns: "Sequence[LoggedTurn]") -> Pins:
        """What was chosen when the last answer was given."""
        decisions = (turn.inference.decision for turn in reversed(turns) if turn.inference)
        return modes.pinned(next(decisions, {}), self._default_mode)

    async def _select(self, turn: str, seen: int = 0) -> None:
        """Select a turn, bringing earlier messages until it is there."""
        blocks = self.transcript.blocks
        if turn in [block.turn_id for block in blocks]:
            while self.transcript.selected is None or self.transcript.selected.turn_id != turn:
                self.transcript.move(-1)
        elif turn and len(blocks) > seen:
            await self.transcript.load_earlier()
            self.call_after_refresh(self._select, turn, len(blocks))

    async def _clear(self) -> None:
        await self._leave()
        self.conversation = ""
        self._title = ""
        self._model = self._default
        await self.transcript.show([])
        self._identify()
        self._tell(Activity())

    async def _leave(self) -> None:
        """Part from the conversation: what is under way stops and keeps its text, what waits in line is handed back."""
        if self.conversation:
            self._kept[self.conversation] = self._pins
        self._pins = Pins()
        self._not_logged = None
        if self._under_way is not None:
            self._under_way.turn.cancel()
            self._approvals.close(self.app)
            self._under_way.shown = False
            self.notify("the answer under way was stopped; its text is kept", markup=False)
        await self._hand_back()

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

    def _identify(self) -> None:
        self.post_message(Identity(self._title, self.model, self._pins))

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
