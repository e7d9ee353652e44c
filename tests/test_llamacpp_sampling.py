"""Drawing tokens: penalties and cuts as the settings say, and answers that keep to a JSON schema."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.chat import Message
from data.config import LlamaCppSettings, Sampling
from data.errors import EngineRejected
from router.engines._llamacpp.grammar import grammar_of
from router.engines._llamacpp.model import LoadedModel
from router.engines._llamacpp.sampler import Sampler
from router.engines.base import Request
from router.engines.llamacpp import LlamaCpp

WIDE = Sampling(temperature=1.5, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0, seed=5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.bpe_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def model(tiny: Path) -> Iterator[LoadedModel]:
    model = LoadedModel(tiny, LlamaCppSettings(context=512, threads=1))
    yield model
    model.close()


@pytest.fixture(scope="module")
def engine(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    engine = LlamaCpp(LlamaCppSettings(context=512, threads=1, folders=(str(tiny.parent),)))
    yield engine
    engine.close()


def drawn(model: LoadedModel, sampling: Sampling, count: int = 40, pull: int = 0) -> list[int]:
    """`count` tokens drawn one after the other; `pull` is the token that begins the text."""
    context = model.context()
    context.clear()
    context.read([pull])
    sampler = Sampler(model.api, context.pointer, model.vocab_pointer, sampling)
    found = []
    for _ in range(count):
        found.append(sampler.draw())
        context.read(found[-1:])
    sampler.close()
    sampler.close()
    return found


def said(
    engine: LlamaCpp, schema: Any, model: str = "tiny", question: str = "Answer.", limit: int = 200, **sampling: Any
) -> tuple[str, str]:
    wanted = Sampling(**{"temperature": 0, "repeat_penalty": 1.0} | sampling)
    chunks = list(engine.stream(Request(model, (Message("user", question),), sampling=wanted, max_tokens=limit, schema=schema)))
    return "".join(chunk.text for chunk in chunks), chunks[-1].usage.finish


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    repeat=st.sampled_from([1.0, 1.1, 1.5]),
    presence=st.sampled_from([0.0, 0.7]),
    frequency=st.sampled_from([0.0, 0.4]),
    window=st.sampled_from([0, 3, 64]),
    cut=st.sampled_from([1, 3, 40]),
    temperature=st.sampled_from([0.0, 0.9]),
)
def test_the_cut_before_the_penalties_changes_nothing(model, repeat, presence, frequency, window, cut, temperature) -> None:
    sampling = Sampling(
        temperature=temperature, top_k=cut, top_p=1.0, min_p=0.0, repeat_penalty=repeat, presence_penalty=presence,
        frequency_penalty=frequency, repeat_last_n=window, seed=11,
    )  # fmt: skip
    api = model.api
    plain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
    parts = [
        api.llama_sampler_init_penalties(model.vocab.size, window, repeat, frequency, presence),
        api.llama_sampler_init_top_k(cut if temperature else 1),
        api.llama_sampler_init_temp(temperature or 1.0),
        api.llama_sampler_init_dist(11),
    ]
    for part in parts:
        api.llama_sampler_chain_add(plain, part)
    found = drawn(model, sampling, 30)
    context = model.context()
    context.clear()
    context.read([0])
    for token in found:
        assert api.llama_sampler_sample(plain, context.pointer, -1) == token
        context.read([token])
    api.llama_sampler_free(plain)


def test_greedy_takes_the_likeliest_token(model: LoadedModel) -> None:
    import numpy as np

    for token in drawn(model, Sampling(temperature=0, repeat_penalty=1.0), 5):
        assert 0 <= token < model.vocab.size
    context = model.context()
    context.clear()
    context.read([3, 4, 5])
    logits = np.ctypeslib.as_array(model.api.llama_get_logits_ith(context.pointer, -1), (model.vocab.size,)).copy()
    sampler = Sampler(model.api, context.pointer, model.vocab_pointer, Sampling(temperature=0, repeat_penalty=1.0))
    assert sampler.draw() == int(logits.argmax())
    sampler.close()


def test_a_penalty_makes_repeating_rarer(model: LoadedModel) -> None:
    free = drawn(model, WIDE, 120)
    bound = drawn(model, WIDE.model_copy(update={"presence_penalty": 2.0, "frequency_penalty": 2.0, "repeat_last_n": 200}), 120)
    assert len(set(bound)) > len(set(free))


@pytest.mark.parametrize("field", [{"top_k": 1}, {"top_p": 0.0001}, {"min_p": 1.0}])
def test_every_cut_at_its_narrowest_is_greedy(model: LoadedModel, field) -> None:
    assert drawn(model, WIDE.model_copy(update=field), 10) == drawn(model, Sampling(temperature=0, repeat_penalty=1.0), 10)


SHORT = {"type": "string", "maxLength": 8}
SCHEMAS = [
    {"type": "object", "required": ["name", "age"], "properties": {"name": SHORT, "age": {"type": "integer"}}},
    {"enum": ["yes", "no", 'quo"ted', "back\\slash", "né\n", 3, None, {"a": [1.5, True]}]},
    {"const": {"a": "ü"}},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    {"type": "array", "prefixItems": [{"type": "null"}, {"enum": ["x"]}]},
    {"type": "array", "maxItems": 0},
    {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 3}]},
    {"type": ["integer", "null"]},
    {"type": "integer", "minimum": -2, "maximum": 3},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "uuid"},
    {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}}, "required": ["b"]},
    {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}},
    {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"], "additionalProperties": {"type": "null"}},
    {"type": "object", "additionalProperties": {"type": "boolean"}},
    {"$defs": {"leaf": {"type": "object", "properties": {"v": {"enum": [1, 2]}}, "required": ["v"]}}, "type": "object",
     "properties": {"l": {"$ref": "#/$defs/leaf"}, "r": {"$ref": "#/$defs/leaf"}}, "required": ["l", "r"]},
    {"$defs": {"node": {"type": "object", "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}},
     "required": ["next"]}}, "$ref": "#/$defs/node"},
    {"allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"properties": {"b": {"const": 2}}, "required": ["b"]}]},
]  # fmt: skip


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether `value` satisfies one of SCHEMAS, said independently of the grammar."""
    checks = [
        lambda v: set(v) == {"name", "age"} and len(v["name"].replace("\ufffd", "")) <= 8 and isinstance(v["age"], int),
        lambda v: v in SCHEMAS[1]["enum"],
        lambda v: v == {"a": "ü"},
        lambda v: 2 <= len(v) <= 4 and all(isinstance(item, bool) for item in v),
        lambda v: v == [None, "x"],
        lambda v: v == [],
        lambda v: v is None or len(v.replace("\ufffd", "")) <= 3,  # random bytes may be no character
        lambda v: v is None or isinstance(v, int),
        lambda v: v in range(-2, 4),
        lambda v: len(v) == 10 and v[4] == v[7] == "-",
        lambda v: [len(part) for part in v.split("-")] == [8, 4, 4, 4, 12],
        lambda v: v["b"] == 2 and list(v) == sorted(v) and all(v[k] == "abc".index(k) + 1 for k in v),
        lambda v: set(v) <= {"a", "b"} and all(v[k] == "ab".index(k) + 1 for k in v),
        lambda v: v["a"] == 1 and all(item is None for key, item in v.items() if key != "a"),
        lambda v: all(isinstance(item, bool) for item in v.values()),
        lambda v: set(v) == {"l", "r"} and all(set(item) == {"v"} and item["v"] in (1, 2) for item in v.values()),
        lambda v: set(v) == {"next"} and (v["next"] is None or fits(v["next"], schema)),
        lambda v: v == {"a": 1, "b": 2},
    ]
    return bool(checks[SCHEMAS.index(schema)](value))


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_a_babbling_model_keeps_to_the_schema(engine: LlamaCpp, schema) -> None:
    complete = 0
    for seed in range(6):
        text, finish = said(engine, schema, temperature=3.0, seed=seed, top_k=0, min_p=0.0, top_p=1.0)
        if finish == "stop":
            complete += 1
            assert fits(json.loads(text), schema), text
    assert complete or schema in (SCHEMAS[13], SCHEMAS[14], SCHEMAS[16])  # these may go on for ever


def test_the_embedded_model_answers_in_json(embedded_gguf: Path) -> None:
    engine = LlamaCpp(LlamaCppSettings(context=512, threads=1))
    schema = {
        "type": "object",
        "properties": {"label": {"enum": ["positive", "négatif"]}, "sure": {"type": "boolean"}},
        "required": ["label", "sure"],
    }
    text, finish = said(engine, schema, "smollm2-135m", "Is this good? I love it.", 60)
    engine.close()
    assert finish == "stop"
    assert set(json.loads(text)) == {"label", "sure"}
    assert text == json.dumps(json.loads(text), ensure_ascii=False)


def test_the_grammar_gives_what_asking_for_every_token_would_give(model: LoadedModel) -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "maxItems": 5}
    context = model.context()
    for sampling in (Sampling(temperature=0), Sampling(temperature=0, repeat_penalty=1.4)):
        answers = []
        for careful in (False, True):
            context.clear()
            context.read([1, 2, 3])
            sampler = Sampler(model.api, context.pointer, model.vocab_pointer, sampling, schema)
            if careful:
                asked = iter([False, True] * 200)  # the first look is always refused, so the whole vocabulary is asked
                allowed = sampler._allowed
                sampler._allowed = lambda token, allowed=allowed, asked=asked: next(asked) and allowed(token)
            found = []
            while len(found) < 30 and not (found and model.vocab.is_end(found[-1])):
                found.append(sampler.draw())
                context.read(found[-1:])
            sampler.close()
            answers.append(found)
        assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "nonsense"}, "no type 'nonsense'"),
        ({"type": "string", "pattern": "^a+$"}, "'pattern'"),
        ({"$ref": "https://example.com/schema.json"}, "leads out"),
        ({"$ref": "#/$defs/missing"}, "defs"),
        ({"$ref": "#"}, "cannot be used"),
        ({"anyOf": [{"$ref": "#"}]}, "cannot be used"),
        ({"enum": []}, "choice among nothing"),
        ({"type": "string", "maxLength": 10**9}, "repetitions"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "repetitions"),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 2002}, "repetitions"),
        ({"properties": "x"}, "cannot be used"),
        ({"type": "object", "properties": {"a": 7}}, "no schema"),
        ({"enum": ["x" * 300_000]}, "characters"),
        ({"const": object}, "cannot be used"),
    ],
)
def test_a_schema_that_cannot_be_kept_is_refused_in_words(
    engine: LlamaCpp, schema, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EngineRejected, match=reason):
        said(engine, schema)
    assert capfd.readouterr() == ("", "")
    assert said(engine, {"const": 1}) == ("1", "stop")  # the engine goes on


def test_a_schema_nested_without_end_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(5000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(EngineRejected):
        grammar_of(schema)
