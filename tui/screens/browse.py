"""Rows, and beside or below them what the highlighted one is: the common part of the screens that show what the other parts know.

Reading and changing happen in threads; what they find comes back as messages, and a fault is a note below the rows. A line to
type in opens on demand, for a value, a reason or words that narrow the rows. Not covered: where rows come from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.types import CSSPathType
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from data.errors import PointsmanError
from data.sanitise import one_line
from tui import screen_keys
from tui.background import in_background
from tui.screens.picker import Row
from tui.screens.words import MUTED
from tui.widgets.safe_screen import SafeScreen

Check = Callable[[str], str]
"""What is wrong with what is typed, "" for nothing."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the line is open for: its words, what happens with the text, and what is wrong with one."""

    words: str
    then: Callable[[str], object]
    check: Check | None = None
    typed: Callable[[str], object] | None = None


class Browse(SafeScreen):
    """A screen with rows and what they are."""

    @dataclass
    class Found(Message):
        """What `read` found; number: which reading it was."""

        found: Any
        number: int

    @dataclass
    class Told(Message):
        """What a row is, where that took a while."""

        key: str
        content: Content

    @dataclass
    class Did(Message):
        """Something was done: what to say of it, and what to do next."""

        words: str
        then: Callable[[], object]

    @dataclass
    class Failed(Message):
        """Something could not be read or done."""

        fault: PointsmanError

    BINDINGS: ClassVar[list[BindingType]] = [*screen_keys.BROWSE]
    CSS_PATH: ClassVar[CSSPathType | None] = "browse.tcss"
    AUTO_FOCUS = "#rows"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-normal")]
    CONTEXTS: ClassVar[tuple[str, ...]] = ("Rows and details",)
    HEADING: ClassVar[str] = ""
    NOTHING: ClassVar[str] = "there is nothing here yet"

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[Row, ...] = ()
        self._shown: tuple[Row, ...] = ()
        self._narrow = ""
        self._number = 0
        self._asked: Asked | None = None
        self._sure = ""  # what the next press of the same key does

    # What a screen fills in

    def read(self) -> Any:
        """In a thread: everything that is shown. Raises PointsmanError."""

    def draw(self, found: Any) -> None:
        """Show what was read."""

    def about(self, key: str) -> Content | None:
        """What the row is; None where `look` has to find out."""
        return Content()

    def look(self, key: str) -> Content:
        """In a thread: what the row is. Raises PointsmanError."""
        return Content()

    def above(self) -> ComposeResult:
        """Widgets between the heading and the rows."""
        yield from ()

    def within(self) -> ComposeResult:
        """Widgets above the words about the highlighted row."""
        yield from ()

    # The screen

    def compose(self) -> ComposeResult:
        """Heading, rows, what the highlighted one is, a note, the line, and the keys."""
        yield Static(self.HEADING, id="heading", markup=False)
        yield from self.above()
        with Container(id="panes"):
            yield OptionList(id="rows", markup=False, compact=True)
            with VerticalScroll(id="detail"):
                yield from self.within()
                yield Static("", id="about", markup=False)
        yield Static("", id="note", markup=False)
        yield Input(id="line", compact=True)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Keep the widgets at hand and begin to read."""
        self.list = self.query_one("#rows", OptionList)
        self.line = self.query_one("#line", Input)
        self.line.display = False
        self.action_reload()

    def action_reload(self) -> None:
        """Read everything anew."""
        self._number += 1
        if not self._rows:
            self._tell(Content.styled("reading …", MUTED))
        in_background("read", self._read, self._number)

    def action_leave(self) -> None:
        """Give up what was begun; else the narrowing; else go back."""
        if self._asked is not None:
            self._close()
            self.note("")
        elif self._sure:
            self._sure = ""
            self.note("")
        elif self._narrow:
            self._narrow = ""
            self.show(self._rows)
        else:
            self.dismiss(None)

    def action_narrow(self) -> None:
        """Type words that the rows must have."""
        self.ask("rows with", self._narrow_to, value=self._narrow, typed=self._narrow_to)

    def action_scroll(self, step: int) -> None:
        """Scroll what the row is."""
        detail = self.query_one("#detail", VerticalScroll)
        (detail.scroll_page_up if step < 0 else detail.scroll_page_down)(animate=False)

    # For the screens

    def show(self, rows: Sequence[Row], highlight: str = "") -> None:
        """Replace the rows; the highlight stays where it can."""
        current = highlight or self.highlighted
        words = self._narrow.casefold().split()
        self._rows = tuple(rows)
        shown = tuple(row for row in self._rows if not words or (row.id and all(w in row.content.plain.casefold() for w in words)))
        nothing = "no row has these words" if self._rows else self.NOTHING
        wanted = shown or (Row("", Content.styled(nothing, MUTED)),)
        if wanted != self._shown:
            self._shown = wanted
            with self.app.batch_update():
                self.list.set_options(Option(row.content, disabled=not row.id) for row in wanted)
                choosable = [index for index, row in enumerate(wanted) if row.id]
                again = next((index for index in choosable if wanted[index].id == current), None)
                self.list.highlighted = again if again is not None else next(iter(choosable), None)
        self.detail()
        self.refresh_bindings()

    def detail(self) -> None:
        """Show what the highlighted row is."""
        key = self.highlighted
        if not key:
            self._tell(Content())
            return
        content = self.about(key)
        if content is None:
            self._tell(Content.styled("reading …", MUTED))
            self.later(key, lambda: self.look(key))
        else:
            self._tell(content)

    def later(self, key: str, work: Callable[[], Content]) -> None:
        """Find out in a thread what is to be shown of a row."""
        in_background("look", self._look, key, work)

    def note(self, text: str) -> None:
        """Say something below the rows; untrusted text."""
        self.query_one("#note", Static).update(one_line(text, 400))

    def heading(self, text: str) -> None:
        """Another heading; untrusted text."""
        self.query_one("#heading", Static).update(one_line(text, 300))

    @property
    def highlighted(self) -> str:
        """The id of the highlighted row, or ""."""
        index = self.list.highlighted
        return self._shown[index].id if index is not None and index < len(self._shown) else ""

    def do(self, words: str, work: Callable[[], str], then: Callable[[], object] | None = None) -> None:
        """Do something in a thread and note what it returns; then: what comes after it, reading anew unless told."""
        self.note(words)
        in_background("do", self._do, work, then or self.action_reload)

    def sure(self, key: str, words: str) -> bool:
        """Whether the same thing was asked for twice in a row; the first time it is asked back in `words`."""
        if self._sure == key:
            self._sure = ""
            self.note("")
            return True
        self._sure = key
        self.note(f"{words} the same key does it, escape leaves it")
        return False

    def ask(
        self,
        words: str,
        then: Callable[[str], object],
        *,
        value: str = "",
        check: Check | None = None,
        typed: Callable[[str], object] | None = None,
        secret: bool = False,
    ) -> None:
        """Open the line: `then` gets what is typed once `check` finds nothing wrong with it."""
        self._sure = ""
        self._asked = None  # so that what the line is given now counts as nothing typed
        self.line.password = secret
        self.line.value = value
        self.line.placeholder = one_line(words, 100)
        self.line.display = True
        self._asked = Asked(words, then, check, typed)
        self.note(f"{words}: enter takes it, escape leaves it")
        self.set_focus(self.line)

    # Messages

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if self._sure:
            self._sure = ""
            self.note("")
        self.detail()
        self.refresh_bindings()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if self.highlighted:
            self.choose(self.highlighted)

    def choose(self, key: str) -> None:
        """Enter or a click on a row."""

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        asked = self._asked
        if asked is None:
            return
        if asked.typed is not None:
            asked.typed(event.value)
        if asked.check is not None:
            self.note(asked.check(event.value) or f"{asked.words}: enter takes it, escape leaves it")

    @on(Input.Submitted)
    def _taken(self, event: Input.Submitted) -> None:
        event.stop()
        asked = self._asked
        if asked is None:
            return
        wrong = asked.check(event.value) if asked.check is not None else ""
        if wrong:
            self.note(wrong)
            return
        self._close()
        self.note("")
        asked.then(event.value)

    @on(Found)
    def _came(self, message: Found) -> None:
        if message.number == self._number:
            self.draw(message.found)

    @on(Told)
    def _came_to_tell(self, message: Told) -> None:
        if message.key == self.highlighted:
            self._tell(message.content)

    @on(Did)
    def _was_done(self, message: Did) -> None:
        self.note(message.words)
        message.then()

    @on(Failed)
    def _was_not(self, message: Failed) -> None:
        self.note(str(message.fault))
        if not self._shown:
            self.show(())

    # Threads

    def _read(self, number: int) -> None:
        try:
            self.post_message(self.Found(self.read(), number))
        except PointsmanError as fault:
            self.post_message(self.Failed(fault))

    def _look(self, key: str, work: Callable[[], Content]) -> None:
        try:
            self.post_message(self.Told(key, work()))
        except PointsmanError as fault:
            self.post_message(self.Told(key, Content.styled(one_line(str(fault), 600), "$text-warning")))

    def _do(self, work: Callable[[], str], then: Callable[[], object]) -> None:
        try:
            self.post_message(self.Did(work(), then))
        except PointsmanError as fault:
            self.post_message(self.Failed(fault))

    def _close(self) -> None:
        self._asked = None
        self.line.display = False
        self.line.value = ""
        self.line.password = False
        self.set_focus(self.list)

    def _narrow_to(self, text: str) -> None:
        self._narrow = text.strip()
        self.show(self._rows)

    def _tell(self, content: Content) -> None:
        self.query_one("#about", Static).update(content)
