"""One model says what kind of question it is, another (or the same) answers knowing that; optionally several answers vote.

The classifier chooses among given labels by the probabilities that the engine gives them, else by schema, else in words; without
labels it says so in its own. Votes (self-consistency, arXiv 2203.11171) are drawn warm with a seed each, and the most common
final answer wins, the earliest where two are equal. Not covered: weighing models by what they are good at.
"""

import math
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from data.chat import Message, Usage
from data.errors import ContextOverflow, EngineBusy, EngineError, EngineInterrupted, EngineRejected, ModelError, SettingsError
from router.engines.base import Engine, Request
from router.modes import standard
from router.modes._answers import final, normal
from router.modes._asking import plumbing, question_of, retold, shortened, whole
from router.modes._contract import ASK, unmarked
from router.modes._partial import partial
from router.modes.base import Done, Event, Means, Step, Text, Thought, total

LABEL_TOKENS = 32
LABEL_WORDS = 6
"""A label in the model's own words has at most so many; more is chatter and no label."""
WARMTH = 0.5
"""The least temperature of votes: colder answers would all be the same."""
KIND = "What kind of request is this? Reply with one or two words only."
_PASSING = (EngineInterrupted, EngineBusy, ContextOverflow)


@dataclass(frozen=True, slots=True)
class _Kind:
    label: str = ""
    share: float = 0.0  # of the probability of all labels, 0 where unknown

    def __str__(self) -> str:
        return f"{self.label} ({self.share:.0%})" if self.share else self.label


def run(engine: Engine, request: Request, means: Means) -> Iterator[Event]:
    """Yield the steps of classifying and answering, the answer's Text, then Done."""
    usages: list[Usage] = []
    kind = yield from _classified(engine, request, means, usages)
    informed = _informed(request, kind)
    votes = means.settings.votes
    if votes > 1:
        yield from _voted(engine, informed, means, usages)
    else:
        yield Step(2, "answer", "started")
        for event in standard.run(engine, informed, means):
            if isinstance(event, Done):
                usages.append(event.usage)
            else:
                yield event
        yield Step(2, "answer", "done")
    yield Done(total(usages))


def _classified(engine: Engine, request: Request, means: Means, usages: list[Usage]) -> Generator[Event, None, _Kind]:
    """The kind of question, by the classifier of the settings, by the answering model where that one cannot."""
    candidates: list[str] = [means.settings.classifier, ""] if means.settings.classifier and means.other else [""]
    for reference in candidates:
        title = f"classify with {reference or request.model or engine.name}"
        yield Step(1, title, "started")
        try:
            other, model = means.other(reference) if reference and means.other else (engine, request.model)
            kind = yield from _kind(
                other, replace(request, model=model, adapter=None if reference else request.adapter), means, usages
            )
        except (EngineError, ModelError, SettingsError) as fault:
            if not reference and not isinstance(fault, (*_PASSING, EngineRejected)):
                raise  # the model that shall answer cannot be reached at all
            yield Step(1, title, "failed", fault.what)
            continue
        yield Step(1, title, "done" if kind.label else "failed", str(kind) if kind.label else "no label that can be read")
        return kind
    return _Kind()


def _kind(engine: Engine, request: Request, means: Means, usages: list[Usage]) -> Generator[Event, None, _Kind]:
    labels = tuple(dict.fromkeys(means.labels))
    if len(labels) == 1:
        return _Kind(labels[0])
    asked = replace(plumbing(engine, request), max_tokens=LABEL_TOKENS)
    if not labels:
        reply = yield from whole(engine, replace(asked, messages=_about(request, KIND)), usages)
        words = reply.text.split()
        return _Kind(" ".join(words).strip(" .\"'*") if len(words) <= LABEL_WORDS else "")
    choose = f"Which of these does the text belong to: {', '.join(labels)}? Reply with one of them only."
    asked = replace(asked, messages=_about(request, choose))
    if engine.capabilities.score:
        return _likeliest(labels, engine.score(asked, labels))
    if engine.capabilities.schema:
        schema = {
            "type": "object",
            "properties": {"label": {"enum": list(labels)}},
            "required": ["label"],
            "additionalProperties": False,
        }
        try:
            reply = yield from whole(engine, replace(asked, schema=schema), usages)
            return _Kind(_named(reply.text, labels))
        except EngineRejected:  # a server without schemas
            pass
    reply = yield from whole(engine, asked, usages)
    return _Kind(_named(reply.text, labels))


def _likeliest(labels: Sequence[str], scores: Sequence[Sequence[float]]) -> _Kind:
    """The label with the greatest mean log-probability a token, and its share by softmax; the mean does not prefer short ones."""
    means = [math.fsum(score) / max(1, len(score)) for score in scores]
    best = max(means)
    weights = [math.exp(mean - best) for mean in means]
    return _Kind(labels[means.index(best)], 1 / math.fsum(weights))


def _named(text: str, labels: Sequence[str]) -> str:
    """The label that the text names: as JSON, as a whole, or as the only one it mentions; "" where it names none."""
    found = partial(text.strip()) if text.strip().startswith("{") else None
    said = found.get("label") if isinstance(found, dict) else text
    plain = str(said).strip(" \n.\"'*").casefold()
    for label in labels:
        if label.casefold() == plain:
            return label
    mentioned = [label for label in labels if label.casefold() in plain]
    longest = max(mentioned, key=len, default="")
    return longest if all(label.casefold() in longest.casefold() for label in mentioned) else ""


def _about(request: Request, ask: str) -> tuple[Message, ...]:
    return (Message("user", f"Text: {shortened(question_of(request.messages), 2_000)}\n\n{ask}"),)


def _informed(request: Request, kind: _Kind) -> Request:
    if not kind.label:
        return request
    system = f"The request was classified as: {kind.label}. Answer it accordingly."
    return replace(request, messages=retold(request.messages, question_of(request.messages), system))


def _voted(engine: Engine, request: Request, means: Means, usages: list[Usage]) -> Iterator[Event]:
    """Several answers, and the one that most of them agree on."""
    votes = means.settings.votes
    answers: list[tuple[str, str]] = []  # each one whole, and its final answer in one spelling
    fault: EngineError | None = None
    question = f"{question_of(request.messages)}\n\n{ASK}"
    request = replace(request, messages=retold(request.messages, question), tools=())
    for number in range(1, votes + 1):
        title = f"vote {number} of {votes}"
        yield Step(number + 1, title, "started")
        try:
            reply = yield from whole(engine, _warm(request, number, means.settings.step_tokens), usages)
        except _PASSING as found:
            fault = found
            yield Step(number + 1, title, "failed", found.what)
            continue
        key = normal(reply.text)
        if key:
            answers.append((reply.text, key))
        yield Step(number + 1, title, "done" if key else "failed", final(reply.text) if key else "no answer")
    if not answers:
        if fault is not None:
            raise fault
        return
    winner, count = Counter(key for _, key in answers).most_common(1)[0]
    reasoning, answer = unmarked(next(text for text, key in answers if key == winner))
    yield Thought(f"{reasoning if answer else ''}\n{count} of {len(answers)} answers agree: {winner}".strip())
    yield Text(answer or reasoning)


def _warm(request: Request, number: int, tokens: int) -> Request:
    seed = None if request.sampling.seed is None else (request.sampling.seed + number - 1) % 2**32
    sampling = request.sampling.model_copy(update={"temperature": max(WARMTH, request.sampling.temperature), "seed": seed})
    return replace(request, sampling=sampling, max_tokens=min(tokens, request.max_tokens))
