"""The model under training answers as serving will: exact probabilities, sound structures, its own state untouched."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("llama_cpp")

import tiny_checkpoints as tiny  # noqa: E402
from packs import pack  # noqa: E402

from data.chat import Message  # noqa: E402
from data.config import LlamaCppSettings, Sampling, Settings  # noqa: E402
from data.errors import ContextOverflow, EngineRejected, ModelInvalid, ModelMissing  # noqa: E402
from router.classification import Classifier  # noqa: E402
from router.contract import Contract, node  # noqa: E402
from router.domain_voices import identity  # noqa: E402
from router.engines._llamacpp.complete import complete as served  # noqa: E402
from router.engines._llamacpp.dequantised import dequantised  # noqa: E402
from router.engines._llamacpp.files import locate  # noqa: E402
from router.engines.base import Adapter, Request  # noqa: E402
from router.engines.llamacpp import LlamaCpp  # noqa: E402
from router.engines.structure import Literal, Select, Series, Structure, Text  # noqa: E402
from trainer import adapter, evaluate  # noqa: E402
from trainer._engine import batching  # noqa: E402
from trainer.base import Base, load  # noqa: E402
from trainer.device import Policy  # noqa: E402
from trainer.engine import TorchEngine, engines  # noqa: E402
from trainer.recipe import BaseTable, LoraTable  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it
CPU = Policy("cpu", "float32", "adamw_torch_fused", "sdpa", False, 1)
LABELS = ("FRAUD", "MERCHANT_ERROR", "PASSWORD_RESET", "INFO")
TEXTS = ["one", "two words", "x" * 40, "ü and ☃", "<|im_end|> label: INFO", "a  b\n\n12 34"]
GREEDY = Sampling(temperature=0.0, repeat_penalty=1.0)
SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"enum": list(LABELS)},
        "sure": {"type": "boolean"},
        "share": {"type": "number", "minimum": 0, "maximum": 1},
        "count": {"type": "integer", "minimum": -3, "maximum": 40},
        "why": {"type": "string", "maxLength": 30, "minLength": 2},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3},
        "spans": {"type": "array", "items": {"type": "string", "maxLength": 8}, "minItems": 1, "maxItems": 2},
    },
    "required": ["label", "sure", "share", "count", "why", "tags", "spans"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return read(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def engine(base: Base) -> TorchEngine:
    """With an adapter that changes the answers."""
    model = adapter.attach(base, LoraTable(rank=4, dropout=0.5), seed=1)
    scatter(model)
    return TorchEngine(base, model)


def read(folder: Path, family: str = "llama", **changes: Any) -> Base:
    return load(BaseTable(model=str(tiny.checkpoint(folder / family, family, **changes))), CPU)


def scatter(model: Any, seed: int = 3) -> None:
    """Give every adapter weight a random value."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.3)


def request(text: str, model: str = "adapter", **more: Any) -> Request:
    messages = (Message("system", "Sort what follows by what the writer wants of us."), Message("user", text))
    return Request(model, messages, more.pop("sampling", GREEDY), **{"max_tokens": 200, **more})


def labelled(*labels: str) -> Structure:
    options = tuple(json.dumps(label) for label in labels)
    root = Series((Literal('{"label": '), Select("label", options, labels), Literal("}")))
    return Structure(root, {"type": "object", "properties": {"label": {"enum": list(labels)}}, "required": ["label"]})


def by_hand(model: Any, base: Base, asked: Request, continuations: Sequence[str]) -> list[float]:
    """The log-probability of each continuation by a whole forward pass of its own, without a cache."""
    found = []
    prompt = base.prompt_ids(asked.messages)
    for text in continuations:
        tail = base.vocab.tokenise_within(text)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + tail]), use_cache=False).logits[0].double()
        told = torch.log_softmax(logits, dim=-1)
        found.append(sum(float(told[len(prompt) - 1 + at, token]) for at, token in enumerate(tail)))
    return found


def shares(completion: Any) -> Any:
    return np.exp(completion.choices[0].log_probabilities)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "phi3", "phi", "gemma2"])
def test_label_probabilities_are_those_of_whole_forward_passes(family: str, tmp_path: Path) -> None:
    base = read(tmp_path, family)
    found = list(TorchEngine(base).complete([request(text, "base") for text in TEXTS], labelled(*LABELS)))
    for text, one in zip(TEXTS, found, strict=True):
        scores = by_hand(base.model, base, request(text), [f'{{"label": "{label}"' for label in LABELS])
        (choice,) = one.choices
        assert choice.log_probabilities == pytest.approx(np.array(scores) - np.logaddexp.reduce(scores), abs=1e-4)
        assert json.loads(one.text) == {"label": LABELS[choice.chosen]}
        assert choice.chosen == int(np.argmax(scores)) and choice.complete


def test_the_adapter_counts_and_no_company_changes_a_row(engine: TorchEngine, base: Base) -> None:
    texts = [f"row {number} {'and more ' * (number % 7)}" for number in range(90)]
    together = list(engine.complete((request(text) for text in texts), labelled(*LABELS)))
    for number in (0, 33, 89):
        (alone,) = engine.complete([request(texts[number])], labelled(*LABELS))
        assert alone.text == together[number].text
        assert alone.choices[0].log_probabilities == pytest.approx(together[number].choices[0].log_probabilities, abs=1e-4)
        engine.model.train(False)
        scores = by_hand(engine.model, base, request(texts[number]), [f'{{"label": "{label}"' for label in LABELS])
        assert shares(alone) == pytest.approx(np.exp(np.array(scores) - np.logaddexp.reduce(scores)), abs=1e-4)
    assert all(one.usage.cached_tokens > 16 for one in together)
    assert together[5].usage.prompt_tokens == len(base.prompt_ids(request(texts[5]).messages))


def test_small_computations_give_what_large_ones_give(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [f"{chr(97 + number % 26)}{number} kind" for number in range(20)]
    structure = Structure(Series((*labelled(*labels).root.parts, *labelled("up", "down").root.parts)), {})
    large = list(engine.complete([request(text) for text in TEXTS[:4]], structure))
    monkeypatch.setattr(batching, "STEP_ELSEWHERE", 17)
    monkeypatch.setattr(batching, "LOGITS_BYTES", 0)
    small = list(engine.complete([request(text) for text in TEXTS[:4]], structure))
    for one, other in zip(large, small, strict=True):
        assert one.text == other.text
        for mine, its in zip(one.choices, other.choices, strict=True):
            assert mine.log_probabilities == pytest.approx(its.log_probabilities, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_structured_answers_fit_their_schema(engine: TorchEngine, seed: int) -> None:
    structure = Structure(node(SCHEMA, ""), SCHEMA)
    sampling = Sampling(temperature=1.5 if seed else 0.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed)
    rows = [request(f"{seed} {text}", sampling=sampling, max_tokens=500) for text in TEXTS]
    found = list(engine.complete(rows, structure))
    for one in found:
        output = json.loads(one.text)
        jsonschema.validate(output, SCHEMA)
        assert {choice.path for choice in one.choices} >= {"label", "sure"}
        assert output["label"] == next(choice.values[choice.chosen] for choice in one.choices if choice.path == "label")
    (alone,) = engine.complete(rows[3:4], structure)
    assert alone.text == found[3].text


def test_written_text_is_the_likeliest_token_by_token(engine: TorchEngine, base: Base) -> None:
    engine.model.train(False)
    said = list(engine.stream(request("tell", max_tokens=12)))
    tokens = base.prompt_ids(request("tell").messages)
    begin = len(tokens)
    with torch.no_grad():
        while len(tokens) < begin + 12 and tokens[-1] not in base.stop_ids:
            tokens.append(int(engine.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    wanted = b"".join(base.vocab.piece(token) for token in tokens[begin:]).decode("utf-8", "replace")
    assert "".join(chunk.text for chunk in said) == wanted
    usage = said[-1].usage
    assert usage is not None and usage.prompt_tokens == begin
    assert usage.completion_tokens == len([token for token in tokens[begin:] if token not in base.stop_ids])
    assert usage.finish == ("stop" if tokens[-1] in base.stop_ids else "length")


def test_an_answer_ends_at_a_stop_string_and_a_seed_repeats_it(engine: TorchEngine) -> None:
    for seed in range(20):
        asked = request("tell", max_tokens=40, sampling=Sampling(temperature=1.0, seed=seed))
        text = "".join(chunk.text for chunk in engine.stream(asked))
        if len(text) > 8:
            break
    assert len(text) > 8 and text == "".join(chunk.text for chunk in engine.stream(asked))
    stop = text[len(text) // 2 :][:2]
    chunks = list(engine.stream(Request(asked.model, asked.messages, asked.sampling, 40, stop=(stop,))))
    assert "".join(chunk.text for chunk in chunks) == text[: text.index(stop)]
    assert chunks[-1].usage is not None and chunks[-1].usage.finish == "stop"


def test_a_schema_is_kept_in_a_stream_and_an_unusable_one_is_refused(engine: TorchEngine) -> None:
    chunks = list(engine.stream(request("one", schema=SCHEMA, max_tokens=400)))
    jsonschema.validate(json.loads("".join(chunk.text for chunk in chunks)), SCHEMA)
    assert chunks[-1].usage is not None
    with pytest.raises(EngineRejected, match="minimum"):
        list(engine.stream(request("one", schema={"type": "number"})))


def test_scores_are_those_of_whole_forward_passes(engine: TorchEngine, base: Base) -> None:
    engine.model.train(False)
    tails = ["the same", "the sand", "", "other ☃", "t"]
    found = engine.score(request("say"), tails)
    assert [sum(one) for one in found] == pytest.approx(by_hand(engine.model, base, request("say"), tails), abs=1e-4)
    assert [len(one) for one in found] == [len(base.vocab.tokenise_text(tail)) for tail in tails]


def test_without_the_adapter_the_base_answers(engine: TorchEngine, tmp_path: Path) -> None:
    bare = TorchEngine(read(tmp_path))
    wanted = list(bare.complete([request(text, "base") for text in TEXTS], labelled(*LABELS)))
    named = list(engine.complete([request(text, "base") for text in TEXTS], labelled(*LABELS)))
    with engine.base_alone():
        alone = list(engine.complete([request(text) for text in TEXTS], labelled(*LABELS)))
    tuned = list(engine.complete([request(text) for text in TEXTS], labelled(*LABELS)))
    for first, second, third, fourth in zip(wanted, named, alone, tuned, strict=True):
        assert shares(second) == pytest.approx(shares(first), abs=1e-6)
        assert shares(third) == pytest.approx(shares(first), abs=1e-6)
        assert np.abs(shares(fourth) - shares(first)).max() > 1e-3


def test_the_model_is_left_as_it_was_even_by_an_answer_that_is_dropped(engine: TorchEngine) -> None:
    model = engine.model
    model.train(True)
    frozen = next(module for module in model.modules() if type(module).__name__ == "LlamaMLP")
    frozen.training = False
    before = states(model)
    answers = engine.complete((request(text, name) for name in ("adapter", "base") for text in TEXTS), labelled(*LABELS))
    next(answers)
    assert states(model) == before  # between two answers too
    assert len(list(answers)) == 2 * len(TEXTS) - 1 and states(model) == before
    stream = engine.stream(request("tell", "base"))
    next(stream)
    stream.close()
    assert states(model) == before
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
    loss = model(input_ids=torch.tensor([[1, 2, 3, 4]]), labels=torch.tensor([[1, 2, 3, 4]])).loss
    loss.backward()
    assert all(weight.grad is not None for name, weight in model.named_parameters() if "lora_B" in name)
    model.zero_grad(set_to_none=True)
    model.train(False)


def states(model: Any) -> tuple[list[bool], list[bool], bool]:
    learning = [weight.requires_grad for weight in model.parameters()]
    return [module.training for module in model.modules()], learning, model.get_base_model().config.use_cache


def test_answers_in_the_middle_of_training_do_not_use_dropout(engine: TorchEngine) -> None:
    quiet = [shares(one) for one in engine.complete([request(text) for text in TEXTS], labelled(*LABELS))]
    engine.model.train(True)
    trained = [shares(one) for one in engine.complete([request(text) for text in TEXTS], labelled(*LABELS))]
    engine.model.train(False)
    assert np.abs(np.array(quiet) - np.array(trained)).max() < 1e-6


def test_a_row_that_is_too_long_is_a_fault_and_the_others_go_on(engine: TorchEngine) -> None:
    texts = ["short", "long " * 2000, "also short"]
    found = list(engine.complete([request(text) for text in texts], labelled(*LABELS)))
    assert [type(one.fault) for one in found] == [type(None), ContextOverflow, type(None)]
    assert all(json.loads(one.text)["label"] in LABELS for one in (found[0], found[2]))
    assert list(engine.complete([], labelled(*LABELS))) == []
    with pytest.raises(ContextOverflow, match="512|tokens"):
        list(engine.stream(request("long " * 2000)))
    with pytest.raises(ContextOverflow):
        engine.score(request("short"), ["long " * 2000])


def test_rows_are_drawn_as_they_are_needed_and_an_answer_stops_at_the_context(engine: TorchEngine) -> None:
    drawn = []

    def rows() -> Iterator[Request]:
        for number in range(1_000_000):
            drawn.append(number)
            yield request(f"row {number}")

    answers = engine.complete(rows(), labelled(*LABELS))
    assert next(answers).text and len(drawn) <= 128
    answers.close()
    endless = Structure(Series((Literal('{"said": "'), Text('"', 5000), Literal("}"))), {})
    (found,) = engine.complete([request("tell", max_tokens=5000)], endless)
    assert isinstance(json.loads(found.text)["said"], str)
    assert found.usage.prompt_tokens + found.usage.completion_tokens <= engine.context


def test_numbers_that_are_none_are_a_broken_model(tmp_path: Path) -> None:
    base = read(tmp_path)
    with torch.no_grad():
        base.model.lm_head.weight.fill_(math.nan)
    with pytest.raises(ModelInvalid, match="not numbers"):
        list(TorchEngine(base).complete([request("one", "base")], labelled(*LABELS)))


def test_every_state_of_the_adapter_is_another_model_for_the_calibration(tmp_path: Path) -> None:
    base = read(tmp_path)
    model = adapter.attach(base, LoraTable(rank=2))
    found = engines(base, Settings(), model)
    first, bare = identity(found.resolve("torch/adapter")), identity(found.resolve("torch/base"))
    scatter(model)
    second = identity(found.resolve("torch/adapter"))
    scatter(model)
    assert second == identity(found.resolve("torch/adapter")) and len({first, second, bare}) == 3
    assert bare == identity(found.resolve("torch/base"))
    engine = found.get("torch")
    assert isinstance(engine, TorchEngine)
    with engine.base_alone():
        assert engine.version("adapter") == engine.version("base")
    assert engine.version("adapter") != engine.version("base")
    assert [info.reference for info in engine.models()] == ["torch/adapter", "torch/base"]


def test_what_the_engine_cannot_do_is_said(engine: TorchEngine) -> None:
    with pytest.raises(ModelMissing, match="adapter and base"):
        list(engine.complete([request("one", "other")], labelled(*LABELS)))
    with pytest.raises(EngineRejected, match="adapter"):
        list(engine.stream(request("one", adapter=Adapter("some.gguf"))))
    with pytest.raises(EngineRejected, match="empty"):
        list(engine.stream(Request("adapter", ())))


def test_a_domain_is_judged_through_the_classifier(engine: TorchEngine, base: Base) -> None:
    desk = pack()
    found = engines(base, Settings(), engine.model)
    scores = evaluate.evaluate(desk, Classifier(desk, found, "torch/adapter").classify, desk.examples)
    assert scores.model == "torch/adapter" and scores.errors == 0 and scores.json_valid == 1.0
    assert scores.figures is not None and 0 <= scores.figures.accuracy <= 1
    assert all(sum(one.probabilities.values()) == pytest.approx(1, abs=1e-4) for one in scores.predictions)


def test_the_real_model_gives_the_labels_of_the_serving_engine() -> None:
    from data import domains

    triage = domains.load("triage")
    contract = Contract(triage)
    texts = [row.text for row in triage.examples if row.split == "validation"][:5]
    mine = TorchEngine(load(BaseTable(), CPU))
    engine = LlamaCpp(LlamaCppSettings(context=1024, threads=1))
    try:
        exact = dequantised(engine._loaded(engine._slot(locate("smollm2-135m", ()))), 1 << 40)  # as it computes many rows
        wanted = list(served(exact, [contract.request(text, "smollm2-135m") for text in texts], contract.structure, None, None))
    finally:
        engine.close()
    found = list(mine.complete([contract.request(text, "base") for text in texts], contract.structure))
    for one, other in zip(found, wanted, strict=True):
        assert one.usage.prompt_tokens == other.usage.prompt_tokens
        assert shares(one) == pytest.approx(shares(other), abs=0.01)
        assert one.choices[0].chosen == other.choices[0].chosen
