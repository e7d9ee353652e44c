"""Rows as tokens: the prompts that serving sees, the answers that a model is to give, and every row that was not kept whole.

    sft(…)         prompt and answer, where the label stands in it, how much the row counts
    pairs(…)       a better and a worse answer to one prompt (dpo)
    unpaired(…)    an answer and whether it was good (kto)
    check(…)       raises where more rows were lost than the recipe allows

A prompt is the domain's own, rendered and tokenised as the llama.cpp engine does it; an answer's tokens are those of its text as it
goes on after the prompt, and the base's end of a turn. Not covered: which rows (`material`), batches (`forward`, the stages).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypedDict, TypeVar

from data.chat import Message
from data.datasets.manifest import QUANTILES
from data.datasets.rows import Row
from data.domains import Domain
from data.errors import InputError
from data.sanitise import one_line
from trainer._encoding.fitting import Fitted, Fitting, Room
from trainer._encoding.layouts import Kind, Layouts
from trainer._encoding.spelling import Speller, common
from trainer._material.reading import SHOWN_ROWS, enough, packed
from trainer._material.rows import Lost
from trainer.recipe import LossTable, Recipe, StageTable

if TYPE_CHECKING:
    from trainer.base import Base
    from trainer.stages import Work

__all__ = [
    "Encoded",
    "JudgedLine",
    "Lines",
    "Lost",
    "PairLine",
    "Tokens",
    "check",
    "encode",
    "fitted",
    "pairs",
    "preflight",
    "sft",
    "shared",
    "unpaired",
]


@dataclass(frozen=True, slots=True)
class Tokens:
    """A row as tokens. prompt: the whole one, prefix included; completion: with the end token last; label_at: the positions in
    it, half-open, of the label's own tokens, (0, 0) for none; weight: how much the row counts beside others, 1 on average."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    label: str
    label_at: tuple[int, int]
    weight: float
    origin: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """The rows of a stage. prefix: the tokens with which every prompt begins, at least one of each prompt left out of it.

    lost: rows that were cut, dropped or teach nothing, with the reason; notes: what else to know.
    """

    rows: tuple[Tokens, ...]
    prefix: tuple[int, ...] = ()
    lost: tuple[Lost, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of prompt and answer together, a row."""
        return tuple(len(row.prompt) + len(row.completion) for row in self.rows)

    @property
    def tokens(self) -> int:
        """Tokens of all rows, prompts whole."""
        return sum(self.lengths)

    @property
    def answer_tokens(self) -> int:
        """Tokens that are learnt: those of all answers."""
        return sum(len(row.completion) for row in self.rows)

    def quantiles(self) -> dict[str, int]:
        """Quantile -> length of a row in tokens; {} without rows."""
        ordered = sorted(self.lengths)
        return {f"{share:g}": ordered[round(share * (len(ordered) - 1))] for share in QUANTILES} if ordered else {}

    def histogram(self, bins: int = 20) -> list[tuple[int, int, int]]:
        """(from, below, rows) by length in tokens, in at most so many bins of one width; [] without rows."""
        lengths = self.lengths
        if not lengths:
            return []
        low, high = min(lengths), max(lengths)
        width = max(1, -(-(high - low + 1) // bins))
        counts = Counter((length - low) // width for length in lengths)
        return [(low + width * place, low + width * (place + 1), counts[place]) for place in range((high - low) // width + 1)]


class PairLine(TypedDict):
    """A better and a worse answer: the texts as rendered, answers with their end, and their tokens."""

    prompt: str
    chosen: str
    rejected: str
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    origin: str


class JudgedLine(TypedDict):
    """An answer and whether it was good (label): the texts as rendered, the answer with its end, and their tokens."""

    prompt: str
    completion: str
    label: bool
    prompt_ids: list[int]
    completion_ids: list[int]
    origin: str


Line = TypeVar("Line", PairLine, JudgedLine)


@dataclass(frozen=True, slots=True)
class Lines(Generic[Line]):
    """The lines of a preference stage, with what was lost and what else to know."""

    lines: tuple[Line, ...]
    lost: tuple[Lost, ...] = ()
    notes: tuple[str, ...] = ()


def encode(work: "Work") -> Encoded | Lines[PairLine] | Lines[JudgedLine]:
    """The training rows of a stage as it needs them: pairs for dpo, judged answers for kto, else prompts with their answers."""
    arguments = (work.recipe, work.stage, work.domain, work.base, work.material.train)
    if work.stage.kind == "dpo":
        return pairs(*arguments)
    return unpaired(*arguments) if work.stage.kind == "kto" else sft(*arguments)


def sft(recipe: Recipe, stage: StageTable, domain: Domain | None, base: "Base", rows: Sequence[Row]) -> Encoded:
    """Rows with their answers. Raises InputError where the stage asks for a contract, labels or an end that are not there."""
    fitting = _fitting("sft", recipe, stage, domain, base)
    fitted = list(fitting.fit(rows))
    weights = _weights(stage.loss, domain, [one.written.label for one in fitted])
    if stage.loss.own != 1.0 and domain is not None:
        pack = packed(domain.name)
        weights = _owned(weights, [one.row.origin.source != pack for one in fitted], stage.loss.own)
    found = tuple(_tokens(one, weight, fitting.speller) for one, weight in zip(fitted, weights, strict=True))
    return Encoded(found, shared([row.prompt for row in found]), tuple(fitting.lost), (*preflight(base, domain), *fitting.notes))


def fitted(recipe: Recipe, stage: StageTable, domain: Domain | None, base: "Base", rows: Sequence[Row]) -> Iterator[Fitted]:
    """The rows as `sft` has them, each with its messages; those that do not fit are left out. Raises as `sft`."""
    yield from _fitting("sft", recipe, stage, domain, base).fit(rows)


def pairs(recipe: Recipe, stage: StageTable, domain: Domain | None, base: "Base", rows: Sequence[Row]) -> Lines[PairLine]:
    """Pairs of answers, as corrections, preferences and judged labels give them; other rows are left out. Raises as `sft`."""
    fitting = _fitting("preference", recipe, stage, domain, base)
    lines = tuple(
        PairLine(
            prompt=base.prompt(one.written.messages, _think(domain)),
            chosen=one.written.answers[0] + base.end,
            rejected=one.written.answers[1] + base.end,
            prompt_ids=list(one.prompt),
            chosen_ids=list(one.answers[0]),
            rejected_ids=list(one.answers[1]),
            origin=str(one.row.origin),
        )
        for one in fitting.fit(rows)
    )
    return Lines(lines, tuple(fitting.lost), (*preflight(base, domain), *fitting.notes))


def unpaired(recipe: Recipe, stage: StageTable, domain: Domain | None, base: "Base", rows: Sequence[Row]) -> Lines[JudgedLine]:
    """Judged answers: thumbs, and both sides of pairs, corrections and judged labels; other rows are left out. Raises as `sft`."""
    fitting = _fitting("unpaired", recipe, stage, domain, base)
    lines = tuple(
        JudgedLine(
            prompt=base.prompt(one.written.messages, _think(domain)),
            completion=one.written.answers[0] + base.end,
            label=one.written.good,
            prompt_ids=list(one.prompt),
            completion_ids=list(one.answers[0]),
            origin=str(one.row.origin),
        )
        for one in fitting.fit(rows)
    )
    return Lines(lines, tuple(fitting.lost), (*preflight(base, domain), *fitting.notes))


def check(recipe: Recipe, encoded: Encoded | Lines[PairLine] | Lines[JudgedLine], total: int, least: int = 1) -> None:
    """Raise InputError where more of `total` rows were lost than data.lost allows, or fewer than `least` are left.

    The message has the first lines; all of them are in `encoded.lost`.
    """
    left = len(encoded.rows if isinstance(encoded, Encoded) else encoded.lines)
    lost = list({(one.origin, one.text): one for one in encoded.lost}.values())
    listed = "; ".join(f"{one.origin}: {one.reason}" for one in lost[:SHOWN_ROWS])
    more = f"; and {len(lost) - SHOWN_ROWS:,} more" if len(lost) > SHOWN_ROWS else ""
    if len(lost) > recipe.data.lost * total:
        raise InputError(
            f"{len(lost):,} of {total:,} rows would be cut, dropped or teach nothing, and data.lost = {recipe.data.lost:g} "
            f"allows {recipe.data.lost:.1%}: {listed}{more}",
            f"{_remedy(recipe, lost)}, or set data.lost = {enough(len(lost), total):g}",
        )
    if left < least:
        raise InputError(
            f"{left:,} rows are left to learn from, and {least:,} are needed{': ' if listed else ''}{listed}{more}",
            _remedy(recipe, lost) if lost else "give more rows",
        )


def shared(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens with which every prompt begins, at least the last one of the shortest left out; () without prompts."""
    return common(prompts) if prompts else ()


def preflight(base: "Base", domain: Domain | None = None) -> tuple[str, ...]:
    """What is odd about how the base writes answers, in words. Raises InputError where what ends them would not stop the model."""
    end = base.ids(base.end)
    if not end or end[-1] not in base.stop_ids:
        raise InputError(
            f"an answer would end with {one_line(base.end, 40)!r}, at which {one_line(base.identity.source, 80)} does not stop",
            "choose a base whose chat template ends an answer with a stop token",
        )
    asked = domain.prompt("A question.") if domain is not None else (Message("user", "A question."),)
    think = _think(domain)
    whole = base.prompt((*asked, Message("assistant", "An answer."), Message("user", "Another.")), think)
    if not whole.startswith(f"{base.prompt(asked, think)}An answer.{base.end}"):
        return ("the chat template shows earlier answers of a conversation otherwise than a new one is written",)
    return ()


def _fitting(kind: Kind, recipe: Recipe, stage: StageTable, domain: Domain | None, base: "Base") -> Fitting:
    asked = stage.format if kind == "sft" else ""
    layouts = Layouts(kind, domain, recipe.data.contract, asked)
    wanted, context = recipe.data.max_tokens, base.context
    said = "data.max_tokens" if wanted <= context else f"the context of {one_line(base.identity.source, 60)}"
    room = Room(min(wanted, context), said, recipe.data.overlong == "truncate")
    learns = {"sft": "sft", "preference": "dpo", "unpaired": "kto"}[kind]
    return Fitting(learns, layouts, Speller(base, _think(domain)), room)


def _think(domain: Domain | None) -> bool | None:
    """As answers are served: under a contract without native thinking, else as the model has it."""
    return False if domain is not None and domain.schema else None


def _tokens(one: Fitted, weight: float, speller: Speller) -> Tokens:
    written = one.written
    at = speller.answer(written.answers[0]).place(written.at)
    return Tokens(one.prompt, one.answers[0], written.label, at, weight, str(one.row.origin))


def _weights(loss: LossTable, domain: Domain | None, labels: Sequence[str]) -> list[float]:
    """A weight for each row, 1 on average over the rows with a label; 1 for rows without."""
    if loss.weights == "none":
        return [1.0] * len(labels)
    if domain is None or not domain.labels:
        raise InputError(f'loss.weights = "{loss.weights}" needs a domain with labels', 'set loss.weights = "none"')
    counts = Counter(label for label in labels if label)
    if loss.weights == "balanced":
        each = {label: 1 / count for label, count in counts.items()}
    else:
        each = {label.name: label.weight for label in domain.described.labels}
    whole = sum(each[label] * count for label, count in counts.items())
    scale = counts.total() / whole if whole else 1.0
    return [each[label] * scale if label else 1.0 for label in labels]


def _owned(weights: Sequence[float], own: Sequence[bool], times: float) -> list[float]:
    """The weights with those of the user's own rows so many times as large, and with the same sum."""
    raised = [weight * (times if mine else 1.0) for weight, mine in zip(weights, own, strict=True)]
    whole = sum(raised)
    return [weight * sum(weights) / whole for weight in raised] if whole else raised


def _remedy(recipe: Recipe, lost: Sequence[Lost]) -> str:
    if any(one.reason.startswith(("dropped", "cut")) for one in lost):
        cut = "" if recipe.data.overlong == "truncate" else ' or data.overlong = "truncate"'
        return f"raise data.max_tokens{cut}"
    return "correct these rows"
