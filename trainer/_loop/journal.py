"""metrics.jsonl of a stage: one event a line, each step exactly once however often the run was killed and resumed."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data import paths
from data.errors import InputError
from trainer.events import Event

NAME = "metrics.jsonl"


class Journal:
    """The lines of a stage. folder: the stage's; step: up to where they stay, later ones are cut off (a torn last line too).

    pending: the evaluation of that step will be made again.
    """

    def __init__(self, folder: Path, step: int, pending: bool = False) -> None:
        self._file = folder / NAME
        until = {"evaluating": step - pending}
        kept = [line for line in lines(self._file) if 0 < line.get("done", 0) <= until.get(line.get("doing", ""), step)]
        with paths.replacing(self._file) as out:
            out.write("".join(f"{json.dumps(line)}\n" for line in kept).encode())
        self._out = self._file.open("a", encoding="utf-8")

    def write(self, event: Event) -> None:
        """Append it and hand it to the system. Raises InputError where the disk is full."""
        try:
            self._out.write(f"{json.dumps(event.to_dict(), allow_nan=False)}\n")
            self._out.flush()
        except OSError as error:
            raise InputError(
                f"cannot write {self._file}: {error.strerror or error}", "free space, then go on with --resume"
            ) from error

    def sync(self) -> None:
        """Make what was written durable."""
        os.fsync(self._out.fileno())

    def close(self) -> None:
        """Close the file."""
        self._out.close()


def lines(file: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal in their order; none where there is no file."""
    if not file.is_file():
        return
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue  # the process was killed while it wrote this line
        if isinstance(found, dict):
            yield found
