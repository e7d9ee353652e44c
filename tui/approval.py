"""What the user is told before a tool writes, runs or uses the network: the same words for the chat and for `ask`.

Not covered: who may call what, and how a call is made visible whole (`router.tools`).
"""

from typing import TYPE_CHECKING, Final

from data.sanitise import one_line

if TYPE_CHECKING:
    from router.tools import Wish

TAINTED: Final = "text from a file or a server is in this conversation and may have asked for this"
DEEDS: Final = {
    "write": "wants to change files",
    "run": "wants to run a program",
    "network": "wants to use the network",
}


def headline(wish: "Wish") -> str:
    """Which tool wants what, for example `python wants to run a program`."""
    return f"{one_line(wish.tool, 60)} {DEEDS.get(wish.permission, f'wants to {one_line(wish.permission, 40)}')}"


def call(wish: "Wish") -> str:
    """The whole call as it would be made: what it reaches, and its arguments one below the other, nothing cut or invisible."""
    return wish.shown()
