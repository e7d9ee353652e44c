"""A recipe that goes on from a finished run: on its base, with its LoRA table, for its domain where the recipe has none of its own.

The result is one adapter, which holds what the run had learnt and what it learns now, and which must not be worse than the run by
its domain's own validation examples. Not covered: attaching the parent (`adapter`), the comparison (`proof`).
"""

from data.errors import InputError
from trainer import recipe as recipes
from trainer import run_folder, train
from trainer._material.reading import PACK
from trainer.recipe import Recipe


def onto(recipe: Recipe, run: str) -> Recipe:
    """The recipe on top of a run, named as `run_folder.find` takes it.

    Raises NotFound for no such run, InputError where the recipe is for another domain, and as reading the run's recipe does.
    """
    folder = run_folder.find(run)
    parent = train.recipe_of(folder)
    if recipe.domain and parent.domain and recipe.domain != parent.domain:
        raise InputError(
            f"the recipe {recipe.name} is for {recipe.domain}, and {folder.name} was trained for {parent.domain}",
            "go on from a run of the same domain",
        )
    found = recipe.model_dump()
    found["base"] = parent.base.model_dump() | {"adapter": str(folder.absolute())}
    found["lora"] = parent.lora.model_dump()
    if parent.domain and not recipe.domain:
        found["domain"] = parent.domain
        found["data"]["contract"] = parent.data.contract
        found["data"]["validation"] = recipe.data.validation or (PACK,)
    return recipes.validated(found, f"{recipe.name} on top of {folder.name}")
