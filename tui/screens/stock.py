"""The models of this machine, of every engine and of the catalog, with what each tells of them; getting, preparing, removing.

Not covered: choosing the model of a chat (`tui.screens.models`), which of them answers a domain (`tui.screens.registry`).
"""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message

from data import catalog, config
from data.catalog import ModelSpec
from data.errors import InputError
from data.sanitise import one_line
from tui import output, screen_keys, stock
from tui.screens.browse import Browse
from tui.screens.picker import Row
from tui.screens.words import blocks, lines, muted, named, title

if TYPE_CHECKING:
    from router.engines import Engines
    from router.engines.base import ModelInfo

TOLD_S = 0.2
"""Seconds between two words about a download."""
LEAVES = 80
"""Lines of what an engine tells of a model, at most."""


@dataclass(frozen=True, slots=True)
class Everything:
    """What the screen lists. raw: models of the catalog that have no form for this processor; other: those that do not chat."""

    models: "tuple[ModelInfo, ...]" = ()
    engines: tuple[dict[str, str], ...] = ()
    default: str = ""
    raw: frozenset[str] = frozenset()
    other: tuple[ModelSpec, ...] = ()


class StockScreen(Browse):
    """Models and engines."""

    @dataclass
    class Going(Message):
        """How far a download or preparing is."""

        words: str

    BINDINGS: ClassVar[list[BindingType]] = [*screen_keys.MODELS]
    CONTEXTS = ("Rows and details", "Models")
    HEADING = "Models of this machine"

    def __init__(self, engines: "Engines") -> None:
        super().__init__()
        self._engines = engines
        self._found = Everything()
        self._stop: threading.Event | None = None

    def read(self) -> Everything:
        """See `Browse.read`."""
        from export import embedded

        models, states = stock.survey(self._engines)
        specs = catalog.specs()
        chats = {model.name for model in models}
        other = tuple(spec for spec in specs.values() if spec.name not in chats)
        default = config.load().model  # as it is set now, which may be newer than this session's settings
        standing = stock.default(self._engines) if default in ("", "auto") else default
        return Everything(tuple(models), tuple(states), standing, frozenset(embedded.needed()), other)

    def draw(self, found: Everything) -> None:
        """See `Browse.draw`."""
        self._found = found
        self.show(list(self._listed()))

    def about(self, key: str) -> Content | None:
        """See `Browse.about`."""
        kind, _, name = key.partition(":")
        if kind == "engine":
            state = next(state for state in self._found.engines if state["name"] == name)
            return lines(title(name), Content(one_line(state["detail"] or state["state"], 400)), named("to mend it", state["fix"]))
        if kind == "catalog":
            return _spec(next(spec for spec in self._found.other if spec.name == name), name in self._found.raw)
        return None

    def look(self, key: str) -> Content:
        """See `Browse.look`: what the engine tells of a model."""
        found = self._engines.resolve(key.partition(":")[2])
        leaves = [leaf for name, value in found.engine.show(found.model).items() for leaf in stock.leaves(name, value)]
        spec = catalog.specs().get(found.model)
        return blocks(
            lines(title(found.reference), muted("the default of new chats" if found.reference == self._found.default else "")),
            _spec(spec, spec.name in self._found.raw) if spec else Content(),
            lines(*(_leaf(name, stock.short(value)) for name, value in leaves[:LEAVES])),
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys are for what the highlighted row is."""
        kind, _, name = (self.highlighted if self.is_mounted and self._rows else "").partition(":")
        if action in ("default", "remove"):
            return kind == "model"
        if action == "prepare":
            return name.rpartition("/")[2] in catalog.specs()
        return self._stop is not None if action == "stop" else True

    def action_leave(self) -> None:
        """Leaving stops a download, once asked back."""
        if self._asked is None and self._stop is not None and not self.sure("leave", "stop the download? it can be gone on with;"):
            return
        self.action_stop()
        super().action_leave()

    def action_default(self) -> None:
        """Answer with the highlighted model in new chats."""
        name = self.highlighted.partition(":")[2]
        self.do("…", lambda: self._defaulted(name))

    def action_pull(self) -> None:
        """Ask for a name, and download it."""
        if self._stop is None:
            self.ask("a model to get, as llama3.2:1b", self._get, check=lambda name: "" if name.strip() else "name a model")

    def action_prepare(self) -> None:
        """Make the fastest form for this processor."""
        name = self.highlighted.rpartition("/")[2].rpartition(":")[2]
        self.do(f"preparing {name} …", lambda: self._prepared(name))

    def action_remove(self) -> None:
        """Remove the highlighted model, once asked back."""
        name = self.highlighted.partition(":")[2]
        if self.sure(f"remove {name}", f"remove {one_line(name, 60)} from the disk?"):
            self.do(f"removing {name} …", lambda: self._removed(name))

    def action_stop(self) -> None:
        """Stop the download."""
        if self._stop is not None:
            self._stop.set()

    @on(Going)
    def _goes_on(self, message: Going) -> None:
        if self._asked is None and not self._sure:
            self.note(message.words)

    def _get(self, name: str) -> None:
        self._stop = threading.Event()
        self.refresh_bindings()
        self.do(f"getting {name} …", lambda: self._pulled(name.strip(), self._stop or threading.Event()))

    # In threads

    def _defaulted(self, name: str) -> str:
        config.change("model", name)
        return f"{name} is the default from the next start on; ctrl+l takes it in this chat"

    def _pulled(self, name: str, stop: threading.Event) -> str:
        told, began, first = 0.0, time.monotonic(), -1
        try:
            engine, model = stock.source(self._engines, name)
            with closing(engine.pull(model)) as steps:  # type: ignore[type-var]
                for step in steps:
                    if stop.is_set():
                        raise InputError(f"getting {name} was stopped", "getting it again goes on where it stopped")
                    first = step.done_bytes if first < 0 and step.total_bytes else first
                    if time.monotonic() - told > TOLD_S:
                        told = time.monotonic()
                        self.post_message(
                            self.Going(_going(name, step.status, step.done_bytes, step.total_bytes, first, told - began))
                        )
            return f"{engine.name}/{model} is ready"
        finally:
            self._stop = None

    def _prepared(self, name: str) -> str:
        from export import embedded

        made = embedded.prepare(name, lambda line: self.post_message(self.Going(line)))
        return f"{made.name}: {made.form} runs; {made.why}"

    def _removed(self, name: str) -> str:
        found = self._engines.resolve(name)
        found.engine.show(found.model)  # whether it is there
        found.engine.delete(found.model)
        return f"{found.reference} is removed"

    def _listed(self) -> Iterator[Row]:
        found = self._found
        for state in found.engines:
            mine = [model for model in found.models if model.engine == state["name"]]
            yield Row("" if mine else f"engine:{state['name']}", _engine(state))
            for model in mine:
                yield Row(f"model:{model.reference}", _model(model, found.default, model.name in found.raw))
        if found.other:
            yield Row("", title("the rest of the catalog"))
        for spec in found.other:
            yield Row(f"catalog:{spec.name}", Content.assemble("  ", spec.name, muted(f"  {spec.kind}, {spec.parameters}", 80)))


def _engine(state: dict[str, str]) -> Content:
    words = "" if state["state"] == "ready" else f"  {state['state']}"
    return Content.assemble(title(state["name"]), muted(words, 60))


def _model(model: "ModelInfo", default: str, raw: bool) -> Content:
    facts = [
        model.parameters,
        model.quantisation,
        output.size(model.size_bytes) if model.size_bytes else "",
        "not prepared" if raw else "",
    ]
    mark = "●" if model.reference == default else " "
    return Content.assemble(f"{mark} ", one_line(model.name, 80), muted(f"  {' · '.join(fact for fact in facts if fact)}", 80))


def _spec(spec: ModelSpec, raw: bool) -> Content:
    form = catalog.prepared(spec.name)
    return lines(
        Content(spec.title),
        named("for", "chat" if spec.kind == "chat" else "finding what texts have in common"),
        named("parameters", spec.parameters),
        named("context", f"{spec.context:,} tokens"),
        named("licence", spec.licence),
        named("runs as", "not prepared for this processor: p" if raw or form is None else f"{form.form}, {form.why}"),
    )


def _leaf(name: str, value: str) -> Content:
    return Content.assemble(muted(f"{one_line(name, 60)}: "), value)


def _going(name: str, status: str, done: int, total: int, first: int, seconds: float) -> str:
    """How far a download is, with the time left."""
    if not total:
        return f"getting {name}: {status}"
    gained = done - first
    left = f", {output.duration((total - done) * seconds / gained)} left" if gained > 0 and seconds > 1 else ""
    return f"getting {name}: {done / total:.0%}, {output.size(done)} of {output.size(total)}{left}"
