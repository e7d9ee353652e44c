"""Earlier chats: a list, newest first, and a search through everything that was ever said in them, with filters.

Reading and searching happen in threads; a search begins when the typing pauses. Not covered: branches within a chat
(`tui.screens.tree`), how filters are written (`tui.searching`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input

from data.errors import PointsmanError
from data.sanitise import one_line
from tui import keys, saving, searching, tags
from tui.background import in_background
from tui.screens.line import LineScreen
from tui.screens.picker import Picker, Row

if TYPE_CHECKING:
    from data.store import Conversation, Hit, Store

PAUSE_S = 0.15
"""Seconds without a key before a search begins."""
SHOWN = 200
"""Chats listed at most; older ones are found by searching."""
TAGGED = 5_000
"""Chats whose tags are looked at."""


class SessionsScreen(Picker):
    """Ends with the id of a conversation, or with `conversation:turn` where a turn was found."""

    @dataclass
    class Found(Message):
        """What a search (or, for the text "", the list) found."""

        text: str
        rows: list[Row]

    @dataclass
    class Told(Message):
        """Something was done."""

        words: str

    @dataclass
    class Failed(Message):
        """The store could not be read or changed."""

        fault: PointsmanError

    BINDINGS: ClassVar[list[BindingType]] = [*keys.SESSIONS]
    HEADING = "Chats"
    PLACEHOLDER = "type to search in everything that was said, with filters"
    CONTEXTS = ("Lists", "Sessions")

    def __init__(self, store: "Store") -> None:
        super().__init__()
        self._store = store
        self._titles: dict[str, str] = {}
        self._asked = ""  # the search whose rows are wanted
        self._deleting = ""
        self._renaming = ""
        self._pause: Timer | None = None  # until the typing has paused

    def begin(self) -> None:
        """Read the list."""
        self.note(searching.HINT)
        self._read()

    def action_choose(self) -> None:
        """Go to the highlighted chat, or keep the new title."""
        if self._renaming:
            chat, title = self._renaming, self.filter.value.strip()
            self._end_renaming()
            in_background("rename", self._change, lambda store: store.log.rename(chat, title))
        elif self.highlighted:
            self.dismiss(self.highlighted)

    def action_leave(self) -> None:
        """Give up what was begun; else what was typed; else go back."""
        if self._renaming:
            self._end_renaming()
        elif self._deleting:
            self._deleting = ""
            self.note("")
        else:
            super().action_leave()

    def action_rename(self) -> None:
        """Type a new title where the search stands."""
        if self._chosen and not self._renaming:
            self._renaming = self._chosen
            self.filter.value = self._titles.get(self._renaming, "")
            self.filter.select_all()
            self.note("enter keeps this title, escape the old one")

    @work
    async def action_tag(self) -> None:
        """Write the tags of the highlighted chat."""
        chat = self._chosen
        if chat and not self._renaming:
            title = self._titles.get(chat, "")
            written = " ".join(f"#{tag}" for tag in tags.split(title)[1])
            words = await self.app.push_screen_wait(LineScreen("Tags of this chat, with spaces between", written, empty=True))
            if words is not None:
                renamed = tags.joined(title, tags.typed(words))
                in_background("tag", self._change, lambda store: store.log.rename(chat, renamed))

    @work
    async def action_save(self) -> None:
        """Write the highlighted chat to a file."""
        chat = self._chosen
        if chat and not self._renaming:
            name = saving.proposed(tags.split(self._titles.get(chat, ""))[0])
            wanted = await self.app.push_screen_wait(LineScreen("Write this chat to (.md or .json)", name))
            if wanted:
                in_background("save", self._save, chat, wanted)

    def _save(self, chat: str, name: str) -> None:
        """In a thread: write the file."""
        try:
            self.post_message(self.Told(f"written: {saving.save(self._store, chat, name)}"))
        except PointsmanError as error:
            self.post_message(self.Failed(error))

    def action_delete(self) -> None:
        """Ask; at the second press delete the highlighted chat with everything said in it."""
        chat = self._chosen
        if not chat or self._renaming:
            return
        if self._deleting != chat:
            self._deleting = chat
            self.note(f"delete {one_line(self._titles.get(chat, chat), 50)!r} for good? the same key deletes it, escape keeps it")
            return
        self._deleting = ""
        self.note("")
        in_background("delete", self._change, lambda store: store.log.delete(chat))

    def action_cursor(self, step: int) -> None:
        """Highlight the row above or below; a deletion that was begun is given up."""
        if self._deleting:
            self.action_leave()
        super().action_cursor(step)

    @property
    def _chosen(self) -> str:
        return self.highlighted.partition(":")[0]

    @on(Input.Changed)
    def _typed(self) -> None:
        if not self._renaming:
            if self._pause is not None:
                self._pause.stop()
            self._pause = self.set_timer(PAUSE_S, self._read)

    def _end_renaming(self) -> None:
        self._renaming = ""
        self.note("")
        self.filter.value = self._asked

    def _read(self) -> None:
        self._asked = self.filter.value.strip()
        in_background("find", self._find, self._asked)

    def _find(self, text: str) -> None:
        """In a thread: the rows for a search, or the list where nothing is searched for."""
        try:
            self.post_message(self.Found(text, self._found(text) if text else self._listed()))
        except PointsmanError as error:
            self.post_message(self.Failed(error))

    def _change(self, change: "Callable[[Store], object]") -> None:
        """In a thread: change the store, then read the list again."""
        try:
            change(self._store)
            self._find(self._asked)
        except PointsmanError as error:
            self.post_message(self.Failed(error))

    def _listed(self) -> list[Row]:
        chats = self._store.log.conversations(limit=SHOWN)
        self._titles.update({chat.id: chat.title for chat in chats})
        return [_chat_row(chat, datetime.now(UTC)) for chat in chats]

    def _found(self, text: str) -> list[Row]:
        now = datetime.now(UTC)
        wanted = searching.parse(text, now)
        if wanted.only_tag:
            chats = self._store.log.conversations(limit=TAGGED)
            self._titles.update({chat.id: chat.title for chat in chats})
            return [_chat_row(chat, now) for chat in chats if _has(chat.title, wanted.tag)][:SHOWN]
        hits = self._store.search(wanted.words, model=wanted.model, limit=SHOWN, filters=wanted.filters)
        self._titles.update({hit.conversation: hit.title for hit in hits})
        return [_hit_row(hit, now) for hit in hits if _has(hit.title, wanted.tag)]

    @on(Told)
    def _tell_done(self, message: Told) -> None:
        self.note(one_line(message.words, 300))

    @on(Failed)
    def _tell(self, message: Failed) -> None:
        self.note(one_line(str(message.fault), 300))

    @on(Found)
    def _show_found(self, message: Found) -> None:
        text, rows = message.text, message.rows
        if text != self._asked:
            return  # something else was typed meanwhile
        nothing = f"nothing was ever said about {one_line(text, 60)!r}" if text else "there are no chats yet"
        if not (self._renaming or self._deleting):
            self.note("" if text else searching.HINT)
        self.show(rows or [Row("", Content.styled(nothing, "$foreground-muted"))])


def ago(at: datetime, now: datetime) -> str:
    """How long before `now`, in at most ten characters; a date where that is more than a week."""
    minutes = int((now - at).total_seconds() // 60)
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min ago"
    if minutes < 24 * 60:
        return f"{minutes // 60} h ago"
    if minutes < 7 * 24 * 60:
        return f"{minutes // (24 * 60)} d ago"
    return at.astimezone().strftime("%Y-%m-%d")


def _chat_row(chat: "Conversation", now: datetime) -> Row:
    turns = f"{chat.turns} turn{'' if chat.turns == 1 else 's'}"
    muted = Content.styled(f"{ago(chat.updated, now):>10}  {turns:>9}  ", "$foreground-muted")
    return Row(chat.id, Content.assemble(muted, _title(chat.title, 200)))


def _hit_row(hit: "Hit", now: datetime) -> Row:
    muted = Content.styled(f"{ago(hit.at, now):>10}  {hit.kind:<10}", "$foreground-muted")
    title = Content.assemble(muted, _title(hit.title, 120))
    if hit.role == "title":
        return Row(hit.conversation, title)
    return Row(f"{hit.conversation}:{hit.turn}", Content.assemble(title, "\n", " " * 12, _marked(one_line(hit.snippet, 200))))


def _has(title: str, tag: str) -> bool:
    return not tag or tag in [one.casefold() for one in tags.split(title)[1]]


def _title(title: str, width: int) -> Content:
    """The title with its tags set off."""
    words, found = tags.split(one_line(title, width))
    return Content.assemble(words, *(Content.styled(f"  #{tag}", "$text-accent") for tag in found))


def _marked(snippet: str) -> Content:
    """The snippet with what stands between « and » set off."""
    parts = []
    for piece in snippet.split("«"):
        match, closed, rest = piece.partition("»")
        parts += [Content.styled(match, "$text-accent bold"), Content(rest)] if closed else [Content(piece)]
    return Content("").join(parts)
