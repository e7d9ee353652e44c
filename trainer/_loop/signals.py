"""Ctrl-C and SIGTERM while a stage runs: the first one lets the step in hand end, the second one breaks off at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stop:
    """Whether somebody asked to stop. In another thread than the main one nothing can be caught, and nothing is."""

    def __init__(self) -> None:
        self.asked = False
        self._at_once = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch both signals in this block."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {number: signal.signal(number, self._come) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def at_once(self, wanted: bool) -> Iterator[None]:
        """Raise KeyboardInterrupt as soon as somebody asks, in this block, where that is wanted: nothing is lost there."""
        self._at_once = wanted
        try:
            if wanted and self.asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def _come(self, number: int, frame: FrameType | None) -> None:
        if self.asked or self._at_once:
            self.asked = True
            raise KeyboardInterrupt
        self.asked = True
