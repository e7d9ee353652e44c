"""What the user is told before a tool writes, runs or uses the network: the same words for the chat and for `ask`.

Everything that the call would do is shown whole: control characters as symbols, and characters without a shape (zero width,
tags) by their numbers, so that nothing hides in an argument. Not covered: who may call what (`router.tools`).
"""

import json
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from data.sanitise import one_line, sanitise

if TYPE_CHECKING:
    from router.tools import Wish

LIMIT: Final = 100_000
"""Characters of arguments that can be shown; a call with more cannot be allowed, because nobody would see what it does."""
TAINTED: Final = "text from a file or a server is in this conversation and may have asked for this"
DEEDS: Final = {
    "write": "wants to change files",
    "run": "wants to run a program",
    "network": "wants to use the network",
}


def headline(wish: "Wish") -> str:
    """Which tool wants what, for example `python wants to run a program`."""
    return f"{one_line(wish.tool, 60)} {DEEDS.get(wish.permission, f'wants to {one_line(wish.permission, 40)}')}"


def arguments(wish: "Wish") -> str:
    """The exact arguments, one below the other, made harmless and visible; text of several lines stands indented."""
    return "\n".join(_argument(str(key), value) for key, value in wish.arguments.items()) or "no arguments"


def too_long(wish: "Wish") -> bool:
    """Whether the arguments cannot be shown whole."""
    return _length(wish.arguments) > LIMIT


def visible(text: str) -> str:
    """`text` sanitised, with each invisible formatting character as its number: `\\u200b`."""
    safe = sanitise(text)
    if safe.isascii():
        return safe
    return "".join(f"\\u{ord(one):04x}" if unicodedata.category(one) in ("Cf", "Co", "Cn") else one for one in safe)


def _argument(key: str, value: Any) -> str:
    text = visible(value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str))
    name = visible(key).replace("\n", "␊")
    if "\n" not in text:
        return f"{name}: {text}"
    return "\n".join([f"{name}:", *(f"  {line}" for line in text.split("\n"))])


def _length(arguments: Mapping[str, Any]) -> int:
    return len(json.dumps(dict(arguments), ensure_ascii=False, default=str))
