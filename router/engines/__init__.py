"""All engines, found by file name and made on first use: `Engines(settings).resolve("ollama/llama3.2:1b")`.

A model reference is `engine/name`. A bare name is looked for in the catalog and among GGUF files first, then on the
servers. Modules whose name begins with an underscore are parts of engines, not engines.
"""

import difflib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from data import catalog
from data.config import Settings
from data.errors import EngineError, ModelMissing, Offline
from router.engines.base import Engine

EMBEDDED = "smollm2-135m"
"""The catalog name of the chat model that is always there."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model found: the engine that runs it and its name there."""

    engine: Engine
    model: str

    @property
    def reference(self) -> str:
        """The unambiguous name, `engine/name`."""
        return f"{self.engine.name}/{self.model}"


class Engines:
    """The engines of one process. `made` puts ready engines in place of those that settings would build."""

    def __init__(self, settings: Settings, made: Mapping[str, Engine] | None = None) -> None:
        self.settings = settings
        self._made: dict[str, Engine] = dict(made or {})

    def names(self) -> list[str]:
        """Every engine's name, sorted."""
        found = {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")}
        return sorted((found - {"base", "structure"}) | set(self._made))

    def get(self, name: str) -> Engine:
        """The engine of that name, built on first use; raises ModelMissing where there is none."""
        if name not in self._made:
            if name not in self.names():
                raise ModelMissing(f"there is no engine {name!r}", f"engines: {', '.join(self.names())}")
            module: Any = import_module(f"{__name__}.{name}")
            self._made[name] = module.build(self.settings)
        return self._made[name]

    def resolve(self, reference: str) -> Resolved:
        """The engine and model that `reference` names; "" and "auto" are the default model.

        Raises ModelMissing with the nearest names. A reference with an engine's prefix is not checked further here: the
        engine itself says what is wrong, so that no server is asked twice.
        """
        if reference in ("", "auto"):
            default = self.settings.model
            return Resolved(self.get("llamacpp"), EMBEDDED) if default in ("", "auto") else self.resolve(default)
        prefix, slash, name = reference.partition("/")
        if slash and prefix in self.names():  # an empty name is the engine's own default
            return Resolved(self.get(prefix), name)
        if reference in catalog.specs():
            return Resolved(self.get("llamacpp"), reference)
        if reference == "echo":
            return Resolved(self.get("echo"), "echo")
        file = Path(reference).expanduser()
        if reference.endswith(".gguf") or file.is_file():
            return Resolved(self.get("llamacpp"), str(file.absolute()))
        return self._search(reference)

    def close(self) -> None:
        """Close every engine that was built."""
        for engine in self._made.values():
            engine.close()

    def _search(self, name: str) -> Resolved:
        known: list[str] = []
        away: list[str] = []
        for engine_name in ("llamacpp", "ollama", "openai_compatible"):
            if engine_name == "openai_compatible" and not self.settings.openai_compatible.url:
                continue
            try:
                names = [info.name for info in self.get(engine_name).models()]
            except (EngineError, Offline) as error:
                away.append(error.what)
                continue
            for candidate in (name, f"{name}:latest"):
                if candidate in names:
                    return Resolved(self.get(engine_name), candidate)
            known += names
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        also = f" ({'; '.join(away)})" if away else ""
        raise ModelMissing(
            f"no model {name!r} was found{also}", f"did you mean {', '.join(near)}?" if near else "see: pointsman models list"
        )
