"""examples.jsonl: every line a row, its label known, its output within the schema, its quotes in its text, no text twice."""

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from data._checks.pack import MOST_PROBLEMS, Pack, meant
from data._checks.schema import asked
from data._checks.similar import alike, folded
from data.cases import at_path
from data.checks import Check
from data.domains import Description, Example
from data.sanitise import one_line

NAME = "examples.jsonl"
LONGEST_LINE = 1 << 20
_QUOTE = re.compile(r'"([^"\n]{2,200})"|“([^”\n]{2,200})”|«([^»\n]{2,200})»')
_EDGE = " .,;:!?…"
T = TypeVar("T", bound=BaseModel)


def examples(pack: Pack, description: Description, whole: Mapping[str, Any] | None) -> list[tuple[int, Example]]:
    """The rows that can be read, each with its line. whole: the schema where it is sound."""
    found = list(rows(pack, NAME, Example))
    labels = [label.name for label in description.labels]
    validator = None
    if whole:
        import jsonschema

        validator = jsonschema.Draft202012Validator(asked(whole))
    for line, one in found:
        for text in _faults(one, description, labels, validator):
            pack.fault(NAME, line, text)
    _shares(pack, labels, [one for _, one in found])
    _twins(pack, found)
    return found


def rows(pack: Pack, name: str, kind: type[T]) -> Iterator[tuple[int, T]]:
    """Each line of a JSONL file that is a row, with its number; the others are noted."""
    for number, line in enumerate((pack.text(name) or "").split("\n"), start=1):
        if not line.strip():
            continue
        if len(line) > LONGEST_LINE:
            pack.fault(name, number, f"the line has {len(line):,} characters, {LONGEST_LINE:,} at most")
            continue
        try:
            yield number, kind.model_validate_json(line)
        except ValidationError as error:
            for fault in error.errors()[:5]:
                where = one_line(".".join(map(str, fault["loc"])), 60)
                near = meant(str(fault["loc"][-1]), kind.model_fields) if fault["type"] == "extra_forbidden" else ""
                said = (
                    f"unknown key {where}{near}" if fault["type"] == "extra_forbidden" else f"{where}: {fault['msg']}".lstrip(": ")
                )
                pack.fault(name, number, one_line(said, 200))


def _faults(one: Example, description: Description, labels: list[str], validator: Any) -> Iterator[str]:
    if not one.text.strip():
        yield "the text is empty"
    if labels and not one.label:
        yield "there is no label"
    elif one.label and one.label not in labels:
        yield f"{one_line(one.label, 60)!r} is no label of domain.toml{meant(one.label, labels)}"
    yield from _output_faults(one, description, validator)
    yield from check_faults(one.check)
    if one.completion:
        yield from (f"the completion does not pass its own check: {fault}" for fault in one.check.faults(one.completion))
    for where, said in (("reasoning", one.reasoning), *_reasons(one.output)):
        for quote in quotes(said) if labels else ():
            if not holds(one.text, quote):
                yield f"{where} quotes {one_line(quote, 60)!r}, which is not in the text"


def check_faults(check: Check) -> Iterator[str]:
    """What is wrong with a `check` itself: its Python is no Python. It is not run here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(check.python)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        yield f"check.python is no Python: {one_line(said, 100)}"


def _output_faults(one: Example, description: Description, validator: Any) -> Iterator[str]:
    if not one.output:
        return
    if validator is not None:
        for fault in sorted(validator.iter_errors(one.output), key=lambda fault: fault.json_path)[:5]:
            yield f"output{one_line(fault.json_path[1:], 80)}: {one_line(fault.message, 160)}"
    try:
        found = at_path(one.output, description.label_field)
    except KeyError:
        return
    if found != one.label:
        yield f"output.{description.label_field} is {one_line(str(found), 60)!r}, the label {one_line(one.label, 60)!r}"


def quotes(text: str) -> Iterator[str]:
    """What stands in double quotes."""
    return (next(filter(None, match.groups())) for match in _QUOTE.finditer(text))


def holds(text: str, quote: str) -> bool:
    """Whether a text has the quote, whatever the case, the spaces and the marks at the quote's ends."""
    return " ".join(quote.casefold().strip(_EDGE).split()) in " ".join(text.casefold().split())


def _reasons(output: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    return [(f"output.{key}", value) for key, value in output.items() if key in ("reasoning", "reason") and isinstance(value, str)]


def _shares(pack: Pack, labels: list[str], found: list[Example]) -> None:
    if not found:
        return
    for split in ("train", "validation"):
        have = {one.label for one in found if one.split == split}
        if labels and (missing := [label for label in labels if label not in have]):
            pack.fault(NAME, 1, f"no {split} row has the label {', '.join(one_line(label, 40) for label in missing)}")
        elif not any(one.split == split for one in found):
            pack.fault(NAME, 1, f"no row is of the split {split}")


def _twins(pack: Pack, found: list[tuple[int, Example]]) -> None:
    first: dict[str, int] = {}
    kept = []
    for line, one in found:
        text = folded(one.text) or one.text.strip()
        if text in first:
            pack.fault(NAME, line, f"the same text as on line {first[text]}")
        else:
            first[text] = line
            kept.append((line, one))
    pairs = alike([one.text for _, one in kept])
    apart = (
        (kept[earlier], kept[later], share) for earlier, later, share in pairs if kept[earlier][1].split != kept[later][1].split
    )
    for (before, _), (line, _), share in islice(apart, MOST_PROBLEMS + 1):
        pack.fault(NAME, line, f"{share:.0%} alike to line {before}, which is of the other split; put both into one")
