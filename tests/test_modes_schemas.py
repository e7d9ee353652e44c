"""Tool parameters of any making: put right, given an end, closed where cut, and judged by an independent validator."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.engines._llamacpp.grammar import grammar_of
from router.modes._partial import partial
from router.modes._schemas import bounded, closed, conformed, normalised

SLOPPY = {
    "bfcl": {
        "type": "dict",
        "properties": {"base": {"type": "float"}, "names": {"type": "tuple", "items": {"type": "str"}}, "data": {"type": "any"}},
        "required": ["base", "names"],
    },
    "enum of a list": {"type": "object", "properties": {"t": {"type": "array", "enum": ["a", "b"]}}, "required": ["t"]},
    "enum of another type": {"type": "object", "properties": {"t": {"type": "integer", "enum": ["a", "b"]}}, "required": ["t"]},
    "enum partly fitting": {"type": "object", "properties": {"t": {"type": "string", "enum": ["a", 1]}}, "required": ["t"]},
    "empty": {},
    "no properties": {"type": "object"},
    "pattern": {"type": "object", "properties": {"x": {"type": "string", "pattern": "^a", "minLength": 2}}, "required": ["x"]},
    "unions": {
        "type": "object",
        "properties": {"x": {"type": ["string", "null"]}, "y": {"anyOf": [{"type": "int"}, {"type": "null"}]}},
        "required": ["x", "y"],
    },
    "references": {
        "$defs": {
            "point": {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}}, "required": ["x", "y"]}
        },
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/point"}, "b": {"type": "array", "items": {"$ref": "#/$defs/point"}, "minItems": 1}},
        "required": ["a", "b"],
    },
    "a tree": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"v": {"type": "integer"}, "n": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}},
                "required": ["v", "n"],
            }
        },
        "$ref": "#/$defs/node",
    },
    "all of": {
        "type": "object",
        "allOf": [
            {"properties": {"a": {"type": "string"}}, "required": ["a"]},
            {"properties": {"b": {"const": 2}}, "required": ["b"]},
        ],
    },
    "open object": {
        "type": "object",
        "properties": {"h": {"type": "object", "additionalProperties": {"type": "string"}}},
        "required": ["h"],
    },
    "bounds": {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 900_000}, "f": {"type": "number", "minimum": 1}},
        "required": ["n", "f"],
    },
    "exact items": {
        "type": "object",
        "properties": {"p": {"type": "array", "prefixItems": [{"type": "integer"}, {"enum": ["x"]}]}},
        "required": ["p"],
    },
    "required without a property": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "b"]},
    "junk": {
        "type": 7,
        "properties": [1],
        "required": "all",
        "enum": "x",
        "items": 5,
        "anyOf": {},
        "minimum": "low",
        "maxLength": True,
    },
    "pydantic": {
        "type": "object",
        "properties": {"path": {"type": "string"}, "first_line": {"default": 1, "type": "integer"}},
        "required": ["path"],
        "additionalProperties": False,
    },
}


def valid(value: Any, schema: dict[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize("kind", SLOPPY)
def test_sloppy_schemas_become_ones_that_a_validator_and_the_grammar_take(kind: str) -> None:
    schema = normalised(SLOPPY[kind])
    jsonschema.Draft202012Validator.check_schema(schema)
    for chars, items in ((600, 16), (60, 4)):
        tight = bounded(schema, chars, items)
        jsonschema.Draft202012Validator.check_schema(tight)
        assert grammar_of(tight)


@pytest.mark.parametrize("kind", SLOPPY)
@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[", "null", '{"a": ', '{"x": 5', '{"t": "a", "names": ["b", "c', '{"n": 5000000}']
)
def test_whatever_was_cut_off_is_closed_to_satisfy_the_schema(kind: str, text: str) -> None:
    schema = normalised(SLOPPY[kind])
    found = closed(text, bounded(schema, 60, 4))
    assert valid(found, schema), found


def test_closing_keeps_what_was_said() -> None:
    schema = normalised(SLOPPY["bfcl"])
    cut = '{"base": 2.5, "names": ["one", "two", "thr'
    assert closed(cut, schema) == {"base": 2.5, "names": ["one", "two", "thr"]}
    assert closed('{"base": 2.', schema) == {"base": 0, "names": []}  # a number that may have gone on is none


def test_what_satisfies_the_schema_is_left_alone() -> None:
    for kind, value in {
        "bfcl": {"base": 1.5, "names": ["a"], "data": {"b": [1]}},
        "unions": {"x": None, "y": 3},
        "references": {"a": {"x": 1, "y": 2}, "b": [{"x": 0.5, "y": 2}]},
        "a tree": {"v": 1, "n": {"v": 2, "n": None}},
        "open object": {"h": {"k": "v"}},
    }.items():
        schema = normalised(SLOPPY[kind])
        assert valid(value, schema)
        assert conformed(value, schema, schema) == value


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(values, st.integers(0, 400))
def test_the_beginning_of_any_json_gives_a_value_and_the_whole_gives_itself(value: Any, cut: int) -> None:
    text = json.dumps(value)
    if isinstance(value, (dict, list, str)):
        assert partial(text) == value
    partial(text[:cut])
    partial(text[cut:])


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["type", "properties", "items", "required", "enum", "anyOf", "minimum", "additionalProperties"]), values
    )
)
def test_no_schema_is_too_strange_to_be_put_right(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(normalised(schema))


def test_schemas_and_texts_without_end_do_no_harm() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(3_000):
        deep = {"type": "array", "items": deep}
    assert grammar_of(bounded(normalised(deep), 60, 4))
    assert partial("[" * 100_000) is not None
    assert partial("{" * 100_000) == {}
