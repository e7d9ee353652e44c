"""From a verified export to its place: the user's own past prompts asked of it and of the champion, then the registry.

What was trained on is not replayed, but for corrections, which every later model must pass. The replay's gates go into the
registry with the version, so that `models explain` shows them. Not covered: how it is compared (`router.replay`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from data import exports
from data.errors import InputError
from data.store import artefacts
from data.store.versions import Gate
from tui.learn import dataset, mixing
from tui.learn.state import Held, State

if TYPE_CHECKING:
    from data.domains import Domain
    from data.store import Store
    from data.store.versions import Promotion
    from router.engines import Engines
    from router.replay import Replayed, Tell

OWN = ("replay: ", "the pack's rows", "your rows")
"""How the gates begin that the registry would not know from run and export."""


def replayed(state: State, name: str, store: "Store", engines: "Engines", domain: "Domain", tell: "Tell") -> "Replayed":
    """The domain's corrections and held-out prompts, asked of the champion (or the base) and of that export.

    Raises ModelError and EngineError where a model cannot be had at all.
    """
    from router import replay

    export = exports.read(exports.folder() / name)
    candidate = artefacts.reference(name, export)
    trained = dataset.trained(state.dataset)
    trained |= {row.text for row in dataset.said(store, domain).usable if row.group in trained}  # asked again elsewhere
    cases = (*replay.regressions(store, state.domain, trained), *replay.past(store, state.domain, trained))
    return replay.replay(engines, against(store, state.domain, export.base.reference), candidate, cases, tell)


def against(store: "Store", domain: str, base: str) -> str:
    """What answers the domain now: its champion, else the base."""
    from router.situation import BASE

    champion = mixing.champion_of(store, domain)
    return champion.model if champion else base or BASE


def gates_of(found: "Replayed") -> tuple[Held, ...]:
    """The gates of a replay."""
    return tuple(
        Held(
            name=f"replay: {one.name.removeprefix('replay: ')}",
            passed=one.passed,
            reached=one.reached,
            limit=one.limit,
            note=one.note,
        )
        for one in found.gates()
    )


def require_free(store: "Store", domain: str, to: str) -> None:
    """Raise InputError where the domain cannot get a canary, because something is on trial there already."""
    if to != "canary":
        return
    for one in store.experiments.running():
        if one.domain == domain:
            raise InputError(
                f"{domain} has the experiment {one.id[-8:]} running ({one.kind}), and one runs at a time",
                f"end it first: pointsman experiment stop {one.id[-8:]}; or learn with --to staging",
            )


def promoted(state: State, name: str, store: "Store") -> "Promotion":
    """Take the export in and bring it where the learn was asked to; what was done already is not done again.

    Raises as `Registry.register`, `Registry.promote` and `Experiments.canary`.
    """
    from router.situation import BASE
    from tui import lineage

    who, why = lineage.user(), f"learnt from {_rows(state)} ({state.id})"
    place = exports.folder() / name
    made, evidence = lineage.told(exports.read(place))
    evidence = replace(evidence, gates=(*evidence.gates, *_own(state.gates)))
    version = store.registry.register(place, lineage=made, evidence=evidence, who=who, why=why)
    if state.to == "canary":
        return store.experiments.canary(version.id, base=version.base or BASE, who=who, why=why)
    return store.registry.promote(version.id, to=state.to, who=who, why=why)


def _own(gates: Sequence[Held]) -> tuple[Gate, ...]:
    return tuple(Gate(one.name, one.passed, one.reached, one.limit, one.note) for one in gates if one.name.startswith(OWN))


def _rows(state: State) -> str:
    facts: Any = state.facts("dataset") or {}
    return f"{facts.get('volume', {}).get('rows', 0)} rows"
