"""The box to type in: grows from one to ten rows, sends with enter, and walks through earlier questions at its edges.

Behind an @ it offers files (`tui.mentions`), which are looked for in a thread. What is pasted is sanitised, because the box
itself draws it on the terminal. Not covered: what becomes of the text; the chat decides whether it is sent, queued or handed
back.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.binding import BindingType
from textual.message import Message
from textual.widgets import TextArea

from data.sanitise import sanitise
from tui import keys, mentions, slash
from tui.background import in_background
from tui.chips import Chips
from tui.mentions import Mention
from tui.messages import EndWanted, FilesOffered, Submitted

PASTE_LIMIT = 200_000
"""Characters of one paste at most: beyond this, wrapping the text in a terminal takes seconds on every change."""

OWN = frozenset(binding.id for binding in (*keys.PROMPT, *keys.FILES))


class Prompt(TextArea):
    """A text area that posts `Submitted`, `EndWanted` and `FilesOffered`."""

    @dataclass
    class Found(Message):
        """What a path may become."""

        path: str
        files: list[str]

    BINDINGS: ClassVar[list[BindingType]] = [*keys.PROMPT, *keys.FILES]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, soft_wrap=True, highlight_cursor_line=False, compact=True, placeholder="Ask anything")
        self._past: list[str] = []
        self._at = 0
        self._draft = ""
        self._chips = Chips()
        self._below: list[str] | None = None  # the files below the working folder, read once for each mention
        self._files: list[str] = []  # offered now
        self._marked = 0
        self._looking = False
        self._left: tuple[int, int] | None = None  # row and column of a mention whose files were put away

    def remember(self, questions: Iterable[str]) -> None:
        """Put earlier questions, oldest first, behind those that are known already."""
        older = [sanitise(question) for question in questions]
        self._past = [*older, *self._past]
        self._at = len(self._past)

    def forget_since(self, count: int) -> None:
        """Forget the questions that were sent after the first `count`, and what was pasted into them."""
        del self._past[count:]
        self._at = len(self._past)
        self._chips = Chips()

    @property
    def remembered(self) -> int:
        """How many earlier questions there are."""
        return len(self._past)

    def put(self, text: str) -> None:
        """Hand text back to the user: before what is typed already, with a blank line between; undoable."""
        text = sanitise(text)
        whole = f"{text}\n\n{self.text}" if self.text.strip() else text
        self.replace(whole, (0, 0), self.document.end)
        self.move_cursor(self.document.end)

    def set_text(self, text: str) -> None:
        """Put `text` in place of what is typed; undoable."""
        self.replace(sanitise(text), (0, 0), self.document.end)
        self.move_cursor(self.document.end)
        self._put_away()

    def action_send(self) -> None:
        """Post the text and empty the box. An empty question is not sent."""
        text = self.text
        if text.strip():
            self.sent(text)
            self.post_message(Submitted(self._chips.expanded(text)))

    @property
    def whole(self) -> str:
        """What is typed, with each pasted text in full."""
        return self._chips.expanded(self.text)

    def sent(self, text: str) -> None:
        """Empty the box, and keep what was in it among the earlier questions."""
        if not self._past or self._past[-1] != text:
            self._past.append(text)
        self._at = len(self._past)
        self.clear()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys of the files work while there are any."""
        return bool(self._files) if action in ("complete", "leave_files") else True

    def action_complete(self) -> None:
        """Put the marked file behind the @."""
        mention = self._mention
        if self._files and slash.typed(self.text) is not None:
            self.set_text(f"{self._files[self._marked]} ")
            self._offer([])
            return
        if mention is None or not self._files:
            return
        row, column = self.cursor_location
        chosen = mentions.written(self._files[self._marked])
        self._offer([])
        self.replace(chosen, (row, mention.start), (row, column))
        self.move_cursor((row, mention.start + len(chosen)))

    def action_leave_files(self) -> None:
        """Offer no files for what is being typed."""
        self._put_away()

    def action_newline(self) -> None:
        """Break the line at the cursor."""
        self.insert("\n")

    def action_cursor_up(self, select: bool = False) -> None:
        """Move up; from the first line, go back to an earlier question; among files, mark the one above."""
        if self._mark(-1, select):
            return
        if not select and self.navigator.is_first_wrapped_line(self.cursor_location) and self._recall(-1):
            return
        super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        """Move down; from the last line, go on to a later question; among files, mark the one below."""
        if self._mark(1, select):
            return
        if not select and self.navigator.is_last_wrapped_line(self.cursor_location) and self._recall(1):
            return
        super().action_cursor_down(select)

    def action_cursor_line_end(self, select: bool = False) -> None:
        """Move to the line's end; in an empty box, ask the chat to follow the newest text."""
        if not self.text:
            self.post_message(EndWanted())
        super().action_cursor_line_end(select)

    def action_paste(self) -> None:
        """Paste what was copied within the app, under the same rules as a paste from the terminal."""
        self.take(self.app.clipboard)

    async def _on_key(self, event: events.Key) -> None:
        """Run the chat's keys here and now, so that everything happens in the order in which it was typed."""
        if self.screen.focused not in (None, self):  # the key before this one took the focus away
            event.prevent_default()
            event.stop()
            self.app.post_message(events.Key(event.key, event.character))
        elif not event.is_printable:
            active = self.screen.active_bindings.get(event.key)
            if active is not None and active.enabled and (active.node is not self or active.binding.id in OWN):
                event.prevent_default()
                event.stop()
                await self.app.run_action(active.binding.action, active.node)

    async def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        self.take(event.text)

    def take(self, text: str) -> None:
        """Insert pasted text, a long one as a chip; one that is too long is refused with a notice, and what was typed stays."""
        if len(text) > PASTE_LIMIT:
            self.notify(
                f"the paste has {len(text):,} characters, the prompt takes {PASTE_LIMIT:,}; save it, then: pointsman ask -f FILE",
                severity="warning",
                markup=False,
            )
            return
        lines = text.replace("\r\n", "\n").replace("\r", "\n")  # terminals send a pasted line's end as CR
        result = self._replace_via_keyboard(self._chips.take(sanitise(lines)), *self.selection)
        if result is not None:
            self.move_cursor(result.end_location)

    @property
    def _mention(self) -> Mention | None:
        """The path behind an @ that is being typed."""
        row, column = self.cursor_location
        return mentions.typed(self.document.get_line(row), column) if self.selection.is_empty else None

    @on(TextArea.SelectionChanged)
    def _look_for_files(self) -> None:
        """Offer files for what stands before the cursor, and commands for what begins with a slash."""
        command = slash.typed(self.text)
        if command is not None:
            self._offer([f"/{name}" for name in slash.matching(command)] if self._left != (0, 0) else [])
            return
        mention = self._mention
        if mention is None or (self.cursor_location[0], mention.start) == self._left:
            self._offer([])
            self._left = self._left if mention else None
        elif not self._looking:
            self._looking = True
            self._below = self._below if self._files else None
            in_background("files", self._find, mention.path)

    def _find(self, path: str) -> None:
        """In a thread: the files that fit, those of the folders below after those of this one."""
        base = Path.cwd()
        if self._below is None and path and "/" not in path:
            self._below = mentions.below(base)
        self.post_message(self.Found(path, mentions.candidates(path, base, self._below or ())))

    @on(Found)
    def _found(self, message: Found) -> None:
        message.stop()
        self._looking = False
        mention = self._mention
        if mention is not None and mention.path == message.path:
            self._offer(message.files)
        else:
            self._look_for_files()

    def _offer(self, files: list[str]) -> None:
        if files != self._files:
            self._files, self._marked = files, 0
            self.post_message(FilesOffered(tuple(files), 0))

    def _put_away(self) -> None:
        mention = self._mention
        command = slash.typed(self.text) is not None
        self._left = (0, 0) if command else (self.cursor_location[0], mention.start) if mention else None
        self._offer([])

    def _mark(self, step: int, select: bool) -> bool:
        if not self._files or select:
            return False
        self._marked = (self._marked + step) % len(self._files)
        self.post_message(FilesOffered(tuple(self._files), self._marked))
        return True

    def _recall(self, step: int) -> bool:
        target = self._at + step
        if not 0 <= target <= len(self._past):
            return False
        if self._at == len(self._past):
            self._draft = self.text
        self._at = target
        self.set_text(self._draft if target == len(self._past) else self._past[target])
        self.move_cursor((0, 0) if step < 0 else self.document.end)
        return True
