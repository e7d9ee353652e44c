"""Every message between widgets and screens of the chat. Plain data; whoever sends one does not know who reads it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from textual.message import Message

from tui.modes import Pins

if TYPE_CHECKING:
    from data.errors import PointsmanError
    from router.modes.base import Planned
    from router.session import Session


@dataclass
class Submitted(Message):
    """The prompt's text is to be sent; the prompt is empty already."""

    text: str


class EndWanted(Message):
    """The end key was pressed in an empty prompt: follow the newest text."""


@dataclass
class FilesOffered(Message):
    """What is typed behind an @ may become one of these files; `marked` is the one that tab takes. None: put them away."""

    paths: tuple[str, ...]
    marked: int


@dataclass
class HandedBack(Message):
    """A question that was not asked: it belongs into the prompt again."""

    text: str


@dataclass
class Activity(Message):
    """What the conversation does now, and how fast. phase "" is idle.

    tokens_per_s and ttft_s (seconds to the first token) are 0 where not known; context is the share of the model's window
    in use, from 0 to 1, None where not known; queued counts the questions in line.
    """

    phase: str = ""
    tokens_per_s: float = 0.0
    ttft_s: float = 0.0
    context: float | None = None
    queued: int = 0


@dataclass
class Rated(Message):
    """How many answers were rated, and how many more are wanted before the next training is worth its while (0: none)."""

    answers: int
    wanted: int


@dataclass
class Identity(Message):
    """The conversation's title, the model that answers in it, both as they came, and what was chosen; "" where there is none.
    private: whether nothing of it is kept."""

    title: str
    model: str
    pins: Pins = field(default_factory=Pins)
    private: bool = False


@dataclass
class OllamaState(Message):
    """What the probe of the user's Ollama server found. state: ready, no models, not running or not installed."""

    state: str
    host: str
    fix: str = ""


@dataclass
class Resend(Message):
    """A question is to be asked again in other words: its turn and its text."""

    turn: str
    text: str


@dataclass
class Regenerate(Message):
    """The answer of this turn is to be given once more.

    pins: what holds for this one answer, "" leaving a part to what was chosen for the conversation; plan: the steps to take up
    instead of planning; said: the beginning that the answer goes on from.
    """

    turn: str
    pins: Pins = field(default_factory=Pins)
    plan: "tuple[Planned, ...]" = ()
    said: str = ""


@dataclass
class Fork(Message):
    """The next question is to follow this answer, beside what follows it now."""

    turn: str


@dataclass
class PrivateReady(Message):
    """A session that leaves no trace is open."""

    session: "Session"


@dataclass
class PathChanged(Message):
    """Another version of a message was chosen: the conversation is to be shown along it, with this turn selected."""

    conversation: str
    turn: str


class OpenWanted(Message):
    """The log is to be opened (again)."""


@dataclass
class Opened(Message):
    """The log and the engines are ready."""

    session: "Session"


@dataclass
class OpenFailed(Message):
    """The log cannot be used; nothing may be sent until it can."""

    fault: "PointsmanError"


@dataclass
class Surveyed(Message):
    """The model that a new chat gets, and what was found on this machine, one line each; untrusted text."""

    default: str
    findings: tuple[str, ...]


@dataclass
class CutOff(Message):
    """The last answer of the log was cut off by a crash: its conversation, and that one's title, which is untrusted."""

    conversation: str
    title: str


@dataclass
class Resumed(Message):
    """Another conversation is displayed: the questions in it, oldest first."""

    questions: tuple[str, ...]
