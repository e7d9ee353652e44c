"""The gates of a domain held against what was measured. A gate is never skipped: what could not be measured is not passed.

Not covered: measuring (`evaluate`), and who may serve a domain (promotion).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from data.domains import Domain
from trainer.figures import Figures


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate: its name, the limit, what was reached (None: not measured) and whether that is enough; note: why not measured.

    unit: of limit and reached; a share lies between 0 and 1 (a difference of shares between -1 and 1).
    """

    name: str
    limit: float
    reached: float | None
    passed: bool
    at_most: bool = False
    note: str = ""
    unit: str = "share"


def gates(domain: Domain, found: Figures | None, reached: Mapping[str, float | None]) -> tuple[Gate, ...]:
    """The gates that the pack asks for, in its order. found: of the labels; reached: the other figures by the gate's name, and
    for a domain without labels the share of answers that pass their checks as "accuracy".

    JSON validity is asked for only where the domain has an output contract.
    """
    return tuple(_gates(domain, found, reached))


def _gates(domain: Domain, found: Figures | None, reached: Mapping[str, float | None]) -> Iterator[Gate]:
    asked = domain.described.gates
    if asked.accuracy is not None:
        yield _least(
            "accuracy", asked.accuracy, found.accuracy if found else reached.get("accuracy"), "no row has a label or check"
        )
    if asked.macro_f1 is not None:
        yield _least("macro_f1", asked.macro_f1, found.macro_f1 if found else None, "the domain has no labels")
    if asked.json_valid is not None and domain.schema:
        yield _least("json_valid", asked.json_valid, reached.get("json_valid"), "no row was answered")
    if asked.ece is not None:
        ece = found.ece if found else None
        note = "" if ece is not None else "the engine gives no probabilities"
        yield Gate("ece", asked.ece, ece, ece is not None and ece <= asked.ece, True, note)
    if asked.adversarial is not None:
        yield _least("adversarial", asked.adversarial, reached.get("adversarial"), "the pack has no adversarial cases")
    by_label = {one.label: one for one in found.classes} if found else {}
    for label, limit in asked.recall.items():
        one = by_label.get(label)
        yield _least(f"recall of {label}", limit, one.recall if one and one.support else None, "no row of this label was measured")


def _least(name: str, limit: float, reached: float | None, note: str) -> Gate:
    return Gate(name, limit, reached, reached is not None and reached >= limit, note="" if reached is not None else note)
