"""Which model and which way of reasoning a question gets, and why. Pure: no I/O, no clock, no randomness.

The stages write in order and the first to write a field wins: the user's pins, then the conversation's last route, then
the defaults. Not covered yet: rules, learned heads and experiments, which will be stages of the same chain.
"""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Context:
    """What the decision may look at besides the question. "" where there is nothing."""

    pinned_model: str = ""
    pinned_mode: str = ""
    pinned_domain: str = ""
    last_model: str = ""
    default_model: str = "auto"
    default_mode: str = "standard"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage's word: what it wrote ("" if nothing) and on what evidence."""

    name: str
    outcome: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The route of one question, with every stage's evidence. `source` is the stage that chose the model."""

    model: str
    mode: str
    domain: str
    source: str
    stages: tuple[Stage, ...]
    confidence: float = 1.0

    @property
    def reasons(self) -> tuple[str, ...]:
        """The evidence of the stages that wrote something, in order."""
        return tuple(stage.evidence for stage in self.stages if stage.outcome)

    def to_dict(self) -> dict[str, Any]:
        """The decision as plain JSON."""
        return asdict(self)


def decide(query: str, context: Context) -> Decision:
    """The route of `query`."""
    stages = (
        Stage("pin", context.pinned_model, f"you chose {context.pinned_model}"),
        Stage("continuation", context.last_model, "the conversation goes on with the model it had"),
        Stage("default", context.default_model, f"the default model is {context.default_model}"),
    )
    winner = next(stage for stage in stages if stage.outcome)
    return Decision(
        model=winner.outcome,
        mode=context.pinned_mode or context.default_mode,
        domain=context.pinned_domain,
        source=winner.name,
        stages=stages[: stages.index(winner) + 1],
    )
