"""One answer, from the first sign of life to its footer.

While it comes, closed blocks stand in one widget and the open block in another, drawn ten times a second (`streaming`);
once it is complete it is one text and a footer, two widgets whatever its length. Thinking, steps and calls of tools are
shown while they happen and fold when the answer begins. Everything is untrusted text: see `typeset`. Not covered: rating
it, which the screen does.
"""

from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.geometry import Size
from textual.reactive import var
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from data.chat import Usage
from data.sanitise import one_line, sanitise
from tui.widgets.evidence import evidence
from tui.widgets.inline import MUTED
from tui.widgets.outcome import Answer, footer
from tui.widgets.prose import Prose
from tui.widgets.streaming import MarkdownSplitter, Split
from tui.widgets.thoughts import Thoughts
from tui.widgets.trace import TraceView

FLUSH_S: Final = 0.1
"""Seconds between two looks at what has been written."""
UNHURRIED: Final = 5
"""Every how many of these looks is one while the user reads elsewhere."""
FULL: Final = 4_000
"""Characters of closed text from which on the next closed block gets a widget of its own, until the answer is complete."""
SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class AnswerView(Widget, inherit_bindings=False):
    """One answer of the transcript, finished or (with `live`) about to come."""

    DEFAULT_CSS = """
    AnswerView { layout: vertical; height: auto; width: 1fr; padding: 0 1 0 2; margin-bottom: 1; }
    AnswerView.-selected { border-left: thick $primary; padding-left: 1; }
    AnswerView > .-apart { margin-top: 1; }
    AnswerView > .foot { height: auto; width: 1fr; }
    """

    virtual_size: var[Size] = var(Size(0, 0))  # Textual's own lays the whole screen out a second time after each change

    def __init__(self, answer: Answer, *, live: bool = False) -> None:
        super().__init__()
        self.answer = answer
        self._live = live
        self._phase = ""
        self._started = self._first = self._latest = self._thought_from = monotonic()
        self._tokens = 0
        self._texts: list[str] = [answer.text] if answer.text else []
        self._thinking: list[str] = [answer.thinking] if answer.thinking else []
        self._unread: list[str] = []  # written and not yet drawn
        self._splitter = MarkdownSplitter()
        self._timer: Timer | None = None
        self._frame = 0
        self._looks = 0
        self.unhurried = False
        self._thoughts = Thoughts(answer.thinking, answer.thought_s, live=live)
        self._trace = TraceView(answer.trace, live=live)
        self._explained = False  # whether the evidence of the route is displayed
        self._noted = False  # whether the trace grew since it was drawn
        self._bodies = [Prose("" if live else answer.text)]
        self._settled: list[Prose] = []
        self._tail = Prose()
        self._foot = Static("" if live else footer(answer), markup=False, classes="foot")

    # what it is

    @property
    def turn_id(self) -> str:
        """The turn in the log; "" until the answer is there."""
        return self.answer.turn_id

    @property
    def inference(self) -> str:
        """The inference in the log; "" until the answer is there."""
        return self.answer.inference

    @property
    def model(self) -> str:
        """The model's reference."""
        return self.answer.model

    @property
    def text(self) -> str:
        """What the model wrote so far, as it wrote it: untrusted."""
        if len(self._texts) > 1:
            self._texts = ["".join(self._texts)]
        return self._texts[0] if self._texts else ""

    @property
    def thinking(self) -> str:
        """What the model thought so far, as it wrote it: untrusted."""
        if len(self._thinking) > 1:
            self._thinking = ["".join(self._thinking)]
        return self._thinking[0] if self._thinking else ""

    @property
    def safe_text(self) -> str:
        """The text without control characters, for a clipboard that may end up in a shell."""
        return sanitise(self.text)

    @property
    def BLANK(self) -> bool:  # type: ignore[override]
        """Nothing is drawn but the children, except the gutter of a selected answer: Textual skips the lines."""
        return not self.has_class("-selected") and not self.app.no_color

    @property
    def live(self) -> bool:
        """Whether it may still grow."""
        return self._live

    @property
    def tokens(self) -> int:
        """Pieces of text and thinking so far, which for local engines are tokens."""
        return self._tokens

    @property
    def ttft_s(self) -> float:
        """Seconds from the beginning to the first token; 0.0 until it is there."""
        return self._first - self._started if self._tokens else 0.0

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second since the first one; 0.0 until there are two."""
        seconds = self._latest - self._first
        return (self._tokens - 1) / seconds if self._tokens > 1 and seconds > 0.01 else 0.0

    # what happens to it

    def begin(
        self, turn_id: str, inference: str, model: str, mode: str = "", domain: str = "", reasons: tuple[str, ...] = ()
    ) -> None:
        """The answer is in the log, this model gives it, and this is why."""
        answer = self.answer
        answer.turn_id, answer.inference, answer.model = turn_id, inference, model
        answer.mode, answer.domain, answer.reasons = mode, domain, reasons

    def phase(self, name: str, progress: float = 0.0) -> None:
        """What the engine does before it speaks: "loading" or "reading", progress from 0 to 1."""
        words = {"loading": "loading the model", "reading": "reading the prompt"}.get(name, one_line(name, 40))
        self._phase = f"{words} {progress:.0%}" if progress > 0 else words

    def think(self, text: str, tokens: int = 1) -> None:
        """Add thinking. Only kept here; drawn with the next flush."""
        if text and self._live:
            if not self._thinking:
                self._thought_from = monotonic()
            self._thinking.append(text)
            self._count(tokens)

    def write(self, text: str, tokens: int = 1) -> None:
        """Add text, which may be `tokens` tokens joined. Only kept here; drawn with the next flush."""
        if text and self._live:
            self._texts.append(text)
            self._unread.append(text)
            self._count(tokens)

    def note(self, entry: Mapping[str, Any]) -> None:
        """Add a step, a call, a result or a citation (`router.trace`). Only kept here; drawn with the next flush."""
        if self._live:
            self.answer.trace.take(entry)
            self._noted = True

    async def finish(self, status: str, usage: Usage | None = None, error: str = "") -> None:
        """The answer ended: set it whole, keep one widget of it, and show how it went. Later pieces are ignored."""
        if not self._live:
            return
        self._live = False
        if self._timer is not None:
            self._timer.stop()
        answer = self.answer
        answer.text, answer.thinking = self.text, self.thinking
        answer.status, answer.usage, answer.error = status, usage, error
        answer.tokens, answer.tokens_per_s = self.tokens, self.tokens_per_s
        self._end_thinking()
        if self._noted:
            self._draw_trace()
        self._trace.done()
        if not self.is_attached:
            return
        with self.app.batch_update():
            body, *others = self._bodies
            body.show(answer.text)
            gone: list[Widget] = [*others, *self._settled, self._tail]
            gone += [] if answer.thinking else [self._thoughts]
            self._bodies, self._settled = [body], []
            self._draw_foot()
            await self.remove_children(gone)

    def set_feedback(self, thumb: float = 0, corrected: bool = False, stars: float | None = 0, comment: bool = False) -> None:
        """What was said about the answer: thumb +1, -1 or 0; stars 1 to 5 or 0."""
        answer = self.answer
        answer.thumb, answer.corrected, answer.stars, answer.comment = thumb, corrected, stars or 0, comment
        self._draw_foot()

    def set_siblings(self, index: int, count: int) -> None:
        """Say which of how many versions this is; `index` counts from 0."""
        self.answer.sibling, self.answer.siblings = index, count
        self._draw_foot()

    def set_decision(self, decision: Mapping[str, Any]) -> None:
        """The route that was taken, as logged."""
        self.answer.decision = decision
        self._draw_foot()

    def toggle(self) -> None:
        """Open or fold thinking, steps, calls and the evidence of the route."""
        whole = not (self._thoughts.is_open or self._trace.is_open or self._explained)
        self._thoughts.unfold(whole)
        self._trace.unfold(whole)
        self._explained = whole
        self._draw_foot()

    def on_click(self, event: events.Click) -> None:
        """A click on the lines under the answer opens or folds the evidence of its route."""
        if event.widget is self._foot and self._foot.text_selection is None and not self._live:
            event.stop()
            self._explained = not self._explained
            self._draw_foot()

    @property
    def stale(self) -> bool:
        """Whether its text was set for another width than it has now."""
        return any(prose.stale for prose in (*self._bodies, *self._settled, self._tail) if prose.is_attached)

    def refit(self) -> None:
        """Set the text for the present width, where it was set for another."""
        for prose in (*self._bodies, *self._settled, self._tail):
            if prose.is_attached:
                prose.refit()

    # how it is drawn

    def compose(self) -> ComposeResult:
        """Thinking, steps and calls, text and footer; while it comes also the open block."""
        if self._live or self.answer.thinking:
            yield self._thoughts
        if self.answer.trace.items:
            yield self._trace
        yield self._bodies[0]
        if self._live:
            yield self._tail
        yield self._foot

    def on_mount(self) -> None:
        """Start drawing what comes."""
        if self._live:
            self._flush()
            self._timer = self.set_interval(FLUSH_S, self._flush)

    def _count(self, tokens: int) -> None:
        self._latest = monotonic()
        if not self._tokens:
            self._first = self._latest
        self._tokens += tokens

    def _flush(self) -> None:
        """Draw what was written since the last time."""
        self._looks += 1
        if not self._live or (self.unhurried and self._looks % UNHURRIED):
            return
        unread, self._unread = self._unread, []
        if self._thinking and not self.answer.thought_s:
            if self._texts:
                self._end_thinking()
            else:
                self._thoughts.think(self.thinking, monotonic() - self._thought_from)
        if self._noted:
            self._draw_trace()
        if unread:
            self._trace.done()
            self._splitter.write("".join(unread))
            self._draw(self._splitter.take())
        self._draw_foot()

    def _end_thinking(self) -> None:
        answer = self.answer
        if self._thinking and not answer.thought_s:
            answer.thought_s = (self._latest if not self._texts else monotonic()) - self._thought_from
        self._thoughts.done(self.thinking, answer.thought_s)

    def _draw_trace(self) -> None:
        self._noted = False
        if self.is_attached and self.answer.trace.items and not self._trace.is_attached:
            self.mount(self._trace, before=self._bodies[0])
        self._trace.refresh_rows()

    def _draw(self, split: Split) -> None:
        if split.closed.strip():
            self._close(split.closed)
        for piece in split.settled:
            prose = Prose(piece.text, piece.setting, classes=self._apart())
            self._settled.append(prose)
            self.mount(prose, before=self._tail)
        self._tail.set_class(bool(self._apart() and split.open.text.strip()), "-apart")
        self._tail.show(split.open.text, split.open.setting)

    def _close(self, text: str) -> None:
        """The open block closed: it, and what closed with it, joins the closed text."""
        if self._settled:
            self.remove_children(self._settled)
            self._settled = []
        if self._bodies[-1].characters < FULL:
            self._bodies[-1].grow(text)
            return
        prose = Prose(text, classes="-apart")
        self._bodies.append(prose)
        self.mount(prose, before=self._tail)

    def _apart(self) -> str:
        """The class of the first widget of the open block: a blank line above it, unless it is at the top."""
        return "-apart" if self._bodies[0].characters and not self._settled else ""

    def _draw_foot(self) -> None:
        line = self._progress() if self._live else self._last_lines()
        if line != self._foot.content:
            self._foot.update(line)
        self._foot.display = bool(line)

    def _last_lines(self) -> Content:
        """The lines under a finished answer."""
        answer = self.answer
        if not (self._explained and answer.decision):
            return footer(answer)
        parts = evidence(answer.decision, answer.model, answer.mode, answer.domain)
        return Content("\n\n").join([footer(answer), *parts])

    def _progress(self) -> Content:
        """The line of an answer that has no text yet."""
        if self._texts or self._thinking:
            return Content()
        still = self.app.animation_level == "none"
        self._frame = 0 if still else (self._frame + 1) % len(SPINNER)
        return Content.styled(f"{SPINNER[self._frame]} {self._phase or 'waiting for the model'}…", MUTED)
