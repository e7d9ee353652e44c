"""Why a question was routed as it was: the stored decision, what the learned heads see in the words, what would change it.

The decision is the stored one; the n-grams and neighbours come from the heads as they are now, and where those have changed
since, it is said. Not covered: printing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from router.route import Snapshot

if TYPE_CHECKING:
    from router.classifier import Encode


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A labelled example near the question; similarity is a cosine."""

    text: str
    domain: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Why:
    """An explanation. ngrams: pieces of the question with their weight for the domain (against it, where negative);
    changes: sentences that say what would have led elsewhere; notes: what limits this explanation."""

    question: str
    decision: Mapping[str, Any]
    ngrams: tuple[tuple[str, float], ...] = ()
    nearest: tuple[Neighbour, ...] = ()
    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The decision's fields with the explanation beside them, as plain JSON."""
        return {
            **self.decision,
            "question": self.question,
            "ngrams": [{"text": text, "weight": weight} for text, weight in self.ngrams],
            "nearest": [{"text": one.text, "domain": one.domain, "similarity": one.similarity} for one in self.nearest],
            "would_change": list(self.changes),
            "notes": list(self.notes),
        }


def explain(question: str, decision: Mapping[str, Any], snapshot: Snapshot, encode: "Encode | None") -> Why:
    """The explanation of a decision, stored or fresh, as plain JSON."""
    notes = []
    if decision.get("version", "") != snapshot.version:
        then, now = decision.get("version") or "none", snapshot.version or "none"
        notes.append(f"decided by version {then}; words and neighbours are those of {now}")
    changes = [*_domain_changes(decision), *_mode_changes(decision), *_model_changes(decision)]
    ngrams: tuple[tuple[str, float], ...] = ()
    nearest: tuple[Neighbour, ...] = ()
    if snapshot.domains is not None and question.strip():
        found = snapshot.domains.explain(question, encode)
        ngrams = found.ngrams
        nearest = tuple(Neighbour(one.text, one.domain, similarity) for one, similarity in found.nearest)
        changes += [sentence for sentence in found.changes if sentence not in changes]
    return Why(question, decision, ngrams, nearest, tuple(changes), tuple(notes))


def _domain_changes(decision: Mapping[str, Any]) -> list[str]:
    wrote = {str(stage.get("name")): str(stage.get("outcome")) for stage in decision.get("stages", ())}
    if wrote.get("pin") and decision.get("domain") in wrote["pin"].split(", "):
        return [f"without your choice of {decision['domain']} the router would have read the question"]
    return []


def _mode_changes(decision: Mapping[str, Any]) -> list[str]:
    found = []
    need, thresholds = decision.get("tool_need"), decision.get("thresholds") or {}
    limit = thresholds.get("tool_need")
    if isinstance(need, float) and isinstance(limit, float):
        side = "below" if need >= limit else "from"
        instead = "no tool would have been offered" if need >= limit else "agent mode would have answered with tools"
        found.append(f"{side} a tool need of {limit:.0%} {instead} (it was {need:.0%})")
    second = decision.get("runner_up")
    if isinstance(second, Mapping) and second.get("field") == "mode":
        name = str(second.get("name")).replace("_", " ")
        found.append(f"{name} was next, {float(second.get('margin', 0.0)):.0%} behind; --mode {second.get('name')} chooses it")
    return found


def _model_changes(decision: Mapping[str, Any]) -> list[str]:
    said = {str(stage.get("name")): str(stage.get("evidence")) for stage in decision.get("stages", ())}
    source = decision.get("source")
    if source == "default" and "adapter" in said:
        return [f"a tuned model would answer once it is proven: {said['adapter']}"]
    if source == "stability" and "switch gains" in said.get("stability", ""):
        return ["in a new conversation, where nothing has to be read again, the tuned model would answer"]
    if source == "fallback":
        return [f"the model first chosen would answer if it could: {said.get('fallback', '')}"]
    if source == "default":
        return ["another default model: pointsman config set model NAME"]
    return []
