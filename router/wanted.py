"""Whether an answer says what the user wanted: by its label or fixed values where a domain has them, else by its words.

A wanted answer is what a user wrote in place of a wrong one: a label, the domain's JSON, or free text. Of free text the comparison
stands in for a reader: the words of the wanted answer, and nearness to it rather than to the answer that was corrected. Not
covered: answers that pass checks (router/code_checks.py).
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from data.cases import at_path
from data.datasets.duplicates import normalised
from data.domains import Domain
from data.errors import InputError
from router.contract import Contract

NEAR = 0.6
"""The overlap of words (F1, as SQuAD measures it: Rajpurkar et al. 2016) from which two texts count as saying the same."""
Values = Mapping[str, Any]
"""By dotted path: the label where the domain has labels, and every property with an enum or a boolean; of a domain without any of
these the whole object."""


def values(domain: Domain | None, text: str) -> Values | None:
    """What an answer says in a domain's terms; None where it is neither one of its labels nor its JSON, or the domain has none."""
    if domain is None or not domain.asked:
        return None
    label = text.strip()
    if label in domain.labels:
        return {domain.described.label_field: label}
    if "{" not in text:
        return None
    for version in domain.described.contracts:
        try:
            return values_of(domain, Contract(domain, version.name).parse(text).output)
        except InputError:  # not in this layout
            continue
    return None


def values_of(domain: Domain, output: Mapping[str, Any]) -> Values | None:
    """The same of an output; None where the domain has labels and this has none of them."""
    properties = domain.asked.get("properties", {})
    found = {name: output[name] for name, part in properties.items() if name in output and _closed(part)}
    path = domain.described.label_field
    if domain.labels:
        try:
            found[path] = at_path(output, path)
        except KeyError:
            return None
        return found if found[path] in domain.labels else None
    return found or {"": json.dumps(output, sort_keys=True)}


def agrees(domain: Domain, said: Values | None, wanted: Values | None, unwanted: Values | None) -> bool | None:
    """Whether those values are right; None where only something wrong is known and they say something else.

    wanted, unwanted: None where nobody said. What counts is the label and what the wanted answer changed in the unwanted one; where
    that is nothing, everything. Of two labels what is not the wrong one is the right one.
    """
    label = domain.described.label_field if domain.labels else None
    if wanted is not None:
        looked = {path for path, value in wanted.items() if unwanted is not None and unwanted.get(path) != value}
        looked = looked | {path for path in wanted if path == label} or set(wanted)
        return said is not None and all(path in said and said[path] == wanted[path] for path in looked)
    if unwanted is None or label is None:
        return None
    if said is not None and said[label] == unwanted[label]:
        return False
    return True if len(domain.labels) == 2 and said is not None else None


def says(text: str, wanted: str, unwanted: str = "") -> bool | None:
    """Whether a free text says what is wanted; None where nobody said and it does not repeat what is not wanted.

    It does where it is the same words, holds them in their order where the unwanted answer did not, or is near to them and nearer
    than to the unwanted answer.
    """
    said, right, wrong = _words(text), _words(wanted), _words(unwanted)
    if not right:
        return False if wrong and said == wrong else None
    if said == right:
        return True
    if said == wrong:
        return False
    if _holds(said, right) and not _holds(wrong, right):
        return True
    return overlap(said, right) >= NEAR and overlap(said, right) > overlap(said, wrong)


def overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """F1 of the words that two texts share, each as often as both have it; 0 where either is empty."""
    shared = sum((Counter(one) & Counter(other)).values())
    return 2 * shared / (len(one) + len(other)) if shared else 0.0


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", normalised(text))


def _holds(words: Sequence[str], phrase: Sequence[str]) -> bool:
    return any(words[at : at + len(phrase)] == phrase for at in range(len(words) - len(phrase) + 1))


def _closed(part: Any) -> bool:
    return isinstance(part, Mapping) and ("enum" in part or "const" in part or part.get("type") == "boolean")
