"""What a training tells while it runs: written as lines of JSON by its process, and put together again by whoever watches.

Lines are read as untrusted. Not covered: the process and its folder (`tui.training`).
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from data import paths
from data.errors import InputError

if TYPE_CHECKING:
    from trainer.events import Event, Tell

LOSSES = 2000
"""Losses kept at most; beyond, neighbours are averaged."""


@contextmanager
def written(file: str) -> "Iterator[Tell]":
    """Writes events into the file, a line each, and holds its lock; with "" nothing is written. Raises InputError."""
    from trainer.events import silent

    if not file:
        yield silent
        return
    try:
        out = Path(file).expanduser().open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror or error}", "name another file") from error
    with out:
        if not paths.try_lock(out.fileno()):
            raise InputError(f"{file} is being written by another training", "name another file")
        yield lambda event: _write(out, event)


@dataclass
class Progress:
    """What a training has told so far. losses: of the stage in hand and those before it; evaluations: step and figures."""

    run: str = ""
    doing: str = ""
    stage: str = ""
    note: str = ""
    done: int = 0
    of: int = 0
    eta_s: float | None = None
    tokens_per_s: float = 0.0
    losses: list[float] = field(default_factory=list)
    evaluations: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    samples: tuple[tuple[str, str, str], ...] = ()

    def add(self, event: Mapping[str, Any]) -> None:
        """Take an event in, as its line says; what is of another shape is left out."""
        if run := event.get("run"):
            self.run = Path(str(run)).name
        self.doing, self.stage, self.note = (_words(event.get(name)) for name in ("doing", "stage", "note"))
        self.done, self.of = (int(_number(event.get(name)) or 0) for name in ("done", "of"))
        self.eta_s = _number(event.get("eta_s"))
        given = event.get("values")
        values = (
            {str(name): number for name, one in given.items() if (number := _number(one)) is not None}
            if isinstance(given, dict)
            else {}
        )
        if self.doing == "training":
            self.tokens_per_s = values.get("tokens_per_s", self.tokens_per_s)
            self._measured(values.get("loss", values.get("reward")))
        elif self.doing == "evaluating" and values:
            self.evaluations.append((self.done, values))
        self._said(event.get("samples"))

    def _measured(self, loss: float | None) -> None:
        if loss is None:
            return
        self.losses.append(loss)
        if len(self.losses) > LOSSES:
            self.losses = [(a + b) / 2 for a, b in zip(self.losses[::2], self.losses[1::2], strict=False)]

    def _said(self, samples: object) -> None:
        if isinstance(samples, list) and samples:
            found = [one for one in samples[:5] if isinstance(one, dict)]
            self.samples = tuple((_words(one.get("text")), _words(one.get("wanted")), _words(one.get("said"))) for one in found)


def _write(out: IO[str], event: "Event") -> None:
    try:
        out.write(f"{json.dumps(event.to_dict(), allow_nan=False)}\n")
        out.flush()
    except OSError as error:
        raise InputError(f"cannot write the events: {error.strerror or error}", "free space, then go on with --resume") from error


def _words(value: object) -> str:
    return value[:2000] if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    from trainer.run_folder import number

    return number(value)
