"""Think, act, observe: the model calls tools until it answers, or until `agent_turns` are used up and it must.

Tool calls come the way the model can: natively, where engine and model have them; by grammar (`_constrained`), where the
engine keeps to a schema; else from JSON in the text. A way that the engine refuses is left for the next within the answer.
What the model gets wrong is told to the model. Not covered: what a tool may do, which the Toolbox decides.
"""

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby

from data.chat import Message, ToolCall, Usage
from data.errors import ContextOverflow, EngineError, EngineInterrupted, EngineRejected, EngineUnavailable
from router.engines._calls import MARKS, cleaned, search
from router.engines._faults import Garbled
from router.engines.base import Engine, Request
from router.modes import _constrained, standard
from router.modes._asking import pieces, question_of, retold
from router.modes._notes import LEAST_CHARS, NOTES_CHARS, RESULT_CHARS, WARNING, Note, result, told
from router.modes._schemas import canonical
from router.modes.base import Done, Event, Means, Phase, Text, Thought, ToolCalled, ToolResult, total
from router.tools import Outcome, Toolbox
from router.tools.base import Tool

CALLS = 8
"""Calls that one turn may make; further ones are not done."""
REPEATS = 2
"""Calls repeated word for word, after so many the model must answer."""
HELD_CHARS = 240
"""So much text is held back as long as calls may follow, because what stands before a call is no answer."""
REPEATED = "this very call was made before, and its result is the same: make another one, or answer"
ANSWER_NOW = "Use this to answer the question: "
CALL_BY_TEXT = 'To use a tool, reply with nothing but {"tool": "NAME", "arguments": {…}}. If you need none, reply with the answer.'
_BROKEN = re.compile(r"\{\s*[\"']?(?:tool|name|function|arguments|parameters)\b")

_Turn = Generator[Event, None, Sequence[ToolCall] | None]
"""One turn: its events, and the calls that the model makes, None where it has answered."""


def run(engine: Engine, request: Request, means: Means) -> Iterator[Event]:
    """Yield ToolCalled, ToolResult, Thought and Text as they come, then Done. Without tools as in standard."""
    if means.tools is None or not means.tools.tools:
        yield from standard.run(engine, request, means)
        return
    yield from _Agent(engine, request, means, means.tools).run()


class _Agent:
    """One answer: what the tools have said, and by which way the model calls them."""

    def __init__(self, engine: Engine, request: Request, means: Means, tools: Toolbox) -> None:
        self._engine, self._request, self._tools = engine, request, tools
        self._settings = means.settings
        self._notes: list[Note] = []
        self._usages: list[Usage] = []
        self._known: dict[str, Outcome] = {}
        self._repeats = 0
        self._tired: set[str] = set()  # tools whose calls begin to repeat
        self._room = NOTES_CHARS
        self._turn = 0
        self._ways: list[Callable[[], _Turn]] = [self._by_text]
        if engine.capabilities.schema:
            self._ways.insert(0, self._by_grammar)
        if engine.can_call(request.model):
            self._ways.insert(0, self._natively)

    def run(self) -> Iterator[Event]:
        """The whole answer."""
        for turn in range(self._settings.agent_turns):
            self._turn = turn
            calls = yield from self._fitting(self._next)
            if calls is None:
                yield Done(total(self._usages))
                return
            for call in calls[:CALLS]:
                yield from self._call(call)
            if self._repeats >= REPEATS:
                break
        yield from self._fitting(self._answer)
        yield Done(total(self._usages))

    def _next(self) -> _Turn:
        """One turn, by the first way that the engine does not refuse."""
        while True:
            try:
                return (yield from self._ways[0]())
            except EngineRejected:
                if len(self._ways) == 1:
                    raise
                del self._ways[0]

    def _fitting(self, turn: Callable[[], _Turn]) -> _Turn:
        """`turn`, with less and less of results and descriptions where they do not fit the context; at last without tools."""
        while self._room > NOTES_CHARS // 32:
            try:
                return (yield from turn())
            except ContextOverflow:
                self._room //= 2
                if not self._notes and len(self._ways) > 1 and self._ways[0] == self._natively:
                    del self._ways[0]  # native descriptions cannot be made shorter
        return (yield from self._answer())

    def _call(self, call: ToolCall) -> Iterator[Event]:
        call = replace(call, arguments=cleaned(call.arguments))
        yield ToolCalled(call.name, call.arguments)
        key = canonical([call.name, dict(call.arguments)])
        known = self._known.get(key)
        if known is None:
            outcome = self._known[key] = self._tools.call(call)
            self._notes.append(Note(call, outcome, self._turn))
        else:
            self._repeats += 1
            self._tired.add(call.name)
            outcome = replace(known, text=f"{REPEATED}\n{known.text}")
            self._notes.append(Note(call, Outcome(REPEATED, failed=True), self._turn))  # the result itself stands above
        yield ToolResult(call.name, outcome.text, outcome.failed, outcome.untrusted)

    def _answer(self) -> _Turn:
        """The answer without tools."""
        question = question_of(self._request.messages)
        notes = told([note for note in self._notes if note.outcome.text != REPEATED], self._room)
        messages = self._request.messages
        if notes:
            messages = retold(messages, f"{notes}\n\n{ANSWER_NOW}{question}")
        with closing(pieces(self._engine, replace(self._request, messages=messages), self._usages)) as chunks:  # type: ignore[type-var]
            for chunk in chunks:
                if chunk.phase:
                    yield Phase(chunk.phase, chunk.progress)
                if chunk.thinking:
                    yield Thought(chunk.thinking)
                if chunk.text:
                    yield Text(chunk.text)
        return None

    def _by_grammar(self) -> _Turn:
        notes = told(self._notes, self._room)
        tools = {name: tool for name, tool in self._tools.tools.items() if name not in self._tired}
        if not tools:
            return (yield from self._answer())
        if not self._notes and (call := self._spelled(tools)):
            return (yield from self._said(call))
        listed = _constrained.listed(tools, self._room * _constrained.DESCRIPTION_CHARS // NOTES_CHARS)
        tool = yield from _constrained.choose(self._engine, self._request, tools, listed, notes, self._usages)
        if tool is None:
            return (yield from self._answer())
        tokens = max(self._settings.step_tokens, 16)
        return [(yield from _constrained.fill(self._engine, self._request, tool, notes, self._usages, tokens))]

    def _spelled(self, tools: Mapping[str, Tool]) -> ToolCall | None:
        """The call that the question itself spells out, where just one tool without permissions finds it there."""
        question = question_of(self._request.messages)
        able = {name: tool.spelled for name, tool in tools.items() if tool.spelled and tool.permission == "none"}
        found = [ToolCall(name, arguments) for name, read in able.items() if (arguments := read(question)) is not None]
        return found[0] if len(found) == 1 else None

    def _said(self, call: ToolCall) -> _Turn:
        """Make that call; what the tool says answers the question, and where it fails the model goes on with that."""
        yield from self._call(call)
        note = self._notes[-1]
        if note.outcome.failed:
            return []
        yield Text(note.outcome.text)
        self._usages.append(Usage())
        return None

    def _natively(self) -> _Turn:
        request = replace(self._request, messages=self._dialogue(), tools=self._tools.describe())
        held = _Held()
        try:
            calls = yield from self._heard(request, held)
        except (EngineInterrupted, EngineUnavailable) as fault:
            if held.said or not _about_a_call(fault) or not self._engine.capabilities.schema:
                raise
            return (yield from self._by_grammar())
        if calls:
            if held.text.strip():
                yield Thought(held.text)
            return calls
        if held.looks_broken and self._engine.capabilities.schema:  # a call that cannot be read
            return (yield from self._by_grammar())
        return (yield from self._rest(held))

    def _heard(self, request: Request, held: "_Held") -> Generator[Event, None, tuple[ToolCall, ...]]:
        """One request of a turn: text passes through `held`, and the native calls are returned."""
        calls: tuple[ToolCall, ...] = ()
        with closing(pieces(self._engine, request, self._usages)) as chunks:  # type: ignore[type-var]
            for chunk in chunks:
                if chunk.phase:
                    yield Phase(chunk.phase, chunk.progress)
                if chunk.thinking:
                    yield Thought(chunk.thinking)
                calls += chunk.tool_calls
                if text := held.feed(chunk.text):
                    yield Text(text)
        return calls

    def _by_text(self) -> _Turn:
        question = question_of(self._request.messages)
        tools = "\n\n".join(_constrained.explained(tool) for tool in self._tools.tools.values())[: 2 * self._room]
        parts = [question, told(self._notes, self._room), tools, CALL_BY_TEXT]
        request = replace(self._request, messages=retold(self._request.messages, "\n\n".join(filter(None, parts))))
        held = _Held()
        yield from self._heard(request, held)
        call = search(held.text)
        if call is not None:
            return [call]
        if held.looks_broken:
            yield Thought(held.text)
            wrong = Outcome(f"that was no call that can be read. {CALL_BY_TEXT}", failed=True)
            self._notes.append(Note(ToolCall("unreadable", {}), wrong, self._turn))
            return []
        return (yield from self._rest(held))

    def _rest(self, held: "_Held") -> _Turn:
        """What is still held of an answer; another request for one where the model said nothing."""
        if held.text:
            yield Text(held.text)
        return None if held.said or held.text.strip() else (yield from self._answer())

    def _dialogue(self) -> tuple[Message, ...]:
        """The conversation with the calls so far in the roles that models made for tools know."""
        messages = list(self._request.messages)
        share = max(min(self._room // max(len(self._notes), 1), RESULT_CHARS), LEAST_CHARS)
        for _, group in groupby(self._notes, key=lambda note: note.turn):
            notes = list(group)
            messages.append(Message("assistant", "", tool_calls=tuple(note.call for note in notes)))
            for note in notes:
                warning = f"{WARNING}\n" if note.outcome.untrusted else ""
                messages.append(Message("tool", f"{warning}{result(note, share)}".strip(), tool_name=note.call.name))
        return tuple(messages)


def _about_a_call(fault: EngineError) -> bool:
    """Whether the server could not read, or did not send readably, the call that its own model wrote."""
    return isinstance(fault.__cause__, Garbled) or "tool call" in fault.what


class _Held:
    """The text of a turn, held back until it is long enough to be an answer, or while it looks like a call."""

    def __init__(self) -> None:
        self.text = ""
        self.said = False
        self.broken = False

    def feed(self, text: str) -> str:
        """What can be shown now."""
        if self.broken:
            return ""
        self.text += text
        if any(mark in self.text for mark in MARKS):
            self.broken = True
            return ""
        if not self.said and (len(self.text) < HELD_CHARS or "{" in self.text[:HELD_CHARS]):
            return ""
        shown, self.text = self.text, ""
        self.said = self.said or bool(shown.strip())
        return shown

    @property
    def looks_broken(self) -> bool:
        """Whether what is held is more likely a call than an answer."""
        return self.broken or _BROKEN.search(self.text) is not None
