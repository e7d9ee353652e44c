"""What a forgetting did, or would do: plain values, as `pointsman forget --json` prints them. Not covered: doing it (course.py)."""

from dataclasses import dataclass

from data.forgetting.files import Touched
from data.forgetting.trained import Trained


@dataclass(frozen=True, slots=True)
class Left:
    """Something that still holds it, and what is to be done about that."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """Of one forgetting; dry: only planned.

    conversations, turns, feedback, documents, exemplars, notes: of the store, notes being texts put into other words; files: that
    were changed or removed; models: that were trained on it; untold: runs of which nobody can tell, their rows being gone; outside:
    the user's own files that runs were trained on; left: what still holds it. Weights are no part of `left`.
    """

    id: str
    at: str
    dry: bool
    conversations: int = 0
    turns: int = 0
    feedback: int = 0
    documents: int = 0
    exemplars: int = 0
    notes: int = 0
    files: tuple[Touched, ...] = ()
    models: tuple[Trained, ...] = ()
    untold: tuple[str, ...] = ()
    outside: tuple[Left, ...] = ()
    left: tuple[Left, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether nothing holds it, anywhere."""
        counts = self.conversations + self.documents + self.exemplars + self.notes + len(self.files) + len(self.models)
        return not counts and not self.left
