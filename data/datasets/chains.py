"""Reasoning for labelled rows that have none: from the indicator knowledge base of the domain, or from a teacher model.

Each chain is about its own row: it quotes the signs in this text, weighs them, says what they speak against, and ends in the label.
No chain may name an indicator that is not in the text or quote words that do not stand there: `check_chain` finds such faults, and
a chain with one is never kept. Where the text holds no sign, the chain says so. Not covered: whether the label is right.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from data.chat import Message
from data.datasets._wording import LAYOUTS, MARKS, Writing, cut, strongest
from data.datasets.rows import ReasoningSource, Row
from data.domains import Domain
from data.errors import ContextOverflow, EngineInterrupted
from data.indicators import Evidence, Indicators
from data.sanitise import one_line

Teacher = Callable[[Sequence[Message]], str]
"""A model's answer to messages, passed in from above. ContextOverflow and EngineInterrupted fail a row, other faults the build."""

PROPERTY = "reasoning"
"""The schema's property that holds reasoning where the contract has no tag for it."""
CHAIN_CHARS = 1_200
"""As much reasoning as an answer of a contract may have."""
TEACHER_TRIES = 2
_QUOTED = re.compile("|".join(f"{opening}([^{opening}{closing}\n]{{1,400}}){closing}" for opening, closing in MARKS))
_THINK = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)


class Chains:
    """Gives labelled rows their reasoning. teacher: asked first where there is one; `by` is its name.

    counts: rows by what became of their chain ("given", "knowledge base", "teacher", "none", and "... refused").
    """

    def __init__(self, domain: Domain, teacher: Teacher | None = None, by: str = "", write: bool = True) -> None:
        self.domain = domain
        self.indicators = Indicators.of(domain)
        self.counts: Counter[str] = Counter()
        self._teacher = teacher
        self._by = by
        self._write = write

    def row(self, row: Row) -> Row:
        """The row with its reasoning: its own where it names nothing that is not there, else a chain made for it."""
        inner = row.output.get(PROPERTY)
        told = [text for text in (row.reasoning, inner) if text and isinstance(text, str)]
        if told:
            if not any(name_faults(text, row.text, self.indicators) for text in told):
                self.counts["given"] += 1
                return replace(row, reasoning=told[0], reasoning_source=row.reasoning_source or "given")
            self.counts["given refused"] += 1
            kept = {name: value for name, value in row.output.items() if name != PROPERTY}
            row = replace(row, reasoning="", reasoning_source="", reasoning_by="", output=kept)
        label = label_of(row, self.domain)
        if not self._write or not label:
            self.counts["none"] += 1
            return row
        if self._teacher and (taught := self._taught(row, label)):
            self.counts["teacher"] += 1
            return with_reasoning(row, self.domain, taught, "teacher", self._by)
        if not self.indicators:
            self.counts["none"] += 1
            return row
        self.counts["knowledge base"] += 1
        return with_reasoning(row, self.domain, from_knowledge(row.text, label, self.domain, self.indicators), "knowledge base")

    def _taught(self, row: Row, label: str) -> str:
        """A chain of the teacher without faults, or "" after TEACHER_TRIES."""
        messages = teacher_messages(row.text, label, self.domain, self.indicators)
        for _ in range(TEACHER_TRIES):
            try:
                said = self._teacher(messages) if self._teacher else ""
            except (ContextOverflow, EngineInterrupted):
                self.counts["teacher failed"] += 1
                continue
            told = " ".join(_THINK.sub("", said).split())
            chain = told if told.rstrip(" .").endswith(label) else f"{told} Label: {label}"
            faults = check_chain(chain, row.text, self.indicators, (label, *self.domain.labels))
            if label.casefold() in told.casefold() and len(chain) <= longest(self.domain) and not faults:
                return chain
            self.counts["teacher refused"] += 1
        return ""


def from_knowledge(text: str, label: str, domain: Domain, indicators: Indicators) -> str:
    """A chain from the signs in the text, as long as the domain allows: with fewer and barer quotes where that is little.

    The wording is chosen by the text, the same for the same text.
    """
    found = indicators.find(text)
    writing = Writing(text, label, domain, indicators, found)
    for quotes, signs, others, alone in LAYOUTS:
        chain = writing.chain(quotes, signs, others, alone)
        if len(chain) <= longest(domain) and not check_chain(chain, text, indicators, domain.labels, found):
            return chain
    return writing.without_signs()


def longest(domain: Domain) -> int:
    """Characters that a domain's reasoning may have: those of its schema's property `reasoning`, else CHAIN_CHARS."""
    limit = domain.asked.get("properties", {}).get(PROPERTY, {}).get("maxLength", CHAIN_CHARS)
    return min(int(limit), CHAIN_CHARS)


def with_reasoning(row: Row, domain: Domain, reasoning: str, source: ReasoningSource, by: str = "") -> Row:
    """The row with that reasoning, also in its output where the domain's schema has a place for it."""
    output = row.output
    if output and PROPERTY in domain.asked.get("properties", {}):
        output = {**output, PROPERTY: reasoning}
    return replace(row, reasoning=reasoning, reasoning_source=source, reasoning_by=by, output=output)


def check_chain(
    chain: str, text: str, indicators: Indicators, labels: Sequence[str] = (), found: Sequence[Evidence] | None = None
) -> list[str]:
    """What is wrong with a chain, in words: quotes that do not stand in the text, indicators that it names and that are not there.

    Quotes are compared whatever their case and white space, without punctuation at their end; a label or found indicator in quotes
    is no quote. found: what `indicators.find(text)` gave, where that is at hand.
    """
    found = indicators.find(text) if found is None else found
    plain = _plain(text)
    allowed = {_plain(name) for name in (*labels, *_labels(indicators), *(one.indicator for one in found))}
    allowed |= {name.replace("_", " ") for name in allowed}
    faults = []
    for match in _QUOTED.finditer(chain):
        quote = _plain(next(part for part in match.groups() if part))
        bare = quote.strip(" .,;:!?…")
        if quote not in plain and bare not in plain and bare not in allowed:
            faults.append(f"the quote {one_line(quote, 60)!r} is not in the text")
    return faults + name_faults(chain, text, indicators, found)


def name_faults(chain: str, text: str, indicators: Indicators, found: Sequence[Evidence] | None = None) -> list[str]:
    """The indicators that a chain names, outside its quotes, and that are not in the text. A label's name names no indicator."""
    if not indicators:
        return []
    rest = _words(_QUOTED.sub(" ", chain))
    named = [name for name in indicators.names if _is_named(name, rest)]
    if not named:
        return []
    for label in sorted(_labels(indicators), key=len, reverse=True):
        rest = re.sub(rf"(?<!\w){re.escape(_words(label))}(?!\w)", " ", rest)
    there = {one.indicator for one in (indicators.find(text) if found is None else found)}
    return [f"the indicator {name} is not in the text" for name in named if name not in there and _is_named(name, rest)]


def label_of(row: Row, domain: Domain) -> str:
    """The label of a row; of judged labels the right one where there is only one; "" where it has none."""
    if row.label:
        return row.label
    if row.shape == "feedback":
        return row.correct_labels[0] if len(row.correct_labels) == 1 else ""
    found = row.output.get(domain.described.label_field, "") if domain.described.label_field else ""
    return found if isinstance(found, str) else ""


def teacher_messages(text: str, label: str, domain: Domain, indicators: Indicators) -> tuple[Message, ...]:
    """What a teacher is asked: why the text has its label, with the signs that were found and no other."""
    described: Mapping[str, str] = {one.name: one.description for one in domain.described.labels}
    signs = [f"- {one.indicator}: “{cut(one.quote)}”" for one in strongest(indicators.find(text), indicators, label)]
    listed = "\n".join(signs) if signs else "(none)"
    system = (
        "You explain labels. Write two to four sentences about the text alone. Quote the words that show the label, exactly as "
        "they stand, in double quotes. Name no sign but those listed; where none is listed, say that no known sign is in the text. "
        f"The last words are: Label: {label}"
    )
    asked = f"Label: {label} ({described.get(label, '')})\nSigns found:\n{listed}\n\nText:\n{text}\n\nWhy is the label {label}?"
    return (Message("system", system), Message("user", asked))


def _labels(indicators: Indicators) -> set[str]:
    return {one.label for one in indicators.indicators} | {name for one in indicators.indicators for name in one.against}


def _is_named(name: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name.replace('_', ' '))}(?!\w)", words) is not None


def _words(text: str) -> str:
    return _plain(text.replace("-", " ").replace("_", " "))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
