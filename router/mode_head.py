"""Which way of reasoning a question wants, for the mode Auto: Standard, Chain-of-Thought, Multi-Step or Agent.

Two linear heads over named features of the user's own words (`mode_features`), their weights shipped in mode_head.json and
fitted by bench/train_mode_head.py. Tool need: for our own tools a cue must speak for one that is on offer, and a logistic
regression then tells how likely a call is; for any other tool the pair of words and description is judged. At or above the
threshold the mode is Agent; else a softmax over the other three decides, with the rest of the probability.
Not covered: whether the user allows the tool, the domain, and earlier turns.
"""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from data.errors import PointsmanError
from router._modes.cues import ALIASES, BUILT_IN
from router.mode_features import Words, features, fit, top, users_words

MODES = ("standard", "chain_of_thought", "multi_step", "agent")
"""The modes of a reading, in the order of its probabilities."""
_SPOKEN = {
    "cue": "speaks for {}",
    "tool": "fits {}",
    "like": "asks like “{}”",
    "w": "says “{}”",
    "word": "has words of “{}”",
    "words": "has words of “{}”",
    "first": "begins with “{}”",
    "has": "has {}",
    "numbers": "{} numbers or more",
    "length": "{} words or more",
}
_FITTED = 200
"""Tools of others that are compared with a question, at most."""


@dataclass(frozen=True, slots=True)
class ModeEvidence:
    """What the head read of a question.

    confidence: the chosen mode's probability; probabilities: of all modes, sum 1, calibrated; tool_need: probability that a
    tool on offer should be called; tools: names of those that seem needed, likeliest first; features: the features that
    weighed most for the chosen mode, with their contributions in logits.
    """

    mode: str
    confidence: float
    probabilities: tuple[tuple[str, float], ...]
    tool_need: float
    tool_threshold: float
    tools: tuple[str, ...]
    features: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class ModeHead:
    """The weights. modes: feature -> a weight for each of the first three `MODES`; own: feature -> weight of the need of our own
    tools; other: the same for the pair of a question and any other tool."""

    modes: Mapping[str, tuple[float, float, float]]
    own: Mapping[str, float]
    other: Mapping[str, float]
    threshold: float
    temperature: float
    version: str = ""

    @classmethod
    def load(cls) -> "ModeHead":
        """The shipped head, read once. Raises PointsmanError where its file is damaged or missing."""
        return _shipped()

    @classmethod
    def from_json(cls, text: str) -> "ModeHead":
        """A head from the text of a weights file. Raises PointsmanError where it is none."""
        try:
            raw: dict[str, Any] = json.loads(text)
            modes = {str(name): _three(weights) for name, weights in raw["modes"].items()}
            own, other = ({str(name): float(value) for name, value in raw[part].items()} for part in ("own", "other"))
            return cls(modes, own, other, float(raw["tool_threshold"]), float(raw["temperature"]), str(raw["version"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PointsmanError(f"the mode head's weights are damaged: {error}", "install pointsman again") from error

    def read(self, question: str, *, tools: Collection[str] = ()) -> ModeEvidence:
        """What the question wants. `tools`: names on offer; a mapping gives their descriptions too. 0.3 ms, 2 ms for long texts."""
        words = users_words(question)
        found = features(words)
        shares, weighed = self._shares(found)
        candidates, why = self._candidates(words, found, tools)
        need = candidates[0][0] if candidates else 0.0
        probabilities = (*zip(MODES, ((1 - need) * share for share in shares), strict=False), ("agent", need))
        if need >= self.threshold:
            needed = tuple(dict.fromkeys(name for likely, name in candidates if likely >= self.threshold))
            return ModeEvidence("agent", need, probabilities, need, self.threshold, needed, top(why))
        best = max(range(3), key=lambda at: shares[at])
        return ModeEvidence(MODES[best], probabilities[best][1], probabilities, need, self.threshold, (), top(weighed[best]))

    def _shares(self, found: Mapping[str, float]) -> tuple[list[float], list[dict[str, float]]]:
        known = [(name, value, self.modes[name]) for name, value in found.items() if name in self.modes]
        logits = [sum(value * weights[at] for _, value, weights in known) / self.temperature for at in range(3)]
        highest = max(logits)
        powers = [math.exp(logit - highest) for logit in logits]
        means = {name: value * sum(weights) / 3 for name, value, weights in known}
        why = [{name: value * weights[at] - means[name] for name, value, weights in known} for at in range(3)]
        return [power / sum(powers) for power in powers], why

    def _candidates(
        self, words: Words, found: Mapping[str, float], tools: Collection[str]
    ) -> tuple[list[tuple[float, str]], dict[str, float]]:
        """The tools on offer that may be needed, each with the probability of it, likeliest first, and why the first one is."""
        offered = {cue: name for cue in found if cue.startswith("cue:") and (name := _on_offer(cue, tools))}
        why = {
            name: value * self.own[name]
            for name, value in found.items()
            if name in self.own and (not name.startswith(("cue:", "long:")) or f"cue:{name.partition(':')[2]}" in offered)
        }
        own = _sigmoid(sum(why.values())) if offered else 0.0
        mine = [(own, offered[cue]) for cue in sorted(offered, key=lambda cue: -self.own.get(cue, 0.0))]
        others = sorted(self._others(words, tools), reverse=True)
        if others and others[0][0] > own:
            likely, name = others[0]
            return [*others, *mine], {f"tool:{name}": math.log(likely / max(1 - likely, 1e-9))}
        return [*mine, *others], why

    def _others(self, words: Words, tools: Collection[str]) -> list[tuple[float, str]]:
        described = tools if isinstance(tools, Mapping) else dict.fromkeys(tools, "")
        judged = [(name, str(text)) for name, text in described.items() if name not in BUILT_IN][:_FITTED] if words.text else []
        return [(_sigmoid(_dot(self.other, fit(words, name, text))), name) for name, text in judged]


@cache
def _shipped() -> ModeHead:
    try:
        text = resources.files("router").joinpath("mode_head.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PointsmanError(f"the mode head's weights cannot be read: {error}", "install pointsman again") from error
    return ModeHead.from_json(text)


def spoken(feature: str) -> str:
    """A feature's name in words: `cue:calculator` is "speaks for calculator"."""
    kind, _, value = feature.partition(":")
    form = _SPOKEN.get(kind)
    return form.format(value) if form and value else feature.replace(":", " ")


def _on_offer(cue: str, tools: Collection[str]) -> str:
    """The name under which a cue's tool is on offer, "" where it is not."""
    name = cue.removeprefix("cue:")
    return next((one for one in ALIASES.get(name, (name,)) if one in tools), "")


def _three(weights: Any) -> tuple[float, float, float]:
    first, second, third = (float(weights.get(mode, 0.0)) for mode in MODES[:3])
    return first, second, third


def _dot(weights: Mapping[str, float], values: Mapping[str, float]) -> float:
    return sum(weights.get(name, 0.0) * value for name, value in values.items())


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, logit))))
