"""Many answers of one structure: rows are drawn as there is room for them, computed together, and given back in their order.

Not covered: what an answer is made of (`answer`), how several share a context (`batching`).
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

from data.chat import Usage
from data.errors import ContextOverflow
from router.cancelling import current
from router.engines._llamacpp.answer import Answer
from router.engines._llamacpp.batching import Batch
from router.engines._llamacpp.context import Context
from router.engines._llamacpp.dequantised import dequantised
from router.engines._llamacpp.model import LoadedModel
from router.engines._llamacpp.plan import Plan
from router.engines._llamacpp.prompt import compose
from router.engines.base import Adapter, Request
from router.engines.structure import Completion, Structure

SEQUENCES = 192  # of a batch: the answers at work and the branches of their choices; llama.cpp has 256 at most
GROUP = 16  # rows drawn at once, which decide what is shared
WINDOW = 64  # rows drawn and not given back yet, at most
AT_WORK = 8  # answers computed at once: more share a reading of the weights, but each attends over the cells of all (3 to 32 tried)
WORTH_SHARING = 16  # tokens that a group begins with
WORTH_WAITING = 64  # tokens shared by a group beyond those that are: then the answers at work are finished first


def complete(
    model: LoadedModel, requests: Iterable[Request], structure: Structure, adapter: Adapter | None, free_bytes: int | None
) -> Iterator[Completion]:
    """One completion a request, in order, all with `adapter`. Raises what concerns them all: ModelInvalid, EngineRejected,
    EngineInterrupted, ModelMissing. free_bytes: memory that can be had, None where unknown.
    """
    rows = iter(requests)
    first = list(islice(rows, GROUP))
    with model.lock:
        model.alive()
        if len(first) == GROUP:
            model = dequantised(model, free_bytes)
        plan = Plan(model, structure)
        context = model.batch_context(adapter, SEQUENCES, flash=not plan.writes)
        context.heed(current())
    work = _Work(model, context, chain(first, rows), plan)
    number = 0
    try:
        while True:
            with model.lock:
                model.alive()
                more = work.go_on(number)
            while number in work.found:
                yield work.found.pop(number)
                number += 1
            if not more:
                return
    finally:
        with model.lock:
            work.close()
            model.release(context)


@dataclass(slots=True)
class _Job:
    """A row drawn: which one, and what is known of it."""

    number: int
    answer: Answer
    dropped_turns: int
    cached: int = 0
    begun_at: float = 0.0


class _Work:
    """The rows from drawn to found."""

    def __init__(self, model: LoadedModel, context: Context, requests: Iterable[Request], plan: Plan) -> None:
        self.found: dict[int, Completion] = {}
        self._model, self._context = model, context
        self._requests = iter(requests)
        self._plan = plan
        self._batch = Batch(model, context)
        self._waiting: list[_Job] = []
        self._jobs: dict[Answer, _Job] = {}
        self._drawn = 0

    def close(self) -> None:
        """Free the batch."""
        self._batch.close()

    def go_on(self, given: int) -> bool:
        """Draw, admit, and compute one round; `given`: rows given back. Whether there is more to do."""
        if not self._waiting and self._drawn - given < WINDOW:
            self._draw()
        self._admit()
        if not self._batch.rows:
            return bool(self._waiting or self.found)
        for row in self._batch.compute():
            job = self._jobs.pop(row.answer)
            self.found[job.number] = Completion(fault=row.fault) if row.fault else self._completed(job)
        while self._batch.put_back:
            self._waiting.insert(0, self._jobs.pop(self._batch.put_back.pop().answer))
        return True

    def _draw(self) -> None:
        """Take a group of rows; those that do not fit are faults at once."""
        for request in islice(self._requests, GROUP):
            try:
                asked = replace(request, think=bool(request.think))  # thinking would come before what is asked for
                prompt = compose(self._model, asked, self._context, answer_tokens=self._plan.least)
            except ContextOverflow as fault:
                self.found[self._drawn] = Completion(fault=fault)
            else:
                limit = min(request.max_tokens, self._context.size - len(prompt.tokens) - 1)
                answer = Answer(self._plan, prompt.tokens, limit, request.sampling)
                self._waiting.append(_Job(self._drawn, answer, prompt.dropped_turns))
            self._drawn += 1

    def _admit(self) -> None:
        """Let rows begin as long as there is room for them, and more of them make the rounds no slower for each."""
        batch, plan = self._batch, self._plan
        prompts = [job.answer.tokens[:-1] for job in self._waiting]
        if batch.gain(prompts) >= (WORTH_WAITING if batch.rows else WORTH_SHARING):
            if batch.rows:
                return
            batch.share(prompts)
        while self._waiting and len(batch.rows) < AT_WORK and batch.queued < self._context.batch:
            job = self._waiting[0]
            if job.answer.done:  # nothing in it was for the model to decide
                self.found[job.number] = self._completed(self._waiting.pop(0))
                continue
            row = batch.admit(job.answer, plan.least, plan.likely)
            if row is None:
                return
            job.cached, job.begun_at = row.shared, job.begun_at or time.perf_counter()
            self._jobs[job.answer] = self._waiting.pop(0)

    def _completed(self, job: _Job) -> Completion:
        answer = job.answer
        usage = Usage(
            prompt_tokens=answer.prompt_tokens,
            cached_tokens=min(job.cached, answer.prompt_tokens),
            completion_tokens=len(answer.tokens) - answer.prompt_tokens,
            total_s=time.perf_counter() - job.begun_at if job.begun_at else 0.0,
            finish="length" if answer.cut else "stop",
            context_tokens=self._context.size,
            dropped_turns=job.dropped_turns,
        )
        return Completion(answer.text, tuple(answer.choices), usage)
