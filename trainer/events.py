"""What a training run tells while it runs: the lines of metrics.jsonl, and what the terminal and the chat draw progress from."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Doing = Literal["preparing", "probing", "training", "evaluating", "judging", "saving", "done"]


@dataclass(frozen=True, slots=True)
class Sample:
    """What the model said about a row while it was judged: its text, the answer wanted and the answer given; untrusted text."""

    text: str
    wanted: str
    said: str


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. stage: as "1 sft", "" outside; done of `of`: steps while training, rows while judging.

    values: what was measured, by name (loss, learning_rate, eval_loss, macro_f1, tokens_per_s, ...), finite numbers only.
    eta_s: seconds left of this part, None while unknown. run: the name of the run, told once; samples: a few answers of the model
    as it stands, told after it was judged.
    """

    doing: Doing
    stage: str = ""
    done: int = 0
    of: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    eta_s: float | None = None
    note: str = ""
    run: str = ""
    samples: tuple[Sample, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON; run and samples where there are any."""
        return {name: value for name, value in asdict(self).items() if value or name not in ("run", "samples")}


Tell = Callable[[Event], object]


def silent(event: Event) -> None:
    """Nobody listens."""
