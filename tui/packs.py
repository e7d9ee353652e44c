"""A domain pack in words: what it holds, and what is wrong with its rules. For `pointsman domains` and the domains' screen."""

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from data import domains
from data.sanitise import one_line

if TYPE_CHECKING:
    from data.domain_check import Problem
    from data.domains import Domain, Label


def summary(pack: "Domain") -> dict[str, Any]:
    """What a pack holds, counted. Raises InputError where one of its files is damaged."""
    split = Counter(one.split for one in pack.examples)
    own = pack.folder.parent != domains.FOLDER
    return {
        "name": pack.name,
        "title": pack.described.title,
        "labels": list(pack.labels),
        "train": split["train"],
        "validation": split["validation"],
        "adversarial": len(pack.cases),
        "from": "you" if own else "pointsman",
        "folder": str(pack.folder),
    }


def counted(pack: "Domain") -> "list[tuple[Label, int]]":
    """The labels with their rows."""
    rows = Counter(one.label for one in pack.examples)
    return [(label, rows[label.name]) for label in pack.described.labels]


def gates(found: dict[str, Any]) -> str:
    """The gates of a pack in a line."""
    recall = found.get("recall", {})
    said = [f"{name} {limit:.0%}" for name, limit in found.items() if name != "recall"]
    return ", ".join([*said, *(f"recall of {label} {limit:.0%}" for label, limit in recall.items())]) or "none"


def rules(pack: "Domain") -> "list[Problem]":
    """The faults of the pack's rules, and of the tests in them."""
    from data.errors import RulesError
    from router.domain_rules import DomainRules

    try:
        DomainRules.of(pack)
    except RulesError as fault:
        return [_placed(str(pack.folder / "rules.toml"), text) for text in fault.problems]
    return []


def _placed(file: str, text: str) -> "Problem":
    """A fault of the rules, told as file:line:column: and what it is, on a first line of its own."""
    from data.domain_check import Problem

    first = text.partition("\n")[0].removeprefix(f"{file}:")
    found = re.match(r"(\d+):(?:\d+:)? *(.*)", first)
    return Problem(file, int(found.group(1)), one_line(found.group(2), 400)) if found else Problem(file, 1, one_line(first, 400))
