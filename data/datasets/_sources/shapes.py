"""A parsed record as a row, by its keys.

    {"shape", "text", "origin", ...}                   a row as this program writes it
    {"messages": [{"role", "content"}]}                chat; sharegpt: {"conversations": [{"from", "value"}]}
    {"prompt", "chosen", "rejected"}                   preference; the answers as text or as messages
    {"text", "correct_labels", "incorrect_labels", "feedback"}       labelled human feedback
    {"question", "answer", "correction"}               correction; also original and corrected
    {"prompt", "completion", "label": true}            thumb; also thumb or rating, up or down
    {"text", "label", "output": {...}, "reasoning"}    a domain's row
    {"instruction", "input", "output"}                 alpaca; also prompt and completion, question and answer
    {"instruction", "instances": [{"input", "output"}]}    self-instruct
    {"text", "label"}                                  and the other names in TEXTS and LABELS, or those the user gives

The first that fits counts; keys are compared without case. `group`, `at`, `split` and `licence` of a record are kept. Not
covered: whether a text is fit for training (`clean`).
"""

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

from data.chat import Message
from data.datasets._sources import messages
from data.datasets._sources.base import SPLITS, Record, Turns, excerpt, unusable_text
from data.datasets._sources.values import Fields, first, label_text, labels, mapping, own_row, seconds, text, thumb
from data.datasets.rows import Origin, Refused, Row
from data.errors import InputError
from data.sanitise import one_line

_KNOWN_TEXTS = "text query question sentence message utterance comment review body content prompt instruction input"
TEXTS = tuple(_KNOWN_TEXTS.split())
LABELS = ("label", "category", "intent", "class", "labels", "domain", "topic", "emotion", "sentiment", "target", "tag")
CHATS = ("messages", "conversations", "conversation", "dialog", "dialogue")
QUESTIONS = ("question", "prompt", "instruction", "query", "input", "text")
ANSWERS = ("answer", "completion", "response", "output", "original")
CORRECTIONS = ("correction", "corrected")
THUMBS = ("thumb", "rating")
PAIRS = (
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "output"),
    ("question", "answer"),
    ("query", "answer"),
    ("query", "response"),
    ("input", "output"),
    ("text", "completion"),
    ("text", "code"),
)
"""Names of a question with its answer."""


@dataclass(frozen=True, slots=True)
class Shaper:
    """Makes rows of records. The columns are those the user names; licence is what a record without its own has."""

    text_column: str = ""
    label_column: str = ""
    licence: str = ""
    turns: Turns = "last"

    @property
    def names_columns(self) -> bool:
        """Whether the user named a column."""
        return bool(self.text_column or self.label_column)

    def rows(self, record: Record, source: str) -> Iterator[Row | Refused]:
        """The rows of a record (one, but for `turns="all"`), or the reason why it is none."""
        origin = Origin(source, record.number, self.licence)
        try:
            yield from self._rows(record, origin)
        except InputError as error:
            yield Refused(origin, "shape", error.what, excerpt(_begin(record.value)))

    def recognises(self, columns: Collection[str]) -> bool:
        """Whether records of these columns have a known shape, whatever the user named."""
        return _reader({name.strip().casefold(): "" for name in columns}) is not None

    def require(self, name: str, columns: Collection[str], labelled: bool) -> None:
        """Raise InputError where the columns of a table cannot become rows; labelled: nor where none is a label."""
        there = f"{name} has the columns {one_line(', '.join(columns), 200)}"
        folded = {column.strip().casefold() for column in columns}
        for flag, column in (("--text-column", self.text_column), ("--label-column", self.label_column)):
            if column and column.strip().casefold() not in folded:
                near = _nearest(column, columns)
                raise InputError(f"{there}, and none is {one_line(column, 60)!r}", f"{near}name one of them with {flag}")
        if not self.text_column and not (folded & set(TEXTS) if self.names_columns else self.recognises(columns)):
            raise InputError(f"{there}, and none that holds a text", "name them with --text-column and --label-column")
        if labelled and not self.label_column and not folded & set(LABELS):
            raise InputError(f"{there}, and none that holds a label", "name it with --label-column")

    def _rows(self, record: Record, origin: Origin) -> Iterator[Row]:
        value = record.value
        if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value):
            value = {"text": value[0], "label": value[1]}  # as CLINC150 writes its rows
        if not isinstance(value, Mapping):
            raise InputError(f"is no object but {type(value).__name__}")
        if reason := unusable_text(value):
            raise InputError(reason)
        fields: Fields = {str(key).strip().casefold(): part for key, part in value.items()}
        if fields.keys() >= {"shape", "text", "origin"}:
            yield own_row(value, self.licence)
            return
        rows = [self._forced(fields)] if self.names_columns else self._read(fields)
        licence = first(fields, ("licence", "license"))
        origin = replace(origin, licence=one_line(licence, 80)) if isinstance(licence, str) and licence else origin
        split = SPLITS.get(str(fields.get("split", "")).casefold(), record.split)
        group = first(fields, ("group", "conversation_id"))
        for row in rows:
            kept = {"group": str(group) if isinstance(group, str | int) else row.group, "at": seconds(fields.get("at"))}
            yield replace(row, origin=origin, split=split, **kept)  # type: ignore[arg-type]

    def _read(self, fields: Fields) -> list[Row]:
        reader = _reader(fields)
        if reader is None:
            keys = [one_line(key, 40) for key in list(fields)[:12]]
            raise InputError(f"has no known shape; its keys: {', '.join(keys) or 'none'}")
        return reader(fields, self.turns)

    def _forced(self, fields: Fields) -> Row:
        """A labelled text by the columns that the user named; the other one by its usual names."""
        wanted = self.text_column.strip().casefold()
        if wanted and wanted not in fields:
            raise InputError(_lacks(self.text_column, fields))
        label_key = self.label_column.strip().casefold()
        if label_key and label_key not in fields:
            raise InputError(_lacks(self.label_column, fields))
        said = wanted or next((name for name in TEXTS if name in fields and name != label_key), "")
        if not said:
            raise InputError(f"has no text; its keys: {one_line(', '.join(fields), 160)}")
        label = fields[label_key] if label_key else first(fields, [name for name in LABELS if name != said])
        return _labelled(fields, said, label)


def _nearest(name: str, names: Collection[str]) -> str:
    """The name that was perhaps meant, as the beginning of advice; "" where none is near."""
    folded = {one.strip().casefold(): one for one in names}
    near = difflib.get_close_matches(name.strip().casefold(), list(folded), 1, 0.7)
    return f"did you mean {one_line(folded[near[0]], 60)}? else " if near else ""


def _lacks(name: str, fields: Fields) -> str:
    near = _nearest(name, fields).partition("?")[0]
    return f"has no {one_line(name, 60)!r}{f' ({near}?)' if near else ''}; its keys: {one_line(', '.join(fields), 160)}"


Reader = Callable[[Fields, Turns], list[Row]]
_NOWHERE = Origin("")


def _reader(fields: Fields) -> Reader | None:
    there = {name for name, value in fields.items() if value is not None}
    return next((read for fits, read in _SHAPES if fits(there, fields)), None)


def _chat(fields: Fields, turns: Turns) -> list[Row]:
    given = messages.conversation(first(fields, CHATS))
    system = fields.get("system")
    before = (Message("system", system),) if isinstance(system, str) and system and given[0].role != "system" else ()
    return [
        Row(
            "chat",
            one.text,
            _NOWHERE,
            before=(*before, *one.before),
            completion=one.completion,
            reasoning=one.thinking,
            reasoning_source="given" if one.thinking else "",
        )
        for one in messages.exchanges(given, turns)
    ]


def _preference(fields: Fields, turns: Turns) -> list[Row]:
    better, worse = fields["chosen"], fields["rejected"]
    if first(fields, QUESTIONS) is None:
        chosen, other = messages.conversation(better), messages.conversation(worse)
        if chosen[:-1] != other[:-1] or len(chosen) < 2:
            raise InputError("its two answers are not to the same question")
        fields = fields | {"prompt": [message.to_dict() for message in chosen[:-1]]}
    before, said = _asked(fields)
    return [Row("preference", said, _NOWHERE, before=before, completion=messages.answer(better), rejected=messages.answer(worse))]


def _numbered_preference(fields: Fields, turns: Turns) -> list[Row]:
    """output_1 and output_2, of which `label` names the better by its number."""
    if str(fields["label"]) not in ("1", "2"):
        raise InputError("its label is neither 1 nor 2, the number of the better output")
    better, worse = ("1", "2") if str(fields["label"]) == "1" else ("2", "1")
    return _preference(fields | {"chosen": fields[f"output_{better}"], "rejected": fields[f"output_{worse}"]}, turns)


def _feedback(fields: Fields, turns: Turns) -> list[Row]:
    said = text(first(fields, TEXTS), "text")
    right, wrong = labels(fields.get("correct_labels")), labels(fields.get("incorrect_labels"))
    if not right and not wrong:
        raise InputError("has neither correct nor incorrect labels")
    comment = text(first(fields, ("feedback", "comment")) or "", "feedback")
    return [Row("feedback", said, _NOWHERE, correct_labels=right, incorrect_labels=wrong, comment=comment)]


def _correction(fields: Fields, turns: Turns) -> list[Row]:
    before, said = _asked(fields)
    wrong, right = messages.answer(first(fields, ANSWERS)), messages.answer(first(fields, CORRECTIONS))
    comment = text(fields.get("comment") or "", "comment")
    return [Row("correction", said, _NOWHERE, before=before, completion=right, rejected=wrong, comment=comment)]


def _thumb(fields: Fields, turns: Turns) -> list[Row]:
    before, said = _asked(fields)
    good = thumb(first(fields, (*THUMBS, "label")))
    comment = text(fields.get("comment") or "", "comment")
    return [
        Row("thumb", said, _NOWHERE, before=before, completion=messages.answer(first(fields, ANSWERS)), thumb=good, comment=comment)
    ]


def _domain(fields: Fields, turns: Turns) -> list[Row]:
    return [_labelled(fields, "text", first(fields, LABELS))]


def _instruction(fields: Fields, turns: Turns) -> list[Row]:
    asked, answered = next(pair for pair in PAIRS if fields.get(pair[0]) is not None and fields.get(pair[1]) is not None)
    before, said = _asked(fields, asked)
    reasoning = text(fields.get("reasoning") or "", "reasoning")
    return [
        Row(
            "instruction",
            said,
            _NOWHERE,
            before=before,
            completion=messages.answer(fields[answered]),
            reasoning=reasoning,
            reasoning_source="given" if reasoning else "",
        )
    ]


def _instances(fields: Fields, turns: Turns) -> list[Row]:
    """self-instruct: one instruction with several inputs and outputs."""
    instances = fields["instances"]
    if not isinstance(instances, list) or not instances or not all(isinstance(one, Mapping) for one in instances):
        raise InputError("its instances are no list of inputs with outputs")
    bare = {"instruction": fields["instruction"]}
    whole = [bare | {"input": one.get("input"), "output": text(one.get("output"), "output")} for one in instances]
    return [row for one in whole for row in _instruction(one, turns)]


def _asked(fields: Fields, name: str = "") -> tuple[tuple[Message, ...], str]:
    """What came before and the question, from the key of that name or the first that has one, with its input or context."""
    name = name or next(one for one in QUESTIONS if fields.get(one) is not None)
    before, said = messages.question(fields[name])
    context = text(first(fields, ("input", "context") if name == "instruction" else ("context",)) or "", "input")
    system = text(fields.get("system") or "", "system")
    head = (Message("system", system),) if system else ()
    return (*head, *messages.history(fields.get("history")), *before), f"{said}\n\n{context}" if context.strip() else said


def _classified(fields: Fields, turns: Turns) -> list[Row]:
    said = next(name for name in TEXTS if name in fields)
    return [_labelled(fields, said, first(fields, [name for name in LABELS if name != said]))]


def _labelled(fields: Fields, said: str, label: Any) -> Row:
    reasoning = text(fields.get("reasoning") or "", "reasoning")
    output = first(fields, ("output", "completion"))
    as_text = isinstance(output, str) and not output.lstrip().startswith("{")
    return Row(
        "label",
        text(fields[said], said),
        _NOWHERE,
        label=label_text(label),
        output={} if as_text else mapping(output),
        completion=str(output) if as_text else "",
        reasoning=reasoning,
        reasoning_source="given" if reasoning else "",
    )


def _begin(value: Any) -> str:
    """How a record begins, without writing out all of it."""
    if isinstance(value, Mapping):
        parts = [(key, part) for key, part in list(value.items())[:4]]
        return ", ".join(f"{str(key)[:40]}: {part[:80] if isinstance(part, str) else type(part).__name__}" for key, part in parts)
    return value[:320] if isinstance(value, str) else type(value).__name__


def _is_thumb(there: Set[str], fields: Fields) -> bool:
    label = fields.get("label")
    said = not _THUMBS.isdisjoint(there) or isinstance(label, bool) or (isinstance(label, str) and label.casefold() in _BOOLEAN)
    return said and not _QUESTIONS.isdisjoint(there) and not _ANSWERS.isdisjoint(there)


_TEXTS, _CHATS, _QUESTIONS, _ANSWERS = frozenset(TEXTS), frozenset(CHATS), frozenset(QUESTIONS), frozenset(ANSWERS)
_CORRECTIONS, _THUMBS, _BOOLEAN = frozenset(CORRECTIONS), frozenset(THUMBS), frozenset({"true", "false"})
_PAIRS = tuple(frozenset(pair) for pair in PAIRS)
_JUDGED = frozenset({"correct_labels", "incorrect_labels"})
_LABELLED = frozenset({"text", "label"})
"""Rows of a domain may carry an answer beside these."""

_SHAPES: tuple[tuple[Callable[[Set[str], Fields], bool], Reader], ...] = (
    (lambda there, fields: not _CHATS.isdisjoint(there), _chat),
    (lambda there, fields: "chosen" in there and "rejected" in there, _preference),
    (lambda there, fields: "output_1" in there and "output_2" in there and "label" in there, _numbered_preference),
    (lambda there, fields: not _JUDGED.isdisjoint(there) and not _TEXTS.isdisjoint(there), _feedback),
    (
        lambda there, fields: not (_CORRECTIONS.isdisjoint(there) or _ANSWERS.isdisjoint(there) or _QUESTIONS.isdisjoint(there)),
        _correction,
    ),
    (_is_thumb, _thumb),
    (lambda there, fields: "text" in there and isinstance(fields.get("output"), Mapping), _domain),
    (lambda there, fields: "instruction" in there and "instances" in there, _instances),
    (lambda there, fields: any(pair <= there for pair in _PAIRS) and not _LABELLED <= there, _instruction),
    (lambda there, fields: not _TEXTS.isdisjoint(there), _classified),
)
