"""The recipe of a learn: the domain's own, or one that was given, on the champion's base and with the user's rows.

    rows        the learn's dataset beside the pack's own examples; validation: the held-out rows of both
    weight      the user's rows count so much more that they weigh as much as the pack's, MOST_OWN times at most
    stages      those of the recipe, and after them kto for thumbs down and dpo for corrections where there are enough of them; a
                stage that does harm is undone by the run itself
A recipe that was given keeps its stages and weights; one for no domain (`style`) goes on from the champion's adapter. Not covered:
training (`training`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data.domains import Domain
from data.errors import InputError, NotFound
from tui.learn.dataset import Gathered
from tui.learn.state import State

if TYPE_CHECKING:
    from data.store import Store
    from data.store.versions import Version
    from trainer.recipe import Recipe

MOST_OWN = 4.0
FEEDBACK_ROWS = 20
"""From which kto and dpo have something to learn."""
LOGGED = ("log", "approved")
"""Sources of a recipe in whose place the learn's dataset stands."""
OWN_FILE = "recipe.toml"
"""A recipe in a pack's own folder."""
KTO = {"kind": "kto", "epochs": 1, "batch": 8, "learning_rate": 1e-5, "beta": 0.1}
DPO = {"kind": "dpo", "epochs": 1, "batch": 8, "learning_rate": 2e-5, "beta": 0.1}


@dataclass(frozen=True, slots=True)
class Mixed:
    """recipe: the one to train by; notes: where it and its base come from, in words."""

    recipe: "Recipe"
    notes: tuple[str, ...]


def mixed(name: str, recipe: str, domain: Domain, gathered: Gathered, store: "Store") -> Mixed:
    """The recipe of a learn, called `name`; recipe: the one that was given, or "".

    Raises NotFound and InputError for one that was given and cannot be used.
    """
    from trainer import recipe as recipes

    found, whence, given = chosen(domain, recipe)
    base, why = base_of(found, domain, store)
    if not found.domain:
        base, why = _parent(base, why, domain, store)
    content = found.model_dump()
    content |= {"name": name, "domain": domain.name, "base": content["base"] | base}
    content["data"] = content["data"] | _data(found, str(gathered.folder))
    if not given:
        content["stages"] = [*_weighed(found, gathered), *_feedback(found, gathered)]
    return Mixed(recipes.validated(content, f"the recipe {found.name}"), (whence, why))


def chosen(domain: Domain, given: str) -> "tuple[Recipe, str, bool]":
    """The recipe to start from, whence it is in words, and whether it was given.

    That of the name or file given, else the pack's own recipe.toml, else the shipped one of the domain's name, else one for any.
    Raises NotFound and InputError for one that was given and is for another domain or cannot be read.
    """
    from trainer import recipe as recipes

    if given:
        found = recipes.load(given)
        if found.domain not in ("", domain.name):
            raise InputError(f"the recipe {found.name} is for {found.domain}, not for {domain.name}", "give another")
        return found, f"recipe: {given}, as it was given", True
    own = domain.folder / OWN_FILE
    if own.is_file():
        return recipes.load(str(own)), f"recipe: {domain.name}'s own {OWN_FILE}", False
    if domain.name in recipes.names():
        return recipes.load(domain.name), f"recipe: {domain.name}, as it is shipped", False
    return recipes.validated(_any(domain), "the recipe for any domain"), "recipe: the one for any domain", False


def base_of(found: "Recipe", domain: Domain, store: "Store") -> tuple[dict[str, Any], str]:
    """The base table's changes so that it is the champion's base, and why, in words."""
    from trainer import train

    champion = champion_of(store, domain.name)
    if champion is None:
        return {}, f"base: {found.base.model}, the recipe's ({domain.name} has no champion)"
    try:
        run = _run(champion)
        base = train.recipe_of(run).base
    except (NotFound, InputError):
        if champion.lineage.base == found.base.model:
            return {}, f"base: {found.base.model}, the champion's"
        return {}, f"base: {found.base.model}, the recipe's (the run of the champion {champion.name} is gone)"
    return {"model": base.model, "revision": base.revision}, f"base: {base.model}, the champion's ({champion.name})"


def _parent(base: dict[str, Any], why: str, domain: Domain, store: "Store") -> tuple[dict[str, Any], str]:
    """A recipe for no domain, such as `style`, goes on from the champion's adapter: what that can do is its parent."""
    champion = champion_of(store, domain.name)
    if champion is None:
        return base, why
    try:
        run = _run(champion)
    except (NotFound, InputError):
        return base, why
    return base | {"adapter": str(run)}, f"{why}; from the adapter of {champion.name}"


def champion_of(store: "Store", domain: str) -> "Version | None":
    """The champion of a domain; None where it has none."""
    return store.registry.aliases(domain).get("champion")


def run_name(state: State) -> str:
    """The name that the run of a learn has, which no other run has."""
    return f"{state.domain[:30]}-learn-{state.id[-6:]}"


def _run(champion: "Version") -> Any:
    from trainer import run_folder

    return run_folder.find(champion.lineage.run)


def _data(found: "Recipe", dataset: str) -> dict[str, Any]:
    train = [one for one in found.data.train if one not in LOGGED]
    validation = [one for one in found.data.validation if one not in (*LOGGED, "pack")]
    return {"train": [*train, dataset], "validation": [*validation, dataset, "pack"], "pack": True, "contract": found.data.contract}


def _weighed(found: "Recipe", gathered: Gathered) -> Sequence[dict[str, Any]]:
    """The recipe's stages, in which the user's rows weigh as much as the pack's."""
    own = max(1.0, min(MOST_OWN, gathered.volume.pack / max(1, gathered.volume.lessons)))
    stages = [stage.model_dump() for stage in found.stages]
    for stage in stages:
        if stage["kind"] == "sft" and stage["loss"]["own"] == 1.0:
            stage["loss"] = stage["loss"] | {"own": round(own, 2)}
    return stages


def _feedback(found: "Recipe", gathered: Gathered) -> Sequence[dict[str, Any]]:
    """kto and dpo where the recipe has none of them and there is enough for them."""
    kinds = {stage.kind for stage in found.stages}
    pairs = gathered.kinds.get("corrections", 0) + gathered.kinds.get("preferences", 0)
    added = []
    if "kto" not in kinds and min(gathered.kinds.get("thumbs down", 0), gathered.volume.good) >= FEEDBACK_ROWS:
        added.append(KTO)
    if "dpo" not in kinds and pairs >= FEEDBACK_ROWS:
        added.append(DPO)
    return added


def _any(domain: Domain) -> dict[str, Any]:
    """A recipe for a pack that has none: that of the shipped packs with labels, or of free answers."""
    usual: dict[str, Any] = {"kind": "sft", "batch": 16, "rehearse": 1.0, "evaluate_every": 0.25}
    if domain.labels:
        usual |= {"epochs": 8, "learning_rate": 1e-3, "best": "macro_f1", "loss": {"label_share": 0.9}}
    else:
        usual |= {"epochs": 4, "batch": 8, "learning_rate": 4e-4, "rehearse": 4.0}
    return {"name": domain.name, "domain": domain.name, "stages": [usual]}
