"""Many structured answers at once: always valid, in order, with the probabilities that scoring one by one gives."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as some
import jsonschema
import numpy as np
import pytest
import tiny_gguf
from hypothesis import HealthCheck, given, settings

from data.chat import Message
from data.config import LlamaCppSettings, Sampling
from data.errors import ContextOverflow, EngineInterrupted, ModelInvalid
from router.engines._llamacpp.choosing import tree
from router.engines._llamacpp.counting import Bounds
from router.engines._llamacpp.masks import State, TextMask, utf8_after
from router.engines._llamacpp.model import LoadedModel
from router.engines.base import Adapter, Request
from router.engines.llamacpp import LlamaCpp
from router.engines.structure import Literal, Node, Number, Repeat, Select, Series, Structure, Text

LABELS = ("FRAUD", "MERCHANT_ERROR", "PASSWORD_RESET", "INFO")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    tiny_gguf.bpe_model(folder / "tiny.gguf", context=2048)
    tiny_gguf.spm_model(folder / "pieces.gguf", context=2048)
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[LlamaCpp]:
    engine = LlamaCpp(LlamaCppSettings(context=1024, threads=1, batch=128, folders=(str(folder),)))
    yield engine
    engine.close()


def loaded(engine: LlamaCpp, name: str) -> LoadedModel:
    return next(slot.model for slot in engine._slots.values() if slot.model is not None and name in str(slot.model.path))


def request(text: str, model: str = "tiny", **more: Any) -> Request:
    sampling = more.pop("sampling", Sampling(temperature=0, repeat_penalty=1.0))
    return Request(model, (Message("system", "Sort what follows."), Message("user", text)), sampling, **{"max_tokens": 200, **more})


def select(path: str, *values: Any) -> Select:
    return Select(path, tuple(json.dumps(value) for value in values), values)


def labelled(*labels: str) -> Structure:
    root = Series((Literal('{"label": '), select("label", *labels), Literal("}")))
    return Structure(root, {"type": "object", "properties": {"label": {"enum": list(labels)}}, "required": ["label"]})


def string(most: int, least: int = 0) -> Series:
    return Series((Literal('"'), Text('"', most, least)))


def test_probabilities_are_those_of_scoring_each_option(engine: LlamaCpp) -> None:
    texts = ["one", "two words", "x" * 60, "ü and ☃"]
    found = list(engine.complete([request(text) for text in texts], labelled(*LABELS)))
    for text, one in zip(texts, found, strict=True):
        scores = [sum(values) for values in engine.score(request(text), [f'{{"label": "{label}"' for label in LABELS])]
        total = float(np.logaddexp.reduce(scores))
        (choice,) = one.choices
        assert choice.log_probabilities == pytest.approx([score - total for score in scores], abs=5e-3, rel=2e-3)
        assert json.loads(one.text) == {"label": LABELS[choice.chosen]}
        assert choice.values == LABELS and choice.complete
        assert sum(map(math.exp, choice.log_probabilities)) == pytest.approx(1)
        assert choice.chosen == max(range(4), key=lambda index: choice.log_probabilities[index])


def test_company_does_not_change_a_row(engine: LlamaCpp) -> None:
    texts = [f"row {number} {'and more ' * (number % 5)}" for number in range(40)]
    together = list(engine.complete([request(text) for text in texts], labelled(*LABELS)))
    for number in (0, 1, 17, 39):
        (alone,) = engine.complete([request(texts[number])], labelled(*LABELS))
        assert alone.text == together[number].text
        expected = pytest.approx(together[number].choices[0].log_probabilities, abs=5e-3, rel=2e-3)
        assert alone.choices[0].log_probabilities == expected


def test_more_options_than_sequences_are_all_scored(engine: LlamaCpp) -> None:
    labels = [f"{chr(97 + number % 26)}{number} kind" for number in range(300)]
    (found,) = engine.complete([request("which")], labelled(*labels))
    scores = [sum(values) for values in engine.score(request("which"), [f'{{"label": "{label}"' for label in labels])]
    total = float(np.logaddexp.reduce(scores))
    shares = [math.exp(score - total) for score in scores]
    assert [math.exp(value) for value in found.choices[0].log_probabilities] == pytest.approx(shares, abs=2e-3, rel=2e-2)


def test_the_real_model_gives_sound_probabilities_and_natural_tokens(engine: LlamaCpp) -> None:
    model = "smollm2-135m"
    rows = [request(f"My card was charged {number} dollars by a shop I never saw.", model) for number in range(3)]
    found = list(engine.complete(rows, labelled(*LABELS)))
    vocab = loaded(engine, "SmolLM2").vocab
    for row, one in zip(rows, found, strict=True):
        scores = [sum(values) for values in engine.score(row, [f'{{"label": "{label}"}}' for label in LABELS])]
        total = float(np.logaddexp.reduce(scores))
        shares = np.exp(one.choices[0].log_probabilities)
        assert shares == pytest.approx(np.exp(np.array(scores) - total), abs=0.1)  # quantised weights round by company
        assert one.usage.completion_tokens == len(vocab.tokenise_within(one.text))
        assert one.usage.cached_tokens < one.usage.prompt_tokens


def test_rows_are_drawn_lazily_and_given_back_in_order(engine: LlamaCpp) -> None:
    drawn = []

    def rows() -> Iterator[Request]:
        for number in range(1_000_000):
            drawn.append(number)
            yield request(f"row {number}", max_tokens=30 + 20 * (number % 3))

    structure = Structure(Series((Literal('{"said": "'), Text('"', 60), Literal("}"))), {})
    answers = engine.complete(rows(), structure)
    first = [next(answers) for _ in range(20)]
    assert len(drawn) <= 120
    answers.close()
    assert all(isinstance(json.loads(one.text)["said"], str) for one in first)
    assert not loaded(engine, "tiny")._caches._batches
    (again,) = engine.complete([request("row 7", max_tokens=50)], structure)
    assert again.text == first[7].text


def test_a_row_that_is_too_long_is_a_fault_and_the_others_go_on(engine: LlamaCpp) -> None:
    texts = ["short", "long " * 2000, "also short", "x" * 985]
    found = list(engine.complete([request(text) for text in texts], labelled(*LABELS)))
    assert [type(one.fault) for one in found] == [type(None), ContextOverflow, type(None), ContextOverflow]
    assert all(json.loads(one.text)["label"] in LABELS for one in (found[0], found[2]))
    assert list(engine.complete([], labelled(*LABELS))) == []


def test_rows_that_outgrow_the_context_together_are_finished_one_after_the_other(engine: LlamaCpp) -> None:
    structure = Structure(Series((Literal('{"said": "'), Text('"', 300, 60), Literal("}"))), {})
    rows = [request(f"{number} " * 60, max_tokens=2000) for number in range(12)]
    found = list(engine.complete(rows, structure))
    assert all(one.fault is None and len(json.loads(one.text)["said"]) >= 60 for one in found)
    assert found[11].text == next(iter(engine.complete(rows[11:], structure))).text


def test_a_conversation_goes_on_as_before(engine: LlamaCpp) -> None:
    before = [chunk.text for chunk in engine.stream(request("Tell me.", max_tokens=12))]
    answer = engine.stream(request("Tell me.", max_tokens=12))
    begun = [next(answer).text]
    list(engine.complete([request("row"), request("other")], labelled(*LABELS)))
    assert begun + [chunk.text for chunk in answer] == before
    assert [chunk.text for chunk in engine.stream(request("Tell me.", max_tokens=12))] == before


def test_an_adapter_changes_its_rows_only(engine: LlamaCpp, folder: Path, tmp_path: Path) -> None:
    adapter = Adapter(str(tiny_gguf.adapter(tmp_path / "strong.gguf", folder / "tiny.gguf", strength=1.0)))
    rows = [request("a"), request("a", adapter=adapter), request("a")]
    first, changed, last = (one.choices[0].log_probabilities for one in engine.complete(rows, labelled(*LABELS)))
    assert first == pytest.approx(last, abs=1e-4)
    assert changed != pytest.approx(first, abs=1e-3)


def test_reasoning_is_closed_at_its_limit(engine: LlamaCpp) -> None:
    parts = (Literal("<reasoning>"), Text("</reasoning>", 50), Literal("\n"), *labelled(*LABELS).root.parts)
    for tokens in (0, 30, 400):
        for one in engine.complete([request(text, max_tokens=tokens) for text in "abc"], Structure(Series(parts), {})):
            found = re.fullmatch(r"<reasoning>(.*?)</reasoning>\n(\{.*\})", one.text, re.DOTALL)
            assert found and len(found[1]) <= 50 and "</reasoning>" not in found[1]
            assert json.loads(found[2])["label"] in LABELS


def test_the_same_seed_draws_the_same_text(engine: LlamaCpp) -> None:
    structure = Structure(Series((Literal('{"said": "'), Text('"', 40), Literal("}"))), {})

    def drawn(seed: int) -> str:
        sampling = Sampling(temperature=1.5, top_k=0, top_p=1.0, min_p=0.0, seed=seed)
        return next(iter(engine.complete([request("go", sampling=sampling)], structure))).text

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(4)}) > 1


def test_a_closed_model_breaks_the_work_off(engine: LlamaCpp, folder: Path) -> None:
    other = LlamaCpp(LlamaCppSettings(context=512, threads=1, folders=(str(folder),)))
    answers = other.complete((request(f"row {number}") for number in range(100)), labelled(*LABELS))
    next(answers)
    other.close()
    with pytest.raises(EngineInterrupted):
        list(answers)


def test_a_model_without_numbers_is_told(engine: LlamaCpp, tmp_path: Path) -> None:
    broken = str(tiny_gguf.bpe_model(tmp_path / "nan.gguf", nan=True))
    with pytest.raises(ModelInvalid, match="not numbers"):
        list(engine.complete([request("a", broken)], labelled(*LABELS)))


def test_options_that_begin_others_exclude_each_other(engine: LlamaCpp) -> None:
    list(engine.complete([request("a")], labelled(*LABELS)))
    vocab = loaded(engine, "tiny").vocab
    found = tree(vocab, '{"n": ', ("1", "10", "100", "2"), ("}",) * 4)
    assert [bytes(vocab.spelling(path)) for path in found.paths] == [b"1}", b"10}", b"100", b"2"]
    assert found.covered == (1, 1, 0, 0)
    assert vocab.spelling(found.stem) == b'{"n": '
    at_end = tree(vocab, "", ("1", "10"), ("", ""))
    assert at_end.paths[0][-1] == vocab.eos and len({path[:2] for path in at_end.paths}) == 2


@given(some.integers(-(10**6), 10**6), some.integers(0, 10**6), some.integers(0, 3), some.integers(0, 10**6))
@settings(deadline=None, max_examples=150)
def test_every_number_within_bounds_can_be_written_and_no_other(least: int, width: int, decimals: int, at: int) -> None:
    unit = 10**decimals
    bounds = Bounds(Number(least / unit, (least + width) / unit, decimals == 0, decimals))
    value = least + at % (width + 1)
    text = f"{'-' if value < 0 else ''}{abs(value) // unit}" + (f".{abs(value) % unit:0{decimals}}" if decimals else "")
    assert bounds.complete(text)
    assert all(bounds.viable(text[:size]) for size in range(len(text) + 1))
    for outside in (least - 1, least + width + 1):
        wrong = f"{'-' if outside < 0 else ''}{abs(outside) // unit}" + (f".{abs(outside) % unit:0{decimals}}" if decimals else "")
        assert not bounds.complete(wrong)
    assert not any(bounds.viable(bad) for bad in ("00", "01", "1.", "--", ".", "-.", "1e")[: None if decimals == 0 else 2])


@given(some.binary(max_size=6))
def test_bytes_are_followed_as_python_decodes_them(raw: bytes) -> None:
    try:
        raw.decode()
        state = 0
    except UnicodeDecodeError as error:
        state = 1 if error.reason == "unexpected end of data" else -1
    assert np.sign(utf8_after(0, raw)) == state


def test_a_string_may_end_with_what_comes_after_it(engine: LlamaCpp) -> None:
    list(engine.complete([request("a", "smollm2-135m")], labelled(*LABELS)))
    model = loaded(engine, "SmolLM2")
    mask, endings = TextMask(model.alphabet, '"', (', "urgent": ',)).at(State())
    pieces = {model.vocab.piece(token): ending for token, ending in endings.items()}
    assert pieces[b'"'].covered == 0 and pieces[b'",'].covered == 1 and pieces[b'."'].inside == 2
    assert b'"}' not in pieces and b'"]' not in pieces
    allowed = [model.vocab.piece(token) for token in np.flatnonzero(mask == 0) if token not in endings]
    assert not any(b'"' in piece.replace(b'\\"', b"") or b"\n" in piece for piece in allowed)
    assert b" the" in allowed and b"\xc3" in allowed and b"\\" not in allowed


def objects() -> some.SearchStrategy[tuple[Node, dict[str, Any]]]:
    """Structures of JSON values with the schemas that they must satisfy."""
    words = some.text(some.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=6)
    choices = some.lists(words | some.integers(0, 200) | some.booleans(), min_size=1, max_size=5, unique_by=json.dumps)
    scalars = choices.map(lambda values: (select("x", *values), {"enum": list(values)}))
    scalars |= some.tuples(some.integers(0, 3), some.integers(3, 30)).map(
        lambda sizes: (string(sizes[1], sizes[0]), {"type": "string", "minLength": sizes[0], "maxLength": sizes[1]})
    )
    scalars |= some.tuples(some.integers(-200, 200), some.integers(0, 300), some.booleans()).map(_number)
    return some.recursive(scalars, lambda inner: _arrays(inner) | some.lists(inner, max_size=3).map(_object), max_leaves=5)


def _number(drawn: tuple[int, int, bool]) -> tuple[Node, dict[str, Any]]:
    least, most = drawn[0], drawn[0] + drawn[1]
    schema = {"type": "integer" if drawn[2] else "number", "minimum": least, "maximum": most}
    return Number(least, most, drawn[2]), schema


def _arrays(inner: some.SearchStrategy[tuple[Node, dict[str, Any]]]) -> some.SearchStrategy[tuple[Node, dict[str, Any]]]:
    return some.tuples(inner, some.integers(0, 2), some.integers(0, 2)).map(
        lambda drawn: (
            Repeat(drawn[0][0], drawn[1], drawn[1] + drawn[2]),
            {"type": "array", "items": drawn[0][1], "minItems": drawn[1], "maxItems": drawn[1] + drawn[2]},
        )
    )


def _object(parts: Sequence[tuple[Node, dict[str, Any]]]) -> tuple[Node, dict[str, Any]]:
    nodes: list[Node] = [Literal("{")]
    for number, (node, _) in enumerate(parts):
        nodes += [Literal(f'{", " if number else ""}"k{number}": '), node]
    properties = {f"k{number}": schema for number, (_, schema) in enumerate(parts)}
    return Series((*nodes, Literal("}"))), {"type": "object", "properties": properties, "required": list(properties)}


@given(objects(), some.sampled_from(("tiny", "pieces")), some.integers(0, 60), some.sampled_from((0.0, 1.0, 4.0)))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_answers_are_always_valid(
    engine: LlamaCpp, drawn: tuple[Node, dict[str, Any]], model: str, tokens: int, temperature: float
) -> None:
    node, schema = drawn
    sampling = Sampling(temperature=temperature, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0, seed=1)
    rows = [request(text, model, max_tokens=tokens, sampling=sampling) for text in ("a", "b b b")]
    for one in engine.complete(rows, Structure(node, schema)):
        assert one.fault is None
        jsonschema.validate(json.loads(one.text), schema)
