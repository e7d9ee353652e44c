"""Contradictions between rules, and rules that can never have a say.

A contradiction: two rules of equal priority set a field to different values and can hold together, which is known where their
conditions are the same or where both hold for the text of an inline test of either. Not covered: deciding for any two
conditions whether some text satisfies both; the order in the file then decides, as documented.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

from data.sanitise import one_line
from router._rules.facts import Facts
from router._rules.table import Draft, Problem


def contradictions(drafts: Sequence[Draft]) -> list[Problem]:
    """One problem for each pair of rules that contradict each other, at the later rule."""
    asked = {id(draft): [(test.text, _facts(draft, number)) for number, test in enumerate(draft.tests)] for draft in drafts}
    problems = []
    for first, second in combinations(sorted(drafts, key=lambda draft: draft.place.line), 2):
        fields = [field for field in first.sets if field in second.sets and _differ(first, second, field)]
        if first.priority != second.priority or not fields:
            continue
        why = _together(first, second, [*asked[id(first)], *asked[id(second)]])
        if why:
            clash = ", ".join(f"{field} {_value(first, field)} and {_value(second, field)}" for field in fields)
            problems.append(
                Problem(
                    second.place,
                    f"{second.name} contradicts {first.name} on line {first.place.line}: both have priority {first.priority} and "
                    f"set {clash}, and {why}; give one of them a higher priority",
                )
            )
    return problems


def shadows(ordered: Sequence[Draft]) -> list[Problem]:
    """A note for each rule with the same condition as one that is asked before it and sets the same field, or stops."""
    return list(_shadowed(ordered))


def _shadowed(ordered: Sequence[Draft]) -> Iterator[Problem]:
    before: dict[str, list[Draft]] = {}
    for draft in ordered:
        for other in before.get(draft.condition.key, []):
            fields = [field for field in draft.sets if field in other.sets]
            if other.stop:
                text = f"{draft.name} is never reached: {other.name} on line {other.place.line} has the same condition and stops"
            elif fields:
                text = (
                    f"{draft.name} never sets {', '.join(fields)}: {other.name} on line {other.place.line} "
                    "has the same condition and is asked first"
                )
            else:
                continue
            yield Problem(draft.place, text)
            break
        before.setdefault(draft.condition.key, []).append(draft)


def _facts(draft: Draft, number: int) -> Facts:
    test = draft.tests[number]
    return Facts.of(test.text, domain=test.pinned, attachments=test.attachments)


def _differ(first: Draft, second: Draft, field: str) -> bool:
    one, two = first.sets[field], second.sets[field]
    return one != two if isinstance(one, str) or isinstance(two, str) else set(one) != set(two)


def _together(first: Draft, second: Draft, texts: Sequence[tuple[str, Facts]]) -> str:
    if first.condition.key == second.condition.key:
        return "their conditions are the same"
    for text, facts in texts:
        if facts.text and first.condition.holds(facts) and second.condition.holds(facts):
            return f"both match {one_line(text, 60)!r}"
    return ""


def _value(draft: Draft, field: str) -> str:
    value = draft.sets[field]
    return value if isinstance(value, str) else f"[{', '.join(value)}]"
