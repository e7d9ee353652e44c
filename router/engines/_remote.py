"""What every engine behind a server does alike: try again before the first token, drop turns, end in one clear error.

Before the first token a lost connection is tried once more, a busy server a few times with growing pauses, and a
conversation that is too long without its oldest turns. After it nothing is tried again: whatever breaks, the answer ends in
one EngineInterrupted. While the server is silent the caller gets a chunk with a phase every quarter of a second (within an
answer every second), so that it can cancel. Not covered: what is sent and how the answer is read; see the subclasses.
"""

import time
from abc import abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data.chat import Chunk, Usage
from data.errors import ContextOverflow, EngineInterrupted, EngineRejected, PointsmanError
from router.engines._completing import Habits, completed
from router.engines._faults import Dropped, Fault, Garbled, Refusal
from router.engines._http import BEAT_S
from router.engines._token_probabilities import Heard
from router.engines._turns import Overflow, Shortening, overflow
from router.engines.base import Engine, Request
from router.engines.structure import Completion, Structure

BACKOFF_S = (0.5, 1.0, 2.0)
LONGEST_PAUSE_S = 10.0
QUIET_BEATS = 4
BUSY = (429, 503)
SILENT = (400, 422, 500, 501)  # a refusal of log-probabilities may have these without naming them
SPENT = ("insufficient_quota", "billing_hard_limit_reached")  # 429 for good, not for now


@dataclass(slots=True)
class Plan:
    """What one answer sends, and what it may still try. heard: takes the tokens' log-probabilities where they are wanted."""

    turns: Shortening
    max_tokens: int
    heard: Heard | None = None
    redials: int = 1
    pauses_s: list[float] = field(default_factory=lambda: list(BACKOFF_S))


class _Pace:
    """When what happened within one answer, in seconds since the request."""

    def __init__(self) -> None:
        self.phase: Literal["loading", "reading"] = "reading"
        self.first_s = 0.0
        self._started = time.perf_counter()
        self._beats = 0

    def due(self) -> bool:
        """Count one beat of silence; whether the caller should hear of it."""
        self._beats += 1
        return not self.first_s or self._beats % QUIET_BEATS == 0

    def spoke(self) -> None:
        """Count a piece of the answer."""
        self.first_s = self.first_s or time.perf_counter() - self._started
        self.phase = "reading"
        self._beats = 0

    def measured(self, usage: Usage, dropped: int) -> Usage:
        """`usage` with the times as measured here, and the turns left out."""
        total_s = time.perf_counter() - self._started
        return replace(usage, ttft_s=self.first_s or total_s, total_s=total_s, dropped_turns=max(usage.dropped_turns, dropped))


class Remote(Engine):
    """An engine behind a server; `label` is what messages call it."""

    label: str
    _habits: Habits

    def stream(self, request: Request) -> Generator[Chunk, None, None]:
        """The answer piece by piece; the last chunk carries Usage."""
        yield from self._stream(request, None)

    def complete(self, requests: Iterable[Request], structure: Structure) -> Generator[Completion, None, None]:
        """One completion a request, in their order; several under way at once. Choices come from the server's log-probabilities.

        They are as exact as `_token_probabilities` says, and there are none where the server gives none. Closing ends all.
        """
        yield from completed(self._stream, requests, structure, self._habits)

    def _stream(self, request: Request, heard: Heard | None) -> Generator[Chunk, None, None]:
        if request.adapter:
            raise EngineRejected(
                f"{self.label} attaches no adapter files", "use a llamacpp model, or serve the adapter as a model of its own"
            )
        if not request.messages:
            raise EngineRejected("there is nothing to answer: the conversation is empty")
        pace = _Pace()
        plan = Plan(Shortening(request.messages), request.max_tokens, heard)
        if heard is None and self._loads_first(request):
            pace.phase = "loading"
            yield Chunk(phase="loading")
        while True:
            try:
                yield from self._attempt(request, plan, pace)
                return
            except Fault as fault:
                if pace.first_s:
                    raise EngineInterrupted(
                        f"the answer from {self.label} broke off: {fault}", "ask again for a whole one"
                    ) from fault
                pause_s = self._recover(fault, request, plan)
            for rest_s in _slices(pause_s):
                time.sleep(rest_s)
                yield Chunk(phase=pace.phase)

    def _attempt(self, request: Request, plan: Plan, pace: "_Pace") -> Generator[Chunk, None, None]:
        if plan.heard:
            plan.heard.clear()
        with closing(self._answer(request, plan)) as pieces:
            for piece in pieces:
                if piece is None:
                    if pace.due():
                        yield Chunk(phase=pace.phase)
                elif piece.usage:
                    yield Chunk(usage=pace.measured(piece.usage, plan.turns.dropped))
                    return
                else:
                    pace.spoke()
                    yield piece
        raise Dropped("the answer has no end")

    @abstractmethod
    def _answer(self, request: Request, plan: Plan) -> Generator[Chunk | None, None, None]:
        """One attempt: pieces with text, thinking or tool calls, None for silence, Usage last; raises Fault."""

    @abstractmethod
    def _translated(self, fault: Fault, model: str) -> PointsmanError:
        """The error for a fault before the first token."""

    @abstractmethod
    def _window(self, model: str) -> tuple[int, str]:
        """The context window in tokens, and how to widen it."""

    def _loads_first(self, request: Request) -> bool:
        return False

    def _adapted(self, fault: Refusal, request: Request) -> bool:
        return False

    def _recover(self, fault: Fault, request: Request, plan: Plan) -> float:
        """Change the plan so that another attempt makes sense; the seconds to wait before it. Raises the translated fault."""
        if isinstance(fault, Dropped) and plan.redials:
            plan.redials -= 1
            return 0.0
        if isinstance(fault, Refusal):
            if refused := overflow(fault.text, fault.code):
                self._shorten(refused, fault, request, plan)
                return 0.0
            if fault.status in BUSY and plan.pauses_s and fault.code not in SPENT and fault.retry_after_s <= LONGEST_PAUSE_S:
                return max(plan.pauses_s.pop(0), fault.retry_after_s)
            if plan.heard and "logprob" in fault.text.lower() and plan.heard.ask_less():
                return 0.0
            if self._adapted(fault, request) or (plan.heard and fault.status in SILENT and plan.heard.doubted()):
                return 0.0
        raise self._translated(fault, request.model) from fault

    def _shorten(self, refused: Overflow, fault: Refusal, request: Request, plan: Plan) -> None:
        tokens, widening = self._window(request.model)
        tokens = refused.window_tokens or tokens
        room = tokens - refused.prompt_tokens
        if refused.prompt_tokens and tokens // 4 <= room < plan.max_tokens:
            plan.max_tokens = room  # the prompt fits; prompt and longest answer together do not
        elif not plan.turns.shorten(refused, tokens, plan.max_tokens):
            count = f"{refused.prompt_tokens} tokens" if refused.prompt_tokens else f"about {plan.turns.chars} characters"
            raise ContextOverflow(
                f"the last message with the system prompt ({count}) is longer than {request.model}'s context of {tokens} tokens",
                f"shorten it, or {widening}",
            ) from fault


def unit_vectors(rows: Sequence[Any], count: int) -> NDArray[np.float32]:
    """`rows` as L2-normalised vectors, shape (count, dimensions); raises Garbled where they are not `count` like vectors."""
    try:
        vectors = np.asarray(rows, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise Garbled("it sent vectors of unequal length") from error
    if vectors.ndim != 2 or len(vectors) != count or not np.isfinite(vectors).all():
        raise Garbled(f"it sent numbers of shape {vectors.shape} for {count} texts")
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), dtype=np.float32)


def _slices(seconds: float) -> Iterator[float]:
    while seconds > 0:
        yield min(seconds, BEAT_S)
        seconds -= BEAT_S
