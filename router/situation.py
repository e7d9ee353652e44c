"""What a decision rests on, gathered: the snapshot of everything learned, and the context of one question.

The snapshot is made anew when the rules' file, the version of the heads or the user's corrections have changed, and swapped
as a whole. Gathering asks no server. Not covered: the decision (route.py), training (learning.py).
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from data import paths
from data.chat import Message
from data.config import Settings
from data.errors import EngineInterrupted, ModelError, PointsmanError
from data.store import Exemplar as Taught
from data.store import Store, Turn
from data.store.canary import Crash
from router import modes
from router.breaker import Breaker
from router.engines import EMBEDDED, Engines
from router.route import Candidate, Context, Decision, Experiment, Snapshot, Tuned

if TYPE_CHECKING:
    from router.classifier import DomainHead
    from router.encoder import Encoder
    from router.exemplars import Exemplar
    from router.learning import Accepted, Refused, Versions
    from router.mode_head import ModeHead
    from router.rules import Rules, RulesFile
    from router.taught import TaughtMode

_log = logging.getLogger(__name__)

BASE = f"llamacpp/{EMBEDDED}"
"""The model that is always there."""
TOKENS_PER_CHAR = 0.3
"""For English text and today's tokenizers, where no tokenizer is at hand; errs towards too many."""


@dataclass(frozen=True, slots=True)
class Pins:
    """What the user chose for a question; "" is left to the router."""

    model: str = ""
    mode: str = ""
    domain: str = ""


class Situation:
    """Of one session. Any thread may call."""

    def __init__(self, settings: Settings, store: Store, engines: Engines) -> None:
        self.settings = settings
        self.breaker = Breaker()
        self._store = store
        self._engines = engines
        self._lock = threading.Lock()
        self._snapshot: tuple[object, Snapshot] | None = None
        self._rules: RulesFile | None = None
        self._encoder: Encoder | None = None
        self._versions: Versions | None = None
        self._refit: threading.Thread | None = None

    @property
    def versions(self) -> "Versions":
        """The versions of the learned heads."""
        if self._versions is None:
            from router.learning import Versions

            self._versions = Versions()
        return self._versions

    @property
    def encode(self) -> "Encoder | None":
        """The sentence encoder, None where the settings switch it off."""
        if not self.settings.router.encoder:
            return None
        if self._encoder is None:
            from router.encoder import encoder

            self._encoder = encoder(self._engines)
        return self._encoder

    def snapshot(self, auto: bool = True) -> Snapshot:
        """Everything learned, as it is now; the mode head only where `auto` needs it, since most questions do not.

        A fault in a file is stated in `fault`; what was good before stays in force.
        """
        with self._lock:
            rules, fault = self._rules_now()
            taught = self._store.routing.exemplars()
            version, damage = self._version()
            key = (id(rules), fault, version, damage, tuple(one.id for one in taught))
            if self._snapshot is None or self._snapshot[0] != key:
                domains, other = self._heads(taught, version) if version or taught else (None, "")
                faults = "; ".join(filter(None, (fault, damage, other)))
                self._snapshot = (key, Snapshot(version, rules, domains, taught=self._modes(taught), fault=faults))
            snapshot = self._snapshot[1]
            if auto and snapshot.modes is None:
                snapshot = replace(snapshot, modes=_mode_head())
                self._snapshot = (key, snapshot)
            return snapshot

    def context(
        self, text: str, history: Sequence[Turn], pins: Pins, conversation: str = "", tools: Mapping[str, str] | None = None
    ) -> Context:
        """The circumstances of a question that follows `history`."""
        answers = [turn.inference for turn in history if turn.inference]
        last = answers[-1] if answers else None
        asked = [turn.message.content for turn in history if turn.role == "user"]
        messages = [turn.message for turn in history] + [Message("user", text)]
        tuned, trials = self._tuned(), self._trials(conversation)
        default = BASE if self.settings.model in ("", "auto") else self.settings.model
        arms = (model for one in trials for model, _ in one.arms)
        references = {default, BASE, *(one.model for one in tuned), *arms, *((last.model,) if last else ())}
        read = [one.usage for one in answers if one.usage.ttft_s > 0 and one.usage.prompt_tokens > one.usage.cached_tokens]
        return Context(
            pinned_model=pins.model,
            pinned_mode=pins.mode,
            pinned_domain=pins.domain,
            last_model=last.model if last else "",
            last_mode=last.mode if last else "",
            last_domain=last.domain if last else "",
            last_arm=str(last.decision.get("arm", "")) if last else "",
            previous=asked[-1] if asked else "",
            conversation=conversation,
            default_model=default,
            default_mode=self._mode_of(pins.domain) or self.settings.mode,
            tools=tools or {},
            candidates=tuple(self._candidate(one, messages) for one in sorted(references)),
            tuned=tuned,
            experiments=trials,
            history_tokens=int(TOKENS_PER_CHAR * sum(len(message.content) for message in messages)),
            prefill_per_s=(read[-1].prompt_tokens - read[-1].cached_tokens) / read[-1].ttft_s if read else 0.0,
            margin=self.settings.router.margin,
            switch_weight=self.settings.router.switch_weight,
        )

    def drew(self, decision: Decision, conversation: str) -> None:
        """Keep which arm of an experiment a conversation drew, so that it keeps it."""
        experiment, _, model = decision.arm.partition(":")
        if decision.arm and not any(one.experiment == experiment for one in self._store.experiments.drawn(conversation)):
            self._store.experiments.draw(experiment, conversation, model, decision.propensity)

    def happened(self) -> tuple[str, ...]:
        """What the guards did and the user was not told yet: a canary that was rolled back, an experiment that ended."""
        self._store.experiments.watch()
        return tuple(one.text for one in self._store.registry.notices())

    def answered(self, decision: Decision, fault: PointsmanError | None) -> None:
        """Let the guards see an answer of an experiment; a model that broke is taken back at once."""
        experiment, _, model = decision.arm.partition(":")
        if not experiment:
            return
        broke = isinstance(fault, ModelError | EngineInterrupted)
        try:
            self._store.experiments.watch(Crash(experiment, model, fault.what) if fault and broke else None)
        except PointsmanError as unable:  # the answer is in the log, and the next question looks again
            _log.warning("the guard could not look: %s", unable)

    def learn(self) -> None:
        """Refit the heads in the background where enough corrections have come; the golden set decides whether it counts."""
        from router.learning import REFIT_AFTER

        examples = _labelled(self._store.routing.exemplars())
        if self._learned() and examples and len(examples) % REFIT_AFTER == 0 and self._refit is None:
            self._refit = self.versions.refit_later(examples, self.encode, self._refitted)

    def _refitted(self, outcome: "Accepted | Refused | PointsmanError") -> None:
        self._refit = None
        _log.info("refit: %s", outcome)

    def domains(self) -> list[str]:
        """The domains that there are: packs, and those learned, taught and named in the settings."""
        from data import domains

        head = self.snapshot().domains
        return sorted({*(head.domains if head else ()), *self.settings.router.models, *domains.names()})

    def _mode_of(self, domain: str) -> str:
        """The first mode of a pack that the user chose, where the settings leave the mode as it is by default; "" otherwise."""
        if not domain or "mode" in self.settings.model_fields_set:
            return ""
        from data import domains

        return domains.load(domain).described.modes[0] if domain in domains.names() else ""

    def _rules_now(self) -> "tuple[Rules | None, str]":
        """The user's rules, and what is wrong with their file; without a file there is nothing to import."""
        if self._rules is None:
            if not (paths.config_dir() / "rules.toml").exists():
                return None, ""
            from router.rules import Known, RulesFile

            self._rules = RulesFile(known=Known(modes=frozenset(modes.names())))
        return self._rules.current()

    def _learned(self) -> bool:
        return (paths.data_dir() / "router").is_dir()

    def _version(self) -> tuple[str, str]:
        """The version in force, and what is wrong with the file that names it; nothing is imported where nothing was trained."""
        try:
            return (self.versions.name() if self._learned() else ""), ""
        except PointsmanError as damaged:
            return "", str(damaged)

    def _heads(self, taught: Sequence[Taught], version: str) -> "tuple[DomainHead | None, str]":
        """The learned domain head with the user's corrections in it, and what is wrong with it."""
        fault = ""
        try:
            head = self.versions.current() if version else None
        except PointsmanError as damaged:
            head, fault = None, str(damaged)
        return self.versions.with_exemplars(head, _labelled(taught), self.encode), fault

    def _modes(self, taught: Sequence[Taught]) -> "tuple[TaughtMode, ...]":
        corrected = [(one.text, one.mode) for one in taught if one.mode]
        if not corrected:
            return ()
        from router.taught import taught as ready

        return ready(corrected, self.encode)

    def _tuned(self) -> tuple[Tuned, ...]:
        known = {(one.model, one.domain): one for one in self._store.routing.evaluations()}
        found = []
        champions = [(one.domain, one.model) for one in self._store.registry.champions()]
        others = [one for one in self.settings.router.models.items() if one not in champions]
        for domain, model in (*champions, *others):
            one = known.get((model, domain))
            tuned = Tuned(domain, model, one.base, one.pairs, one.gain, one.lower) if one else Tuned(domain, model)
            found.append(replace(tuned, champion=(domain, model) in champions))
        return tuple(found)

    def _trials(self, conversation: str) -> tuple[Experiment, ...]:
        """The experiments that draw an arm for each conversation, with what this one drew."""
        running = [one for one in self._store.experiments.running() if one.kind != "paired"]
        kept = {one.experiment: (one.arm, one.propensity) for one in self._store.experiments.drawn(conversation)} if running else {}
        return tuple(Experiment(one.id, one.domain, one.arms, one.salt, kept.get(one.id)) for one in running)

    def _candidate(self, reference: str, messages: Sequence[Message]) -> Candidate:
        engine, _, model = reference.partition("/")
        if engine not in self._engines.names():
            return Candidate(reference)
        obstacle = self.breaker.obstacle(engine)
        try:
            standing = self._engines.get(engine).standing(model)
        except PointsmanError as fault:
            return Candidate(reference, why_not=fault.what)
        size = sum(len(message.content.encode()) for message in messages)
        tokens = 0
        if standing.context_tokens and size >= standing.context_tokens:  # fewer bytes than that always fit
            tokens = self._engines.get(engine).count(model, messages) or int(TOKENS_PER_CHAR * size)
        return Candidate(reference, obstacle or standing.why_not, standing.loaded, standing.load_s, standing.context_tokens, tokens)


def _mode_head() -> "ModeHead":
    from router.mode_head import ModeHead

    return ModeHead.load()


def _labelled(taught: Sequence[Taught]) -> "list[Exemplar]":
    """The corrections of domains as the heads take them."""
    from router.exemplars import Exemplar

    return [Exemplar(one.text, one.domain, one.mode, "correction", one.id) for one in taught if one.domain]
