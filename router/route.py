"""Which model, domain, tools and way of reasoning a question gets, and why. Pure: no I/O and no randomness.

The stages write in order, and the first to write a field wins:

    eligibility, pin, rules, taught, continuation, domain, mode, adapter, experiment, stability, default, fallback

Each says what it wrote and on what evidence. Everything known about the world comes in `Context`, everything learned in
`Snapshot`; the only thing called is the sentence encoder, where it was given. The rules for models (adapter to fallback) are
in policy.py. Not covered: gathering the context and answering (session.py).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from router.classifier import DomainEvidence, DomainHead, Encode
    from router.mode_head import ModeEvidence, ModeHead
    from router.rules import Rules
    from router.taught import TaughtMode

CONTINUES = re.compile(
    r"(?:(?:ok(?:ay)?|yes|yeah|yep|sure|please|now|and|then|so|well|thanks|thank you|right|great|good|fine)[\s,.!]*)*"
    r"(?:(?:please\s+)?(?:continue|go on|go ahead|keep going|carry on|proceed|more|next|do it|do that|try again|again|"
    r"one more|another(?: one)?|same again|the same|why|why not|how so|how come|what else|and then|then what|really|"
    r"explain(?: (?:that|it|this))?|(?:say|tell me) more|elaborate|"
    r"finish(?: it)?|make it (?:shorter|longer|simpler))(?:\s+please)?)?",
)
"""A whole turn that says nothing by itself, casefolded."""
CONTINUES_CHARS = 48


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that might answer. Sizes in tokens, 0 where unknown; why_not: what stands against it, "" for nothing.

    prompt_tokens: of the conversation with the question, by the model's own tokenizer where it is at hand.
    """

    model: str
    why_not: str = ""
    loaded: bool = True
    load_s: float = 0.0
    context_tokens: int = 0
    prompt_tokens: int = 0

    @property
    def obstacle(self) -> str:
        """Why it cannot answer, "" where it can."""
        if not self.why_not and self.context_tokens and self.prompt_tokens >= self.context_tokens:
            return f"the conversation has {self.prompt_tokens} tokens, its context {self.context_tokens}"
        return self.why_not


@dataclass(frozen=True, slots=True)
class Tuned:
    """A model tuned for a domain, with its stored evaluation: difference in win rate to `base` over `pairs` held-out
    questions, and that difference's lower 90% bound. pairs is 0 where it was never evaluated; champion: the registry has it in
    front of the others."""

    domain: str
    model: str
    base: str = ""
    pairs: int = 0
    gain: float = 0.0
    lower: float = 0.0
    champion: bool = False


@dataclass(frozen=True, slots=True)
class Experiment:
    """Models on trial in a domain, each with its share of the conversations; the shares sum to 1.

    salt: what is hashed with the conversation, the id where it is ""; kept: the model that this conversation has drawn already,
    with the probability of that draw.
    """

    id: str
    domain: str
    arms: tuple[tuple[str, float], ...]
    salt: str = ""
    kept: tuple[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What the decision may look at besides the question. "" where there is nothing.

    mode "auto", pinned or by default, lets the mode head choose. tools: those on offer, name to description. history_tokens: what
    a newly loaded or switched model would have to read first; prefill_per_s: tokens per second at which it does.
    """

    pinned_model: str = ""
    pinned_mode: str = ""
    pinned_domain: str = ""
    last_model: str = ""
    last_mode: str = ""
    last_domain: str = ""
    last_arm: str = ""
    previous: str = ""
    conversation: str = ""
    default_model: str = "auto"
    default_mode: str = "standard"
    tools: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    tuned: tuple[Tuned, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    history_tokens: int = 0
    prefill_per_s: float = 0.0
    margin: float = 0.02
    switch_weight: float = 0.01


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything learned and written down, immutable, so that it is swapped as a whole.

    taught: questions with the mode that the user said is right for them; fault: what is wrong with a file that is left out
    therefore.
    """

    version: str = ""
    rules: "Rules | None" = None
    domains: "DomainHead | None" = None
    modes: "ModeHead | None" = None
    taught: "tuple[TaughtMode, ...]" = ()
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage's word: what it wrote ("" if nothing), on what evidence, and how many milliseconds it took."""

    name: str
    outcome: str
    evidence: str
    ms: float = 0.0


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """What came second: in which field, what it was, its probability, and by how much it lost."""

    field: str
    name: str
    probability: float
    margin: float


@dataclass(frozen=True, slots=True)
class Decision:
    """The route of one question, with every stage's evidence. `source` is the stage that chose the model.

    tools: the only ones to offer, () for all; propensity: the probability with which this model was drawn, 1 where nothing
    was drawn; arm: the experiment's arm, "" for none; version: that of the learned heads.
    """

    model: str
    mode: str
    domain: str
    source: str
    stages: tuple[Stage, ...]
    confidence: float = 1.0
    tools: tuple[str, ...] = ()
    runner_up: RunnerUp | None = None
    domain_probabilities: tuple[tuple[str, float], ...] = ()
    mode_probabilities: tuple[tuple[str, float], ...] = ()
    thresholds: tuple[tuple[str, float], ...] = ()
    out_of_scope: float | None = None
    tool_need: float | None = None
    arm: str = ""
    propensity: float = 1.0
    version: str = ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """The evidence of the stages that wrote something, in order."""
        return tuple(stage.evidence for stage in self.stages if stage.outcome)

    @property
    def ms(self) -> float:
        """Milliseconds that the decision took."""
        return sum(stage.ms for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """The decision as plain JSON; probabilities and thresholds as objects."""
        plain = asdict(self)
        for name in ("domain_probabilities", "mode_probabilities", "thresholds"):
            plain[name] = dict(getattr(self, name))
        return plain


def decide(query: str, context: Context, snapshot: Snapshot | None = None, encode: "Encode | None" = None) -> Decision:
    """The route of `query`. `encode` is asked only where the n-grams are unsure; its faults are the head's to state."""
    return _Draft(query, context, snapshot or Snapshot(), encode).decision()


def continues(query: str) -> bool:
    """Whether a turn says nothing by itself and goes on with the last one: "ok continue", "why?", "again please"."""
    said = " ".join(query.casefold().split()).rstrip(" .!?…")
    return 0 < len(said) <= CONTINUES_CHARS and CONTINUES.fullmatch(said) is not None


@dataclass(slots=True)
class _Draft:
    """A decision in the making."""

    query: str
    context: Context
    snapshot: Snapshot
    encode: "Encode | None"
    fields: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)
    evidence: "DomainEvidence | None" = None
    modes: "ModeEvidence | None" = None
    propensity: float = 1.0
    arm: str = ""

    def decision(self) -> Decision:
        from router import policy

        for stage in (_eligibility, _pin, _rules, _taught, _continuation, _domain, _mode, *policy.STAGES):
            self.run(stage)
        found, modes = self.evidence, self.modes
        return Decision(
            model=self.fields.get("model", ""),
            mode=self.fields.get("mode", ""),
            domain=self.fields.get("domain", ""),
            source=self.sources.get("model", "default"),
            stages=tuple(self.stages),
            confidence=found.confidence if found and self.sources.get("domain") == "domain" else 1.0,
            tools=self.fields.get("tools", ()),
            runner_up=self.runner_up(),
            domain_probabilities=found.probabilities if found else (),
            mode_probabilities=modes.probabilities if modes else (),
            thresholds=(*(found.thresholds if found else ()), *((("tool_need", modes.tool_threshold),) if modes else ())),
            out_of_scope=found.out_of_scope if found else None,
            tool_need=modes.tool_need if modes else None,
            arm=self.arm,
            propensity=self.propensity,
            version=self.snapshot.version,
        )

    def run(self, stage: "Callable[[_Draft], tuple[str, str, str] | None]") -> None:
        """Run one stage and note what it said."""
        started = perf_counter()
        said = stage(self)
        if said is not None:
            self.stages.append(Stage(*said, round((perf_counter() - started) * 1000, 3)))

    def write(self, stage: str, **values: Any) -> str:
        """Write the fields that are still free; returns those that were written, "" where none was."""
        written = []
        for name, value in values.items():
            if value and name not in self.fields:
                self.fields[name], self.sources[name] = value, stage
                written.append(", ".join(value) if isinstance(value, tuple) else str(value))
        return ", ".join(written)

    def runner_up(self) -> RunnerUp | None:
        """The second of the domains, or of the modes where no domain was read."""
        for name, probabilities in (
            ("domain", self.evidence.probabilities if self.evidence else ()),
            ("mode", self.modes.probabilities if self.modes else ()),
        ):
            if len(probabilities) > 1:
                (_, first), (second, chance) = sorted(probabilities, key=lambda one: -one[1])[:2]
                return RunnerUp(name, second, chance, first - chance)
        return None


def _eligibility(draft: _Draft) -> tuple[str, str, str] | None:
    against = [f"{one.model}: {one.obstacle}" for one in draft.context.candidates if one.obstacle]
    return ("eligibility", "", "; ".join(against)) if against else None


def _pin(draft: _Draft) -> tuple[str, str, str] | None:
    given = draft.context
    mode = "" if given.pinned_mode == "auto" else given.pinned_mode
    written = draft.write("pin", model=given.pinned_model, mode=mode, domain=given.pinned_domain)
    return ("pin", written, f"you chose {written}") if written else None


def _rules(draft: _Draft) -> tuple[str, str, str] | None:
    rules = draft.snapshot.rules
    if not rules:
        return None
    from router.rules import Facts

    facts = Facts.of(draft.query, domain=draft.fields.get("domain", ""), attachments=draft.context.attachments)
    matches = rules.match(facts)
    said = []
    for name in ("model", "mode", "domain", "tools"):
        won = getattr(matches, name)
        written = draft.write("rules", **{name: won.value}) if won else ""
        if written:
            because = f": {won.rule.reason}" if won.rule.reason else ""
            said.append((written, f"rule {won.rule.name!r} (line {won.rule.line}) sets {name} to {written}{because}"))
    if not said:
        return ("rules", "", f"{len(matches.matched)} of {len(rules)} rules match and set nothing that was still open")
    return ("rules", ", ".join(one for one, _ in said), "; ".join(because for _, because in said))


def _taught(draft: _Draft) -> tuple[str, str, str] | None:
    """The mode that the user said is right for this question, or for one that says the same."""
    taught = draft.snapshot.taught
    if not taught or not _auto(draft.context):
        return None
    from router.taught import mode_of

    found = mode_of(draft.query, taught, draft.encode)
    if found is None:
        return None
    written = draft.write("taught", mode=found.mode)
    return (
        ("taught", written, f"you said that {found.mode.replace('_', ' ')} is right for {found.text[:80]!r}") if written else None
    )


def _continuation(draft: _Draft) -> tuple[str, str, str] | None:
    given = draft.context
    if not given.last_model or not continues(draft.query):
        return None
    mode = given.last_mode if _auto(given) else ""
    written = draft.write("continuation", model=given.last_model, mode=mode, domain=given.last_domain)
    return ("continuation", written, "the question goes on with the last one") if written else None


def _domain(draft: _Draft) -> tuple[str, str, str] | None:
    head = draft.snapshot.domains
    if head is None or "domain" in draft.fields or draft.sources.get("model") == "continuation":
        return None
    found = head.read(draft.query, draft.encode)
    joined = False
    if found.outcome != "accepted" and draft.context.previous:
        together = head.read(f"{draft.context.previous}\n{draft.query}", draft.encode)
        joined = together.outcome == "accepted" and together.domain == draft.context.last_domain
        found = together if joined else found
    draft.evidence = found
    written = draft.write("domain", domain=found.domain)
    likeliest = found.probabilities[0][0] if found.probabilities else "none"
    words = {
        "accepted": f"{likeliest} with {found.confidence:.0%}",
        "grey": f"unsure: {likeliest} with only {found.confidence:.0%}, so the base model",
        "out_of_scope": "like none of the domains, so the base model",
    }[found.outcome]
    heads = " and ".join(found.heads)
    also = "; read together with the last question" if joined else ""
    return ("domain", written, f"{words} (by {heads}){also}{'; ' + found.note if found.note else ''}")


def _mode(draft: _Draft) -> tuple[str, str, str] | None:
    head = draft.snapshot.modes
    if "mode" in draft.fields or not _auto(draft.context) or head is None:
        return None
    from router.mode_head import spoken

    draft.modes = found = head.read(draft.query, tools=draft.context.tools)
    tools = found.tools if found.mode == "agent" else ()
    written = draft.write("mode", mode=found.mode, tools=tools)
    weighed = ", ".join(spoken(name) for name, _ in found.features[:3])
    return ("mode", written, f"{found.mode.replace('_', ' ')} with {found.confidence:.0%}" + (f": {weighed}" if weighed else ""))


def _auto(context: Context) -> bool:
    return (context.pinned_mode or context.default_mode) == "auto"
