"""An app that shows a transcript and nothing else, and made-up turns to show in it."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from textual.app import App, ComposeResult
from textual.screen import Screen

from data.chat import Message, Usage
from data.store.rows import Feedback, Inference, Turn
from tui.widgets.safe_screen import SafeScreen
from tui.widgets.transcript import Transcript

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = "llamacpp/smollm2-135m"


def scenario(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class TranscriptScreen(SafeScreen):
    """A transcript on a screen that clicks cannot crash."""

    def compose(self) -> ComposeResult:
        yield Transcript(id="transcript")


class TranscriptApp(App[None]):
    """Counts what an action hidden in text would do."""

    acted = 0

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.opened: list[str] = []

    def get_default_screen(self) -> Screen[None]:
        return TranscriptScreen()

    def action_act(self, *_: object) -> None:
        self.acted += 1

    def open_url(self, url: str, *, new_tab: bool = True) -> None:
        self.opened.append(url)

    @property
    def transcript(self) -> Transcript:
        return self.screen.query_one(Transcript)

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        strips = self.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip).rstrip() for strip in strips]

    @property
    def shown(self) -> str:
        return "\n".join(self.lines)


def question(number: int, text: str = "", **fields: Any) -> Turn:
    """A question as the store hands it out."""
    return _turn(f"q{number}", Message("user", text or f"question {number}"), None, **fields)


def answer(number: int, text: str = "", **fields: Any) -> Turn:
    """An answer as the store hands it out; fields of the inference may be given."""
    thinking = fields.pop("thinking", "")
    turn = {name: fields.pop(name) for name in ("siblings", "sibling_index", "feedback") if name in fields}
    inference = Inference(
        **{
            "id": f"i{number}",
            "turn": f"a{number}",
            "conversation": "c",
            "status": "complete",
            "model": MODEL,
            "engine": "llamacpp",
            "mode": "standard",
            "domain": "",
            "config_hash": "",
            "decision": {},
            "seed": None,
            "usage": Usage(20, 0, 81, 0.5, 2.5),
            "truncated": False,
            "tainted": False,
            "error": "",
            "created": NOW,
            "updated": NOW,
            "finished": NOW,
        }
        | fields
    )
    message = Message("assistant", f"answer {number}" if text == "" else text, thinking)
    return _turn(f"a{number}", message, inference, **turn)


def turns(count: int) -> list[Turn]:
    """`count` turns, questions and answers in turn."""
    return [question(number // 2) if number % 2 == 0 else answer(number // 2) for number in range(count)]


def said(kind: str, value: float | None = None, text: str = "") -> Feedback:
    """A piece of feedback."""
    return Feedback("f", "i", kind, value, text, "user", NOW)  # type: ignore[arg-type]


def _turn(id: str, message: Message, inference: Inference | None, **fields: Any) -> Turn:
    known = {"siblings": 1, "sibling_index": 0, "feedback": ()} | fields
    return Turn(id=id, conversation="c", parent=None, role=message.role, message=message, at=NOW, inference=inference, **known)
