"""An answer on its way out: the faces that show a session's events, and the record of what came.

`Plain` for pipes, `Terminal` for people, `Silent` for one JSON value at the end, `Stream` for JSON lines. Not covered:
asking (`router.session`) and reading the question (`tui.reading`).
"""

import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Protocol

from data.chat import Usage
from data.sanitise import one_line, sanitise
from router import trace
from router.modes.base import Done, Event, Phase, Started, Step, Text, Thought, ToolCalled, ToolResult
from tui import output
from tui.live_markdown import LiveMarkdown
from tui.trace import Trace

DIM, UNDIM = "\x1b[2m", "\x1b[22m"


class Face(Protocol):
    """Shows events as they come; `close` is called once, also when the answer broke off."""

    def take(self, event: Event) -> None:
        """Show one event."""

    def pause(self) -> None:
        """Leave the terminal to a question for the user; what comes next begins on a new line."""

    def close(self) -> None:
        """End what is open on the screen."""


class Answer:
    """What came of one question."""

    def __init__(self) -> None:
        self.started: Started | None = None
        self.text: list[str] = []
        self.thinking: list[str] = []
        self.usage = Usage()
        self.notes: list[str] = []
        self.trace = Trace()

    def take(self, event: Event) -> None:
        """Keep what one event says."""
        if isinstance(event, Text):
            self.text.append(event.text)
        elif isinstance(event, Thought):
            self.thinking.append(event.text)
        elif isinstance(event, Done):
            self.usage = event.usage
        elif isinstance(event, Started):
            if self.started is not None and event.reasons:
                self.notes.append(event.reasons[-1])  # a second start is the fallback, and its last reason says why
            self.notes += [problem for problem in (*event.notices, *event.problems) if problem not in self.notes]
            self.started = event
        elif (entry := trace.entry(event)) is not None:
            self.trace.take(entry)

    def to_dict(self) -> dict[str, Any]:
        """The answer as the JSON that `ask --json` documents."""
        started, usage = self.started, self.usage
        return {
            "text": "".join(self.text),
            "thinking": "".join(self.thinking),
            "model": started.model if started else "",
            "mode": started.mode if started else "",
            "domain": started.domain if started else "",
            "conversation": started.conversation if started else "",
            "inference": started.inference if started else "",
            "truncated": usage.truncated,
            "reasons": list(started.reasons) if started else [],
            **self.trace.to_dict(),
            "usage": usage_dict(usage),
        }


def usage_dict(usage: Usage) -> dict[str, Any]:
    """The measures of an answer as JSON; seconds and tokens."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "ttft_s": round(usage.ttft_s, 4),
        "total_s": round(usage.total_s, 4),
        "finish": usage.finish,
        "dropped_turns": usage.dropped_turns,
        "context_tokens": usage.context_tokens,
    }


def show(events: Iterator[Event], face: Face) -> Answer:
    """Run the events through the face to their end; whatever happens, the generator and the face are closed."""
    answer = Answer()
    try:
        with closing(events):  # type: ignore[type-var]
            for event in events:
                answer.take(event)
                face.take(event)
    finally:
        face.close()
    return answer


def remarks(answer: Answer) -> list[str]:
    """What the reader should know about the answer besides its text."""
    usage = answer.usage
    found = [*(str(citation) for citation in answer.trace.cited), *answer.notes]
    if usage.dropped_turns:
        turns = "oldest turn was" if usage.dropped_turns == 1 else f"{usage.dropped_turns} oldest turns were"
        found.append(f"the {turns} left out: the conversation does not fit the context of {usage.context_tokens} tokens")
    if usage.finish == "length":
        found.append(f"the answer was cut after {usage.completion_tokens} tokens; --max-tokens allows more")
    return found


def measures(answer: Answer) -> str:
    """One line with the model and the measures of the answer."""
    usage = answer.usage
    parts = [answer.started.model if answer.started else "", f"{usage.completion_tokens} tokens"]
    if usage.tokens_per_s:
        parts.append(f"{usage.tokens_per_s:.0f} tokens/s")
    return " · ".join([*parts, f"first after {usage.ttft_s:.2f} s", f"{usage.total_s:.1f} s in all"])


class Plain:
    """Sanitised text as it comes, for pipes and files; thoughts dimmed on stderr where that is a terminal."""

    def __init__(self) -> None:
        self._thoughts = Thoughts()
        self._ended = True
        self._held = ""

    def take(self, event: Event) -> None:
        """Write a piece of text, or tell of a phase."""
        self._thoughts.take(event)
        if isinstance(event, Text) and event.text:
            text, self._held = _whole(self._held + event.text)
            output.text(text)
            self._ended = text.endswith("\n") if text else self._ended

    def pause(self) -> None:
        """End the thoughts on stderr."""
        self._thoughts.close()

    def close(self) -> None:
        """End the last line."""
        self._thoughts.close()
        if self._held:
            output.text(self._held)
        if not self._ended:
            output.raw("\n")


class Terminal:
    """Rendered Markdown, every token visible at once."""

    def __init__(self, text_width: int) -> None:
        self._thoughts = Thoughts()
        self._markdown = LiveMarkdown(sys.stdout, text_width)
        self._held = ""

    def take(self, event: Event) -> None:
        """Show a piece of text, or tell of a phase."""
        self._thoughts.take(event)
        if isinstance(event, Text) and event.text:
            text, self._held = _whole(self._held + event.text)
            self._markdown.write(text)

    def pause(self) -> None:
        """Render what is open: below it nothing of it is rewritten."""
        self._thoughts.close()
        self._markdown.close()

    def close(self) -> None:
        """Render what is still open."""
        self._thoughts.close()
        self._markdown.close()


class Silent:
    """Shows only phases, on a terminal's stderr; the answer is printed by whoever asked."""

    def __init__(self) -> None:
        self._status = output.Status()

    def take(self, event: Event) -> None:
        """Tell of a phase until the answer begins."""
        _phase(self._status, event)

    def pause(self) -> None:
        """Take the status line away."""
        self._status.clear()

    def close(self) -> None:
        """Take the status line away."""
        self._status.clear()


class Stream:
    """One JSON object a line: started, phase, thinking, step, tool_call, tool_result, cited, text, done."""

    def __init__(self) -> None:
        self._answer = Answer()

    def take(self, event: Event) -> None:
        """Print the event's line."""
        self._answer.take(event)
        if isinstance(event, Started):
            record = self._answer.to_dict()
            output.as_json({"event": "started"} | {key: record[key] for key in _STARTED})
        elif isinstance(event, Phase):
            output.as_json({"event": "phase", "name": event.name, "progress": round(event.progress, 3)})
        elif isinstance(event, Thought):
            output.as_json({"event": "thinking", "text": event.text})
        elif isinstance(event, Text):
            output.as_json({"event": "text", "text": event.text})
        elif isinstance(event, Done):
            output.as_json({"event": "done"} | self._answer.to_dict())
        elif (entry := trace.entry(event)) is not None:
            for kind, fields in entry.items():
                output.as_json({"event": _EVENTS[kind]} | fields)

    def pause(self) -> None:
        """Nothing is open between lines."""

    def close(self) -> None:
        """Nothing is open between lines."""


_EVENTS = {"step": "step", "call": "tool_call", "result": "tool_result", "cited": "cited"}
_STARTED = ("model", "mode", "domain", "conversation", "inference", "reasons")


class Thoughts:
    """Phases, reasoning, steps and calls on stderr, where it is a terminal, until the answer begins."""

    def __init__(self) -> None:
        self._status = output.Status()
        self._live = output.is_terminal(sys.stderr)
        self._open = False
        self._answering = False

    def take(self, event: Event) -> None:
        """Show what goes on; a piece of the answer ends it."""
        if self._answering or not self._live:
            return
        if isinstance(event, Thought):
            self._status.clear()
            sys.stderr.write(f"{'' if self._open else DIM}{sanitise(event.text)}")
            sys.stderr.flush()
            self._open = True
        elif isinstance(event, Text) and event.text:
            self._answering = True
            self.close()
        elif line := deed(event):
            self.close()
            output.dim_note(line)
        elif not self._open:
            _phase(self._status, event)

    def close(self) -> None:
        """Leave stderr as it was found."""
        self._status.clear()
        if self._open:
            sys.stderr.write(f"{UNDIM}\n\n")
            sys.stderr.flush()
        self._open = False


def deed(event: Event) -> str:
    """A step, a call or a result on one line; "" for other events."""
    if isinstance(event, Step):
        ending = {"done": " · done", "failed": f" · failed: {one_line(event.text, 200)}"}.get(event.state, "")
        return f"step {event.number}: {one_line(event.title, 200)}{ending}"
    if isinstance(event, ToolCalled):
        given = ", ".join(f"{key}: {value}" for key, value in event.arguments.items())
        return f"{one_line(event.name, 60)}({one_line(given, 300)})"
    if isinstance(event, ToolResult):
        kind = "failed" if event.failed else "untrusted" if event.untrusted else ""
        return "  → " + ": ".join(part for part in (kind, one_line(event.text, 300)) if part)
    return ""


def _phase(status: output.Status, event: Event) -> None:
    if isinstance(event, Phase):
        doing = "loading the model" if event.name == "loading" else "reading the prompt"
        status.show(f"{doing} {event.progress:.0%}" if event.progress else f"{doing} ...")
    elif isinstance(event, Text | Thought | Done):
        status.clear()


def _whole(text: str) -> tuple[str, str]:
    """`text` without a carriage return at its end, which may be the first half of CR LF, and that return."""
    return (text[:-1], "\r") if text.endswith("\r") else (text, "")
