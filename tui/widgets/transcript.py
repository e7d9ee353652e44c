"""The conversation: questions and answers below one another, the newest at the bottom, next to the prompt.

It follows the newest text until the user scrolls up, and then says how many new lines there are below. However long the
conversation, only a window of it exists as widgets: the last WINDOW turns at first, more on request, and the oldest ones go
again when a new question comes and there are more than MOUNTED. Not covered: the log, and what is done to a message.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.geometry import Region
from textual.reactive import reactive
from textual.widget import Widget

from data.errors import NotFound
from tui.widgets.answer import AnswerView
from tui.widgets.edges import Earlier, NewLines
from tui.widgets.outcome import Answer
from tui.widgets.question import Question, QuestionView

if TYPE_CHECKING:
    from data.store.rows import Turn

WINDOW: Final = 20
MOUNTED: Final = 40
REFIT_S: Final = 0.05
"""Seconds after the last change of width until what is near the screen is set anew."""
SHOWN: Final = ("user", "assistant")

Block = QuestionView | AnswerView
View = TypeVar("View", QuestionView, AnswerView)


class Transcript(VerticalScroll, can_focus=False):
    """The messages of one conversation."""

    DEFAULT_CSS = """
    Transcript { layers: default note; scrollbar-size-vertical: 1; scrollbar-gutter: stable; height: 1fr; }
    Transcript.-no-thinking Thoughts { display: none; }
    """

    text_width: reactive[int] = reactive(100)
    """Columns of text at most."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._above: list[Question | Answer] = []  # the messages above the window
        self._earlier = Earlier(markup=False)
        self._note = NewLines(markup=False)
        self._selected: Block | None = None
        self._newest: AnswerView | None = None  # the answer that came last
        self.loading_earlier = False
        self._height_seen = 0  # lines there were when the user left the bottom
        self._refitting = False

    def compose(self) -> ComposeResult:
        """The line for earlier messages and the note; messages are mounted between them."""
        yield self._earlier
        yield self._note

    def on_mount(self) -> None:
        """Begin at the bottom."""
        self.anchor()

    @property
    def BLANK(self) -> bool:  # type: ignore[override]
        """Nothing is drawn but the children: Textual skips the lines (and NO_COLOR, where they have a background)."""
        return not self.app.no_color

    @property
    def blocks(self) -> list[Block]:
        """The messages that exist as widgets, oldest first."""
        return [child for child in self.children if isinstance(child, (QuestionView, AnswerView))]

    # content

    async def show(self, turns: "Sequence[Turn]") -> None:
        """Show this conversation and nothing else, from its end."""
        self.deselect()
        messages = [Question.of(turn) if turn.role == "user" else Answer.of(turn) for turn in turns if turn.role in SHOWN]
        self._above, window = messages[:-WINDOW], messages[-WINDOW:]
        with self.app.batch_update():
            await self.remove_children(self.blocks)
            await self.mount_all([self._view(message) for message in window], before=self._note)
            self._earlier.count(len(self._above))
        self.jump_to_end()

    async def load_earlier(self) -> None:
        """Bring the next messages above the window; what is on the screen stays where it is."""
        if self.loading_earlier or not self._above:
            return
        self.loading_earlier = True
        self._above, window = self._above[:-WINDOW], self._above[-WINDOW:]
        height, top = self.virtual_size.height, self.scroll_y
        with self.app.batch_update():
            await self.mount_all([self._view(message) for message in window], after=self._earlier)
            self._earlier.count(len(self._above))
        self.call_after_refresh(self._keep_place, height, top)

    async def add_question(self, turn_id: str, text: str, queued: bool = False) -> QuestionView:
        """Put a question at the end; a `queued` one is dimmed until it is confirmed."""
        view = QuestionView(Question(turn_id, text, queued))
        await self._trim()
        await self.mount(self._fitted(view), before=self._note if queued else self._end())
        return view

    async def drop_queued(self, view: QuestionView) -> None:
        """Take a question away that was never asked."""
        await self._remove([view])

    async def begin_answer(self, model: str, replace: str | None = None) -> AnswerView:
        """An empty answer after the last question that does not wait in line, or in place of another one.

        `replace` is the turn of the answer whose other version begins; what followed it belongs to that version and goes.
        Raises NotFound where it is not displayed.
        """
        view = self._newest = AnswerView(Answer(model), live=True)
        if replace is None:
            await self.mount(self._fitted(view), before=self._end())
            return view
        blocks = self.blocks
        place = next((number for number, block in enumerate(blocks) if block.turn_id == replace), -1)
        if place < 0 or not isinstance(blocks[place], AnswerView):
            raise NotFound(f"the answer {replace} is not displayed", "open its conversation again")
        with self.app.batch_update():
            await self.mount(self._fitted(view), before=blocks[place])
            await self._remove([block for block in blocks[place:] if not _is_queued(block)])
        return view

    # following

    @property
    def following(self) -> bool:
        """Whether the newest text is kept in sight."""
        return not self._anchor_released  # Textual offers no public look at this

    def jump_to_end(self) -> None:
        """Show the newest text and follow it."""
        self.anchor()
        self._count_new()

    def release_anchor(self) -> None:
        """The user scrolls: stop following. Where all fits on the screen there is nothing to scroll."""
        if self.max_scroll_y <= 0:
            return
        if self.following:
            self._height_seen = self.virtual_size.height
        super().release_anchor()
        self._count_new()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Note where the user is, and bring earlier messages at the top."""
        super().watch_scroll_y(old_value, new_value)
        self._count_new()
        if self._refitting:
            self._refit()
        if new_value <= 0 < old_value and not self.following:
            self.call_later(self.load_earlier)

    def watch_virtual_size(self) -> None:
        """Text came or went."""
        self._count_new()

    # selection

    @property
    def selected(self) -> Block | None:
        """The message that alt+up and alt+down chose."""
        return self._selected

    def move(self, step: int) -> None:
        """Select the message above (-1) or below (1); from none the last one, below the last none."""
        blocks = self.blocks
        if not blocks:
            return
        place = blocks.index(self._selected) + step if self._selected in blocks else len(blocks) - 1
        if place >= len(blocks):
            self.deselect()
            self.jump_to_end()
            return
        self._select(blocks[max(place, 0)])
        if place < 0:
            self.call_later(self.load_earlier)

    def deselect(self) -> None:
        """Select nothing."""
        self._select(None)

    def toggle_details(self) -> None:
        """Open or fold the selected message's details, or the last answer's where none is selected."""
        answers = [block for block in self.blocks if isinstance(block, AnswerView)]
        chosen = self._selected or (answers[-1] if answers else None)
        if chosen is not None:
            chosen.toggle()

    def toggle_thinking(self) -> bool:
        """Show or hide all thinking; returns whether it is displayed now."""
        self.toggle_class("-no-thinking")
        return not self.has_class("-no-thinking")

    # reactions

    @on(Earlier.Wanted)
    async def _earlier_wanted(self, message: Earlier.Wanted) -> None:
        message.stop()
        await self.load_earlier()

    @on(NewLines.Wanted)
    def _newest_wanted(self, message: NewLines.Wanted) -> None:
        message.stop()
        self.jump_to_end()

    def watch_text_width(self, width: int) -> None:
        """Every message has at most this width."""
        for block in self.blocks:
            block.styles.max_width = width
        self._refit_soon()

    def on_resize(self) -> None:
        """Lines broken for the old width are broken anew, near the screen first."""
        self._refit_soon()

    # helpers

    def _view(self, message: Question | Answer) -> Block:
        if isinstance(message, Question):
            return self._fitted(QuestionView(message))
        return self._fitted(AnswerView(message))

    def _fitted(self, view: View) -> View:
        view.styles.max_width = self.text_width
        return view

    def _end(self) -> Widget:
        """What new messages stand before: the first question that waits in line, else the note."""
        return next((block for block in self.blocks if _is_queued(block)), self._note)

    async def _remove(self, blocks: Sequence[Block]) -> None:
        if self._selected in blocks:
            self.deselect()
        await self.remove_children(blocks)

    async def _trim(self) -> None:
        """Let the oldest messages go, except while the user reads above."""
        blocks = self.blocks
        if len(blocks) <= MOUNTED or not self.following:
            return
        gone = [block for block in blocks[:-WINDOW] if block is not self._selected]
        self._above += [block.question if isinstance(block, QuestionView) else block.answer for block in gone]
        with self.app.batch_update():
            await self._remove(gone)
            self._earlier.count(len(self._above))

    def _keep_place(self, height: int, top: float) -> None:
        """After messages came above: `height` and `top` were the height of all and the scroll position before."""
        self.loading_earlier = False
        if not self.following:
            grown = self.virtual_size.height - height
            self._height_seen += grown
            self.scroll_to(y=top + grown, animate=False, force=True, immediate=True)

    def _count_new(self) -> None:
        if self._newest is not None:
            self._newest.unhurried = not self.following
        if self.is_mounted:
            self._note.count(0 if self.following else self.virtual_size.height - self._height_seen)

    def _select(self, block: Block | None) -> None:
        if block is self._selected:
            return
        if self._selected is not None:
            self._selected.remove_class("-selected")
        self._selected = block
        if block is not None:
            block.add_class("-selected")
            self.scroll_to_widget(block, animate=False)
        self.refresh_bindings()

    def _refit_soon(self) -> None:
        if not self._refitting and self.is_mounted:
            self._refitting = True
            self.set_timer(REFIT_S, self._refit)

    def _refit(self) -> None:
        """Set anew what is stale within a screen's height of the screen; `_refitting` ends when nothing is stale."""
        stale = [block for block in self.blocks if isinstance(block, AnswerView) and block.stale]
        near = Region(0, round(self.scroll_y), 1, self.size.height).grow((self.size.height, 0, self.size.height, 0))
        for block in stale:
            if block.virtual_region.bottom > near.y and block.virtual_region.y < near.bottom:
                block.refit()
        self._refitting = bool(stale)


def _is_queued(block: Block) -> bool:
    return isinstance(block, QuestionView) and block.queued
