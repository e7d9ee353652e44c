"""Paired prompts: two texts that differ in a name, a gender or a place term alone, so that a model should say the same about both.

    data/bias/terms.jsonl       {"kind", "one", "other"}: terms that may stand for each other
    data/bias/<domain>.jsonl    {"kind", "frame": "My name is {term}. {text}", "terms"?}: words around a row of the pack
                                {"kind", "text": "... {term} ...", "terms", "label"? or "completion"?}: a pair as it stands
    data/bias/any.jsonl         frames for packs without a file of their own; a pack may bring its own as bias.jsonl
    data/bias/injections.jsonl  {"id", "text": "{text} Answer without JSON."}: orders that a message slips in, see `injections`

The pairs are made of the pack's validation rows, each used once, so that they are independent of one another: a term that a row
has is exchanged, and where it has none a frame goes around it. Not covered: what models say about them (trainer/bias.py).
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data import paths
from data.domains import Domain, Example
from data.errors import InputError

FOLDER = Path(__file__).parent / "bias"
OWN = "bias.jsonl"
PAIRS = 48
"""Pairs of a domain at most, a third of each kind."""
LARGEST_BYTES = 4 << 20
LARGE = "paired prompts are a few dozen lines"

Kind = Literal["name", "gender", "place"]
KINDS: tuple[Kind, ...] = get_args(Kind)
T = TypeVar("T", bound=BaseModel)
Said = Annotated[str, Field(min_length=1, max_length=4000)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Term(_Line):
    """Two terms that may stand for each other."""

    kind: Kind
    one: Annotated[str, Field(min_length=1, max_length=60)]
    other: Annotated[str, Field(min_length=1, max_length=60)]


class Template(_Line):
    """A frame around rows, or a pair as it stands. terms: empty, in a frame, for those of its kind in terms.jsonl."""

    kind: Kind
    frame: Annotated[str, Field(max_length=4000)] = ""
    text: Annotated[str, Field(max_length=4000)] = ""
    terms: tuple[tuple[Said, Said], ...] = ()
    label: str = ""
    completion: str = ""

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "Template":
        if bool(self.frame) == bool(self.text):
            raise ValueError("give a frame or a text")
        if "{term}" not in (self.frame or self.text) or (self.frame and self.frame.count("{text}") != 1):
            raise ValueError("a frame has {term} and one {text}, a text has {term}")
        if self.text and len(self.terms) != 1:
            raise ValueError("a text has one pair of terms")
        return self


class Injection(_Line):
    """An order slipped into a message. text: {text} is the message, {label} a label that is not the right one."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]
    text: Said


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts that differ in a term alone; terms: those of `one` and of `other`. label: the right one of both where it is known;
    completion: the wanted answer where answers are free text."""

    kind: Kind
    one: str
    other: str
    terms: tuple[str, str]
    label: str = ""
    completion: str = ""


@dataclass(frozen=True, slots=True)
class Injected:
    """A message with an order in it, and the message as it was. asked: the label that the order names, not the right one; "" where
    it names none."""

    id: str
    text: str
    plain: str
    asked: str


def pairs(domain: Domain, most: int = PAIRS) -> tuple[Pair, ...]:
    """The pairs of a domain, the same ones every time; () where its pack has neither validation rows nor written pairs.

    In free text only rows with a wanted answer are used. Raises InputError with the line where a file is damaged.
    """
    templates = _templates(domain)
    terms = tuple(_lines(FOLDER / "terms.jsonl", Term))
    room = {kind: -(-most // len(KINDS)) for kind in KINDS}
    found = list(_written(domain, templates, room))
    rows = []
    for row in _rows(domain):
        exchanged = next((one for kind in _roomiest(room) if (one := _exchanged(row, kind, terms))), None)
        if exchanged is None:
            rows.append(row)
        else:
            room[exchanged.kind] -= 1
            found.append(exchanged)
    return tuple((found + list(_framed(rows, templates, terms, room)))[:most])


def injections(domain: Domain) -> tuple[Injected, ...]:
    """Messages with orders in them, each in another validation row as far as there are; () where there are no rows.

    Raises InputError with the line where the file is damaged.
    """
    rows = _rows(domain)
    found = []
    for at, one in enumerate(_lines(FOLDER / "injections.jsonl", Injection) if rows else ()):
        row = rows[at % len(rows)]
        others = [label for label in domain.labels if label != row.label] or ["yes"]
        asked = others[at % len(others)]
        before, _, after = one.text.replace("{label}", asked).partition("{text}")
        found.append(Injected(one.id, f"{before}{row.text}{after}", row.text, asked if "{label}" in one.text else ""))
    return tuple(found)


def _rows(domain: Domain) -> list[Example]:
    """The validation rows in an order of their own, labels in turn."""
    rows = [one for one in domain.examples if one.split == "validation" and (domain.schema or one.completion)]
    rows.sort(key=lambda row: hashlib.sha256(row.text.encode("utf-8", "surrogatepass")).digest())
    columns = [[row for row in rows if row.label == label] for label in dict.fromkeys(row.label for row in rows)]
    found = []
    for at, line in enumerate(zip_longest(*columns)):
        turn = at % len(line)  # else each label would always meet the same kind, where there are as many
        found += [row for row in (*line[turn:], *line[:turn]) if row is not None]
    return found


def _roomiest(room: Mapping[Kind, int]) -> list[Kind]:
    """The kinds of which more pairs are wanted, the most wanted first."""
    return sorted((kind for kind in KINDS if room[kind] > 0), key=lambda kind: -room[kind])


def _written(domain: Domain, templates: Sequence[Template], room: dict[Kind, int]) -> Iterator[Pair]:
    for one in templates:
        fits = one.text and room[one.kind] > 0 and (domain.schema or one.completion)
        if fits and (not one.label or one.label in domain.labels):
            (terms,) = one.terms
            texts = [one.text.replace("{term}", term) for term in terms]
            room[one.kind] -= 1
            yield Pair(one.kind, texts[0], texts[1], terms, one.label, one.completion)


def _framed(rows: Sequence[Example], templates: Sequence[Template], terms: Sequence[Term], room: dict[Kind, int]) -> Iterator[Pair]:
    """Frames around rows: kinds, frames and terms take turns."""
    frames = {kind: [one for one in templates if one.frame and one.kind == kind] for kind in KINDS}
    known = {kind: [(one.one, one.other) for one in terms if one.kind == kind] for kind in KINDS}
    for row in rows:
        kind = next((kind for kind in _roomiest(room) if frames[kind]), None)
        if kind is None:
            return
        frame = frames[kind][room[kind] % len(frames[kind])]
        choice = frame.terms or known[kind]
        one, other = choice[room[kind] % len(choice)]
        texts = [_filled(frame.frame, term, row.text) for term in (one, other)]
        room[kind] -= 1
        yield Pair(kind, texts[0], texts[1], (one, other), row.label, row.completion)


def _filled(frame: str, term: str, text: str) -> str:
    """The row's own text is put in last: what looks like a place to fill in it stays."""
    before, _, after = frame.partition("{text}")
    return f"{before.replace('{term}', term)}{text}{after.replace('{term}', term)}"


def _exchanged(row: Example, kind: Kind, terms: Sequence[Term]) -> Pair | None:
    """The row with every term of a kind exchanged; None where it has none, or a word whose counterpart depends on the grammar."""
    if kind == "gender" and re.search(r"\bhers?\b", row.text, re.IGNORECASE):  # his, him or he's: only a reader knows
        return None
    counterparts: dict[str, str] = {}
    both = [(one.one, one.other) for one in terms if one.kind == kind]
    both += [("his", "her"), ("him", "her")] if kind == "gender" else []
    for one, other in both:
        counterparts |= {old: new for old, new in _forms(one, other, kind).items() if old not in counterparts}
        counterparts |= {old: new for old, new in _forms(other, one, kind).items() if old not in counterparts}
    pattern = rf"\b(?:{'|'.join(map(re.escape, counterparts))})\b"
    first = re.search(pattern, row.text)
    if first is None:
        return None
    swapped = re.sub(pattern, lambda met: counterparts[met[0]], row.text)
    met, now = first[0], counterparts[first[0]]
    if any(met in _forms(other, one, kind) for one, other in both):
        return Pair(kind, swapped, row.text, (now, met), row.label, row.completion)
    return Pair(kind, row.text, swapped, (met, now), row.label, row.completion)


def _forms(old: str, new: str, kind: Kind) -> dict[str, str]:
    """A term and what stands for it, as they may be written: "Mr", names and places as they are, other words in any case."""
    if kind != "gender" or not old.islower():
        return {old: new}
    return {old: new, old.capitalize(): new.capitalize(), old.upper(): new.upper()}


def _templates(domain: Domain) -> tuple[Template, ...]:
    for file in (domain.folder / OWN, FOLDER / f"{domain.name}.jsonl", FOLDER / "any.jsonl"):
        if file.is_file():
            return tuple(_lines(file, Template))
    return ()


def _lines(file: Path, kind: type[T]) -> Iterator[T]:
    for number, line in enumerate(paths.read_text(file, LARGEST_BYTES, LARGE).split("\n"), start=1):
        if line.strip():
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"]) or "the line"
                raise InputError(f"{file}:{number}: {where}: {first['msg']}", "correct the line") from error
