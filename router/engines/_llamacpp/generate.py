"""The answer, token by token: prompt in batches, then decode and draw until the model, a limit or the caller ends it.

Between two pieces nothing is computed and the context is consistent, so the generator may be closed or abandoned at any
of them; within one, the thread's cancellation ends it (router/cancelling.py). Not covered: finding the model (the engine),
making the prompt (`prompt`).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from data.chat import Chunk, Finish, Message, Usage
from data.errors import EngineInterrupted, ModelInvalid
from router.cancelling import current
from router.engines._calls import Calls
from router.engines._llamacpp.context import Context, common_prefix
from router.engines._llamacpp.model import LoadedModel
from router.engines._llamacpp.prompt import Prompt, compose
from router.engines._llamacpp.sampler import Sampler
from router.engines._llamacpp.text import OPEN, Shown
from router.engines.base import Adapter, Request


def answer(model: LoadedModel, request: Request, started: float, load_s: float) -> Iterator[Chunk]:
    """The chunks of one answer; `started` is time.perf_counter() at the request, `load_s` the seconds spent loading."""
    user = object()
    with model.lock:
        context = model.context(request.adapter)
        prompt = compose(model, request, context)
        context.user = user
        context.heed(current())
    try:
        yield from _answered(model, request, context, user, prompt, started, load_s)
    finally:
        with model.lock:
            if context.user is user:
                context.heed(None)
                context.user = None  # from now on its memory may be wanted for another


def _answered(
    model: LoadedModel, request: Request, context: Context, user: object, prompt: Prompt, started: float, load_s: float
) -> Iterator[Chunk]:
    with model.lock:
        _still(context, user)
        cached = context.keep(prompt.tokens)
        model.reserve(context, len(prompt.tokens) + 1)
    yield from _read(model, context, user, prompt.tokens)
    with model.lock:
        _still(context, user)
        sampler = Sampler(model.api, context.pointer, model.vocab_pointer, request.sampling, request.schema)
    writer = _Writer(model, context, user, sampler, request, prompt)
    try:
        yield from writer.write()
    finally:
        sampler.close()
    now = time.perf_counter()
    yield Chunk(
        usage=Usage(
            prompt_tokens=len(prompt.tokens),
            cached_tokens=cached,
            completion_tokens=writer.count,
            ttft_s=writer.first_at - started,
            total_s=now - started,
            finish=writer.finish,
            load_s=load_s,
            context_tokens=context.size,
            dropped_turns=prompt.dropped_turns,
        )
    )


def warm(model: LoadedModel, system: str = "", adapter: Adapter | None = None) -> None:
    """Compute what every first prompt with this system message begins with, so that the first question waits less."""
    with model.lock:
        context = model.context(adapter)
        if context.user is not None:
            return  # an answer is being written in it
        talks = [(*((Message("system", system),) if system else ()), Message("user", text)) for text in "ab"]
        first, second = (compose(model, Request("", talk), context).tokens for talk in talks)
        shared = first[: common_prefix(first, second)]
        for part in context.batches(context.keep([*shared, 0]), len(shared)):
            context.read(shared[part])


def _read(model: LoadedModel, context: Context, user: object, prompt: list[int]) -> Iterator[Chunk]:
    begin = len(context.tokens)
    parts = context.batches(begin, len(prompt) - 1)
    for part in [*parts, slice(len(prompt) - 1, len(prompt))]:
        if len(parts) > 1 and part in parts:
            yield Chunk(phase="reading", progress=(part.start - begin) / (len(prompt) - begin))
        with model.lock:
            _still(context, user)
            context.read(prompt[part])


def _still(context: Context, user: object) -> None:
    if context.user is not user:
        raise EngineInterrupted("the answer was broken off: the model was closed or asked something else", "ask again")


class _Writer:
    """The loop of one answer, and what is known at its end."""

    def __init__(
        self, model: LoadedModel, context: Context, user: object, sampler: Sampler, request: Request, prompt: Prompt
    ) -> None:
        self.count = 0
        self.finish: Finish = "stop"
        self.first_at = 0.0
        self._model, self._context, self._user, self._sampler = model, context, user, sampler
        self._most = min(request.max_tokens, context.size - len(prompt.tokens) + 1)
        thinks = model.template.thinks
        inside = thinks and prompt.text.rstrip().endswith(OPEN)
        self._shown = Shown((*request.stop, *model.template.stops), thinks, inside, model.vocab.spaces_first)
        self._calls = Calls([_name(tool) for tool in request.tools]) if request.tools else None

    def write(self) -> Iterator[Chunk]:
        """The pieces as they can be shown, tool calls last."""
        calls = self._calls
        if calls is None:
            yield from self._said()
            return
        for chunk in self._said():
            text = calls.feed(chunk.text)
            if chunk.thinking or text:
                yield Chunk(text, chunk.thinking)
        text, found = calls.flush()
        if found:
            self.finish = "tool_calls"
        if text or found:
            yield Chunk(text, tool_calls=found)

    def _said(self) -> Iterator[Chunk]:
        """What the model says. What is slow to look up is looked up once: this loop runs for every token."""
        model, context, user, shown, draw = self._model, self._context, self._user, self._shown, self._sampler.draw
        lock, is_end, piece, feed, tokens, most = (
            model.lock,
            model.vocab.is_end,
            model.vocab.piece,
            shown.feed,
            context.tokens,
            self._most,
        )
        decode, pointer, cells = model.api.llama_decode, context.pointer, context.cells
        one = (model.api.llama_token * 1)()
        batch = model.api.llama_batch_get_one(one, 1)
        with lock:
            _still(context, user)
            token = draw()
        self.first_at = time.perf_counter()
        while not is_end(token):
            self.count += 1
            thinking, text = feed(piece(token))
            if thinking or text:
                yield Chunk(text, thinking)
            if shown.stopped:
                return
            if self.count >= most:
                self.finish = "length"
                break
            with lock:
                if context.user is not user:
                    _still(context, user)
                if len(tokens) >= cells:
                    pointer, cells, draw = self._grown()
                one[0] = token
                code = decode(pointer, batch)
                if code:
                    context.check(code)
                tokens.append(token)
                token = draw()
        thinking, text = shown.flush()
        if thinking or text:
            yield Chunk(text, thinking)

    def _grown(self) -> tuple[Any, int, Callable[[], int]]:
        """Let the context have room for a token more: its pointer, its cells, and how to draw from it now."""
        context = self._context
        try:
            self._model.reserve(context, len(context.tokens) + 1)
        except ModelInvalid as error:
            raise EngineInterrupted(error.what, error.fix) from error
        self._sampler.follow(context.pointer)
        return context.pointer, max(context.cells, len(context.tokens) + 1), self._sampler.draw


def _name(tool: Mapping[str, Any]) -> str:
    function = tool.get("function", tool)
    return str(function.get("name", "")) if isinstance(function, Mapping) else ""
