"""The models of this machine over all engines: what there is, how each engine stands, and where a new one would come from.

What `pointsman models` and the models' screen show. Slow; call it in a thread. Not covered: a new chat's short list (`survey`).
"""

from typing import TYPE_CHECKING, Any

from data.errors import PointsmanError
from data.sanitise import one_line

if TYPE_CHECKING:
    from router.engines import Engines
    from router.engines.base import Engine, ModelInfo

HIDDEN = ("echo",)
"""Engines that are not listed: the echo answers nothing; it is there for tests and `ask --model echo`."""
MANY = 12
"""Items of a list beyond which only their number is told."""


def survey(engines: "Engines") -> "tuple[list[ModelInfo], list[dict[str, str]]]":
    """All models, the embedded one's engine first, and every engine's state with what would mend it."""
    models: list[ModelInfo] = []
    states = []
    for name in sorted(engines.names(), key=lambda name: (name != "llamacpp", name)):
        if name in HIDDEN:
            continue
        state = {"name": name, "state": "ready", "detail": "", "fix": ""}
        if name == "openai_compatible" and not engines.settings.openai_compatible.url:
            fix = "pointsman config set openai_compatible.url http://HOST:PORT/v1"
            states.append(state | {"state": "not set", "detail": "no server is set", "fix": fix})
            continue
        try:
            engine = engines.get(name)
            found = engine.models()
            models += found
            if not found:
                state |= {"state": "no models", "detail": "it runs but has no model"}
        except PointsmanError as fault:
            state |= {"state": "unavailable", "detail": fault.what, "fix": fault.fix}
        states.append(state | (_ollama_state(engines) if name == "ollama" and state["state"] != "ready" else {}))
    return models, states


def installed(name: str) -> bool:
    """Whether the package of a model of the catalog is there."""
    from data import catalog
    from data.errors import ModelMissing

    try:
        catalog.source_file(catalog.specs()[name])
    except ModelMissing:
        return False
    return True


def _ollama_state(engines: "Engines") -> dict[str, str]:
    """Ollama's own word on why it has no models: not installed, not running, or none pulled yet."""
    status: Any = engines.get("ollama").status()  # type: ignore[attr-defined]
    return {"state": status.state, "detail": status.detail, "fix": status.fix}


def default(engines: "Engines") -> str:
    """The default model's reference; what the settings say where it cannot be resolved now."""
    try:
        return engines.resolve("auto").reference
    except PointsmanError:
        return engines.settings.model


def source(engines: "Engines", model: str) -> "tuple[Engine, str]":
    """The engine that downloads a model of that name, Ollama unless it names another, and the model's name there."""
    prefix, slash, name = model.partition("/")
    engine = engines.get(prefix if slash and prefix in engines.names() else "ollama")
    return engine, name if slash and prefix == engine.name else model


def leaves(name: str, value: Any) -> list[tuple[str, Any]]:
    """What is told of a model as dotted names with their values."""
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in leaves(f"{name}.{key}", inner)]
    return [(name, value)]


def short(value: Any) -> str:
    """A value on one line, long ones cut: templates and licences run over pages, and --json has them whole."""

    if isinstance(value, list) and len(value) > MANY:
        return f"({len(value)} items)"
    return one_line(value if isinstance(value, str) else str(value), 200)
