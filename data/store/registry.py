"""The registry of model versions: candidate, staging, canary, champion, retired, and how a version gets from one to the next.

    version = store.registry.register(folder, lineage=..., evidence=..., who="me")
    store.registry.promote(version.id, who="me", why="better on 48 rows")
    store.registry.rollback("triage", who="me", why="too many refusals")
A promotion holds all gates against the version, reads its files, and swaps the champion in one transaction, which a constraint of
the database lets have one winner. Everything is noted with who and why, and nothing noted is ever changed. Not covered: trying a
version on a share of the conversations (canary.py), and comparing two (experiments.py).
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, select, update

from data.errors import InputError, ModelInvalid, NotFound, PointsmanError
from data.sanitise import one_line
from data.store import artefacts, stages
from data.store import registry_tables as r
from data.store import tables as t
from data.store.database import Database
from data.store.ids import new_id
from data.store.versions import (
    Alias,
    Evidence,
    Explanation,
    File,
    Gate,
    GateDecision,
    Lineage,
    Notice,
    Promotion,
    Rollback,
    StageEvent,
    Version,
)

Target = Literal["staging", "champion"]


class Registry:
    """Versions and their transitions. A version is named by its name, its id or the end of that. Any thread may call.

    Methods that change something take who does it and why; both are kept for good. All raise NotFound for a version that there
    is not.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, folder: Path, *, lineage: Lineage, evidence: Evidence, who: str, why: str = "", domain: str = "") -> Version:
        """Take an export in as a candidate of its domain; the same files again are the same version, which stays as it is.

        Raises NotFound where the folder is no export, InputError where it names no domain, lies elsewhere or is damaged,
        ModelMissing and ModelInvalid where its files are not what its export.json says.
        """
        export, kept = artefacts.read(folder)
        domain = domain or export.domain
        if not domain:
            raise InputError(f"the export {folder.name} names no domain", "name one: --domain")
        made = Version(
            new_id(),
            folder.name,
            domain,
            artefacts.reference(folder.name, export),
            export.base.reference,
            "candidate",
            artefacts.digest(domain, folder.name, kept),
            export.chosen,
            tuple(File(**one) for one in kept["files"]),
            lineage,
            evidence,
            datetime.now(UTC),
        )
        artefacts.verify(made)
        with self._database.write() as connection:
            return self._insert(connection, made, kept, who, why)

    def measured(self, key: str, evidence: Evidence, *, who: str, why: str) -> Version:
        """Let a version stand on other evidence than it came with: of one that was imported, what was measured here."""
        with self._database.write() as connection:
            found = stages.version(connection, key)
            table = r.model_version
            connection.execute(update(table).where(table.c.id == found.id).values(evidence=asdict(evidence)))
            found = replace(found, evidence=evidence)
            stages.note(connection, found, found.stage, "measure", who, why)
            if evidence.pairs:
                stages.evaluated(connection, found)
        return found

    def get(self, key: str, domain: str = "") -> Version:
        """A version by name (the newest of that name), id or a part of one."""
        with self._database.read() as connection:
            return stages.version(connection, key, domain)

    def versions(self, domain: str = "") -> list[Version]:
        """All versions, oldest first."""
        with self._database.read() as connection:
            return stages.versions(connection, domain)

    def champions(self) -> list[Version]:
        """The champion of each domain that has one."""
        with self._database.read() as connection:
            rows = connection.execute(select(r.model_version).where(r.model_version.c.stage == "champion"))
            return [stages.version_of(row) for row in rows]

    def aliases(self, domain: str) -> dict[str, Version]:
        """What champion, challenger, canary and previous mean in a domain; only those that name something."""
        with self._database.read() as connection:
            return stages.aliases(connection, domain)

    def champion(self, domain: str) -> Version:
        """The champion of a domain; raises NotFound where it has none."""
        found = self.aliases(domain).get("champion")
        if found is None:
            raise NotFound(f"{one_line(domain, 80)!r} has no champion", "make one: pointsman models promote NAME")
        return found

    def verify(self, key: str) -> Version:
        """Read all files of a version and compare them. Raises ModelMissing, ModelInvalid."""
        found = self.get(key)
        artefacts.export_of(found)
        artefacts.verify(found)
        return found

    def promote(self, key: str, *, who: str, why: str, override: str = "", to: Target = "champion", domain: str = "") -> Promotion:
        """Bring a version to `to`, where its gates let it; otherwise the decision is kept, and nothing else changes.

        override: the reason why failed gates are passed over. Its files are read first, and no reason passes over damaged ones.
        The champion before becomes `previous`; what runs in the domain as experiment or canary ends. Raises ModelMissing,
        ModelInvalid for the files, InputError where another process changed the champion meanwhile.
        """
        with self._database.read() as connection:
            found = stages.version(connection, key, domain)
            before = stages.aliases(connection, found.domain).get("champion")
        if found.stage == to:
            artefacts.verify(found)
            return Promotion(found, self._decision_behind(found), moved=False)
        if to == "staging" and found.stage in ("champion", "canary"):
            raise InputError(f"{found.name} is the {found.stage} of {found.domain} already", "roll it back, or stop its experiment")
        gates = artefacts.checks(artefacts.export_of(found))
        state = artefacts.verify(found)
        damaged = _damage(before) if before and to == "champion" else ""
        with self._database.write() as connection:
            stages.hold(connection, found.domain)
            if not artefacts.unchanged(found, state):
                raise ModelInvalid(f"the files of {found.name} were touched while they were read", "promote it again")
            now = stages.version(connection, found.id)
            _same_champion(connection, found.domain, before)
            made = stages.decide(connection, now, before.id if before else "", held(connection, now, gates), override.strip(), who)
            if not (made.passed or made.override):
                return Promotion(now, made, moved=False)
            said = f"{why}; gates passed over: {made.override}" if not made.passed else why
            if to == "staging":
                stages.move(connection, now, "staging", "promote", who, said, made.id)
                stages.point(connection, now.domain, "challenger", now.id)
            else:
                crown(connection, now, before, who, said, made.id)
            return Promotion(replace(now, stage=to), made, True, before if to == "champion" else None, damaged)

    def rollback(self, domain: str, *, who: str, why: str, to_base: bool = False) -> Rollback:
        """Take the champion back and restore the one before it, whose files are read first; to_base: none, so the base answers.

        Raises NotFound where there is no champion or none before it, ModelMissing, ModelInvalid where the files of that one are
        not what they were, InputError where another process changed the champion meanwhile.
        """
        champion = self.champion(domain)
        previous = None if to_base else self.aliases(domain).get("previous")
        if previous is None and not to_base:
            raise NotFound(
                f"no champion of {one_line(domain, 80)!r} stood before {champion.name}", "--to-base lets the base answer again"
            )
        state = artefacts.verify(previous) if previous else {}
        with self._database.write() as connection:
            stages.hold(connection, domain)
            _same_champion(connection, domain, champion)
            if previous and not artefacts.unchanged(previous, state):
                raise ModelInvalid(f"the files of {previous.name} were touched while they were read", "roll back again")
            stages.end_experiments(connection, domain, f"{champion.name} was rolled back")
            _leave_canary(connection, domain, who)
            stages.move(connection, champion, "retired", "rollback", who, why)
            if previous:
                now = stages.version(connection, previous.id)
                stages.move(connection, now, "champion", "return", who, why, _promoted_by(connection, now))
            stages.point(connection, domain, "champion", previous.id if previous else None)
            stages.point(connection, domain, "previous", _before(connection, domain, previous) if previous else None)
        return Rollback(replace(previous, stage="champion") if previous else None, replace(champion, stage="retired"))

    def retire(self, key: str, *, who: str, why: str) -> Version:
        """Take a version out of use that does not answer now. Raises InputError for a champion and a canary."""
        with self._database.write() as connection:
            found = stages.version(connection, key)
            stages.hold(connection, found.domain)
            if found.stage in ("champion", "canary"):
                raise InputError(
                    f"{found.name} is the {found.stage} of {found.domain}", "roll it back, or stop its experiment first"
                )
            stages.move(connection, found, "retired", "retire", who, why)
            challenger = stages.aliases(connection, found.domain).get("challenger")
            if challenger and challenger.id == found.id:
                stages.point(connection, found.domain, "challenger", None)
        return replace(found, stage="retired")

    def history(self, domain: str = "", key: str = "") -> list[StageEvent]:
        """Every transition of a domain or of a version, oldest first."""
        with self._database.read() as connection:
            whole = stages.version(connection, key).id if key else ""
            return stages.events(connection, domain=domain, key=whole)

    def explain(self, key: str) -> Explanation:
        """Why a version stands where it stands; `key` may be a domain, which means its champion."""
        with self._database.read() as connection:
            named = stages.aliases(connection, key)
            found = named.get("champion") or stages.version(connection, key)
            events = stages.events(connection, key=found.id)
            decided = next((one.decision for one in reversed(events) if one.decision), "")
            previous = stages.aliases(connection, found.domain).get("previous")
            return Explanation(found, events[-1], stages.decision(connection, decided), previous)

    def decisions(self, key: str) -> list[GateDecision]:
        """All gate decisions about a version, refusals too, oldest first."""
        with self._database.read() as connection:
            whole = stages.version(connection, key).id
            query = select(r.gate_decision.c.id).where(r.gate_decision.c.version_id == whole).order_by(r.gate_decision.c.id)
            found = [stages.decision(connection, one) for one in connection.execute(query).scalars()]
            return [one for one in found if one]

    def notices(self, seen: bool = True) -> list[Notice]:
        """What happened by itself and was not shown yet, oldest first; seen: from now on it was."""
        table = r.notice
        query = select(table).where(table.c.shown_at.is_(None)).order_by(table.c.id)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        if rows and seen:
            with self._database.write() as connection:
                shown = update(table).where(table.c.id.in_([row.id for row in rows])).values(shown_at=datetime.now(UTC))
                connection.execute(shown)
        return [Notice(row.id, row.domain, row.text, row.created_at) for row in rows]

    def _insert(self, connection: Connection, made: Version, kept: dict[str, object], who: str, why: str) -> Version:
        values = {
            "id": made.id,
            "name": made.name,
            "domain": made.domain,
            "model": made.model,
            "base": made.base,
            "stage": made.stage,
            "sha256": made.sha256,
            "artefact": kept,
            "lineage": asdict(made.lineage),
            "evidence": asdict(made.evidence),
            "created_at": made.at,
        }
        if not t.insert_once(connection, r.model_version, "sha256", values):
            row = connection.execute(select(r.model_version).where(r.model_version.c.sha256 == made.sha256)).one()
            return stages.version_of(row)
        stages.note(connection, replace(made, stage="candidate"), "candidate", "register", who, why)
        if made.evidence.pairs:
            stages.evaluated(connection, made)
        return made

    def _decision_behind(self, found: Version) -> GateDecision | None:
        with self._database.read() as connection:
            return stages.decision(connection, _promoted_by(connection, found) or "")


def held(connection: Connection, found: Version, checks: Sequence[Gate]) -> list[Gate]:
    """Every gate before a version may answer anybody: the run's word and gates, the proof against the base, the export's checks,
    and what became of it before."""
    proof = found.evidence
    said = {True: "", False: "the run did not pass its gates", None: "the run does not tell whether it passed"}[proof.passed]
    bound = proof.lower if proof.pairs else None
    against = f"{proof.gain:+.1%} on {proof.pairs} held-out rows" if proof.pairs else "it was never compared with its base"
    fallen = [one for one in stages.events(connection, key=found.id) if one.action == "rollback"]
    return [
        Gate("run", proof.passed is True, note=said),
        *proof.gates,
        Gate("better than the base", bool(proof.pairs) and proof.lower > 0, bound, 0.0, against),
        *checks,
        Gate("not taken back before", not fallen, note=f"taken back: {fallen[-1].why}" if fallen else ""),
        Gate("files", True, note=f"{len(found.files)} files have the SHA-256 that was registered"),
    ]


def crown(connection: Connection, found: Version, before: Version | None, who: str, why: str, decision: str) -> None:
    """Make a version the champion, and the one before it previous."""
    stages.end_experiments(connection, found.domain, f"{found.name} became the champion")
    if before:
        stages.move(connection, before, "retired", "replace", who, f"{found.name} took its place")
    stages.move(connection, found, "champion", "promote", who, why, decision)
    named = stages.aliases(connection, found.domain)
    roles: tuple[Alias, ...] = ("challenger", "canary")
    for name in roles:
        if name in named and named[name].id == found.id:
            stages.point(connection, found.domain, name, None)
    _leave_canary(connection, found.domain, who)
    stages.point(connection, found.domain, "champion", found.id)
    stages.point(connection, found.domain, "previous", before.id if before else None)


def _leave_canary(connection: Connection, domain: str, who: str) -> None:
    """A canary was on trial against a champion that is no more: it waits in staging."""
    canary = stages.aliases(connection, domain).get("canary")
    if canary is None:
        return
    stages.move(connection, canary, "staging", "return", who, "the champion that it was on trial against is another now")
    stages.point(connection, domain, "canary", None)


def _same_champion(connection: Connection, domain: str, before: Version | None) -> None:
    now = stages.aliases(connection, domain).get("champion")
    if (now.id if now else "") != (before.id if before else ""):
        named = f"{now.name} is the champion now" if now else "it has none now"
        raise InputError(
            f"the champion of {domain} was changed meanwhile: {named}", "look, and decide again: pointsman models history"
        )


def _promoted_by(connection: Connection, found: Version) -> str | None:
    """The id of the gate decision that last let a version through."""
    return next((one.decision for one in reversed(stages.events(connection, key=found.id)) if one.decision), None)


def _before(connection: Connection, domain: str, champion: Version) -> str | None:
    """The id of the newest earlier champion that was never taken back."""
    events = stages.events(connection, domain=domain)
    fallen = {one.version for one in events if one.action == "rollback"}
    first = next((at for at, one in enumerate(events) if one.version == champion.id and one.to_stage == "champion"), 0)
    earlier = (one.version for one in reversed(events[:first]) if one.to_stage == "champion")
    return next((one for one in earlier if one not in fallen and one != champion.id), None)


def _damage(version: Version) -> str:
    try:
        artefacts.verify(version)
    except PointsmanError as fault:
        return str(fault)
    return ""
