"""Ending an answer from outside, deep inside a computation.

A generator can be closed between two pieces only, and reading a long prompt or scoring gives none for seconds. So whoever may
end an answer holds a Cancellation, and the thread that computes it says which one is its own:

    with heeding(cancellation): ...          in the answer's thread
    cancellation.cancel()                    in any thread
What computes in this process looks at `current` and ends with `Cancelled`. Not covered: engines behind HTTP, which hand out
a sign of life in every silence and are closed there.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_here = threading.local()


class Cancellation:
    """Whether somebody still waits for one answer. flag: the same as a text of C: empty, and one character from the end on."""

    __slots__ = ("flag",)

    def __init__(self) -> None:
        self.flag = bytearray(2)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits any more; this never changes back."""
        return self.flag[0] != 0

    def cancel(self) -> None:
        """Nobody waits any more. Any thread may call."""
        self.flag[0] = 1


@contextmanager
def heeding(cancellation: Cancellation) -> Iterator[None]:
    """What this thread computes inside is for that answer."""
    before = current()
    _here.cancellation = cancellation
    try:
        yield
    finally:
        _here.cancellation = before


def current() -> Cancellation | None:
    """The cancellation that this thread heeds, None where its answer cannot be ended from outside."""
    found: Cancellation | None = getattr(_here, "cancellation", None)
    return found
