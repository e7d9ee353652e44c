"""Rows of the database as the frozen rows of rows.py: one query for a conversation's tree, one for its feedback.

Not covered: writing (log.py, feedback.py).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, cast

from sqlalchemy import Connection, Row, Select, and_, func, or_, select
from sqlalchemy.sql.elements import ColumnElement

from data.chat import Finish, Message, Role, ToolCall, Usage
from data.errors import NotFound, StoreDamaged
from data.store import rows
from data.store.tables import conversation, feedback, inference, inference_payload, preference, turn

_SHORTEST = 4  # hex digits of an abbreviated id
_newer = feedback.alias("newer")
CURRENT = and_(~feedback.c.withdrawn, ~select(_newer.c.id).where(_newer.c.supersedes_id == feedback.c.id).exists())
_tree: Select[Any] = (
    select(
        conversation.c.active_leaf_id,
        turn.c.id.label("turn"),
        turn.c.parent_turn_id,
        turn.c.role,
        turn.c.content,
        turn.c.tool_name,
        turn.c.created_at.label("turn_at"),
        inference,
        inference_payload.c.text,
        inference_payload.c.thinking,
        inference_payload.c.tool_calls,
        inference_payload.c.trace,
    )
    .join_from(conversation, turn, turn.c.conversation_id == conversation.c.id, isouter=True)
    .join(inference, inference.c.turn_id == turn.c.id, isouter=True)
    .join(inference_payload, inference_payload.c.inference_id == inference.c.id, isouter=True)
    .order_by(turn.c.id)
)
_said: Select[Any] = select(feedback, preference.c.rejected_inference_id, preference.c.blind, preference.c.chosen_left).join_from(
    feedback, preference, preference.c.feedback_id == feedback.c.id, isouter=True
)


class Tree:
    """All turns of one conversation. Raises NotFound where there is no such conversation."""

    def __init__(self, connection: Connection, conversation_id: str) -> None:
        found = connection.execute(_tree.where(conversation.c.id == conversation_id)).all()
        if not found:
            raise NotFound(f"there is no conversation {conversation_id!r}", "see: pointsman log list")
        self.id = conversation_id
        self._leaf: str | None = found[0].active_leaf_id
        self.rows: dict[str, Row[Any]] = {row.turn: row for row in found if row.turn}
        self._children: dict[tuple[str | None, str], list[str]] = defaultdict(list)
        self._below: dict[str | None, list[str]] = defaultdict(list)
        for row in self.rows.values():
            self._children[row.parent_turn_id, row.role].append(row.turn)
            self._below[row.parent_turn_id].append(row.turn)

    def path(self, leaf: str) -> list[str]:
        """The ids from the root to `leaf`; raises NotFound where it is no turn of this conversation."""
        if leaf not in self.rows:
            raise NotFound(f"the conversation {self.id} has no turn {leaf!r}", "see: pointsman log show " + self.id)
        ids = [leaf]
        while (parent := self.rows[ids[-1]].parent_turn_id) is not None:
            if parent not in self.rows or len(ids) > len(self.rows):
                raise StoreDamaged(f"the turns of conversation {self.id} form no tree", "run pointsman doctor")
            ids.append(parent)
        return ids[::-1]

    def leaf_in_use(self) -> str | None:
        """The end of the branch in use; None in an empty conversation."""
        return self._leaf if self._leaf in self.rows else self.newest_leaf()

    def newest_leaf(self, below: str | None = None) -> str | None:
        """The newest turn without an answer or a follow-up, below one turn or in all; None in an empty conversation."""
        seen, queue = set[str](), [below] if below else list(self._below[None])
        while queue:
            seen.add(key := queue.pop())
            queue += [child for child in self._below[key] if child not in seen]
        return max((key for key in seen if not self._below[key]), default=None)

    def leaves(self) -> list[str]:
        """The end of every branch, oldest first."""
        return [key for key in self.rows if not self._below[key]]

    def siblings(self, key: str) -> list[str]:
        """The turns of the same role under the same parent, oldest first, itself included."""
        row = self.rows[key]
        return self._children[row.parent_turn_id, row.role]

    def turns(self, connection: Connection, ids: Iterable[str]) -> list[rows.Turn]:
        """These turns in this order, each with its answer's circumstances and its current feedback."""
        said = defaultdict(list)
        query = _said.join(inference, inference.c.id == feedback.c.inference_id).join(turn, turn.c.id == inference.c.turn_id)
        for row in connection.execute(query.where(turn.c.conversation_id == self.id, CURRENT).order_by(feedback.c.id)):
            said[row.inference_id].append(feedback_of(row))
        return [self._turn(key, said) for key in ids]

    def _turn(self, key: str, said: Mapping[str, list[rows.Feedback]]) -> rows.Turn:
        row = self.rows[key]
        siblings = self.siblings(key)
        answer = inference_of(row, self.id) if row.turn_id else None
        return rows.Turn(
            key,
            self.id,
            row.parent_turn_id,
            row.role,
            _message(row),
            row.turn_at,
            answer,
            tuple(said[answer.id]) if answer and answer.id in said else (),
            len(siblings),
            siblings.index(key),
        )


def conversations(connection: Connection, where: ColumnElement[bool] | None, limit: int, offset: int) -> list[rows.Conversation]:
    """Conversations, the last used first."""
    count = select(func.count()).where(turn.c.conversation_id == conversation.c.id).scalar_subquery()
    query = select(conversation, count.label("turns"))
    query = query if where is None else query.where(where)
    found = connection.execute(
        query.order_by(conversation.c.updated_at.desc(), conversation.c.id.desc()).limit(limit).offset(offset)
    )
    return [
        rows.Conversation(
            row.id,
            row.title,
            row.created_at,
            row.updated_at,
            row.domain,
            row.turns,
            row.active_leaf_id or "",
            row.system_prompt,
            row.incognito,
        )
        for row in found
    ]


def inferences(connection: Connection, where: ColumnElement[bool]) -> list[rows.Inference]:
    """The answers that fit, oldest first."""
    query = select(inference, turn.c.conversation_id).join_from(inference, turn, turn.c.id == inference.c.turn_id)
    return [inference_of(row, row.conversation_id) for row in connection.execute(query.where(where).order_by(inference.c.id))]


def feedback_by(connection: Connection, where: ColumnElement[bool], current: bool) -> list[rows.Feedback]:
    """Feedback rows, oldest first; `current` leaves out what was superseded or withdrawn."""
    query = _said.where(where, CURRENT) if current else _said.where(where)
    return [feedback_of(row) for row in connection.execute(query.order_by(feedback.c.id))]


def whole_id(connection: Connection, table: Any, key: str, what: str) -> str:
    """The id of `table` that is, begins with, or ends in `key` (hex digits); raises NotFound for none and for several."""
    wanted = key.strip().lower().replace("-", "")
    if not 0 < len(wanted) <= 32 or set(wanted) - set("0123456789abcdef"):
        raise NotFound(f"{key[:40]!r} is no id of a {what}", "see: pointsman log list")
    exact = connection.execute(select(table.c.id).where(table.c.id == wanted)).scalar()
    if exact:
        return str(exact)
    if len(wanted) < _SHORTEST:
        raise NotFound(f"{key!r} is too short for the id of a {what}", f"give {_SHORTEST} characters or more")
    fits = or_(table.c.id.like(f"{wanted}%"), table.c.id.like(f"%{wanted}"))
    found = connection.execute(select(table.c.id).where(fits).limit(2)).scalars().all()
    if not found:
        raise NotFound(f"there is no {what} {key!r}", "see: pointsman log list")
    if len(found) > 1:
        raise NotFound(f"{key!r} fits more than one {what}", "give more of the id")
    return str(found[0])


def inference_of(row: Row[Any], conversation_id: str) -> rows.Inference:
    """An answer's circumstances, from a row that holds all columns of `inference`."""
    usage = Usage(
        row.prompt_tokens,
        row.cached_tokens,
        row.completion_tokens,
        row.ttft_s,
        row.total_s,
        cast(Finish, row.finish),
        row.load_s,
        row.context_tokens,
        row.dropped_turns,
    )
    return rows.Inference(
        row.id,
        row.turn_id,
        conversation_id,
        row.status,
        row.model,
        row.engine,
        row.mode,
        row.domain,
        row.config_hash,
        row.decision,
        row.seed,
        usage,
        row.truncated,
        row.tainted,
        row.error,
        row.created_at,
        row.updated_at,
        row.finished_at,
        tuple(getattr(row, "trace", None) or ()),
    )


def feedback_of(row: Row[Any]) -> rows.Feedback:
    """One thing said, from a row of `_said`."""
    return rows.Feedback(
        row.id,
        row.inference_id,
        row.kind,
        row.value,
        row.text,
        row.source,
        row.created_at,
        row.supersedes_id or "",
        row.dedupe_key or "",
        row.withdrawn,
        row.rejected_inference_id or "",
        bool(row.blind),
        row.chosen_left,
    )


def _message(row: Row[Any]) -> Message:
    role = cast(Role, row.role)
    if row.turn_id is None:
        return Message(role, row.content, tool_name=row.tool_name)
    try:
        calls = tuple(ToolCall(call["name"], call["arguments"], call.get("id", "")) for call in row.tool_calls or ())
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreDamaged(f"the tool calls of turn {row.turn} are damaged", "run pointsman doctor") from error
    return Message(role, row.text or "", row.thinking or "", calls)
