"""The seam behind which every model runs. A new engine is one file here with a `build(settings) -> Engine`.

Generators are synchronous; closing one cancels the answer and frees everything it held. Text comes in `Chunk.text`; the
last chunk of a finished answer carries `Usage`. Backend errors are translated here into `data.errors`: before the first
token into EngineUnavailable, EngineBusy, EngineRejected, ModelMissing, ModelInvalid or ContextOverflow; after it into
EngineInterrupted. An engine is used from one thread at a time, except `close` of a running generator's own thread.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.chat import Chunk, Message
from data.config import Sampling
from data.errors import ContextOverflow, EngineInterrupted, EngineRejected
from router.engines.structure import Completion, Structure


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter file (GGUF) attached to the base model for one request, at `scale`."""

    path: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """One answer wanted. `model` is the name within the engine, without the engine's prefix.

    schema: a JSON schema the answer must satisfy; tools: OpenAI-style function descriptions; think: switch native
    thinking on or off, None leaves it to the model.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    think: bool | None = None
    adapter: Adapter | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do beyond streaming text."""

    embed: bool = False
    score: bool = False
    schema: bool = False
    tools: bool = False
    think: bool = False
    adapters: bool = False
    pull: bool = False


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that an engine can run. Sizes in bytes, contexts in tokens; 0 or "" where unknown."""

    name: str
    engine: str
    size_bytes: int = 0
    context_tokens: int = 0
    parameters: str = ""
    quantisation: str = ""
    family: str = ""
    source: str = ""

    @property
    def reference(self) -> str:
        """The unambiguous name, `engine/name`."""
        return f"{self.engine}/{self.name}"


@dataclass(frozen=True, slots=True)
class PullProgress:
    """One step of a download: what is being done, and bytes done of bytes in all (0 of 0 where there are none)."""

    status: str
    done_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a model stands with its engine right now, told without asking a server: whether it is in memory, the seconds that
    loading it takes about, its context in tokens (0 where unknown), and why it cannot run ("" where nothing is known)."""

    loaded: bool = True
    load_s: float = 0.0
    context_tokens: int = 0
    why_not: str = ""


class Engine(ABC):
    """A way to run models. Subclasses are named after their file."""

    name: str
    capabilities: Capabilities = Capabilities()

    @abstractmethod
    def stream(self, request: Request) -> Iterator[Chunk]:
        """The answer, piece by piece; the last chunk carries Usage. Raises as the module says."""

    @abstractmethod
    def models(self) -> list[ModelInfo]:
        """The models ready to run. Raises EngineUnavailable where the engine cannot be reached."""

    def embed(self, texts: Sequence[str], model: str = "") -> NDArray[np.float32]:
        """L2-normalised sentence vectors, shape (len(texts), dimensions)."""
        raise EngineRejected(f"{self.name} cannot embed text", "use the llamacpp or ollama engine")

    def score(self, request: Request, continuations: Sequence[str]) -> list[tuple[float, ...]]:
        """Natural log-probability of each token of each continuation, given the rendered request."""
        raise EngineRejected(f"{self.name} gives no log-probabilities", "use the llamacpp engine")

    def complete(self, requests: Iterable[Request], structure: Structure) -> Iterator[Completion]:
        """One completion a request, in their order, each of the given structure; what they share is computed once where possible.

        A request that cannot be answered (too long, broken off) becomes a Completion with a fault and the others go on; a fault
        of the engine as a whole is raised. Here: one after the other by JSON schema, without probabilities.
        """
        for request in requests:
            try:
                chunks = list(self.stream(replace(request, schema=structure.schema)))
            except (ContextOverflow, EngineInterrupted) as fault:
                yield Completion(fault=fault)
                continue
            usage = next((chunk.usage for chunk in reversed(chunks) if chunk.usage), None)
            text = "".join(chunk.text for chunk in chunks)
            yield Completion(text, usage=usage) if usage else Completion(text)

    def can_call(self, model: str) -> bool:
        """Whether this model was made to call tools, so that `Request.tools` is worth giving; raises ModelMissing."""
        return self.capabilities.tools

    def can_think(self, model: str) -> bool:
        """Whether this model thinks before it answers when `Request.think` says so; raises ModelMissing."""
        return False

    def standing(self, model: str) -> Standing:
        """How a model stands right now. Quick: no server is asked, nothing is loaded."""
        return Standing()

    def count(self, model: str, messages: Sequence[Message]) -> int:
        """Tokens of a conversation by the model's own tokenizer; 0 where that is not at hand at once."""
        return 0

    def version(self, model: str) -> str:
        """What tells this model's weights from others that it had under the same name; "" where a name means the same for ever."""
        return ""

    def show(self, model: str) -> dict[str, Any]:
        """What the engine tells of one model, as plain JSON. Raises ModelMissing."""
        raise EngineRejected(f"{self.name} describes no models")

    def pull(self, model: str) -> Iterator[PullProgress]:
        """Download a model; closing the generator cancels."""
        raise EngineRejected(f"{self.name} downloads no models", "ollama does: pointsman models pull ollama/NAME")

    def delete(self, model: str) -> None:
        """Remove a model from this engine's disk. Raises ModelMissing."""
        raise EngineRejected(f"{self.name} deletes no models")

    def close(self) -> None:  # noqa: B027  an engine without models or connections has nothing to free
        """Free models and connections. Safe to call twice."""
