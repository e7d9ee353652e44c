"""Many answers of one structure: rows are drawn as there is room for them, computed together, and given back in their order.

Not covered: what an answer is made of (`router.engines._llamacpp.answer`), how rows share a computation (`batching`).
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from data.chat import Usage
from data.errors import ContextOverflow
from router.engines._llamacpp.answer import Answer
from router.engines._llamacpp.plan import Plan
from router.engines.base import Request
from router.engines.structure import Completion
from trainer._engine.batching import Batch, Row

GROUP = 32  # rows drawn at once, which decide what is shared
WORTH_SHARING = 16  # tokens that a group begins with
CELLS = 16_384  # tokens held at once, unless a single row has more
AT_WORK = 64  # rows at once where only choices are asked for: one computation each, so more share what it costs to begin one
AT_WORK_WRITING = 16  # the same where text is written (64 tokens a second of one core; 52 with 8, 41 with 4)

Prompt = Callable[[Request], list[int]]


@dataclass(slots=True)
class _Job:
    """A row drawn: which one, and what is known of it."""

    number: int
    answer: Answer
    cached: int = 0
    begun_at: float = 0.0


class Work:
    """The rows of one structure, from drawn to given back. prompt: the tokens of a request; context: tokens at most."""

    def __init__(self, batch: Batch, plan: Plan, requests: Iterable[Request], prompt: Prompt, context: int) -> None:
        self._batch, self._plan, self._prompt, self._context = batch, plan, prompt, context
        self._requests = iter(requests)
        self._most = AT_WORK_WRITING if plan.writes else AT_WORK
        self._waiting: list[_Job] = []
        self._jobs: dict[Row, _Job] = {}
        self._found: dict[int, Completion] = {}
        self._drawn = 0

    def completions(self) -> Iterator[Completion]:
        """One a request, in order. Raises ModelInvalid where the model's output is no numbers."""
        number = 0
        while self._go_on(number):
            while number in self._found:
                yield self._found.pop(number)
                number += 1

    def _go_on(self, given: int) -> bool:
        """Draw, admit, and compute one round; `given`: rows given back. Whether there is more to do."""
        if len(self._waiting) < GROUP and self._drawn - given < 4 * self._most:
            self._draw()
        self._admit()
        for row in self._batch.compute():
            job = self._jobs.pop(row)
            self._found[job.number] = self._completed(job)
        return bool(self._batch.rows or self._waiting or self._found)

    def _draw(self) -> None:
        """Take a group of rows; those that do not fit are faults at once."""
        for request in islice(self._requests, GROUP):
            prompt = self._prompt(request)
            room = self._context - len(prompt) - 1
            if room < self._plan.least:
                self._found[self._drawn] = Completion(fault=too_long(len(prompt), self._context - 1 - self._plan.least))
            else:
                answer = Answer(self._plan, prompt, min(request.max_tokens, room), request.sampling)
                self._waiting.append(_Job(self._drawn, answer))
            self._drawn += 1

    def _admit(self) -> None:
        """Let rows begin as long as there is room for them."""
        batch = self._batch
        if not batch.rows:
            prompts = [job.answer.tokens[:-1] for job in self._waiting]
            if batch.gain(prompts) >= WORTH_SHARING:
                batch.share(prompts)
        while self._waiting and len(batch.rows) < self._most and batch.queued < batch.step:
            job = self._waiting[0]
            if job.answer.done:  # nothing in it was for the model to decide
                self._found[job.number] = self._completed(self._waiting.pop(0))
                continue
            if batch.rows and batch.used + len(job.answer.tokens) + self._plan.likely > CELLS:
                return
            row = batch.admit(job.answer)
            job.cached, job.begun_at = row.shared, time.perf_counter()
            self._jobs[row] = self._waiting.pop(0)

    def _completed(self, job: _Job) -> Completion:
        answer = job.answer
        usage = Usage(
            prompt_tokens=answer.prompt_tokens,
            cached_tokens=min(job.cached, answer.prompt_tokens),
            completion_tokens=len(answer.tokens) - answer.prompt_tokens,
            total_s=time.perf_counter() - job.begun_at if job.begun_at else 0.0,
            finish="length" if answer.cut else "stop",
            context_tokens=self._context,
        )
        return Completion(answer.text, tuple(answer.choices), usage)


def too_long(tokens: int, room: int) -> ContextOverflow:
    """What is said of a prompt that does not fit."""
    return ContextOverflow(
        f"the prompt is too long: {tokens} tokens, and the context has room for {room} beside the answer", "shorten the text"
    )
