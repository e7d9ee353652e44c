"""What a build keeps in memory of each row, about 80 bytes: numbers in flat arrays; the rows themselves are in a file.

Not covered: what is decided from them (`deciding`).
"""

import hashlib
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from data.datasets.rows import Row

_ANSWER = {ord("a") + place: 0xE000 + place for place in range(26)}  # a to z as private-use characters of Unicode
_REJECTED = {ord("a") + place: 0xE100 + place for place in range(26)}
SPLITS = ("", "train", "validation", "test")


class Names:
    """Strings by number, each kept once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """The number of a string, new or known."""
        return self._numbers.setdefault(name, len(self._numbers))

    def all(self) -> list[str]:
        """The strings in the order of their numbers."""
        return list(self._numbers)


@dataclass
class Facts:
    """One entry a row that passed reading, in order.

    source and label are numbers of `names` and `labels`; the rest are hashes of 64 bits, 0 for none. key: what must have one answer
    (0 where several are fine); value: that answer; prompt: what rows share that must not stand in different splits; group: the
    source's own group.
    """

    names: Names = field(default_factory=Names)
    labels: Names = field(default_factory=Names)
    source: "array[int]" = field(default_factory=lambda: array("l"))
    number: "array[int]" = field(default_factory=lambda: array("q"))
    label: "array[int]" = field(default_factory=lambda: array("l"))
    key: "array[int]" = field(default_factory=lambda: array("Q"))
    value: "array[int]" = field(default_factory=lambda: array("Q"))
    prompt: "array[int]" = field(default_factory=lambda: array("Q"))
    group: "array[int]" = field(default_factory=lambda: array("Q"))
    at: "array[float]" = field(default_factory=lambda: array("d"))
    given: "array[int]" = field(default_factory=lambda: array("b"))
    characters: "array[int]" = field(default_factory=lambda: array("l"))
    tokens: "array[int]" = field(default_factory=lambda: array("l"))

    def __len__(self) -> int:
        return len(self.key)

    def add(self, row: Row, label: str, tokens: int) -> None:
        """Keep a row's facts; label: as the domain has it; tokens: 0 where they are not counted."""
        value = answer_of(row, label)
        asked = _asked(row)
        prompt = _hash(asked)
        self.source.append(self.names.number(row.origin.source))
        self.number.append(row.origin.number)
        self.label.append(self.labels.number(label))
        self.key.append(_hash("\0".join((asked, *judged_answers(row)))) if value else 0)
        self.value.append(_hash(value) if value else 0)
        self.prompt.append(prompt)
        self.group.append(_hash(row.group) if row.group else 0)
        self.at.append(row.at)
        self.given.append(SPLITS.index(row.split))
        self.characters.append(characters(row))
        self.tokens.append(tokens)

    def origin(self, place: int, names: Sequence[str]) -> str:
        """`SOURCE:LINE` of a row; names: `self.names.all()`."""
        number = self.number[place]
        return f"{names[self.source[place]]}:{number}" if number else names[self.source[place]]


def compared(row: Row) -> str:
    """The text by which a row is a duplicate of another: what a model would read, and the answers that are written out.

    Answers are written in letters of their own, so that a row whose question is another's answer resembles it in nothing.
    """
    read = [message.content for message in row.before] + [row.text]
    written = [row.completion.casefold().translate(_ANSWER), row.rejected.casefold().translate(_REJECTED)]
    return "\n".join(part for part in (*read, *written) if part)


def answer_of(row: Row, label: str) -> str:
    """The one answer that a row gives, so that another answer to the same contradicts it; "" where several may be right."""
    if label:
        return label
    if row.thumb is not None:
        return f"thumb {row.thumb}"
    if row.completion and row.rejected:
        return f"better {row.completion}"
    return json.dumps(row.output, sort_keys=True, ensure_ascii=False) if row.output else ""


def judged_answers(row: Row) -> list[str]:
    """The answers that a judgement is about: the one of a thumb, the two of a pair in either order."""
    if row.thumb is not None:
        return [row.completion]
    return sorted((row.completion, row.rejected)) if row.rejected else []


def characters(row: Row) -> int:
    """Characters of what a trained model would read and write of a row; of two answers the longer."""
    answer = max(len(row.completion), len(row.rejected))
    if row.output:
        answer = max(answer, len(json.dumps(row.output, ensure_ascii=False)))
    return sum(len(message.content) for message in row.before) + len(row.text) + len(row.reasoning) + (answer or len(row.label))


def _asked(row: Row) -> str:
    from data.datasets.duplicates import normalised

    return "\0".join(normalised(part) for part in (*(message.content for message in row.before), row.text))


def _hash(text: str) -> int:
    """64 bits, never 0."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") or 1
