"""The one door to an answer, for the command line, the chat, the server and evaluation: decide, ask, log.

The question is durably in the log before the model runs. While the answer comes, a thread of its own saves the partial
text every half second; at the end one commit says how it ended. Closing the generator cancels: the partial is kept.
Not covered: what a decision rests on (situation.py), and the ways of reasoning (modes/).
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from data.chat import Message, Usage
from data.config import Sampling, Settings
from data.errors import Cancelled, EngineBusy, EngineInterrupted, EngineUnavailable, InputError, PointsmanError
from data.store import Begun, Inference, Status, Store, Turn
from data.store.ids import new_id
from router import modes
from router.asked import Asked, how, messages_of
from router.attachments import Attachments, Found
from router.engines import Engines, Resolved
from router.engines.base import Request
from router.modes.base import Done, Event, Means, Phase, Text
from router.recording import Recording
from router.route import Decision, Stage, decide
from router.situation import BASE, Pins, Situation
from router.terms import Terms
from router.tools import Approve, Toolbox, load, refuse
from router.tools.base import Surroundings, Tool
from router.why import Why, explain

_NONE = Terms()


class Session:
    """Questions and answers over one store and one set of engines.

    approve: asked, in the thread that answers, before a tool does anything with side effects; nobody to ask means no.
    situation: one that several sessions share; mentions: whether `@file` in a question takes a file of this machine in.
    One session answers one question at a time.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        engines: Engines,
        approve: Approve = refuse,
        *,
        situation: Situation | None = None,
        mentions: bool = True,
    ) -> None:
        self.settings = settings
        self.store = store
        self.engines = engines
        self.approve = approve
        self.situation = situation or Situation(settings, store, engines)
        self.attachments = Attachments(settings, store, engines, mentions)
        self._granted: set[str] = set()
        self._tools: list[Tool] | None = None
        self._searchable = False

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
        terms: Terms = _NONE,
    ) -> Iterator[Event]:
        """Ask, and yield Started, then what the mode yields, then Done.

        parent: the turn that the question follows, when it is not the conversation's last; a sibling question comes of
        it. overrides: fields of Sampling, and max_tokens. fallback: where the engine cannot be reached, answer with the
        base model instead (always so for a model that nobody pinned). terms: what a program adds. Raises PointsmanError; by
        then the log says so.
        """
        if not text.strip():
            raise InputError("the question is empty", "type something, or pipe it in")
        history = self._history(conversation, parent)
        system = self._system(conversation) if system is None else system
        pins = Pins(model or "", mode or "", domain or "")
        fresh = "" if conversation or parent else new_id()  # known before it begins, so that an experiment can draw for it
        told = self.situation.happened()
        decision, resolved = self._route(text, history, pins, conversation or fresh)
        request = self._request(resolved, messages_of(history, system, text, terms), overrides, terms)
        begun = self.store.log.begin(
            Message("user", text), conversation=conversation, parent=parent, fresh=fresh, **how(resolved, request, decision, terms)
        )
        yield from self._answer(begun, resolved, request, decision, history, fallback or not model, terms, told)

    def again(
        self,
        question: str,
        *,
        model: str | None = None,
        mode: str | None = None,
        domain: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        fallback: bool = False,
        system: str | None = None,
        terms: Terms = _NONE,
    ) -> Iterator[Event]:
        """Answer the user turn `question` once more, as a sibling of the answers it has; events as in `ask`."""
        turn = self.store.log.turn(question)
        if turn.role != "user":
            raise InputError(f"turn {question[-8:]} is not a question", "give the id of a question")
        history = self.store.log.turns(turn.conversation, leaf=turn.id)[:-1]
        system = self._system(turn.conversation) if system is None else system
        told = self.situation.happened()
        decision, resolved = self._route(
            turn.message.content, history, Pins(model or "", mode or "", domain or ""), turn.conversation
        )
        request = self._request(resolved, messages_of(history, system, turn.message.content, terms), overrides, terms)
        begun = self.store.log.begin_again(turn.id, **how(resolved, request, decision, terms))
        yield from self._answer(begun, resolved, request, decision, history, fallback or not model, terms, told)

    def route(self, text: str, *, model: str = "", mode: str = "", domain: str = "") -> Decision:
        """The decision only, for a first question; nothing is logged."""
        return self._route(text, [], Pins(model, mode, domain), "")[0]

    def domains(self) -> list[str]:
        """The names of the domains that there are."""
        return self.situation.domains()

    def correct_route(self, inference: str, *, domain: str = "", mode: str = "") -> str:
        """Keep that the question behind this answer belongs to `domain` and is answered in `mode`; says what that does.

        The next question like it is routed so; the learned heads are refitted behind their gate when enough has come.
        Raises NotFound, InputError.
        """
        found, question = self._asked(inference)
        if mode:
            modes.require(mode)
        self.store.routing.teach(question, domain=domain, mode=mode, inference=found.id)
        self.situation.learn()
        wanted = " and ".join([*([domain] if domain else []), *([mode.replace("_", " ")] if mode else [])])
        return f"learned: questions like this go to {wanted}; pointsman router undo takes it back"

    def why(self, inference: str) -> Why:
        """Why an answer got its route, and what would have changed that. Raises NotFound."""
        found, question = self._asked(inference)
        return explain(question, found.decision, self.situation.snapshot(), self.situation.encode)

    def toolbox(self, tainted: bool = False, only: Sequence[str] = ()) -> Toolbox:
        """The tools for one answer. tainted: text of strangers is in the conversation already; only: those named, () for all."""
        search = self.attachments.search if self.attachments.any(self.attachments.conversation) else None
        if self._tools is None or self._searchable != (search is not None):
            self._tools, self._searchable = load(Surroundings(self.settings.tools, search)), search is not None
        offered = [tool for tool in self._tools if not only or tool.name in only]
        return Toolbox(offered, self.approve, tainted=tainted, granted=self._granted)

    def close(self) -> None:
        """Close the engines and the store."""
        self.engines.close()
        self.store.close()

    def _asked(self, inference: str) -> tuple[Inference, str]:
        """An answer's circumstances and the question that it answers."""
        found = self.store.log.inference(inference)
        turns = self.store.log.turns(found.conversation, leaf=found.turn)
        return found, next((turn.message.content for turn in reversed(turns) if turn.role == "user"), "")

    def _history(self, conversation: str | None, parent: str | None) -> list[Turn]:
        if conversation is None or parent == "":  # a first question has nothing before it
            return []
        return self.store.log.turns(conversation, leaf=parent)

    def _system(self, conversation: str | None) -> str:
        """The conversation's own system prompt; a new one starts with the default."""
        return self.settings.system if conversation is None else self.store.log.conversation(conversation).system

    def _route(self, text: str, history: Sequence[Turn], pins: Pins, conversation: str) -> tuple[Decision, Resolved]:
        if pins.mode:
            modes.require(pins.mode)
        if pins.domain and pins.domain not in (known := self.domains()):
            raise InputError(f"there is no domain {pins.domain!r}", f"domains: {', '.join(known)}")
        auto = (pins.mode or self.settings.mode) == "auto"
        offered = {name: tool.description for name, tool in self.toolbox().tools.items()} if auto else {}
        context = self.situation.context(text, history, pins, conversation, offered)
        snapshot = self.situation.snapshot(auto)
        decision = decide(text, context, snapshot, self.situation.encode if snapshot.domains or snapshot.taught else None)
        if snapshot.fault:
            decision = replace(decision, stages=(Stage("snapshot", "", snapshot.fault), *decision.stages))
        return decision, self.engines.resolve(decision.model)

    def _request(
        self, resolved: Resolved, messages: tuple[Message, ...], overrides: Mapping[str, Any] | None, terms: Terms
    ) -> Request:
        terms.require_possible(resolved)
        given = {key: value for key, value in (overrides or {}).items() if value is not None}
        max_tokens = int(given.pop("max_tokens", self.settings.max_tokens))
        values = self.settings.sampling.model_dump() | given
        if values["seed"] is None:
            values["seed"] = secrets.randbelow(2**32)  # drawn here so that the log can say how to get this answer again
        sampling = Sampling.model_validate(values)
        return terms.applied(Request(model=resolved.model, messages=messages, sampling=sampling, max_tokens=max_tokens))

    def _answer(
        self,
        begun: Begun,
        resolved: Resolved,
        request: Request,
        decision: Decision,
        history: Sequence[Turn],
        fallback: bool,
        terms: Terms,
        told: tuple[str, ...] = (),
    ) -> Iterator[Event]:
        recording = Recording(self.store, begun.inference)
        status: Status = "error"
        error = ""
        broke: PointsmanError | None = None
        try:
            self.situation.drew(decision, begun.conversation)
            at = len(request.messages) - (3 if terms.said else 1)  # the question itself, before what it is to go on from
            last = request.messages[at]
            found = self.attachments.read(last.content, begun.conversation) if last.role == "user" else Found(last)
            request = replace(request, messages=(*request.messages[:at], found.message, *request.messages[at + 1 :]))
            recording.tainted = bool(found.cited) or terms.tainted
            tainted = recording.tainted or any(turn.inference.tainted for turn in history if turn.inference)
            asked = Asked(begun, resolved, request, decision, found, tainted, fallback, terms, told)
            for event in self._events(asked):
                recording.take(event)
                if not isinstance(event, Done):
                    yield event
            status = "complete"
        except (GeneratorExit, KeyboardInterrupt, Cancelled):
            status = "cancelled"
            raise
        except PointsmanError as fault:
            status, error, broke = ("interrupted" if recording.spoke else "error"), str(fault), fault
            raise
        finally:
            recording.finish(status, error)
            self.situation.answered(decision, broke)
        yield Done(recording.usage or Usage(), begun.inference)

    def _events(self, asked: Asked) -> Iterator[Event]:
        """Started and the mode's events; where the engine cannot be reached before the first of them, the base model's."""
        yield asked.started
        yield from asked.found.cited
        if asked.terms.said:
            yield Text(asked.terms.said)
        silent = True
        try:
            for event in self._watched(asked):
                silent = silent and isinstance(event, Phase)
                yield event
            return
        except (EngineUnavailable, EngineBusy) as fault:
            if not (asked.fallback and silent and asked.resolved.reference != BASE):
                raise
            instead = self.engines.resolve(BASE)
            stage = Stage("fallback", instead.reference, f"{fault.what}: the embedded model answers")
        decision = replace(
            asked.decision,
            model=instead.reference,
            source="fallback",
            stages=(*asked.decision.stages, stage),
            arm="",
            propensity=1.0,
        )
        asked = replace(asked, resolved=instead, decision=decision, request=replace(asked.request, model=instead.model))
        self.store.log.rebind(asked.begun.inference, **how(instead, asked.request, decision, asked.terms))
        yield asked.started
        yield from self._watched(asked)

    def _watched(self, asked: Asked) -> Iterator[Event]:
        """The mode's events, with the breaker told how the engine does."""
        breaker, engine = self.situation.breaker, asked.resolved.engine
        breaker.begins(engine.name)
        try:
            run = modes.load(asked.decision.mode)
            with closing(run(engine, asked.request, self._means(asked))) as events:  # type: ignore[type-var]
                yield from events
        except (EngineUnavailable, EngineBusy, EngineInterrupted):
            breaker.failed(engine.name)
            raise
        except (GeneratorExit, KeyboardInterrupt, PointsmanError):
            breaker.ended(engine.name)
            raise
        breaker.worked(engine.name)

    def _means(self, asked: Asked) -> Means:
        def other(reference: str) -> tuple[Any, str]:
            found = self.engines.resolve(reference)
            return found.engine, found.model

        agent = asked.decision.mode == "agent"
        return Means(
            self.settings.modes,
            self.toolbox(asked.tainted, asked.decision.tools) if agent else None,
            other,
            tuple(self.domains()) if asked.decision.mode == "ensemble" else (),
            asked.terms.plan,
        )
