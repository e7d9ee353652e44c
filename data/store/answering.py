"""The steps of one answer in the log, each within the caller's transaction: question, pending answer, partial text, end.

Not covered: transactions and the public names (log.py).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Required, TypedDict, get_args

from sqlalchemy import Connection, Row, insert, select, update

from data.chat import Finish, Message, Usage
from data.errors import InputError, NotFound
from data.sanitise import one_line
from data.store import search
from data.store import tables as t
from data.store.ids import new_id
from data.store.rows import Begun, Status
from data.store.writer import this_process

TITLE = 80  # characters
_OPEN = ("pending", "streaming")
_FINISH: dict[Status, Finish] = {"complete": "stop", "interrupted": "interrupted", "cancelled": "cancelled", "error": "error"}


class How(TypedDict, total=False):
    """How an answer is going to be made.

    model: `engine/name`; mode: the way of reasoning; config: the settings as plain JSON, kept once per content together
    with the system prompt, so without what changes every time; decision: the router's reasons as plain JSON; seed: what
    the sampler starts from.
    """

    model: Required[str]
    mode: Required[str]
    config: Required[Mapping[str, Any]]
    domain: str
    system: str
    decision: Mapping[str, Any]
    seed: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """`How` with its defaults."""

    model: str
    mode: str
    config: Mapping[str, Any]
    domain: str = ""
    system: str = ""
    decision: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a turn goes: under `parent` (None: at the root) of a conversation."""

    conversation: str
    parent: str | None
    incognito: bool


def new_place(connection: Connection, user: Message, plan: Plan, incognito: bool, fresh: str = "") -> Place:
    """A conversation of its own, titled by the first line of the question."""
    now, key = datetime.now(UTC), fresh or new_id()
    title = one_line(next((line for line in user.content.splitlines() if line.strip()), ""), TITLE)
    connection.execute(
        insert(t.conversation).values(
            id=key,
            title=title,
            domain=plan.domain,
            system_prompt=plan.system,
            incognito=incognito,
            created_at=now,
            updated_at=now,
        )
    )
    if not incognito:
        search.add(connection, key, "title", title, now)
    return Place(key, None, incognito)


def existing_place(connection: Connection, conversation: str | None, parent: str | None) -> Place:
    """After `parent`, or at the end of the branch in use where it is None, or at the root where it is "".

    Locks the conversation until the transaction ends. Raises NotFound, InputError where `parent` is a question.
    """
    if parent:
        row = turn_row(connection, parent)
        if conversation and conversation != row.conversation_id:
            raise NotFound(f"the conversation {conversation} has no turn {parent!r}", f"see: pointsman log show {conversation}")
        if row.role == "user":
            raise InputError(f"the turn {parent} is a question, and a question follows an answer", "give the id of an answer")
        conversation = row.conversation_id
    found = connection.execute(select(t.conversation).where(t.conversation.c.id == conversation).with_for_update()).first()
    if found is None:
        raise NotFound(f"there is no conversation {conversation!r}", "see: pointsman log list")
    return Place(found.id, (found.active_leaf_id if parent is None else parent) or None, found.incognito)


def ask(connection: Connection, user: Message, place: Place, plan: Plan) -> Begun:
    """Add the question and its pending answer."""
    if user.role != "user":
        raise InputError(f"a question is a message of the user, not of the {user.role}")
    now, key = datetime.now(UTC), new_id()
    _add_turn(connection, key, place, "user", now, user.content)
    if not place.incognito:
        search.add(connection, place.conversation, "question", user.content, now, turn_id=key)
    return answer(connection, Place(place.conversation, key, place.incognito), plan)


def answer(connection: Connection, place: Place, plan: Plan) -> Begun:
    """Add a pending answer under the question `place.parent` and make it the end of the branch in use."""
    now, turn, key = datetime.now(UTC), new_id(), new_id()
    _add_turn(connection, turn, place, "assistant", now)
    connection.execute(
        insert(t.inference).values(
            id=key,
            turn_id=turn,
            status="pending",
            error="",
            writer=str(this_process()),
            tainted=False,
            created_at=now,
            updated_at=now,
            **_circumstances(connection, plan, now),
            **_measures(Usage(finish="interrupted")),
        )
    )
    connection.execute(insert(t.inference_payload).values(inference_id=key, text="", thinking="", tool_calls=[], trace=[]))
    given = {"domain": plan.domain, "system_prompt": plan.system}
    connection.execute(
        update(t.conversation)
        .where(t.conversation.c.id == place.conversation)
        .values(active_leaf_id=turn, updated_at=now, **{name: value for name, value in given.items() if value})
    )
    return Begun(place.conversation, place.parent or "", turn, key)


def rebind(connection: Connection, inference: str, plan: Plan) -> None:
    """Write the circumstances of a pending answer anew."""
    changed = connection.execute(
        update(t.inference)
        .where(t.inference.c.id == inference, t.inference.c.status == "pending")
        .values(**_circumstances(connection, plan, datetime.now(UTC)))
    ).rowcount
    if not changed:
        _require(connection, inference)
        raise InputError(f"the answer {inference} has begun: its model can no longer change")


def save_partial(connection: Connection, inference: str, text: str, thinking: str) -> None:
    """Keep what has arrived so far; nothing happens once the answer has ended."""
    changed = connection.execute(
        update(t.inference)
        .where(t.inference.c.id == inference, t.inference.c.status.in_(_OPEN))
        .values(status="streaming", updated_at=datetime.now(UTC))
    ).rowcount
    if changed:
        _put_text(connection, inference, text=text, thinking=thinking)
    else:
        _require(connection, inference)


def finish(
    connection: Connection,
    inference: str,
    status: Status,
    message: Message,
    usage: Usage | None,
    error: str,
    tainted: bool,
    trace: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Keep how the answer ended; the first end counts. Raises InputError for a status that is no end, NotFound."""
    if status not in _FINISH:
        raise InputError(f"{status!r} is no way to end an answer", "use one of " + ", ".join(_FINISH))
    usage = usage or Usage(finish=_FINISH[status])
    now = datetime.now(UTC)
    measures = _measures(usage) | ({} if status == "complete" else {"finish": _FINISH[status]})
    changed = connection.execute(
        update(t.inference)
        .where(t.inference.c.id == inference, t.inference.c.status.in_((*_OPEN, "interrupted")))
        .values(status=status, error=error, tainted=tainted, updated_at=now, finished_at=now, **measures)
    ).rowcount
    if not changed:
        return _require(connection, inference)
    calls = [call.to_dict() for call in message.tool_calls]
    _put_text(connection, inference, text=message.content, thinking=message.thinking, tool_calls=calls, trace=list(trace))
    conversation = index_answer(connection, inference, now)
    connection.execute(update(t.conversation).where(t.conversation.c.id == conversation).values(updated_at=now))


def index_answer(connection: Connection, inference: str, now: datetime) -> str:
    """Make an ended answer's text and thinking searchable; returns its conversation."""
    found = connection.execute(
        select(t.turn.c.id, t.turn.c.conversation_id, t.conversation.c.incognito, t.inference_payload)
        .join_from(t.inference_payload, t.inference)
        .join(t.turn, t.turn.c.id == t.inference.c.turn_id)
        .join(t.conversation, t.conversation.c.id == t.turn.c.conversation_id)
        .where(t.inference.c.id == inference)
    ).one()
    document = t.search_document
    search.remove(connection, (document.c.turn_id == found.id) & document.c.kind.in_(("answer", "thinking")))
    if not found.incognito:
        search.add(connection, found.conversation_id, "answer", found.text, now, turn_id=found.id)
        search.add(connection, found.conversation_id, "thinking", found.thinking, now, turn_id=found.id)
    return str(found.conversation_id)


def turn_row(connection: Connection, key: str) -> Row[Any]:
    """The bare row of one turn; raises NotFound."""
    row = connection.execute(select(t.turn).where(t.turn.c.id == key)).first()
    if row is None:
        raise NotFound(f"there is no turn {key!r}", "see: pointsman log list")
    return row


def _add_turn(connection: Connection, key: str, place: Place, role: str, now: datetime, content: str = "") -> None:
    connection.execute(
        insert(t.turn).values(
            id=key,
            conversation_id=place.conversation,
            parent_turn_id=place.parent,
            role=role,
            content=content,
            tool_name="",
            created_at=now,
        )
    )


def _circumstances(connection: Connection, plan: Plan, now: datetime) -> dict[str, Any]:
    """The columns of a Plan."""
    return {
        "config_hash": _snapshot(connection, plan, now),
        "model": plan.model,
        "engine": plan.model.partition("/")[0] if "/" in plan.model else "",
        "mode": plan.mode,
        "domain": plan.domain,
        "decision": dict(plan.decision),
        "seed": plan.seed,
    }


def _snapshot(connection: Connection, plan: Plan, now: datetime) -> str:
    canonical = t.dump_json({"system": plan.system, **plan.config})
    sha256 = hashlib.sha256(canonical.encode()).hexdigest()
    t.insert_once(connection, t.config_snapshot, "sha256", {"sha256": sha256, "canonical_json": canonical, "created_at": now})
    return sha256


def _measures(usage: Usage) -> dict[str, Any]:
    """The columns of a Usage; numbers that a server made up are brought into range."""
    return {
        "prompt_tokens": t.count(usage.prompt_tokens),
        "cached_tokens": t.count(usage.cached_tokens),
        "completion_tokens": t.count(usage.completion_tokens),
        "context_tokens": t.count(usage.context_tokens),
        "dropped_turns": t.count(usage.dropped_turns),
        "ttft_s": t.seconds(usage.ttft_s),
        "total_s": t.seconds(usage.total_s),
        "load_s": t.seconds(usage.load_s),
        "finish": usage.finish if usage.finish in get_args(Finish) else "stop",
        "truncated": usage.truncated,
    }


def _put_text(connection: Connection, inference: str, **values: Any) -> None:
    payload = t.inference_payload
    connection.execute(update(payload).where(payload.c.inference_id == inference).values(**values))


def _require(connection: Connection, inference: str) -> None:
    if connection.execute(select(t.inference.c.id).where(t.inference.c.id == inference)).first() is None:
        raise NotFound(f"there is no answer {inference!r}", "it may have been forgotten")
