"""How many answers were rated, and how many more the next training wants. Reads the store; call it in a thread.

Not covered: what a training makes of them, and what else it wants (`tui.learn.enough`).
"""

from datetime import datetime
from typing import TYPE_CHECKING

from tui.messages import Rated

if TYPE_CHECKING:
    from data.store import Store


def count(store: "Store") -> Rated:
    """All answers that were rated; wanted: answers to like or correct since the last learn. Raises StoreError."""
    from tui.learn import enough

    last = _last_learn()
    since = store.feedback.tally(last)
    goal = enough.FRESH if last else enough.LESSONS // 2
    return Rated(store.feedback.tally().answers, max(goal - since.lessons, 0))


def _last_learn() -> datetime | None:
    """When the last learn began that came to an end."""
    from data import domains
    from tui.learn import state

    if not state.folder().is_dir():
        return None
    ended = [one.begun for name in domains.names() for one in state.found(name) if one.outcome in ("promoted", "failed")]
    return max(ended, default=None)
