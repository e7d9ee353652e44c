"""What the store hands out: frozen rows, made from the tables and from nothing else. Times are timezone-aware UTC.

Not covered: how they are stored (tables.py) and the messages themselves (data/chat.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from data.chat import Message, Usage

Status = Literal["pending", "streaming", "complete", "interrupted", "cancelled", "error"]
"""Where an answer stands: the model was asked; text is arriving; ended by itself; broken off by a crash or a lost stream;
stopped by the user; failed before any text."""
FeedbackKind = Literal["thumb", "rating", "comment", "correction", "preference"]
FeedbackSource = Literal["user", "judge", "implicit", "import"]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation without its turns. turns: how many it has, all branches; leaf: the end of the branch in use."""

    id: str
    title: str
    created: datetime
    updated: datetime
    domain: str
    turns: int
    leaf: str
    system: str = ""
    incognito: bool = False


@dataclass(frozen=True, slots=True)
class Feedback:
    """One thing said about an answer.

    value: +1 or -1 for a thumb, 1 to 5 for a rating, 1 (better) or 0 (a tie) for a preference; text: the comment or the
    corrected answer; key: what makes repeating the call harmless. A preference names the `rejected` inference beside
    `inference`, the chosen one; blind: the user did not know which model wrote which; chosen_left: the chosen one stood
    on the left (None: not side by side). withdrawn: this row only takes back the one it supersedes.
    """

    id: str
    inference: str
    kind: FeedbackKind
    value: float | None
    text: str
    source: FeedbackSource
    at: datetime
    supersedes: str = ""
    key: str = ""
    withdrawn: bool = False
    rejected: str = ""
    blind: bool = False
    chosen_left: bool | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """How many answers the user said something about, and how many of them an answer to imitate came of: liked or corrected."""

    answers: int = 0
    lessons: int = 0


@dataclass(frozen=True, slots=True)
class Inference:
    """One answer's circumstances and measures; its text is in the turn's message.

    model: `engine/name`; config_hash: sha256 of the settings it was made with (`Log.config`); decision: the router's
    reasons as plain JSON; truncated: the model saw less than the whole conversation; tainted: untrusted tool or web text
    was in sight; finished: None while the answer runs. usage.finish is "interrupted" until something else is known. trace:
    what happened within the answer, in order (router.trace); empty unless read with its conversation.
    """

    id: str
    turn: str
    conversation: str
    status: Status
    model: str
    engine: str
    mode: str
    domain: str
    config_hash: str
    decision: Mapping[str, Any]
    seed: int | None
    usage: Usage
    truncated: bool
    tainted: bool
    error: str
    created: datetime
    updated: datetime
    finished: datetime | None
    trace: tuple[Mapping[str, Any], ...] = ()

    @property
    def trainable(self) -> bool:
        """Whether it may become training data: complete, on the whole conversation, without untrusted text."""
        return self.status == "complete" and not self.truncated and not self.tainted


@dataclass(frozen=True, slots=True)
class Turn:
    """A node of the conversation's tree. siblings: turns under the same parent, itself included; sibling_index from 0.

    inference is None for a question; feedback holds what is current, oldest first.
    """

    id: str
    conversation: str
    parent: str | None
    role: str
    message: Message
    at: datetime
    inference: Inference | None
    feedback: tuple[Feedback, ...]
    siblings: int
    sibling_index: int


@dataclass(frozen=True, slots=True)
class Begun:
    """The ids of what was committed before the model runs; question and answer are turns."""

    conversation: str
    question: str
    answer: str
    inference: str


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A corrected route: questions like `text` belong to `domain` and are answered in `mode` ("" where not said)."""

    id: str
    text: str
    domain: str
    mode: str
    inference: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a tuned model did against its base on held-out questions: difference in win rate and its lower 90% bound."""

    id: str
    model: str
    base: str
    domain: str
    pairs: int
    gain: float
    lower: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Hit:
    """Something found. turn is "" and role "title" where the title matched; kind: question, answer, thinking, correction,
    comment or title. The snippet is untrusted text with « » around what matched."""

    conversation: str
    turn: str
    role: str
    kind: str
    snippet: str
    at: datetime
    title: str


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was deleted (or would be, in a dry run). backups: copies from before a migration, which held the text too."""

    conversations: int
    turns: int
    feedback: int
    backups: int


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What `pointsman doctor` tells of the store. size_bytes is 0 for a server."""

    where: str
    database: str
    schema: str
    journal: str
    size_bytes: int
    conversations: int
    inferences: int
