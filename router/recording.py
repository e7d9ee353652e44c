"""An answer on its way into the log: every event taken, the partial text saved twice a second, one commit at the end.

Not covered: where the events come from (session.py).
"""

import threading
from typing import Any

from data.chat import ToolCall, Usage
from data.errors import PointsmanError
from data.store import Status, Store
from router.modes.base import Cited, Done, Event, Text, Thought, ToolCalled, ToolResult
from router.trace import ENTRIES, entry

FLUSH_S = 0.5
"""Seconds between two saves of a partial answer; a crash loses at most this much of it."""


class Recording:
    """One answer. A thread of its own saves what there is, so that the disk never holds up the model."""

    def __init__(self, store: Store, inference: str) -> None:
        self.usage: Usage | None = None
        self.tainted = False
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[ToolCall] = []
        self._trace: list[dict[str, Any]] = []
        self._store = store
        self._inference = inference
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._save, name="partial-answer", daemon=True)
        self._thread.start()

    @property
    def spoke(self) -> bool:
        """Whether a piece of the answer itself has arrived."""
        return bool(self._text)

    def take(self, event: Event) -> None:
        """Keep what the event brings."""
        if isinstance(event, Text):
            self._text.append(event.text)
        elif isinstance(event, Thought):
            self._thinking.append(event.text)
        elif isinstance(event, Done):
            self.usage = event.usage
        elif isinstance(event, ToolCalled):
            self._calls.append(ToolCall(event.name, dict(event.arguments)))
        elif isinstance(event, Cited) or (isinstance(event, ToolResult) and event.untrusted):
            self.tainted = True
        line = entry(event)
        if line and len(self._trace) < ENTRIES:
            self._trace.append(line)

    def finish(self, status: Status, error: str) -> None:
        """End the thread and commit how the answer ended; what was not saved is now."""
        self._stopped.set()
        self._thread.join()
        self._store.log.finish(
            self._inference,
            status=status,
            text="".join(self._text),
            thinking="".join(self._thinking),
            usage=self.usage,
            error=error,
            tool_calls=self._calls,
            tainted=self.tainted,
            trace=self._trace,
        )

    def _save(self) -> None:
        saved = 0
        while not self._stopped.wait(FLUSH_S):
            size = len(self._text) + len(self._thinking)
            if size == saved:
                continue
            try:
                self._store.log.save_partial(self._inference, "".join(self._text), "".join(self._thinking))
            except PointsmanError:
                return  # a full or broken disk: the final commit meets the same fault and reports it
            saved = size
