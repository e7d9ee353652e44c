"""Changing which model answers a domain, and comparing two, as the verbs and the registry's screen do it.

Not covered: the gates and the swap themselves (data/store/registry.py, data/store/experiments.py).
"""

from typing import TYPE_CHECKING, Literal

from data.errors import NotFound
from tui import lineage

if TYPE_CHECKING:
    from data.config import Settings
    from data.store import Store
    from data.store.versions import Experiment, Promotion
    from router.engines import Engines

Target = Literal["champion", "canary", "staging"]


def promote(
    store: "Store", settings: "Settings", name: str, to: Target, *, domain: str = "", override: str = "", why: str = ""
) -> "Promotion":
    """Bring an export or a version to `to`, where its gates let it; an export is taken into the registry first.

    Raises as `lineage.registered`, `Registry.promote` and `Experiments.canary`.
    """
    who = lineage.user()
    version = lineage.registered(store, name, who=who, domain=domain, why=why)
    if to == "canary":
        return store.experiments.canary(version.id, base=version.base or base(settings), who=who, why=why, override=override)
    return store.registry.promote(version.id, to=to, who=who, why=why, override=override)


def compare(
    store: "Store", engines: "Engines", domain: str, first: str, second: str, *, paired: bool = False, why: str = ""
) -> "Experiment":
    """Begin an experiment; first and second are models, versions, or `champion`. Raises as `Experiments.start` and `resolve`."""
    models = [engines.resolve(meant(store, one, domain)).reference for one in (first, second)]
    return store.experiments.start(domain, *models, paired=paired, who=lineage.user(), why=why)


def meant(store: "Store", name: str, domain: str) -> str:
    """The model that a word means: the champion's, a version's, or the word itself."""
    if name == "champion":
        return store.registry.champion(domain).model
    try:
        return store.registry.get(name, domain).model
    except NotFound:
        return name


def base(settings: "Settings") -> str:
    """The model that answers where no champion does."""
    from router.situation import BASE

    return BASE if settings.model in ("", "auto") else settings.model


def said(found: "Promotion", to: Target) -> str:
    """What came of a promotion, in a line."""
    version = found.version
    if not found.passed and found.decision:
        failed = "; ".join(f"{gate.name}{f' ({gate.note})' if gate.note else ''}" for gate in found.decision.failed)
        return f"{version.name} stays a {version.stage} of {version.domain}; failed: {failed}"
    if not found.moved:
        return f"{version.name} is the {version.stage} of {version.domain} already"
    role = {"champion": "the champion", "canary": "the canary", "staging": "in staging as challenger"}[to]
    return f"{version.name} is {role} of {version.domain}{f', before it was {found.replaced.name}' if found.replaced else ''}"
