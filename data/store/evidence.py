"""What the log tells of the models on trial: good and bad answers by arm, blind preferences, latency and length.

An answer belongs to an arm when its decision says so, which leaves out what the user pinned. Not covered: what follows from the
numbers (`data.statistics`, canary.py, experiments.py).
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select
from sqlalchemy.sql.elements import ColumnElement

from data.store import reading
from data.store import registry_tables as r
from data.store import tables as t
from data.store.versions import ArmFigures, Experiment, Pairs

JSON_WINDOW = 20
"""The newest answers of an arm among which invalid JSON is counted."""
USUAL_BAD = 0.10
"""Share of bad answers that is taken for usual where there is no history: what the guard's simulations hold against."""
HISTORY = timedelta(days=30)
HISTORY_ANSWERS = 30  # below, a rate says too little
_ENDED = ("complete", "error", "interrupted")
_FAILED = ("error", "interrupted")


@dataclass(frozen=True, slots=True)
class Answer:
    """One ended answer. thumb: +1, -1 or 0 for none; regenerated: it was asked again afterwards."""

    id: str
    conversation: str
    arm: str
    failed: bool
    truncated: bool
    regenerated: bool
    empty: bool
    thumb: int
    config: str
    seconds: float
    ttft_s: float
    tokens: int

    @property
    def bad(self) -> bool:
        """Whether it counts against its model."""
        return self.failed or self.truncated or self.regenerated or self.empty or self.thumb < 0


def arm_name(experiment: str, model: str) -> str:
    """How a decision names the arm."""
    return f"{experiment}:{model}"


def arms(connection: Connection, experiment: Experiment) -> tuple[ArmFigures, ...]:
    """The figures of every arm, in the experiment's order."""
    found = _drawn_answers(connection, experiment)
    query = select(r.assignment.c.arm, func.count()).where(r.assignment.c.experiment_id == experiment.id)
    drawn = {arm: count for arm, count in connection.execute(query.group_by(r.assignment.c.arm))}
    return tuple(
        _figures(connection, model, share, drawn.get(model, 0), [one for one in found if one.arm == arm_name(experiment.id, model)])
        for model, share in experiment.arms
    )


def differences(connection: Connection, experiment: Experiment) -> tuple[float, float]:
    """The e-values that the second arm's answers take another time than the first's, and have another length in tokens.

    Of logarithms, as if answers of one conversation did not depend on each other.
    """
    from data.statistics import normal_mixture  # here: routing needs none of it

    found = [one for one in _drawn_answers(connection, experiment) if not one.failed and one.seconds > 0 and one.tokens > 0]
    first, second = ([one for one in found if one.arm == arm_name(experiment.id, model)] for model, _ in experiment.arms[:2])
    times, lengths = ([[math.log(value(one)) for one in arm] for arm in (second, first)] for value in (_seconds, _tokens))
    return normal_mixture(times[0], times[1]), normal_mixture(lengths[0], lengths[1])


def pairs(connection: Connection, experiment: Experiment) -> Pairs:
    """Blind preferences between the first two arms since the experiment began, in its domain."""
    (first, _), (second, _) = experiment.arms[:2]
    chosen, rejected = t.inference.alias("chosen"), t.inference.alias("rejected")
    query = (
        select(t.feedback.c.id, chosen.c.model.label("chosen_model"), t.feedback.c.value)
        .join_from(t.feedback, t.preference, t.preference.c.feedback_id == t.feedback.c.id)
        .join(chosen, chosen.c.id == t.preference.c.chosen_inference_id)
        .join(rejected, rejected.c.id == t.preference.c.rejected_inference_id)
        .where(
            reading.CURRENT,
            t.preference.c.blind,
            t.feedback.c.created_at >= experiment.started,
            chosen.c.domain == experiment.domain,
            chosen.c.model.in_((first, second)),
            rejected.c.model.in_((first, second)),
            chosen.c.model != rejected.c.model,
        )
    )
    if experiment.ended:
        query = query.where(t.feedback.c.created_at <= experiment.ended)
    rows = connection.execute(query).all()
    ties = sum(not row.value for row in rows)
    wins = sum(bool(row.value) and row.chosen_model == second for row in rows)
    return Pairs(wins, len(rows) - ties - wins, ties)


def usual_rate(connection: Connection, domain: str, model: str) -> float:
    """The share of bad answers of a model in a domain in the last 30 days; USUAL_BAD where that is lower or little is known."""
    since = f"{int((datetime.now(UTC) - HISTORY).timestamp() * 1000):012x}"  # ids begin with their time
    mine = (t.inference.c.id >= since) & (t.inference.c.model == model) & (t.inference.c.domain == domain)
    found = answers(connection, mine)
    if len(found) < HISTORY_ANSWERS:
        return USUAL_BAD
    return min(max(USUAL_BAD, sum(one.bad for one in found) / len(found)), 0.5)


def answers(connection: Connection, where: ColumnElement[bool]) -> list[Answer]:
    """The ended answers that fit, oldest first."""
    size = func.length(func.trim(t.inference_payload.c.text)).label("size")
    query = (
        select(t.inference, t.turn.c.conversation_id, t.turn.c.parent_turn_id, size, t.inference_payload.c.tool_calls)
        .join_from(t.inference, t.turn, t.turn.c.id == t.inference.c.turn_id)
        .join(t.inference_payload, t.inference_payload.c.inference_id == t.inference.c.id)
        .where(where, t.inference.c.status.in_(_ENDED))
        .order_by(t.inference.c.id)
    )
    rows = connection.execute(query).all()
    inside = select(t.inference.c.id).join_from(t.inference, t.turn, t.turn.c.id == t.inference.c.turn_id).where(where)
    said = reading.feedback_by(connection, t.feedback.c.inference_id.in_(inside) & (t.feedback.c.kind == "thumb"), current=True)
    thumbs = {one.inference: 1 if (one.value or 0) > 0 else -1 for one in said}
    last = _last_answers(connection, inside)
    compared = _compared(connection, inside)
    return [_answer(row, thumbs.get(row.id, 0), last.get(row.parent_turn_id, ""), row.id in compared) for row in rows]


def _drawn_answers(connection: Connection, experiment: Experiment) -> list[Answer]:
    mine = select(r.assignment.c.conversation_id).where(r.assignment.c.experiment_id == experiment.id)
    return answers(connection, t.turn.c.conversation_id.in_(mine))


def _seconds(answer: Answer) -> float:
    return answer.seconds


def _tokens(answer: Answer) -> float:
    return answer.tokens


def _answer(row: Row[Any], thumb: int, last: str, compared: bool) -> Answer:
    return Answer(
        row.id,
        row.conversation_id,
        str(row.decision.get("arm", "")) if isinstance(row.decision, dict) else "",
        row.status in _FAILED,
        bool(row.truncated) or row.finish == "length",
        row.turn_id < last and not compared,
        row.status == "complete" and not row.size and not row.tool_calls,
        thumb,
        row.config_hash,
        row.total_s,
        row.ttft_s,
        row.completion_tokens,
    )


def _last_answers(connection: Connection, inside: Any) -> dict[str, str]:
    """The newest answer turn to each question that one of these answers is an answer to."""
    questions = select(t.turn.c.parent_turn_id).where(
        t.turn.c.id.in_(select(t.inference.c.turn_id).where(t.inference.c.id.in_(inside)))
    )
    query = select(t.turn.c.parent_turn_id, func.max(t.turn.c.id)).where(
        t.turn.c.parent_turn_id.in_(questions), t.turn.c.role == "assistant"
    )
    return {question: turn for question, turn in connection.execute(query.group_by(t.turn.c.parent_turn_id))}


def _compared(connection: Connection, inside: Any) -> set[str]:
    """Those that were shown side by side with another, which is no sign of a bad answer."""
    found: set[str] = set()
    for column in (t.preference.c.chosen_inference_id, t.preference.c.rejected_inference_id):
        found |= set(connection.execute(select(column).where(column.in_(inside), t.preference.c.blind)).scalars())
    return found


def _figures(connection: Connection, model: str, share: float, drawn: int, mine: Sequence[Answer]) -> ArmFigures:
    first: dict[str, int] = {}
    for one in mine:
        if one.thumb:
            first.setdefault(one.conversation, one.thumb)
    whole = [one for one in mine if not one.failed]
    return ArmFigures(
        model,
        share,
        drawn,
        len(mine),
        sum(one.bad for one in mine),
        sum(one.thumb < 0 for one in mine),
        sum(one.regenerated for one in mine),
        sum(one.failed for one in mine),
        sum(one.truncated for one in mine),
        sum(one.empty for one in mine),
        _invalid_json(connection, mine[-JSON_WINDOW:]),
        sum(thumb > 0 for thumb in first.values()),
        len(first),
        _mean([one.seconds for one in whole]),
        _mean([one.ttft_s for one in whole]),
        _mean([float(one.tokens) for one in whole]),
    )


def _invalid_json(connection: Connection, newest: Sequence[Answer]) -> int:
    """How many of them should have been JSON, by their settings' schema, and are not."""
    hashes = {one.config for one in newest}
    query = select(t.config_snapshot.c.sha256, t.config_snapshot.c.canonical_json)
    rows = connection.execute(query.where(t.config_snapshot.c.sha256.in_(hashes)))
    held = {row.sha256 for row in rows if t.load_json(row.canonical_json).get("schema")}
    wanted = [one.id for one in newest if one.config in held and not one.failed]
    payload = t.inference_payload.c
    texts = connection.execute(select(payload.text).where(payload.inference_id.in_(wanted))).scalars()
    return sum(not _is_json(text) for text in texts)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
