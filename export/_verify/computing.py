"""Asking the child process for what verification needs: see `tasks`, whose functions these call, one child a call."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.chat import Message
from export.fidelity import Figures
from export.quantise import in_child

Pair = tuple[Path, Path | None]
"""A model's file and an adapter's, or None."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A file beside the original. positions: how many were compared; differ: first choices that are others; leads: the largest
    of the nats by which the original preferred its own there; spoken, spoken_differ: the same where answers are written."""

    figures: Figures
    positions: int
    differ: int
    leads: tuple[float, ...]
    spoken: int = 0
    spoken_differ: int = 0


@dataclass(frozen=True, slots=True)
class Spelled:
    """What a file reads. texts: tokens of plain texts; prompts: (text, tokens) of conversations, None for one that its template
    refuses; ends: tokens that end an answer, stops: their texts; template: its Jinja."""

    texts: tuple[tuple[int, ...], ...]
    prompts: tuple[tuple[str | None, tuple[int, ...]], ...]
    bos: int
    bos_text: str
    adds_bos: bool
    ends: tuple[int, ...]
    stops: tuple[str, ...]
    template: str


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer's tokens without the one that ends it, and whether it ended by itself."""

    ids: tuple[int, ...]
    ended: bool


def compare(
    files: Sequence[Pair],
    rows: Sequence[Sequence[int]],
    shared: int,
    given: Path | None = None,
    spoken: Sequence[int] = (),
) -> list[Compared]:
    """Each file beside logits on disk, or beside the first file; see `tasks.compare`. Raises ModelInvalid."""
    found = in_child(
        "compare",
        f"{_names(files)} cannot be computed",
        files=[[str(model), str(adapter or "")] for model, adapter in files],
        rows=[[int(token) for token in row] for row in rows],
        shared=shared,
        given=str(given or ""),
        spoken=list(spoken or [0] * len(rows)),
        threads=0,
    )
    return [
        Compared(
            Figures(**one["figures"]), one["positions"], one["differ"], tuple(one["leads"]), one["spoken"], one["spoken_differ"]
        )
        for one in found
    ]


def spell(file: Path, texts: Sequence[str], conversations: Sequence[Sequence[Message]], think: bool | None) -> Spelled:
    """What the file reads and writes of texts and conversations. Raises ModelInvalid."""
    found = in_child(
        "spell",
        f"{file} cannot be read",
        file=str(file),
        texts=list(texts),
        conversations=[[message.to_dict() for message in one] for one in conversations],
        think=think,
    )
    return Spelled(
        tuple(tuple(one) for one in found["texts"]),
        tuple((text, tuple(ids)) for text, ids in found["prompts"]),
        found["bos"],
        found["bos_text"],
        found["adds_bos"],
        tuple(token for token, _ in found["ends"]),
        tuple(text for _, text in found["ends"]),
        found["template"],
    )


def answer(file: Path, adapter: Path | None, prompts: Sequence[Sequence[int]], most: int) -> list[Answered]:
    """The likeliest answer to each prompt, of `most` tokens at most. Raises ModelInvalid."""
    found = in_child(
        "answer",
        f"{_names([(file, adapter)])} cannot be computed",
        file=str(file),
        adapter=str(adapter or ""),
        prompts=[[int(token) for token in prompt] for prompt in prompts],
        most=most,
    )
    return [Answered(tuple(one["ids"]), one["ended"]) for one in found]


def _names(files: Sequence[Pair]) -> str:
    return " and ".join(f"{model.name} with {adapter.name}" if adapter else model.name for model, adapter in files)
