"""What a run asks of a row: its label in a domain, whether a kind of stage can learn from it, and its content as a digest.

Not covered: reading rows (`reading`), dividing them (`dividing`).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from data.cases import at_path
from data.datasets.duplicates import normalised
from data.datasets.rows import Row
from data.domains import Domain
from data.sanitise import one_line

EXCERPT_CHARACTERS = 80
CONTENT = (
    "shape", "text", "before", "label", "output", "completion", "rejected", "thumb", "correct_labels", "incorrect_labels",
    "reasoning",
)  # fmt: skip
"""What a row teaches: two rows that differ elsewhere (origin, time, split) train alike."""
WANTED: Mapping[str, str] = {
    "sft": "rows with an answer to imitate",
    "grpo": "rows with a question and its answer",
    "rloo": "rows with a question and its answer",
    "kto": "answers that were judged good or bad",
    "dpo": "pairs of a better and a worse answer",
}


@dataclass(frozen=True, slots=True)
class Lost:
    """A row that is not trained as it was given. origin: FILE:LINE; text: how it begins, harmless and on one line."""

    origin: str
    reason: str
    text: str = ""

    @classmethod
    def of(cls, row: Row, reason: str) -> "Lost":
        """That row."""
        return cls(str(row.origin), reason, one_line(row.text, EXCERPT_CHARACTERS))

    def to_dict(self) -> dict[str, str]:
        """As a line of lost.jsonl."""
        return {"origin": self.origin, "reason": self.reason, "text": self.text}


_LEARNT: Mapping[str, Callable[[Row], bool]] = {
    "kto": lambda row: row.thumb is not None or bool(row.rejected) or row.shape == "feedback",
    "dpo": lambda row: (
        bool(row.completion and row.rejected)
        or (row.shape == "feedback" and bool(row.correct_labels) and bool(row.incorrect_labels))
    ),
}


def teaches(row: Row, kind: str) -> bool:
    """Whether a stage of that kind learns from rows of this shape: what is right from any but a thumb down or a mere no."""
    learnt = _LEARNT.get(kind)
    if learnt is not None:
        return learnt(row)
    return row.thumb is not False and (row.shape != "feedback" or bool(row.correct_labels))


def label_of(row: Row, domain: Domain | None) -> str:
    """The label of a row's right answer: its own, its output's, or that of the JSON that it was answered with; "" for none."""
    if row.thumb is False or domain is None or not domain.labels:
        return row.label
    if row.label or row.correct_labels:
        return row.label or row.correct_labels[0]
    path = domain.described.label_field
    return _within(row.output, path) or (_within(_parsed(row.completion), path) if path and row.completion else "")


def asked(row: Row) -> str:
    """What a row asks, as it is compared with others: the turns before and the text, case and white space apart."""
    return "\0".join(normalised(part) for part in (*(message.content for message in row.before), row.text))


def digest(rows: Iterable[Row]) -> str:
    """SHA-256 in hexadecimal of what the rows teach, in their order, as canonical JSON lines."""
    sha = hashlib.sha256()
    for row in rows:
        found = {key: value for key, value in row.to_dict().items() if key in CONTENT}
        sha.update(json.dumps(found, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
    return sha.hexdigest()


def _within(output: Mapping[str, object], path: str) -> str:
    if not path or not output:
        return ""
    try:
        found = at_path(output, path)
    except KeyError:
        return ""
    return found if isinstance(found, str) else ""


def _parsed(completion: str) -> Mapping[str, object]:
    """A completion that is a JSON object; {} for any other."""
    if not completion.lstrip().startswith("{"):
        return {}
    try:
        found = json.loads(completion)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
