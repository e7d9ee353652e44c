"""What earlier chats leave for this one: their questions, and an answer that a crash cut off. Call it in a thread.

Not covered: opening a conversation.
"""

from typing import TYPE_CHECKING, Final

from data.errors import NotFound

if TYPE_CHECKING:
    from data.store import Conversation, Store

CHATS: Final = 20
"""Chats whose questions are remembered."""
LONGEST: Final = 5_000
"""Characters of a question from which on it is not offered again."""


def questions(store: "Store", without: str = "") -> tuple[str, ...]:
    """The questions of the last chats, oldest first, each once; those of the chat `without` are left out."""
    found: dict[str, None] = {}
    for talk in reversed(store.log.conversations(limit=CHATS)):
        if talk.incognito or talk.id == without:
            continue
        for turn in store.log.turns(talk.id):
            text = turn.message.content
            if turn.role == "user" and len(text) <= LONGEST:
                found.pop(text, None)
                found[text] = None
    return tuple(found)


def cut_off(store: "Store") -> "Conversation | None":
    """The conversation of the newest answer, where that was cut off by a crash and some of it arrived."""
    from data.store.recovery import LEFT

    try:
        newest = store.log.latest()
    except NotFound:
        return None
    if newest.status != "interrupted" or newest.error != LEFT or not store.log.turn(newest.turn).message.content:
        return None
    return store.log.conversation(newest.conversation)
