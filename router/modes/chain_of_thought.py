"""Reasoning first, then the answer, and the two kept apart: natively where the model thinks, by a contract where it does not.

Reasoning ends at `thinking_tokens`; the answer is then asked for in a second request that goes on from it, as also where a
model never comes to an answer. A model that answers at once in a line has answered. Not covered: judging the reasoning.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

from data.chat import Usage
from data.errors import ContextOverflow
from router.engines.base import Engine, Request
from router.modes._asking import pieces, question_of, retold, shortened
from router.modes._contract import ASK, LINE_CHARS, Marked, unmarked
from router.modes.base import Done, Event, Means, Phase, Text, Thought, total

AT_ONCE_CHARS = 160
"""So much text that ends by itself without a marker is an answer and no reasoning."""
FINISH = "Now give only the final answer to the question, without the reasoning."
REASONING_CHARS = (6_000, 1_500, 300)
"""Characters of the reasoning that the second request goes on from: less where it does not fit the context."""
CHARS_PER_TOKEN = 8
"""Pieces count as tokens, and so does every eighth character of longer pieces."""


def run(engine: Engine, request: Request, means: Means) -> Iterator[Event]:
    """Yield Thought until the answer begins, then Text, then Done."""
    usages: list[Usage] = []
    reasoning = _Reasoning(means.settings.thinking_tokens)
    native = engine.can_think(request.model)
    yield from (_native if native else _contracted)(engine, request, reasoning, usages)
    if not reasoning.answered:
        yield from _forced(engine, request, native, reasoning, usages)
    yield Done(total(usages))


class _Reasoning:
    """What was thought so far, and whether an answer came of it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.answered = False
        self.text = ""
        self._pieces = 0

    def add(self, thought: str) -> Thought:
        """One more piece of it."""
        self.text += thought
        return Thought(thought)

    def answer(self, text: str) -> Text:
        """A piece of the answer."""
        self.answered = self.answered or bool(text.strip())
        return Text(text)

    def spent(self, piece: str) -> bool:
        """Count a piece from the model; whether the limit of tokens is reached."""
        self._pieces += max(1, len(piece) // CHARS_PER_TOKEN)
        return self._pieces >= self.limit


def _native(engine: Engine, request: Request, reasoning: _Reasoning, usages: list[Usage]) -> Iterator[Event]:
    asked = replace(request, think=True, max_tokens=request.max_tokens + reasoning.limit)
    with closing(pieces(engine, asked, usages)) as chunks:  # type: ignore[type-var]
        for chunk in chunks:
            if chunk.phase:
                yield Phase(chunk.phase, chunk.progress)
            if chunk.thinking:
                yield reasoning.add(chunk.thinking)
            if chunk.text:
                yield reasoning.answer(chunk.text)
            if chunk.thinking and not reasoning.answered and reasoning.spent(chunk.thinking):
                return


def _contracted(engine: Engine, request: Request, reasoning: _Reasoning, usages: list[Usage]) -> Iterator[Event]:
    question = f"{question_of(request.messages)}\n\n{ASK}"
    asked = replace(request, messages=retold(request.messages, question), max_tokens=request.max_tokens + reasoning.limit)
    parser = Marked()
    first = ""  # held back until it is clear that it is reasoning
    cut = False
    with closing(pieces(engine, asked, usages)) as chunks:  # type: ignore[type-var]
        for chunk in chunks:
            if chunk.phase:
                yield Phase(chunk.phase, chunk.progress)
            if chunk.thinking:
                yield reasoning.add(chunk.thinking)
            thought, text = parser.feed(chunk.text)
            first += thought
            if first and (parser.found or reasoning.text or len(first) > AT_ONCE_CHARS):
                yield reasoning.add(first)
                first = ""
            if text:
                yield reasoning.answer(text)
            if not parser.found and (chunk.text or chunk.thinking) and reasoning.spent(chunk.text + chunk.thinking):
                cut = True
                break
    thought, text = parser.flush()
    first += thought
    if text:
        yield reasoning.answer(text)
    at_once = not (cut or reasoning.answered or reasoning.text or parser.found) and usages[-1].finish == "stop"
    if first.strip():
        yield reasoning.answer(first) if at_once and len(first) <= AT_ONCE_CHARS + LINE_CHARS else reasoning.add(first)


def _forced(engine: Engine, request: Request, native: bool, reasoning: _Reasoning, usages: list[Usage]) -> Iterator[Event]:
    """The answer alone, going on from the reasoning."""
    asked = replace(request, think=False if native else None)
    if not reasoning.text.strip():
        yield from _finished(engine, asked, usages)
        return
    for chars in REASONING_CHARS:
        known = f"What you have thought so far:\n{shortened(reasoning.text, chars)}"
        question = f"{question_of(request.messages)}\n\n{known}\n\n{FINISH}"
        try:
            yield from _finished(engine, replace(asked, messages=retold(request.messages, question)), usages)
            return
        except ContextOverflow:  # comes before the first token
            if chars == REASONING_CHARS[-1]:
                raise


def _finished(engine: Engine, asked: Request, usages: list[Usage]) -> Iterator[Event]:
    """An answer without the marker that it may begin with."""
    lead: str | None = ""
    with closing(pieces(engine, asked, usages)) as chunks:  # type: ignore[type-var]
        for chunk in chunks:
            if chunk.phase:
                yield Phase(chunk.phase, chunk.progress)
            if chunk.thinking:
                yield Thought(chunk.thinking)
            if lead is None:
                yield from [Text(chunk.text)] if chunk.text else []
                continue
            lead += chunk.text
            if len(lead) > LINE_CHARS or "\n" in lead.lstrip():
                yield Text(_without_marker(lead))
                lead = None
    if lead and lead.strip():
        yield Text(_without_marker(lead))


def _without_marker(text: str) -> str:
    before, after = unmarked(text)
    return after if after and not before else text.lstrip()
