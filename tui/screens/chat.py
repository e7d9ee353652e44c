"""The chat: one column of title, conversation, prompt, status line and keys, and the ways to the other screens.

Not covered: asking (`tui.widgets.conversation`), what is done to a message (`tui.widgets.blocks`), opening the log (`tui.app`).
"""

import logging
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import Footer, Static

from data.config import Settings
from data.errors import PointsmanError
from tui import history, keys, modes, slash, survey
from tui.background import in_background
from tui.messages import (
    Activity,
    CutOff,
    EndWanted,
    FilesOffered,
    Fork,
    HandedBack,
    Identity,
    OllamaState,
    Opened,
    OpenFailed,
    OpenWanted,
    Rated,
    Regenerate,
    Resend,
    Resumed,
    Submitted,
    Surveyed,
)
from tui.modes import Pins
from tui.screens.ways import Ways
from tui.widgets.conversation import Conversation
from tui.widgets.empty import EmptyState
from tui.widgets.files import Files
from tui.widgets.prompt import Prompt
from tui.widgets.status import StatusLine
from tui.widgets.title import TitleBar
from tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from router.session import Session

_log = logging.getLogger(__name__)
PROBE_S = 5.0
"""Seconds between two looks at the Ollama server."""


class ChatScreen(Ways):
    """One conversation at a time."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.CHAT]
    CONTEXTS = ("Prompt", "A file after @", "Chat", "A selected message")
    AUTO_FOCUS = "#prompt"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-normal")]

    def __init__(self, settings: Settings, conversation: str = "") -> None:
        super().__init__()
        self._settings = settings
        self._wanted = conversation
        self._session: Session | None = None
        self._fault: PointsmanError | None = None
        self._busy = False
        model = "" if settings.model == "auto" else settings.model
        self.conversation = Conversation(Transcript(id="transcript"), id="conversation", model=model, mode=settings.mode)
        self._kept_questions: int | None = None  # how many the prompt knew when a chat that leaves no trace began
        self._cut = ""  # the conversation whose last answer a crash cut off
        self._replaces = ""  # the question turn that what is typed now puts in other words
        self._follows = ""  # the answer that what is typed now follows, where that is not the last

    def compose(self) -> ComposeResult:
        """The column."""
        yield TitleBar(id="title")
        yield Static("", id="banner", markup=False)
        yield self.conversation
        yield EmptyState(id="empty")
        yield Static("", id="hint", markup=False)
        yield Files(id="files", markup=False)
        yield Prompt(id="prompt")
        yield StatusLine(id="status")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Draw what is known before the log is open."""
        self.set_class(not self._wanted, "-empty")
        self.prompt = self.query_one(Prompt)
        self._transcript = self.query_one(Transcript)
        self._transcript.text_width = self._settings.tui.text_width
        self.query_one(TitleBar).show("", self.conversation.model)
        self._show_pins(Pins())
        self._probing = self.set_interval(PROBE_S, self._probe, pause=True)

    # What is said to it

    @on(Opened)
    def _opened(self, message: Opened) -> None:
        """The log is open: show the conversation that was asked for, and send what was typed meanwhile."""
        self._session = message.session
        self._show_fault(None)
        self.conversation.open(message.session)
        if self._wanted:
            self.conversation.show(self._wanted)
        in_background("survey", self._look_around, message.session)
        in_background("history", self._look_back, message.session)
        self._probe()
        self._probing.resume()

    @on(OpenFailed)
    def _failed_to_open(self, message: OpenFailed) -> None:
        """The log cannot be used: say so for as long as it lasts, and hand back what was to be sent."""
        self._show_fault(message.fault)
        self.query_one(EmptyState).show(())
        self.conversation.cancel()

    @on(Surveyed)
    def _surveyed(self, message: Surveyed) -> None:
        self.conversation.suggest(message.default)
        self.query_one(EmptyState).show(message.findings)

    @on(CutOff)
    def _cut_off(self, message: CutOff) -> None:
        self._cut = message.conversation
        self.query_one(EmptyState).show_cut_off(message.title)

    @on(Resumed)
    def _resumed(self, message: Resumed) -> None:
        self.prompt.remember(message.questions)

    @on(Submitted)
    def _submitted(self, message: Submitted) -> None:
        if (command := slash.written(message.text)) is not None:
            self.obey(*command)
            return
        if self._fault is not None:
            self.prompt.put(message.text)
            self.notify("nothing is sent until the log can be written; f5 tries again", severity="error", markup=False)
            return
        self.remove_class("-empty")
        self.conversation.ask(message.text, self._replaces, self._follows)
        self._resend("")

    @on(FilesOffered)
    def _files_offered(self, message: FilesOffered) -> None:
        self.query_one(Files).show(message.paths, message.marked)

    @on(HandedBack)
    def _handed_back(self, message: HandedBack) -> None:
        self.prompt.put(message.text)
        self.set_focus(self.prompt)

    @on(Resend)
    def _resend_wanted(self, message: Resend) -> None:
        self.prompt.set_text(message.text)
        self.set_focus(self.prompt)
        self._resend(message.turn)

    @on(Fork)
    def _fork_wanted(self, message: Fork) -> None:
        self.set_focus(self.prompt)
        self._resend("", message.turn)

    @on(Regenerate)
    def _regenerated(self) -> None:
        self.set_focus(self.prompt)

    @on(Activity)
    def _activity(self, message: Activity) -> None:
        self.query_one(StatusLine).show(message)
        if self._busy != bool(message.phase):  # the footer is made anew at each refresh
            self._busy = bool(message.phase)
            self.refresh_bindings()

    @on(Identity)
    def _identity(self, message: Identity) -> None:
        self.query_one(TitleBar).show(message.title, message.model, message.private)
        self._forget_private(message.private)
        self._show_pins(message.pins)
        self.set_class(self.conversation.blank, "-empty")

    @on(Rated)
    def _rated(self, message: Rated) -> None:
        self.query_one(StatusLine).show_rated(message)

    @on(OllamaState)
    def _ollama_state(self, message: OllamaState) -> None:
        self.query_one(StatusLine).show_ollama(message)

    @on(EndWanted)
    def action_to_end(self) -> None:
        """Follow the newest text."""
        self._transcript.jump_to_end()

    def on_key(self, event: events.Key) -> None:
        """Letters typed anywhere reach the prompt, unless they are keys of the selected message."""
        active = self.active_bindings.get(event.key)
        if event.is_printable and event.character and not (active and active.enabled) and not self.prompt.has_focus:
            event.stop()
            self.set_focus(self.prompt)
            self.prompt.insert(event.character)

    def on_paste(self, event: events.Paste) -> None:
        """What is pasted anywhere reaches the prompt."""
        event.stop()
        self.set_focus(self.prompt)
        self.prompt.take(event.text)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Retrying and cancelling are offered while there is something to retry or to cancel."""
        if action == "retry":
            return self._fault is not None
        if action == "cancel":
            return bool(self.conversation.busy or self._transcript.selected or self._standing_elsewhere or self.selections)
        return True

    def action_cancel(self) -> None:
        """Stop the answer; where none comes, deselect, and give up asking in other words."""
        if self.conversation.cancel():
            return
        self.clear_selection()
        self._transcript.deselect()
        self.set_focus(self.prompt)
        if self._replaces:
            self.prompt.clear()
        if self._standing_elsewhere:
            self._resend("")
        self.refresh_bindings()

    def action_new_chat(self) -> None:
        """Begin a new chat."""
        self._resend("")
        self.conversation.clear()
        self.set_focus(self.prompt)

    def action_walk(self, step: int) -> None:
        """Select the message above (-1) or below (1)."""
        self._transcript.move(step)
        self.set_focus(self.conversation if self._transcript.selected else self.prompt)
        self.refresh_bindings()

    def action_page(self, step: int) -> None:
        """Scroll the conversation by a screenful."""
        move = self._transcript.scroll_page_up if step < 0 else self._transcript.scroll_page_down
        move(animate=False)

    def action_thinking(self) -> None:
        """Show or hide the model's thinking in all answers."""
        self._transcript.toggle_thinking()

    def action_details(self) -> None:
        """Open or fold the details of the selected answer, or of the last one."""
        self._transcript.toggle_details()

    def action_next_mode(self) -> None:
        """Answer in the way of reasoning after the present one."""
        self.conversation.pin(mode=modes.following(self.conversation.pins.mode or self._settings.mode))

    def action_retry(self) -> None:
        """Try to open the log again."""
        self._show_fault(None)
        self.post_message(OpenWanted())

    def _probe(self) -> None:
        """Look at the Ollama server, unless it may be answering just now."""
        if self._session is not None and not self.conversation.busy:
            in_background("probe", self._look_at_ollama, self._session)

    def _look_at_ollama(self, session: "Session") -> None:
        self.post_message(survey.ollama(session.engines))

    def _look_around(self, session: "Session") -> None:
        default = survey.default_model(session)
        self.post_message(Surveyed(default, survey.findings(survey.listings(session.engines))))

    def _look_back(self, session: "Session") -> None:
        """In a thread: the questions of earlier chats, for the keys that walk through them, and an answer that a crash cut off."""
        try:
            self.post_message(Resumed(history.questions(session.store, self._wanted)))
            if (cut := history.cut_off(session.store)) is not None:
                self.post_message(CutOff(cut.id, cut.title))
        except PointsmanError as fault:
            _log.warning("the earlier questions cannot be read: %s", fault)

    def _forget_private(self, private: bool) -> None:
        """When a chat that leaves no trace ends, the prompt forgets what was asked in it."""
        if private and self._kept_questions is None:
            self._kept_questions = self.prompt.remembered
        elif not private and self._kept_questions is not None:
            self.prompt.forget_since(self._kept_questions)
            self._kept_questions = None

    def _show_pins(self, pins: Pins) -> None:
        self.query_one(StatusLine).show_mode(modes.standing(pins, self._settings.mode), bool(pins.mode or pins.domain))

    def _show_fault(self, fault: PointsmanError | None) -> None:
        self._fault = fault
        banner = self.query_one("#banner", Static)
        banner.update(f"{fault} (f5 tries again)" if fault else "")
        banner.display = fault is not None
        self.refresh_bindings()

    @property
    def _standing_elsewhere(self) -> bool:
        """Whether the next question does not stand at the end of the chat."""
        return bool(self._replaces or self._follows)

    def _resend(self, turn: str, follows: str = "") -> None:
        self._replaces, self._follows = turn, follows
        hint = self.query_one("#hint", Static)
        words = "asking again in other words: enter sends, escape keeps the question as it is" if turn else ""
        words = "the next question follows the marked answer, beside what came after it; escape gives that up" if follows else words
        hint.update(words)
        hint.display = bool(words)
        self.refresh_bindings()
