"""The log as plain JSON, one row per branch of a conversation:

    {"conversation", "leaf", "active", "title", "domain", "system", "created", "updated", "messages": [...]}

Each message is one of data/chat.py with `turn` and `at`; an answer also has `inference`, `status`, `model`, `mode`, `domain`,
`finish`, `truncated`, `tainted`, `config_hash`, and where there are some `correction` and `feedback`. Times are ISO 8601
in UTC. Branches share their first turns, so `turn` tells what was seen already. Not covered: files and formats for training.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import select

from data.store import reading
from data.store import tables as t
from data.store.database import Database
from data.store.rows import Conversation, Feedback, Turn


def branches(database: Database, only_trainable: bool, conversation: str) -> Iterator[dict[str, Any]]:
    """The rows, one conversation in memory at a time and no transaction open between two.

    only_trainable ends each branch before the first question whose answer is not complete, did not see the whole
    conversation, or had untrusted text in sight, because everything after it builds upon it; and leaves out incognito
    conversations. Raises NotFound where `conversation` (an id, or its beginning or end) is given and there is none.
    """
    for key in _ids(database, conversation):
        with database.read() as connection:
            found = reading.conversations(connection, t.conversation.c.id == key, 1, 0)
            if not found or (only_trainable and found[0].incognito):
                continue  # deleted meanwhile, or private
            tree = reading.Tree(connection, key)
            paths = {leaf: tree.turns(connection, tree.path(leaf)) for leaf in tree.leaves()}
        seen = set()
        for leaf, turns in paths.items():
            kept = _trainable(turns) if only_trainable else turns
            if kept and kept[-1].id not in seen:
                seen.add(kept[-1].id)
                yield _branch(found[0], leaf, kept)


def _ids(database: Database, conversation: str) -> list[str]:
    with database.read() as connection:
        if conversation:
            return [reading.whole_id(connection, t.conversation, conversation, "conversation")]
        return list(connection.execute(select(t.conversation.c.id).order_by(t.conversation.c.id)).scalars())


def _trainable(turns: list[Turn]) -> list[Turn]:
    kept: list[Turn] = []
    for turn in turns:
        if turn.inference and not turn.inference.trainable:
            break
        kept.append(turn)
    while kept and kept[-1].inference is None:
        kept.pop()  # a question without its answer
    return kept


def _branch(conversation: Conversation, leaf: str, turns: list[Turn]) -> dict[str, Any]:
    return {
        "conversation": conversation.id,
        "leaf": turns[-1].id,
        "active": leaf == conversation.leaf,
        "title": conversation.title,
        "domain": conversation.domain,
        "system": conversation.system,
        "created": conversation.created.isoformat(),
        "updated": conversation.updated.isoformat(),
        "messages": [_message(turn) for turn in turns],
    }


def _message(turn: Turn) -> dict[str, Any]:
    row = turn.message.to_dict() | {"turn": turn.id, "at": turn.at.isoformat()}
    answer = turn.inference
    if answer:
        row |= {
            "inference": answer.id,
            "status": answer.status,
            "model": answer.model,
            "mode": answer.mode,
            "domain": answer.domain,
            "finish": answer.usage.finish,
            "truncated": answer.truncated,
            "tainted": answer.tainted,
            "config_hash": answer.config_hash,
        }
    corrections = [said.text for said in turn.feedback if said.kind == "correction"]
    if corrections:
        row["correction"] = corrections[-1]
    if turn.feedback:
        row["feedback"] = [_said(said) for said in turn.feedback]
    return row


def _said(said: Feedback) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": said.kind,
        "value": said.value,
        "text": said.text,
        "source": said.source,
        "at": said.at.isoformat(),
    }
    if said.kind == "preference":
        row |= {"rejected": said.rejected, "blind": said.blind, "chosen_left": said.chosen_left}
    return row
