"""The chat in the terminal: what `pointsman` opens. Themes, keys that work everywhere, the palette, and opening the log.

The first frame needs nothing but Textual: the log, the engines and their libraries are imported and opened in a thread when
it is on the screen. Not covered: the chat itself (`tui.screens.chat`).
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen
from textual.theme import Theme

from data import config, paths
from data.config import Settings
from data.errors import PointsmanError
from tui import keys, slash, terminal_input, themes
from tui.background import in_background
from tui.messages import Opened, OpenFailed, OpenWanted
from tui.screens.chat import ChatScreen

if TYPE_CHECKING:
    from router.session import Session

AGAIN_S = 2.0
"""Seconds within which a second ctrl+c quits."""
PARTING_S = 5.0
"""Seconds that leaving waits for the running answer to be logged; a model that is silent for longer is left behind."""
TERMINAL_S = 2.0
"""Seconds between two looks whether the terminal is still there."""


class PointsmanApp(App[None], inherit_bindings=False):
    """The chat over a session that `open_session` opens; it is called in a thread, and may raise PointsmanError."""

    TITLE = "Pointsman"
    CSS_PATH = "screens/chat.tcss"  # here, because Textual loads no stylesheet of a default screen's own
    BINDINGS: ClassVar[list[BindingType]] = [*keys.ANYWHERE]

    def __init__(self, settings: Settings, open_session: "Callable[[], Session]", conversation: str | None = None) -> None:
        super().__init__()
        self._settings = settings
        self._open_session = open_session
        self.session: Session | None = None
        self._interrupted_at = float("-inf")
        self.chat = ChatScreen(settings, conversation or "")

    def get_default_screen(self) -> Screen[None]:
        """The chat, so that the first frame is the chat's."""
        return self.chat

    def on_mount(self) -> None:
        """Apply the settings; open the log when the first frame is on the screen."""
        for theme in themes.OWN:
            self.register_theme(theme)
        wanted = self._settings.tui.theme
        if wanted in self.available_themes:
            self.theme = wanted
        else:
            self.notify(f"there is no theme {wanted!r}; ctrl+p, then Theme, lists them", severity="warning", markup=False)
        self.theme_changed_signal.subscribe(self, self._keep_theme)
        self.set_keymap(self._settings.tui.keymap)
        for complaint in keys.complaints(self._settings.tui.keymap):
            self.notify(complaint, severity="warning", markup=False)
        self.call_after_refresh(self._open)
        if not self.is_headless and sys.stdin.isatty():
            self.set_interval(TERMINAL_S, self._leave_without_terminal)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: every command (`tui.slash`), on the last answer where it concerns one."""
        for command in slash.COMMANDS:
            if command.target == "app" or isinstance(screen, ChatScreen):
                yield SystemCommand(command.title, command.line, partial(self.chat.do, command))

    def action_help(self) -> None:
        """Show the keys of this screen."""
        from tui.screens.help import HelpScreen

        contexts = (*getattr(self.screen, "CONTEXTS", ()), "Anywhere")
        self.push_screen(HelpScreen(contexts, self._settings.tui.keymap))

    def action_interrupt(self) -> None:
        """Stop the answer; a second time within two seconds, leave. Copying a selection comes before this."""
        now = time.monotonic()
        again = now - self._interrupted_at < AGAIN_S
        self._interrupted_at = now
        if again:
            self.call_later(self.action_quit)
        elif self._answer_in_sight() and self.chat.conversation.cancel():
            self.notify("stopped; ctrl+c again leaves", timeout=AGAIN_S, markup=False)
        else:
            self.notify("ctrl+c again leaves", timeout=AGAIN_S, markup=False)

    async def action_quit(self) -> None:
        """Leave, once the answer under way has been stopped and logged."""
        self.chat.conversation.cancel()
        self.exit()

    def part(self) -> None:
        """Wait for the running answer to be logged, then close log and engines; for after the app has ended."""
        ended = self.chat.conversation.wait(PARTING_S)
        if self.session is not None and ended:  # an engine at work must not be freed; what it logged is safe
            self.session.close()

    def fault(self) -> Exception | None:
        """The unforeseen fault that ended the app, if one did."""
        return self._exception

    def _print_error_renderables(self) -> None:
        """Textual would print a traceback; whoever called `run` gets the exception instead."""
        self._exit_renderables.clear()

    def _answer_in_sight(self) -> bool:
        """Whether what is on the screen belongs to the answer under way: the chat, or a question of one of its tools."""
        return self.screen is self.chat or self.screen.is_modal

    def _leave_without_terminal(self) -> None:
        """A terminal that was closed sends no SIGHUP when make or a shell stands between, and Textual reads on for ever."""
        if not sys.stdin.isatty():
            self.call_later(self.action_quit)

    @on(OpenWanted)
    def _open_again(self) -> None:
        self._open()

    def _open(self) -> None:
        in_background("open", self._open_and_tell)

    def _open_and_tell(self) -> None:
        unforeseen = PointsmanError("an unforeseen fault kept the log from opening", f"the details are in {paths.log_dir()}")
        news: Opened | OpenFailed = OpenFailed(unforeseen)
        try:
            self.session = self._open_session()
            self.session.approve = self.chat.conversation.approve
            news = Opened(self.session)
        except PointsmanError as fault:
            news = OpenFailed(fault)
        finally:
            self.chat.post_message(news)

    def _keep_theme(self, theme: Theme) -> None:
        if theme.name != self._settings.tui.theme:
            in_background("theme", self._save_theme, theme.name)

    def _save_theme(self, name: str) -> None:
        try:
            config.change("tui.theme", name)
        except PointsmanError as error:
            self.notify(f"the theme is not kept: {error}", severity="warning", markup=False)


def run(settings: Settings, conversation: str | None = None, *, inline: bool = False) -> None:
    """Open the chat and return when it is left; inline: below the prompt of the shell instead of on the whole terminal.

    Raises PointsmanError where closing the log fails.
    """
    terminal_input.mend()
    with _logging_to_file():
        app = PointsmanApp(settings, lambda: _session(settings), conversation)
        try:
            app.run(inline=inline)
        finally:
            app.part()
    if fault := app.fault():
        raise fault


def _session(settings: Settings) -> "Session":
    from router.engines import Engines
    from tui.opening import Warming, retained

    engines = Engines(settings)
    Warming(engines, None, certain=False)  # the default model is read while the log is opened
    from data.store import open_store
    from router.session import Session

    store = open_store(settings.store.url)
    retained(store, settings.store.keep_days)
    return Session(settings, store, engines)


@contextmanager
def _logging_to_file() -> Iterator[None]:
    """Warnings, log records and the faults of threads go to tui.log in the log folder: nothing may print over the chat."""
    root = logging.getLogger()
    handler: logging.Handler
    try:
        handler = logging.FileHandler(paths.ensure(paths.log_dir()) / "tui.log", encoding="utf-8", delay=True)
    except PointsmanError:
        handler = logging.NullHandler()  # a read-only home: the log's own error says so on the screen
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    hook = threading.excepthook
    root.addHandler(handler)
    logging.captureWarnings(True)
    threading.excepthook = _log_fault
    try:
        yield
    finally:
        threading.excepthook = hook
        logging.captureWarnings(False)
        root.removeHandler(handler)
        handler.close()


def _log_fault(fault: threading.ExceptHookArgs) -> None:
    logging.getLogger("pointsman").error("unforeseen fault in %s", fault.thread, exc_info=fault.exc_value)
