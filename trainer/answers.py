"""What a model is worth on a domain whose answers are free text: the share that pass their checks, code included.

Not covered: the checks themselves (data/checks.py, router/code_checks.py), domains with an output contract (`evaluate`).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data.checks import Check
from data.domains import Domain, Example
from data.errors import ContextOverflow, EngineInterrupted, EngineRejected, InputError
from trainer.scores import Adversarial, FailedCase, Prediction, Scores

if TYPE_CHECKING:
    from router.code_checks import Checked

Answer = Callable[[str], str]
Progress = Callable[[str, int, int], object]

CHECKED_TOGETHER = 32
"""Answers whose code one sandbox runs."""


def evaluate_answers(
    domain: Domain,
    answer: Answer,
    rows: Sequence[Example],
    progress: Progress = lambda doing, done, of: None,
    model: str = "",
) -> Scores:
    """The scores of answers in free text, by the checks of rows and adversarial cases (router/code_checks.py).

    Rows and cases without a check are left out. Raises InputError where no row has one, ToolError where code must be run and there
    is no sandbox. A row that the engine cannot answer has a fault; what else `answer` raises goes on.
    """
    checkable = [row for row in rows if row.check]
    if not checkable:
        raise InputError(f"no row of {domain.name} has a check, so nothing can be measured", "give rows with a check")
    cases = [case for case in domain.cases if case.check]
    hard = _checked([(case.text, case.check) for case in cases], answer, "adversarial cases", progress)
    failed = [
        FailedCase(case.id, case.text, (one.why,), case.why, {"text": one.text})
        for case, one in zip(cases, hard, strict=True)
        if one.why
    ]
    started = time.perf_counter()
    told = [_Told.by(answer, row.text) for row in _counted(checkable, "rows", progress)]
    seconds = time.perf_counter() - started
    results = _judged(told, [row.check for row in checkable], progress)
    predictions = [
        Prediction(row.text, "", "", output={"text": one.text}, fault=one.why) for row, one in zip(checkable, results, strict=True)
    ]
    right = sum(not one.fault for one in predictions)
    skipped = len(rows) - len(checkable)
    return Scores(
        domain.name,
        model,
        len(checkable),
        sum(bool(one.fault) for one in told),
        None,
        right / len(checkable),
        None,
        Adversarial(len(cases) - len(failed), len(cases), tuple(failed)),
        {},
        {},
        seconds,
        tuple(predictions),
        domain,
        (f"{skipped} rows have no check and were left out",) if skipped else (),
    )


@dataclass(frozen=True, slots=True)
class _Told:
    """An answer, or the fault that came instead."""

    text: str
    fault: str = ""

    @classmethod
    def by(cls, answer: Answer, text: str) -> "_Told":
        try:
            return cls(answer(text))
        except (ContextOverflow, EngineInterrupted, EngineRejected) as fault:  # of this row; others are faults of the run
            return cls("", str(fault))


@dataclass(frozen=True, slots=True)
class _Judged:
    """An answer with why it does not pass its check, "" where it does."""

    text: str
    why: str


def _checked(asked: Sequence[tuple[str, Check]], answer: Answer, doing: str, progress: Progress) -> list[_Judged]:
    told = [_Told.by(answer, text) for text, _ in _counted(asked, doing, progress)]
    return _judged(told, [check for _, check in asked], progress)


def _judged(told: Sequence[_Told], checks: Sequence[Check], progress: Progress) -> list[_Judged]:
    """Every answer held against its check, the code of many in one start of the sandbox."""
    from router.code_checks import checked_all

    found: list[_Judged] = []
    for begin in range(0, len(told), CHECKED_TOGETHER):
        part = list(zip(told, checks, strict=True))[begin : begin + CHECKED_TOGETHER]
        results = iter(checked_all([(one.text, check) for one, check in part if not one.fault]))
        found += [_Judged(one.text, one.fault or _why(next(results))) for one, _ in part]
        progress("checks", len(found), len(told))
    return found


def _why(found: "Checked") -> str:
    return "" if found.passed else found.why or "the check fails"


def _counted(items: Sequence[Any], doing: str, progress: Progress) -> Iterator[Any]:
    for done, one in enumerate(items):
        progress(doing, done, len(items))
        yield one
