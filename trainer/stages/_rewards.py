"""Programmatic rewards of the reinforcement stages: what an answer drawn is worth, between 0 and 1. Text is only read, never run.

    json_valid    1 for an answer that keeps the domain's contract, HALF for a JSON object in its layout that breaks the schema
    label_right   1 where the answer's label is the row's
    brief         1 for an answer no longer than the wanted one, falling to 0 at the most tokens that are drawn; 0 for an empty one

Not covered: drawing answers and learning from them (`_rl`).
"""

from collections.abc import Callable, Sequence
from typing import Any

from data.domains import Domain
from data.errors import InputError
from router.contract import Contract, Parsed

HALF = 0.5
Reward = Callable[..., list[float]]


def rewards(names: Sequence[str], domain: Domain | None, contract: str, most_tokens: int) -> list[Reward]:
    """TRL's reward functions of those names. contract: the layout, "" the domain's first; most_tokens: of an answer drawn.

    They take completions (texts), completion_ids and the columns of `_rl`: label, wanted_tokens. Raises InputError where a reward
    needs a domain with a contract or labels and there is none.
    """
    found = []
    for name in names:
        if name == "brief":
            found.append(_brief(most_tokens))
            continue
        if domain is None or not domain.asked:
            raise InputError(f"the reward {name} needs a domain with an output contract", "name a domain, or reward brief alone")
        if name == "label_right" and not domain.labels:
            raise InputError(f"the reward label_right needs labels, and the domain {domain.name} has none", "leave it out")
        found.append({"json_valid": _json_valid, "label_right": _label_right}[name](Contract(domain, contract)))
    return found


def _json_valid(contract: Contract) -> Reward:
    def json_valid(completions: Sequence[str], **_: Any) -> list[float]:
        return [_validity(contract, text) for text in completions]

    return json_valid


def _label_right(contract: Contract) -> Reward:
    def label_right(completions: Sequence[str], label: Sequence[str], **_: Any) -> list[float]:
        found = [_parsed(contract, text) for text in completions]
        return [
            float(one is not None and one.output.get(contract.label_path) == wanted)
            for one, wanted in zip(found, label, strict=True)
        ]

    return label_right


def _brief(most_tokens: int) -> Reward:
    def brief(
        completions: Sequence[str], completion_ids: Sequence[Sequence[int]], wanted_tokens: Sequence[int], **_: Any
    ) -> list[float]:
        return [
            _brevity(len(ids), wanted, most_tokens) if text.strip() else 0.0
            for text, ids, wanted in zip(completions, completion_ids, wanted_tokens, strict=True)
        ]

    return brief


def _validity(contract: Contract, text: str) -> float:
    found = _parsed(contract, text)
    if found is None:
        return 0.0
    return HALF if contract.faults(found.output) else 1.0


def _brevity(tokens: int, wanted: int, most: int) -> float:
    if tokens <= wanted:
        return 1.0
    return max(0.0, (most - tokens) / (most - wanted)) if wanted < most else 0.0


def _parsed(contract: Contract, text: str) -> Parsed | None:
    try:
        return contract.parse(text)
    except InputError:  # an answer that is none is worth nothing; it is no fault of the run
        return None
