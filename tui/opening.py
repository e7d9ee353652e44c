"""Opening what a verb needs, in one place and in the order that makes the first token come soonest.

A local model is read while the main thread imports and opens the store; the embedded model is prepared for this processor
at first use. Not covered: the chat, which opens the same parts behind its first frame.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from data import config
from data.errors import EngineUnavailable, NotFound, PointsmanError
from tui import output

if TYPE_CHECKING:
    from data.config import Settings
    from data.store import Store
    from router.engines import Engines


def settings(**flags: Any) -> "Settings":
    """The settings of this run; flags are dotted keys with __ for the dot, None where not given. Raises SettingsError."""
    return config.load({key.replace("__", "."): value for key, value in flags.items()})


@contextmanager
def engines(settings: "Settings") -> "Iterator[Engines]":
    """The engines of this process, closed at the end."""
    from router.engines import Engines

    opened = Engines(settings)
    try:
        yield opened
    finally:
        opened.close()


class Warming:
    """A local model on its way into memory while other things are done.

    reference: the model that was asked for, None for the default; certain: whether the answer will come from that model,
    which in an older conversation only the log can tell. Nothing happens for a model that a server runs, or that only a
    server could tell to exist.
    """

    def __init__(self, engines: "Engines", reference: str | None, certain: bool) -> None:
        self._engines = engines
        self._certain = certain
        self._model = local_model(engines, reference or engines.settings.model)
        self._started = False
        if self._model and not preparation_needed(self._model):
            self._start()

    def finish(self) -> None:
        """Prepare an embedded model that needs it, and begin to read the model where that has not begun."""
        if self._model and self._certain and not self._started:
            prepare(self._model)
            self._start()

    def _start(self) -> None:
        engine: Any = self._engines.get("llamacpp")
        threading.Thread(target=_preload, args=(engine, self._model), name="preload", daemon=True).start()
        self._started = True


def local_model(engines: "Engines", reference: str) -> str:
    """The llama.cpp model that `reference` means, "" where it means another engine's or a server would have to be asked."""
    from data import catalog

    specs = catalog.specs()
    embedded = reference in ("", "auto") or (reference in specs and specs[reference].kind == "chat")
    if embedded or reference.endswith(".gguf") or reference.startswith("llamacpp/"):
        found = engines.resolve(reference)
        return found.model if found.engine.name == "llamacpp" else ""
    return ""


def _preload(engine: Any, model: str) -> None:
    """Read the model; where that fails, the answer meets the same fault in the main thread and reports it."""
    with contextlib.suppress(PointsmanError):
        engine.preload(model)


@contextmanager
def store(url: str) -> "Iterator[Store]":
    """The store at `url` ("": the file in the data folder), closed at the end."""
    from data.store import open_store

    with open_store(url) as opened:
        for words in retained(opened, config.load().store.keep_days):
            output.note(words)
        yield opened


def retained(store: "Store", days: int) -> list[str]:
    """Let conversations go that are older than `store.keep_days`, as a start does; what is to be told about it."""
    if not days:
        return []
    from data import retention

    found = retention.at_start(store, days)
    if found is None:
        return []
    counts = f"{found.conversations} conversations and {found.files} diagnostic files are older than {days} days"
    if found.waits is None:
        return [f"{counts}: they were forgotten, as store.keep_days says"]
    return [f"{counts} and go from {found.waits:%Y-%m-%d %H:%M} UTC on; to keep them: pointsman config set store.keep_days 0"]


def conversation(store: "Store", go_on: bool, key: str | None) -> str | None:
    """The conversation to go on with: that of the id, the newest, or None for a new one. Raises NotFound."""
    if key:
        from tui import lookup

        return lookup.conversation_id(store, key)
    if not go_on:
        return None
    newest = store.log.conversations(limit=1)
    if not newest:
        raise NotFound("there is no conversation to go on with", 'begin one: pointsman ask "..."')
    return newest[0].id


def preparation_needed(model: str) -> bool:
    """Whether `model` comes with Pointsman and has no form yet that was made for this processor."""
    from export import embedded

    try:
        return model in embedded.needed()
    except EngineUnavailable:
        return False  # there is no llama.cpp, and the answer will say so


def prepare(model: str) -> None:
    """Prepare an embedded model for this processor where that is needed, once, with a line a step on stderr.

    Where it fails a line says so, and the packaged file runs.
    """
    from export import embedded

    if not preparation_needed(model):
        return
    output.note("first use on this processor: the embedded model is prepared, once")
    try:
        embedded.prepare(model, output.note)
    except PointsmanError as fault:
        output.note(f"{model} could not be prepared and runs as it was packaged: {fault}")


def prepare_named(engines: "Engines", references: Iterable[str], encoder: bool = False) -> None:
    """As `prepare`, for those of the references that come with Pointsman, and the sentence encoder where it is asked for."""
    from router.encoder import ENCODER

    for reference in references:
        if local := local_model(engines, reference):
            prepare(local)
    if encoder:
        prepare(ENCODER)
