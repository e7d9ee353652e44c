"""The tokens of a Go template: text, and what stands between {{ and }}, with trim markers and comments resolved.

Follows the lexer of Go's text/template/parse (https://pkg.go.dev/text/template, Go 1.26). Not covered: other delimiters,
character and complex constants, numbers that are not decimal.
"""

import re
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data.errors import ModelInvalid

SOURCE_CHARS = 1 << 18
KEYWORDS = frozenset(("if", "else", "end", "range", "with", "break", "continue", "define", "template", "block"))
_BLANKS = " \t\r\n"
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<string>"(?:[^"\\\n]|\\[^\n])*")
    |(?P<raw>`[^`]*`)
    |(?P<declare>:=)
    |(?P<assign>=)
    |(?P<number>[+-]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?)
    |(?P<field>\.[^\W\d]\w*)
    |(?P<dot>\.)
    |(?P<variable>\$\w*)
    |(?P<word>[^\W\d]\w*)
    |(?P<mark>[|(),])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:([abfnrtv\\\"])|x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.|$))", re.DOTALL)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}


@dataclass(frozen=True, slots=True)
class Token:
    """kind: space, string (its value), number, field (its name), dot, variable, word, keyword, or the mark itself."""

    kind: str
    value: str
    line: int


def pieces(source: str) -> Iterator[str | tuple[Token, ...]]:
    """Text and actions in turn, comments left out. Raises ModelInvalid where Go's lexer would refuse, naming the line."""
    if len(source) > SOURCE_CHARS:
        raise ModelInvalid(f"the Go template has {len(source)} characters, more than {SOURCE_CHARS}", "use a shorter one")
    at, trim = 0, False
    newlines = [found.start() for found in re.finditer("\n", source)]
    while at < len(source):
        opened = source.find("{{", at)
        end = len(source) if opened < 0 else opened
        trims = source.startswith("-", end + 2) and source[end + 3 : end + 4] in tuple(_BLANKS)
        text = source[at:end].lstrip(_BLANKS) if trim else source[at:end]
        text = text.rstrip(_BLANKS) if trims else text
        if text:
            yield text
        if opened < 0:
            return
        action, at, trim = _action(source, opened + (4 if trims else 2), newlines)
        if action is not None:
            yield action


def fault(why: str, line: int) -> ModelInvalid:
    """The error for a template that Go would refuse, or that this reader does not know."""
    return ModelInvalid(f"line {line} of the Go template: {why}", "correct the template")


def _action(source: str, at: int, newlines: Sequence[int]) -> tuple[tuple[Token, ...] | None, int, bool]:
    """The tokens of one action (None for a comment), where the text goes on, and whether that text is trimmed."""
    line = bisect(newlines, at) + 1
    if source.startswith("/*", at):
        end = source.find("*/", at + 2)
        closed = re.compile(r"([ \t\r\n]-)?\}\}").match(source, end + 2) if end >= 0 else None
        if closed is None:
            raise fault("a comment is not closed", line)
        return None, closed.end(), closed.group(1) is not None
    found: list[Token] = []
    while True:
        if source.startswith("}}", at):
            return tuple(found), at + 2, False
        if source[at : at + 1] in tuple(_BLANKS) and source.startswith("-}}", at + 1):
            return tuple(found), at + 4, True
        token = _TOKEN.match(source, at)
        if token is None:
            raise fault(f"unexpected {source[at : at + 10]!r}" if at < len(source) else "an action is not closed", line)
        end = _end(token, source)
        found.append(_made(token, source[at:end], bisect(newlines, at) + 1))
        at = end


def _end(token: re.Match[str], source: str) -> int:
    """Where the token ends: the blank before a closing trim marker belongs to the marker."""
    return token.end() - 1 if token.lastgroup == "space" and source.startswith("-}}", token.end()) else token.end()


def _made(token: re.Match[str], text: str, line: int) -> Token:
    kind = str(token.lastgroup)
    if kind == "string":
        return Token("string", _unquoted(text[1:-1], line), line)
    if kind == "raw":
        return Token("string", text[1:-1].replace("\r", ""), line)
    if kind == "field":
        return Token("field", text[1:], line)
    if kind == "mark":
        return Token(text, text, line)
    if kind == "word" and text in KEYWORDS:
        return Token("keyword", text, line)
    return Token(kind, text, line)


def _unquoted(text: str, line: int) -> str:
    def plain(escape: re.Match[str]) -> str:
        simple, byte, octal, short, long, wrong = escape.groups()
        if simple:
            return _PLAIN[simple]
        code = int(octal, 8) if octal else int(byte or short or long or "0", 16)
        if wrong is not None or code > 0x10FFFF or 0xD800 <= code < 0xE000 or ((byte or octal) and code > 0x7F):
            raise fault(f"the escape {escape.group()!r} is not known", line)
        return chr(code)

    return _ESCAPE.sub(plain, text)
