"""How long the rows of a stage are: measured from tokens where they are there, else from the characters of the domain's pack.

Not covered: which rows a stage gets (`material`, `encode`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from data.domains import ContractVersion, Domain, Example
from trainer.recipe import Recipe, StageTable

TEXT_CHARS, ANSWER_CHARS, INSTRUCTION_CHARS = 4.0, 3.3, 4.2
"""Characters a token: means over the shipped packs with the tokenizer of SmolLM2."""
TEMPLATE_TOKENS = 16
"""Of a chat template around a system and a user message."""
LOG_ROWS, LOG_PROMPT, LOG_ANSWER = 100, 80, 200
"""Assumed of the user's log and other data that was not read: rows, tokens of a question, tokens of an answer."""


class Tokens(Protocol):
    """A row as `encode` makes it."""

    @property
    def prompt(self) -> Sequence[int]:
        """All of the prompt, the prefix included."""

    @property
    def label(self) -> str:
        """What it teaches, "" without labels."""

    @property
    def completion(self) -> Sequence[int]:
        """The answer."""


class Encoded(Protocol):
    """A stage's rows as `encode` makes them."""

    @property
    def rows(self) -> Sequence[Tokens]:
        """The training rows."""

    @property
    def prefix(self) -> Sequence[int]:
        """What every prompt begins with."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """rows: to train on; the rest in tokens: prefix, which all rows share; own: of a row without it, answer included, at the mean,
    the median, the 95th percentile and the longest; answer: of a row's answer, at the mean and the 95th percentile."""

    rows: int
    prefix: int
    mean: float
    p50: int
    p95: int
    longest: int
    answer: float
    answer_p95: int


def measured(encoded: Encoded, balance: float = 0.0) -> Sizes:
    """The sizes of rows that are there; rows: those that an epoch sees where labels are balanced (`stages.balance`)."""
    prefix = len(encoded.prefix)
    own = [len(row.prompt) + len(row.completion) - prefix for row in encoded.rows]
    found = _sizes(prefix, own, [len(row.completion) for row in encoded.rows])
    if not balance:
        return found
    from trainer._loop.order import turns  # it needs PyTorch

    taken = turns([row.label for row in encoded.rows], balance)
    return replace(found, rows=sum(count for _, count in taken)) if taken else found


def planned(recipe: Recipe, stage: StageTable, domain: Domain | None) -> Sizes:
    """The sizes of a pack's training examples by their characters; of other data, which is not read, LOG_ROWS and so on."""
    if domain is None or recipe.data.train:
        prefix = round(len(domain.instruction()) / INSTRUCTION_CHARS) if domain else TEMPLATE_TOKENS
        rows = recipe.data.limit or max(LOG_ROWS, stage.min_rows)
        return _sizes(prefix, [LOG_PROMPT + LOG_ANSWER] * rows, [LOG_ANSWER] * rows)
    examples = [example for example in domain.examples if example.split == "train"]
    examples = examples[: recipe.data.limit or None]
    prompts, answers = [], []
    contracts = _contracts(recipe, stage, domain)
    for contract in contracts:
        for example in examples:
            prompts.append(_tokens(example.text, TEXT_CHARS) + TEMPLATE_TOKENS // 2)
            answers.append(_answer(domain, example, contract))
    longest = max(len(domain.instruction(contract)) for contract in contracts)
    prefix = math.ceil(longest / INSTRUCTION_CHARS) + TEMPLATE_TOKENS // 2
    return _sizes(prefix, [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)], answers)


def cut(sizes: Sizes, max_tokens: int) -> Sizes:
    """The sizes where no row is longer than that, its prompt being cut."""
    most = max(1, max_tokens - sizes.prefix)
    return Sizes(
        rows=sizes.rows,
        prefix=min(sizes.prefix, max_tokens - 1),
        mean=min(sizes.mean, most),
        p50=min(sizes.p50, most),
        p95=min(sizes.p95, most),
        longest=min(sizes.longest, most),
        answer=min(sizes.answer, most),
        answer_p95=min(sizes.answer_p95, most),
    )


def _contracts(recipe: Recipe, stage: StageTable, domain: Domain) -> list[str]:
    """The layouts that the stage's rows are written in."""
    plain = recipe.data.contract or domain.contract().name
    reasoned = next((one.name for one in domain.described.contracts if _reasons(one)), plain)
    return {"reasoning": [reasoned], "joint": [plain, reasoned]}.get(stage.format, [plain])


def _reasons(contract: ContractVersion) -> bool:
    return bool(contract.reasoning_tag)


def _answer(domain: Domain, example: Example, contract: str) -> int:
    return _tokens(domain.wanted(example, contract), ANSWER_CHARS) + 2


def _tokens(text: str, each: float) -> int:
    return math.ceil(len(text) / each)


def _sizes(prefix: int, own: Sequence[int], answers: Sequence[int]) -> Sizes:
    ordered, said = sorted(own), sorted(answers)
    return Sizes(
        rows=len(ordered),
        prefix=prefix,
        mean=sum(ordered) / max(1, len(ordered)),
        p50=_quantile(ordered, 0.5),
        p95=_quantile(ordered, 0.95),
        longest=_quantile(ordered, 1.0),
        answer=sum(said) / max(1, len(said)),
        answer_p95=_quantile(said, 0.95),
    )


def _quantile(ordered: Sequence[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0
