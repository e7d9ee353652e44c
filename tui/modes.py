"""What the ways of reasoning are called and what each does, in one line; and what the user pinned for a conversation.

Not covered: the ways themselves (`router.modes`), and which one Auto takes (`router.route`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from data.sanitise import one_line


@dataclass(frozen=True, slots=True)
class Mode:
    """A way of reasoning. name: as settings and the log have it; line: what it does, for the picker."""

    name: str
    title: str
    line: str


MODES: Final = (
    Mode("auto", "Auto", "takes one of the others for each question, and says which and why"),
    Mode("standard", "Standard", "answers at once"),
    Mode("chain_of_thought", "Chain-of-Thought", "reasons first, then answers; the reasoning stays apart"),
    Mode("multi_step", "Multi-Step", "plans sub-questions, answers each, and puts the answers together"),
    Mode("agent", "Agent", "uses tools until it knows; asks before it changes anything"),
    Mode("ensemble", "Ensemble", "one model classifies, another reasons, and the results are merged"),
)
_BY_NAME: Final = {mode.name: mode for mode in MODES}


def title(name: str) -> str:
    """The mode's title, for example "Chain-of-Thought"; an unknown name, which an older log may hold, made harmless."""
    known = _BY_NAME.get(name)
    return known.title if known else one_line(name, 40)


def word(name: str) -> str:
    """The title as it stands within a line: "chain-of-thought"."""
    return title(name).lower()


def following(name: str) -> str:
    """The name of the mode after this one, and of the first after the last."""
    names = [mode.name for mode in MODES]
    return names[(names.index(name) + 1) % len(names)] if name in names else names[0]


@dataclass(frozen=True, slots=True)
class Pins:
    """What the user chose for a conversation; "" leaves it to the settings and the router."""

    model: str = ""
    mode: str = ""
    domain: str = ""

    def over(self, other: "Pins") -> "Pins":
        """These, and what `other` says where these say nothing."""
        return Pins(self.model or other.model, self.mode or other.mode, self.domain or other.domain)


def standing(pins: Pins, default: str) -> str:
    """How the next question is answered, for the status line; `default` is the mode of the settings."""
    parts = [f"mode: {word(pins.mode)} (yours)" if pins.mode else f"mode: {word(default)}"]
    if pins.domain:
        parts.append(f"domain: {one_line(pins.domain, 30)} (yours)")
    return " · ".join(parts)


def stages_of(decision: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The stages of a logged decision of any age; what is none is left out."""
    found = decision.get("stages")
    return [stage for stage in found if isinstance(stage, Mapping)] if isinstance(found, list | tuple) else []


def pinned(decision: Mapping[str, Any], default: str) -> Pins:
    """What the user had chosen when this decision was made, so that a conversation goes on as it was left."""
    stages = stages_of(decision)
    chosen = {part for stage in stages if stage.get("name") == "pin" for part in str(stage.get("outcome", "")).split(", ")}
    kept = {name: value for name in ("model", "mode", "domain") if (value := str(decision.get(name, ""))) in chosen - {""}}
    if default != "auto" and any(stage.get("name") == "mode" for stage in stages):
        kept["mode"] = "auto"  # the mode was looked for, which the settings alone do not ask for
    return Pins(**kept)
