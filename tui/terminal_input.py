"""What Textual 8.2's reader of terminal input lacks: alt+enter as old terminals send it, and large pastes without delay.

A terminal that does not speak the Kitty protocol sends alt+enter as ESC CR, which Textual takes for enter. And Textual reads
a paste character by character, 1.1 s a megabyte, while the keys typed after it wait. Both are mended where Textual keeps
them, in modules that are not public; a Textual without them is left as it is.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from textual import _ansi_sequences, _xterm_parser
from textual.app import App
from textual.events import Paste
from textual.keys import Keys
from textual.message import Message

BEGIN, END = "\x1b[200~", "\x1b[201~"
"""Around pasted text, where the terminal brackets it (xterm's mode 2004)."""


class PasteParser(_xterm_parser.XTermParser):
    """Takes pasted text as it stands and leaves everything else to Textual."""

    def __init__(self, debug: bool = False) -> None:
        super().__init__(debug)
        self._pasted: list[str] | None = None

    def feed(self, data: str) -> Iterable[Message]:
        """The events in the next piece of input, "" being its end; a paste is one event, once it is complete."""
        if self._pasted is None and BEGIN not in data:
            yield from super().feed(data)
            return
        while data:
            if self._pasted is None:
                keys, begun, data = data.partition(BEGIN)
                self._pasted = [] if begun else None
                yield from super().feed(keys) if keys else ()
                continue
            tail = self._pasted.pop() if self._pasted else ""
            text, ended, data = (tail + data).partition(END)
            if not ended:
                self._pasted += [text[: -len(END)], text[-len(END) :]]  # the end mark may be cut between two pieces
                return
            yield Paste("".join([*self._pasted, text]).replace("\x00", ""))
            self._pasted = None


def mend() -> None:
    """Put both in place for the driver that is started next."""
    _ansi_sequences.ANSI_SEQUENCES_KEYS.setdefault("\x1b\r", (Keys.ControlJ,))  # type: ignore[attr-defined]
    try:
        driver = import_module("textual.drivers.linux_driver")
    except ImportError:
        return  # another system, with a reader of its own
    driver.XTermParser = PasteParser  # type: ignore[attr-defined]


def set_mouse(app: App[Any], wanted: bool) -> bool:
    """Take the mouse of the terminal, or leave it to it, so that text can be selected and copied as in any program.

    Whether that could be done: a driver of another system may lack the means, which are not public.
    """
    name = "_enable_mouse_support" if wanted else "_disable_mouse_support"
    change = getattr(app._driver, name, None)
    if change is None:
        return False
    change()
    return True
