"""Rows made sound, or refused with a reason: what a source holds is untrusted, and a model learns what it is shown.

Made sound and counted: Unicode NFC (not NFKC: "²" and "ﬁ" are content), line ends, control characters, single stray invisible
characters, chat control tokens. Refused: what hides text, opens a turn of another role, runs as a formula in a spreadsheet, or
is too large, empty, or no text at all. `checks` holds what is looked for in a text. Cleaning a cleaned row changes nothing.

A chat control token is shown, not dropped: a space after its first character (`<|im_start|>` becomes `< |im_start|>`,
`[INST]` becomes `[ INST]`), so that no tokenizer finds the token in it, a reader still does, and removing the space restores it.
Not covered: personal data (`redact`), copies (`duplicates`), languages, and whether what a row says is true.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from data.chat import Message, ToolCall
from data.datasets import _checks as checks
from data.datasets._checks import Fault
from data.datasets.rows import Refused, Row
from data.sanitise import one_line

EXCERPT: Final = 80
"""Characters of a refused row's text that the quarantine shows."""
_REASONING: Final = frozenset({"reasoning", "thinking"})


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest row that is kept.

    text_chars: characters of one text; row_chars: of all texts of a row; output_depth: levels of nesting in `output` and in tool
    arguments; output_values: values in one of them; messages: messages before the text; replaced: share of U+FFFD in a text.
    """

    text_chars: int = 200_000
    row_chars: int = 1_000_000
    output_depth: int = 16
    output_values: int = 10_000
    messages: int = 2_000
    replaced: float = 0.1


class Cleaner:
    """Checks rows one by one; `counts` says how often each kind of change was made in the rows that were kept."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.counts: Counter[str] = Counter()

    def check(self, row: Row) -> Row | Refused:
        """The row with every text made sound, or why it is refused. Never raises for what a row holds; O(length of its texts)."""
        work = _Work(self.limits)
        try:
            cleaned = work.row(row)
        except Fault as fault:
            shown = one_line(row.text, EXCERPT) if isinstance(row.text, str) else ""
            return Refused(row.origin, fault.filter, fault.reason, shown)
        self.counts.update(work.counts)
        return cleaned


class _Work:
    """The cleaning of one row; `counts` are its changes, kept only where the row is."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.counts: Counter[str] = Counter()
        self._chars = 0
        self._values = 0

    def row(self, row: Row) -> Row:
        if not isinstance(row.at, int | float) or not math.isfinite(row.at):
            raise Fault("not finite", "the time is not a finite number")
        if len(row.before) > self.limits.messages:
            raise Fault("too large", f"{len(row.before):,} messages, the limit is {self.limits.messages:,}")
        text = self.text(row.text, "text", "user")
        if not text.strip():
            raise Fault("empty", "the text is empty" if not row.text.strip() else "nothing is left of the text after cleaning")
        cleaned = replace(
            row,
            text=text,
            before=tuple(self.message(message, number) for number, message in enumerate(row.before, 1)),
            label=self.name(row.label, "label"),
            correct_labels=tuple(self.name(label, "correct_labels") for label in row.correct_labels),
            incorrect_labels=tuple(self.name(label, "incorrect_labels") for label in row.incorrect_labels),
            output=self.structure(row.output, "output"),
            completion=self.answer(row.completion, "completion"),
            rejected=self.answer(row.rejected, "rejected"),
            reasoning=self.text(row.reasoning, "reasoning", "assistant"),
            comment=self.text(row.comment, "comment", "user"),
            group=self.name(row.group, "group"),
        )
        return row if cleaned == row else cleaned

    def message(self, message: Message, number: int) -> Message:
        """A message of the conversation before the text."""
        where = f"message {number}"
        role = message.role if message.role in ("system", "user", "assistant", "tool") else ""
        if not role:
            raise Fault("wrong type", f"{where} has an unknown role")
        content = self.text(message.content, where, role)
        thinking = self.text(message.thinking, "thinking", role)
        calls = tuple(
            ToolCall(
                self.name(call.name, where), self.structure(call.arguments, f"{where}, tool arguments"), self.name(call.id, where)
            )
            for call in message.tool_calls
        )
        return Message(message.role, content, thinking, calls, self.name(message.tool_name, where))

    def answer(self, text: str, where: str) -> str:
        """An answer: may be missing, but not vanish."""
        cleaned = self.text(text, where, "assistant")
        if text and not cleaned.strip():
            raise Fault("empty", f"{where} is empty")
        return cleaned

    def name(self, text: str, where: str) -> str:
        """A label, a name, a group: one line."""
        return self.text(text, where, "")

    def text(self, text: str, where: str, role: str) -> str:
        """One text of the row, made sound. role: whose it is; "" where it is nobody's speech."""
        if not isinstance(text, str):
            raise Fault("wrong type", f"{where} is {_kind(text)}, not text")
        if not text:
            return text
        self._chars += len(text)
        if len(text) > self.limits.text_chars:
            raise Fault("too long", f"{where} has {len(text):,} characters, the limit is {self.limits.text_chars:,}")
        if self._chars > self.limits.row_chars:
            raise Fault("too long", f"the texts have more than {self.limits.row_chars:,} characters")
        if not checks.is_plain(text):
            text = checks.made_visible(text, where, self.counts, self.limits.replaced)
            checks.refuse_turns(text, where)
            text = checks.tokens_escaped(text, self.counts, keep_thinking=where in _REASONING)
        checks.refuse_lines(text, where, role)
        checks.refuse_formula(text, where)
        return text

    def structure(self, value: Mapping[str, Any], where: str) -> dict[str, Any]:
        """JSON of bounded depth and size, its texts and keys made sound."""
        if not isinstance(value, Mapping):
            raise Fault("wrong type", f"{where} is {_kind(value)}, not an object")
        self._values = 0
        found: dict[str, Any] = self._value(value, where, 0)
        return found

    def _value(self, value: Any, where: str, depth: int) -> Any:
        self._values += 1
        if depth > self.limits.output_depth:
            raise Fault("too deep", f"{where} is nested deeper than {self.limits.output_depth} levels")
        if self._values > self.limits.output_values:
            raise Fault("too large", f"{where} has more than {self.limits.output_values:,} values")
        if isinstance(value, str):
            return self.text(value, where, "assistant")
        if isinstance(value, Mapping):
            return self._object(value, where, depth)
        if isinstance(value, list | tuple):
            return [self._value(part, where, depth + 1) for part in value]
        return _plain(value, where)

    def _object(self, value: Mapping[Any, Any], where: str, depth: int) -> dict[str, Any]:
        found = {self._key(key, where): self._value(part, where, depth + 1) for key, part in value.items()}
        if len(found) != len(value):
            raise Fault("wrong type", f"{where} has keys that are the same after cleaning")
        return found

    def _key(self, key: Any, where: str) -> str:
        if not isinstance(key, str):
            raise Fault("wrong type", f"{where} has a key that is {_kind(key)}, not text")
        return self.name(key, where)


def _plain(value: Any, where: str) -> Any:
    """A number, a truth value or null; raises Fault for anything else."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise Fault("not finite", f"{where} holds {value}, which JSON has no word for")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise Fault("too large", f"{where} holds a whole number of more than 63 bits")
    if isinstance(value, int | float):
        return value
    raise Fault("wrong type", f"{where} holds {_kind(value)}")


def _kind(value: Any) -> str:
    return f"of type {type(value).__name__}" if value is not None else "null"
