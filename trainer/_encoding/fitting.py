"""Prompts and answers that fit: within the tokens of the recipe, by dropping rows or cutting their texts, each one listed.

Not covered: what the rows say (`layouts`), their tokens (`spelling`).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from data.chat import Message
from data.datasets.rows import Row
from trainer._encoding.layouts import Layouts, Written
from trainer._encoding.spelling import Speller
from trainer._material.rows import Lost, teaches

LEAST_CHARACTERS = 16
"""Of a text that may be left by cutting."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt with its answers that fit; each answer's tokens end with the end token."""

    row: Row
    written: Written
    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Room:
    """How many tokens a prompt and its answer may have, and what becomes of more; said: what sets that limit."""

    tokens: int
    said: str
    truncate: bool


class Fitting:
    """Makes rows of a stage fit. lost: those that do not, or only shortened; notes: what else to know."""

    def __init__(self, kind: str, layouts: Layouts, speller: Speller, room: Room) -> None:
        self._kind, self._layouts, self.speller, self._room = kind, layouts, speller, room
        self.lost: list[Lost] = []
        self._counts: Counter[str] = Counter()

    @property
    def notes(self) -> tuple[str, ...]:
        """In words, each with its number of rows."""
        taken = [
            f"{count:,} rows with a label alone got their {name} from the pack's examples of that label"
            for name, count in sorted(self._layouts.completed.items())
        ]
        return (*(f"{count:,} {said}" for said, count in self._counts.items()), *taken)

    def fit(self, rows: Sequence[Row]) -> Iterator[Fitted]:
        """What the rows make, in their order, as far as it fits."""
        for row in rows:
            if not teaches(row, self._kind):
                self._counts[f"rows say nothing that {self._kind} learns from and are left to other stages"] += 1
                continue
            written, reason = self._layouts.written(row)
            if not written:
                self.lost.append(Lost.of(row, f"it cannot be expressed: {reason}"))
                continue
            if reason:
                self._counts[f"rows teach only a part of what {self._kind} is asked for: {reason}"] += 1
            for one in written:
                fitted = self._fitted(row, one)
                if fitted is not None:
                    yield fitted

    def _fitted(self, row: Row, written: Written) -> Fitted | None:
        if not all(answer.strip() for answer in written.answers):
            self.lost.append(Lost.of(row, "its answer is empty, so that nothing of it is learnt"))
            return None
        if len(set(written.answers)) < len(written.answers):
            self.lost.append(Lost.of(row, "its two answers are the same"))
            return None
        spelt = [self.speller.answer(answer) for answer in written.answers]
        answers = tuple((*one.ids, *self.speller.end) for one in spelt)
        if not all(one.exact for one in spelt):
            self._counts["answers hold characters that the vocabulary cannot spell"] += 1
        prompt = self.speller.prompt(written.messages)
        if self.speller.unknown in prompt:
            self._counts["prompts hold characters that the vocabulary does not know"] += 1
        longest = max(map(len, answers))
        if len(prompt) + longest <= self._room.tokens:
            return Fitted(row, written, prompt, answers)
        tokens = len(prompt) + longest
        shorter = self._shortened(written.messages, self._room.tokens - longest) if self._room.truncate else None
        over = f"{tokens:,} tokens, and {self._room.said} is {self._room.tokens:,}"
        if shorter is None:
            kept = ", and what would be left of its text is too little" if self._room.truncate else ""
            self.lost.append(Lost.of(row, f"dropped: {over}{kept}"))
            return None
        messages, prompt = shorter
        left, whole = len(messages[-1].content), len(written.messages[-1].content)
        self.lost.append(Lost.of(row, f"cut to {left:,} of its {whole:,} characters: {over}"))
        return Fitted(row, replace(written, messages=messages), prompt, answers)

    def _shortened(self, messages: tuple[Message, ...], most: int) -> tuple[tuple[Message, ...], tuple[int, ...]] | None:
        """The messages with the longest beginning of the last text whose prompt has at most so many tokens; None where too little
        would be left."""
        *before, last = messages

        def cut(characters: int) -> tuple[tuple[Message, ...], tuple[int, ...]]:
            shorter = (*before, replace(last, content=last.content[:characters]))
            return shorter, self.speller.prompt(shorter)

        fits, best = LEAST_CHARACTERS, cut(LEAST_CHARACTERS)
        if len(last.content) <= LEAST_CHARACTERS or len(best[1]) > most:
            return None
        step = fits
        while fits + step < len(last.content):  # doubled, so that a text of megabytes is never tokenised whole
            tried = cut(fits + step)
            if len(tried[1]) > most:
                break
            fits, best, step = fits + step, tried, step * 2
        over = min(fits + step, len(last.content))
        while over - fits > 1:
            middle = (fits + over) // 2
            tried = cut(middle)
            if len(tried[1]) <= most:
                fits, best = middle, tried
            else:
                over = middle
        return best
