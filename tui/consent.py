"""A tool's wish on the command line: asked on a terminal's stderr, refused where nobody can be asked.

Not covered: the chat, which asks in a dialog (`tui.screens.approval`).
"""

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from tui import approval, output

if TYPE_CHECKING:
    from router.tools import Answer, Wish


class Consent:
    """An `Approve` for one run; `pause` takes what is transient off the terminal before the question."""

    def __init__(self, pause: Callable[[], None]) -> None:
        self._pause = pause
        self._told = False

    def __call__(self, wish: "Wish") -> "Answer":
        """Once where the user says yes, else no."""
        if not _can_ask():
            self._refuse(f"{approval.headline(wish)}: refused, because there is no terminal to ask on")
            return "no"
        self._pause()
        _show(wish)
        return "once" if _answer() in ("y", "yes") else "no"

    def _refuse(self, why: str) -> None:
        """Say it once; further wishes of the same answer would only repeat it."""
        if not self._told:
            self._pause()
            output.note(why)
        self._told = True


def _can_ask() -> bool:
    return all(stream is not None and not stream.closed and stream.isatty() for stream in (sys.stdin, sys.stderr))


def _show(wish: "Wish") -> None:
    lines = [approval.headline(wish), *(f"  {line}" for line in approval.call(wish).split("\n"))]
    _forget_typing()
    sys.stderr.write("\n".join(lines) + "\n")
    if wish.tainted:
        sys.stderr.write(output.coloured(approval.TAINTED, 31, sys.stderr) + "\n")
    sys.stderr.write("allow it? [y/N] ")
    sys.stderr.flush()


def _forget_typing() -> None:
    """What was typed before the question could be seen is no answer to it."""
    with contextlib.suppress(ImportError):
        import termios

        termios.tcflush(sys.stdin, termios.TCIFLUSH)


def _answer() -> str:
    return sys.stdin.readline().strip().casefold()
