"""Training formats: a row as the conversational lines that trainers read, with the prompt that serving uses, to the letter.

A line is {"prompt": [messages], "completion": [message]}; of preference rows {"prompt", "chosen", "rejected"}; of unpaired ones
{"prompt", "completion", "label": bool}: the formats of TRL 1.16 (its documentation, "Dataset formats"). Prompts and answers of a
domain are `Domain.prompt` and `Domain.completion`. Not covered: chat templates and tokens (the trainer's).
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from data.cases import at_path
from data.chat import Message
from data.datasets.chains import PROPERTY as REASONING
from data.datasets.rows import Row
from data.domains import Domain
from data.errors import NotFound

FORMATS: Mapping[str, str] = {
    "rows": "the rows themselves, with label and origin; evaluation and classification read them, any format is made of them later",
    "multi_task": "several tasks a row where it has them: classify or answer, explain the label, extract the indicators",
    "chain_of_thought": "reasoning first, then the answer",
    "instruction": "one instruction, one answer; rows with turns before them are not expressed",
    "chat": "whole conversations, the last answer being the completion",
    "intent_v1": "the domain's contract without reasoning: JSON only",
    "intent_v2": "the domain's contract with reasoning first, in its tags",
    "preference": "a better and a worse answer to one prompt (DPO): pairs, corrections, right against wrong labels",
    "unpaired": "an answer and whether it was good (KTO): thumbs, and both sides of pairs, corrections and judged labels",
}
ROWS = "rows"
EXPLAIN = "Why is this text {label}? Quote the words that show it.\n\n{text}"
EXTRACT = 'List the indicators in this text as a JSON array of objects with "indicator" and "quote".\n\n{text}'
SURE_EXAMPLES = 2
"""Examples of a label that a pack must have, all alike in a property, before a row with the label alone gets that value."""

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Expressed:
    """A row's lines; where there are none, why."""

    lines: tuple[Line, ...] = ()
    reason: str = ""


class Unfit(Exception):
    """The row lacks what the format needs, in words; never leaves this module."""


def formatted(row: Row, domain: Domain | None, fmt: str) -> Iterator[Line]:
    """The row's lines in a format; none where it cannot express the row. For many rows keep a `Formatter`. Raises NotFound."""
    yield from Formatter(domain, fmt).express(row).lines


class Formatter:
    """One format of one domain (None: chat without a domain). Raises NotFound where there is no such format.

    completed: rows with a label alone whose other properties were taken from the pack's examples of that label, by property.
    """

    def __init__(self, domain: Domain | None, fmt: str) -> None:
        if fmt not in FORMATS:
            raise NotFound(f"there is no training format {fmt!r}", f"there are: {', '.join(FORMATS)}")
        if fmt in ("intent_v1", "intent_v2") and (domain is None or not domain.schema):
            raise NotFound(
                f"the format {fmt} needs a domain with an output contract", "choose another format, or name such a domain"
            )
        self.domain = domain
        self.fmt = fmt
        self.completed: Counter[str] = Counter()
        self._makers = {
            ROWS: lambda row: [row.to_dict()],
            "multi_task": self._multi_task,
            "chain_of_thought": self._chain_of_thought,
            "instruction": self._instruction,
            "chat": self._answered,
            "intent_v1": lambda row: self._in_contract(row, reasoned=False),
            "intent_v2": lambda row: self._in_contract(row, reasoned=True),
            "preference": self._preference,
            "unpaired": self._unpaired,
        }

    def express(self, row: Row) -> Expressed:
        """The row's lines, or why there are none."""
        try:
            return Expressed(tuple(self._makers[self.fmt](row)))
        except Unfit as unfit:
            return Expressed(reason=str(unfit))

    def _answered(self, row: Row) -> list[Line]:
        return [{"prompt": self._prompt(one), "completion": _said(self._answer(one))} for one in _positive(row)]

    def _instruction(self, row: Row) -> list[Line]:
        if row.before:
            raise Unfit("it has turns before its question")
        return self._answered(row)

    def _chain_of_thought(self, row: Row) -> list[Line]:
        if not row.reasoning:
            raise Unfit("it has no reasoning")
        version = self._contract(reasoned=True)
        found = []
        for one in _positive(row):
            answer = self._answer(one, version)
            if not version and not self._reasons_inside:
                answer = f"<think>\n{row.reasoning.strip()}\n</think>\n\n{answer}"
            found.append({"prompt": self._prompt(one, version), "completion": _said(answer)})
        return found

    def _in_contract(self, row: Row, reasoned: bool) -> list[Line]:
        version = self._contract(reasoned)
        if not version:
            raise Unfit(f"the domain has no contract {'with' if reasoned else 'without'} reasoning")
        return [{"prompt": self._prompt(one, version), "completion": _said(self._answer(one, version))} for one in _positive(row)]

    def _multi_task(self, row: Row) -> list[Line]:
        found: list[Line] = []
        reason = ""
        try:
            found += self._answered(row)
        except Unfit as unfit:
            reason = str(unfit)
        label = self._label(row)
        if label and row.reasoning:
            found.append({"prompt": self._task(EXPLAIN.format(label=label, text=row.text)), "completion": _said(row.reasoning)})
        if label and self._indicators:
            finds = [{"indicator": one.indicator, "quote": one.quote} for one in self._indicators.find(row.text)]
            completion = json.dumps(finds, ensure_ascii=False)
            found.append({"prompt": self._task(EXTRACT.replace("{text}", row.text)), "completion": _said(completion)})
        if not found:
            raise Unfit(reason)
        return found

    def _preference(self, row: Row) -> list[Line]:
        if row.shape == "feedback":
            rights, wrongs = row.correct_labels, row.incorrect_labels
            if not rights or not wrongs:
                raise Unfit("it has no right label beside a wrong one")
            pairs = [(self._label_answer(row, right), self._label_answer(row, wrong)) for right in rights for wrong in wrongs]
        elif row.completion and row.rejected:
            pairs = [(self._as_served(row, row.completion), self._as_served(row, row.rejected))]
        else:
            raise Unfit("it has no worse answer beside the better one")
        return [{"prompt": self._prompt(row), "chosen": _said(good), "rejected": _said(bad)} for good, bad in pairs]

    def _unpaired(self, row: Row) -> list[Line]:
        if row.shape == "feedback":
            judged = [(self._label_answer(row, label), True) for label in row.correct_labels]
            judged += [(self._label_answer(row, label), False) for label in row.incorrect_labels]
        elif row.shape == "thumb" and row.thumb is not None and row.completion:
            judged = [(self._as_served(row, row.completion), row.thumb)]
        elif row.rejected:
            judged = [(self._as_served(row, row.completion), True)] if row.completion else []
            judged.append((self._as_served(row, row.rejected), False))
        else:
            raise Unfit("nobody judged its answer")
        return [{"prompt": self._prompt(row), "completion": _said(text), "label": good} for text, good in judged]

    def _prompt(self, row: Row, version: str = "") -> list[Line]:
        """What stands before the answer: the domain's own messages with the turns before put between them."""
        if self.domain is None:
            return [_message(one) for one in (*row.before, Message("user", row.text))]
        first, last = self.domain.prompt(row.text, version)
        turns = [one for one in row.before if one.role != "system"]
        return [_message(one) for one in (first, *turns, last) if one.content or one.role != "system"]

    def _task(self, question: str) -> list[Line]:
        """The prompt of a side task, under the domain's own words without the contract's layout."""
        system = self.domain.described.system.strip() if self.domain else ""
        return [_message(Message("system", system))] * bool(system) + [_message(Message("user", question))]

    def _answer(self, row: Row, version: str = "") -> str:
        """The wanted answer as text. Raises Unfit."""
        if row.thumb is False:
            raise Unfit("its answer was judged bad")
        if self.domain is None or not self.domain.schema:
            if not (row.completion or row.label):
                raise Unfit("it has no answer")
            return row.completion or row.label
        if self.domain.contract(version).reasoning_tag and not row.reasoning.strip():
            raise Unfit("it has no reasoning")
        return self.domain.completion(self._output(row), row.reasoning, version)

    def _label_answer(self, row: Row, label: str) -> str:
        return self._answer(replace(row, label=label, output={}, completion="", reasoning="", thumb=None))

    def _as_served(self, row: Row, text: str) -> str:
        """An answer as the contract writes it where it is a bare label of the domain; any other as it stands."""
        label = text.strip()
        if self.domain is None or not self.domain.schema or label not in self.domain.labels:
            return text
        return self._label_answer(row, label)

    def _output(self, row: Row) -> dict[str, Any]:
        """The row's whole output for the domain's schema. Raises Unfit naming what is missing."""
        if self.domain is None:
            raise Unfit("it has no domain")
        output = dict(row.output) or _parsed(row.completion)
        wanted = self.domain.asked.get("properties", {})
        path = self.domain.described.label_field
        if row.label and path:
            _set(output, path, row.label)
        if REASONING in wanted and not output.get(REASONING) and row.reasoning:
            output[REASONING] = _fitting(row.reasoning, wanted[REASONING].get("maxLength", len(row.reasoning)))
        for name, value in self._usual.get(self._label(row), {}).items():
            if name not in output:
                output[name] = value
                self.completed[name] += 1
        missing = [name for name in wanted if name not in output]
        if missing:
            raise Unfit(f"it has no {', '.join(missing)}")
        return output

    def _label(self, row: Row) -> str:
        if row.label or self.domain is None or not self.domain.described.label_field:
            return row.label or (row.correct_labels[0] if row.correct_labels else "")
        try:
            return str(at_path(row.output, self.domain.described.label_field))
        except KeyError:
            return row.correct_labels[0] if row.correct_labels else ""

    def _contract(self, reasoned: bool) -> str:
        """The name of the domain's first contract with or without reasoning; "" where it has none."""
        if self.domain is None or not self.domain.schema:
            return ""
        return next((one.name for one in self.domain.described.contracts if bool(one.reasoning_tag) == reasoned), "")

    @cached_property
    def _reasons_inside(self) -> bool:
        """Whether the reasoning stands in the output itself."""
        return self.domain is not None and REASONING in self.domain.asked.get("properties", {})

    @cached_property
    def _indicators(self) -> Any:
        from data.indicators import Indicators

        return Indicators.of(self.domain) if self.domain else Indicators()

    @cached_property
    def _usual(self) -> dict[str, dict[str, Any]]:
        """By label, the closed properties (enum, boolean) in which all of the pack's examples of that label are alike."""
        if self.domain is None or not self.domain.described.label_field:
            return {}
        seen: dict[str, list[Mapping[str, Any]]] = {}
        for example in self.domain.examples:
            label = example.label or str(example.output.get(self.domain.described.label_field, ""))
            if example.output:
                seen.setdefault(label, []).append(example.output)
        closed = [
            name
            for name, part in self.domain.asked.get("properties", {}).items()
            if name != self.domain.described.label_field and ("enum" in part or part.get("type") == "boolean")
        ]
        return {
            label: {
                name: outputs[0][name]
                for name in closed
                if name in outputs[0] and all(one.get(name) == outputs[0][name] for one in outputs)
            }
            for label, outputs in seen.items()
            if len(outputs) >= SURE_EXAMPLES
        }


def _positive(row: Row) -> list[Row]:
    """The rows to learn from: of judged labels one for each right one. Raises Unfit where there is none."""
    if row.shape != "feedback":
        return [row]
    if not row.correct_labels:
        raise Unfit("it says only which labels are wrong")
    return [replace(row, label=label) for label in row.correct_labels]


def _message(message: Message) -> Line:
    found = message.to_dict()
    found.pop("thinking", None)
    return found


def _said(text: str) -> list[Line]:
    return [{"role": "assistant", "content": text}]


def _parsed(completion: str) -> dict[str, Any]:
    """A completion that is a JSON object; {} for any other."""
    if not completion.lstrip().startswith("{"):
        return {}
    try:
        found = json.loads(completion)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _fitting(text: str, limit: int) -> str:
    """The text in at most so many characters: whole sentences, or else whole words."""
    if len(text) <= limit:
        return text
    sentence = text[:limit].rpartition(". ")[0]
    return f"{sentence}." if sentence else text[:limit].rpartition(" ")[0]


def _set(output: dict[str, Any], path: str, value: Any) -> None:
    *inner, last = path.split(".")
    for part in inner:
        output[part] = dict(output.get(part) or {})
        output = output[part]
    output[last] = value
