"""The one door to an answer, for the command line, the chat, the server and evaluation: decide, ask, log.

The question is durably in the log before the model runs. While the answer comes, a thread of its own saves the partial
text every half second; at the end one commit says how it ended. Closing the generator cancels: the partial is kept.
"""

import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from data.chat import Message, Usage
from data.config import Sampling, Settings
from data.errors import EngineBusy, EngineUnavailable, InputError, PointsmanError
from data.store import Begun, How, Status, Store, Turn
from router import modes
from router.engines import EMBEDDED, Engines, Resolved
from router.engines.base import Request
from router.modes.base import Done, Event, Means, Started, Text, Thought
from router.route import Context, Decision, Stage, decide

FLUSH_S = 0.5
"""Seconds between two saves of a partial answer; a crash loses at most this much of it."""


class Session:
    """Questions and answers over one store and one set of engines."""

    def __init__(self, settings: Settings, store: Store, engines: Engines) -> None:
        self.settings = settings
        self.store = store
        self.engines = engines

    def ask(
        self,
        text: str,
        *,
        conversation: str | None = None,
        parent: str | None = None,
        model: str | None = None,
        mode: str | None = None,
        domain: str | None = None,
        system: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        fallback: bool = False,
    ) -> Iterator[Event]:
        """Ask, and yield Started, then what the mode yields, then Done.

        parent: the turn that the question follows, when it is not the conversation's last; a sibling question comes of
        it. overrides: fields of Sampling, and max_tokens. fallback: where the engine cannot be reached, answer with the
        embedded model instead (always so for a model that nobody pinned). Raises PointsmanError; by then the log says so.
        """
        if not text.strip():
            raise InputError("the question is empty", "type something, or pipe it in")
        history = self._history(conversation, parent)
        system = self._system(conversation) if system is None else system
        decision = decide(text, self._context(history, model, mode, domain))
        resolved = self.engines.resolve(decision.model)
        request = self._request(resolved, messages_of(history, system, text), overrides)
        begun = self.store.log.begin(
            Message("user", text),
            conversation=conversation,
            parent=parent,
            **_how(resolved, request, decision),
        )
        yield from self._answer(begun, resolved, request, decision, fallback or not model)

    def again(
        self,
        question: str,
        *,
        model: str | None = None,
        mode: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        fallback: bool = False,
    ) -> Iterator[Event]:
        """Answer the user turn `question` once more, as a sibling of the answers it has; events as in `ask`."""
        turn = self.store.log.turn(question)
        if turn.role != "user":
            raise InputError(f"turn {question[-8:]} is not a question", "give the id of a question")
        history = self.store.log.turns(turn.conversation, leaf=turn.id)
        system = self._system(turn.conversation)
        decision = decide(turn.message.content, self._context(history[:-1], model, mode, None))
        resolved = self.engines.resolve(decision.model)
        request = self._request(resolved, messages_of(history[:-1], system, turn.message.content), overrides)
        begun = self.store.log.begin_again(
            turn.id,
            **_how(resolved, request, decision),
        )
        yield from self._answer(begun, resolved, request, decision, fallback or not model)

    def close(self) -> None:
        """Close the engines and the store."""
        self.engines.close()
        self.store.close()

    def _history(self, conversation: str | None, parent: str | None) -> list[Turn]:
        if conversation is None or parent == "":  # a first question has nothing before it
            return []
        return self.store.log.turns(conversation, leaf=parent)

    def _system(self, conversation: str | None) -> str:
        """The conversation's own system prompt; a new one starts with the default."""
        return self.settings.system if conversation is None else self.store.log.conversation(conversation).system

    def _context(self, history: Sequence[Turn], model: str | None, mode: str | None, domain: str | None) -> Context:
        last = next((turn.inference.model for turn in reversed(history) if turn.inference), "")
        return Context(
            pinned_model=model or "",
            pinned_mode=mode or "",
            pinned_domain=domain or "",
            last_model=last,
            default_model=self.settings.model or "auto",
            default_mode=self.settings.mode,
        )

    def _request(self, resolved: Resolved, messages: tuple[Message, ...], overrides: Mapping[str, Any] | None) -> Request:
        given = {key: value for key, value in (overrides or {}).items() if value is not None}
        max_tokens = int(given.pop("max_tokens", self.settings.max_tokens))
        values = self.settings.sampling.model_dump() | given
        if values["seed"] is None:
            values["seed"] = secrets.randbelow(2**32)  # drawn here so that the log can say how to get this answer again
        sampling = Sampling.model_validate(values)
        return Request(model=resolved.model, messages=messages, sampling=sampling, max_tokens=max_tokens)

    def _answer(self, begun: Begun, resolved: Resolved, request: Request, decision: Decision, fallback: bool) -> Iterator[Event]:
        partial = _Partial(self.store, begun.inference)
        status: Status = "error"
        usage: Usage | None = None
        error = ""
        try:
            for event in self._events(begun, resolved, request, decision, fallback):
                if isinstance(event, Text):
                    partial.text.append(event.text)
                elif isinstance(event, Thought):
                    partial.thinking.append(event.text)
                elif isinstance(event, Done):
                    usage = event.usage
                    continue
                yield event
            status = "complete"
        except (GeneratorExit, KeyboardInterrupt):
            status = "cancelled"
            raise
        except PointsmanError as fault:
            status, error = ("interrupted" if partial.text else "error"), str(fault)
            raise
        finally:
            partial.stop()
            text, thinking = "".join(partial.text), "".join(partial.thinking)
            self.store.log.finish(begun.inference, status=status, text=text, thinking=thinking, usage=usage, error=error)
        yield Done(usage or Usage(), begun.inference)

    def _events(self, begun: Begun, resolved: Resolved, request: Request, decision: Decision, fallback: bool) -> Iterator[Event]:
        """Started and the mode's events; where the engine cannot be reached before the first of them, the embedded model's."""
        yield _started(begun, resolved, decision)
        run = modes.load(decision.mode)
        means = Means(self.settings.modes)
        silent = True
        try:
            with closing(run(resolved.engine, request, means)) as events:  # type: ignore[type-var]
                for event in events:
                    silent = silent and not isinstance(event, Text | Thought)
                    yield event
            return
        except (EngineUnavailable, EngineBusy) as fault:
            if not (fallback and silent and resolved.engine.name != "llamacpp"):
                raise
            embedded = Resolved(self.engines.get("llamacpp"), EMBEDDED)
            stage = Stage("fallback", embedded.reference, f"{fault.what}: the embedded model answers")
        decision = replace(decision, model=embedded.reference, source="fallback", stages=(*decision.stages, stage))
        request = replace(request, model=embedded.model)
        self.store.log.rebind(begun.inference, **_how(embedded, request, decision))
        yield _started(begun, embedded, decision)
        yield from run(embedded.engine, request, means)


class _Partial:
    """The answer so far, saved by a thread of its own so that the disk never holds up the model."""

    def __init__(self, store: Store, inference: str) -> None:
        self.text: list[str] = []
        self.thinking: list[str] = []
        self._store = store
        self._inference = inference
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._save, name="partial-answer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what it has not saved the final commit will."""
        self._stopped.set()
        self._thread.join()

    def _save(self) -> None:
        saved = 0
        while not self._stopped.wait(FLUSH_S):
            size = len(self.text) + len(self.thinking)
            if size == saved:
                continue
            try:
                self._store.log.save_partial(self._inference, "".join(self.text), "".join(self.thinking))
            except PointsmanError:
                return  # a full or broken disk: the final commit meets the same fault and reports it
            saved = size


def messages_of(history: Sequence[Turn], system: str, text: str) -> tuple[Message, ...]:
    """The conversation as the model sees it: the system prompt, the turns with corrections in place, the question.

    Answers that never came are left out, and questions that follow each other are joined: most chat templates refuse two
    messages of one role in a row.
    """
    messages = [Message("system", system)] if system else []
    for message in (*(_as_seen(turn) for turn in history), Message("user", text)):
        if message.role == "assistant" and not message.content and not message.tool_calls:
            continue
        if message.role == "user" and messages and messages[-1].role == "user":
            messages[-1] = Message("user", f"{messages[-1].content}\n\n{message.content}")
        else:
            messages.append(message)
    return tuple(messages)


def _as_seen(turn: Turn) -> Message:
    corrected = next((item.text for item in turn.feedback if item.kind == "correction"), "")
    return replace(turn.message, content=corrected, thinking="") if corrected else replace(turn.message, thinking="")


def _started(begun: Begun, resolved: Resolved, decision: Decision) -> Started:
    return Started(
        begun.conversation,
        begun.question,
        begun.answer,
        begun.inference,
        resolved.reference,
        decision.mode,
        decision.domain,
        decision.reasons,
    )


def _how(resolved: Resolved, request: Request, decision: Decision) -> How:
    """What the log keeps of an answer's circumstances. `config` leaves out what differs each time, so that its hash
    groups answers that were made alike."""
    return {
        "model": resolved.reference,
        "mode": decision.mode,
        "domain": decision.domain,
        "system": next((message.content for message in request.messages if message.role == "system"), ""),
        "config": {
            "model": resolved.reference,
            "mode": decision.mode,
            "domain": decision.domain,
            "sampling": request.sampling.model_dump(exclude={"seed"}),
            "max_tokens": request.max_tokens,
        },
        "decision": decision.to_dict(),
        "seed": request.sampling.seed,
    }
