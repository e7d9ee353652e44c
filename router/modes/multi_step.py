"""A plan of sub-questions, each answered in a request of its own with what came before, then one answer made of all.

A question that needs no plan is asked straight. A step that fails (the engine broke off, or nothing came) is tried once more
by itself; what fails again is told to the synthesis, which goes on without it. A plan that is handed in, some of its steps done,
is taken up where it stands. Not covered: steps side by side.
"""

import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from data.chat import Usage
from data.errors import ContextOverflow, EngineBusy, EngineInterrupted, EngineRejected
from router.engines.base import Engine, Request
from router.modes import standard
from router.modes._asking import plumbing, question_of, retold, shortened, whole
from router.modes._partial import partial
from router.modes.base import Done, Event, Means, Planned, Step, total

TITLE_CHARS = 200
EARLIER_CHARS = 500
"""Characters of an earlier step's result that a later step sees."""
RESULT_CHARS = 1_500
"""Characters of a step's result that the synthesis sees."""
NOTES_CHARS = 6_000
"""Characters of all results that one request sees."""
PLAN = (
    "Do not answer this yet. Which smaller questions must be answered first, in order, to answer it well? "
    "List at most {most}, each on its own, short. If it is simple, list only one."
)
PLAN_AS_LIST = PLAN + " Write them as a numbered list."
STEP = "Answer only this part of the question, briefly: {title}"
SYNTHESIS = "Now answer the question as a whole, using these results."
FAILED = "(this step failed: {reason})"
_ITEM = re.compile(r"^\s*(?:step\s*)?(?:\d{1,2}\s*[.):\-]|[-*•])\s*(?:\*\*)?(.+?)(?:\*\*)?\s*$", re.IGNORECASE)
_NUMBERED = re.compile(r"^\s*(?:(?:step|question)\s*)?\d{1,2}\s*[.):\-]\s*", re.IGNORECASE)
_PASSING = (EngineInterrupted, EngineBusy, ContextOverflow)


@dataclass(frozen=True, slots=True)
class _Result:
    title: str
    text: str
    failed: bool = False


def run(engine: Engine, request: Request, means: Means) -> Iterator[Event]:
    """Yield each Step as it begins and ends, then the answer's Text, then Done."""
    usages: list[Usage] = []
    if means.plan:
        plan = means.plan
    else:
        plan = tuple(Planned(title) for title in (yield from _plan(engine, request, means, usages)))
    if len(plan) < 2 and not means.plan:
        yield Step(1, "answer", "started")
        yield from _answered(engine, request, usages)
        yield Step(1, "answer", "done")
        yield Done(total(usages))
        return
    results: list[_Result] = []
    for number, planned_step in enumerate(plan, 1):
        title = planned_step.title
        yield Step(number, title, "started")
        known = _Result(title, planned_step.text) if planned_step.text else None
        result = known or (yield from _step(engine, request, title, results, means, usages))
        results.append(result)
        yield Step(number, title, "failed" if result.failed else "done", result.text)
    yield from _synthesis(engine, request, results, usages)
    yield Done(total(usages))


def _synthesis(engine: Engine, request: Request, results: Sequence[_Result], usages: list[Usage]) -> Iterator[Event]:
    for chars in (RESULT_CHARS, RESULT_CHARS // 4, 0):
        question = f"{question_of(request.messages)}\n\n{_told(results, chars)}\n\n{SYNTHESIS}"
        try:
            yield from _answered(engine, replace(request, messages=retold(request.messages, question)), usages)
            return
        except ContextOverflow:  # comes before the first token
            if not chars:
                raise


def _plan(engine: Engine, request: Request, means: Means, usages: list[Usage]) -> Generator[Event, None, list[str]]:
    """The sub-questions; [] where the model makes no plan that can be read."""
    most = means.settings.steps
    if most == 1:
        return []
    asked = replace(plumbing(engine, request), max_tokens=max(means.settings.step_tokens, 16))
    question = question_of(request.messages)
    if engine.capabilities.schema:
        steps = {"type": "array", "items": {"type": "string", "maxLength": TITLE_CHARS}, "minItems": 1, "maxItems": most}
        schema = {"type": "object", "properties": {"steps": steps}, "required": ["steps"], "additionalProperties": False}
        messages = retold(request.messages, f"{question}\n\n{PLAN.format(most=most)}")
        try:
            reply = yield from whole(engine, replace(asked, messages=messages, schema=schema), usages)
            return planned(reply.text, most)
        except EngineRejected:  # a server without schemas
            pass
        except _PASSING:
            return []
    messages = retold(request.messages, f"{question}\n\n{PLAN_AS_LIST.format(most=most)}")
    try:
        reply = yield from whole(engine, replace(asked, messages=messages), usages)
    except _PASSING:
        return []
    return planned(reply.text, most)


def planned(text: str, most: int) -> list[str]:
    """The sub-questions in a plan written as JSON or as a list, at most `most`, each once; [] where it is neither."""
    begun = text.strip().removeprefix("```json").removeprefix("```").strip()
    found = partial(begun) if begun.startswith(("{", "[")) else None
    if isinstance(found, dict):
        found = next((value for value in found.values() if isinstance(value, list)), None)
    if not isinstance(found, list):
        found = [item[1] for line in text.splitlines() if (item := _ITEM.match(line))]
    titles: dict[str, str] = {}
    for item in found:
        title = " ".join(_NUMBERED.sub("", item).split())[:TITLE_CHARS] if isinstance(item, str) else ""
        if any(letter.isalnum() for letter in title):
            titles.setdefault(title.casefold().rstrip("?. "), title)
    return list(titles.values())[:most]


def _step(
    engine: Engine, request: Request, title: str, earlier: Sequence[_Result], means: Means, usages: list[Usage]
) -> Generator[Event, None, _Result]:
    """One sub-question, tried twice where it must be."""
    reason = ""
    for attempt, chars in enumerate((EARLIER_CHARS, EARLIER_CHARS // 4)):
        known = f"\n\n{_told(earlier, chars)}" if earlier else ""
        question = f"The whole question: {question_of(request.messages)}{known}\n\n{STEP.format(title=title)}"
        sampling = request.sampling
        if attempt and sampling.seed is not None:
            sampling = sampling.model_copy(update={"seed": (sampling.seed + attempt) % 2**32})
        tokens = min(request.max_tokens, means.settings.step_tokens)
        asked = replace(request, messages=retold(request.messages, question), sampling=sampling, max_tokens=tokens, tools=())
        try:
            reply = yield from whole(engine, asked, usages)
        except _PASSING as fault:
            reason = fault.what
            continue
        if reply.text.strip():
            return _Result(title, reply.text.strip())
        reason = "the model said nothing"
    return _Result(title, reason, failed=True)


def _told(results: Sequence[_Result], chars: int) -> str:
    chars = max(40, min(chars, NOTES_CHARS // len(results)))
    lines = ["Results so far:"]
    for number, result in enumerate(results, 1):
        said = FAILED.format(reason=result.text) if result.failed else shortened(result.text, chars)
        lines.append(f"{number}. {result.title}\n{said}")
    return "\n".join(lines)


def _answered(engine: Engine, request: Request, usages: list[Usage]) -> Iterator[Event]:
    for event in standard.run(engine, request, Means()):
        if isinstance(event, Done):
            usages.append(event.usage)
        else:
            yield event
