"""What came of asking two models the same prompts (replay.py): case by case, in counts, and as gates.

Not covered: asking, and when an answer is right.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from data import statistics
from data.chat import Message
from data.store.versions import Gate

FIXED = 0.8
"""The share of corrections that a candidate has to answer as was wanted."""
HARM = 2
"""Prompts more lost than won from which a share beyond the margin counts as harm, proven or not."""
Verdict = Literal["fixed", "broken", "same", "unjudged"]
"""fixed: only the candidate is right; broken: only the champion; same: both or neither; unjudged: nobody said what is right."""


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt. id: of the correction, or of the answer in the log; wanted: the right answer, unwanted: a wrong one, "" where
    nobody said; held_out: known not to have been trained on, so that it can be compared fairly."""

    id: str
    kind: Literal["regression", "past"]
    domain: str
    messages: tuple[Message, ...]
    wanted: str = ""
    unwanted: str = ""
    held_out: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model made of a case. right: None where that cannot be said; fault: why there is no answer, else "".

    seconds: of answers that were written together their mean.
    """

    text: str = ""
    right: bool | None = None
    fault: str = ""
    seconds: float = 0.0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Compared:
    """A case with both answers."""

    case: Case
    champion: Answer
    candidate: Answer

    @property
    def verdict(self) -> Verdict:
        """What the candidate did to it."""
        if self.champion.right is None or self.candidate.right is None:
            return "unjudged"
        if self.champion.right == self.candidate.right:
            return "same"
        return "fixed" if self.candidate.right else "broken"


@dataclass(frozen=True, slots=True)
class Replayed:
    """Every case with both models' answers."""

    champion: str
    candidate: str
    compared: tuple[Compared, ...]

    def of(self, verdict: Verdict, kind: str = "") -> tuple[Compared, ...]:
        """The cases that came out so, of one kind where it is given."""
        return tuple(one for one in self.compared if one.verdict == verdict and kind in ("", one.case.kind))

    @property
    def passed(self) -> bool:
        """Whether no gate failed."""
        return all(gate.passed is not False for gate in self.gates())

    def gates(self) -> tuple[Gate, ...]:
        """Regressions kept, corrections fixed, no new faults, not worse on held-out prompts.

        passed is None where nothing could be said, with what is missing in the note.
        """
        return (self._kept(), self._mended(), self._faultless(), self._not_worse())

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, without any text of the prompts and answers: counts, gates, means, and what became of each case."""
        verdicts: tuple[Verdict, ...] = ("fixed", "broken", "same", "unjudged")
        return {
            "champion": self.champion,
            "candidate": self.candidate,
            "passed": self.passed,
            "cases": len(self.compared),
            "regressions": sum(one.case.kind == "regression" for one in self.compared),
            **{name: len(self.of(name)) for name in verdicts},
            "errors": self._errors(),
            "seconds": self._means(lambda answer: answer.seconds),
            "tokens": self._means(lambda answer: float(answer.tokens)),
            "gates": [asdict(gate) for gate in self.gates()],
            "verdicts": [{"id": one.case.id, "kind": one.case.kind, "verdict": one.verdict} for one in self.compared],
        }

    def _errors(self) -> dict[str, int]:
        return {
            "champion": sum(bool(one.champion.fault) for one in self.compared),
            "candidate": sum(bool(one.candidate.fault) for one in self.compared),
        }

    def _means(self, of: Callable[[Answer], float]) -> dict[str, float]:
        """Over the cases that both answered."""
        whole = [one for one in self.compared if not one.champion.fault and not one.candidate.fault]
        count = max(len(whole), 1)
        return {
            "champion": sum(of(one.champion) for one in whole) / count,
            "candidate": sum(of(one.candidate) for one in whole) / count,
        }

    def _kept(self) -> Gate:
        tests = [one for one in self.compared if one.case.kind == "regression" and one.champion.right]
        broken = len(self.of("broken", "regression"))
        note = (
            f"of {len(tests)} corrections that the champion answers as wanted" if tests else "the champion answers none as wanted"
        )
        return Gate("regressions kept", broken == 0 if tests else None, float(broken), 0.0, note)

    def _mended(self) -> Gate:
        tests = [one for one in self.compared if one.case.kind == "regression"]
        if not tests:
            return Gate("corrections fixed", None, None, FIXED, "nothing was corrected yet")
        right = sum(bool(one.candidate.right) for one in tests)
        before = sum(bool(one.champion.right) for one in tests)
        note = f"{right} of {len(tests)} corrections, the champion {before}"
        return Gate("corrections fixed", right >= FIXED * len(tests), right / len(tests), FIXED, note)

    def _faultless(self) -> Gate:
        new = [one.candidate.fault for one in self.compared if one.candidate.fault and not one.champion.fault]
        note = f"of {len(self.compared)} prompts" + (f", the first: {new[0]}" if new else "")
        return Gate("replay without faults", not new if self.compared else None, float(len(new)), 0.0, note)

    def _not_worse(self) -> Gate:
        held = [one.verdict for one in self.compared if one.case.held_out]
        wins, losses, ties = (held.count(name) for name in ("fixed", "broken", "same"))
        margin, count = statistics.MARGIN, wins + losses + ties
        said = f"{wins} better, {losses} worse, {ties} alike of prompts not trained on"
        reached = (wins - losses) / count if count else None
        proven = statistics.not_worse(wins, losses, ties) >= statistics.SIGNIFICANT
        harm = losses - wins >= HARM and (losses - wins) / max(count, 1) > margin
        if harm or statistics.paired(losses, wins) >= statistics.SIGNIFICANT:
            return Gate("not worse on past prompts", False, reached, -margin, said)
        if proven:
            return Gate("not worse on past prompts", True, reached, -margin, said)
        more = statistics.more_not_worse(wins, losses, ties)
        wanted = "no end is in sight" if more is None else f"about {more} more that were rated or corrected would prove it"
        return Gate("not worse on past prompts", None, reached, -margin, f"{said}; {wanted}")
