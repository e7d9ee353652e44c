"""Where a stage stands: what a checkpoint holds beside the trainer's own state, as one JSON file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from data.errors import InputError

NAME = "position.json"


@dataclass(slots=True)
class Position:
    """After `step` of `of` optimiser steps. best: of the measure that is kept, None before the first evaluation; worse: evaluations
    since then; pending: the evaluation of this step is still to be made; over: stopped early; rows and tokens (without padding)
    trained on by all processes, in `seconds` of computing."""

    step: int = 0
    of: int = 0
    loss: float = 0.0
    best: float | None = None
    best_step: int = 0
    worse: int = 0
    pending: bool = False
    over: bool = False
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether no step is left to be made."""
        return self.over or (self.of > 0 and self.step >= self.of)

    def write(self, folder: Path) -> None:
        """Write it into a checkpoint that is not sealed yet."""
        (folder / NAME).write_text(json.dumps(asdict(self)), encoding="utf-8")


def read(checkpoint: Path | None) -> Position:
    """The position of a sound checkpoint, the beginning for None. Raises InputError where the file is of another version."""
    if checkpoint is None:
        return Position()
    try:
        return Position(**json.loads((checkpoint / NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{checkpoint} was not written by this version", "start the run anew, without --resume") from error
