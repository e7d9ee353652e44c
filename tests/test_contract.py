"""Contracts: schemas as structures, answers read back, and the schemas that cannot be used."""

import json

import pytest
from packs import LABEL_SCHEMA, LABELS, pack

from data.errors import InputError, NotFound
from router.contract import Contract, node
from router.engines.structure import Literal, Number, Repeat, Select, Series, Text

WHOLE = {
    "type": "object",
    "properties": {
        "label": {"enum": list(LABELS)},
        "urgent": {"type": "boolean"},
        "why": {"type": "string", "maxLength": 40},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
        "sure": {"type": "object", "properties": {"scope": {"enum": ["x", "y"]}}, "required": ["scope"]},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1, "x-from": "probability", "x-field": "label"},
    },
    "required": ["label", "urgent", "why", "tags", "sure", "confidence"],
    "additionalProperties": False,
}
LAYOUTS = 'contracts = [{name = "v2", reasoning_tag = "reasoning", answer_tag = "intent_ir"}, {name = "v1"}]'


def test_a_schema_becomes_what_is_fixed_and_what_is_open():
    found = Contract(pack(schema=WHOLE)).structure.root
    assert isinstance(found, Series)
    assert found.parts == (
        Literal('{"label": '),
        Select("label", ('"FRAUD"', '"RESET"', '"INFO"'), ("FRAUD", "RESET", "INFO")),
        Literal(', "urgent": '),
        Select("urgent", ("true", "false"), (True, False)),
        Literal(', "why": "'),
        Text('"', 40),
        Literal(', "tags": '),
        Repeat(Select("tags[]", ('"a"', '"b"'), ("a", "b")), 0, 2),
        Literal(', "sure": {"scope": '),
        Select("sure.scope", ('"x"', '"y"'), ("x", "y")),
        Literal("}}"),
    )


def test_reasoning_comes_first_where_the_layout_says_so():
    domain = pack(toml=LAYOUTS)
    contract = Contract(domain)
    assert contract.reasons_first and not Contract(domain, "v1").reasons_first
    assert isinstance(contract.structure.root, Series)
    assert contract.structure.root.parts[0] == Literal("<reasoning>")
    assert contract.structure.root.parts[-1] == Literal("}</intent_ir>")
    answer = '<reasoning>because "{"</reasoning>\n<intent_ir>{"label": "INFO"}</intent_ir>'
    assert contract.parse(answer).output == {"label": "INFO"} and contract.parse(answer).reasoning == 'because "{"'
    assert domain.completion({"label": "INFO"}, 'because "{"') == answer
    with pytest.raises(NotFound, match="v1"):
        Contract(domain, "v3")


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "no JSON",
        "[1]",
        '{"label": "INFO"',
        '{"label": NaN}',
        '{"a":' * 3000,
        '<intent_ir>{"label": "INFO"}</intent_ir>',
        "null",
    ],
)
def test_an_answer_that_is_no_object_is_refused(answer):
    with pytest.raises(InputError):
        Contract(pack()).parse(answer)


def test_an_output_is_judged_by_the_schema():
    contract = Contract(pack(schema=WHOLE))
    good = {"label": "INFO", "urgent": True, "why": "x", "tags": ["a"], "sure": {"scope": "x"}}
    assert contract.faults(good) == []
    assert contract.faults(good, whole=True) != [] and contract.faults(good | {"confidence": 0.5}, whole=True) == []
    assert contract.faults(good | {"label": "OTHER"}) and contract.faults({}) and contract.faults(good | {"more": 1})


def test_the_label_alone_is_the_beginning_of_the_structure():
    domain = pack(schema=WHOLE)
    structure, whole = Contract(domain).label_structure()
    assert not whole and isinstance(structure.root, Series)
    assert structure.root.parts[-1] == Literal("}") and len(structure.root.parts) == 3
    assert structure.schema["required"] == ["label"]
    assert Contract(pack("only")).label_structure()[1]


def test_values_in_place_and_forbidden_ones_change_the_structure():
    contract = Contract(pack(schema=WHOLE))
    found = contract.structure_with({"label": "INFO", "sure.scope": "y"}, {"tags": ("a",)})
    assert isinstance(found.root, Series)
    assert found.root.parts[0] == Literal('{"label": "INFO", "urgent": ')
    assert found.root.parts[-1] == Literal(', "sure": {"scope": "y"}}')
    assert contract.structure_with({"label": "INFO", "sure.scope": "y"}, {"tags": ("a",)}) is found
    assert contract.structure_with({}, {}) is contract.structure
    banned = Contract(pack("only")).structure_with({}, {"label": ("FRAUD", "INFO")})
    assert banned.root == Literal('{"label": "RESET"}')


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "string", "pattern": "x"}, None),
        ({"type": "number"}, "minimum and maximum"),
        ({"type": "array"}, "items"),
        ({"type": "array", "items": {"const": 1}, "minItems": 3, "maxItems": 2}, "below minItems"),
        ({"enum": []}, "needs values"),
        ({"enum": [1, 12]}, "beginning of another"),
        ({"$ref": "https://example.com/x"}, "no type"),
        ({"type": "null"}, "cannot be written"),
        ({"type": "object", "properties": {"a": {"const": 1}}}, "listed as required"),
    ],
)
def test_what_cannot_be_written_is_told(schema, said):
    whole = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    if said is None:
        assert isinstance(node(schema, "x"), Series)
        return
    with pytest.raises(InputError, match=said):
        node(whole, "")


def test_a_domain_without_a_schema_has_no_contract():
    domain = pack()
    (domain.folder / "schema.json").unlink()
    with pytest.raises(InputError, match="no schema"):
        Contract(domain)


def test_the_prompt_ends_in_the_text_and_begins_alike_for_all():
    contract = Contract(pack())
    first, second = contract.request("one", "m"), contract.request("two", "m")
    assert first.messages[0] == second.messages[0] and first.messages[-1].content == "one"
    assert "FRAUD: fraud" in first.messages[0].content and first.sampling.temperature == 0
    assert Number(0, 1, True) == node({"type": "integer", "minimum": 0, "maximum": 1}, "x")
    assert json.loads(json.dumps(contract.structure.schema)) == LABEL_SCHEMA
