"""Corrections as permanent regression tests: what was asked, what is wanted, and what was answered wrongly then.

A row appears with the correction, in its transaction, and goes when that is superseded, withdrawn or forgotten. It names the
correction and holds no text of its own, so that nothing has to be forgotten twice. Incognito conversations have none, and neither
have answers that may not train (prompts.py). Not covered: holding models against them (router/replay.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, insert, select

from data.chat import Message
from data.store import prompts, reading
from data.store import tables as t

if TYPE_CHECKING:
    from data.store import Store

OWN = ("user", "import")
"""Sources of corrections that count; what a judge or the program's own guess said does not."""


@dataclass(frozen=True, slots=True)
class Regression:
    """One correction as a test. id: that of the correction (its feedback row); messages: the system prompt, the turns before with
    corrections in place, and the question last; wanted: the whole answer as it should be (a label, JSON or text); given: the answer
    that was corrected; inference and conversation: where that stands."""

    id: str
    domain: str
    messages: tuple[Message, ...]
    wanted: str
    given: str
    inference: str
    conversation: str
    at: datetime


def of(store: "Store", domain: str = "") -> tuple[Regression, ...]:
    """The regression tests of a domain ("": of all), oldest first. Raises StoreError as every reading does."""
    rows = t.regression
    query = (
        select(t.feedback, rows.c.domain, t.turn.c.conversation_id)
        .join_from(rows, t.feedback, t.feedback.c.id == rows.c.feedback_id)
        .join(t.inference, t.inference.c.id == t.feedback.c.inference_id)
        .join(t.turn, t.turn.c.id == t.inference.c.turn_id)
        .where(reading.CURRENT)
        .order_by(t.feedback.c.id)
    )
    if domain:
        query = query.where(rows.c.domain == domain)
    with store.database.read() as connection:
        found = connection.execute(query).all()
        wanted: dict[str, set[str]] = {}
        for row in found:
            wanted.setdefault(row.conversation_id, set()).add(row.inference_id)
        asked = {one.inference: one for key, some in wanted.items() for one in prompts.conversation(connection, key, some)}
    return tuple(
        Regression(
            row.id,
            row.domain,
            asked[row.inference_id].messages,
            row.text,
            asked[row.inference_id].answer,
            row.inference_id,
            row.conversation_id,
            row.created_at,
        )
        for row in found
        if row.inference_id in asked
    )


def replace(connection: Connection, row: Mapping[str, Any]) -> None:
    """Let a row of feedback that is a correction, or takes one back, be the test of its answer instead of the one before it."""
    if row["supersedes_id"]:
        connection.execute(delete(t.regression).where(t.regression.c.feedback_id == row["supersedes_id"]))
    if row["withdrawn"] or row["source"] not in OWN:
        return
    place = connection.execute(
        select(t.inference.c.domain, t.conversation.c.domain.label("usual"), t.conversation.c.incognito)
        .join_from(t.inference, t.turn, t.turn.c.id == t.inference.c.turn_id)
        .join(t.conversation, t.conversation.c.id == t.turn.c.conversation_id)
        .where(t.inference.c.id == row["inference_id"])
    ).one()
    if not place.incognito:
        connection.execute(insert(t.regression).values(feedback_id=row["id"], domain=place.domain or place.usual))
