"""The llama.cpp engine with the embedded model: answers, reuse of the cache, cancelling, adapters, the end of the process."""

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
import tiny_gguf

from data.chat import Chunk, Message, Usage
from data.config import LlamaCppSettings, Sampling, Settings
from data.errors import ContextOverflow, EngineInterrupted, EngineRejected, ModelInvalid
from router.engines import Engines
from router.engines._llamacpp.context import Context
from router.engines.base import Adapter, Request
from router.engines.llamacpp import LlamaCpp

MODEL = "smollm2-135m"
GREEDY = Sampling(temperature=0, repeat_penalty=1.0)


@pytest.fixture(scope="module")
def engine(embedded_gguf: Path) -> Iterator[LlamaCpp]:
    engine = LlamaCpp(LlamaCppSettings(context=1024, threads=1, batch=64))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights that spells every byte: a token a letter."""
    return tiny_gguf.bpe_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf", context=1024)


@pytest.fixture
def tiny_engine(tiny: Path) -> Iterator[LlamaCpp]:
    engine = LlamaCpp(LlamaCppSettings(context=1024, threads=1, batch=64, folders=(str(tiny.parent),)))
    yield engine
    engine.close()


def request(
    *messages: Message | str, model: str | Path = MODEL, sampling: Sampling = GREEDY, max_tokens: int = 24, **more
) -> Request:
    talk = tuple(message if isinstance(message, Message) else Message("user", message) for message in messages)
    return Request(str(model), talk, sampling=sampling, max_tokens=max_tokens, **more)


def ask(engine: LlamaCpp, *messages: Message | str, **more) -> tuple[str, Usage]:
    chunks = list(engine.stream(request(*messages, **more)))
    usage = chunks[-1].usage
    assert usage is not None
    assert not any(chunk.usage for chunk in chunks[:-1])
    return "".join(chunk.text for chunk in chunks), usage


def fresh(engine: LlamaCpp, *messages: Message | str, **more) -> tuple[str, Usage]:
    """The answer of an engine that has computed nothing before."""
    cold = LlamaCpp(engine._settings)
    try:
        return ask(cold, *messages, **more)
    finally:
        cold.close()


def context_of(engine: LlamaCpp) -> Context:
    (slot,) = engine._slots.values()
    assert slot.model is not None
    return slot.model.context()


def cache_holds_its_tokens(context: Context) -> bool:
    api = context._api
    return (
        api.llama_memory_seq_pos_max(context.memory, 0) + 1 == len(context.tokens)
        and all(api.llama_memory_seq_pos_max(context.memory, other) == -1 for other in range(1, context.sequences))
    )  # fmt: skip


def test_the_embedded_model_answers_and_is_measured() -> None:
    engine = LlamaCpp(LlamaCppSettings(context=1024, threads=1, batch=64))
    chunks = list(engine.stream(request("Write three words about the sea.", max_tokens=12)))
    engine.close()
    usage = chunks[-1].usage
    assert usage is not None
    text = "".join(chunk.text for chunk in chunks)
    assert chunks[0] == Chunk(phase="loading")
    assert len(text.split()) >= 3
    assert "<|im_" not in text
    assert usage.finish in ("length", "stop")
    assert 1 <= usage.completion_tokens <= 12
    assert usage.prompt_tokens > 20
    assert usage.cached_tokens == 0
    assert 0 < usage.load_s < usage.ttft_s <= usage.total_s
    assert (usage.context_tokens, usage.dropped_turns) == (1024, 0)


def test_greedy_answers_repeat_and_the_model_ends_by_itself(engine: LlamaCpp) -> None:
    first, usage = ask(engine, "Say yes.", max_tokens=200)
    again, _ = ask(engine, "Say yes.", max_tokens=200)
    assert first == again != ""
    assert usage.finish == "stop"
    assert usage.completion_tokens < 200


def test_a_seed_fixes_the_draw_and_without_one_answers_differ(engine: LlamaCpp) -> None:
    hot = Sampling(temperature=1.5, seed=7)
    story = "Tell me a story about a fox."
    assert ask(engine, story, sampling=hot)[0] == ask(engine, story, sampling=hot)[0]
    assert ask(engine, story, sampling=hot)[0] != ask(engine, story, sampling=hot.model_copy(update={"seed": 8}))[0]
    free = hot.model_copy(update={"seed": None})
    assert len({ask(engine, story, sampling=free)[0] for _ in range(4)}) > 1


def test_a_limit_of_tokens_ends_the_answer_as_length(engine: LlamaCpp) -> None:
    whole, _ = ask(engine, "Count to ten.", max_tokens=30)
    for limit in (1, 2, 7):
        text, usage = ask(engine, "Count to ten.", max_tokens=limit)
        assert (usage.completion_tokens, usage.finish) == (limit, "length")
        assert whole.startswith(text)


def test_the_answer_ends_before_a_stop_string(engine: LlamaCpp) -> None:
    whole, _ = ask(engine, "Write a sentence about rain.", max_tokens=30)
    stop = whole[8:14]
    text, usage = ask(engine, "Write a sentence about rain.", max_tokens=30, stop=(stop, "never said"))
    assert text == whole[: whole.index(stop)]
    assert usage.finish == "stop"


def test_the_second_turn_computes_only_what_is_new(engine: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, before = ask(engine, "Name a colour.", max_tokens=40)
    computed = []
    read = Context.read
    monkeypatch.setattr(Context, "read", lambda self, tokens: computed.append(len(tokens)) or read(self, tokens))
    talk = ("Name a colour.", Message("assistant", answer), "Name another one.")
    _, usage = ask(engine, *talk)
    assert usage.cached_tokens >= before.prompt_tokens + before.completion_tokens - 2
    assert sum(computed) == usage.prompt_tokens - usage.cached_tokens < 20


def test_the_same_question_again_computes_one_token(engine: LlamaCpp) -> None:
    ask(engine, "What is a whale?")
    _, usage = ask(engine, "What is a whale?")
    assert usage.cached_tokens == usage.prompt_tokens - 1


def test_what_is_cached_changes_no_answer_of_the_same_prompt(engine: LlamaCpp) -> None:
    tale = Sampling(temperature=0, repeat_penalty=1.1)
    first, before = ask(engine, "Describe a lighthouse.", sampling=tale)
    ask(engine, "Describe a ship.")  # shares the beginning
    second, after = ask(engine, "Describe a lighthouse.", sampling=tale)
    assert 0 < after.cached_tokens < before.prompt_tokens - 1
    assert first == second == ask(engine, "Describe a lighthouse.", sampling=tale)[0]
    assert first == fresh(engine, "Describe a lighthouse.", sampling=tale)[0]


def test_a_prompt_is_never_computed_token_by_token_but_for_its_last(tiny_engine: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    read = Context.read
    monkeypatch.setattr(Context, "read", lambda self, tokens: sizes.append(len(tokens)) or read(self, tokens))
    for length in (1, 2, 3, 63, 64, 65, 66, 128, 129, 130, 63):
        sizes.clear()
        ask(tiny_engine, "x" * length, model="tiny", max_tokens=1)
        assert sizes[-1] == 1
        assert all(1 < size <= 64 for size in sizes[:-1])


def test_an_edited_question_reuses_what_stands_before_it(tiny_engine: LlamaCpp) -> None:
    ask(tiny_engine, "My cat is called Tom.", Message("assistant", "Nice."), "How old can cats get?", model="tiny")
    talk = ("My cat is called Tom.", Message("assistant", "Nice."), "What do cats eat?")
    text, usage = ask(tiny_engine, *talk, model="tiny")
    assert 20 < usage.cached_tokens < usage.prompt_tokens - 1
    assert text == fresh(tiny_engine, *talk, model="tiny")[0]


def test_a_long_prompt_reports_how_far_it_was_read(tiny_engine: LlamaCpp) -> None:
    chunks = list(tiny_engine.stream(request("word " * 60, max_tokens=2, model="tiny")))[1:]
    reading = [chunk.progress for chunk in takewhile(lambda chunk: chunk.phase, chunks)]
    assert len(reading) >= 4
    assert reading == sorted(reading)
    assert reading[0] == 0.0
    assert reading[-1] < 1.0


@pytest.mark.parametrize("after", [2, 4, 7, 10])
def test_a_cancelled_answer_leaves_a_consistent_cache(tiny_engine: LlamaCpp, after: int) -> None:
    question = "word " * 60  # read in 5 batches, after "loading"; then comes text
    stream = tiny_engine.stream(request(question, model="tiny", sampling=Sampling(temperature=2, seed=3, top_k=0, min_p=0)))
    for _ in range(after):
        next(stream)
    stream.close()
    assert cache_holds_its_tokens(context_of(tiny_engine))
    text, usage = ask(tiny_engine, question, model="tiny")
    assert usage.cached_tokens >= min(after - 2, 4) * 64
    assert text == fresh(tiny_engine, question, model="tiny")[0]


def test_an_answer_that_is_overtaken_says_so(tiny_engine: LlamaCpp) -> None:
    first = tiny_engine.stream(request("Tell a long story.", model="tiny", max_tokens=500))
    while not next(first).text:
        pass
    text, _ = ask(tiny_engine, "Say yes.", model="tiny")
    with pytest.raises(EngineInterrupted, match="asked something else"):
        list(first)
    assert text == fresh(tiny_engine, "Say yes.", model="tiny")[0]


def test_generation_stops_at_the_end_of_the_context(tiny_engine: LlamaCpp) -> None:
    for seed in range(20):  # of random weights: some answers end by themselves
        hot = Sampling(temperature=2.0, seed=seed, top_k=0, min_p=0)
        _, usage = ask(tiny_engine, "word " * 140, model="tiny", max_tokens=10_000, sampling=hot)
        if usage.finish == "length":
            break
    assert usage.finish == "length"
    assert usage.prompt_tokens + usage.completion_tokens == 1024 + 1  # the last token is drawn, not computed
    assert cache_holds_its_tokens(context_of(tiny_engine))


def test_an_overlong_conversation_says_what_was_left_out(tiny_engine: LlamaCpp) -> None:
    talk = [Message(role, f"{number} " + "word " * 5) for number in range(40) for role in ("user", "assistant")]
    _, usage = ask(tiny_engine, *talk, "And now?", max_tokens=4, model="tiny")
    assert usage.dropped_turns > 10
    assert usage.truncated
    assert usage.prompt_tokens <= 1020
    with pytest.raises(ContextOverflow):
        ask(tiny_engine, "word " * 5000, model="tiny")


def test_control_tokens_that_the_model_writes_are_not_shown(tiny: Path, tiny_engine: LlamaCpp) -> None:
    for seed in range(5):
        text, _ = ask(
            tiny_engine, "hello", model=tiny, max_tokens=100, sampling=Sampling(temperature=3.0, seed=seed, top_k=0, min_p=0)
        )
        assert "<|im_" not in text


def test_an_adapter_changes_the_answer_and_leaves_no_trace(tiny: Path, tiny_engine: LlamaCpp, tmp_path: Path) -> None:
    nothing = Adapter(str(tiny_gguf.adapter(tmp_path / "nothing.gguf", tiny, strength=0.0)))
    strong = Adapter(str(tiny_gguf.adapter(tmp_path / "strong.gguf", tiny, strength=1.0)))
    half = Adapter(strong.path, 0.5)
    plain, _ = ask(tiny_engine, "hello there", model=tiny)
    answers = [ask(tiny_engine, "hello there", model=tiny, adapter=adapter)[0] for adapter in (nothing, strong, half, strong)]
    assert answers[0] == plain
    assert len({plain, answers[1], answers[2]}) == 3
    assert answers[1] == answers[3] == fresh(tiny_engine, "hello there", model=tiny, adapter=strong)[0]
    assert ask(tiny_engine, "hello there", model=tiny)[0] == plain == fresh(tiny_engine, "hello there", model=tiny)[0]


def test_the_cache_of_one_adapter_is_never_used_for_another(tiny: Path, tiny_engine: LlamaCpp, tmp_path: Path) -> None:
    strong = Adapter(str(tiny_gguf.adapter(tmp_path / "strong.gguf", tiny, strength=1.0)))
    ask(tiny_engine, "hello there", model=tiny)
    assert ask(tiny_engine, "hello there", model=tiny, adapter=strong)[1].cached_tokens == 0
    assert ask(tiny_engine, "hello there", model=tiny, adapter=strong)[1].cached_tokens > 0
    Path(strong.path).unlink()
    tiny_gguf.adapter(Path(strong.path), tiny, strength=2.0, seed=5)  # trained anew under the same name
    text, usage = ask(tiny_engine, "hello there", model=tiny, adapter=strong)
    assert usage.cached_tokens == 0
    assert text == fresh(tiny_engine, "hello there", model=tiny, adapter=strong)[0]


def test_a_model_that_was_replaced_on_disk_is_loaded_anew(tiny_engine: LlamaCpp, tmp_path: Path) -> None:
    file = tiny_gguf.bpe_model(tmp_path / "mine.gguf", seed=1)
    first, _ = ask(tiny_engine, "hello", model=file)
    file.unlink()
    tiny_gguf.bpe_model(file, seed=2)
    assert ask(tiny_engine, "hello", model=file)[0] != first


def test_at_most_two_models_stay_in_memory(tiny_engine: LlamaCpp, tmp_path: Path) -> None:
    files = [tiny_gguf.bpe_model(tmp_path / f"{seed}.gguf", seed=seed) for seed in range(3)]
    first = tiny_engine.stream(request("hello", model=files[0], max_tokens=50))
    while not next(first).text:
        pass
    answers = [ask(tiny_engine, "hello", model=file)[0] for file in files[1:]]
    assert len(set(answers)) == 2
    assert len(tiny_engine._slots) == 2
    with pytest.raises(EngineInterrupted):
        list(first)


def test_thinking_comes_apart_from_the_answer(tiny_engine: LlamaCpp, tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ m.content }}{% endfor %}"
        "{% if enable_thinking is defined and not enable_thinking %}</think>{% else %}<think>\n{% endif %}"
    )
    model = tiny_gguf.bpe_model(tmp_path / "thinker.gguf", template=template)
    chunks = list(tiny_engine.stream(request("why", model=model)))
    assert "".join(chunk.thinking for chunk in chunks) != ""
    assert "".join(chunk.text for chunk in chunks) == ""
    chunks = list(tiny_engine.stream(request("why", model=model, think=False)))
    assert "".join(chunk.thinking for chunk in chunks) == ""
    assert "".join(chunk.text for chunk in chunks) != ""


@pytest.mark.parametrize("system", ["", "You are a parrot."])
def test_preloading_in_another_thread_spares_loading_and_the_common_beginning(embedded_gguf: Path, system: str) -> None:
    engine = LlamaCpp(LlamaCppSettings(context=512, threads=1))
    thread = threading.Thread(target=engine.preload, args=(MODEL, system))
    thread.start()
    thread.join()
    talk = (*((Message("system", system),) if system else ()), "Say yes.")
    chunks = list(engine.stream(request(*talk, max_tokens=4)))
    usage = chunks[-1].usage
    assert usage is not None
    assert not any(chunk.phase == "loading" for chunk in chunks)
    assert usage.cached_tokens > usage.prompt_tokens // 2
    assert "".join(chunk.text for chunk in chunks) == fresh(engine, *talk, max_tokens=4)[0]
    engine.close()


def test_preloading_an_encoder_makes_it_ready(tiny_engine: LlamaCpp, tmp_path: Path) -> None:
    file = tiny_gguf.encoder(tmp_path / "encoder.gguf")
    tiny_engine.preload(str(file))
    assert tiny_engine.embed(["hello"], str(file)).shape == (1, 32)


def test_closing_from_another_thread_breaks_the_answer_off(tiny_engine: LlamaCpp) -> None:
    stream = tiny_engine.stream(request("Tell a long story.", model="tiny", max_tokens=400))
    while not next(stream).text:
        pass
    closing = threading.Thread(target=tiny_engine.close)
    closing.start()
    closing.join()
    with pytest.raises(EngineInterrupted, match="closed"):
        next(stream)
    tiny_engine.close()
    assert ask(tiny_engine, "Say yes.", max_tokens=2, model="tiny")[1].completion_tokens == 2  # it may be used again


def test_closing_while_another_thread_computes_waits_and_frees(tiny_engine: LlamaCpp) -> None:
    ended: list[BaseException] = []

    def answer() -> None:
        try:
            while True:  # whole answers one after the other, until one is broken off
                for _ in tiny_engine.stream(request("hello", model="tiny", max_tokens=50)):
                    begun.set()
        except EngineInterrupted as error:
            ended.append(error)

    begun = threading.Event()
    thread = threading.Thread(target=answer)
    thread.start()
    begun.wait()
    while thread.is_alive():  # a close between two answers breaks nothing off
        tiny_engine.close()
    thread.join()
    assert len(ended) == 1


@pytest.mark.parametrize(("code", "words"), [(1, "no room"), (2, "aborted"), (-3, "code -3")])
@pytest.mark.parametrize("calls", [0, 3])
def test_a_failed_computation_is_told_and_forgotten(
    tiny_engine: LlamaCpp, monkeypatch: pytest.MonkeyPatch, code: int, words: str, calls: int
) -> None:
    ask(tiny_engine, "Say yes.", model="tiny")
    api = context_of(tiny_engine)._api
    decode, done = api.llama_decode, []
    monkeypatch.setattr(api, "llama_decode", lambda *args: code if len(done) >= calls else done.append(decode(*args)) or 0)
    with pytest.raises(EngineInterrupted, match=words):
        list(tiny_engine.stream(request("Tell a story.", model="tiny", sampling=Sampling(temperature=2, seed=1, top_k=0, min_p=0))))
    monkeypatch.setattr(api, "llama_decode", decode)
    assert context_of(tiny_engine).tokens == []
    assert cache_holds_its_tokens(context_of(tiny_engine))
    assert ask(tiny_engine, "Say yes.", model="tiny")[0] == fresh(tiny_engine, "Say yes.", model="tiny")[0]


def test_an_encoder_writes_no_answers(tiny_engine: LlamaCpp, tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match="encoder"):
        ask(tiny_engine, "hello", model=tiny_gguf.encoder(tmp_path / "encoder.gguf"))


def test_a_template_that_refuses_the_system_message_gets_it_another_way(tiny_engine: LlamaCpp, tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' or (loop.index0 % 2 == 0) != (m.role == 'user') %}"
        "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{{ m.role }}:{{ m.content }}|{% endfor %}"
    )
    model = tiny_gguf.bpe_model(tmp_path / "strict.gguf", template=template)
    _, usage = ask(tiny_engine, Message("system", "Stay short."), "one", "two", model=model)
    assert usage.prompt_tokens == len("user:Stay short.\n\none\n\ntwo|")  # a token a letter
    with pytest.raises(EngineRejected, match="must alternate"):
        ask(tiny_engine, Message("assistant", "I begin"), "one", model=model)


def test_the_engine_is_found_by_the_registry(embedded_gguf: Path) -> None:
    engines = Engines(Settings())
    assert "llamacpp" in engines.names()
    assert engines.resolve("auto").reference == "llamacpp/smollm2-135m"
    assert engines.resolve("smollm2-135m").engine.capabilities.score
    engines.close()


SCRIPT = """
import sys
from data.chat import Message
from data.config import LlamaCppSettings, Sampling
from router.engines.base import Request
from router.engines.llamacpp import LlamaCpp
engine = LlamaCpp(LlamaCppSettings(context=512, threads=1))
request = Request("smollm2-135m", (Message("user", "Tell a story."),), sampling=Sampling(seed=1), max_tokens=200)
"""


def run(ending: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", SCRIPT + ending], capture_output=True, text=True, timeout=120)


BEGUN = "stream = engine.stream(request)\nwhile not next(stream).text:\n    pass\n"
ENDINGS = {
    "abandoned": BEGUN,
    "closed": BEGUN + "engine.close()",
    "finished": "list(engine.stream(request))\nengine.embed(['a'], 'smollm2-135m')",
    "loading": "import threading\nthreading.Thread(target=engine.preload, args=('smollm2-135m',), daemon=True).start()",
    "answering": """
import threading
begun = threading.Event()
def answer():
    for chunk in engine.stream(request):
        begun.set()
threading.Thread(target=answer, daemon=True).start()
begun.wait()
""",
    "grammar": "request = Request(request.model, request.messages, schema={'type': 'array'})\n" + BEGUN,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_process_ends_cleanly_and_silently(ending: str) -> None:
    done = run(ENDINGS[ending], "-W", "error")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_ctrl_c_while_loading_is_not_lost() -> None:
    done = run(
        """
import signal
from router.engines._llamacpp import bindings
class Pressed(list):
    def __bool__(self):
        signal.raise_signal(signal.SIGINT)
        return True
bindings._interrupts = Pressed()
try:
    list(engine.stream(request))
except KeyboardInterrupt:
    print("told")
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "told\n", "")


def test_the_whole_package_can_still_be_imported_and_stays_silent() -> None:
    done = run(
        "list(engine.stream(request.__class__('smollm2-135m', request.messages, max_tokens=1)))\n"
        "import llama_cpp\nassert llama_cpp.Llama\nengine.close()\n"
        "list(engine.stream(request.__class__('smollm2-135m', request.messages, max_tokens=1)))"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_starting_the_engine_imports_nothing_heavy() -> None:
    done = run("heavy = {'llama_cpp', 'jinja2', 'torch', 'textual', 'httpx'} & set(sys.modules)\nprint(sorted(heavy))")
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("way", ["close", "forget", "finish", "fail"])
def test_samplers_are_freed_whichever_way_an_answer_ends(tiny_engine: LlamaCpp, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    ask(tiny_engine, "hello", model="tiny")
    api = context_of(tiny_engine)._api
    made, freed = [], []
    for name in ("llama_sampler_chain_init", "llama_sampler_init_grammar"):
        make = getattr(api, name)
        monkeypatch.setattr(api, name, lambda *args, make=make: made.append(1) or make(*args))
    free = api.llama_sampler_free
    monkeypatch.setattr(api, "llama_sampler_free", lambda sampler: freed.append(1) or free(sampler))
    stream = tiny_engine.stream(request("hello", model="tiny", schema={"type": "string"}, max_tokens=100))
    while not next(stream).text:
        pass
    if way == "close":
        stream.close()
    elif way == "forget":
        del stream
        gc.collect()
    elif way == "finish":
        list(stream)
    else:
        tiny_engine.close()
        with pytest.raises(EngineInterrupted):
            list(stream)
    assert len(made) == len(freed) == 2
