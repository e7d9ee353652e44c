"""The progress of a training run on stderr: one line redrawn with loss, speed and time left, and one that stays per evaluation.

Outside a terminal a line at each tenth of a stage, and no line more than every few seconds. Not covered: the result (`train`).
"""

import sys
import time
from typing import TYPE_CHECKING, Any

from tui import output

if TYPE_CHECKING:
    from trainer.events import Event

PLAIN_S = 30.0
"""Seconds after which a line is due outside a terminal, though no tenth is full."""
DOING = {
    "preparing": "preparing",
    "probing": "measuring",
    "training": "training",
    "evaluating": "evaluating",
    "judging": "judging",
    "saving": "saving",
    "done": "done",
}
SHOWN = {"eval_loss": "validation loss", "macro_f1": "macro-F1", "accuracy": "accuracy", "json_valid": "JSON valid", "ece": "ECE"}
"""What an evaluation's line tells, in this order; anything else that was measured comes after it by its own name."""
SHARES = ("macro_f1", "accuracy", "json_valid", "ece")
MOST = 6
"""Figures of an evaluation's line."""


class Learning:
    """Listens to a run's events: `Learning().tell` is what `trainer.train.run` wants."""

    def __init__(self) -> None:
        self._live = output.is_terminal(sys.stderr)
        self._shown: output.Progress | None = None
        self._key = ""
        self._told_tenth = -1
        self._told_at = 0.0

    def __enter__(self) -> "Learning":
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown.__exit__()
        self._shown, self._key = None, ""

    def tell(self, event: "Event") -> None:
        """Show an event."""
        if event.doing == "evaluating" and event.values:
            self.clear()
            output.note(_evaluation(event))
        elif event.samples or (event.doing == "saving" and not event.note):
            return  # answers, which are for a screen with room; a checkpoint, written in a blink
        elif self._live:
            self._draw(event)
        elif event.doing == "training":
            self._plainly(event)
        else:
            self._said(f"{_doing(event)}{f': {event.note}' if event.note else ''}")

    def _draw(self, event: "Event") -> None:
        key = _doing(event)
        if key != self._key:
            self.clear()
            self._shown, self._key = output.Progress(key, lambda count: f"{count:,.0f}"), key
        if self._shown:
            counted = event.doing in ("training", "judging")
            done, of = (event.done, event.of) if counted else (0, 0)
            self._shown.show(event.note or "…", done, of, _beside(event))

    def _plainly(self, event: "Event") -> None:
        tenth, now = event.done * 10 // max(event.of, 1), time.monotonic()
        if event.done in (1, event.of) or tenth != self._told_tenth or now - self._told_at > PLAIN_S:
            output.note(f"{event.stage}, step {event.done:,} of {event.of:,}: {_beside(event)}")
            self._told_tenth, self._told_at, self._key = tenth, now, ""

    def _said(self, line: str) -> None:
        if line != self._key:
            output.note(line)
        self._key = line


def _doing(event: "Event") -> str:
    return " ".join(part for part in (event.stage, DOING[event.doing]) if part)


def share(value: Any) -> str:
    """A share as per cent; "-" for none."""
    return "-" if value is None else f"{value:.1%}"


def _beside(event: "Event") -> str:
    """Loss, speed and the time left."""
    found = []
    if (loss := event.values.get("loss")) is not None:
        found.append(f"loss {loss:.4f}")
    if (reward := event.values.get("reward")) is not None:
        found.append(f"reward {reward:.3f}")
    if speed := event.values.get("tokens_per_s"):
        found.append(f"{speed:,.0f} tokens/s")
    if event.eta_s is not None:
        found.append(f"{output.duration(event.eta_s)} left")
    return ", ".join(found)


def _evaluation(event: "Event") -> str:
    names = [*(name for name in SHOWN if name in event.values), *(name for name in event.values if name not in SHOWN)]
    figures = [f"{SHOWN.get(name, name.removeprefix('eval_'))} {_figure(name, event.values[name])}" for name in names[:MOST]]
    return f"{event.stage}, after step {event.done:,} of {event.of:,}: {', '.join(figures)}"


def _figure(name: str, value: float) -> str:
    return share(value) if name in SHARES else f"{value:.4f}"
