"""The user's own past prompts and corrections, asked of two models: what the candidate mends, breaks and leaves as it was.

    cases = (*regressions(store, domain, trained), *past(store, domain, trained))
    found = replay(engines, champion, candidate, cases, tell)
    found.gates()                                                       data.store.versions.Gate, as the registry keeps them

A question of a domain whose right or given answer is a label or JSON of it is asked through the contract, any other as the
conversation was, both at temperature 0. A regression may have been trained on, since a correction is a demonstration too; what is
compared pairwise must not have been. Not covered: when an answer is right (wanted.py), what follows (replayed.py), live comparison
(experiments, pairing.py).
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from data import domains
from data.chat import Message
from data.config import Sampling
from data.datasets.duplicates import normalised
from data.domains import Domain
from data.errors import ContextOverflow, EngineInterrupted, EngineRejected, NotFound
from data.store import Store
from data.store import prompts as log
from data.store import regressions as corrections
from data.store.prompts import Prompt
from router import wanted as reading
from router.classification import Classifier
from router.engines import Engines, Resolved
from router.engines.base import Request
from router.replayed import Answer, Case, Compared, Replayed
from router.terms import joined

__all__ = ["Answer", "Case", "Compared", "Replayed", "past", "regressions", "replay"]

MOST = 200
"""Judged prompts at most, the newest."""
SHADOW = 50
"""Prompts about which nobody said anything, asked all the same: the candidate has to answer them."""
TOKENS = 256
"""Of a free answer at most, unless more is wanted."""
TOGETHER = 16
"""Texts that go through a contract at once."""
_OWN = corrections.OWN
_GOOD_STARS, _BAD_STARS = 4, 2
Tell = Callable[[str, int, int], object]
"""What is being done, cases done, of how many."""


def regressions(store: Store, domain: str, trained: Collection[str] | None = None) -> tuple[Case, ...]:
    """The corrections of a domain as cases, all of them, oldest first; trained: as in `past`, None where that is not known."""
    seen = _Seen(trained or ())
    return tuple(
        Case(
            one.id,
            "regression",
            one.domain,
            one.messages,
            one.wanted,
            one.given,
            trained is not None and not seen(one.conversation, one.messages),
        )
        for one in corrections.of(store, domain)
    )


def past(store: Store, domain: str, trained: Collection[str] = (), most: int = MOST) -> tuple[Case, ...]:
    """Prompts of a domain that were not trained on, the newest first: at most so many with a judgement, and SHADOW without.

    trained: ids of conversations (the `group` of their rows) and texts of questions that were trained on. A liked answer that is a
    label or JSON of the domain is wanted, a disliked one unwanted; one that was corrected is a regression instead. The same
    conversation asked twice is one case. Answers of one conversation are taken as if they did not depend on each other.
    """
    pack, seen = _pack(domain), _Seen(trained)
    found: dict[tuple[Message, ...], Case] = {}
    corrected: set[tuple[Message, ...]] = set()
    judged = silent = 0
    for prompt in log.newest(store.database, domain):
        if seen(prompt.conversation, prompt.messages):
            continue
        if any(said.kind == "correction" and said.source in _OWN for said in prompt.said):
            corrected.add(prompt.messages)
            continue
        case = _case(prompt, pack)
        before = found.get(prompt.messages)
        if before is not None:
            case = replace(before, wanted=before.wanted or case.wanted, unwanted=before.unwanted or case.unwanted)
        elif not (case.wanted or case.unwanted):
            silent += 1
            if silent > SHADOW:
                continue
        else:
            judged += 1
        found[prompt.messages] = case
        if judged >= most:
            break
    return tuple(case for messages, case in found.items() if messages not in corrected)


def replay(engines: Engines, champion: str, candidate: str, cases: Sequence[Case], tell: Tell = lambda *_: None) -> Replayed:
    """Ask both models (references) every case, one model after the other.

    Raises ModelError and EngineError where a model cannot be had at all; what goes wrong with a single answer stays in it.
    """
    first, second = (_Asking(engines, engines.resolve(model), tell).all(cases) for model in (champion, candidate))
    whole = zip(cases, first, second, strict=True)
    return Replayed(champion, candidate, tuple(Compared(case, one, other) for case, one, other in whole))


class _Seen:
    """Whether a prompt was trained on, by its conversation or its question."""

    def __init__(self, trained: Collection[str]) -> None:
        self._conversations = frozenset(trained)
        self._texts = frozenset(normalised(one) for one in trained)

    def __call__(self, conversation: str, messages: Sequence[Message]) -> bool:
        return conversation in self._conversations or normalised(messages[-1].content) in self._texts


class _Asking:
    """One model at work on cases."""

    def __init__(self, engines: Engines, model: Resolved, tell: Tell) -> None:
        self._engines, self._model, self._tell = engines, model, tell
        self._done = 0

    def all(self, cases: Sequence[Case]) -> list[Answer]:
        """An answer a case, in their order; those through a contract together, domain by domain."""
        found: dict[int, Answer] = {}
        for name in dict.fromkeys(case.domain for case in cases):
            pack = _pack(name)
            mine = [(at, case) for at, case in enumerate(cases) if case.domain == name]
            strict = {at: case for at, case in mine if pack is not None and _through_contract(case, pack)}
            if pack is not None and strict:
                found |= dict(zip(strict, self._classified(pack, list(strict.values()), len(cases)), strict=True))
            for at, case in mine:
                if at not in strict:
                    found[at] = self._told(self._spoken(case, pack), len(cases))
        return [found[at] for at in range(len(cases))]

    def _told(self, answer: Answer, of: int) -> Answer:
        self._done += 1
        self._tell(self._model.reference, self._done, of)
        return answer

    def _classified(self, pack: Domain, cases: Sequence[Case], of: int) -> Iterator[Answer]:
        """Answers as `classify` and `eval` give them, rules included."""
        classifier = Classifier(pack, self._engines, self._model.reference)
        for start in range(0, len(cases), TOGETHER):
            some = cases[start : start + TOGETHER]
            began = time.perf_counter()
            answers = list(classifier.classify([case.messages[-1].content for case in some]))
            seconds = (time.perf_counter() - began) / len(some)
            for case, one in zip(some, answers, strict=True):
                said = None if one.fault else reading.values_of(pack, one.output)
                text = "" if one.fault else pack.completion(one.output, one.reasoning)
                right = _right(case, pack, said, text)
                yield self._told(Answer(text, right, one.fault, seconds, one.usage.completion_tokens), of)

    def _spoken(self, case: Case, pack: Domain | None) -> Answer:
        """The answer to the conversation as it was."""
        room = min(self._engines.settings.max_tokens, max(TOKENS, len(case.wanted)))
        request = Request(self._model.model, joined(case.messages), Sampling(temperature=0.0), max_tokens=room)
        try:
            with closing(self._model.engine.stream(request)) as chunks:  # type: ignore[type-var]
                seen = list(chunks)
        except (ContextOverflow, EngineInterrupted, EngineRejected) as fault:
            return Answer(right=_right(case, pack, None, ""), fault=fault.what)
        text = "".join(chunk.text for chunk in seen)
        usage = next((chunk.usage for chunk in reversed(seen) if chunk.usage), None)
        seconds, tokens = (usage.total_s, usage.completion_tokens) if usage else (0.0, 0)
        right = _right(case, pack, reading.values(pack, text), text)
        return Answer(text, right, "" if text.strip() else "the answer is empty", seconds, tokens)


def _case(prompt: Prompt, pack: Domain | None) -> Case:
    """What was said about an answer as a case; of free text a liked answer is no measure, since many are as good."""
    thumbs = [said.value or 0 for said in prompt.said if said.kind == "thumb" and said.source in _OWN]
    stars = [said.value or 0 for said in prompt.said if said.kind == "rating" and said.source in _OWN]
    good = thumbs[-1] > 0 if thumbs else bool(stars) and stars[-1] >= _GOOD_STARS
    bad = thumbs[-1] < 0 if thumbs else bool(stars) and stars[-1] <= _BAD_STARS
    wanted = prompt.answer if good and reading.values(pack, prompt.answer) is not None else ""
    unwanted = prompt.answer if bad else ""
    return Case(prompt.inference, "past", prompt.domain, prompt.messages, wanted, unwanted, held_out=True)


def _through_contract(case: Case, pack: Domain) -> bool:
    """Whether a case is one text about which a label or JSON of the domain is wanted, or was given."""
    if [message.role for message in case.messages if message.role != "system"] != ["user"]:
        return False
    return any(reading.values(pack, text) is not None for text in (case.wanted, case.unwanted) if text)


def _right(case: Case, pack: Domain | None, said: reading.Values | None, text: str) -> bool | None:
    """Whether an answer is right: in the domain's terms where the case is in them, else by its words; no answer is wrong."""
    wanted, unwanted = (reading.values(pack, one) if one else None for one in (case.wanted, case.unwanted))
    if pack is not None and wanted is not None and wanted != unwanted:
        return reading.agrees(pack, said, wanted, unwanted)
    if pack is not None and unwanted is not None and not case.wanted:
        return reading.agrees(pack, said, None, unwanted)
    return reading.says(text, case.wanted, case.unwanted) if case.wanted or case.unwanted else None


def _pack(name: str) -> Domain | None:
    try:
        return domains.load(name)
    except NotFound:
        return None
