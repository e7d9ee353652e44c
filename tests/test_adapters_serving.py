"""One base in memory and many adapters: each answers as if it were alone, whatever comes, goes, changes or is asked meanwhile."""

import re
from collections.abc import Iterator
from ctypes import c_float
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tiny_gguf

from data.chat import Message, Usage
from data.config import LlamaCppSettings, Sampling
from data.errors import ModelInvalid, ModelMissing
from router.engines._llamacpp import bindings, caches
from router.engines._llamacpp.adapters import Adapters
from router.engines._llamacpp.context import Context
from router.engines._llamacpp.model import ADAPTER_CELLS, LoadedModel
from router.engines.base import Adapter, Request
from router.engines.llamacpp import LlamaCpp

GREEDY = Sampling(temperature=0, repeat_penalty=1.0)
LONG = "hello " * 80  # a little less than a context with an adapter begins with


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights that spells every byte: a token a letter."""
    return tiny_gguf.bpe_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf", context=2048, layers=2)


@pytest.fixture
def engine() -> Iterator[LlamaCpp]:
    engine = LlamaCpp(LlamaCppSettings(context=2048, threads=1, batch=64))
    yield engine
    engine.close()


@pytest.fixture(autouse=True)
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No trial in a child process: that has its own tests, and these make dozens of adapters."""
    monkeypatch.setattr("router.engines._llamacpp.probe.ensure", lambda path, adapter=None: None)


def adapters(folder: Path, base: Path, count: int) -> list[Adapter]:
    return [Adapter(str(tiny_gguf.adapter(folder / f"{n}.gguf", base, strength=1.0, seed=n))) for n in range(count)]


def request(model: str | Path, adapter: Adapter | None, text: str = "hello there", tokens: int = 16) -> Request:
    return Request(str(model), (Message("user", text),), sampling=GREEDY, max_tokens=tokens, adapter=adapter)


def ask(
    engine: LlamaCpp, model: str | Path, adapter: Adapter | None, text: str = "hello there", tokens: int = 16
) -> tuple[str, Usage]:
    chunks = list(engine.stream(request(model, adapter, text, tokens)))
    assert chunks[-1].usage is not None
    return "".join(chunk.text for chunk in chunks), chunks[-1].usage


def cold(engine: LlamaCpp, *asked, **more) -> str:
    """The answer of an engine that has computed nothing before."""
    alone = LlamaCpp(engine._settings)
    try:
        return ask(alone, *asked, **more)[0]
    finally:
        alone.close()


def loaded(engine: LlamaCpp) -> LoadedModel:
    (slot,) = engine._slots.values()
    assert slot.model is not None
    return slot.model


def in_memory(engine: LlamaCpp) -> Adapters:
    return loaded(engine)._caches._adapters


def test_sixteen_adapters_stay_warm_beside_each_other_and_each_answers_as_if_alone(
    tiny: Path, engine: LlamaCpp, tmp_path: Path
) -> None:
    many = adapters(tmp_path, tiny, 16)
    first = [ask(engine, tiny, one)[0] for one in many]
    again = [ask(engine, tiny, one) for one in reversed(many)][::-1]
    assert [text for text, _ in again] == first
    assert all(usage.cached_tokens == usage.prompt_tokens - 1 for _, usage in again)
    assert len(set(first)) == 16
    assert [first[at] for at in (0, 7, 15)] == [cold(engine, tiny, many[at]) for at in (0, 7, 15)]


def test_the_embedded_model_answers_with_one_adapter_the_same_before_and_after_another(embedded_gguf: Path, tmp_path: Path) -> None:
    engine = LlamaCpp(LlamaCppSettings(context=512, threads=1, batch=64))
    first, second = (
        Adapter(str(tiny_gguf.adapter(tmp_path / f"{n}.gguf", embedded_gguf, strength=0.05, seed=n, rank=8))) for n in (1, 2)
    )
    before = ask(engine, "smollm2-135m", first, "Name a colour.", 10)[0]
    other = ask(engine, "smollm2-135m", second, "Name a colour.", 10)[0]
    after, usage = ask(engine, "smollm2-135m", first, "Name a colour.", 10)
    engine.close()
    assert before == after == cold(engine, "smollm2-135m", first, "Name a colour.", 10) != other
    assert usage.cached_tokens == usage.prompt_tokens - 1


def test_a_cache_computed_under_another_adapter_would_give_other_numbers_and_is_never_used(
    tiny: Path, engine: LlamaCpp, tmp_path: Path
) -> None:
    first, second = adapters(tmp_path, tiny, 2)
    ask(engine, tiny, first)
    text, usage = ask(engine, tiny, second)
    assert usage.cached_tokens == 0
    assert text == cold(engine, tiny, second)
    model, prompt = loaded(engine), [3, 5, 7, 9, 11]
    own, shared = model.context(second), model.context(first)
    for context in (own, shared):
        context.clear()
        context.read(prompt[:-1])
    pointer = in_memory(engine)._loaded[next(stamp for stamp in in_memory(engine)._loaded if stamp.path == second.path)].pointer
    model.api.llama_set_adapters_lora(shared.pointer, (model.api.llama_adapter_lora_p_ctypes * 1)(pointer), 1, (c_float * 1)(1.0))
    for context in (own, shared):
        context.read(prompt[-1:])
    assert not np.allclose(logits(model, own), logits(model, shared), atol=1e-2)


def test_another_scale_is_another_cache(tiny: Path, engine: LlamaCpp, tmp_path: Path) -> None:
    (strong,) = adapters(tmp_path, tiny, 1)
    half = Adapter(strong.path, 0.5)
    ask(engine, tiny, strong)
    text, usage = ask(engine, tiny, half)
    assert usage.cached_tokens == 0
    assert text == cold(engine, tiny, half)
    assert len(in_memory(engine)._loaded) == 1  # the file is in memory once


@pytest.mark.parametrize("schema", [None, {"type": "array", "items": {"type": "integer"}, "minItems": 60}])
def test_a_conversation_that_outgrows_its_cache_goes_on_as_in_a_large_one(
    tiny: Path, engine: LlamaCpp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: dict | None
) -> None:
    talkative = next(one for one in adapters(tmp_path, tiny, 20) if ask(engine, tiny, one, LONG, 60)[1].completion_tokens > 20)
    engine.close()
    wanted = replace(request(tiny, talkative, LONG, tokens=60), schema=schema)

    def answered(engine: LlamaCpp) -> tuple[str, Usage]:
        chunks = list(engine.stream(wanted))
        return "".join(chunk.text for chunk in chunks), chunks[-1].usage

    text, usage = answered(engine)
    context = loaded(engine).context(talkative)
    assert usage.prompt_tokens < ADAPTER_CELLS < usage.prompt_tokens + usage.completion_tokens
    assert (usage.context_tokens, context.cells) == (2048, 1024)
    assert context._api.llama_memory_seq_pos_max(context.memory, 0) + 1 == len(context.tokens)
    again, usage = answered(engine)
    assert (again, usage.cached_tokens) == (text, usage.prompt_tokens - 1)
    monkeypatch.setattr(LoadedModel, "grows", False)
    alone = LlamaCpp(engine._settings)
    assert answered(alone)[0] == text
    assert loaded(alone).context(talkative).cells == 2048
    alone.close()


def test_a_long_prompt_gets_its_room_at_once(tiny: Path, engine: LlamaCpp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = adapters(tmp_path, tiny, 1)
    made = []
    make = Context._made
    monkeypatch.setattr(Context, "_made", lambda self, cells: made.append(cells) or make(self, cells))
    ask(engine, tiny, one, "hello " * 200, 4)
    assert made == [512, 1280]


def test_a_context_of_which_positions_depend_on_the_size_begins_at_its_size(tiny: Path, tmp_path: Path) -> None:
    model = LoadedModel(tiny, LlamaCppSettings(context=2048, threads=1, batch=64))
    (one,) = adapters(tmp_path, tiny, 1)
    assert model.context(one).cells == ADAPTER_CELLS
    model.close()
    longrope = LoadedModel(tiny, LlamaCppSettings(context=2048, threads=1, batch=64))
    longrope.header.tensors["rope_factors_long.weight"] = (32,)
    assert longrope.context(one).cells == 2048
    longrope.close()


def test_without_memory_for_all_the_longest_unused_cache_goes_and_its_adapter_stays(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = LlamaCpp(LlamaCppSettings(context=512, threads=1, batch=64, caches_mb=60))
    monkeypatch.setattr("router.engines._llamacpp.context.GRAPH_BYTES", 16 << 20)
    first, second, third, fourth = many = adapters(tmp_path, tiny, 4)
    texts = [ask(engine, tiny, one)[0] for one in many]  # the fourth takes the place of the first
    assert len(loaded(engine)._caches) == 3
    assert len(in_memory(engine)._loaded) == 4
    assert ask(engine, tiny, second)[1].cached_tokens > 0
    text, usage = ask(engine, tiny, first)
    assert (text, usage.cached_tokens) == (texts[0], 0)
    assert ask(engine, tiny, third)[1].cached_tokens == 0  # it was the one that had waited longest
    assert ask(engine, tiny, fourth)[0] == texts[3]
    engine.close()


def test_the_default_limit_is_half_of_what_is_free(
    tiny: Path, engine: LlamaCpp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = adapters(tmp_path, tiny, 3)
    monkeypatch.setattr(caches, "available_bytes", lambda: 0)
    for one in many:
        ask(engine, tiny, one)
    assert len(loaded(engine)._caches) == 1
    monkeypatch.setattr(caches, "available_bytes", lambda: None)  # a system that does not tell
    for one in many:
        ask(engine, tiny, one)
    assert len(loaded(engine)._caches) == 3


def test_a_cache_that_an_answer_is_using_is_never_freed_and_the_answer_is_whole(tiny: Path, tmp_path: Path) -> None:
    engine = LlamaCpp(LlamaCppSettings(context=512, threads=1, batch=64, caches_mb=1))
    first, *others = adapters(tmp_path, tiny, 4)
    running = engine.stream(request(tiny, first, tokens=30))
    begun = list(islice(running, 6))
    for one in others:
        ask(engine, tiny, one)
    rest = list(running)
    assert "".join(chunk.text for chunk in (*begun, *rest)) == cold(engine, tiny, first, tokens=30)
    engine.close()


def test_an_adapter_replaced_while_its_answer_runs_ends_as_it_began_and_then_the_new_one_answers(
    tiny: Path, engine: LlamaCpp, tmp_path: Path
) -> None:
    (one,) = adapters(tmp_path, tiny, 1)
    old = cold(engine, tiny, one, tokens=30)
    running = engine.stream(request(tiny, one, tokens=30))
    begun = list(islice(running, 6))
    fresh = tiny_gguf.adapter(tmp_path / "fresh.gguf", tiny, strength=2.0, seed=99)
    fresh.replace(one.path)
    new, usage = ask(engine, tiny, one, tokens=30)
    assert usage.cached_tokens == 0
    assert len(in_memory(engine)._loaded) == 2
    assert "".join(chunk.text for chunk in (*begun, *running)) == old
    assert new == cold(engine, tiny, one, tokens=30) != old
    ask(engine, tiny, None)  # a new context: what is not in use and not on disk any more goes
    assert [stamp.size_bytes for stamp in in_memory(engine)._loaded] == [Path(one.path).stat().st_size]
    assert len(loaded(engine)._caches) == 2


def test_an_adapter_dropped_while_its_answer_runs_is_freed_after_it(tiny: Path, engine: LlamaCpp, tmp_path: Path) -> None:
    first, second = adapters(tmp_path, tiny, 2)
    whole = cold(engine, tiny, first, tokens=30)
    running = engine.stream(request(tiny, first, tokens=30))
    begun = list(islice(running, 6))
    Path(first.path).unlink()
    with pytest.raises(ModelMissing, match="no adapter"):
        ask(engine, tiny, first)
    ask(engine, tiny, second)
    assert len(in_memory(engine)._loaded) == 2
    assert "".join(chunk.text for chunk in (*begun, *running)) == whole
    ask(engine, tiny, None)
    assert [stamp.path for stamp in in_memory(engine)._loaded] == [second.path]


def test_adapters_that_come_while_an_answer_runs_change_nothing_in_it(tiny: Path, engine: LlamaCpp, tmp_path: Path) -> None:
    first, *others = adapters(tmp_path, tiny, 6)
    running = engine.stream(request(tiny, first, tokens=40))
    pieces = list(islice(running, 4))
    for one in others:
        ask(engine, tiny, one, tokens=3)
        pieces += islice(running, 2)
    pieces += running
    assert "".join(chunk.text for chunk in pieces) == cold(engine, tiny, first, tokens=40)


def test_an_adapter_in_use_cannot_be_freed(tiny: Path, engine: LlamaCpp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = adapters(tmp_path, tiny, 2)
    ask(engine, tiny, first)
    freed = []
    held = in_memory(engine)
    real = held._api.llama_adapter_lora_free
    monkeypatch.setattr(held._api, "llama_adapter_lora_free", lambda pointer: freed.append(pointer) or real(pointer))
    (one,) = held._loaded.values()
    assert one.users == 1
    assert not held.free_one()
    held.sweep()
    held.close()
    assert not freed
    batch = loaded(engine).batch_context(second, 4, flash=False)
    Path(second.path).unlink()
    held.sweep()
    assert not freed
    loaded(engine).release(batch)
    assert len(freed) == 1
    engine.close()
    assert len(freed) == 2


def test_a_file_that_is_no_adapter_of_this_base_leaves_nothing_behind(tiny: Path, engine: LlamaCpp, tmp_path: Path) -> None:
    wider = tiny_gguf.bpe_model(tmp_path / "wide.gguf", width=128)
    wrong = Adapter(str(tiny_gguf.adapter(tmp_path / "wrong.gguf", wider, strength=1.0)))
    noise = tmp_path / "noise.gguf"
    noise.write_bytes(b"GGUF" + bytes(400))
    ask(engine, tiny, None)
    for path, words in ((wrong.path, "does not fit"), (str(tiny), "no LoRA adapter"), (str(noise), "no usable GGUF")):
        with pytest.raises(ModelInvalid, match=words):
            ask(engine, tiny, Adapter(path))
    assert not in_memory(engine)._loaded
    assert len(loaded(engine)._caches) == 1


def test_scores_with_an_adapter_grow_its_cache_and_stay_those_of_the_adapter(tiny: Path, engine: LlamaCpp, tmp_path: Path) -> None:
    (one,) = adapters(tmp_path, tiny, 1)
    tails = ["yes", "no", "x" * 300, "y" * 500, *("z" * n for n in range(1, 20))]
    found = engine.score(request(tiny, one, "Which?"), tails)
    assert [len(values) for values in found] == [len(tail) for tail in tails]
    for at in (0, 3, 20):
        assert found[at] == pytest.approx(engine.score(request(tiny, one, "Which?"), [tails[at]])[0], abs=1e-3)


@pytest.mark.parametrize("tokens", [512, 2048])
def test_the_bytes_of_a_cache_are_those_that_llama_cpp_allocates(tiny: Path, tokens: int) -> None:
    model = LoadedModel(tiny, LlamaCppSettings(context=tokens, threads=1, batch=64))
    said: list[str] = []
    callback = model.api.llama_log_callback(lambda level, text, user: said.append(text.decode()))
    model.api.llama_log_set(callback, None)
    try:
        context = model.context()
    finally:
        bindings.hear()
    (size,) = [float(match[1]) for line in said if (match := re.search(r"KV buffer size = +([\d.]+) MiB", line))]
    assert model.cache_bytes(context.cells) / 2**20 == pytest.approx(size, abs=0.01)
    model.close()


def logits(model: LoadedModel, context: Context) -> np.ndarray:
    return np.ctypeslib.as_array(model.api.llama_get_logits(context.pointer), (model.vocab.size,)).copy()
