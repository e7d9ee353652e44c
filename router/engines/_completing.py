"""Structured answers from servers, many under way at once: the JSON schema sent, the answer brought into the structure's form.

The first row goes alone: it shows whether the server is there, and what it takes. Then as many rows as it stands are asked
at the same time, and their answers given in order. A row that fails beside others is asked once more alone, and a server
that cuts answers off in favour of the next request, as llama_cpp.server does, is soon asked one by one. Free reasoning,
which no JSON schema can put in front, is asked for as the first property and put between its tags afterwards. Not covered:
how requests are sent; see `_remote`.
"""

import json
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import replace
from typing import Any

from data.chat import Chunk, Usage
from data.errors import ContextOverflow, EngineBusy, EngineInterrupted, EngineRejected, EngineUnavailable, PointsmanError
from router.engines._calls import cleaned
from router.engines._faults import Dropped
from router.engines._json_text import find
from router.engines._token_probabilities import STEPS, Heard, choices, decisions
from router.engines.base import Request
from router.engines.structure import Choice, Completion, Node, Series, Structure, Text

AHEAD = 2
"""Rows handed out for each row under way, so that one long answer does not hold up the others."""
FAILURES = 3
"""Rows in succession without an answer, after which the server counts as failed."""
CUTS = 2
"""Rows in succession that broke off beside others, after which rows are asked one by one."""
LONGEST_CHARS = 1 << 20
REASONING_CHARS = 1_200
Ask = Callable[[Request, Heard], Generator[Chunk, None, None]]


class Habits:
    """What is known of one server between batches: how many requests it stands at a time, and its log-probabilities by model."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self._tops: dict[str, int] = {}
        self._cuts = 0

    def heard(self, model: str) -> Heard:
        """For one answer: asks for as many alternatives as the server is known to give."""
        return Heard(self._tops.get(model, STEPS[0]), sure=bool(self._tops.get(model)))

    def learn(self, model: str, heard: Heard) -> None:
        """After a whole answer: a model that never gave any is not asked for them again."""
        if heard.listed or not heard.top:
            self._tops[model] = heard.top
        else:
            self._tops.setdefault(model, 0)

    def count_cut(self, cut: bool) -> None:
        """After an answer beside others: whether it broke off."""
        self._cuts = self._cuts + 1 if cut else 0
        if self._cuts >= CUTS:
            self.lanes = 1


def completed(ask: Ask, requests: Iterable[Request], structure: Structure, habits: Habits) -> Generator[Completion, None, None]:
    """One completion a request, in order. Closing breaks off all that are under way.

    A row that is too long, broke off, or was refused has a fault. Raised: what the server as a whole cannot do (it is not
    reachable at the first row, has no such model, or fails rows in succession).
    """
    rows = iter(requests)
    first = next(rows, None)
    if first is None:
        return
    row = _Row(ask, _Shape(structure), habits)
    verdict = _Verdict()
    yield verdict.of(row.again(first))
    pool = ThreadPoolExecutor(habits.lanes, thread_name_prefix="pointsman-complete")
    waiting: deque[tuple[Request, Future[_Outcome], bool]] = deque()
    try:
        while True:
            room = AHEAD * habits.lanes if habits.lanes > 1 else 1
            while len(waiting) < room and (request := next(rows, None)) is not None:
                waiting.append((request, pool.submit(row, request), habits.lanes > 1))
            if not waiting:
                return
            request, future, beside = waiting.popleft()
            outcome = future.result()
            if beside:
                habits.count_cut(_is_cut(outcome))
            if isinstance(outcome, EngineBusy) or (beside and isinstance(outcome, EngineInterrupted | EngineUnavailable)):
                wait([other for _, other, _ in waiting])
                outcome = row(request)
            yield verdict.of(outcome)
    finally:
        row.stop()
        pool.shutdown(cancel_futures=True)


_Outcome = Completion | PointsmanError


def _is_cut(outcome: _Outcome) -> bool:
    """Whether the server ended an answer without a reason."""
    return isinstance(outcome, PointsmanError) and isinstance(outcome.__cause__, Dropped)


class _Row:
    """The asking of one row."""

    def __init__(self, ask: Ask, shape: "_Shape", habits: Habits) -> None:
        self._ask = ask
        self._shape = shape
        self._habits = habits
        self._stopped = threading.Event()

    def __call__(self, request: Request) -> _Outcome:
        """The completion, or what went wrong."""
        heard = self._habits.heard(request.model)
        try:
            text, usage = self._text(request, heard)
            if text:
                self._habits.learn(request.model, heard)
            found = choices(self._shape.structure, text, heard.tokens)
            if heard.top and heard.lossy:
                text, usage, found = self._unspoilt(request, text, found)
        except PointsmanError as error:
            return error
        return Completion(cleaned(self._shape.text(text)), found, usage)

    def again(self, request: Request) -> _Outcome:
        """The same, with a second try where the server is busy."""
        outcome = self(request)
        return self(request) if isinstance(outcome, EngineBusy) else outcome

    def stop(self) -> None:
        """Break off whatever is under way."""
        self._stopped.set()

    def _text(self, request: Request, heard: Heard) -> tuple[str, Usage]:
        pieces: list[str] = []
        chars = 0
        usage = Usage()
        with closing(self._ask(replace(request, schema=self._shape.schema), heard)) as chunks:
            for chunk in chunks:
                pieces.append(chunk.text)
                chars += len(chunk.text)
                usage = chunk.usage or usage
                if self._stopped.is_set():
                    raise EngineInterrupted("the answer was called off")
                if chars > LONGEST_CHARS:
                    raise EngineInterrupted(f"the answer broke off: it is longer than {LONGEST_CHARS:,} characters")
        return "".join(pieces), usage

    def _unspoilt(self, request: Request, spoilt: str, found: tuple[Choice, ...]) -> tuple[str, Usage, tuple[Choice, ...]]:
        """The answer without log-probabilities, for which the server drops characters; the choices stay where it says the same."""
        text, usage = self._text(request, Heard(0))
        before, after = (
            [(one.select.path, one.chosen) for one in decisions(self._shape.structure, said)] for said in (spoilt, text)
        )
        return text, usage, found if before == after else ()


class _Verdict:
    """Which faults are a row's own and which are the server's, judged in the order of the rows."""

    def __init__(self) -> None:
        self._answered = False
        self._failures = 0

    def of(self, outcome: _Outcome) -> Completion:
        """The completion, with a fault where it is the row's own. Raises the server's."""
        if isinstance(outcome, Completion):
            self._answered, self._failures = True, 0
            return outcome
        own = ContextOverflow | EngineInterrupted
        if not isinstance(outcome, own | EngineRejected | EngineUnavailable | EngineBusy):
            raise outcome
        refused = isinstance(outcome, EngineRejected)
        if not (isinstance(outcome, own) or (refused and self._answered)):
            self._failures += 1
            if self._failures >= FAILURES or not (refused or self._answered):
                raise outcome
        return Completion(fault=outcome)


class _Shape:
    """A structure as a server is asked for it, and an answer brought into its form."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        own = structure.schema.get("properties", {})
        self._names = tuple(own)
        self._reasoning = structure.reasoning_tag
        while self._reasoning in own:
            self._reasoning += "_"
        self.schema = _with_first(structure, self._reasoning) if self._reasoning else structure.schema

    def text(self, answer: str) -> str:
        """`answer` with the tags of the structure and without what stands around its JSON; as it is where it holds none."""
        found = find(answer, (self._reasoning, *self._names) if self._reasoning else self._names)
        if found is None:
            return answer
        answer_tag, tag = self.structure.answer_tag, self.structure.reasoning_tag
        body = answer[found.start : found.end]
        front = ""
        if self._reasoning:
            thoughts = found.value.pop(self._reasoning)
            plain = thoughts if isinstance(thoughts, str) else json.dumps(thoughts, ensure_ascii=False)
            front = f"<{tag}>{_untagged(plain, tag)}</{tag}>\n"
            body = json.dumps(found.value, ensure_ascii=False)
        return f"{front}<{answer_tag}>{body}</{answer_tag}>" if answer_tag else front + body


def _untagged(text: str, tag: str) -> str:
    while f"</{tag}>" in text:  # taking one away may bring another about
        text = text.replace(f"</{tag}>", "")
    return text


def _with_first(structure: Structure, name: str) -> Mapping[str, Any]:
    schema = structure.schema
    reasoning = {"type": "string", "maxLength": _reasoning_chars(structure.root, f"</{structure.reasoning_tag}>")}
    return {
        **schema,
        "properties": {name: reasoning, **schema.get("properties", {})},
        "required": [name, *schema.get("required", ())],
    }


def _reasoning_chars(node: Node, stop: str) -> int:
    """The longest reasoning that the structure allows, in characters."""
    return next((text.max_chars for text in _texts(node) if text.stop == stop), REASONING_CHARS)


def _texts(node: Node) -> Iterator[Text]:
    for part in node.parts if isinstance(node, Series) else (node,):
        if isinstance(part, Text):
            yield part
