"""The models' screen: engines with their models, getting with progress, stopping, preparing, removing, the default, faults."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from chatting import scenario
from screens import NARROW, WIDE, Opened, opened

from data import config
from data.errors import EngineRejected, EngineUnavailable, ModelMissing
from router.engines import Engines
from router.engines.base import ModelInfo, PullProgress
from router.engines.echo import Echo
from tui.screens.stock import StockScreen


class Shelf(Echo):
    """An engine with two models, whose downloads stop halfway until they are let go."""

    name = "ollama"

    def __init__(self) -> None:
        super().__init__(["x"])
        self.names = ["llama3.2:1b", "odd\x1b[31m[bold]"]
        self.go_on = threading.Event()
        self.closed = False

    def models(self) -> list[ModelInfo]:
        return [ModelInfo(name, "ollama", 1_300_000_000, 8192, "1.2B", "Q8_0", "llama") for name in self.names]

    def show(self, model: str) -> dict[str, object]:
        if model not in self.names:
            raise ModelMissing(f"ollama has no model {model!r}", "see: pointsman models list")
        return {"family": "llama\x1b[31m", "details": {"format": "gguf"}, "stop": list(range(99))}

    def pull(self, model: str) -> Iterator[PullProgress]:
        try:
            if model == "none":
                raise ModelMissing("there is no model 'none' in the library", "look at ollama.com/library")
            yield PullProgress("pulling manifest")
            for done in range(0, 100, 10):
                if done == 50:
                    while not self.go_on.wait(0.01):
                        yield PullProgress("downloading", done, 100)
                yield PullProgress("downloading", done, 100)
            self.names.append(model)
        finally:
            self.closed = True

    def delete(self, model: str) -> None:
        self.names.remove(model)


class Away(Echo):
    name = "llamacpp"

    def models(self) -> list[ModelInfo]:
        raise EngineUnavailable("llama.cpp is not installed", "pip install llama-cpp-python")


class Embedded(Echo):
    name = "llamacpp"

    def models(self) -> list[ModelInfo]:
        return [ModelInfo("smollm2-135m", "llamacpp", 91_700_000, 8192, "135M", "Q4_1", "smollm2")]

    def show(self, model: str) -> dict[str, object]:
        return {"family": "smollm2"}

    def delete(self, model: str) -> None:
        raise EngineRejected("llamacpp deletes no models")


def screen(shelf: Shelf, local: Echo | None = None) -> StockScreen:
    return StockScreen(Engines(config.load(), {"ollama": shelf, "llamacpp": local or Embedded(["x"])}))


async def twice(driven: Opened, key: str) -> None:
    await driven.press(key)
    assert "the same key does it" in driven.note
    await driven.press(key)


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@scenario
async def test_models_are_shown_made_the_default_and_removed(size: tuple[int, int]) -> None:
    shelf = Shelf()
    async with opened(lambda: screen(shelf), size) as driven:
        assert "● smollm2-135m" in driven.text and "odd␛[31m[bold]" in driven.text
        await driven.go("model:ollama/llama3.2:1b")
        await driven.until(lambda: "details.format: gguf" in driven.about)
        assert "family: llama␛[31m" in driven.about and "(99 items)" in driven.about
        await driven.press("d")
        await driven.until(lambda: config.load().model == "ollama/llama3.2:1b")
        await driven.until(lambda: "● llama3.2:1b" in driven.text)
        await twice(driven, "x")
        await driven.until(lambda: "is removed" in driven.note and "model:ollama/llama3.2:1b" not in driven.rows)
        await driven.go("model:llamacpp/smollm2-135m")
        await twice(driven, "x")
        await driven.until(lambda: "deletes no models" in driven.note)


@scenario
async def test_a_model_is_got_with_progress_and_stopped() -> None:
    shelf = Shelf()
    async with opened(lambda: screen(shelf)) as driven:
        await driven.press("g", "enter")
        assert "name a model" in driven.note
        await driven.enter("phi3:mini")
        await driven.until(lambda: "getting phi3:mini: 50%" in driven.note)
        await driven.press("c")
        await driven.until(lambda: "was stopped; getting it again goes on" in driven.note and shelf.closed)
        await driven.press("g")
        shelf.closed = False
        await driven.enter("phi3:mini")
        await driven.until(lambda: "50%" in driven.note)
        await driven.press("escape")
        assert "stop the download?" in driven.note and not driven.app.left
        shelf.go_on.set()
        await driven.until(lambda: "model:ollama/phi3:mini" in driven.rows)
        await driven.press("g")
        await driven.enter("none")
        await driven.until(lambda: "there is no model 'none' in the library" in driven.note)
        await driven.press("escape")
        await driven.until(lambda: driven.app.left)


@scenario
async def test_an_engine_that_is_away_is_a_row_with_what_mends_it_and_the_encoder_is_in_the_catalog() -> None:
    async with opened(lambda: screen(Shelf(), Away(["x"])), NARROW) as driven:
        await driven.go("engine:llamacpp")
        assert "llama.cpp is not installed" in driven.about and "pip install llama-cpp-python" in driven.about
        await driven.go("catalog:minilm-l6")
        assert "finding what texts have in common" in driven.about


@scenario
async def test_preparing_says_what_runs_now(monkeypatch: pytest.MonkeyPatch) -> None:
    from data.catalog import Prepared
    from export import embedded

    def prepare(name: str, progress: object) -> Prepared:
        progress(f"preparing {name}: trying Q8_0")  # type: ignore[operator]
        return Prepared.model_construct(name=name, form="Q8_0", why="it is the fastest here")

    monkeypatch.setattr(embedded, "prepare", prepare)
    async with opened(lambda: screen(Shelf())) as driven:
        await driven.go("model:llamacpp/smollm2-135m")
        await driven.press("p")
        await driven.until(lambda: "smollm2-135m: Q8_0 runs; it is the fastest here" in driven.note)


def test_a_stopped_download_closes_its_stream() -> None:
    shelf = Shelf()
    with closing(shelf.pull("x")) as steps:  # type: ignore[type-var]
        next(steps)
    assert shelf.closed
