"""What is exported, and the trained model that it is held against, as plain values and a protocol: trainer is not imported here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data.chat import Message
from data.exports import BaseNote
from export.choose import Limits


class Asked(Protocol):
    """A row as training had it: its messages, its tokens, and those of the right answer with the one that ends it."""

    @property
    def messages(self) -> tuple[Message, ...]: ...
    @property
    def prompt(self) -> tuple[int, ...]: ...
    @property
    def answer(self) -> tuple[int, ...]: ...


class Reference(Protocol):
    """The trained model, base and adapter unmerged in float32 (`trainer.reference.Reference`)."""

    def logits_of(self, rows: Sequence[Sequence[int]], shared: int) -> Iterator[NDArray[np.float32]]:
        """What it says after each token of a row, shape (tokens, vocabulary); of all rows but the first without `shared` tokens."""

    def activations(self, rows: Sequence[Sequence[int]], collect: Callable[[Any, Sequence[Sequence[int]]], Any]) -> Any:
        """What `collect` finds while it reads rows."""

    def spelled(self, messages: Sequence[Message]) -> tuple[str | None, list[int]]:
        """A conversation's prompt and its tokens; None where its template refuses it."""

    def text_ids(self, text: str) -> list[int]:
        """The tokens of plain text."""

    def training(self, count: int) -> tuple[tuple[int, ...], ...]:
        """The tokens of so many training rows at most."""

    @property
    def validation(self) -> Sequence[Asked]:
        """The validation rows; none where they are not there."""

    @property
    def think(self) -> bool | None:
        """How prompts are made: with native thinking, without, or as the model has it."""

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end an answer."""

    @property
    def vocabulary(self) -> int:
        """How many tokens the model's output has."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be had."""


class Judged(Protocol):
    """What a model said about rows, which of it is right, and the share of valid JSON, None where none is asked for."""

    @property
    def said(self) -> tuple[str, ...]: ...
    @property
    def right(self) -> tuple[bool, ...]: ...
    @property
    def valid(self) -> float | None: ...


Judge = Callable[[Path, Path | None], Judged]
"""What a model GGUF, with an adapter GGUF attached, says about the run's validation rows under its contract."""


@dataclass(frozen=True)
class Source:
    """A run to be exported.

    adapter: folder as PEFT saves it; checkpoint or base_gguf: what the base is; quantised: how the base's weights were held in
    training (none, nf4, int8); trained_in: the number format of its products. opened: the trained model, or with a folder the model
    merged there; None where it cannot be had. judge: None without a domain; trained: which of its rows the trained model had
    right. system, parameters: of the Modelfile; classifier: whether answers are the likeliest ones; failed_gates: why the run did
    not pass, "" where it did.
    """

    name: str
    run: Path
    domain: str
    adapter: Path
    checkpoint: Path | None
    base_gguf: Path | None
    base: BaseNote
    licence: str = ""
    quantised: str = "none"
    trained_in: str = "float32"
    opened: Callable[[Path | None], Reference] | None = None
    judge: Judge | None = None
    trained: tuple[bool, ...] = ()
    limits: Limits = field(default_factory=Limits)
    system: str = ""
    classifier: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    failed_gates: str = ""
