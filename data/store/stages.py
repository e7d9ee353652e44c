"""The steps of a transition, each within the caller's transaction: reading versions, moving one to a stage, setting aliases.

A domain's transitions happen one after another: `hold` is taken first. Not covered: the rules (registry.py, canary.py).
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import Connection, Row, delete, insert, or_, select, text, update

from data.errors import NotFound, StoreDamaged
from data.sanitise import one_line
from data.store import registry_tables as r
from data.store import tables as t
from data.store.ids import new_id
from data.store.versions import (
    Alias,
    Evidence,
    Experiment,
    File,
    Gate,
    GateDecision,
    Lineage,
    Stage,
    StageEvent,
    Version,
)

RULES = "1"
"""The version of the rules by which decisions are taken."""
_SHORTEST = 4  # hex digits of an abbreviated id


def hold(connection: Connection, domain: str) -> None:
    """Keep other transitions of the domain out until the transaction ends; a write transaction on SQLite does so already."""
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(f"registry {domain}".encode()).digest()[:8], "big", signed=True)
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def version(connection: Connection, key: str, domain: str = "") -> Version:
    """By name (the newest of that name), id or a part of one. Raises NotFound."""
    table = r.model_version
    query = select(table).where(or_(table.c.name == key, table.c.id == key)).order_by(table.c.id.desc())
    if domain:
        query = query.where(table.c.domain == domain)
    row = connection.execute(query).first()
    if row is None and len(key) >= _SHORTEST and not set(key.lower()) - set("0123456789abcdef"):
        fits = or_(table.c.id.like(f"{key.lower()}%"), table.c.id.like(f"%{key.lower()}"))
        found = connection.execute(select(table).where(fits).limit(2)).all()
        row = found[0] if len(found) == 1 else None
    if row is None:
        where = f" for {one_line(domain, 80)}" if domain else ""
        raise NotFound(f"the registry knows no version {one_line(key, 80)!r}{where}", "see: pointsman models history")
    return version_of(row)


def versions(connection: Connection, domain: str = "") -> list[Version]:
    """All versions, of one domain where it is given, oldest first."""
    query = select(r.model_version).order_by(r.model_version.c.id)
    if domain:
        query = query.where(r.model_version.c.domain == domain)
    return [version_of(row) for row in connection.execute(query)]


def aliases(connection: Connection, domain: str) -> dict[str, Version]:
    """The versions that a domain's aliases name."""
    query = (
        select(r.alias.c.name.label("alias_name"), r.model_version)
        .join_from(r.alias, r.model_version, r.model_version.c.id == r.alias.c.version_id)
        .where(r.alias.c.domain == domain)
    )
    return {row.alias_name: version_of(row) for row in connection.execute(query)}


def point(connection: Connection, domain: str, name: Alias, to: str | None) -> None:
    """Let an alias name that version, or none."""
    table = r.alias
    connection.execute(delete(table).where(table.c.domain == domain, table.c.name == name))
    if to is not None:
        connection.execute(insert(table).values(domain=domain, name=name, version_id=to, updated_at=datetime.now(UTC)))


def move(
    connection: Connection, found: Version, to: Stage, action: str, who: str, why: str, decision: str | None = None
) -> StageEvent:
    """Bring a version to a stage and note it. The old champion leaves before the new one comes: the database allows one."""
    connection.execute(update(r.model_version).where(r.model_version.c.id == found.id).values(stage=to))
    return note(connection, found, to, action, who, why, decision)


def note(
    connection: Connection, found: Version, to: str, action: str, who: str, why: str, decision: str | None = None
) -> StageEvent:
    """Add to the history."""
    event = StageEvent(
        new_id(), found.id, found.name, found.domain, action, found.stage, to, who, why, decision or "", datetime.now(UTC)
    )
    connection.execute(
        insert(r.stage_event).values(
            id=event.id,
            version_id=found.id,
            domain=found.domain,
            action=action,
            from_stage=found.stage,
            to_stage=to,
            who=who,
            why=why,
            gate_decision_id=decision or None,
            created_at=event.at,
        )
    )
    return event


def decide(connection: Connection, found: Version, champion: str, gates: Sequence[Gate], override: str, who: str) -> GateDecision:
    """Keep a gate decision: passed where no gate failed."""
    passed = all(gate.passed is not False for gate in gates)
    made = GateDecision(new_id(), found.id, champion, RULES, tuple(gates), passed, override, who, datetime.now(UTC))
    connection.execute(
        insert(r.gate_decision).values(
            id=made.id,
            version_id=found.id,
            champion_id=champion or None,
            rules=RULES,
            gates=[plain_gate(gate) for gate in gates],
            passed=passed,
            override=override,
            who=who,
            created_at=made.at,
        )
    )
    return made


def decision(connection: Connection, key: str) -> GateDecision | None:
    """The decision of that id; None for ""."""
    row = connection.execute(select(r.gate_decision).where(r.gate_decision.c.id == key)).first() if key else None
    if row is None:
        return None
    return GateDecision(
        row.id,
        row.version_id,
        row.champion_id or "",
        row.rules,
        tuple(_parsed(Gate, one) for one in row.gates),
        row.passed,
        row.override,
        row.who,
        row.created_at,
    )


def events(connection: Connection, *, domain: str = "", key: str = "") -> list[StageEvent]:
    """The history of a domain, of a version (whole id), or of all, oldest first."""
    query = select(r.stage_event, r.model_version.c.name).join_from(
        r.stage_event, r.model_version, r.model_version.c.id == r.stage_event.c.version_id
    )
    if domain:
        query = query.where(r.stage_event.c.domain == domain)
    if key:
        query = query.where(r.stage_event.c.version_id == key)
    return [
        StageEvent(
            row.id,
            row.version_id,
            row.name,
            row.domain,
            row.action,
            row.from_stage,
            row.to_stage,
            row.who,
            row.why,
            row.gate_decision_id or "",
            row.created_at,
        )
        for row in connection.execute(query.order_by(r.stage_event.c.id))
    ]


def end_experiments(connection: Connection, domain: str, outcome: str) -> None:
    """End what runs in the domain, since what its arms are compared with has changed."""
    table = r.experiment
    connection.execute(
        update(table)
        .where(table.c.domain == domain, table.c.state == "running")
        .values(state="stopped", outcome=outcome, ended_at=datetime.now(UTC))
    )


def tell(connection: Connection, domain: str, words: str) -> None:
    """Leave a notice for the user."""
    connection.execute(insert(r.notice).values(id=new_id(), domain=domain, text=words, created_at=datetime.now(UTC)))


def plain_gate(gate: Gate) -> dict[str, Any]:
    """As it is stored."""
    return {name: getattr(gate, name) for name in Gate.__dataclass_fields__}


def version_of(row: Row[Any]) -> Version:
    """From a row that holds all columns of model_version. Raises StoreDamaged."""
    evidence = dict(row.evidence)
    gates = tuple(_parsed(Gate, one) for one in evidence.pop("gates", ()))
    return Version(
        row.id,
        row.name,
        row.domain,
        row.model,
        row.base,
        cast(Stage, row.stage),
        row.sha256,
        str(row.artefact.get("chosen", "")),
        tuple(_parsed(File, one) for one in row.artefact.get("files", ())),
        _parsed(Lineage, row.lineage),
        _parsed(Evidence, evidence | {"gates": gates}),
        row.created_at,
    )


def experiment_of(row: Row[Any]) -> Experiment:
    """From a row of experiment. Raises StoreDamaged."""
    try:
        arms = tuple((str(model), float(share)) for model, share in row.arms)
    except (TypeError, ValueError) as error:
        raise StoreDamaged(f"the arms of the experiment {row.id} are damaged", "run pointsman doctor") from error
    return Experiment(
        row.id,
        row.domain,
        row.kind,
        arms,
        row.salt,
        row.state,
        row.who,
        row.why,
        row.outcome,
        row.version_id or "",
        row.baseline,
        row.threshold,
        row.started_at,
        row.ended_at,
    )


def evaluated(connection: Connection, found: Version) -> None:
    """Let the router know how a version did against its base, as `Routing.evaluated` does."""
    proof = found.evidence
    connection.execute(
        insert(t.evaluation).values(
            id=new_id(),
            model=found.model,
            base=found.base,
            domain=found.domain,
            pairs=proof.pairs,
            gain=proof.gain,
            lower=proof.lower,
            created_at=datetime.now(UTC),
        )
    )


def _parsed(kind: Any, stored: Any) -> Any:
    try:
        return kind(**stored)
    except TypeError as error:
        raise StoreDamaged(f"a {kind.__name__.lower()} in the registry is damaged: {error}", "run pointsman doctor") from error
