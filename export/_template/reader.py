"""The grammar of a Modelfile, exactly as Ollama reads it, with its traps.

Follows ParseFile of parser/parser.go, Ollama 0.32 and 0.33. There are no escapes: a quoted value ends at the first line end
before which the text so far, trimmed, closes its quotes; an unquoted one ends at its line's end; characters that Go does not
print are dropped, wherever they stand; `#` begins a comment only where a command could begin. `PARAMETER system x` is the same as
`SYSTEM x`, and so are those of the other commands' names. Not covered: UTF-16 (a text is given), what the commands mean.
"""

import sys
import unicodedata

from data.errors import InputError
from data.sanitise import one_line

COMMANDS = ("from", "license", "template", "system", "adapter", "draft", "renderer", "parser", "parameter", "message", "requires")
LARGEST_CHARS = 1 << 22
ROLES = ("system", "user", "assistant")
_BLANKS, _NEWLINES = " \t", "\r\n"
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_NAME = _LETTERS | frozenset("0123456789_")
_LATER_UNICODE = sys.version_info >= (3, 13)


def commands(text: str) -> tuple[tuple[str, str], ...]:
    """The commands (in lower case, FROM being "model", a PARAMETER its own name, MESSAGE's value "role: content") and their values.

    Raises InputError with the line, as Ollama counts it, where Ollama would refuse the file.
    """
    if len(text) > LARGEST_CHARS:
        raise InputError(f"the Modelfile has {len(text)} characters, more than {LARGEST_CHARS}", "use a smaller one")
    reader = _Reader()
    for character in text.removeprefix("\ufeff"):
        reader.take(character)
    return reader.end()


def printable(character: str) -> bool:
    """Whether Go's strconv.IsPrint keeps the character, in every version that Ollama was built with.

    Go 1.21 to 1.26 know Unicode 15.0. A newer Python also prints what was added since; here that counts as not printable,
    and so do other characters younger than Unicode 3.2, except emoji: careful, for a text that is refused goes another way.
    """
    if not character.isprintable():
        return False
    if character.isascii() or not _LATER_UNICODE:
        return True
    old = unicodedata.ucd_3_2_0.category(character) != "Cn"
    return old or "\U0001f300" <= character <= "\U0001f64f" or "\U0001f900" <= character <= "\U0001f9ff"


def quoted(value: str) -> str | None:
    """The value as it is written after a command so that it is read back unchanged; None where there is no such way."""
    for mark in ('"""', '"') if '"' in value or "\n" in value else ('"', '"""'):
        written = f"{mark}{value}{mark}"
        try:
            if commands(f"FROM x\nSYSTEM {written}\n") == (("model", "x"), ("system", value)):
                return written
        except InputError:
            continue
    return None


class _Reader:
    """The state machine of ParseFile: in turn nothing, a name, a PARAMETER's name, a MESSAGE's role, a value, a comment."""

    def __init__(self) -> None:
        self._state = "nothing"
        self._text: list[str] = []
        self._first, self._last = -1, 0  # of the value's characters that are no blanks
        self._name = ""
        self._role = ""
        self._line = 1
        self._found: list[tuple[str, str]] = []

    def take(self, character: str) -> None:
        """Read one more character."""
        self._line += character in _NEWLINES
        if self._state == "value":
            self._value(character)
        elif self._state == "comment":
            self._state = "nothing" if character in _NEWLINES else "comment"
        elif self._state == "nothing":
            self._begin(character)
        elif character in (_NAME if self._state == "parameter" else _LETTERS):
            self._text.append(character)
        elif character in _BLANKS:
            self._named("".join(self._text))
        else:
            raise self._fault(f"unexpected {character!r} after {one_line(''.join(self._text), 40)!r}")

    def end(self) -> tuple[tuple[str, str], ...]:
        """All commands; raises InputError where the text ends too early or has no FROM."""
        if self._state == "value":
            value = self._closed()
            if value is None:
                raise self._fault("a quoted value is not closed")
            self._add(value)
        elif self._state not in ("nothing", "comment"):
            raise self._fault(f"{one_line(''.join(self._text), 40)!r} has no value")
        if not any(name == "model" for name, _ in self._found):
            raise InputError("the Modelfile has no FROM line", "add one")
        return tuple(self._found)

    def _begin(self, character: str) -> None:
        if character == "#":
            self._state = "comment"
        elif character not in _BLANKS + _NEWLINES:
            self._state, self._text = "name", [character] if printable(character) else []

    def _named(self, text: str) -> None:
        if self._state == "name":
            name = text.lower()
            if name not in COMMANDS:
                raise self._fault(f"{one_line(text, 40)!r} is not one of {', '.join(COMMANDS).upper()}")
            self._name = "model" if name == "from" else name
            self._state = name if name in ("parameter", "message") else "value"
        elif self._state == "parameter":
            self._name, self._state = text, "value"
        else:
            if text not in ROLES:
                raise self._fault(f"{one_line(text, 40)!r} is not one of the roles {', '.join(ROLES)}")
            self._role, self._state = text, "value"
        self._clear()

    def _value(self, character: str) -> None:
        if character in _NEWLINES:
            value = self._closed()
            if value is not None:
                self._add(value)
                self._state = "nothing"
                self._clear()
                return
            self._text.append(character)
        elif character in _BLANKS:
            self._text.append(character)
        elif printable(character):
            self._first = len(self._text) if self._first < 0 else self._first
            self._text.append(character)
            self._last = len(self._text)

    def _closed(self) -> str | None:
        """The value so far without its quotes and edge blanks; None where the quotes are not closed."""
        if self._first < 0:
            return ""
        size = self._last - self._first
        for length in (3, 1):
            quotes = ['"'] * length
            if self._text[self._first : self._first + length] == quotes:
                closed = size >= 2 * length and self._text[self._last - length : self._last] == quotes
                return "".join(self._text[self._first + length : self._last - length]) if closed else None
        return "".join(self._text[self._first : self._last])

    def _clear(self) -> None:
        self._text, self._first, self._last = [], -1, 0

    def _add(self, value: str) -> None:
        self._found.append((self._name, f"{self._role}: {value}" if self._role else value))
        self._role = ""

    def _fault(self, why: str) -> InputError:
        return InputError(f"line {self._line} of the Modelfile: {why}", "correct the Modelfile")
