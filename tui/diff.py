"""What changed between two texts, word by word. Not covered: drawing it (`tui.widgets.differences`)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final, Literal

WORDS: Final = 6_000
"""Words of a text from which on whole lines are compared: the comparison takes time that grows with their square."""
_WORD: Final = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Change:
    """A piece that both texts have, that only the old one has, or only the new one."""

    kind: Literal["same", "old", "new"]
    text: str


def words(old: str, new: str) -> tuple[Change, ...]:
    """The pieces in order; those of kind "same" and "old" make up `old`, "same" and "new" make up `new`."""
    before, after = _split(old, new)
    return tuple(_merged(_changes(before, after)))


def _split(old: str, new: str) -> tuple[list[str], list[str]]:
    pieces = _WORD.findall(old), _WORD.findall(new)
    if max(map(len, pieces)) > WORDS:
        return old.splitlines(keepends=True), new.splitlines(keepends=True)
    return pieces


def _changes(before: Sequence[str], after: Sequence[str]) -> Iterator[Change]:
    for tag, old_from, old_to, new_from, new_to in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            yield Change("same", "".join(before[old_from:old_to]))
            continue
        if old_from < old_to:
            yield Change("old", "".join(before[old_from:old_to]))
        if new_from < new_to:
            yield Change("new", "".join(after[new_from:new_to]))


def _merged(changes: Iterator[Change]) -> Iterator[Change]:
    """Changes with only a space between them as one: "a b" for "c d" is one change, not two."""
    held: list[Change] = []
    for change in changes:
        space = change.kind == "same" and change.text.isspace() and "\n" not in change.text
        if change.kind == "same" and not (space and held):
            yield from _flushed(held)
            held = []
            yield change
        else:
            held.append(change)
    yield from _flushed(held)


def _flushed(held: Sequence[Change]) -> Iterator[Change]:
    tail = [held[-1]] if held and held[-1].kind == "same" else []
    body = held[: len(held) - len(tail)]
    for kind in ("old", "new"):
        text = "".join(change.text for change in body if change.kind in (kind, "same"))
        if text:
            yield Change("old" if kind == "old" else "new", text)
    yield from tail
