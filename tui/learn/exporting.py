"""The export of a learn's run: made once, and checked again by its files before anything is promoted.

What it says beside the trained model is compared while it is made; `verify` then reads every byte and loads every file once more.
Not covered: how (`export.exporting`, `export.verify`).
"""

from pathlib import Path
from typing import TYPE_CHECKING

from data import exports
from data.errors import NotFound
from tui.learn.state import Held

if TYPE_CHECKING:
    from data.exports import Check
    from export.exporting import Tell

NAME = "export: {}"


def exported(run: Path, tell: "Tell") -> tuple[str, tuple[Held, ...]]:
    """The name of the run's export, "" where a check failed, and its checks as gates. One that is complete is not made again.

    Raises as `export.exporting.export`, and as reading a run does.
    """
    from export import exporting
    from tui.commands.export import source_of

    place = exports.folder() / run.name
    try:
        return run.name, _held(exports.read(place).checks)
    except NotFound:
        done = exporting.export(source_of(run), (), None, tell)
    return (run.name if done.folder else ""), _held(done.export.checks)


def verified(name: str, tell: "Tell") -> tuple[Held, ...]:
    """The checks of an export by its files, as gates. Raises as `export.verify.verify`."""
    from export.verify import verify

    _, checks = verify(exports.folder() / name, None, tell, why="it was compared when it was made")
    return tuple(one for one in _held(checks, "verify: {}") if one.passed is not None)


def _held(checks: "tuple[Check, ...]", name: str = NAME) -> tuple[Held, ...]:
    return tuple(
        Held(
            name=name.format(one.name) + (f" of {one.of}" if one.of else ""),
            passed=one.passed,
            reached=one.value,
            limit=one.limit,
            note=one.note,
        )
        for one in checks
    )
