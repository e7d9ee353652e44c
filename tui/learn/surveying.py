"""What a learn would do, without doing it: the rows and what was left out, what is missing, the recipe, the time.

The dataset is built as a learn would build it, into the cache folder, and removed afterwards. Not covered: showing it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data import domains, paths
from data.domains import Domain
from data.errors import PointsmanError
from tui.learn import dataset, enough, mixing
from tui.learn import state as states
from tui.learn.dataset import Gathered

if TYPE_CHECKING:
    from data.store import Store
    from trainer.estimate import Estimate
    from trainer.events import Tell
    from trainer.recipe import Recipe


@dataclass(frozen=True)
class Survey:
    """fresh: rows since the last learn; missing: what is missing, in words; notes: on recipe and base, and why there is no
    estimate; under_way: the learn that would be gone on with."""

    domain: str
    gathered: Gathered
    fresh: int
    missing: tuple[str, ...]
    recipe: "Recipe | None"
    estimate: "Estimate | None"
    notes: tuple[str, ...]
    under_way: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON; the first rows redacted, as they would be learnt."""
        recipe = self.recipe
        return {
            "domain": self.domain,
            "enough": not self.missing,
            "missing": list(self.missing),
            "fresh": self.fresh,
            **self.gathered.to_dict(),
            "first": [row.to_dict() for row in self.gathered.first],
            "base": recipe.base.model if recipe else None,
            "stages": [dict(_plain(stage.model_dump())) for stage in recipe.stages] if recipe else [],
            "estimate": self.estimate.to_dict() if self.estimate else None,
            "notes": list(self.notes),
            "under_way": self.under_way,
        }


def survey(domain: str, store: "Store", tell: "Tell", *, recipe: str = "", least: int = 0) -> Survey:
    """What `pointsman learn` would do now. Raises NotFound for an unknown domain, InputError for a recipe that cannot be used."""
    pack = domains.load(domain)
    place = paths.ensure(paths.cache_dir() / "learn") / domain
    dataset.drop(place)
    try:
        return _surveyed(pack, store, dataset.build(dataset.said(store, pack), place), tell, recipe, least)
    finally:
        dataset.drop(place)


def _surveyed(pack: Domain, store: "Store", gathered: Gathered, tell: "Tell", recipe: str, least: int) -> Survey:
    source = dataset.said(store, pack)
    ended = [one for one in states.found(pack.name) if one.outcome in ("promoted", "failed")]
    fresh = dataset.fresh(ended[-1].folder / states.SEEN, source) if ended else len(source.usable)
    left = states.unfinished(pack.name)
    missing = enough.missing(gathered.volume, least)
    made: Recipe | None = None
    estimate: Estimate | None = None
    notes: tuple[str, ...] = ()
    if gathered.manifest is not None:
        mixed = mixing.mixed(f"{pack.name[:30]}-survey", recipe, pack, gathered, store)
        made, notes = mixed.recipe, mixed.notes
        if not missing:
            estimate, notes = _estimated(made, notes, tell)
    return Survey(pack.name, gathered, fresh, missing, made, estimate, notes, left.id if left else "")


def _estimated(recipe: "Recipe", notes: tuple[str, ...], tell: "Tell") -> "tuple[Estimate | None, tuple[str, ...]]":
    from trainer import train

    try:
        return train.run(recipe, tell=tell, dry=True).estimate, notes
    except PointsmanError as fault:
        return None, (*notes, f"it could not be trained now: {fault}")


def _plain(stage: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: stage[name] for name in ("kind", "epochs", "batch", "learning_rate", "rehearse", "loss")}
