"""One row of a dataset on its way from a source to a training file, and one that was refused on that way.

A row holds what its source had and no more: a labelled text, a conversation, an instruction with its answer, a pair of answers,
a thumb, a correction. Not covered: reading (`sources`), cleaning (`clean`), the training formats (`formats`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from data.chat import Message

Shape = Literal["label", "instruction", "chat", "preference", "thumb", "correction", "feedback"]
"""label: text with a label or output; instruction: prompt and answer; chat: a conversation; preference: a better and a worse
answer; thumb: an answer and whether it was good; correction: a wrong answer and the right one; feedback: a text with labels that
are right and labels that are wrong."""
Split = Literal["train", "validation", "test"]
ReasoningSource = Literal["", "given", "knowledge base", "teacher"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row comes from: the source's name as the user gave it (no absolute path), the row number from 1, its licence."""

    source: str
    number: int = 0
    licence: str = ""

    def __str__(self) -> str:
        return f"{self.source}:{self.number}" if self.number else self.source


@dataclass(frozen=True, slots=True)
class Row:
    """One example. `text` is what the answer is about (the last thing the user said); `before` what came before it.

    completion: the wanted answer as text; output: as the domain's JSON, without what Pointsman fills in; rejected: a worse answer.
    group: rows of one group never land in different splits (a conversation, a document). at: seconds since 1970, 0 unknown.
    reasoning_by: the model that wrote the reasoning where its source is "teacher".
    """

    shape: Shape
    text: str
    origin: Origin
    before: tuple[Message, ...] = ()
    label: str = ""
    output: Mapping[str, Any] = field(default_factory=dict)
    completion: str = ""
    rejected: str = ""
    thumb: bool | None = None
    correct_labels: tuple[str, ...] = ()
    incorrect_labels: tuple[str, ...] = ()
    comment: str = ""
    reasoning: str = ""
    reasoning_source: ReasoningSource = ""
    reasoning_by: str = ""
    group: str = ""
    at: float = 0.0
    split: Split | Literal[""] = ""
    """Given by the source; "" leaves it to the splitter."""

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON, empty fields left out."""
        found: dict[str, Any] = {"shape": self.shape, "text": self.text}
        if self.before:
            found["before"] = [message.to_dict() for message in self.before]
        for name in (
            "label", "completion", "rejected", "comment", "reasoning", "reasoning_source", "reasoning_by", "group", "at", "split",
        ):  # fmt: skip
            if value := getattr(self, name):
                found[name] = value
        if self.output:
            found["output"] = dict(self.output)
        if self.thumb is not None:
            found["thumb"] = self.thumb
        for name in ("correct_labels", "incorrect_labels"):
            if value := getattr(self, name):
                found[name] = list(value)
        origin = {"source": self.origin.source, "number": self.origin.number, "licence": self.origin.licence}
        found["origin"] = {key: value for key, value in origin.items() if value}
        return found

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Row":
        """The inverse of `to_dict`; raises KeyError, TypeError or ValueError where it is no row."""
        values = dict(found)
        origin = values.pop("origin")
        before = tuple(Message.from_dict(message) for message in values.pop("before", ()))
        for name in ("correct_labels", "incorrect_labels"):
            if name in values:
                values[name] = tuple(values[name])
        return cls(**values, before=before, origin=Origin(origin["source"], origin.get("number", 0), origin.get("licence", "")))

    def texts(self) -> tuple[str, ...]:
        """Every text of the row that a model would see or learn, the fields of `before` and `output` included."""
        said = [part for message in self.before for part in (message.content, message.thinking)]
        return tuple(
            part
            for part in (*said, self.text, self.completion, self.rejected, self.reasoning, self.comment, *_strings(self.output))
            if part
        )

    def with_split(self, split: Split) -> "Row":
        """The row in that split."""
        return replace(self, split=split)


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that is kept out, with the reason in words, by which filter, and how it begins (one line, control characters shown)."""

    origin: Origin
    filter: str
    reason: str
    excerpt: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As a line of quarantine.jsonl."""
        return {"origin": str(self.origin), "filter": self.filter, "reason": self.reason, "excerpt": self.excerpt}


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for part in value.values() for text in _strings(part)]
    if isinstance(value, list | tuple):
        return [text for part in value for text in _strings(part)]
    return []
