"""What the user says about answers: thumbs, ratings, comments, corrections, preferences. Rows are only ever added.

A new thumb, rating or correction supersedes the one before it on the same answer, a new preference the one before it on the
same pair; comments stand side by side. Withdrawing adds a row that supersedes and says nothing. A call repeated with the
same key changes nothing. A correction is a regression test as well (regressions.py). Not covered: what training makes of it.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, distinct, func, insert, select
from sqlalchemy.sql.elements import ColumnElement

from data.errors import InputError, NotFound
from data.store import reading, regressions, search
from data.store import tables as t
from data.store.database import Database
from data.store.ids import new_id
from data.store.rows import Feedback, FeedbackKind, FeedbackSource, Tally

LIKED = 4
"""Stars from which an answer counts as liked."""
_KEY = 200  # characters of a key kept as it is; a longer one is kept as its sha256


class FeedbackLog:
    """Adds and reads feedback. Every method that adds returns the row, or the earlier row with the same `key`.

    Answers are named by whole inference ids; all methods raise NotFound for one that there is not.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def rate(self, inference: str, thumb: int, *, key: str | None = None, source: FeedbackSource = "user") -> Feedback:
        """Thumb up (+1) or down (-1); 0 takes the thumb back. Raises InputError for any other number."""
        if thumb not in (-1, 0, 1):
            raise InputError(f"a thumb is +1, -1 or 0, not {thumb!r}")
        return self._say(inference, "thumb", thumb or None, "", key, source, withdrawn=thumb == 0)

    def stars(self, inference: str, stars: int, *, key: str | None = None, source: FeedbackSource = "user") -> Feedback:
        """1 to 5 stars. Raises InputError for any other number."""
        if stars not in (1, 2, 3, 4, 5):
            raise InputError(f"a rating is 1 to 5, not {stars!r}")
        return self._say(inference, "rating", stars, "", key, source)

    def comment(self, inference: str, text: str, *, key: str | None = None, source: FeedbackSource = "user") -> Feedback:
        """A remark in words. Raises InputError where there are none."""
        if not text.strip():
            raise InputError("a comment needs a word at least")
        return self._say(inference, "comment", None, text, key, source)

    def correct(self, inference: str, text: str, *, key: str | None = None, source: FeedbackSource = "user") -> Feedback:
        """What the answer should have been, whole; the answer itself stays as it was. Raises InputError where it is empty."""
        if not text.strip():
            raise InputError("a correction is the whole answer as it should be, and this one is empty")
        return self._say(inference, "correction", None, text, key, source)

    def prefer(
        self,
        chosen: str,
        rejected: str,
        *,
        tie: bool = False,
        blind: bool = False,
        chosen_left: bool | None = None,
        key: str | None = None,
        source: FeedbackSource = "user",
    ) -> Feedback:
        """One answer is better than another, or as good (`tie`). Raises InputError where both are the same."""
        if chosen == rejected:
            raise InputError("a preference is between two answers")
        pair = {"chosen_inference_id": chosen, "rejected_inference_id": rejected, "blind": blind, "chosen_left": chosen_left}
        return self._say(chosen, "preference", 0 if tie else 1, "", key, source, pair=pair)

    def withdraw(self, feedback: str, *, key: str | None = None) -> Feedback:
        """Take one thing back; the history keeps it. Raises NotFound."""
        with self._database.write() as connection:
            found = reading.feedback_by(connection, t.feedback.c.id == feedback, current=False)
            if not found:
                raise NotFound(f"there is no feedback {feedback!r}")
            old = found[0]
            _lock(connection, old.inference)
            pair = None
            if old.kind == "preference":
                query = select(t.preference).where(t.preference.c.feedback_id == old.id)
                pair = dict(connection.execute(query).one()._mapping)
            row = _row(old.inference, old.kind, None, "", key, old.source, supersedes=old.id, withdrawn=True)
            return _insert(connection, row, pair)

    def of(self, inference: str) -> list[Feedback]:
        """What is said about an answer now, oldest first; a preference belongs to the chosen one."""
        with self._database.read() as connection:
            return reading.feedback_by(connection, t.feedback.c.inference_id == inference, current=True)

    def history(self, inference: str) -> list[Feedback]:
        """Everything ever said about an answer, oldest first."""
        with self._database.read() as connection:
            return reading.feedback_by(connection, t.feedback.c.inference_id == inference, current=False)

    def tally(self, since: datetime | None = None) -> Tally:
        """How much the user said that stands now; since: only what was said after that moment. Incognito answers do not count."""
        said = t.feedback
        liked = (said.c.kind == "thumb") & (said.c.value > 0) | (said.c.kind == "rating") & (said.c.value >= LIKED)
        query = (
            select(
                func.count(distinct(said.c.inference_id)),
                func.count(distinct(said.c.inference_id)).filter(liked | (said.c.kind == "correction")),
            )
            .join_from(said, t.inference)
            .join(t.turn, t.turn.c.id == t.inference.c.turn_id)
            .join(t.conversation, t.conversation.c.id == t.turn.c.conversation_id)
            .where(reading.CURRENT, said.c.source == "user", ~t.conversation.c.incognito)
        )
        with self._database.read() as connection:
            return Tally(*connection.execute(query if since is None else query.where(said.c.created_at > since)).one())

    def _say(
        self,
        inference: str,
        kind: FeedbackKind,
        value: float | None,
        text: str,
        key: str | None,
        source: FeedbackSource,
        *,
        withdrawn: bool = False,
        pair: dict[str, Any] | None = None,
    ) -> Feedback:
        with self._database.write() as connection:
            _lock(connection, inference, *([pair["rejected_inference_id"]] if pair else []))
            supersedes = None if kind == "comment" else _standing(connection, inference, kind, pair)
            row = _row(inference, kind, value, text, key, source, supersedes=supersedes, withdrawn=withdrawn)
            return _insert(connection, row, pair)


def _lock(connection: Connection, *inferences: str) -> None:
    """Hold the answers against other writers of feedback, in one order; raises NotFound."""
    query = select(t.inference.c.id).where(t.inference.c.id.in_(inferences)).order_by(t.inference.c.id).with_for_update()
    found = connection.execute(query).scalars().all()
    for wanted in inferences:
        if wanted not in found:
            raise NotFound(f"there is no answer {wanted!r}", "it may have been forgotten")


def _standing(connection: Connection, inference: str, kind: FeedbackKind, pair: dict[str, Any] | None) -> str | None:
    """The id of what a new row of this kind supersedes."""
    where: ColumnElement[bool] = t.feedback.c.inference_id == inference
    if pair:
        both = (pair["chosen_inference_id"], pair["rejected_inference_id"])
        where = t.preference.c.chosen_inference_id.in_(both) & t.preference.c.rejected_inference_id.in_(both)
    found = reading.feedback_by(connection, where & (t.feedback.c.kind == kind), current=True)
    return found[-1].id if found else None


def _row(
    inference: str,
    kind: FeedbackKind,
    value: float | None,
    text: str,
    key: str | None,
    source: FeedbackSource,
    *,
    supersedes: str | None,
    withdrawn: bool,
) -> dict[str, Any]:
    if key and len(key) > _KEY:
        key = hashlib.sha256(t.clean(key).encode()).hexdigest()
    return {
        "id": new_id(),
        "inference_id": inference,
        "kind": kind,
        "value": value,
        "text": text,
        "source": source,
        "supersedes_id": supersedes,
        "withdrawn": withdrawn,
        "dedupe_key": key or None,
        "created_at": datetime.now(UTC),
    }


def _insert(connection: Connection, row: dict[str, Any], pair: dict[str, Any] | None) -> Feedback:
    if not t.insert_once(connection, t.feedback, "dedupe_key", row):
        return reading.feedback_by(connection, t.feedback.c.dedupe_key == row["dedupe_key"], current=False)[0]
    if pair:
        connection.execute(insert(t.preference).values({**pair, "feedback_id": row["id"]}))
    if row["supersedes_id"]:
        search.remove(connection, t.search_document.c.feedback_id == row["supersedes_id"])
    if row["kind"] == "correction":
        regressions.replace(connection, row)
    _index(connection, row)
    return reading.feedback_by(connection, t.feedback.c.id == row["id"], current=False)[0]


def _index(connection: Connection, row: dict[str, Any]) -> None:
    if not row["text"]:
        return
    place = connection.execute(
        select(t.turn.c.id, t.turn.c.conversation_id, t.conversation.c.incognito)
        .join_from(t.inference, t.turn)
        .join(t.conversation, t.conversation.c.id == t.turn.c.conversation_id)
        .where(t.inference.c.id == row["inference_id"])
    ).one()
    if not place.incognito:
        search.add(
            connection, place.conversation_id, row["kind"], row["text"], row["created_at"], turn_id=place.id, feedback_id=row["id"]
        )
