"""The rules of packs: what they force, forbid and bound, and what is wrong with a file, by line."""

import pytest
from packs import pack

from data.errors import RulesError
from router.domain_rules import DomainRules

RISK = {
    "type": "object",
    "properties": {
        "label": {"enum": ["FRAUD", "RESET", "INFO"]},
        "risk": {"enum": ["none", "low", "high"]},
        "why": {"type": "string", "maxLength": 5},
        "sure": {"type": "object", "properties": {"scope": {"type": "number", "minimum": 0, "maximum": 1}}, "required": ["scope"]},
    },
    "required": ["label", "risk", "sure"],
}


def rules(text: str) -> DomainRules:
    return DomainRules.of(pack(schema=RISK, rules=text))


def test_a_rule_forces_forbids_and_bounds_what_it_names():
    found = rules(
        """
[[rule]]
name = "figure"
when = 'keyword("killing me")'
never = { risk = ["high"] }
at_most = { "sure.scope" = 0.4 }
[[rule]]
name = "code"
when = 'keyword("one-time code")'
set = { label = "FRAUD", risk = "high" }
reason = "asked for a code"
"""
    )
    verdict = found.verdict("this traffic is killing me")
    assert verdict.never == {"risk": ("high",)} and verdict.at_most == {"sure.scope": 0.4} and not verdict.set
    verdict = found.verdict("He wants my ONE-TIME CODE")
    assert verdict.set == {"label": "FRAUD", "risk": "high"}
    assert verdict.reasons["label"] == "asked for a code" and verdict.matched == ("code",)
    assert found.verdict("hello").matched == () and found.verdict("  ").matched == ()


def test_the_higher_priority_has_the_word_on_a_property_and_the_other_on_the_rest():
    found = rules(
        """
[[rule]]
name = "figure"
priority = 1
when = 'keyword("killing me")'
never = { risk = ["high"] }
set = { label = "INFO" }
[[rule]]
name = "harm"
priority = 9
when = 'keyword("end my life")'
set = { risk = "high" }
"""
    )
    verdict = found.verdict("this traffic is killing me and I want to end my life")
    assert verdict.set == {"risk": "high", "label": "INFO"} and not verdict.never
    assert verdict.matched == ("harm", "figure")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rule]]\nname = 'a'\nwhen = 'true'\n", ":1:1: the rule does nothing"),
        ("[[rule]]\nwhen = 'true'\nset = {risk = 'high'}\n", "no name"),
        ("[[rule]]\nname = 'a'\nset = {risk = 'high'}\n", "no when"),
        ("[[rule]]\nname = 'a'\nwhen = 'kyword(\"x\")'\nset = {risk = 'high'}\n", ":3:"),
        ("[[rule]]\nname = 'a'\nwhen = 'true'\nset = {rsk = 'high'}\n", "did you mean risk?"),
        ("[[rule]]\nname = 'a'\nwhen = 'true'\nset = {risk = 'huge'}\n", "none of its values"),
        ("[[rule]]\nname = 'a'\nwhen = 'true'\nset = 3\n", "is a table"),
        ("[[rule]]\nname = 'a'\nwhen = 'true'\nnever = {risk = ['none', 'low', 'high']}\n", "nothing is left"),
        ("[[rule]]\nname = 'a'\nwhen = 'true'\nnever = {'sure.scope' = [1]}\n", "with an enum"),
        ("[[rule]]\nname = 'a'\nwhen = 'true'\nat_most = {risk = 3}\n", "numbers"),
        ("[[rule]]\nname = 'a'\nwhen = 'true'\npriority = 'x'\nset = {risk = 'high'}\n", ":4:"),
        ("[[rule]]\nname = 'a'\nwhen = 'true'\nwhy = 'x'\nset = {risk = 'high'}\n", "unknown key why"),
        ("[[rule]]\nname = 'a'\nwhen = 'true'\nset = {why = 'too long'}\n", "schema.json allows 5"),
        ("rule = 3\n", "list of tables"),
        ("other = 3\n", "unknown key other"),
        ("[[rule]\n", "not TOML"),
        (
            "[[rule]]\nname = 'a'\nwhen = 'keyword(\"x\")'\nset = {risk = 'high'}\n[[rule.test]]\ntext = 'y'\n",
            ":5:1: a test of a fails: 'y' should match",
        ),
        ("[[rule]]\nname = 'a'\nwhen = 'true'\nset = {risk = 'high'}\n[[rule.test]]\nmatch = 3\n", "a test has a text"),
        ("a = " + "[" * 3000, "not TOML"),
    ],
)
def test_a_fault_is_told_with_its_line(text, said):
    with pytest.raises(RulesError) as caught:
        rules(text)
    assert any(said in problem for problem in caught.value.problems), caught.value.problems


def test_a_pack_without_rules_has_none():
    assert len(DomainRules.of(pack())) == 0


def test_rules_that_are_no_text_are_refused():
    found = pack()
    (found.folder / "rules.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RulesError, match="not UTF-8"):
        DomainRules.of(found)
