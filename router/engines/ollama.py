"""The user's Ollama server: chat, embeddings, and its models listed, shown, pulled and deleted.

Chat and pull go over HTTP directly, because the `ollama` client has no `truncate` and `shift`, cannot be called off while
the server is silent, splits lines at characters that JSON may hold, and takes 0.2 s to import; what it does well (show,
delete, embed) it does here too. The load-time options (the context) are the same in every call, since a change would make
the server load the model again. Not covered: creating models (see export), images, cloud models.
"""

import re
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from data.chat import Chunk, Finish, Usage
from data.config import Settings, require_network
from data.errors import EngineInterrupted, EngineRejected, EngineUnavailable, ModelMissing, Offline, PointsmanError
from router.engines import _ollama as wire
from router.engines._completing import Habits
from router.engines._faults import Dropped, Fault, Refusal, Unreachable, as_object, count_of, text_of
from router.engines._ollama_connection import FIRST_MODEL, LIST_S, Connection
from router.engines._remote import Plan, Remote, unit_vectors
from router.engines.base import Capabilities, ModelInfo, PullProgress, Request

if TYPE_CHECKING:
    import ollama

State = Literal["ready", "no models", "not running", "not installed"]
PEEK_S = 0.5  # for questions whose answer only makes the display nicer
STATUS_S = 1.0
LANES = 2  # a server computes one answer at a time (OLLAMA_NUM_PARALLEL is 1): the second is there when the first is done
TELLS_OVERFLOW = (0, 12, 6)  # the first version that honours truncate: false (commit 6544e1473)


@dataclass(frozen=True, slots=True)
class Status:
    """Whether Ollama can be used: its address, version and number of models; `detail` says why not, `fix` what to do."""

    state: State
    host: str
    version: str = ""
    models: int = 0
    detail: str = ""
    fix: str = ""


class Ollama(Remote):
    """Models of an Ollama server."""

    name = "ollama"
    label = "Ollama"
    capabilities = Capabilities(embed=True, schema=True, tools=True, think=True, pull=True)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.ollama
        self._connection = Connection(self._settings.host)
        self._habits = Habits(LANES)
        self._package: ollama.Client | None = None

    @property
    def host(self) -> str:
        """The server's address, as shown to the user."""
        return self._connection.host

    def status(self) -> Status:
        """Whether the server can be used, within a second; never raises."""
        started = time.perf_counter()
        try:
            version = self._connection.version(STATUS_S - 0.1)
            count = len(self._connection.tags(max(STATUS_S - (time.perf_counter() - started), 0.05)))
        except Offline as error:
            return Status("not running", self.host, detail=error.what, fix=error.fix)
        except Fault as fault:
            why = self._translated(fault, "")
            absent = isinstance(fault, Unreachable) and not self._connection.installed
            return Status("not installed" if absent else "not running", self.host, detail=why.what, fix=why.fix)
        if not count:
            return Status("no models", self.host, version, detail="Ollama runs but has no model", fix=FIRST_MODEL)
        return Status("ready", self.host, version, count)

    def models(self) -> list[ModelInfo]:
        """The installed models."""
        return self._connection.models()

    def show(self, model: str) -> dict[str, Any]:
        """What the server tells of one model: modelfile, template, parameters, details, model_info, capabilities."""
        with self._connection.translating(model), wire.client_faults(self._settings.stall_s):
            return self._client().show(model).model_dump(mode="json", by_alias=True, exclude_none=True)

    def can_call(self, model: str) -> bool:
        """Whether the server says that the model takes tools; one too old to say is believed to until it refuses."""
        return "tools" in self._abilities(model, "tools")

    def can_think(self, model: str) -> bool:
        """Whether the server says that the model thinks."""
        return "thinking" in self._abilities(model, "")

    def delete(self, model: str) -> None:
        """Remove a model from the server's disk."""
        with self._connection.translating(model), wire.client_faults(self._settings.stall_s):
            self._client().delete(model)

    def embed(self, texts: Sequence[str], model: str = "") -> NDArray[np.float32]:
        """L2-normalised vectors, shape (len(texts), dimensions); the server cuts a text that is longer than the model's window."""
        if not model:
            raise EngineRejected("no embedding model is named", "name one, for example ollama/all-minilm")
        if not texts:
            return np.zeros((0, 0), dtype=np.float32)
        with self._connection.translating(model), wire.client_faults(self._settings.stall_s):
            answer = self._client().embed(model, list(texts), options=self._load_options(), keep_alive=self._settings.keep_alive)
            return unit_vectors(answer.embeddings, len(texts))

    def pull(self, model: str) -> Generator[PullProgress, None, None]:
        """Have the server download a model; bytes over all its layers so far. Closing stops; pulling again resumes."""
        require_network("registry.ollama.ai", f"pulling {model}")
        progress = PullProgress("")
        layers: dict[str, tuple[int, int]] = {}
        try:
            with closing(self._connection.server().lines("/api/pull", {"model": model}, stall_s=self._settings.stall_s)) as lines:
                for event in map(wire.event, lines):
                    if event:
                        if digest := event.get("digest"):
                            layers[str(digest)] = (count_of(event, "completed"), count_of(event, "total"))
                        done, total = (sum(column) for column in zip(*layers.values(), strict=True)) if layers else (0, 0)
                        progress = PullProgress(text_of(event, "status"), done, total)
                    yield progress
                    if progress.status == "success":
                        return
            raise Dropped("the download has no end")
        except Fault as fault:
            raise self._pull_error(fault, model, begun=bool(layers)) from fault

    def close(self) -> None:
        """Close the connections; models stay loaded in the server for `keep_alive`."""
        self._connection.close()
        if self._package:
            self._package.close()  # type: ignore[no-untyped-call]
        self._package = None

    def _abilities(self, model: str, otherwise: str) -> list[Any]:
        """The server's list of what the model can do, `otherwise` alone where it gives none."""
        with self._connection.translating(model):
            told = as_object(self._connection.server().json("POST", "/api/show", {"model": model}, deadline_s=LIST_S))
        found = told.get("capabilities")
        return found if isinstance(found, list) else [otherwise]

    def _answer(self, request: Request, plan: Plan) -> Generator[Chunk | None, None, None]:
        calls = False
        with closing(
            self._connection.server().lines("/api/chat", self._body(request, plan), stall_s=self._settings.stall_s)
        ) as lines:
            for event in map(wire.event, lines):
                if not event:
                    yield None
                    continue
                if plan.heard:
                    plan.heard.hear(event.get("logprobs"))
                piece = wire.piece(event)
                calls = calls or bool(piece.tool_calls)
                if piece != Chunk():
                    yield piece
                if event.get("done") is True:
                    finish: Finish = "length" if event.get("done_reason") == "length" else "tool_calls" if calls else "stop"
                    yield Chunk(usage=self._usage(event, finish, plan))
                    return

    def _body(self, request: Request, plan: Plan) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [wire.plain_message(message) for message in plan.turns.messages],
            "stream": True,
            "truncate": False,
            "shift": False,
            "keep_alive": self._settings.keep_alive,
            "options": self._load_options() | wire.sampling_options(request, plan.max_tokens),
        }
        if request.tools:
            body["tools"] = [dict(tool) for tool in request.tools]
        if request.schema is not None:
            body["format"] = dict(request.schema)
        if request.think is not None:
            body["think"] = request.think
        if plan.heard and plan.heard.top:
            body |= {"logprobs": True, "top_logprobs": plan.heard.top}  # from version 0.12.11 on; those before ignore it
        return body

    def _load_options(self) -> dict[str, Any]:
        return {"num_ctx": self._settings.context}

    def _usage(self, event: dict[str, Any], finish: Finish, plan: Plan) -> Usage:
        prompt_tokens = count_of(event, "prompt_eval_count")
        return Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=count_of(event, "eval_count"),
            finish=finish,
            load_s=count_of(event, "load_duration") / 1e9,
            context_tokens=self._settings.context,
            dropped_turns=int(self._probably_cut(prompt_tokens, plan.turns.chars)),
        )

    def _probably_cut(self, prompt_tokens: int, chars: int) -> bool:
        """Whether an old server, which ignores `truncate: false`, has likely left out a part without a word.

        The prompt fills the window, or it fills half of it although the text has more than 6 characters a token. A cut
        that takes less than about a third of the text goes unseen.
        """
        window = self._settings.context
        if prompt_tokens < window - 1 and not (2 * prompt_tokens >= window and chars > 6 * prompt_tokens):
            return False
        try:
            numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", self._connection.version(PEEK_S))
        except Fault:
            return True
        release = tuple(int(number) for number in numbers.groups()) if numbers else ()
        return (0, 0, 0) != release < TELLS_OVERFLOW  # 0.0.0 is a build from source

    def _loads_first(self, request: Request) -> bool:
        try:
            running = wire.entries(self._connection.server().json("GET", "/api/ps", deadline_s=PEEK_S))
            names = {wire.full_name(text_of(entry, "name") or text_of(entry, "model")) for entry in running}
        except Fault:
            return False
        return wire.full_name(request.model) not in names

    def _window(self, model: str) -> tuple[int, str]:
        return self._settings.context, f"widen the context: pointsman config set ollama.context {2 * self._settings.context}"

    def _client(self) -> "ollama.Client":
        self._connection.allowed()
        if self._package is None:
            import httpx
            import ollama

            timeout = httpx.Timeout(self._settings.stall_s, connect=5.0)
            address = self._connection.address
            proxies = not address.loopback
            self._package = ollama.Client(address.url, timeout=timeout, follow_redirects=False, trust_env=proxies)
        return self._package

    def _translated(self, fault: Fault, model: str) -> PointsmanError:
        return self._connection.translated(fault, model)

    def _pull_error(self, fault: Fault, model: str, *, begun: bool) -> PointsmanError:
        if isinstance(fault, Refusal) and wire.NO_SUCH_MODEL.search(fault.text):
            return ModelMissing(f"Ollama's library has no model {model!r}", "its names: https://ollama.com/library")
        if begun:
            return EngineInterrupted(
                f"the download of {model} broke off: {fault}", f"it resumes: pointsman models pull ollama/{model}"
            )
        if isinstance(fault, Refusal) and fault.status in (200, 500):
            return EngineUnavailable(
                f"Ollama cannot download {model}: {fault}", "check the network and the free space, and try again"
            )
        return self._translated(fault, model)


def build(settings: Settings) -> Ollama:
    """The engine for `ollama/NAME`; connects to nothing yet. Raises SettingsError for an address that is none."""
    return Ollama(settings)
