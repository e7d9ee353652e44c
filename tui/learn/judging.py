"""The gates of a learn beside those that its run already held: the pack's rows and the user's rows, each by themselves.

The run judges all validation rows together, and of these a part is the user's own. Feedback that is wrong throughout (thumbs
flipped, corrections pasted from elsewhere) agrees with itself, so it must not vouch for itself: on the pack's rows alone the model
must pass the pack's limits and be no worse than its base, and on the user's alone be no worse than its base either. Not covered:
what a run measures (`trainer.proof`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.domains import Domain
from tui.learn.state import Held

if TYPE_CHECKING:
    from trainer.pairs import Pairs
    from trainer.run_folder import RunFolder
    from trainer.scores import Prediction

LEAST_ROWS = 5
"""Fewer rows say nothing."""
WORSE_BY = 0.02
"""Share of the rows by which the model may be behind its base where that is no more than chance."""


def held(place: Path, domain: Domain) -> tuple[Held, ...]:
    """The gates of the run in a folder, then those of its parts. Raises NotFound and InputError for a run that is damaged."""
    from trainer import run_folder

    found = run_folder.read(place)
    own = tuple(Held(name=f"run: {one.name}", passed=one.passed, reached=one.reached, limit=one.limit, note=one.note)
                for one in found.gates)  # fmt: skip
    if not found.proof.get("passed") and all(one.passed for one in own):
        own = (*own, Held(name="run", passed=False, note="the run did not pass its gates"))
    return (*own, *_parts(found, domain))


def _parts(found: "RunFolder", domain: Domain) -> Iterator[Held]:
    pack = {one.text for one in domain.examples if one.split == "validation"}
    both = list(zip(found.predictions, found.base_predictions, strict=True))
    ours = [(mine, base) for mine, base in both if mine.text in pack]
    theirs = [(mine, base) for mine, base in both if mine.text not in pack]
    yield _no_worse("the pack's rows: not worse than the base", ours)
    yield from _limits(ours, domain)
    yield _no_worse("your rows: not worse than the base", theirs)


def _limits(rows: "Sequence[tuple[Prediction, Prediction]]", domain: Domain) -> Iterator[Held]:
    """The pack's own limit of accuracy, on its own rows."""
    limit = domain.described.gates.accuracy
    if limit is None or len(rows) < LEAST_ROWS:
        return
    right = sum(mine.correct for mine, _ in rows) / len(rows)
    note = f"{len(rows)} rows that no feedback has touched"
    yield Held(name="the pack's rows: accuracy", passed=right >= limit, reached=right, limit=limit, note=note)


def _no_worse(name: str, rows: "Sequence[tuple[Prediction, Prediction]]") -> Held:
    from trainer.pairs import pairs

    if len(rows) < LEAST_ROWS:
        return Held(name=name, passed=None, limit=-WORSE_BY, note=f"{len(rows)} rows say nothing")
    found: Pairs = pairs([mine.correct for mine, _ in rows], [base.correct for _, base in rows])
    note = f"{len(rows)} rows: {found.gained} gained, {found.lost} lost"
    return Held(name=name, passed=found.difference >= -WORSE_BY, reached=found.difference, limit=-WORSE_BY, note=note)
