"""Which conversation is displayed, and what holds for it: its model, what the user pinned, whether it is kept at all.

Not covered: asking in it (`tui.widgets.conversation`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import on

from data.errors import InputError, NotFound
from tui import incognito, modes
from tui.messages import Identity, PathChanged, Resumed
from tui.modes import Pins
from tui.turns import Turn
from tui.widgets.blocks import Blocks
from tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from data.store import Turn as LoggedTurn
    from router.session import Session


class Places(Blocks):
    """Goes from conversation to conversation. What asks is told by `stop_for_another`."""

    def __init__(self, transcript: Transcript, *, id: str, model: str, mode: str) -> None:
        super().__init__(transcript, id=id)
        self.conversation = ""
        self._session: Session | None = None
        self._public: Session | None = None  # the session of the log, while a private one is in use
        self._title = ""
        self._default = model
        self._model = model  # that of the last answer, or the default
        self._default_mode = mode
        self._pins = Pins()  # chosen for this conversation
        self._kept: dict[str, Pins] = {}  # chosen for the conversations that were left

    async def stop_for_another(self) -> None:
        """Stop what is under way and hand back what waits: another conversation is about to be displayed."""

    @property
    def running(self) -> Turn | None:
        """The answer under way."""
        return None

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self.running is not None

    def tell_idle(self) -> None:
        """Say that nothing is known of the speed any more."""

    @property
    def ready(self) -> bool:
        """Whether the log is open."""
        return self._session is not None

    @property
    def title(self) -> str:
        """What the conversation is called; "" for a new one. Untrusted text."""
        return self._title

    @property
    def model(self) -> str:
        """The reference that answers the next question, as far as it is known."""
        return self._pins.model or self._model

    @property
    def pins(self) -> Pins:
        """What the user chose for this conversation."""
        return self._pins

    def pin(self, model: str | None = None, mode: str | None = None, domain: str | None = None) -> None:
        """Answer with this model, mode or domain from now on; "" leaves it to the settings and the router, None as it is."""
        chosen = {"model": model, "mode": mode, "domain": domain}
        self._pins = replace(self._pins, **{field: value for field, value in chosen.items() if value is not None})
        self._identify()

    def suggest(self, model: str) -> None:
        """Name the model that a new conversation will get, once it is known."""
        self._default = model
        if not self.conversation:
            self._model = model
            self._identify()

    def show(self, conversation: str, turn: str = "") -> None:
        """Leave this conversation and show another one, along the branch in use or the one of `turn`, with that selected."""
        self.call_later(self._show, conversation, turn)

    def clear(self) -> None:
        """Leave this conversation for a new one."""
        self.call_later(self._clear)

    @property
    def private(self) -> bool:
        """Whether nothing of this conversation is kept."""
        return self._public is not None

    def go_private(self, session: "Session") -> None:
        """Begin a conversation in a session that leaves no trace; its store is closed when another one is shown."""
        self.call_later(self._go_private, session)

    def go_public(self) -> None:
        """Let the conversation that leaves no trace go, and begin a new one in the log."""
        self.call_later(self._go_public)

    async def refresh_title(self) -> None:
        """Read the title again, as after a renaming; a conversation that was deleted is left."""
        with self.reporting():
            try:
                if self.conversation:
                    self._title = (await self.in_store(lambda store: store.log.conversation(self.conversation))).title
            except NotFound:
                self.clear()
        self._identify()

    @on(PathChanged)
    async def _path_changed(self, message: PathChanged) -> None:
        await self._show(message.conversation, message.turn)

    async def _show(self, conversation: str, turn: str) -> None:
        with self.reporting():
            if conversation == self.conversation and self.busy:
                await self._select(turn)
                raise InputError("an answer is under way", "wait for its end, or stop it with escape, to see other versions")
            if self.private and conversation != self.conversation:
                await self._go_public()
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
        self.tell_idle()
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
        self.tell_idle()

    async def _go_private(self, session: "Session") -> None:
        await self._go_public()
        self._public, self._session = self._session, session
        self.use(session)
        await self._clear()

    async def _go_public(self) -> None:
        """Leave, and let what leaves no trace go; where nothing is private, only leave."""
        running, left = self.running, self.conversation
        await self._clear()
        if self._public is not None and self._session is not None:
            incognito.part(self._session, running)
            self._session, self._public = self._public, None
            self.use(self._session)
            self._kept.pop(left, None)
            self._identify()
            self.count_ratings()

    async def _leave(self) -> None:
        """Part from the conversation: what is under way stops and keeps its text, what waits in line is handed back."""
        if self.conversation:
            self._kept[self.conversation] = self._pins
        self._pins = Pins()
        await self.stop_for_another()

    def _identify(self) -> None:
        self.post_message(Identity(self._title, self.model, self._pins, self.private))
