"""The learned domain head as the router asks it: a cascade of n-grams, sentence encoder and the user's own examples.

The sparse head answers alone where it is sure, at a risk that was measured on held-out data; else, and always where a domain has
nothing but examples, the encoder is asked and both answer together. A text that no domain fits is out of scope; one of which
no domain is sure enough is grey; neither gets a domain. Immutable: what is learned makes a new head. Not covered: fitting
(`training`), versions (`learning`), what is explained (`explanation`), files (`saved`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from data.errors import EngineError, InputError, ModelError
from router.encoder import OWN_DIMENSIONS
from router.exemplars import MOST, Exemplar, Taught, Verdict, teach
from router.features import Grams, grams
from router.heads import Gate, Reading, Trained
from router.linear import Floats
from router.spelling import Spelling

if TYPE_CHECKING:
    from router.explanation import Explanation

Encode = Callable[[str], Floats]
"""One normalised text to one feature vector; raises ModelError or EngineError where there is no encoder."""
Outcome = Literal["accepted", "grey", "out_of_scope"]

MAJORITY = 0.5
"""Probability that a domain known from examples alone needs at least."""
ALIKE = 0.6
"""Cosine of n-grams with an example from which the encoder is asked, however sure the sparse head is."""


@dataclass(frozen=True, slots=True)
class DomainEvidence:
    """What the head says about one text. domain: "" unless accepted; confidence: calibrated, of the likeliest domain;
    probabilities: the likeliest first; out_of_scope: probability, at the share of such questions that was assumed;
    thresholds: those that were applied; heads: those that were asked; note: what limits this, "" for nothing."""

    domain: str
    outcome: Outcome
    confidence: float
    probabilities: tuple[tuple[str, float], ...]
    intent: str
    out_of_scope: float
    thresholds: tuple[tuple[str, float], ...]
    heads: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """A text as the heads saw it, before anything was decided."""

    mended: str
    found: Grams
    vector: Floats | None
    logits: Floats | None
    reading: Reading | None
    gate: Gate | None
    verdict: Verdict | None
    heads: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class DomainHead:
    """One version of the head. trained is None where there are examples only; seeds: training texts that stand for trained
    domains beside examples, with their vectors; corrections: what the user said about texts, by their words; wider: the
    spelling that knows the examples' words too."""

    version: str
    domains: tuple[str, ...]
    spelling: Spelling
    trained: Trained | None = None
    seeds: tuple[Exemplar, ...] = ()
    seed_vectors: Floats | None = None
    taught: Taught | None = None
    corrections: dict[str, str] = field(default_factory=dict)
    wider: Spelling | None = None

    def read(self, text: str, encode: Encode | None = None) -> DomainEvidence:
        """The evidence on one text, whatever it holds. Without `encode`, or where it fails, the n-grams decide and it is said."""
        seen = self.look(text, encode)
        if not seen.mended:
            return DomainEvidence("", "out_of_scope", 0.0, self._even(), "", 1.0, (), (), "the text has no readable words")
        probabilities, log_odds, force = self._weighed(seen)
        order = np.argsort(-probabilities, kind="stable")
        ranked = tuple((self.domains[at], float(probabilities[at])) for at in order)
        outside = 1 / (1 + float(np.exp(np.clip(-log_odds, -50, 50))))
        by_example = force > MAJORITY or int(order[0]) >= len(self._trained_domains)
        thresholds, outcome = self._outcome(None if by_example else seen.gate, float(probabilities[order[0]]), log_odds)
        intent = ""
        if self.trained is not None and seen.reading is not None and self.trained.intents != self.domains:
            intent = self.trained.intents[int(seen.reading.intents.argmax())]
        return DomainEvidence(
            ranked[0][0] if outcome == "accepted" else "",
            outcome,
            ranked[0][1],
            ranked,
            intent,
            outside,
            thresholds,
            seen.heads,
            seen.note,
        )

    def explain(self, text: str, encode: Encode | None = None) -> "Explanation":
        """Which n-grams spoke for and against, the nearest examples, the runner-up, and what would change the outcome."""
        from router.explanation import explain

        return explain(self, text, encode)

    def with_exemplars(self, exemplars: Sequence[Exemplar], encode: Encode | None = None) -> "DomainHead":
        """A head that knows these examples, and these alone; new domains come into being with them. Effective at once.

        Without `encode`, or where it fails, they work by their n-grams. Raises InputError for an example without text or domain.
        """
        kept = tuple(exemplars)[-MOST:]
        if not kept and self.trained is not None:
            return replace(self, domains=self._trained_domains, taught=None, corrections={}, wider=None)
        wider = self.spelling.knowing(one.text for one in kept)
        mended = [wider.mend(one.text) for one in kept]
        fresh = sorted({one.domain for one in (*kept, *self.seeds)} - set(self._trained_domains))
        names = [Exemplar(name.replace("_", " "), name, source="seed") for name in fresh]
        vectors = _vectors([*mended, *(one.text for one in self.seeds), *(one.text for one in names)], encode, self._seed_vectors)
        alone = self.trained is None  # then the seeds are all there is to know, not stand-ins for trained domains
        taught = teach(
            (*kept, *self.seeds, *names),
            [*mended, *(one.text for one in self.seeds), *(one.text for one in names)],
            vectors,
            real=len(kept) + (len(self.seeds) if alone else 0),
            own=self.trained.dense.own if self.trained is not None and self.trained.dense is not None else OWN_DIMENSIONS,
        )
        said = {_plain(text): one.domain for text, one in zip(mended, kept, strict=True) if one.source == "correction"}
        domains = (*self._trained_domains, *fresh)
        return replace(self, domains=domains, taught=taught, corrections=said, wider=wider)

    def save(self, folder: Path) -> None:
        """Write the head, without examples, into a folder that exists; raises InputError where that fails."""
        from router.saved import save

        save(self, folder)

    @staticmethod
    def load(folder: Path) -> "DomainHead":
        """The head that was saved there; raises ModelInvalid where the folder is not, or no longer, a sound one."""
        from router.saved import load

        return load(folder)

    def look(self, text: str, encode: Encode | None) -> Seen:
        """Ask as many heads as the text needs."""
        mended = (self.wider or self.spelling).mend(text)
        found = grams(mended)
        if not len(found.hashes) or not any(char.isalnum() for char in mended):
            return Seen("", found, None, None, None, None, None, (), "")
        logits = reading = gate = vector = None
        heads: tuple[str, ...] = ()
        note = ""
        if self.trained is not None:
            logits, gate, heads = self.trained.sparse_logits(found), self.trained.sparse_gate, ("sparse",)
            reading = self.trained.read_sparse(logits)
        if self._must_encode(found, reading):
            vector, note = _encoded(encode, mended)
        if self.trained is not None and logits is not None and vector is not None:
            if self.trained.dense is not None and self.trained.dense.fits(vector):
                reading, gate, heads = self.trained.read_mixed(logits, vector), self.trained.mixed_gate, ("sparse", "dense")
            else:
                note = "the sentence encoder is not the one that this version was trained with: the n-grams decide"
        verdict = None
        if self.taught is not None:
            verdict, heads = self.taught.ask(found, vector), (*heads, "exemplars")
        return Seen(mended, found, vector, logits, reading, gate, verdict, heads, note)

    @cached_property
    def _trained_domains(self) -> tuple[str, ...]:
        return self.domains[: self.trained.groups.shape[1]] if self.trained is not None else ()

    @cached_property
    def _seed_vectors(self) -> dict[str, Floats]:
        if self.seed_vectors is None:
            return {}
        return {one.text: vector for one, vector in zip(self.seeds, self.seed_vectors, strict=True)}

    @cached_property
    def _has_new_domains(self) -> bool:
        return len(self.domains) > len(self._trained_domains)

    def _must_encode(self, found: Grams, reading: Reading | None) -> bool:
        if reading is None or self.trained is None or self._has_new_domains:
            return True
        if self.taught is not None and float(self.taught.likeness(found, None)[: self.taught.real].max()) >= ALIKE:
            return True
        if self.trained.dense is None:
            return False
        trust = self.trained.sparse_gate.trust(reading.intents, reading.log_odds)
        return bool(trust < self.trained.sparse_gate.sure)

    def _even(self) -> tuple[tuple[str, float], ...]:
        return tuple((domain, 1 / len(self.domains)) for domain in self.domains)

    def _weighed(self, seen: Seen) -> tuple[Floats, float, float]:
        """Probabilities of all domains and the log-odds of being out of scope, with the examples' word in them, and the force
        of a correction, 0 to 1."""
        probabilities = np.zeros(len(self.domains), np.float32)
        log_odds = 0.0
        if seen.reading is not None:
            probabilities[: len(self._trained_domains)] = seen.reading.domains
            log_odds = float(seen.reading.log_odds)
        if self.taught is None or seen.verdict is None:
            return probabilities, log_odds, 0.0
        said = np.zeros(len(self.domains), np.float32)
        for domain, probability in zip(self.taught.domains, seen.verdict.probabilities, strict=True):
            said[self.domains.index(domain)] = probability
        reached = seen.verdict.cosine >= self.taught.reach[1 if self.taught.sees(seen.vector) else 0]
        if seen.reading is None:
            return said, -5.0 if reached else 5.0, 0.0
        new = slice(len(self._trained_domains), None)
        share = float(said[new].sum()) if reached else 0.0
        if share >= MAJORITY:
            log_odds = min(log_odds, -5.0)
        probabilities *= 1 - share
        probabilities[new] = said[new] if reached else 0.0
        said_before = self.corrections.get(_plain(seen.mended))
        nearest = self.taught.exemplars[seen.verdict.nearest]
        force = 1.0 if said_before else self.taught.force(seen.verdict) if nearest.source == "correction" else 0.0
        if force > 0:
            right = np.zeros_like(probabilities)
            right[self.domains.index(said_before or nearest.domain)] = 1
            probabilities = (1 - np.float32(force)) * probabilities + np.float32(force) * right
            log_odds = log_odds * (1 - force) - 5.0 * force
        return probabilities, log_odds, force

    def _outcome(self, gate: Gate | None, confidence: float, log_odds: float) -> tuple[tuple[tuple[str, float], ...], Outcome]:
        """The thresholds that apply, and what comes of them; without a gate the examples' own."""
        outside, accept = (0.0, MAJORITY) if gate is None else (gate.out_of_scope, gate.accept)
        thresholds = [("accept", float(accept)), ("out_of_scope", 1 / (1 + float(np.exp(np.clip(-outside, -50, 50)))))]
        if self.trained is not None and np.isfinite(self.trained.sparse_gate.sure):
            thresholds.append(("sure", float(self.trained.sparse_gate.sure)))
        outcome: Outcome = "accepted" if confidence >= accept else "grey"
        return tuple(thresholds), "out_of_scope" if log_odds >= outside else outcome


def from_exemplars(exemplars: Sequence[Exemplar], encode: Encode | None = None, version: str = "") -> DomainHead:
    """A head that knows examples alone; raises InputError where there are none."""
    if not exemplars:
        raise InputError("there are no examples", "give at least one")
    return DomainHead(version, (), Spelling({})).with_exemplars(exemplars, encode)


def _vectors(texts: Sequence[str], encode: Encode | None, known: Mapping[str, Floats]) -> Floats | None:
    """Of all texts, most of them known already; None without an encoder, of which `read` then says so for every question."""
    if encode is None:
        return np.stack([known[text] for text in texts]) if known and all(text in known for text in texts) else None
    try:
        found = [known[text] if text in known else encode(text) for text in texts]
        same = all(len(one) == len(found[0]) for one in found)
        return np.stack(found if same else [encode(text) for text in texts])
    except (EngineError, ModelError):
        return None


def _plain(mended: str) -> str:
    """The words of a mended text without punctuation, by which an example is known again."""
    return " ".join(word for word in mended.split() if word.isalnum()) or mended


def _encoded(encode: Encode | None, mended: str) -> tuple[Floats | None, str]:
    if encode is None:
        return None, "the sentence encoder is switched off: the n-grams decide"
    try:
        return encode(mended), ""
    except (EngineError, ModelError) as fault:
        return None, f"the sentence encoder is missing: {fault.what}"
