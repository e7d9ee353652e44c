"""What was asked, as a model saw it, with the answer it gave and what was said about that: the log as prompts to ask again.

Only answers that may train, after answers that may: complete, on the whole conversation, without untrusted text; of incognito
conversations none. Not covered: rows for training (`data.datasets`), asking again (router/replay.py).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, or_, select

from data.chat import Message
from data.store import reading
from data.store import tables as t
from data.store.database import Database
from data.store.rows import Feedback, Turn


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question. messages: the system prompt, the turns before with corrections in place, and the question last; answer: the
    text alone; said: the feedback that stands, oldest first."""

    inference: str
    conversation: str
    domain: str
    messages: tuple[Message, ...]
    answer: str
    said: tuple[Feedback, ...]
    at: datetime


def newest(database: Database, domain: str) -> Iterator[Prompt]:
    """Every prompt of a domain, the newest conversation first and in it the newest answer; one conversation in memory at a time.

    An answer belongs to its own domain, or where it has none to its conversation's.
    """
    c = t.conversation.c
    mine = select(t.turn.c.conversation_id).join_from(t.inference, t.turn, t.turn.c.id == t.inference.c.turn_id)
    query = select(c.id).where(~c.incognito, or_(c.domain == domain, c.id.in_(mine.where(t.inference.c.domain == domain))))
    with database.read() as connection:
        keys = list(connection.execute(query.order_by(c.id.desc())).scalars())
    for key in keys:
        with database.read() as connection:
            found = conversation(connection, key)
        yield from (one for one in reversed(found) if one.domain == domain)


def conversation(connection: Connection, key: str, inferences: Collection[str] | None = None) -> list[Prompt]:
    """The prompts of one conversation, or those that these answers are to, oldest first; [] where it is gone or incognito."""
    row = connection.execute(select(t.conversation).where(t.conversation.c.id == key)).first()
    if row is None or row.incognito:
        return []
    tree = reading.Tree(connection, key)
    turns = {turn.id: turn for turn in tree.turns(connection, tree.rows)}
    found = []
    for turn in turns.values():
        if turn.inference is not None and (inferences is None or turn.inference.id in inferences):
            path = [turns[one] for one in tree.path(turn.id)]
            if _usable(path):
                found.append(_prompt(path, row.system_prompt, row.domain))
    return found


def _usable(path: Sequence[Turn]) -> bool:
    asked = len(path) > 1 and path[-2].role == "user"
    return asked and all(turn.inference.trainable for turn in path if turn.inference)


def _prompt(path: Sequence[Turn], system: str, domain: str) -> Prompt:
    answer = path[-1]
    assert answer.inference is not None  # noqa: S101  the caller looked
    messages = (*([Message("system", system)] if system else []), *(_as_seen(turn) for turn in path[:-1]))
    return Prompt(
        answer.inference.id,
        answer.conversation,
        answer.inference.domain or domain,
        messages,
        answer.message.content,
        answer.feedback,
        answer.inference.created,
    )


def _as_seen(turn: Turn) -> Message:
    """A turn without its reasoning and its tool calls, a correction in the place of what it corrects."""
    corrected = next((item.text for item in turn.feedback if item.kind == "correction"), "")
    return replace(turn.message, content=corrected or turn.message.content, thinking="", tool_calls=())
