"""Why the domain head said what it said: n-grams with their weights, the nearest examples, and what would change the outcome.

Not covered: the other stages of a decision (`why`).
"""

from dataclasses import dataclass

import numpy as np

from data.errors import EngineError, ModelError
from router.classifier import DomainEvidence, DomainHead, Encode, Seen
from router.exemplars import Exemplar
from router.linear import softmax

SHOWN = 8
"""N-grams shown at most."""
NEIGHBOURS = 3
WORDS = 16
"""Words of a text that are left out in turn to see whether one decides."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """ngrams: pieces of the text with what they add to the likeliest domain's logit over all others' (negative: against it).
    nearest: examples with their cosine; margin: of the likeliest domain over the runner-up, in probability."""

    evidence: DomainEvidence
    ngrams: tuple[tuple[str, float], ...]
    nearest: tuple[tuple[Exemplar, float], ...]
    runner_up: str
    margin: float
    changes: tuple[str, ...]


def explain(head: DomainHead, text: str, encode: Encode | None = None) -> Explanation:
    """The explanation of `head.read(text, encode)`."""
    evidence = head.read(text, encode)
    seen = head.look(text, encode)
    ranked = evidence.probabilities
    runner_up = ranked[1][0] if len(ranked) > 1 else ""
    margin = ranked[0][1] - ranked[1][1] if len(ranked) > 1 else 1.0
    if not seen.mended:
        return Explanation(evidence, (), (), runner_up, margin, ("any readable word would be read",))
    changes = (*_thresholds(evidence, runner_up, margin), *_words(head, seen, evidence))
    return Explanation(evidence, _ngrams(head, seen, ranked[0][0]), _nearest(head, seen, encode), runner_up, margin, changes)


def _ngrams(head: DomainHead, seen: Seen, domain: str) -> tuple[tuple[str, float], ...]:
    trained = head.trained
    if trained is None or seen.logits is None or domain not in head.domains[: trained.groups.shape[1]]:
        return ()
    columns, values, places = trained.vocabulary.vector(seen.found)
    if not len(columns):
        return ()
    shares = softmax(seen.logits / np.float32(trained.sparse_gate.temperature))
    mine = shares * trained.groups[:, head.domains.index(domain)]
    others = shares - mine
    direction = mine / max(float(mine.sum()), 1e-9) - others / max(float(others.sum()), 1e-9)
    added = values * (trained.sparse.weights[columns] @ direction)
    order = np.argsort(-np.abs(added), kind="stable")[:SHOWN]
    return tuple((seen.found.name(int(places[at])), float(added[at])) for at in order)


def _nearest(head: DomainHead, seen: Seen, encode: Encode | None) -> tuple[tuple[Exemplar, float], ...]:
    """Of the user's examples and of the training texts that stand for domains."""
    found: list[tuple[Exemplar, float]] = []
    taught = head.taught
    if taught is not None:
        likeness = taught.likeness(seen.found, seen.vector)
        found += [(one, float(cosine)) for one, cosine in zip(taught.exemplars, likeness, strict=True)]
    vector = seen.vector
    if vector is None and encode is not None and head.seed_vectors is not None:
        try:
            vector = encode(seen.mended)
        except (EngineError, ModelError):
            vector = None
    if vector is not None and head.seed_vectors is not None and head.seed_vectors.shape[1] == len(vector):
        own = head.trained.dense.own if head.trained is not None and head.trained.dense is not None else len(vector)
        cosines = head.seed_vectors[:, :own].astype(np.float32) @ vector[:own]
        known = {one.text for one, _ in found}
        found += [(one, float(cosine)) for one, cosine in zip(head.seeds, cosines, strict=True) if one.text not in known]
    return tuple(sorted(found, key=lambda one: -one[1])[:NEIGHBOURS])


def _thresholds(evidence: DomainEvidence, runner_up: str, margin: float) -> list[str]:
    limits = dict(evidence.thresholds)
    likeliest = evidence.probabilities[0][0]
    accept, outside = limits.get("accept", 0.0), limits.get("out_of_scope", 1.0)
    found = []
    if evidence.outcome == "accepted":
        has = f"{likeliest} has {evidence.confidence:.0%}"
        found.append(f"below {accept:.0%} confidence the base model would answer without a domain ({has})")
        found.append(f"from {outside:.0%} on it would be out of scope (it is {evidence.out_of_scope:.1%})")
    elif evidence.outcome == "grey":
        found.append(f"{likeliest} would be accepted from {accept:.0%} confidence on; it has {evidence.confidence:.0%}")
    else:
        found.append(f"{likeliest} would be considered below {outside:.0%} out of scope; it is {evidence.out_of_scope:.0%}")
    if runner_up:
        found.append(f"{runner_up} was next, {margin:.0%} behind")
    return found


def _words(head: DomainHead, seen: Seen, evidence: DomainEvidence) -> list[str]:
    """Single words without which the n-grams would see another domain, or none."""
    words = seen.mended.split()
    if head.trained is None or len(words) > WORDS or len(words) < 2 or head.taught is not None:
        return []
    before = head.read(seen.mended)
    found = []
    for at, word in enumerate(words):
        after = head.read(" ".join(words[:at] + words[at + 1 :]))
        if (after.domain, after.outcome) != (before.domain, before.outcome):
            there = after.domain or after.outcome.replace("_", " ")
            found.append(f"without {word!r} the n-grams alone would say {there}")
    return found[:3]
