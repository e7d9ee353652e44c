"""Tool calls from llama.cpp: read out of the answer in the common forms, and grammars for the schemas that tools bring."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tiny_gguf
from hypothesis import given, settings
from hypothesis import strategies as st

from data.chat import Chunk, Message, ToolCall
from data.config import LlamaCppSettings, Sampling
from data.errors import ModelMissing
from router.engines._calls import MOST, Calls, cleaned, read, search
from router.engines._llamacpp import ranges
from router.engines.base import Request
from router.engines.llamacpp import LlamaCpp

TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}}
GREEDY = Sampling(temperature=0, repeat_penalty=1.0)
ADD = ToolCall("add", {"a": 1, "b": [2, "x"]}, "call00000")
JSON = '{"name": "add", "arguments": {"a": 1, "b": [2, "x"]}}'
FORMS = {
    "hermes": f"<tool_call>\n{JSON}\n</tool_call>",
    "hermes without an end": f"<tool_call>{JSON}",
    "mistral": f"[TOOL_CALLS] [{JSON}]",
    "mistral with a name": '[TOOL_CALLS]add[ARGS]{"a": 1, "b": [2, "x"]}',
    "mistral with an id": '[TOOL_CALLS]add[CALL_ID]abc123def[ARGS]{"a": 1, "b": [2, "x"]}',
    "llama 3": '{"name": "add", "parameters": {"a": 1, "b": [2, "x"]}}',
    "llama 3 with a tag": '<|python_tag|>{"name": "add", "parameters": {"a": 1, "b": [2, "x"]}}',
    "fenced": f"```json\n{JSON}\n```",
    "openai": '{"type": "function", "function": {"name": "add", "arguments": "{\\"a\\": 1, \\"b\\": [2, \\"x\\"]}"}}',
    "list": f"[{JSON}]",
    "own": '  {"tool": "add", "arguments": {"a": 1, "b": [2, "x"]}}\n',
}


def parted(pieces: list[str], names: tuple[str, ...] = ("add",)) -> tuple[str, tuple[ToolCall, ...]]:
    calls = Calls(names)
    text = "".join(calls.feed(piece) for piece in pieces)
    rest, found = calls.flush()
    return text + rest, found


@pytest.mark.parametrize("form", FORMS)
def test_calls_are_read_in_the_common_forms_wherever_the_answer_is_cut_into_pieces(form: str) -> None:
    text = FORMS[form]
    for size in (1, 2, 3, 7, len(text)):
        assert parted([text[at : at + size] for at in range(0, len(text), size)]) == ("", (ADD,))


@pytest.mark.parametrize("form", ["hermes", "mistral", "llama 3 with a tag"])
def test_words_before_a_marked_call_are_passed_on_at_once(form: str) -> None:
    calls = Calls(["add"])
    assert calls.feed("Let me add. ") == "Let me add. "
    assert calls.feed(FORMS[form]) == ""
    assert calls.flush()[1][0].name == "add"


def test_several_calls_are_read_in_order_and_numbered() -> None:
    for text in (f"<tool_call>{JSON}</tool_call>\n" * 3, f"[TOOL_CALLS][{JSON}, {JSON}, {JSON}]", f"{JSON};{JSON}\n{JSON}"):
        rest, found = parted([text])
        assert rest == ""
        assert [call.id for call in found] == ["call00000", "call00001", "call00002"]


MALFORMED = {
    "cut off": '<tool_call>{"name": "add", "arguments": {"a": 1',
    "no name": '<tool_call>{"arguments": {}}</tool_call>',
    "arguments are no object": '<tool_call>{"name": "add", "arguments": [1]}</tool_call>',
    "name is no text": '{"name": 7, "arguments": {}}',
    "nothing behind the mark": "[TOOL_CALLS]",
    "json of something else": '{"answer": 42}',
    "a list of numbers": "[1, 2, 3]",
    "an unknown tool without a mark": '{"name": "subtract", "arguments": {}}',
    "text behind json": f"{JSON} and that is that",
    "a code block": "```python\nprint(1)\n```",
    "deep": '{"name": "add", "arguments": ' + "[" * 50_000,
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_is_no_call_stays_text(kind: str) -> None:
    assert parted([MALFORMED[kind]]) == (MALFORMED[kind], ())


@pytest.mark.parametrize("text", ["", " ", "plain words", "a < b", "`code`", "5 [sic]", "<tool", "[TOOL", "``"])
def test_plain_answers_pass_whole(text: str) -> None:
    for size in (1, max(1, len(text))):
        assert parted([text[at : at + size] for at in range(0, len(text), size)]) == (text, ())


def test_a_good_call_beside_a_malformed_one_is_kept_and_the_other_stays_text() -> None:
    rest, found = parted([f'<tool_call>{JSON}</tool_call><tool_call>{{"name": }}</tool_call>'])
    assert found == (ADD,)
    assert rest == '<tool_call>{"name": }</tool_call>'


def test_no_more_than_so_many_calls_are_read() -> None:
    assert len(parted([f"<tool_call>{JSON}</tool_call>" * 500])[1]) == MOST


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from([*FORMS.values(), *MALFORMED.values(), "{", "x", "\n"]), max_size=4).map("".join)
)
def test_any_text_is_parted_without_an_error_and_alike_however_it_comes(text: str) -> None:
    whole = parted([text])
    assert parted(list(text[:3_000])) == whole if len(text) <= 3_000 else True
    if not whole[1]:
        assert whole[0] == text
    search(text)
    read(text, ["add"])


def test_lone_surrogates_are_taken_out_of_arguments() -> None:
    found = cleaned({"a\ud800": ["\udfff", {"b": "ok\U0001f600"}]})
    assert json.dumps(found, ensure_ascii=False).encode()
    assert found["a\ufffd"][1] == {"b": "ok\U0001f600"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    folder = tmp_path_factory.mktemp("gguf")
    tiny_gguf.bpe_model(folder / "caller.gguf", template="{% for m in messages %}{{ m.content }}{% endfor %}{{ tools | tojson }}")
    tiny_gguf.bpe_model(folder / "thinker.gguf", template="{{ messages[0].content }}{% if enable_thinking %}x{% endif %}")
    engine = LlamaCpp(LlamaCppSettings(context=1024, threads=1, folders=(str(folder),)))
    yield engine
    engine.close()


def test_the_template_tells_whether_a_model_calls_and_thinks(engine: LlamaCpp) -> None:
    names = ("smollm2-135m", "caller", "thinker")
    assert [engine.can_call(name) for name in names] == [False, True, False]
    assert [engine.can_think(name) for name in names] == [False, False, True]
    with pytest.raises(ModelMissing):
        engine.can_call("nobody")


def asked(engine: LlamaCpp, schema: dict[str, Any], tools: tuple[Any, ...], **more: Any) -> list[Chunk]:
    messages = (Message("user", "Add 1 and 2."),)
    return list(engine.stream(Request("smollm2-135m", messages, GREEDY, schema=schema, tools=tools, **more)))


def test_an_answer_that_is_a_call_arrives_as_one_where_tools_were_given(engine: LlamaCpp) -> None:
    call = {"const": {"name": "add", "arguments": {"a": 1}}}
    chunks = asked(engine, call, (TOOL,))
    assert [chunk.tool_calls for chunk in chunks if chunk.tool_calls] == [(ToolCall("add", {"a": 1}, "call00000"),)]
    assert "".join(chunk.text for chunk in chunks) == ""
    assert chunks[-1].usage.finish == "tool_calls"
    assert chunks[-1].usage.completion_tokens > 5


def test_the_same_answer_is_text_where_no_tools_were_given_or_it_is_cut(engine: LlamaCpp) -> None:
    call = {"const": {"name": "add", "arguments": {"a": 1}}}
    chunks = asked(engine, call, ())
    assert json.loads("".join(chunk.text for chunk in chunks)) == call["const"]
    assert chunks[-1].usage.finish == "stop"
    cut = asked(engine, call, (TOOL,), max_tokens=6)
    assert "".join(chunk.text for chunk in cut).startswith('{"name"')
    assert cut[-1].usage.finish == "length"


def test_a_call_can_be_broken_off_at_any_piece(engine: LlamaCpp) -> None:
    for stop in range(1, 4):
        stream = engine.stream(Request("smollm2-135m", (Message("user", "Tell me a story."),), GREEDY, 40, tools=(TOOL,)))
        for _ in range(stop):
            next(stream)
        stream.close()
    assert asked(engine, {"const": 1}, (TOOL,))[-1].usage.finish == "stop"


def test_a_result_names_the_call_that_it_answers(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.tool_call_id or '-' }}{% endfor %}"
    tiny_gguf.bpe_model(tmp_path / "ids.gguf", template=template)
    engine = LlamaCpp(LlamaCppSettings(context=512, threads=1, folders=(str(tmp_path),)))
    from router.engines._llamacpp.prompt import compose

    calls = (ToolCall("add", {}, "call00000"), ToolCall("add", {}, "call00001"))
    talk = (Message("user", "q"), Message("assistant", "", tool_calls=calls), Message("tool", "r", tool_name="add"))
    talk = (*talk, Message("tool", "s", tool_name="add"), Message("tool", "t", tool_name="add"))
    request = Request("ids", talk)
    list(engine.stream(Request("ids", (Message("user", "q"),), GREEDY, max_tokens=1)))
    (slot,) = engine._slots.values()
    assert compose(slot.model, request, slot.model.context()).text == "--call00000call00001-"
    engine.close()


def grammar_as_pattern(rule: str) -> re.Pattern[str]:
    """A rule of literals, classes and repetitions as a regular expression."""
    return re.compile(re.sub(r'"([^"]*)"', lambda literal: re.escape(literal[1]), rule).replace(" ", ""))


@settings(max_examples=300, deadline=None)
@given(st.integers(-(10**5), 10**5), st.integers(0, 10**5), st.integers(-(2 * 10**5), 2 * 10**5))
def test_ranges_allow_exactly_the_numbers_within(low: int, width: int, other: int) -> None:
    high = low + width
    schema = {"minimum": low, "maximum": high}
    whole, broken = grammar_as_pattern(ranges.integers(schema) or ""), grammar_as_pattern(ranges.numbers(schema) or "")
    for number in {low, high, low - 1, high + 1, other, (low + high) // 2, low * 10, 0}:
        within = low <= number <= high
        assert bool(whole.fullmatch(str(number))) == within
        assert bool(broken.fullmatch(str(number))) == within
        if number + 0.25 > high or number + 0.25 < low:
            assert not broken.fullmatch(str(number + 0.25))


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"minimum": 1}, "1 9 10 99 1234567890123456", "0 -1 01"),
        ({"maximum": -5}, "-5 -6 -10 -999", "-4 0 5"),
        ({"exclusiveMinimum": 0}, "1 20", "0 -1"),
        ({"exclusiveMinimum": 0, "exclusiveMaximum": 3}, "1 2", "0 3"),
        ({"minimum": 0.5, "maximum": 2.5}, "1 2", "0 3"),
        ({"minimum": 7, "maximum": 7}, "7", "6 8 77"),
        ({"minimum": 98, "maximum": 1203}, "98 99 100 999 1000 1199 1200 1203", "97 1204 1210 9 12030"),
    ],
)
def test_integer_bounds_of_every_kind(schema: dict[str, float], good: str, bad: str) -> None:
    found = grammar_as_pattern(ranges.integers(schema) or "")
    assert all(found.fullmatch(number) for number in good.split())
    assert not any(found.fullmatch(number) for number in bad.split())


def test_numbers_above_zero_are_never_zero_and_bounds_too_close_are_left_to_the_reader() -> None:
    above = grammar_as_pattern(ranges.numbers({"exclusiveMinimum": 0}) or "")
    assert all(above.fullmatch(number) for number in ("0.5", "0.001", "1", "17.25"))
    assert not any(above.fullmatch(number) for number in ("0", "0.0", "-1", "0."))
    assert ranges.numbers({"minimum": 0.2, "maximum": 0.8}) is None
    with pytest.raises(ValueError, match="no integer"):
        ranges.integers({"minimum": 2, "maximum": 1})


BOUND = {
    "integers": {"type": "integer", "minimum": -120, "maximum": 4_321},
    "fractions": {"type": "number", "minimum": 0, "maximum": 1},
    "entries": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 3}, "maxProperties": 3},
}


@pytest.mark.parametrize("kind", BOUND)
def test_a_babbling_model_keeps_within_bounds(engine: LlamaCpp, kind: str) -> None:
    schema = BOUND[kind]
    for seed in range(5):
        wild = Sampling(temperature=3.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0, seed=seed)
        chunks = list(engine.stream(Request("caller", (Message("user", "x"),), wild, 400, schema=schema)))
        assert chunks[-1].usage.finish == "stop"
        jsonschema.validate(json.loads("".join(chunk.text for chunk in chunks)), schema)
