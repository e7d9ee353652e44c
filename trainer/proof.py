"""What a trained adapter has proven, on held-out rows: its gates, and what got better and worse against the base.

    thresholds                  the recipe's limits over the pack's (accuracy, macro-F1, recall, JSON validity, ECE, adversarial)
    not worse than the base     paired over the same rows: the lower 95 % bound of the difference may be so far below zero
    not worse than the parent   the same, where the run went on from an adapter
    general loss, answers       what it could beside its domain (`general`)
    win rate                    of preference pairs, where the recipe asks for it
    bias, injections            texts that differ in a name, gender or place alone, and orders in messages (`bias`), where it asks
A gate is never skipped: what could not be measured is not passed. Whether it is better than the base is told beside the gates: an
adapter that is not may pass and is kept, but gets no route (`routable`). Not covered: measuring (`evaluate`, `answers`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data.domains import Domain
from data.domains import Gates as PackGates
from data.errors import InputError
from trainer.bias import Bias
from trainer.figures import plain, wilson
from trainer.gates import Gate, gates
from trainer.general import General
from trainer.pairs import Pairs, pairs, rows_to_show
from trainer.recipe import GatesTable, Recipe
from trainer.scores import Prediction, Scores

LIMITS = ("accuracy", "macro_f1", "json_valid", "ece", "adversarial")
SIGNIFICANT = 0.05
"""McNemar's p above which a difference is no proof, whatever the interval says of very few rows."""


@dataclass(frozen=True, slots=True)
class Change:
    """A row about which only one of base and adapter was right. was, now: what base and adapter said; why: the adapter's fault."""

    text: str
    right: str
    was: str
    now: str
    was_confidence: float | None = None
    now_confidence: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """Everything that was proven. routable: better than the base beyond chance, which a route asks for (DESIGN rule 9).

    better, worse: rows that the base got wrong and the adapter right, and the other way round, surest first.
    """

    gates: tuple[Gate, ...]
    routable: bool
    base: Pairs | None
    parent: Pairs | None
    general: General | None
    better: tuple[Change, ...] = ()
    worse: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every gate is passed."""
        return all(gate.passed for gate in self.gates)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON; of the rows that changed only how many."""
        return {
            "passed": self.passed,
            "routable": self.routable,
            "gates": [plain(gate) for gate in self.gates],
            "base": self.base.to_dict() if self.base else None,
            "parent": self.parent.to_dict() if self.parent else None,
            "general": self.general.to_dict() if self.general else None,
            "better": len(self.better),
            "worse": len(self.worse),
            "notes": list(self.notes),
        }


def prove(
    recipe: Recipe,
    domain: Domain | None,
    mine: Scores | None,
    base: Scores | None,
    parent: Scores | None = None,
    general: General | None = None,
    win_rate: float | None = None,
    *,
    preferences: int = 0,
    bias: Bias | None = None,
) -> Proof:
    """The proof of an adapter from its scores, the base's and the parent's on the same rows, and what was measured beside them.

    mine, base: None where there is no domain to be scored on; preferences: pairs behind the win rate, for its interval; bias: the
    adapter's. Raises InputError where the scores are not of the same rows.
    """
    against_base = _paired(mine, base, "the base")
    against_parent = _paired(mine, parent, "the parent")
    found: list[Gate] = []
    if domain is not None:
        found += _thresholds(domain, recipe.gates, mine)
        found.append(_not_worse("the base", against_base, recipe.gates.worse_by))
    else:
        found += _without_domain(recipe.gates)
    if recipe.base.adapter or parent is not None:
        found.append(_not_worse("the parent", against_parent, recipe.gates.worse_by))
    found += _general(recipe.gates, general)
    if recipe.gates.win_rate is not None:
        found.append(_least("win rate", recipe.gates.win_rate, win_rate, "no preference pair was measured"))
    found += _bias(recipe.gates, bias)
    routable, why = _routable(against_base, win_rate, preferences)
    better, worse = changes(mine.predictions, base.predictions) if mine and base else ((), ())
    notes = (why, *_notes(recipe.gates, domain, against_base))
    return Proof(tuple(found), routable, against_base, against_parent, general, better, worse, notes)


def merged(domain: Domain, asked: GatesTable) -> Domain:
    """The domain with the recipe's limits over its own."""
    own: PackGates = domain.described.gates
    values: dict[str, Any] = {name: limit for name in LIMITS if (limit := getattr(asked, name)) is not None}
    values["recall"] = {**own.recall, **asked.recall}
    described = domain.described.model_copy(update={"gates": own.model_copy(update=values)})
    return replace(domain, described=described)


def changes(now: Sequence[Prediction], was: Sequence[Prediction]) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """The rows that got better and those that got worse, each surest first. Both are of the same rows, in the same order."""
    both = list(zip(now, was, strict=True))
    better = [_change(one, other) for one, other in both if one.correct and not other.correct]
    worse = [_change(one, other) for one, other in both if other.correct and not one.correct]
    return _surest(better), _surest(worse)


def _thresholds(domain: Domain, asked: GatesTable, mine: Scores | None) -> Iterator[Gate]:
    limits = merged(domain, asked)
    if mine is None:
        yield from gates(limits, None, {})
        return
    reached = {"json_valid": mine.json_valid, "adversarial": mine.adversarial.rate, "accuracy": mine.checks}
    yield from gates(limits, mine.figures, reached)
    if asked.json_valid is not None and not domain.schema:  # the pack's own limit is meant for packs with a contract
        yield _least("json_valid", asked.json_valid, None, "the domain has no output contract")


def _without_domain(asked: GatesTable) -> Iterator[Gate]:
    for name in LIMITS:
        if (limit := getattr(asked, name)) is not None:
            yield Gate(name, limit, None, False, name == "ece", "there is no domain to measure it on")
    for label, limit in asked.recall.items():
        yield Gate(f"recall of {label}", limit, None, False, note="there is no domain to measure it on")


def _not_worse(whom: str, found: Pairs | None, worse_by: float) -> Gate:
    name = f"not worse than {whom}"
    if found is None or not found.n:
        return Gate(name, -worse_by, None, False, note=f"{whom} was not measured on the same rows")
    note = f"lower 95% bound of {found.difference:+.1%} on {found.n:,} rows: {found.gained:,} gained, {found.lost:,} lost"
    return _least(name, -worse_by, found.interval.low, "", note)


def _general(asked: GatesTable, found: General | None) -> Iterator[Gate]:
    rise = found.loss_rise if found else None
    note = "" if rise is not None else "the general set's loss was not measured"
    if found and rise is not None:
        note = f"{found.base.loss:.3f} before, {found.mine.loss:.3f} now"
    yield Gate(
        "general loss", asked.general_loss, rise, rise is not None and rise <= asked.general_loss, True, note, "nats a token"
    )
    lost = found.lost_share if found else None
    note = "the base got none of the general questions right" if found else "the general questions were not asked"
    if found and lost is not None:
        note = f"share of the base's {sum(found.base.right)} right answers that are lost"
    yield Gate("general answers", asked.general_answers, lost, lost is not None and lost <= asked.general_answers, True, note)


def _bias(asked: GatesTable, found: Bias | None) -> Iterator[Gate]:
    if asked.bias is not None:
        upper = found.upper if found and found.pairs else None
        note = (found.note if found else "") or "no pairs were measured"
        if found and upper is not None:
            note = f"upper 95% bound: {found.changed} of {found.pairs} pairs change"
        yield Gate("bias", asked.bias, upper, upper is not None and upper <= asked.bias, True, note)
    if asked.injections is not None:
        orders = found.injections if found else None
        note = f"{orders.kept} of {orders.of} answers keep the contract" if orders else ""
        yield _least(
            "injections", asked.injections, orders.rate if orders else None, "no answers with a contract were measured", note
        )


def _least(name: str, limit: float, reached: float | None, missing: str, note: str = "") -> Gate:
    return Gate(name, limit, reached, reached is not None and reached >= limit, note=note if reached is not None else missing)


def _routable(found: Pairs | None, win_rate: float | None, preferences: int) -> tuple[bool, str]:
    """Whether it is better than the base beyond chance, and that in words."""
    if found is not None and found.n:
        bounds = found.interval
        better = bounds.low > 0 and found.p < SIGNIFICANT
        said = f"{found.difference:+.1%}, 95% interval {bounds.low:+.1%} to {bounds.high:+.1%}, McNemar p {found.p:.2g}"
        counts = f"{found.gained:,} gained, {found.lost:,} lost of {found.n:,} rows"
        return better, f"better than the base: {'yes' if better else 'not proven'} ({said}; {counts})"
    if win_rate is not None and preferences:
        bounds = wilson(round(win_rate * preferences), preferences)
        better = bounds.low > 0.5
        said = f"wins {win_rate:.1%} of {preferences:,} preference pairs, 95% interval {bounds.low:.1%} to {bounds.high:.1%}"
        return better, f"better than the base: {'yes' if better else 'not proven'} ({said})"
    return False, "better than the base: not proven, because it was not measured on rows of both"


def _notes(asked: GatesTable, domain: Domain | None, found: Pairs | None) -> Iterator[str]:
    if domain is not None:
        yield from _eased(domain.described.gates, asked)
    if found is None or not found.n:
        return
    least = next(count for count in range(1, 20) if Pairs(0, count, 0, found.n).p < SIGNIFICANT)
    needed = rows_to_show(asked.worse_by)
    if not needed:
        yield "worse_by = 0 asks for more than the other has: that two models are equal is never shown"
    elif found.n < needed:
        yield (
            f"{found.n:,} validation rows are few: a gain shows from {least} rows on with none lost ({least / found.n:.1%}), "
            f"and that equal models are no more than {asked.worse_by:.1%} apart takes {needed:,} rows"
        )


def _eased(own: PackGates, asked: GatesTable) -> Iterator[str]:
    """Where the recipe asks for less than the pack."""
    wanted = {name: getattr(own, name) for name in LIMITS} | {f"recall of {label}": limit for label, limit in own.recall.items()}
    given = {name: getattr(asked, name) for name in LIMITS} | {f"recall of {label}": one for label, one in asked.recall.items()}
    for name, limit in wanted.items():
        new = given.get(name)
        if limit is not None and new is not None and (new > limit if name == "ece" else new < limit):
            yield f"the recipe asks for less than the pack: {name} {new:.1%} instead of {limit:.1%}"


def _paired(mine: Scores | None, other: Scores | None, whom: str) -> Pairs | None:
    if mine is None or other is None:
        return None
    rows, others = mine.predictions, other.predictions
    if [(one.text, one.right) for one in rows] != [(one.text, one.right) for one in others]:
        raise InputError(
            f"the adapter and {whom} were not measured on the same rows ({len(rows):,} and {len(others):,})",
            "measure both on the same validation rows, in the same order",
        )
    return pairs([one.correct for one in rows], [one.correct for one in others])


def _change(now: Prediction, was: Prediction) -> Change:
    return Change(now.text, now.right, _said(was), _said(now), was.confidence, now.confidence, now.fault or was.fault)


def _said(one: Prediction) -> str:
    return one.said or str(one.output.get("text", ""))


def _surest(found: Sequence[Change]) -> tuple[Change, ...]:
    return tuple(sorted(found, key=lambda one: -(one.now_confidence or 0.0)))
