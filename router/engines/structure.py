"""The shape of an answer, as a tree of what is fixed and what the model decides: the seam between output contracts and engines.

An engine that knows structures writes the fixed parts itself, chooses among options by their probabilities, and lets the model
write only what is free; any other gets the JSON schema. Not covered: how a JSON schema becomes a structure (`router.contract`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data.chat import Usage
from data.errors import PointsmanError


@dataclass(frozen=True, slots=True)
class Literal:
    """Text that stands there whatever the model thinks."""

    text: str


@dataclass(frozen=True, slots=True)
class Select:
    """One of some texts, chosen by the model. path: of the JSON property, dotted; "" for a choice of form (an array's end).

    options are written as they stand in the answer (a JSON string with its quotes); `values` are what they mean.
    """

    path: str
    options: tuple[str, ...]
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A JSON string's content, or free text, up to `stop`, which is written too. At most so many characters, then it is closed.

    stop: the double quote for a JSON string, within which escapes are as JSON has them; else a closing tag, as "</reasoning>",
    before which anything may stand that does not hold the tag.
    """

    stop: str
    max_chars: int = 600
    min_chars: int = 0


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number between two bounds, both included."""

    minimum: float
    maximum: float
    integer: bool = False
    decimals: int = 2


@dataclass(frozen=True, slots=True)
class Repeat:
    """A JSON array: items of one shape with ", " between, at least and at most so many; brackets included."""

    item: "Node"
    least: int = 0
    most: int = 8


@dataclass(frozen=True, slots=True)
class Series:
    """Parts one after the other."""

    parts: "tuple[Node, ...]"


Node = Literal | Select | Text | Number | Repeat | Series


@dataclass(frozen=True, slots=True)
class Structure:
    """An answer's whole shape, and the JSON schema that says the same to engines without structures.

    reasoning_tag, answer_tag: what stands around free reasoning and around the JSON; "" where there is none.
    """

    root: Node
    schema: Mapping[str, Any]
    reasoning_tag: str = ""
    answer_tag: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """How a Select came out: natural log-probability of each option given all before it, normalised over the options.

    chosen: the index of the option that stands in the answer. complete: whether every option's probability is known; where
    a server tells only its likeliest tokens, the others have -inf.
    """

    path: str
    values: tuple[Any, ...]
    log_probabilities: tuple[float, ...]
    chosen: int
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer: its text, its choices (none where the engine gives no probabilities), and `fault` instead where there is none."""

    text: str = ""
    choices: tuple[Choice, ...] = ()
    usage: Usage = field(default_factory=Usage)
    fault: PointsmanError | None = None
