"""What the log can tell of its answers over a span of time, measured: one row an answer, and figures of many rows.

Only what was written down is told. A refusal is guessed from an answer's first words (`refuses`), in English alone, and marked as
a guess wherever it is shown. Not covered: comparing figures and raising alarms (data/monitor.py), the arms of an experiment
(evidence.py).
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Text, cast, func, select
from sqlalchemy.sql.elements import ColumnElement

from data.store import reading
from data.store import registry_tables as r
from data.store import tables as t
from data.store.database import Database

_ENDED = frozenset({"complete", "error", "interrupted", "cancelled"})
_NO_CALLS = (None, "", "[]", "null")
_HEAD = 200  # characters of an answer that a refusal shows in
_APOLOGY = 80  # characters between an apology and what cannot be done
_OPENING = re.compile(
    r"\W*(?:(?:i'?m |i am )?(?:very |so |really )?sorry|i apologi[sz]e|unfortunately|as an? (?:ai|language model|assistant))\b",
    re.IGNORECASE,
)
_UNABLE = re.compile(
    r"\b(?:i (?:really )?(?:can'?t|cannot|can not|won'?t|will not|must not|am not able to|am unable to)"
    r"|i'?m (?:not able to|unable to|not allowed to|not comfortable)|i (?:have to |must )?(?:decline|refuse))\b",
    re.IGNORECASE,
)


class Measured(NamedTuple):
    """One ended answer. day: days since 1 January 1970, UTC; question: the turn it answers.

    failed: an error, or broken off by a crash or a lost stream; stopped: by the user; truncated: the model saw less than the whole
    conversation, or was cut off at its limit; regenerated: asked again afterwards, and not to compare two. thumb: +1, -1 or 0
    for none; stars: 1 to 5 or 0; valid_json: None where no JSON was asked for or the answer did not end by itself.
    """

    id: str
    question: str
    day: int
    model: str
    domain: str
    failed: bool
    interrupted: bool
    stopped: bool
    truncated: bool
    regenerated: bool
    empty: bool
    refused: bool
    thumb: int
    stars: int
    valid_json: bool | None
    ttft_s: float
    total_s: float
    tokens: int

    @property
    def bad(self) -> bool:
        """Whether it counts against its model, as the guard of experiments has it (evidence.py)."""
        return self.failed or self.truncated or self.regenerated or self.empty or self.thumb < 0

    @property
    def whole(self) -> bool:
        """Whether it ended by itself."""
        return not (self.failed or self.stopped)


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of many answers; a share's whole stands beside it. None: nothing to tell it from.

    answers: without those that the user stopped, which are counted apart; bad: those with any sign against them (`Measured.bad`);
    errors and interrupted: the two kinds of failure; rated: answers with a thumb or stars. Refusals are a guess. Times, speed and
    length are of whole answers: seconds to the first token, tokens a second after it (median), tokens of an answer (median).
    """

    answers: int = 0
    stopped: int = 0
    bad: int = 0
    errors: int = 0
    interrupted: int = 0
    truncated: int = 0
    empty: int = 0
    regenerated: int = 0
    refused: int = 0
    rated: int = 0
    thumbs_up: int = 0
    thumbs_down: int = 0
    stars: float | None = None
    json_asked: int = 0
    json_invalid: int = 0
    ttft_p50_s: float | None = None
    ttft_p95_s: float | None = None
    tokens_per_s: float | None = None
    tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What the registry knows of a model: its newest version's id and name, and the stage of it."""

    id: str
    name: str
    stage: str


def answers(database: Database, since: datetime, until: datetime) -> list[Measured]:
    """The answers that were begun in a span of time and have ended, oldest first. Raises StoreError and its children."""
    first, end = _id_at(since), _id_at(until)
    column = t.inference.c.id
    inside = (column >= first) & (column < end)
    with database.read() as connection:
        rows = connection.execute(_rows(inside)).all()
        said = _said(connection, (t.feedback.c.inference_id >= first) & (t.feedback.c.inference_id < end))
        compared = _compared(connection, first)
        valid = _valid_json(connection, inside)
    newest: dict[str, str] = {}
    for _, turn, question, *_ in rows:
        if turn > newest.get(question, ""):
            newest[question] = turn
    return [_measured(row, newest, said, compared, valid) for row in rows if row[3] in _ENDED]


def versions(database: Database) -> dict[str, Known]:
    """The newest registered version of each model that answers, by the model's name in the log."""
    table = r.model_version.c
    with database.read() as connection:
        rows = connection.execute(select(table.id, table.name, table.model, table.stage).order_by(table.id)).all()
    return {row.model: Known(row.id, row.name, row.stage) for row in rows}


def figures(rows: Iterable[Measured]) -> Figures:
    """The figures of these answers."""
    every = list(rows)
    kept = [one for one in every if not one.stopped]
    whole = [one for one in kept if not one.failed]
    asked = [one for one in kept if one.valid_json is not None]
    stars = [one.stars for one in kept if one.stars]
    ttft = sorted(one.ttft_s for one in whole if one.ttft_s > 0)
    return Figures(
        answers=len(kept),
        stopped=len(every) - len(kept),
        bad=sum(one.bad for one in kept),
        errors=sum(one.failed and not one.interrupted for one in kept),
        interrupted=sum(one.interrupted for one in kept),
        truncated=sum(one.truncated for one in kept),
        empty=sum(one.empty for one in kept),
        regenerated=sum(one.regenerated for one in kept),
        refused=sum(one.refused for one in kept),
        rated=sum(bool(one.thumb or one.stars) for one in kept),
        thumbs_up=sum(one.thumb > 0 for one in kept),
        thumbs_down=sum(one.thumb < 0 for one in kept),
        stars=sum(stars) / len(stars) if stars else None,
        json_asked=len(asked),
        json_invalid=sum(not one.valid_json for one in asked),
        ttft_p50_s=percentile(ttft, 0.5),
        ttft_p95_s=percentile(ttft, 0.95),
        tokens_per_s=percentile(sorted(rate for one in whole if (rate := speed(one)) > 0), 0.5),
        tokens=percentile(sorted(float(one.tokens) for one in whole if one.tokens), 0.5),
    )


def speed(one: Measured) -> float:
    """Tokens a second after the first; 0.0 where that cannot be told."""
    left = one.total_s - one.ttft_s
    return (one.tokens - 1) / left if one.tokens > 1 and left > 0 else 0.0


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The value that `share` of the ordered values do not exceed (nearest rank); None of none."""
    return ordered[max(math.ceil(len(ordered) * share) - 1, 0)] if ordered else None


def refuses(text: str) -> bool:
    """Whether an answer begins as refusals do: "I'm sorry, but I can't …", "As an AI, I cannot …". A guess, for English alone."""
    head = text[:_HEAD].replace("\u2019", "'")
    opening = _OPENING.match(head)
    if opening:
        return _UNABLE.search(head, opening.end(), opening.end() + _APOLOGY) is not None
    start = next((place for place, character in enumerate(head) if character.isalnum()), len(head))
    return _UNABLE.match(head, start) is not None


def _id_at(moment: datetime) -> str:
    """What the ids begin with that are made at this moment: ids.py."""
    return f"{max(int(moment.timestamp() * 1000), 0):012x}"


def _rows(inside: ColumnElement[bool]) -> Any:
    one, payload = t.inference.c, t.inference_payload.c
    return (
        select(
            one.id,
            one.turn_id,
            t.turn.c.parent_turn_id.label("question"),
            one.status,
            one.model,
            one.domain,
            one.completion_tokens,
            one.ttft_s,
            one.total_s,
            one.finish,
            one.truncated,
            func.substr(payload.text, 1, _HEAD).label("head"),
            cast(payload.tool_calls, Text).label("calls"),  # as text: reading the JSON of all would double the time
        )
        .join_from(t.inference, t.turn, t.turn.c.id == one.turn_id)
        .join(t.inference_payload, payload.inference_id == one.id)
        .where(inside)
        .order_by(one.id)
    )


def _measured(
    row: Sequence[Any],
    newest: dict[str, str],
    said: dict[str, tuple[int, int]],
    compared: set[str],
    valid: dict[str, bool],
) -> Measured:
    # taken apart at once: reading a row's columns by name takes half as long as all the rest
    key, turn, question, status, model, domain, tokens, ttft_s, total_s, finish, truncated, head, calls = row
    thumb, stars = said.get(key, (0, 0))
    complete, words = status == "complete", head.strip()
    return Measured(
        key,
        question or "",
        int(key[:12], 16) // 86_400_000,
        model,
        domain,
        status in ("error", "interrupted"),
        status == "interrupted",
        status == "cancelled",
        bool(truncated) or finish == "length",
        turn < newest[question] and key not in compared,
        complete and not words and calls in _NO_CALLS,
        complete and bool(words) and refuses(words),
        thumb,
        stars,
        valid.get(key),
        ttft_s,
        total_s,
        tokens,
    )


def _said(connection: Connection, about: ColumnElement[bool]) -> dict[str, tuple[int, int]]:
    """The user's current thumb and stars of each answer; what a judge or a habit says is no rating."""
    one = t.feedback.c
    mine = one.kind.in_(("thumb", "rating")) & one.source.in_(("user", "import"))
    found: dict[str, tuple[int, int]] = {}
    for row in connection.execute(select(one.inference_id, one.kind, one.value).where(about, mine, reading.CURRENT)):
        thumb, stars = found.get(row.inference_id, (0, 0))
        value = row.value or 0
        if row.kind == "thumb":
            thumb = (value > 0) - (value < 0)
        else:
            stars = min(max(int(value), 0), 5)
        found[row.inference_id] = (thumb, stars)
    return found


def _compared(connection: Connection, first: str) -> set[str]:
    """Answers that were shown side by side with another, which is no sign of a bad one."""
    one = t.preference.c
    rows = connection.execute(select(one.chosen_inference_id, one.rejected_inference_id).where(one.blind, one.feedback_id >= first))
    return {key for row in rows for key in row}


def _valid_json(connection: Connection, inside: ColumnElement[bool]) -> dict[str, bool]:
    """Of the complete answers whose settings have a schema, whether they are JSON."""
    snapshot, payload = t.config_snapshot.c, t.inference_payload.c
    used = select(t.inference.c.config_hash).where(inside)
    rows = connection.execute(select(snapshot.sha256, snapshot.canonical_json).where(snapshot.sha256.in_(used)))
    held = [row.sha256 for row in rows if t.load_json(row.canonical_json).get("schema")]
    if not held:
        return {}
    query = (
        select(payload.inference_id, payload.text)
        .join_from(t.inference, t.inference_payload, payload.inference_id == t.inference.c.id)
        .where(inside, t.inference.c.status == "complete", t.inference.c.config_hash.in_(held))
    )
    return {row.inference_id: _is_json(row.text) for row in connection.execute(query)}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
