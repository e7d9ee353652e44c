"""What the registry and the experiments hand out and take: frozen rows. Times are timezone-aware UTC.

Not covered: how they are stored (registry_tables.py).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Stage = Literal["candidate", "staging", "canary", "champion", "retired"]
Alias = Literal["champion", "challenger", "canary", "previous"]
Kind = Literal["ab", "paired", "canary"]
State = Literal["running", "stopped", "decided", "harmful"]
"""Of an experiment: running; ended by the user or by a change of champion; ended by its evidence; ended for harm."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate held against a version. passed: None where it was not checked, which does not count against it."""

    name: str
    passed: bool | None
    reached: float | None = None
    limit: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file of the artefact. kind: model, adapter, modelfile or other; form: a model's number format."""

    name: str
    kind: str
    form: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a version was made of. run: the run folder's name; dataset_sha256: of its training rows; corrections: how many of these
    were corrections by the user, None where that is not known; parent: the run it went on from, by hash."""

    run: str = ""
    run_hash: str = ""
    base: str = ""
    base_sha256: str = ""
    dataset_sha256: str = ""
    rows: int = 0
    corrections: int | None = None
    parent: str = ""
    exported: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the run proved. passed: its own word (`results.passed` of its manifest), None where it has none.

    pairs, gain, lower: the paired comparison with the base on held-out rows, a difference of shares and its lower bound; pairs 0:
    never made.
    """

    passed: bool | None = None
    gates: tuple[Gate, ...] = ()
    pairs: int = 0
    gain: float = 0.0
    lower: float = 0.0


@dataclass(frozen=True, slots=True)
class Version:
    """A model version. name: of the export's folder; model: what the router asks for; base: the model it was tuned from, "" where
    that is none of ours; chosen: the form that is served; sha256: of domain, name and the digests of all files."""

    id: str
    name: str
    domain: str
    model: str
    base: str
    stage: Stage
    sha256: str
    chosen: str
    files: tuple[File, ...]
    lineage: Lineage
    evidence: Evidence
    at: datetime


@dataclass(frozen=True, slots=True)
class GateDecision:
    """All gates held against a version at one moment. champion: the id of the one that stood then, "" for none; rules: the version
    of the rules; override: the reason for which failed gates were passed over, "" where nobody did."""

    id: str
    version: str
    champion: str
    rules: str
    gates: tuple[Gate, ...]
    passed: bool
    override: str
    who: str
    at: datetime

    @property
    def failed(self) -> tuple[Gate, ...]:
        """The gates that failed."""
        return tuple(gate for gate in self.gates if gate.passed is False)


@dataclass(frozen=True, slots=True)
class StageEvent:
    """One transition. action: register, measure, promote, rollback, replace, retire or return; decision: the id of the gate
    decision behind it, "" for none."""

    id: str
    version: str
    name: str
    domain: str
    action: str
    from_stage: str
    to_stage: str
    who: str
    why: str
    decision: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Promotion:
    """What came of a promotion: moved says whether the version changed its stage; where it did not although its gates passed, it
    stood there already. replaced: the champion before; damaged: why that one can no longer be gone back to, "" where it can."""

    version: Version
    decision: GateDecision | None
    moved: bool
    replaced: Version | None = None
    damaged: str = ""

    @property
    def passed(self) -> bool:
        """Whether the gates let it through, or were passed over for a reason."""
        return self.decision is None or self.decision.passed or bool(self.decision.override)


@dataclass(frozen=True, slots=True)
class Rollback:
    """champion: the one restored, None where the base answers now; retired: the one taken back."""

    champion: Version | None
    retired: Version


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a version stands where it does: the event that brought it there, and the gate decision behind it (None: none was)."""

    version: Version
    event: StageEvent
    decision: GateDecision | None
    previous: Version | None


@dataclass(frozen=True, slots=True)
class Experiment:
    """Models on trial in a domain. arms: model and share, the first being what answers now; baseline: the rate of bad answers that
    the guard holds against; threshold: the e-value that decides; version: the canary's, "" for none; outcome: why it ended."""

    id: str
    domain: str
    kind: Kind
    arms: tuple[tuple[str, float], ...]
    salt: str
    state: State
    who: str
    why: str
    outcome: str
    version: str
    baseline: float
    threshold: float
    started: datetime
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class Drawn:
    """The arm that a conversation was given, and the probability with which it was drawn."""

    experiment: str
    arm: str
    propensity: float


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """One arm so far. bad: answers that were thumbed down, asked again, failed or truncated; liked, rated: conversations by their
    first thumb; seconds and tokens are means over complete answers."""

    model: str
    share: float
    conversations: int = 0
    answers: int = 0
    bad: int = 0
    thumbs_down: int = 0
    regenerated: int = 0
    errors: int = 0
    truncated: int = 0
    empty: int = 0
    invalid_json: int = 0
    liked: int = 0
    rated: int = 0
    seconds: float = 0.0
    ttft_s: float = 0.0
    tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Pairs:
    """Blind preferences between the two arms: those won by the second, those lost, and ties."""

    wins: int = 0
    losses: int = 0
    ties: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """An experiment's evidence. better, worse: e-values that the second arm is better, and worse, than the first (worse of a canary
    is the guard's); slower, longer: e-values that its answers take another time, and have another length; more: about how many more
    answers are needed, None where no end is in sight; verdict: in words.
    """

    experiment: Experiment
    arms: tuple[ArmFigures, ...]
    pairs: Pairs
    better: float
    worse: float
    slower: float
    longer: float
    more: int | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened by itself and that the user has to be told."""

    id: str
    domain: str
    text: str
    at: datetime
