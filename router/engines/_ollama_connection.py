"""The way to one Ollama server, for the engine and for `export.ollama`: its address, its version and models, and its refusals.

Not covered: what is asked of it beyond that.
"""

import difflib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from data.config import require_network
from data.errors import EngineError, EngineUnavailable, ModelMissing, PointsmanError
from router.engines import _ollama as wire
from router.engines._faults import Fault, Garbled, Refusal, Stalled, Unreachable, as_object, text_of
from router.engines._http import Server
from router.engines.base import ModelInfo

LIST_S = 10.0
INSTALL = "install it from https://ollama.com/download, or use the embedded model, which works without it"
FIRST_MODEL = "ollama pull llama3.2, or: pointsman models pull ollama/llama3.2:1b"


class Connection:
    """A server that need not be there. Connects to nothing before it is asked for something."""

    def __init__(self, host: str = "") -> None:
        """host: as OLLAMA_HOST, which an empty one stands for. Raises SettingsError for one that is no address."""
        self.address = wire.address(host or os.environ.get("OLLAMA_HOST", "").strip().strip("\"'"))
        self._http: Server | None = None

    @property
    def host(self) -> str:
        """The server's address, as shown to the user."""
        return self.address.shown

    @property
    def installed(self) -> bool:
        """Whether there is an `ollama` command here, or the server is another machine's."""
        return not self.address.loopback or shutil.which("ollama") is not None

    def server(self) -> Server:
        """Requests to the server; raises Offline where it is another machine and that is forbidden."""
        self.allowed()
        if self._http is None:
            key = os.environ.get("OLLAMA_API_KEY", "")  # as the `ollama` client does
            self._http = Server(
                self.address.url, key=key if key.isascii() and key.isprintable() else "", loopback=self.address.loopback
            )
        return self._http

    def allowed(self) -> None:
        """Raise Offline where the server is another machine and that is forbidden."""
        require_network(self.address.hostname, "Ollama on another machine")

    def version(self, deadline_s: float) -> str:
        """What the server says its version is; raises Fault."""
        return text_of(as_object(self.server().json("GET", "/api/version", deadline_s=deadline_s)), "version")

    def tags(self, deadline_s: float = LIST_S) -> list[ModelInfo]:
        """The installed models; raises Fault."""
        return [wire.info(entry) for entry in wire.entries(self.server().json("GET", "/api/tags", deadline_s=deadline_s))]

    def models(self) -> list[ModelInfo]:
        """The installed models."""
        with self.translating():
            return self.tags()

    @contextmanager
    def translating(self, model: str = "") -> Iterator[None]:
        """Raise `data.errors` for every Fault."""
        try:
            yield
        except Fault as fault:
            raise self.translated(fault, model) from fault

    def translated(self, fault: Fault, model: str) -> PointsmanError:
        """The error for a fault that came before anything had arrived."""
        if isinstance(fault, Refusal):
            no_model = wire.NO_SUCH_MODEL.search(fault.text) or (fault.status == 404 and fault.structured)
            return self._missing(model) if no_model else wire.refused(fault, model, self.host)
        if isinstance(fault, Unreachable):
            return self._absent(fault)
        if isinstance(fault, Stalled):
            fix = "it may be busy or still loading: try again, or raise ollama.stall_s"
            return EngineUnavailable(f"Ollama at {self.host} does not answer: {fault}", fix)
        if isinstance(fault, Garbled):
            return EngineUnavailable(f"what answers at {self.host} does not speak Ollama's language: {fault}", "check ollama.host")
        return EngineUnavailable(f"Ollama at {self.host} hung up before it answered: {fault}", "try again; its log says why")

    def close(self) -> None:
        """Close the connections. It may be used again afterwards."""
        if self._http:
            self._http.close()
        self._http = None

    def _absent(self, fault: Unreachable) -> PointsmanError:
        if not self.address.loopback:
            fix = "start it there, or: pointsman config set ollama.host HOST:PORT"
            return EngineUnavailable(f"no Ollama answers at {self.host}: {fault}", fix)
        if not self.installed:
            return EngineUnavailable(
                f"Ollama is not installed: nothing answers at {self.host}, and there is no ollama command", INSTALL
            )
        return EngineUnavailable(f"Ollama is installed but not running: nothing answers at {self.host}", "start it: ollama serve")

    def _missing(self, model: str) -> PointsmanError:
        try:
            names = [info.name for info in self.models()]
        except EngineError:
            return ModelMissing(f"Ollama has no model {model!r}", f"pointsman models pull ollama/{model}")
        if not names:
            return ModelMissing(f"Ollama runs but has no model, so not {model!r}", FIRST_MODEL)
        near = difflib.get_close_matches(model, names, n=3, cutoff=0.4) or names[:3]
        return ModelMissing(f"Ollama has no model {model!r}", f"pointsman models pull ollama/{model}; installed: {', '.join(near)}")
