"""A canary: a version that answers a tenth of a domain's conversations, then half, while a guard watches, and what the guard does.

The guard is an e-process over bad answers (thumbed down, asked again, failed, cut off, empty) that may be looked at after each of
them (`data.statistics.guard`). A crash, an empty answer and three invalid JSON answers in twenty act at once. Not covered:
promoting a canary to champion (registry.py).
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, select, update

from data.sanitise import one_line
from data.store import evidence, stages
from data.store import registry_tables as r
from data.store.versions import ArmFigures, Experiment, Gate

SHARES = (0.1, 0.5)
CONVERSATIONS = 20
"""Conversations of the domain, of both arms, after which the share goes from the first to the second."""
GUARD = 20.0
"""The e-value from which a canary is taken back: a false alarm in one of twenty at most."""
INVALID_JSON = 3
GUARDIAN = "guard"
_SHOWN = 160  # characters of a fault


@dataclass(frozen=True, slots=True)
class Crash:
    """An answer of an experiment's arm that broke, as the engine said."""

    experiment: str
    model: str
    words: str


def watch(connection: Connection, found: Experiment, crash: Crash | None = None) -> str:
    """Hold the guard against a running experiment; what was done, "" for nothing.

    A canary is taken back or gets its second share; an A/B experiment whose arm does harm ends.
    """
    figures = evidence.arms(connection, found)
    tried = figures[1:] if found.kind == "canary" else figures
    for arm in tried:
        reason, e_value = _harm(found, arm, crash)
        if reason:
            return _end(connection, found, arm, reason, e_value)
    if found.kind == "canary":
        return _widen(connection, found, sum(arm.conversations for arm in figures))
    return _lost(connection, found, figures)


def guard(found: Experiment, arm: ArmFigures) -> float:
    """The e-value that an arm's answers are bad more often than is usual."""
    from data import statistics  # here: most questions need none of it

    return statistics.guard(arm.bad, arm.answers, found.baseline)


def _harm(found: Experiment, arm: ArmFigures, crash: Crash | None) -> tuple[str, float]:
    """Why an arm has to go, "" where it may stay, and the guard's e-value."""
    e_value = guard(found, arm)
    if crash and crash.experiment == found.id and crash.model == arm.model:
        return f"it crashed: {one_line(crash.words, _SHOWN)}", e_value
    if arm.empty:
        return "an answer was empty", e_value
    if arm.invalid_json >= INVALID_JSON:
        return f"{arm.invalid_json} of its last {evidence.JSON_WINDOW} answers were no valid JSON", e_value
    if e_value < GUARD:
        return "", e_value
    parts = (
        (arm.regenerated, "asked again"),
        (arm.thumbs_down, "thumbed down"),
        (arm.errors, "failed"),
        (arm.truncated, "cut off"),
    )
    said = ", ".join(f"{count} {words}" for count, words in parts if count)
    return f"{arm.bad} of {arm.answers} answers were bad ({said}), where {found.baseline:.0%} are usual", e_value


def _end(connection: Connection, found: Experiment, arm: ArmFigures, reason: str, e_value: float) -> str:
    if found.kind == "canary":
        version = stages.version(connection, found.version)
        words = f"{version.name} was rolled back from {found.domain}: {reason}"
        gate = Gate("guard", False, e_value, GUARD, reason)
        champion = stages.aliases(connection, found.domain).get("champion")
        made = stages.decide(connection, version, champion.id if champion else "", [gate], "", GUARDIAN)
        stages.move(connection, version, "retired", "rollback", GUARDIAN, reason, made.id)
        stages.point(connection, found.domain, "canary", None)
    else:
        words = f"the experiment in {found.domain} ended early, {arm.model} did harm: {reason}"
    end(connection, found, "harmful", reason)
    stages.tell(connection, found.domain, words)
    return words


def _lost(connection: Connection, found: Experiment, figures: tuple[ArmFigures, ...]) -> str:
    """The second arm of an A/B experiment, proven worse by its thumbs, answers no more."""
    from data import statistics

    first, second = figures[:2]
    worse = statistics.two_arms(second.liked, second.rated, first.liked, first.rated)
    if worse < found.threshold:
        return ""
    reason = f"{second.model} is worse: {second.liked} of {second.rated} liked, against {first.liked} of {first.rated}"
    end(connection, found, "decided", reason)
    words = f"the experiment in {found.domain} ended early: {reason}"
    stages.tell(connection, found.domain, words)
    return words


def _widen(connection: Connection, found: Experiment, conversations: int) -> str:
    (champion, _), (canary, share) = found.arms
    if share >= SHARES[1] or conversations < CONVERSATIONS:
        return ""
    arms = [[champion, 1 - SHARES[1]], [canary, SHARES[1]]]
    connection.execute(update(r.experiment).where(r.experiment.c.id == found.id).values(arms=arms))
    version = stages.version(connection, found.version)
    words = f"{SHARES[1]:.0%} of the conversations after {conversations} without harm"
    stages.note(connection, version, "canary", "widen", GUARDIAN, words)
    return f"{version.name} answers {words}"


def end(connection: Connection, found: Experiment, state: str, outcome: str) -> Experiment:
    """End an experiment."""
    now = datetime.now(UTC)
    connection.execute(update(r.experiment).where(r.experiment.c.id == found.id).values(state=state, outcome=outcome, ended_at=now))
    row = connection.execute(select(r.experiment).where(r.experiment.c.id == found.id)).one()
    return stages.experiment_of(row)
