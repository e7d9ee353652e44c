"""The stages of a recipe: one file a kind, each with `run(work) -> Done`. A stage builds a trainer of transformers or TRL; `loop`
runs it (checkpoints, resuming, evaluations, early stopping, best kept). Whether its result counts is the gates' affair (`train`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.domains import Domain
from trainer.events import Tell, silent
from trainer.recipe import Recipe, StageTable

if TYPE_CHECKING:
    from trainer.base import Base
    from trainer.device import Policy
    from trainer.material import Material


@dataclass(frozen=True)
class Work:
    """All that a stage needs. index: from 1; model: the PEFT model, its adapter "default" being trained in place.

    folder: the stage's own, for checkpoints (kept until the run is done); judge: validation figures by generation under the
    domain's contract for the model as it stands (macro_f1, accuracy, json_valid, ece), None where the domain has no labels;
    enough: asked after each step, whether the training is to end now and keep the best it has.
    """

    recipe: Recipe
    stage: StageTable
    index: int
    domain: Domain | None
    base: "Base"
    model: Any
    policy: "Policy"
    material: "Material"
    folder: Path
    tell: Tell = silent
    judge: Callable[[], Mapping[str, float]] | None = None
    enough: Callable[[], bool] = lambda: False

    @property
    def name(self) -> str:
        """As events call it."""
        return f"{self.index} {self.stage.kind}"


@dataclass(frozen=True, slots=True)
class Done:
    """A stage's end. steps: optimiser steps in all; loss: the last training loss; best: of the validation measure that was kept,
    None where nothing was evaluated, reached at best_step. rows and tokens (without padding): trained on, over all epochs."""

    steps: int
    loss: float
    best: float | None = None
    best_step: int = 0
    stopped_early: bool = False
    seconds: float = 0.0
    rows: int = 0
    tokens: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def run(work: Work) -> Done:
    """Run a stage; its adapter is in `work.model` afterwards, the best one seen. Raises what the stage's file says."""
    stage: Any = import_module(f"{__name__}.{work.stage.kind}")
    done: Done = stage.run(work)
    return done
