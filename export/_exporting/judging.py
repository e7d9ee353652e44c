"""Checks of an export that are read off other numbers: the task against what the trained model scored, and what was not checked."""

from collections.abc import Iterable, Sequence

from data.exports import Check
from export import choose
from export._exporting.source import Judged


def as_judged(found: Judged, trained: Sequence[bool], of: str, margin: float) -> Check:
    """The task score of a file beside that of the trained model on the same rows, by more than the margin or chance explains."""
    score = sum(found.right) / max(len(found.right), 1)
    if len(trained) != len(found.right) or not trained:
        return Check(name="task", of=of, passed=None, value=score, note="what the trained model said about these rows was not kept")
    falls = [float(was) - float(now) for was, now in zip(trained, found.right, strict=True)]
    fall = sum(falls) / len(falls)
    error = (sum((one - fall) ** 2 for one in falls) / len(falls) / len(falls)) ** 0.5
    most = choose.bearable(margin, error)
    note = f"below the trained model on {len(falls)} rows; its own score: {score:.3f}"
    return Check(name="task", of=of, passed=fall <= most, value=fall, limit=most, note=note)


def unchecked(names: Iterable[str], why: str) -> list[Check]:
    """Checks that could not be made."""
    return [Check(name=name, passed=None, note=f"not checked: {why}") for name in names]
