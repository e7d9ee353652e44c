"""General ability: what a tuned model may not forget. A fixed set of short questions beside its domain (general.jsonl).

Two measures of base and adapter, both from the same engine: the mean loss of the wanted answers, token by token as in training
(every row), and how many of the rows that `ask` marks are answered right, greedily and in at most ANSWER_TOKENS tokens. A row
is right where one of its `accept` words is in the answer. The set is small on purpose: it shows a model that
has lost its speech, not a difference of one question in a hundred. Not covered: the gates (`proof`).
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from data import paths
from data.chat import Message
from data.config import Sampling
from data.errors import InputError
from router.engines.base import Engine, Request

FILE = Path(__file__).parent / "general.jsonl"
LARGEST_BYTES = 1 << 20
ANSWER_TOKENS = 32
GREEDY = Sampling(temperature=0.0, repeat_penalty=1.0)

Progress = Callable[[str, int, int], object]


@dataclass(frozen=True, slots=True)
class Row:
    """One question with its wanted answer. accept: any of these words in an answer counts; ask: whether it is answered at all."""

    prompt: str
    completion: str
    accept: tuple[str, ...]
    ask: bool = False


@dataclass(frozen=True, slots=True)
class Ability:
    """One model on the set. loss: nats a token over all completions, None where the engine gives none; answers: of the rows that
    are asked, with whether each is right."""

    loss: float | None
    tokens: int
    answers: tuple[str, ...]
    right: tuple[bool, ...]

    @property
    def rate(self) -> float:
        """The share of the asked rows that is right."""
        return sum(self.right) / len(self.right) if self.right else 0.0


@dataclass(frozen=True, slots=True)
class General:
    """Base and adapter on the same set; prompts: the questions asked."""

    base: Ability
    mine: Ability
    prompts: tuple[str, ...] = ()

    @property
    def loss_rise(self) -> float | None:
        """Nats a token by which the adapter's loss is above the base's; None where either is not known."""
        if self.base.loss is None or self.mine.loss is None:
            return None
        return self.mine.loss - self.base.loss

    @property
    def lost_share(self) -> float | None:
        """The share of the base's right answers that the adapter gets wrong; None where the base got none right."""
        known = sum(self.base.right)
        return sum(was and not now for was, now in self._pairs()) / known if known else None

    @property
    def lost(self) -> tuple[tuple[str, str, str], ...]:
        """The questions that only the base got right, with its answer and the adapter's."""
        found = zip(self.prompts, self.base.answers, self.mine.answers, self._pairs(), strict=False)
        return tuple((prompt, was, now) for prompt, was, now, (right, still) in found if right and not still)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        both = {"base": asdict(self.base), "mine": asdict(self.mine), "prompts": list(self.prompts)}
        return both | {"loss_rise": self.loss_rise, "lost_share": self.lost_share}

    def _pairs(self) -> Iterator[tuple[bool, bool]]:
        return zip(self.base.right, self.mine.right, strict=True)


@cache
def rows() -> tuple[Row, ...]:
    """The set. Raises InputError where the file is damaged."""
    text = paths.read_text(FILE, LARGEST_BYTES, "install pointsman again")
    try:
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
        return tuple(Row(one["prompt"], one["completion"], tuple(one["accept"]), one.get("ask", False)) for one in found)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{FILE.name} is damaged: {error}", "install pointsman again") from error


def measure(
    engine: Engine,
    progress: Progress = lambda doing, done, of: None,
    mine: str = "adapter",
    base: str | Ability = "base",
) -> General:
    """Two models of an engine on the set: by the names of `trainer.engine.TorchEngine` the adapter, and the base it sits on.

    base: its name, or its ability where that is known already. progress is told "general set", rows done and rows in all, for each.
    Raises what the engine raises.
    """
    of_base = base if isinstance(base, Ability) else ability(engine, base, progress)
    return General(of_base, ability(engine, mine, progress), tuple(row.prompt for row in rows() if row.ask))


def ability(
    engine: Engine, model: str, progress: Progress = lambda doing, done, of: None, asked: Sequence[Row] | None = None
) -> Ability:
    """One model on the set, or on the rows `asked`, as it stands. Raises what the engine raises."""
    given = rows() if asked is None else asked
    total, tokens = 0.0, 0
    answers: list[str] = []
    right: list[bool] = []
    for done, row in enumerate(given):
        progress("general set", done, len(given))
        request = Request(model, (Message("user", row.prompt),), GREEDY, max_tokens=ANSWER_TOKENS)
        if engine.capabilities.score:
            told = engine.score(request, [row.completion])[0]
            total, tokens = total - sum(told), tokens + len(told)
        if row.ask:
            answer = _answer(engine, request, row.accept)
            answers.append(answer)
            right.append(accepted(answer, row.accept))
    progress("general set", len(given), len(given))
    return Ability(total / tokens if tokens else None, tokens, tuple(answers), tuple(right))


def accepted(answer: str, accept: Sequence[str]) -> bool:
    """Whether one of the words is in the answer, as a whole word and whatever its case."""
    return any(_found(answer, one) is not None for one in accept)


def _answer(engine: Engine, request: Request, accept: Sequence[str]) -> str:
    """The answer, or its beginning up to where it is known to be right: what follows cannot change that."""
    text = ""
    stream = engine.stream(request)
    for chunk in stream:
        text += chunk.text
        ends = [end for one in accept if (end := _found(text, one)) is not None]
        if ends and min(ends) < len(text):  # a character follows, so the word has ended
            break
    close = getattr(stream, "close", None)
    if close is not None:
        close()
    return text


def _found(answer: str, word: str) -> int | None:
    """Where the word ends in the answer, None where it is not in it. Its edges are word edges where they are letters or digits."""
    before = r"(?<!\w)" if word[:1].isalnum() else ""
    after = r"(?!\w)" if word[-1:].isalnum() else ""
    found = re.search(before + re.escape(word) + after, answer, re.IGNORECASE)
    return found.end() if found else None
