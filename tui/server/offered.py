"""The models that clients may name: `auto`, and all that the engines list.

A path is no name here: which files of this machine are read is not for a client to say. Not covered: pulling and removing.
"""

import difflib
import threading
import time
from collections import defaultdict
from typing import Any

from data import catalog
from data.errors import EngineError, ModelError, ModelMissing, Offline
from data.sanitise import one_line
from router import modes
from router.engines import Engines
from router.engines.base import ModelInfo
from tui.server.lines import IN_PROCESS

AUTO = modes.AUTO
"""The name under which the router chooses."""
FRESH_S = 5.0
"""Seconds for which an engine's list is good."""
STALE_S = 60.0
"""Seconds for which it is good enough to name a model in the metrics."""
HIDDEN = ("echo",)
"""Engines that are not listed; they answer to their whole name."""


class Offered:
    """The lists of one server's engines. Any thread may call; a listing may ask a server and take its time."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._found: dict[str, tuple[float, list[ModelInfo]]] = {}

    def all(self) -> list[ModelInfo]:
        """The models ready to run; engines that cannot be reached have none."""
        return [info for name in self._listed() for info in self._of(name)]

    def reference(self, name: str) -> str:
        """The model that a client names, as `engine/name`; "" for auto. Raises ModelMissing with the nearest names."""
        if name.removesuffix(":latest") in ("", AUTO):
            return ""
        prefix, slash, rest = name.partition("/")
        engine = prefix if slash and rest and prefix in self._engines.names() else ""
        if engine and engine not in IN_PROCESS:
            return name  # its server knows best
        found = self._search(name, [engine] if engine else self._listed())
        if found is None:
            known = [AUTO, *(info.reference for info in self.all())]
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            raise ModelMissing(
                f"there is no model {one_line(name)!r}", f"did you mean {', '.join(near)}?" if near else "see: /v1/models"
            )
        return found.reference

    def info(self, name: str) -> ModelInfo:
        """What is known of a model; raises ModelMissing. For auto, its name alone."""
        reference = self.reference(name)
        if not reference:
            return ModelInfo(AUTO, "")
        prefix = reference.partition("/")[0]
        found = self._search(reference, [prefix])
        if found is None:
            raise ModelMissing(f"there is no model {one_line(name)!r}", "see: /v1/models")
        return found

    def abilities(self, info: ModelInfo) -> list[str]:
        """What a model can do, in Ollama's words; raises PointsmanError."""
        if not info.engine:
            return ["completion"]
        specs = catalog.specs()
        if info.engine in IN_PROCESS and info.name in specs and specs[info.name].kind != "chat":
            return ["embedding"]
        engine = self._engines.get(info.engine)
        asked: dict[str, Any] = {"tools": engine.can_call, "thinking": engine.can_think}
        return ["completion", *(name for name, can in asked.items() if can(info.name))]

    def label(self, reference: str) -> str:
        """The model's name for the metrics: itself where its engine lists it, since else it is a client's text."""
        engine = reference.partition("/")[0]
        if engine not in self._engines.names():
            return "none"
        listed = any(info.reference == reference for info in self._of(engine, STALE_S))
        return reference if listed else f"{engine}/other"

    def _search(self, name: str, engines: list[str]) -> ModelInfo | None:
        wanted = {name, f"{name}:latest", name.removesuffix(":latest")}
        for engine in engines:
            for info in self._of(engine):
                if info.reference in wanted or info.name in wanted:
                    return info
        return None

    def _listed(self) -> list[str]:
        url = self._engines.settings.openai_compatible.url
        names = [name for name in self._engines.names() if name not in HIDDEN and (url or name != "openai_compatible")]
        return sorted(names, key=lambda name: (name not in IN_PROCESS, name))  # what needs no server is looked through first

    def _of(self, engine: str, age_s: float = FRESH_S) -> list[ModelInfo]:
        with self._locks[engine]:
            at, found = self._found.get(engine, (float("-inf"), []))
            if time.monotonic() - at > age_s:
                found = self._ask(engine)
                self._found[engine] = (time.monotonic(), found)
            return found

    def _ask(self, engine: str) -> list[ModelInfo]:
        try:
            return self._engines.get(engine).models()
        except (EngineError, ModelError, Offline):
            return []
