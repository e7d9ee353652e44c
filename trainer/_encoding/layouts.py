"""Rows as messages with answers, in the layouts of a stage: what `data.datasets.formats` makes of a row, and the answer's label.

Not covered: tokens (`spelling`), which rows fit (`fitting`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from data.chat import Message
from data.datasets.chains import PROPERTY as REASONING
from data.datasets.formats import Formatter
from data.datasets.rows import Row
from data.domains import ContractVersion, Domain
from data.errors import InputError
from trainer._material.rows import label_of

THINKING = ("<think>", "</think>")
"""What stands around reasoning where no contract says otherwise (`Formatter`)."""
Kind = Literal["sft", "preference", "unpaired"]


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt with its answer, of pairs the better and the worse one. good: of a judged answer; at: where the label's own
    characters stand in the first answer, (0, 0) nowhere."""

    messages: tuple[Message, ...]
    answers: tuple[str, ...]
    label: str = ""
    at: tuple[int, int] = (0, 0)
    good: bool = True


class Layouts:
    """The layouts that a stage trains a domain in. Raises InputError where the domain has none of the kind asked for."""

    def __init__(self, kind: Kind, domain: Domain | None, contract: str = "", asked: str = "") -> None:
        """contract: the recipe's; asked: the stage's format (answer, reasoning, joint, or "" for the contract's own)."""
        self.domain = domain
        self._kind = kind
        wanted = {"answer": (False,), "reasoning": (True,), "joint": (False, True)}.get(asked, ())
        if domain is None or not domain.schema:
            formats = ["chain_of_thought" if reasoned else "chat" for reasoned in wanted] or ["chat"]
            self._formatters = [Formatter(domain, name) for name in formats] if kind == "sft" else [Formatter(domain, kind)]
            self._versions: list[ContractVersion | None] = [None] * len(self._formatters)
        else:
            own = domain.contract(contract)
            versions = list(dict.fromkeys(_version(domain, own, reasoned) for reasoned in wanted)) or [own]
            self._formatters = [Formatter(_narrowed(domain, version), "chat" if kind == "sft" else kind) for version in versions]
            self._versions = list(versions)

    @property
    def completed(self) -> dict[str, int]:
        """Rows whose properties beside the label were taken from the pack's examples, by property."""
        found: dict[str, int] = {}
        for formatter in self._formatters:
            for name, count in formatter.completed.items():
                found[name] = found.get(name, 0) + count
        return found

    def written(self, row: Row) -> tuple[list[Written], str]:
        """What a row makes, and what a layout lacked: the first layout that cannot express it, in words, or ""."""
        found: list[Written] = []
        reason = ""
        for formatter, version in zip(self._formatters, self._versions, strict=True):
            for one in _judged_alone(row) if self._kind == "sft" else (row,):
                expressed = formatter.express(one)
                reason = reason or expressed.reason
                found += [self._line(line, one, version) for line in expressed.lines]
        return found, reason

    def _line(self, line: dict[str, Any], row: Row, version: ContractVersion | None) -> Written:
        messages = tuple(Message.from_dict(message) for message in line["prompt"])
        if self._kind == "preference":
            return Written(messages, (line["chosen"][0]["content"], line["rejected"][0]["content"]), label_of(row, self.domain))
        answer = line["completion"][0]["content"]
        if self._kind == "unpaired":
            return Written(messages, (answer,), label_of(row, self.domain), good=line["label"])
        label = label_of(row, self.domain) if self.domain is not None and self.domain.labels else ""
        return Written(messages, (answer,), label, self._place(answer, label, row, version))

    def _place(self, answer: str, label: str, row: Row, version: ContractVersion | None) -> tuple[int, int]:
        if not label or self.domain is None:
            return (0, 0)
        if version is None:
            return (0, len(answer)) if answer == label else (0, 0)
        return label_place(answer, label, self.domain.described.label_field, head(row, version))


def head(row: Row, version: ContractVersion) -> int:
    """How many characters stand before the JSON in an answer as `Domain.completion` writes it."""
    before = f"<{version.reasoning_tag}>{row.reasoning.strip()}</{version.reasoning_tag}>\n" if version.reasoning_tag else ""
    return len(before) + (len(version.answer_tag) + 2 if version.answer_tag else 0)


def label_place(answer: str, label: str, path: str, begin: int = 0) -> tuple[int, int]:
    """Where the label's value stands in an answer's JSON, without its quotes, as characters; (0, 0) where it does not.

    begin: where the JSON begins. Quotes within a JSON string are escaped, so that only a property can look like one.
    """
    *outer, last = path.split(".")
    at = begin
    for name in outer:
        at = answer.find(f"{json.dumps(name, ensure_ascii=False)}: {{", at)
        if at < 0:
            return (0, 0)
    value = json.dumps(label, ensure_ascii=False)
    key = f"{json.dumps(last, ensure_ascii=False)}: "
    at = answer.find(key + value, at)
    if not last or at < 0:
        return (0, 0)
    first = at + len(key) + 1
    return (first, first + len(value) - 2)


def _version(domain: Domain, own: ContractVersion, reasoned: bool) -> ContractVersion:
    """The contract with or without reasoning before its JSON: the recipe's own where it is of that kind."""
    if bool(own.reasoning_tag) == reasoned:
        return own
    for version in domain.described.contracts:
        if bool(version.reasoning_tag) == reasoned:
            return version
    if reasoned and REASONING in domain.asked.get("properties", {}):  # it reasons within the JSON
        return own
    raise InputError(
        f"the domain {domain.name} has no contract {'with' if reasoned else 'without'} reasoning",
        f"it has: {', '.join(one.name for one in domain.described.contracts)}; change the stage's format, or add a contract",
    )


def _narrowed(domain: Domain, version: ContractVersion) -> Domain:
    """The domain with that contract alone, so that prompts and answers are in no other."""
    if domain.described.contracts == (version,):
        return domain
    return replace(domain, described=domain.described.model_copy(update={"contracts": (version,)}))


def _judged_alone(row: Row) -> Sequence[Row]:
    """Of judged labels one row for each that is right."""
    if row.shape != "feedback" or len(row.correct_labels) < 2:
        return (row,)
    return [replace(row, correct_labels=(label,)) for label in row.correct_labels]
