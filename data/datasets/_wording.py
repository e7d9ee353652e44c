"""The words of reasoning chains from the knowledge base: varied by the text, the same for the same text.

Not covered: which chains are right (`chains`).
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from data.domains import Domain
from data.indicators import Evidence, Indicators

T = TypeVar("T")
MOST_QUOTES = 6
"""Finds that a teacher is told; the strongest."""
QUOTE_CHARS = 120
MARKS = (("“", "”"), ('"', '"'), ("«", "»"))
"""Quotation marks that chains use and `check_chain` reads."""

_SIGNS = (
    "{quote} is a sign of {label}: it {what} ({name}).",
    "The words {quote} stand out: {name}, that is, it {what}, which speaks for {label}.",
    "It says {quote}. That is {name} ({what}) and points to {label}.",
    "There is {name} in {quote}: it {what}. That fits {label}.",
)
_AGAINST = ("This speaks against {labels}.", "That does not fit {labels}.", "That makes {labels} less likely.")
_OTHERS = (
    "On the other side, {quote} would fit {label} ({name}).",
    "{quote} could also be read as {label}, by its {name}.",
    "Against that stands {quote}: {name}, more often seen in {label}.",
)
_BARE_SIGNS = ("{quote} is a sign of {label} ({name}).", "It says {quote}: {name}, which points to {label}.")
_BARE_OTHERS = ("On the other side, {quote} would fit {label} ({name}).",)
LAYOUTS = (
    (6, _SIGNS, _OTHERS, False),
    (3, _SIGNS, _OTHERS, False),
    (2, _BARE_SIGNS, _BARE_OTHERS, False),
    (1, _BARE_SIGNS, _BARE_OTHERS, False),
    (1, _BARE_SIGNS, _BARE_OTHERS, True),
)
"""Finds that are quoted at most (the strongest), the sentences about them, and whether they stand alone: from full to bare."""
_WEIGHED = {
    "more": ("The signs of {label} weigh more.", "Weighed together, {label} has the stronger evidence."),
    "alone": ("All the evidence found points the same way.", "Nothing found points elsewhere."),
    "one": (
        "It is a single sign, so the evidence is thin, but nothing found points elsewhere.",
        "One sign is little, yet no other was found.",
    ),
    "less": (
        "The listed signs weigh more on the other side; the label rests on the meaning of the whole text.",
        "By the signs alone this would be read differently; the whole text decides.",
    ),
}
_NONE = (
    "No indicator of {labels} is in the text.",
    "As far as the known signs go, no indicator of {labels} is in the text.",
)
_END = ("Label: {label}", "Taken together: {label}", "The answer is {label}", "So the label is {label}")


@dataclass(frozen=True)
class Writing:
    """One chain on its way: what was found in the text, by the side it is on."""

    text: str
    label: str
    domain: Domain
    indicators: Indicators
    found: Sequence[Evidence]

    def chain(self, quotes: int, signs: Sequence[str], others: Sequence[str], alone: bool = False) -> str:
        """Signs, what they speak against, signs of other labels, their weight, what was not found, and the label.

        alone: the signs and the label only, and what was not found where there is no sign of the label.
        """
        choose = _Wording(f"{self.text}\0{self.label}")
        quoted = strongest(self.found, self.indicators, self.label, quotes)
        own = [one for one in quoted if one.label == self.label]
        against = [one for one in quoted if one.label != self.label]
        said = [self._sign(one, choose.of(signs)) for one in own]
        lacking = [choose.of(_NONE).format(labels=_listed(self._missing, "or"))] if self._missing else []
        labels = {name: 0 for one in own for name in self.indicators.by_name[one.indicator].against if name != self.label}
        if labels and not alone:
            said.append(choose.of(_AGAINST).format(labels=_listed(list(labels))))
        said += [] if own else lacking
        said += [self._sign(one, choose.of(others)) for one in against]
        if quoted and not alone:
            said.append(choose.of(_WEIGHED[self._balance()]).format(label=self.label))
        if own and not alone and choose.of((1, 0)):
            said += lacking
        return " ".join([*said, choose.of(_END).format(label=self.label)])

    def without_signs(self) -> str:
        """The chain that names and quotes nothing, for a text or a knowledge base whose own words would break any other."""
        missing = [_NONE[0].format(labels=_listed(self._missing, "or"))] if self._missing else []
        return " ".join([*missing, _END[0].format(label=self.label)])

    @cached_property
    def _missing(self) -> list[str]:
        """The labels that the knowledge base has signs of, none of which is in the text; this row's own last."""
        known, there = {one.label for one in self.indicators.indicators}, {one.label for one in self.found}
        missing = [name for name in self.domain.labels if name in known - there]
        return sorted(missing, key=lambda name: name == self.label)

    def _sign(self, one: Evidence, template: str) -> str:
        known = self.indicators.by_name[one.indicator]
        name, what = known.name.replace("_", " "), known.description.strip(" .")
        return template.format(quote=_quoted(one.quote), label=one.label, name=name, what=what)

    def _balance(self) -> str:
        """How all that was found weighs, quoted or not."""
        weights: dict[str, tuple[bool, float]] = {
            one.indicator: (one.label == self.label, self.indicators.by_name[one.indicator].weight) for one in self.found
        }
        own = [weight for mine, weight in weights.values() if mine]
        others = [weight for mine, weight in weights.values() if not mine]
        if not others:
            return "alone" if len(own) > 1 else "one"
        return "more" if sum(own) > sum(others) else "less"


class _Wording:
    """Picks among variants by a hash of the text: the same in every process, another for another text."""

    def __init__(self, key: str) -> None:
        self._number = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest(), "big")

    def of(self, variants: Sequence[T]) -> T:
        self._number, place = divmod(self._number, len(variants))
        return variants[place]


def strongest(found: Sequence[Evidence], indicators: Indicators, label: str, most: int = MOST_QUOTES) -> list[Evidence]:
    """At most so many finds, one an indicator, in the order of the text: those of the label before others, the heaviest first."""
    first: dict[str, Evidence] = {}
    for one in found:
        first.setdefault(one.indicator, one)
    weight = {name: indicators.by_name[name].weight for name in first}
    ranked = sorted(first.values(), key=lambda one: (one.label != label, -weight[one.indicator], one.start))
    return sorted(ranked[:most], key=lambda one: (one.start, one.end))


def _quoted(quote: str) -> str:
    """The quote, cut to QUOTE_CHARS at a word, in marks that it does not hold itself."""
    shown = cut(quote)
    for opening, closing in MARKS:
        if opening not in shown and closing not in shown:
            return f"{opening}{shown}{closing}"
    before = re.split("|".join(mark for pair in MARKS for mark in pair), shown)[0].strip()
    return f"{MARKS[0][0]}{before}{MARKS[0][1]}"


def cut(quote: str) -> str:
    """The quote on one line, its first whole words within QUOTE_CHARS."""
    joined = " ".join(quote.split())
    return joined if len(joined) <= QUOTE_CHARS else joined[:QUOTE_CHARS].rsplit(" ", 1)[0]


def _listed(names: Sequence[str], last: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"
