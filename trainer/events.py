"""What a training run tells while it runs: the lines of metrics.jsonl, and what the terminal and the chat draw progress from."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Doing = Literal["preparing", "probing", "training", "evaluating", "judging", "saving", "done"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. stage: as "1 sft", "" outside; done of `of`: steps while training, rows while judging.

    values: what was measured, by name (loss, learning_rate, eval_loss, macro_f1, tokens_per_s, ...), finite numbers only.
    eta_s: seconds left of this part, None while unknown.
    """

    doing: Doing
    stage: str = ""
    done: int = 0
    of: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    eta_s: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


Tell = Callable[[Event], object]


def silent(event: Event) -> None:
    """Nobody listens."""
