"""What Pointsman itself writes into an output: probabilities, indicators with their quotes, unfamiliar terms, help resources.

A property of schema.json that has `x-from` is not the model's to write. After these the rules' bounds hold for every number.
Not covered: where the probabilities come from (`classification`), finding indicators (`data.indicators`).
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data.cases import at_path
from data.domains import FIELD_KEY, FILL_KEY, Domain
from data.indicators import Evidence
from router.domain_rules import Verdict

CANDIDATE = 0.1
"""Probability from which on a label is one that is in question."""
_WORD = re.compile(r"[^\W\d_][\w'’-]{2,}")
_ENDINGS = ("'s", "’s", "s", "es", "ies", "ed", "d", "ing", "ly", "er", "ers", "ness")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about one answer. probabilities: by dotted path, of the value that stands there; labels: of every label;
    words: those that are familiar beside the glossary, case-folded."""

    text: str
    probabilities: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, float] = field(default_factory=dict)
    evidence: Sequence[Evidence] = ()
    words: Collection[str] = ()


def filled(output: Mapping[str, Any], domain: Domain, verdict: Verdict, known: Known) -> dict[str, Any]:
    """The output with everything that Pointsman writes, in the schema's order, and within the rules' bounds."""
    found = _object(output, domain.schema, domain, known, output)
    for path, most in verdict.at_most.items():
        _bound(found, path, lambda value, limit=most: min(value, limit))
    for path, least in verdict.at_least.items():
        _bound(found, path, lambda value, limit=least: max(value, limit))
    return found


def unfamiliar(text: str, known: Collection[str]) -> list[str]:
    """The words of a text that are in neither list nor a form of one that is, each once; names (Capitalised) are left out."""
    found: dict[str, str] = {}
    for match in _WORD.finditer(text):
        word = match.group()
        if word[0].isupper() and not word.isupper() and match.start() > 0:
            continue
        folded = word.casefold().strip("'’-")
        if not all(_familiar(part, known) for part in folded.split("-") if part) and not _familiar(folded, known):
            found.setdefault(folded, word)
    return list(found.values())


def _familiar(word: str, known: Collection[str]) -> bool:
    if len(word) < 3 or word in known:
        return True
    stems = [word.removesuffix(ending) for ending in _ENDINGS if word.endswith(ending)]
    return any(stem in known or f"{stem}e" in known or f"{stem}y" in known or stem[:-1] in known for stem in stems if len(stem) > 2)


def _object(
    output: Mapping[str, Any], schema: Mapping[str, Any], domain: Domain, known: Known, whole: Mapping[str, Any]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, part in schema.get("properties", {}).items():
        if FILL_KEY in part:
            value = _value(part, domain, known, whole)
            if value is not None:
                found[name] = value
        elif name in output:
            inner = output[name]
            found[name] = _object(inner, part, domain, known, whole) if isinstance(inner, Mapping) else inner
        elif "properties" in part:
            if inner := _object({}, part, domain, known, whole):
                found[name] = inner
    return found


def _value(part: Mapping[str, Any], domain: Domain, known: Known, output: Mapping[str, Any]) -> Any:
    kind, most = part[FILL_KEY], part.get("maxItems", 20)
    if kind == "probability":
        found = known.probabilities.get(part.get(FIELD_KEY, domain.described.label_field))
        return None if found is None else round(found, 4)
    if kind == "indicators":
        keys = part.get("items", {}).get("properties", {"indicator": {}, "quote": {}})
        return [{key: getattr(one, key) for key in keys if hasattr(one, key)} for one in known.evidence[:most]]
    if kind == "unfamiliar_terms":
        return unfamiliar(known.text, domain.glossary | set(known.words))[:most] if known.words else []
    if kind == "resources":
        called = any(_at(output, path) in values for path, values in domain.described.resources_when.items())
        if not called:
            return []
        plain = part.get("items", {}).get("type") == "string"
        return [f"{one.name}: {one.contact}" if plain else one.model_dump() for one in domain.described.resources[:most]]
    return [label for label, share in known.labels.items() if share >= CANDIDATE][:most]


def _at(output: Mapping[str, Any], path: str) -> Any:
    try:
        return at_path(output, path)
    except KeyError:
        return None


def _bound(output: dict[str, Any], path: str, within: Any) -> None:
    *parents, last = path.split(".")
    place: Any = output
    for part in parents:
        place = place.get(part) if isinstance(place, dict) else None
    if isinstance(place, dict) and isinstance(place.get(last), int | float):
        place[last] = within(place[last])
