"""Answers of llama.cpp that are ended within a computation, at any node of it, and what comes after them."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_checkpoints
import tiny_gguf

from data.chat import Message
from data.config import LlamaCppSettings, Sampling
from data.errors import Cancelled
from export import gguf
from router.cancelling import Cancellation, current, heeding
from router.engines._llamacpp import aborting, bindings
from router.engines._llamacpp.context import Context
from router.engines._llamacpp.model import NODE_FLOP, LoadedModel
from router.engines.base import Adapter, Request
from router.engines.llamacpp import LlamaCpp
from router.engines.structure import Literal, Select, Series, Structure

GREEDY = Sampling(temperature=0, repeat_penalty=1.0)
HOT = Sampling(temperature=1.5, seed=5, top_k=0, min_p=0)
LABELS = Structure(
    Series((Literal('{"label": '), Select("label", ('"ONE"', '"TWO"', '"THREE"'), ("ONE", "TWO", "THREE")), Literal("}"))),
    {"type": "object", "properties": {"label": {"enum": ["ONE", "TWO", "THREE"]}}, "required": ["label"]},
)


class Nodes:
    """In place of C's question whether to go on: counts the nodes, and cancels at the one that is named."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = 0
        self.last = -1
        self.cancellation = Cancellation()
        self._callback = bindings.api().ggml_abort_callback(self._look)
        monkeypatch.setattr(aborting, "_asks", lambda api: self._callback)

    def _look(self, _: Any) -> bool:
        self.seen += 1
        if self.seen == self.last:
            self.cancellation.cancel()
        return self.cancellation.cancelled

    def during(self, work: Callable[[], object], last: int = -1) -> int:
        """Do the work, to be cancelled at that node (-1: never); how many nodes it had."""
        self.seen, self.last, self.cancellation = 0, last, Cancellation()
        with heeding(self.cancellation):
            work()
        return self.seen


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    return Nodes(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    tiny_gguf.bpe_model(folder / "tiny.gguf", context=1024, layers=2)
    tiny_gguf.encoder(folder / "encoder.gguf")
    windowed = tiny_checkpoints.checkpoint(folder / "windowed", "gemma2", spm=True, query_pre_attn_scalar=8, sliding_window=48)
    gguf.write(windowed, folder / "windowed.gguf", "F32")
    tiny_gguf.adapter(folder / "adapter.gguf", folder / "tiny.gguf", strength=1.0)
    return folder


@pytest.fixture
def engine(folder: Path) -> Iterator[LlamaCpp]:
    made = fresh(folder)
    yield made
    made.close()


def fresh(folder: Path) -> LlamaCpp:
    return LlamaCpp(LlamaCppSettings(context=1024, threads=1, batch=64, folders=(str(folder),)))


def request(text: str, model: str = "tiny", sampling: Sampling = GREEDY, max_tokens: int = 16, **more: Any) -> Request:
    return Request(model, (Message("user", text),), sampling=sampling, max_tokens=max_tokens, **more)


def said(engine: LlamaCpp, wanted: Request) -> str:
    return "".join(chunk.text for chunk in engine.stream(wanted))


def cold(folder: Path, work: Callable[[LlamaCpp], Any]) -> Any:
    """What an engine says that has computed nothing before."""
    made = fresh(folder)
    try:
        return work(made)
    finally:
        made.close()


def context_of(engine: LlamaCpp, adapter: Adapter | None = None) -> Context:
    (model,) = [slot.model for slot in engine._slots.values() if slot.model is not None]
    return model.context(adapter)


def logits(context: Context) -> bytes:
    """Of the last token, to the bit."""
    found = context._api.llama_get_logits_ith(context.pointer, -1)
    size = context._api.llama_vocab_n_tokens(context._api.llama_model_get_vocab(context._model))
    return bytes(np.ctypeslib.as_array(found, (size,)))


def cache_holds_its_tokens(context: Context) -> bool:
    ask = context._api.llama_memory_seq_pos_max
    return ask(context.memory, 0) + 1 == len(context.tokens) and all(
        ask(context.memory, other) == -1 for other in range(1, context.sequences)
    )


@pytest.mark.parametrize("model", ["tiny", "windowed", "adapted"])
@pytest.mark.parametrize("sampling", [GREEDY, HOT], ids=["greedy", "drawn"])
def test_wherever_an_answer_is_cancelled_no_later_one_differs(
    folder: Path, engine: LlamaCpp, nodes: Nodes, model: str, sampling: Sampling
) -> None:
    more = {"adapter": Adapter(str(folder / "adapter.gguf"))} if model == "adapted" else {}
    name = "tiny" if model == "adapted" else model
    wanted = request("the capital of France is " * (17 if model == "windowed" else 24), name, sampling, **more)
    other = request("hello a b " * 9, name, sampling, **more)
    expected, of_other = (cold(folder, lambda made, one=one: said(made, one)) for one in (wanted, other))
    total = nodes.during(lambda: cold(folder, lambda made: said(made, wanted)))
    places = [1, 2, *np.random.default_rng(3).integers(3, total, 9).tolist(), total - 1, total]
    for number, place in enumerate(places):
        if number % 4 == 0:
            engine.close()  # so that a small context grows anew
        said(engine, other)
        context_of(engine, *more.values()).clear()
        with pytest.raises(Cancelled):
            nodes.during(lambda: said(engine, wanted), place)
        assert nodes.seen == place  # it ended at that very node
        assert cache_holds_its_tokens(context_of(engine, *more.values()))
        assert said(engine, wanted) == expected
        assert said(engine, other) == of_other


def test_logits_after_a_cancelled_reading_are_the_same_to_the_bit(folder: Path, engine: LlamaCpp, nodes: Nodes) -> None:
    tokens = list(np.random.default_rng(0).integers(0, 250, 300))

    def read(context: Context) -> bytes:
        for part in [*context.batches(context.keep(tokens), len(tokens) - 1), slice(len(tokens) - 1, len(tokens))]:
            context.read([int(token) for token in tokens[part]])
        return logits(context)

    said(engine, request("hello", max_tokens=1))
    context = context_of(engine)
    expected = read(context)
    context.clear()
    context.heed(nodes.cancellation)
    nodes.seen = 0
    read(context)
    total = nodes.seen
    for place in range(1, total, total // 25):
        context.clear()
        nodes.seen, nodes.last, nodes.cancellation = 0, place, Cancellation()
        context.heed(nodes.cancellation)
        with pytest.raises(Cancelled):
            read(context)
        before = len(context.tokens)
        assert cache_holds_its_tokens(context)
        assert before % 64 == 0 or before == len(tokens) - 1  # whole batches stay
        context.heed(None)
        assert read(context) == expected


def test_a_cache_that_cannot_go_back_is_emptied(engine: LlamaCpp, nodes: Nodes) -> None:
    wanted = request("the capital of France is " * 12)
    expected = said(engine, wanted)
    context = context_of(engine)
    context.clear()
    context._rolls_back = False  # as of a recurrent model
    total = nodes.during(lambda: said(engine, wanted))
    context.clear()
    with pytest.raises(Cancelled):
        nodes.during(lambda: said(engine, wanted), total // 2)
    assert context.tokens == []
    assert cache_holds_its_tokens(context)
    assert said(engine, wanted) == expected


def test_scores_and_vectors_can_be_cancelled_and_stay_exact(folder: Path, engine: LlamaCpp, nodes: Nodes) -> None:
    tails = ["Paris", "hello there", "a b a b", "x"]
    asked = request("the capital of France is " * 8)
    texts = ["hello the capital", "a", "of France is Paris"] * 9

    def scored(made: LlamaCpp) -> Any:
        return made.score(asked, tails)

    def embedded(made: LlamaCpp) -> Any:
        return made.embed(texts, "encoder").tolist()

    def labelled(made: LlamaCpp) -> Any:
        return [(one.text, one.choices) for one in made.complete([asked, request("hello")], LABELS)]

    for work in (scored, embedded, labelled):
        expected = cold(folder, work)
        total = nodes.during(lambda work=work: work(engine))
        for place in (1, total // 4, total // 2, total - 1):
            engine.close()
            with pytest.raises(Cancelled):
                nodes.during(lambda work=work: work(engine), place)
            assert nodes.seen == place
            assert work(engine) == expected
    said(engine, asked)
    assert cache_holds_its_tokens(context_of(engine))


def test_a_cancelled_answer_computes_nothing_more_without_python(engine: LlamaCpp, folder: Path) -> None:
    wanted = request("the capital of France is " * 24)
    cancellation = Cancellation()
    cancellation.cancel()
    with heeding(cancellation):
        with pytest.raises(Cancelled, match="nobody waits"):
            said(engine, wanted)
        with pytest.raises(Cancelled):
            engine.score(wanted, ["a"])
        assert context_of(engine).tokens == []
        with pytest.raises(Cancelled):
            engine.embed(["hello"], "encoder")
    assert said(engine, wanted) == cold(folder, lambda made: said(made, wanted))
    assert engine.embed(["hello"], "encoder").shape == (1, 32)


def test_cancelling_from_another_thread_ends_a_computation_under_way(
    engine: LlamaCpp, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = request("the capital of France is " * 30, max_tokens=200)
    cancellation = Cancellation()
    said(engine, request("hello", max_tokens=1))
    api = context_of(engine)._api
    decode, other = api.llama_decode, threading.Thread(target=cancellation.cancel)

    def begun(*arguments: Any) -> int:
        if not other.ident:
            other.start()
        return int(decode(*arguments))

    monkeypatch.setattr(api, "llama_decode", begun)
    with heeding(cancellation), pytest.raises(Cancelled):
        said(engine, wanted)
    other.join()
    monkeypatch.setattr(api, "llama_decode", decode)
    assert cache_holds_its_tokens(context_of(engine))
    assert said(engine, wanted) == cold(folder, lambda made: said(made, wanted))


def test_a_cancellation_counts_for_its_own_answer_alone(engine: LlamaCpp, folder: Path) -> None:
    first = Cancellation()
    with heeding(first):
        assert current() is first
        stream = engine.stream(request("Tell a long story.", max_tokens=100, sampling=HOT))
        while not next(stream).text:
            pass
        with heeding(Cancellation()):
            assert said(engine, request("hello")) == cold(folder, lambda made: said(made, request("hello")))
        assert current() is first
    assert current() is None
    stream.close()  # the context is another answer's by now
    first.cancel()
    assert said(engine, request("hello")) == cold(folder, lambda made: said(made, request("hello")))


def test_large_models_are_read_in_smaller_pieces(tmp_path: Path) -> None:
    small, large = (
        LoadedModel(tiny_gguf.bpe_model(tmp_path / f"{width}.gguf", width=width), LlamaCppSettings(threads=1, gpu_layers=0))
        for width in (64, 128)
    )
    assert small.context().batch == large.context().batch == 128
    large.header.tensors["blk.9.ffn_up.weight"] = (4096, 14336)
    del large.__dict__["_quick_batch"]
    assert large._quick_batch == 32
    large.header.tensors["blk.9.ffn_up.weight"] = (2048, 8192)
    del large.__dict__["_quick_batch"]
    assert 32 < large._quick_batch <= NODE_FLOP / (2 * 2048 * 8192)
    small.close()
    large.close()
