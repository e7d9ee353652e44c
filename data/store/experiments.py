"""Experiments: which models answer a domain's conversations by lot, who drew which, and what the answers prove.

    ab       both arms answer, each a half of the conversations
    paired   nothing is drawn: both answer one question side by side on demand, and the user says blindly which is better
    canary   a version on a small share beside the champion, guarded (canary.py)
A conversation draws by the hash of the experiment's salt and its id, once: the draw is kept and holds across restarts. One
experiment runs in a domain at a time. Not covered: the drawing itself (router/policy.py) and the statistics (`data.statistics`).
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Connection, func, insert, or_, select

from data.errors import InputError, ModelInvalid, NotFound
from data.sanitise import one_line
from data.store import artefacts, canary, evidence, registry, stages
from data.store import registry_tables as r
from data.store.canary import Crash
from data.store.database import Database
from data.store.ids import new_id
from data.store.versions import Drawn, Experiment, Kind, Promotion, Status

LIMIT = 20_000  # answers beyond which no end is in sight
_HEX = set("0123456789abcdef")


class Experiments:
    """Experiments of every domain. An experiment is named by its domain (the one running, else the newest), its id or the end of
    that; methods raise NotFound for one that there is not. Any thread may call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, domain: str, first: str, second: str, *, paired: bool = False, who: str, why: str = "") -> Experiment:
        """Begin to compare two models (`engine/name`) in a domain; first: what answers now.

        Raises InputError where both are the same or something runs in the domain already.
        """
        if not domain or not first or not second or first == second:
            raise InputError("an experiment compares two different models in a domain", "name both, and --domain")
        share = 0.0 if paired else 0.5
        with self._database.write() as connection:
            return _begin(connection, domain, "paired" if paired else "ab", ((first, share), (second, share)), who, why)

    def canary(self, key: str, *, base: str, who: str, why: str, override: str = "", domain: str = "") -> Promotion:
        """Let a version answer a tenth of its domain's conversations, behind the same gates as a promotion.

        base: the model beside it where the domain has no champion. Raises as `Registry.promote`, and InputError where something
        runs in the domain already.
        """
        with self._database.read() as connection:
            found = stages.version(connection, key, domain)
        if found.stage in ("canary", "champion"):
            artefacts.verify(found)
            return Promotion(found, None, moved=False)
        checks = artefacts.checks(artefacts.export_of(found))
        state = artefacts.verify(found)
        with self._database.write() as connection:
            stages.hold(connection, found.domain)
            if not artefacts.unchanged(found, state):
                raise ModelInvalid(f"the files of {found.name} were touched while they were read", "try it again")
            now = stages.version(connection, found.id)
            champion = stages.aliases(connection, now.domain).get("champion")
            gates = registry.held(connection, now, checks)
            made = stages.decide(connection, now, champion.id if champion else "", gates, override.strip(), who)
            if not (made.passed or made.override):
                return Promotion(now, made, moved=False)
            share = canary.SHARES[0]
            arms = ((champion.model if champion else base, 1 - share), (now.model, share))
            _begin(connection, now.domain, "canary", arms, who, why, now.id)
            said = f"{why}; gates passed over: {made.override}" if not made.passed else why
            stages.move(connection, now, "canary", "promote", who, said, made.id)
            stages.point(connection, now.domain, "canary", now.id)
            return Promotion(replace(now, stage="canary"), made, moved=True)

    def running(self) -> list[Experiment]:
        """Those that run, of all domains."""
        with self._database.read() as connection:
            return _running(connection)

    def all(self, domain: str = "") -> list[Experiment]:
        """Every experiment, oldest first."""
        query = select(r.experiment).order_by(r.experiment.c.id)
        if domain:
            query = query.where(r.experiment.c.domain == domain)
        with self._database.read() as connection:
            return [stages.experiment_of(row) for row in connection.execute(query)]

    def drawn(self, conversation: str) -> list[Drawn]:
        """What a conversation drew, in all experiments."""
        table = r.assignment
        with self._database.read() as connection:
            rows = connection.execute(select(table).where(table.c.conversation_id == conversation).order_by(table.c.experiment_id))
            return [Drawn(row.experiment_id, row.arm, row.propensity) for row in rows]

    def draw(self, experiment: str, conversation: str, arm: str, propensity: float) -> Drawn:
        """Keep what a conversation drew; the first draw counts, and is returned."""
        table = r.assignment
        mine = (table.c.experiment_id == experiment) & (table.c.conversation_id == conversation)
        with self._database.write() as connection:
            row = connection.execute(select(table).where(mine)).first()
            if row is None:
                values = {"experiment_id": experiment, "conversation_id": conversation, "arm": arm, "propensity": propensity}
                connection.execute(insert(table).values(**values, created_at=datetime.now(UTC)))
                return Drawn(experiment, arm, propensity)
        return Drawn(experiment, row.arm, row.propensity)

    def get(self, key: str) -> Experiment:
        """One experiment."""
        with self._database.read() as connection:
            return _found(connection, key)

    def status(self, key: str) -> Status:
        """The evidence of an experiment so far; it may be looked at as often as one likes."""
        from data import statistics  # here: routing needs none of it

        with self._database.read() as connection:
            found = _found(connection, key)
            arms, pairs = evidence.arms(connection, found), evidence.pairs(connection, found)
            slower, longer = evidence.differences(connection, found)
        if found.kind == "paired":
            better, worse = statistics.paired(pairs.wins, pairs.losses), statistics.paired(pairs.losses, pairs.wins)
            more = statistics.more_pairs(max(pairs.wins, pairs.losses), min(pairs.wins, pairs.losses), found.threshold)
        else:
            a, b = arms[:2]
            better = statistics.two_arms(a.liked, a.rated, b.liked, b.rated)
            worse = statistics.two_arms(b.liked, b.rated, a.liked, a.rated)
            more = _more((a.liked, a.rated), (b.liked, b.rated), found.threshold)
            if found.kind == "canary":
                worse = canary.guard(found, b)
        return Status(found, arms, pairs, better, worse, slower, longer, more, _verdict(found, better, worse))

    def stop(self, key: str, *, who: str, why: str = "") -> Experiment:
        """End an experiment; a canary goes back to staging. Raises InputError where it has ended already."""
        with self._database.write() as connection:
            found = _found(connection, key)
            stages.hold(connection, found.domain)
            found = _found(connection, found.id)
            if found.state != "running":
                raise InputError(f"the experiment {found.id[-8:]} has ended: {found.outcome}", "see: pointsman experiment status")
            if found.version:
                version = stages.version(connection, found.version)
                stages.move(connection, version, "staging", "return", who, why or "its trial was stopped")
                stages.point(connection, found.domain, "canary", None)
            return canary.end(connection, found, "stopped", why or f"stopped by {who}")

    def watch(self, crash: Crash | None = None) -> list[str]:
        """Hold the guards against everything that runs; what was done, in words. Cheap where nothing runs."""
        done = []
        for one in self.running():
            if one.kind == "paired":
                continue
            with self._database.write() as connection:
                stages.hold(connection, one.domain)
                now = _found(connection, one.id)
                words = canary.watch(connection, now, crash) if now.state == "running" else ""
            done += [words] if words else []
        return done


def _begin(
    connection: Connection,
    domain: str,
    kind: Kind,
    arms: tuple[tuple[str, float], ...],
    who: str,
    why: str,
    version: str = "",
) -> Experiment:
    from data import statistics

    stages.hold(connection, domain)
    table = r.experiment
    for one in _running(connection):
        if one.domain == domain:
            raise InputError(
                f"{one_line(domain, 80)} has the experiment {one.id[-8:]} running ({one.kind})",
                f"end it first: pointsman experiment stop {one.id[-8:]}",
            )
    now = datetime.now(UTC)
    quarter = datetime(now.year, 3 * ((now.month - 1) // 3) + 1, 1, tzinfo=UTC)
    query = select(func.count()).where(table.c.domain == domain, table.c.started_at >= quarter)
    earlier = connection.execute(query.select_from(table)).scalar() or 0
    threshold = statistics.threshold(earlier + 1)
    baseline = evidence.usual_rate(connection, domain, arms[0][0])
    made = Experiment(
        new_id(), domain, kind, arms, secrets.token_hex(16), "running", who, why, "", version, baseline, threshold, now, None
    )
    connection.execute(
        insert(table).values(
            id=made.id,
            domain=domain,
            kind=kind,
            arms=[list(arm) for arm in arms],
            salt=made.salt,
            state="running",
            who=who,
            why=why,
            outcome="",
            version_id=version or None,
            baseline=baseline,
            threshold=threshold,
            started_at=now,
        )
    )
    return made


def _running(connection: Connection) -> list[Experiment]:
    rows = connection.execute(select(r.experiment).where(r.experiment.c.state == "running").order_by(r.experiment.c.id))
    return [stages.experiment_of(row) for row in rows]


def _found(connection: Connection, key: str) -> Experiment:
    table = r.experiment
    exact = or_(table.c.id == key, table.c.domain == key)
    row = connection.execute(select(table).where(exact).order_by(table.c.state != "running", table.c.id.desc())).first()
    wanted = key.strip().lower()
    if row is None and len(wanted) >= 4 and not set(wanted) - _HEX:
        fits = or_(table.c.id.like(f"{wanted}%"), table.c.id.like(f"%{wanted}"))
        rows = connection.execute(select(table).where(fits).limit(2)).all()
        row = rows[0] if len(rows) == 1 else None
    if row is None:
        raise NotFound(f"there is no experiment {one_line(key, 80)!r}", "see: pointsman experiment status")
    return stages.experiment_of(row)


def _more(first: tuple[int, int], second: tuple[int, int], threshold: float) -> int | None:
    """About how many more rated conversations decide, if both arms go on as they do; None where that is not in sight."""
    from data import statistics

    def decided(scale: float) -> bool:
        a, b = ([round(one * scale) for one in arm] for arm in (first, second))
        tests: Sequence[Callable[[], float]] = (
            lambda: statistics.two_arms(a[0], a[1], b[0], b[1]),
            lambda: statistics.two_arms(b[0], b[1], a[0], a[1]),
        )
        return any(test() >= threshold for test in tests)

    rated = first[1] + second[1]
    if not first[1] or not second[1]:
        return None
    scale = 1.0
    while rated * scale <= LIMIT:
        if decided(scale):
            return round(rated * (scale - 1))
        scale *= 1.1
    return None


def _verdict(found: Experiment, better: float, worse: float) -> str:
    if found.state == "harmful":
        return found.outcome
    second = found.arms[1][0]
    if worse >= (canary.GUARD if found.kind == "canary" else found.threshold):
        return f"{second} is worse"
    if better >= found.threshold:
        return f"{second} is better"
    return "nothing is proven yet"
