"""Checks a domain pack and says what is wrong where: every file of the folder, each problem with its line.

    check(folder) -> [Problem(file, line, text), ...]        shown as file:line: text; none where the pack is sound

No pack makes the check fail itself, however hostile: links out of the folder, huge files, wrong types and deep nesting are
problems like others. Not covered: rules.toml beyond its syntax, which the router's own checker looks through (`extra`).
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from data import indicators as knowledge
from data._checks.cases import cases
from data._checks.description import described
from data._checks.examples import examples
from data._checks.pack import Pack, Problem
from data._checks.pairs import pairs
from data._checks.readme import Counts, readme
from data._checks.schema import agrees, schema
from data.domains import FILL_KEY, Description, Domain
from data.places import toml_lines
from data.sanitise import one_line

__all__ = ["Checker", "Problem", "check"]

Checker = Callable[[Domain], Iterable[Problem]]
"""What looks through a pack whose domain.toml and schema.json are sound, and tells what it finds."""
_LONGEST_WORD = 60


def check(folder: Path, extra: Sequence[Checker] = ()) -> list[Problem]:
    """Every problem of the pack in `folder`, in the order of the files' names and lines. Never raises over what is in it."""
    if not folder.is_dir():
        return [Problem(str(folder), 1, "is no folder")]
    pack = Pack(folder)
    try:
        pack.strays()
    except OSError as error:
        return [Problem(str(folder), 1, f"cannot be read: {error.strerror or error}")]
    pack.toml("rules.toml")
    found = described(pack)
    shape = schema(pack)
    if found is not None:
        _all(pack, found[0], shape, extra)
    else:
        _indicators(pack, Description.model_construct(labels=()))
    return sorted(set(pack.problems), key=lambda problem: (problem.file, problem.line, problem.text))


def _all(pack: Pack, description: Description, shape: Any, extra: Sequence[Checker]) -> None:
    whole = shape[0] if shape else None
    if shape:
        agrees(pack, shape[0], shape[1], description)
    base = _indicators(pack, description)
    if whole is not None:
        _fills(pack, description, whole, base)
    read_examples = examples(pack, description, whole)
    read_cases = cases(pack, description, whole, base.names)
    _glossary(pack)
    pairs(pack, description)
    labels = tuple(label.name for label in description.labels)
    signs = (one.label for one in base.indicators)
    readme(pack, Counts.of((one for _, one in read_examples), read_cases, signs, labels))
    if whole is not None and pack.text("rules.toml") is not None:
        for checker in extra:
            pack.problems.extend(checker(Domain(pack.folder, description)))


def _indicators(pack: Pack, description: Description) -> knowledge.Indicators:
    text = pack.text(knowledge.FILE)
    if text is None:
        return knowledge.Indicators()
    found, faults = knowledge.read(text, [label.name for label in description.labels])
    if not faults:
        faults = knowledge.sample_faults(found, toml_lines(text))
    for fault in faults:
        pack.fault(knowledge.FILE, fault.line, one_line(fault.text, 400))
    return found


def _fills(pack: Pack, description: Description, whole: dict[str, Any], base: knowledge.Indicators) -> None:
    """Note what the schema wants filled in for which the pack has nothing."""
    wanted = set(_filled(whole))
    if "indicators" in wanted and not base.indicators and pack.text(knowledge.FILE) is None:
        pack.fault("schema.json", 1, f"{FILL_KEY} indicators needs an {knowledge.FILE}, which is missing")
    if "resources" in wanted and not description.resources:
        pack.fault("schema.json", 1, f"{FILL_KEY} resources needs [[resources]] in domain.toml")


def _filled(part: Any) -> Iterable[str]:
    if isinstance(part, dict):
        if isinstance(part.get(FILL_KEY), str):
            yield part[FILL_KEY]
        for inner in part.get("properties", {}).values():
            yield from _filled(inner)


def _glossary(pack: Pack) -> None:
    first: dict[str, int] = {}
    for number, line in enumerate((pack.text("glossary.txt") or "").split("\n"), start=1):
        word = line.strip().casefold()
        if not word:
            continue
        if len(word) > _LONGEST_WORD:
            pack.fault(
                "glossary.txt",
                number,
                f"{one_line(word, 40)!r} has more than {_LONGEST_WORD} characters: one word or phrase a line",
            )
        elif word in first:
            pack.fault("glossary.txt", number, f"{one_line(word, 60)!r} is there twice, first on line {first[word]}")
        first.setdefault(word, number)
