"""What can answer on this machine: the engines' models, and how the user's Ollama server is. Slow; call it in a thread.

Not covered: drawing it. A server that is away is a finding here, never a failure.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data.errors import PointsmanError
from tui.messages import OllamaState

if TYPE_CHECKING:
    from router.engines import Engines
    from router.engines.base import ModelInfo
    from router.session import Session

HIDDEN = ("echo",)
"""Engines that are not offered: the echo answers nothing; it is there for tests and `--model echo`."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One engine's models, or why there are none."""

    engine: str
    models: "tuple[ModelInfo, ...]" = ()
    problem: str = ""

    @property
    def line(self) -> str:
        """The engine and its models in words, or its problem; the engines name themselves in most of their faults."""
        words = self.problem or _named([model.name for model in self.models])
        return words if self.engine in words.casefold() else f"{self.engine}: {words}"


def listings(engines: "Engines") -> Iterator[Listing]:
    """Every engine in turn, the one on this machine's processor first."""
    names = sorted(engines.names(), key=lambda name: (name != "llamacpp", name))
    for name in names:
        if name in HIDDEN or (name == "openai_compatible" and not engines.settings.openai_compatible.url):
            continue
        try:
            yield Listing(name, tuple(engines.get(name).models()))
        except PointsmanError as error:
            yield Listing(name, problem=str(error))


def references(engines: "Engines") -> tuple[str, ...]:
    """Every model that can answer now."""
    return tuple(model.reference for listing in listings(engines) for model in listing.models)


def ollama(engines: "Engines") -> OllamaState:
    """One look at the user's Ollama server, within a second."""
    from router.engines.ollama import Ollama

    engine = engines.get("ollama")
    if not isinstance(engine, Ollama):
        return OllamaState("ready", "")  # another engine stands in for it
    status = engine.status()
    return OllamaState(status.state, status.host, status.fix)


def default_model(session: "Session") -> str:
    """The reference that a new chat answers with; what the settings say where it cannot be resolved now."""
    try:
        return session.engines.resolve("auto").reference
    except PointsmanError:
        return session.settings.model


def findings(found: Iterable[Listing]) -> tuple[str, ...]:
    """The listings in one line an engine, for a new chat."""
    return tuple(listing.line for listing in found)


def _named(names: list[str], shown: int = 3) -> str:
    if not names:
        return "no models"
    short = [name.rsplit("/", 1)[-1] for name in names]
    more = f" and {len(short) - shown} more" if len(short) > shown else ""
    return ", ".join(short[:shown]) + more
