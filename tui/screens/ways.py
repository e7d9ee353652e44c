"""The ways from the chat to the other screens and back: models, modes, chats, the tree, a second answer, an editor.

Not covered: the chat itself (`tui.screens.chat`), and what those screens do.
"""

import asyncio
import inspect
from difflib import get_close_matches
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import SuspendNotSupported

from data.config import Settings
from data.errors import InputError, PointsmanError
from data.sanitise import one_line
from tui import incognito, modes, saving, slash, tags, terminal_input
from tui.background import in_background
from tui.messages import PrivateReady
from tui.screens import SCREENS
from tui.widgets.comparing import Comparing
from tui.widgets.conversation import Conversation
from tui.widgets.empty import SUGGESTIONS
from tui.widgets.prompt import Prompt
from tui.widgets.safe_screen import SafeScreen

if TYPE_CHECKING:
    from router.session import Session


class Ways(SafeScreen):
    """What the chat's screen can lead to. The screen sets the attributes."""

    _settings: Settings
    _session: "Session | None" = None
    _cut: str = ""
    _mouse: bool = True
    conversation: Conversation
    prompt: Prompt

    def obey(self, name: str, argument: str) -> None:
        """Run a command that was typed; one that there is not is told with the nearest, and goes back into the prompt."""
        command = slash.BY_NAME.get(name)
        if command is None:
            near = get_close_matches(name, slash.BY_NAME, n=1)
            hint = f"did you mean /{near[0]}?" if near else "/help shows what there is"
            self.notify(f"there is no command /{name}: {hint} (a question begins with a space)", severity="warning", markup=False)
            self.prompt.put(f"/{name} {argument}".rstrip())
        elif argument and command.takes:
            self._obey_with(name, argument)
        elif argument:
            self.notify(f"/{name} takes nothing behind it", severity="warning", markup=False)
            self.prompt.put(f"/{name} {argument}")
        else:
            self.do(command)

    def do(self, command: slash.Command) -> None:
        """Run a command."""
        target = {"app": self.app, "chat": self, "conversation": self.conversation}[command.target]
        done = getattr(target, f"action_{command.action}")(*command.parameters)
        if inspect.iscoroutine(done):
            self.run_worker(done)

    def _obey_with(self, name: str, argument: str) -> None:
        """Run a command with what was typed behind it."""
        if name == "model":
            self.conversation.pin(model=argument)
        elif name == "mode":
            self._pin_mode(argument)
        elif name == "compare":
            self.prompt.set_text(argument)
            self.action_compare()
        elif name == "title":
            self._retitle(argument)
        elif name == "export":
            self._write_chat(argument)
        elif argument in self.app.available_themes:
            self.app.theme = argument
        else:
            self.notify(f"there is no theme {argument!r}; /theme lists them", severity="warning", markup=False)

    def _pin_mode(self, typed: str) -> None:
        name = typed.casefold().replace("-", "_")
        names = [mode.name for mode in modes.MODES]
        found = next((one for one in names if one == name or one.startswith(name)), None)
        if found is None:
            self.notify(f"there is no mode {typed!r}; one of: {', '.join(names)}", severity="warning", markup=False)
        else:
            self.conversation.pin(mode=found)

    def action_open(self, name: str) -> None:
        """Open one of the other screens."""
        place = SCREENS[name]
        if place.logged and self._session is None:
            self.notify("that needs the log, which is not open", severity="warning", markup=False)
        else:
            self.app.push_screen(place.open(self._settings, self._session))

    def action_mouse(self) -> None:
        """Leave the mouse to the terminal, or take it back."""
        self._mouse = not self._mouse
        if terminal_input.set_mouse(self.app, self._mouse):
            words = "the mouse is the chat's again" if self._mouse else "the mouse is the terminal's: select and copy with it"
            self.notify(words, markup=False)
        else:
            self.notify("the mouse of this terminal cannot be handed over", severity="warning", markup=False)

    def action_tour(self) -> None:
        """Show what this can do, in a minute."""
        from tui.screens.tour import TourScreen

        self.app.push_screen(TourScreen())

    def action_suggestion(self, number: int) -> None:
        """Put a suggestion into the prompt; nothing of what is typed is lost."""
        if self.has_class("-empty") and not self.prompt.text:
            self.prompt.set_text(SUGGESTIONS[number - 1])

    def action_resume(self) -> None:
        """Go back to the answer that a crash cut off, so that it can be gone on with."""
        if self._cut:
            self.conversation.show(self._cut)
            self.notify("alt+up, then g, has the rest of the answer", markup=False)
        else:
            self.notify("no answer was cut off", markup=False)

    def action_editor(self) -> None:
        """Write the question in the user's editor."""
        from tui.editor import edit

        try:
            with self.app.suspend():
                text = edit(self.prompt.text)
        except SuspendNotSupported:
            self.notify("this terminal cannot be handed to an editor", severity="warning", markup=False)
        except InputError as error:
            self.notify(str(error), severity="warning", markup=False)
        else:
            self.prompt.set_text(text)

    @work
    async def action_compare(self) -> None:
        """Have two models answer what is typed, and say which answer is better."""
        await Comparing(self, self.conversation, self.prompt).run(self._session)

    @work
    async def action_models(self) -> None:
        """Choose the model of this chat."""
        from tui.screens.models import ModelsScreen

        if self._session is not None:
            chosen = await self.app.push_screen_wait(ModelsScreen(self._session.engines, self.conversation.model))
            if chosen:
                self.conversation.pin(model=chosen)

    @work
    async def action_mode(self) -> None:
        """Choose the way of reasoning of this chat, or its domain."""
        from tui.screens.modes import ModesScreen

        domains = self._session.domains if self._session is not None else list
        pins, default = self.conversation.pins, self._settings.mode
        chosen = await self.app.push_screen_wait(ModesScreen(domains, pins.mode or default, pins.domain))
        if chosen:
            field, _, value = chosen.partition(":")
            self.conversation.pin(**{field: value})

    @work
    async def action_sessions(self) -> None:
        """Go to an earlier chat."""
        from tui.screens.sessions import SessionsScreen

        if self._session is not None:
            chosen = await self.app.push_screen_wait(SessionsScreen(self._session.store))
            if chosen:
                conversation, _, turn = chosen.partition(":")
                self.conversation.show(conversation, turn)
            else:
                await self.conversation.refresh_title()

    @work
    async def action_tree(self) -> None:
        """Show every version of every question and answer, and go to one."""
        from tui.screens.tree import TreeScreen

        place, store = self.conversation.conversation, self.conversation.store
        if store is None or self._empty():
            return
        selected = self.conversation.transcript.selected
        turn = await self.app.push_screen_wait(TreeScreen(store, place, selected.turn_id if selected else ""))
        if turn:
            self.conversation.show(place, turn)

    @work
    async def action_save_chat(self) -> None:
        """Write this chat to a file."""
        from tui.screens.line import LineScreen

        if self._empty():
            return
        name = saving.proposed(tags.split(self.conversation.title)[0])
        wanted = await self.app.push_screen_wait(LineScreen("Write this chat to (.md or .json)", name))
        if wanted:
            self._write_chat(wanted)

    @work
    async def action_rename_chat(self) -> None:
        """Give this chat another title; words with # at its end are its tags."""
        from tui.screens.line import LineScreen

        if self._empty():
            return
        hint = "words with # at the end are its tags; enter keeps it"
        title = await self.app.push_screen_wait(LineScreen("The title of this chat", self.conversation.title, hint))
        if title:
            self._retitle(title)

    @work
    async def _write_chat(self, name: str) -> None:
        place, store = self.conversation.conversation, self.conversation.store
        if store is not None and not self._empty():
            with self.conversation.reporting():
                file = await asyncio.to_thread(saving.save, store, place, name)
                self.notify(f"written: {one_line(str(file), 300)}", markup=False)

    @work
    async def _retitle(self, title: str) -> None:
        place, store = self.conversation.conversation, self.conversation.store
        if store is not None and not self._empty():
            with self.conversation.reporting():
                await asyncio.to_thread(store.log.rename, place, title)
            await self.conversation.refresh_title()

    def _empty(self) -> bool:
        """Whether nothing was said in this chat yet, which is told."""
        empty = self.conversation.store is None or not self.conversation.conversation
        if empty:
            self.notify("this chat is still empty", severity="warning", markup=False)
        return empty

    def action_incognito(self) -> None:
        """Begin a chat that leaves no trace, or end the one that is open."""
        if self.conversation.private:
            self.conversation.go_public()
        elif self._session is not None:
            in_background("incognito", self._open_private, self._session)

    def _open_private(self, session: "Session") -> None:
        try:
            self.post_message(PrivateReady(incognito.private(session)))
        except PointsmanError as fault:
            self.app.call_from_thread(self.notify, str(fault), severity="error", markup=False)

    @on(PrivateReady)
    def _private_ready(self, message: PrivateReady) -> None:
        self.conversation.go_private(message.session)
        self.set_focus(self.prompt)
