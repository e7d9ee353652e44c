"""A chat that leaves no trace: a session over a store in memory, on the engines of the session that is open.

What the router learned from the log is not used in it, because its questions may not be found there afterwards. Not covered:
what an engine's server keeps (`docs/serving.md`), and files that the user saves.
"""

from typing import TYPE_CHECKING

from tui.background import in_background
from tui.turns import Turn

if TYPE_CHECKING:
    from router.session import Session

PARTING_S = 30.0
"""Seconds that the store waits for an answer that was stopped."""


def private(session: "Session") -> "Session":
    """A session whose store is gone when it is closed; slow, since a schema is made: call it in a thread. Raises StoreError."""
    from data.store import open_store
    from router.session import Session

    return Session(session.settings, open_store("sqlite://"), session.engines, session.approve)


def part(session: "Session", turn: Turn | None) -> None:
    """Let the store of a private session go, once the answer under way has ended. The engines stay open."""
    in_background("incognito", _close, session, turn)


def _close(session: "Session", turn: Turn | None) -> None:
    if turn is None or turn.wait(PARTING_S):
        session.store.close()
